//! Linear layers with what follows them.

#[cfg(feature = "flex")]
use burn::backend::Dispatch;
use burn::module::{Module, Param};
use burn::nn::{self, LinearConfig};
use burn::tensor::module::linear as burn_linear;
use burn::tensor::{Device, Tensor};
#[cfg(feature = "flex")]
use samara_kernels::activation::Rectifier;
use samara_kernels::gemm::{Dense, Epilogue, linear_of_packed};
use samara_kernels::memory;

use super::values::{Values, tensor};
use super::{Activation, Precision, Weight};
#[cfg(feature = "flex")]
use super::{fused, is_cpu};

/// A linear layer, as Burn's with a weight that is packed once.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[in, out]`.
    pub weight: Weight<2>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// A layer with random weights and a bias.
    pub fn new(inputs: usize, outputs: usize, device: &Device) -> Self {
        LinearConfig::new(inputs, outputs).init(device).into()
    }

    /// The numbers in which it multiplies.
    pub fn precision(&self) -> Precision {
        self.weight.precision()
    }
}

impl From<nn::Linear> for Linear {
    fn from(layer: nn::Linear) -> Self {
        Self {
            weight: layer.weight.into(),
            bias: layer.bias,
        }
    }
}

/// `activation(x · W + b)` over the last axis: `[.., d_in]` → `[.., d_out]`.
pub fn linear<const D: usize>(x: Tensor<D>, layer: &Linear, activation: Activation) -> Tensor<D> {
    if let Some(y) = with_kernel(&x, layer, activation, None) {
        return y;
    }
    match (activation.rectifier(), &layer.bias) {
        #[cfg(feature = "flex")]
        (Some(rectifier), Some(bias)) if is_cpu(&x.device()) => {
            fused_linear(x, layer.weight.val(), bias.val(), rectifier)
        }
        _ => {
            let bias = layer.bias.as_ref().map(Param::val);
            activation.apply(burn_linear(x, layer.weight.val(), bias))
        }
    }
}

/// `x · weight + bias` over the last axis: `[.., d_in]` → `[.., d_out]`, for training.
pub(super) fn affine<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Tensor<1>,
) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if is_cpu(&x.device()) {
        return fused_linear(x, weight, bias, Rectifier::Identity);
    }
    x.matmul(weight.unsqueeze()) + bias.unsqueeze()
}

#[cfg(feature = "flex")]
fn fused_linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    rectifier: Rectifier,
) -> Tensor<D> {
    let mut dims = x.dims();
    let rows = x.reshape([-1, dims[D - 1] as i32]);
    dims[D - 1] = weight.dims()[1];
    let y = <Dispatch as fused::FusedOps>::fused_linear(
        rows.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        rectifier,
    );
    Tensor::<2>::from_dispatch(y).reshape(dims)
}

/// `residual + x · W + b` over the last axis.
pub fn linear_add<const D: usize>(x: Tensor<D>, layer: &Linear, residual: Tensor<D>) -> Tensor<D> {
    match with_kernel(&x, layer, Activation::Identity, Some(&residual)) {
        Some(y) => y,
        None => residual + linear(x, layer, Activation::Identity),
    }
}

fn with_kernel<const D: usize>(
    x: &Tensor<D>,
    layer: &Linear,
    activation: Activation,
    residual: Option<&Tensor<D>>,
) -> Option<Tensor<D>> {
    let (mut dims, device) = (x.dims(), x.device());
    let x = Values::of(x.clone())?;
    let weight = layer.weight.packed()?;
    let bias = Values::optional(layer.bias.as_ref().map(Param::val))?;
    let residual = Values::optional(residual.cloned())?;
    let rows = Dense::new(x.as_slice(), dims[D - 1]);
    dims[D - 1] = weight.columns();
    let epilogue = Epilogue {
        bias: bias.as_ref().map(Values::as_slice),
        activation: activation.kernel(weight.precision()),
        residual: residual.as_ref().map(Values::as_slice),
    };
    let mut out = memory::zeros(dims.iter().product());
    linear_of_packed(&rows, &weight, &epilogue, &mut out);
    Some(tensor(out, dims, &device))
}
