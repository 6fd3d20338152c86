//! Segment Anything 2: the image encoder, a Hiera trunk with a feature pyramid.

mod hiera;
mod neck;

pub use hiera::{Hiera, HieraConfig};
pub use neck::{FpnNeck, FpnNeckConfig};
