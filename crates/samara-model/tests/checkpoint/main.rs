//! Checkpoints: what opens, what is converted, and how everything else is refused.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at its first surprise"
)]

mod config;
mod conversion;
mod files;
mod finite;
mod formats;
mod heads;
mod hostile;
mod int8;
mod mismatch;
mod mutations;
mod torch;
