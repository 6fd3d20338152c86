//! MobileSAM: SAM's prompt encoder and mask decoder behind a small image encoder.

mod tiny_vit;

pub use tiny_vit::{TinyViT, TinyViTConfig};
