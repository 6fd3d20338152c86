//! Fused operations of the CPU backend: kernels that read their operands once where a chain of tensor
//! operations would read them many times. `gradients.rs` has their gradients (feature `training`).
//!
//! [`FusedOps`] is the door from Burn's tensors. Other backends take the composed form in [`super`].

#[cfg(feature = "training")]
mod gradients;

use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Flex, backend_extension};
use burn::tensor::{Bytes, DType};
use samara_kernels::activation::{Activation, Rectifier};
use samara_kernels::depthwise::Depthwise;
use samara_kernels::gemm::{self, Epilogue};
use samara_kernels::layer_norm::layer_norm;
use samara_kernels::math::gelu_in_place;
use samara_kernels::memory;

/// Fused forward operations, differentiable under autodiff.
#[cfg_attr(feature = "training", backend_extension(Flex, Autodiff))]
#[cfg_attr(not(feature = "training"), backend_extension(Flex))]
pub(super) trait FusedOps: Backend {
    /// `rectifier(x · w + b)`: `x` `[rows, inputs]`, `w` `[inputs, outputs]`, `b` `[outputs]`.
    fn fused_linear(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        rectifier: Rectifier,
    ) -> FloatTensor<Self>;

    /// `rectifier(x ⊛ w + b)` over channels-last images, see [`Depthwise`].
    fn fused_depthwise(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        shape: Depthwise,
        rectifier: Rectifier,
    ) -> FloatTensor<Self>;

    /// x · Φ(x) of every value.
    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Layer norm over the last axis.
    fn fused_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;
}

fn tensor(values: Vec<f32>, shape: &[usize]) -> FlexTensor {
    let layout = Layout::contiguous(shape.to_vec().into());
    FlexTensor::new(Bytes::from_elems(values), layout, DType::F32)
}

/// The values of a contiguous tensor.
///
/// # Panics
/// On any other storage type than `f32`, which no model here has.
fn values(tensor: &FlexTensor) -> &[f32] {
    match tensor.as_slice() {
        Some(values) => values,
        None => unreachable!("a contiguous f32 tensor"),
    }
}

/// The values of a contiguous tensor, to be changed; they are copied when another tensor has them too.
///
/// # Panics
/// As [`values`].
fn values_mut(tensor: &mut FlexTensor) -> &mut [f32] {
    match tensor.layout().contiguous_offsets() {
        // A contiguous view may be a part of what is stored.
        Some((start, end)) => &mut tensor.storage_mut()[start..end],
        None => unreachable!("a contiguous f32 tensor"),
    }
}

fn shape(tensor: &FlexTensor) -> Vec<usize> {
    tensor.layout().shape().to_vec()
}

impl FusedOps for Flex {
    fn fused_linear(
        x: FlexTensor,
        w: FlexTensor,
        b: FlexTensor,
        rectifier: Rectifier,
    ) -> FlexTensor {
        let (x, w, b) = (x.to_contiguous(), w.to_contiguous(), b.to_contiguous());
        let [rows, inputs, outputs] = [shape(&x)[0], shape(&w)[0], shape(&w)[1]];
        let epilogue = Epilogue {
            bias: Some(values(&b)),
            activation: Activation::Rectifier(rectifier),
            residual: None,
        };
        let mut out = memory::zeros(rows * outputs);
        gemm::linear(
            values(&x),
            values(&w),
            [inputs, outputs],
            &epilogue,
            &mut out,
        );
        tensor(out, &[rows, outputs])
    }

    fn fused_depthwise(
        x: FlexTensor,
        w: FlexTensor,
        b: FlexTensor,
        shape: Depthwise,
        rectifier: Rectifier,
    ) -> FlexTensor {
        let (x, w, b) = (x.to_contiguous(), w.to_contiguous(), b.to_contiguous());
        let mut out = memory::zeros(shape.out_shape().iter().product());
        let activation = Activation::Rectifier(rectifier);
        shape.forward(values(&x), values(&w), values(&b), activation, &mut out);
        tensor(out, &shape.out_shape())
    }

    fn fused_gelu(x: FlexTensor) -> FlexTensor {
        let mut x = x.to_contiguous();
        gelu_in_place(values_mut(&mut x));
        x
    }

    fn fused_layer_norm(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        epsilon: f64,
    ) -> FlexTensor {
        let (x, gamma, beta) = (
            x.to_contiguous(),
            gamma.to_contiguous(),
            beta.to_contiguous(),
        );
        let mut out = memory::zeros(values(&x).len());
        layer_norm(
            values(&x),
            values(&gamma),
            values(&beta),
            epsilon as f32,
            &mut out,
        );
        tensor(out, &shape(&x))
    }
}
