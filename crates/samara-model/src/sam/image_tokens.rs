//! An image as the mask decoders take it.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::transformer::TwoWayTransformer;
use crate::ops::ProjectedImage;

/// The cells of an image embedding, with what their prompts have in common. All prompts without a mask
/// see the same.
#[derive(Debug, Clone)]
pub struct ImageTokens {
    /// `[1, grid², dim]`, or `[batch, grid², dim]` with the prompts' masks in them.
    pub(crate) values: Tensor<3>,
    /// Their positional encoding `[1, grid², dim]`.
    pub(crate) position: Tensor<3>,
    /// Height and width of the grid.
    pub(crate) grid: [usize; 2],
    /// What the transformer's first layer makes of them for all prompts, if that was computed.
    pub(crate) projected: Option<Arc<ProjectedImage>>,
}

impl ImageTokens {
    /// `image_embedding` `[1, grid, grid, dim]`, with `dense` from the prompts, `[batch, dim, grid, grid]`
    /// or `[1, dim, 1, 1]`, added to it. `position` is `[1, grid², dim]`.
    pub fn new(image_embedding: Tensor<4>, dense: Tensor<4>, position: Tensor<3>) -> Self {
        let [_, height, width, dim] = image_embedding.dims();
        let cells = image_embedding + dense.permute([0, 2, 3, 1]);
        Self {
            values: cells.reshape([0, (height * width) as i32, dim as i32]),
            position,
            grid: [height, width],
            projected: None,
        }
    }

    /// With what the transformer computes of them alone.
    pub(crate) fn projected(self, transformer: &TwoWayTransformer) -> Self {
        let projected = transformer.project(&self.values, &self.position);
        Self {
            projected: projected.map(Arc::new),
            ..self
        }
    }
}
