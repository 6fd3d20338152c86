//! Upscaling of image cells to mask logits.

use burn::nn::conv::ConvTranspose2d;
use burn::tensor::{Int, Tensor};
use rayon::prelude::*;
use samara_kernels::upscale as kernel;

use super::Activation;
use super::values::{NormValues, Values, tensor};
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
    let chosen: Vec<i32> = prompts.iter().map(|&i| i as i32).collect();
    let chosen = Tensor::<1, Int>::from_ints(&chosen[..], &cells.device());
    let (cells, hyper) = (cells.select(0, chosen.clone()), hyper.select(0, chosen));
    let [batch, _, dim] = cells.dims();
    let x = cells.swap_dims(1, 2).reshape([batch, dim, height, width]);
    let add = |x: Tensor<4>, level: usize| match &layers.features {
        Some(features) => x + features[level].clone().permute([0, 3, 1, 2]),
        None => x,
    };
    let x = layers.norm.forward(add(layers.first.forward(x), 0));
    let x = add(layers.second.forward(Activation::Gelu.apply(x)), 1);
    let x = Activation::Gelu.apply(x);
    let [_, last, height, width] = x.dims();
    let masks = hyper.dims()[1];
    let logits = hyper.matmul(x.reshape([batch, last, height * width]));
    logits.reshape([batch, masks, height, width])
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
    let norm = NormValues::of_pixels(norm)?;
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
    let mut out = vec![0.0; prompts.len() * masks * count * 16];
    let upscaling = upscaling.packed();
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
