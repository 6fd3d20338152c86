//! Segment Anything 2: the image encoder, a Hiera trunk with a feature pyramid, and the mask decoder.

mod hiera;
mod mask_decoder;
mod neck;

pub use hiera::{Hiera, HieraConfig};
pub use mask_decoder::{DecodedObjects, MaskDecoder};
pub use neck::{FpnNeck, FpnNeckConfig};
