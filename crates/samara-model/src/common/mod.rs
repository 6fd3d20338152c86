//! Layers that several models share.

mod bicubic;
mod layer_norm_2d;
mod mlp;
mod position;
mod window;

pub use bicubic::bicubic_weights;
pub use layer_norm_2d::LayerNorm2d;
pub use mlp::{MlpBlock, MlpBlockConfig};
pub use position::{fourier_features, fourier_grid};
pub use window::{window_partition, window_unpartition};

use std::convert::Infallible;
use std::ops::ControlFlow;

/// Between the stages of an encoder that nothing stops.
pub(crate) fn never() -> ControlFlow<Infallible> {
    ControlFlow::Continue(())
}
