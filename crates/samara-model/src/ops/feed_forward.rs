//! Norms with the linear layers that follow them.

use burn::module::Param;
use burn::tensor::Tensor;
use samara_kernels::feed_forward::FeedForward;
use samara_kernels::gemm::{Epilogue, Normalised, linear_of_packed};
use samara_kernels::memory;

use super::activation::Activation;
use super::layer_values::PackedLayer;
use super::linear::{Linear, linear, linear_add};
use super::norm::{NormLayer, NormValues, layer_norm};
use super::observed::observe;
use super::values::{Values, tensor};

/// `norm(x) · W + b` over the last axis: `[.., d_in]` → `[.., d_out]`.
pub fn linear_of_norm<const D: usize>(
    x: Tensor<D>,
    (norm, epsilon): NormLayer<'_>,
    layer: &Linear,
) -> Tensor<D> {
    observe(norm, || layer_norm(x.clone(), norm, epsilon));
    linear_of_norm_with_kernel(&x, (norm, epsilon), layer)
        .unwrap_or_else(|| linear(layer_norm(x, norm, epsilon), layer, Activation::Identity))
}

fn linear_of_norm_with_kernel<const D: usize>(
    x: &Tensor<D>,
    norm: NormLayer<'_>,
    layer: &Linear,
) -> Option<Tensor<D>> {
    let (mut dims, device) = (x.dims(), x.device());
    let (x, norm) = (Values::of(x.clone())?, NormValues::of(norm)?);
    let weight = layer.weight.packed()?;
    let bias = Values::optional(layer.bias.as_ref().map(Param::val))?;
    let epilogue = Epilogue {
        bias: bias.as_ref().map(Values::as_slice),
        ..Epilogue::default()
    };
    let rows = Normalised::new(x.as_slice(), norm.norm());
    dims[D - 1] = weight.columns();
    let mut out = memory::zeros(dims.iter().product());
    linear_of_packed(&rows, &weight, &epilogue, &mut out);
    Some(tensor(out, dims, &device))
}

/// A feed-forward block `residual + second(activation(first(norm(x))))` over the last axis.
pub fn feed_forward<const D: usize>(
    x: Tensor<D>,
    (norm, epsilon): NormLayer<'_>,
    [first, second]: [&Linear; 2],
    activation: Activation,
    residual: Tensor<D>,
) -> Tensor<D> {
    observe(norm, || layer_norm(x.clone(), norm, epsilon));
    let layers = [first, second];
    feed_forward_with_kernel(&x, (norm, epsilon), layers, activation, &residual).unwrap_or_else(
        || {
            let hidden = linear(layer_norm(x, norm, epsilon), first, activation);
            linear_add(hidden, second, residual)
        },
    )
}

fn feed_forward_with_kernel<const D: usize>(
    x: &Tensor<D>,
    norm: NormLayer<'_>,
    [first, second]: [&Linear; 2],
    activation: Activation,
    residual: &Tensor<D>,
) -> Option<Tensor<D>> {
    let (dims, device) = (x.dims(), x.device());
    let (x, residual) = (Values::of(x.clone())?, Values::of(residual.clone())?);
    let norm = NormValues::of(norm)?;
    let rows = dims[..D - 1].iter().product();
    let activation = activation.kernel(first.precision());
    let [first, second] = [first, second].map(|layer| PackedLayer::linear(layer, rows));
    let (first, second) = (first?, second?);
    let block = FeedForward {
        norm: norm.norm(),
        expand: first.layer(),
        activation,
        project: second.layer(),
    };
    let mut out = memory::zeros(dims.iter().product());
    block.forward(x.as_slice(), residual.as_slice(), &mut out);
    Some(tensor(out, dims, &device))
}
