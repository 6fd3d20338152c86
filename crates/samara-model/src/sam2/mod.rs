//! Segment Anything 2: the image encoder (a Hiera trunk with a feature pyramid), the mask decoder, and
//! the memory of video: its encoder, and the attention to it.

mod hiera;
mod mask_decoder;
mod memory_attention;
mod memory_encoder;
mod neck;
mod rope;

pub use hiera::{Hiera, HieraConfig};
pub use mask_decoder::{DecodedObjects, MaskDecoder};
pub use memory_attention::{Memories, MemoryAttention, MemoryAttentionConfig};
pub use memory_encoder::{MemoryEncoder, MemoryEncoderConfig};
pub use neck::{FpnNeck, FpnNeckConfig};
