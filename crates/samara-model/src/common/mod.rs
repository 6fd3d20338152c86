//! Layers that several models share.

mod layer_norm_2d;
mod mlp;
mod window;

pub use layer_norm_2d::LayerNorm2d;
pub use mlp::{MlpBlock, MlpBlockConfig};
pub use window::{window_partition, window_unpartition};
