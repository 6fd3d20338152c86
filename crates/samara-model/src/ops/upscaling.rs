//! Upscaling of image cells to mask logits.

use burn::nn::conv::ConvTranspose2d;
use burn::tensor::Tensor;
use rayon::prelude::*;
use samara_kernels::memory;
use samara_kernels::upscale as kernel;

use super::linear::affine;
use super::norm::NormValues;
use super::values::{Values, tensor};
use super::{Activation, Precision, select_rows};
use crate::common::LayerNorm2d;

/// The layers of an upscaling: transposed convolutions with a window and a stride of 2, and the norm
/// between them.
#[derive(Debug, Clone)]
pub struct Upscaling<'a> {
    /// To a quarter of the channels.
    pub first: &'a ConvTranspose2d,
    /// A GELU follows.
    pub norm: &'a LayerNorm2d,
    /// To an eighth of the channels; a GELU follows.
    pub second: &'a ConvTranspose2d,
    /// Finer features of the image that are added to what the two convolutions give (SAM 2):
    /// `[1, 2 · height, 2 · width, dim / 4]` and `[1, 4 · height, 4 · width, dim / 8]`.
    pub features: Option<[Tensor<4>; 2]>,
    /// The numbers of its matmuls.
    pub precision: Precision,
}

/// `hyper · gelu(second(gelu(norm(first(cells)))))`: cells `[batch, height · width, dim]` and
/// hyper-network outputs `[batch, masks, last]` → logits `[prompts, masks, 4 · height, 4 · width]`,
/// for the `prompts` of the batch.
pub fn upscale_masks(
    cells: Tensor<3>,
    [height, width]: [usize; 2],
    layers: &Upscaling<'_>,
    hyper: Tensor<3>,
    prompts: &[usize],
) -> Tensor<4> {
    if let Some(logits) = with_kernel(&cells, [height, width], layers, &hyper, prompts) {
        return logits;
    }
    let (cells, hyper) = (select_rows(cells, prompts), select_rows(hyper, prompts));
    // Every pixel goes its own way, so the pixels of a cell stay together until there are logits.
    let add = |x: Tensor<3>, level: usize| match &layers.features {
        Some(features) => x + pixels_of_cells(features[level].clone(), [height, width]),
        None => x,
    };
    let x = add(double(cells, layers.first), 0);
    let x = Activation::Gelu.apply(layers.norm.forward_channels_last(x));
    let x = Activation::Gelu.apply(add(double(x, layers.second), 1));
    let logits = hyper.matmul(x.swap_dims(1, 2));
    let [batch, masks, _] = logits.dims();
    // (line, column) of the cell, of its quarter, and of the quarter's pixel.
    logits
        .reshape([batch * masks, height, width, 2, 2, 2, 2])
        .permute([0, 1, 3, 5, 2, 4, 6])
        .reshape([batch, masks, 4 * height, 4 * width])
}

/// A transposed convolution as one product: every pixel of `[batch, pixels, inputs]` becomes the four
/// that take its place, one after the other.
fn double(x: Tensor<3>, layer: &ConvTranspose2d) -> Tensor<3> {
    let weight = layer.weight.val();
    let ([batch, pixels, _], [inputs, outputs, ..]) = (x.dims(), weight.dims());
    let weight = weight.permute([0, 2, 3, 1]).reshape([inputs, 4 * outputs]);
    let bias = match &layer.bias {
        Some(bias) => bias.val().repeat_dim(0, 4),
        None => Tensor::zeros([4 * outputs], &x.device()),
    };
    affine(x, weight, bias).reshape([batch, 4 * pixels, outputs])
}

/// An image `[1, height · 2ⁿ, width · 2ⁿ, channels]` in the order that [`double`] gives when it is done n
/// times (1 or 2): `[1, pixels, channels]`.
fn pixels_of_cells(image: Tensor<4>, [height, width]: [usize; 2]) -> Tensor<3> {
    let [_, lines, columns, channels] = image.dims();
    let half = lines / height / 2;
    image
        .reshape([height, 2, half, width, 2, half * channels])
        .permute([0, 3, 1, 4, 2, 5])
        .reshape([1, lines * columns, channels])
}

fn with_kernel(
    cells: &Tensor<3>,
    [height, width]: [usize; 2],
    layers: &Upscaling<'_>,
    hyper: &Tensor<3>,
    prompts: &[usize],
) -> Option<Tensor<4>> {
    let ([_, count, dim], device) = (cells.dims(), cells.device());
    let [_, masks, last] = hyper.dims();
    let (cells, hyper) = (Values::of(cells.clone())?, Values::of(hyper.clone())?);
    let Upscaling {
        first,
        norm,
        second,
        features,
        precision,
    } = layers;
    let features = match features {
        Some([middle, last]) => Some([Values::of(middle.clone())?, Values::of(last.clone())?]),
        None => None,
    };
    let first_bias = Values::of(first.bias.as_ref()?.val())?;
    let second_bias = Values::of(second.bias.as_ref()?.val())?;
    let (first, second) = (
        Values::of(first.weight.val())?,
        Values::of(second.weight.val())?,
    );
    let norm = NormValues::of_tensors(norm.weight.val(), norm.bias.val(), LayerNorm2d::EPSILON)?;
    let upscaling = kernel::Upscaling {
        first: first.as_slice(),
        first_bias: first_bias.as_slice(),
        norm: norm.norm(),
        second: second.as_slice(),
        second_bias: second_bias.as_slice(),
        features: features
            .as_ref()
            .map(|f| f.each_ref().map(Values::as_slice)),
    };
    let mut out = memory::zeros(prompts.len() * masks * count * 16);
    let upscaling = upscaling.packed(*precision);
    out.par_chunks_exact_mut(masks * count * 16)
        .zip(prompts)
        .for_each(|(out, &i)| {
            let cells = &cells.as_slice()[i * count * dim..][..count * dim];
            let hyper = &hyper.as_slice()[i * masks * last..][..masks * last];
            upscaling.masks(cells, width, hyper, out);
        });
    let shape = [prompts.len(), masks, 4 * height, 4 * width];
    Some(tensor(out, shape, &device))
}
