//! Upscaling of image cells to mask logits.

use burn::nn::conv::ConvTranspose2d;
use burn::tensor::Tensor;
use samara_kernels::two_way::Norm;
use samara_kernels::upscale::Upscaling;

use super::Activation;
use super::values::{Values, tensor};
use crate::common::LayerNorm2d;

/// `hyper · gelu(second(gelu(norm(first(cells)))))`: cells `[batch, height · width, dim]` and
/// hyper-network outputs `[batch, masks, last]` → logits `[batch, masks, 4 · height, 4 · width]`.
/// Both convolutions have a window and a stride of 2.
pub fn upscale_masks(
    cells: Tensor<3>,
    [height, width]: [usize; 2],
    first: &ConvTranspose2d,
    norm: &LayerNorm2d,
    second: &ConvTranspose2d,
    hyper: Tensor<3>,
) -> Tensor<4> {
    if let Some(logits) = with_kernel(&cells, [height, width], first, norm, second, &hyper) {
        return logits;
    }
    let [batch, _, dim] = cells.dims();
    let x = cells.swap_dims(1, 2).reshape([batch, dim, height, width]);
    let x = Activation::Gelu.apply(norm.forward(first.forward(x)));
    let x = Activation::Gelu.apply(second.forward(x));
    let [_, last, height, width] = x.dims();
    let masks = hyper.dims()[1];
    let logits = hyper.matmul(x.reshape([batch, last, height * width]));
    logits.reshape([batch, masks, height, width])
}

fn with_kernel(
    cells: &Tensor<3>,
    [height, width]: [usize; 2],
    first: &ConvTranspose2d,
    norm: &LayerNorm2d,
    second: &ConvTranspose2d,
    hyper: &Tensor<3>,
) -> Option<Tensor<4>> {
    let ([batch, count, dim], device) = (cells.dims(), cells.device());
    let [_, masks, last] = hyper.dims();
    let (cells, hyper) = (Values::of(cells.clone())?, Values::of(hyper.clone())?);
    let first_bias = Values::of(first.bias.as_ref()?.val())?;
    let second_bias = Values::of(second.bias.as_ref()?.val())?;
    let (first, second) = (
        Values::of(first.weight.val())?,
        Values::of(second.weight.val())?,
    );
    let (gamma, beta) = (Values::of(norm.weight.val())?, Values::of(norm.bias.val())?);
    let upscaling = Upscaling {
        first: first.as_slice(),
        first_bias: first_bias.as_slice(),
        norm: Norm {
            gamma: gamma.as_slice(),
            beta: beta.as_slice(),
            epsilon: LayerNorm2d::EPSILON as f32,
        },
        second: second.as_slice(),
        second_bias: second_bias.as_slice(),
    };
    let mut out = vec![0.0; batch * masks * count * 16];
    let cells = cells.as_slice().chunks_exact(count * dim);
    let hyper = hyper.as_slice().chunks_exact(masks * last);
    for ((cells, hyper), out) in cells
        .zip(hyper)
        .zip(out.chunks_exact_mut(masks * count * 16))
    {
        upscaling.masks(cells, width, hyper, out);
    }
    Some(tensor(out, [batch, masks, 4 * height, 4 * width], &device))
}
