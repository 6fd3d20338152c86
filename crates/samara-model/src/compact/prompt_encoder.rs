//! Prompt tokens of `compact`: SAM's random Fourier positions plus an embedding per kind of point.

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use super::prompt_maps::Points;
use crate::common::{fourier_features, fourier_grid};

/// Kinds of points: none, negative, positive, the two corners of a box.
const KINDS: usize = 5;

/// Embeds points and cells.
#[derive(Module, Debug)]
pub struct PromptEncoder {
    /// `[2, dim / 2]`, fixed.
    positional_encoding_gaussian_matrix: Param<Tensor<2>>,
    /// `[5, dim]`: none, negative, positive, upper left corner, lower right corner.
    point_embeddings: Param<Tensor<2>>,
}

impl PromptEncoder {
    pub(super) fn new(dim: usize, device: &Device) -> Self {
        let normal = Initializer::Normal {
            mean: 0.0,
            std: 1.0,
        };
        let frequencies: Param<Tensor<2>> = normal.init([2, dim / 2], device);
        Self {
            positional_encoding_gaussian_matrix: frequencies.set_require_grad(false),
            point_embeddings: normal.init([KINDS, dim], device),
        }
    }

    /// Tokens `[batch, points, dim]` of points in a model input of `side` pixels. A padding point
    /// has no position.
    pub(super) fn forward(&self, points: &Points, side: usize) -> Tensor<3> {
        let [batch, count] = points.labels.dims();
        let pe = self.encode((points.coords.clone() + 0.5) / side as f64);
        let present = points.labels.clone().greater_equal_elem(0.0).float();
        let kinds = (points.labels.clone() + 1.0).int();
        let kinds = self
            .point_embeddings
            .val()
            .select(0, kinds.reshape([batch * count]));
        let width = kinds.dims()[1];
        pe * present.unsqueeze_dim::<3>(2) + kinds.reshape([batch, count, width])
    }

    /// Positions of the cells of a `grid`² image embedding, `[1, grid², dim]`.
    pub(super) fn dense_pe(&self, grid: usize) -> Tensor<3> {
        fourier_grid(self.positional_encoding_gaussian_matrix.val(), grid)
    }

    /// Coordinates in [0, 1], `[.., .., 2]` → `[.., .., dim]`: sines, then cosines.
    fn encode(&self, coords: Tensor<3>) -> Tensor<3> {
        fourier_features(coords, self.positional_encoding_gaussian_matrix.val())
    }
}
