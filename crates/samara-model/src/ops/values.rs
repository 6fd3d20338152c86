//! Tensors of the CPU backend as slices, for the kernels of inference.

use std::sync::Arc;

#[cfg(feature = "flex")]
use burn::backend::{Flex, flex::FlexTensor};
use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use samara_kernels::gemm::{ForRows, Layer, Packed};
use samara_kernels::layer_norm::Norm;
use samara_kernels::two_way::Projection;

use super::feed_forward::NormLayer;
use super::{Conv2d, Linear};
use crate::common::LayerNorm2d;

/// The values of a tensor, row by row.
#[derive(Debug)]
pub(super) struct Values {
    #[cfg(feature = "flex")]
    tensor: FlexTensor,
}

impl Values {
    /// `None` for a tensor of another backend and for one that records gradients: these take
    /// another form of an operation.
    #[cfg(feature = "flex")]
    pub(super) fn of<const D: usize>(tensor: Tensor<D>) -> Option<Self> {
        let tensor = tensor.try_into_primitive::<Flex>().ok()?.to_contiguous();
        tensor
            .as_slice::<f32>()
            .is_some()
            .then_some(Self { tensor })
    }

    #[cfg(not(feature = "flex"))]
    pub(super) fn of<const D: usize>(_: Tensor<D>) -> Option<Self> {
        None
    }

    pub(super) fn as_slice(&self) -> &[f32] {
        // `of` has seen that this is a slice.
        #[cfg(feature = "flex")]
        return self.tensor.as_slice().unwrap_or_default();
        #[cfg(not(feature = "flex"))]
        &[]
    }

    /// The values of an optional tensor; `None` when there is one without values.
    #[expect(
        clippy::option_option,
        reason = "there is none, or it has no values: two things"
    )]
    pub(super) fn optional<const D: usize>(tensor: Option<Tensor<D>>) -> Option<Option<Self>> {
        tensor.map_or(Some(None), |tensor| Self::of(tensor).map(Some))
    }
}

/// A linear layer with a bias as slices.
pub(super) struct LayerValues {
    weight: Values,
    bias: Values,
}

impl LayerValues {
    pub(super) fn of(layer: &Linear) -> Option<Self> {
        let weight = Values::of(layer.weight.val())?;
        let bias = Values::of(layer.bias.as_ref()?.val())?;
        Some(Self { weight, bias })
    }

    pub(super) fn projection(&self) -> Projection<'_> {
        Projection {
            weight: self.weight.as_slice(),
            bias: self.bias.as_slice(),
        }
    }
}

/// A linear layer with its weight packed for matmuls.
pub(super) struct PackedLayer {
    weight: ForRows<Arc<Packed>>,
    bias: Option<Values>,
}

impl PackedLayer {
    /// For about as many `rows`.
    pub(super) fn linear(layer: &Linear, rows: usize) -> Option<Self> {
        Some(Self {
            weight: ForRows::new(layer.weight.packed()?, rows),
            bias: Values::optional(layer.bias.as_ref().map(Param::val))?,
        })
    }

    /// A 1×1 convolution.
    pub(super) fn pointwise(layer: &Conv2d) -> Option<Self> {
        Some(Self {
            // Line by line: too few rows at a time for more.
            weight: ForRows::new(layer.weight.packed()?, 0),
            bias: Values::optional(layer.bias.as_ref().map(Param::val))?,
        })
    }

    pub(super) fn layer(&self) -> Layer<'_> {
        Layer {
            weight: self.weight.right(),
            bias: self.bias.as_ref().map(Values::as_slice),
        }
    }
}

/// The parameters of a layer norm as slices.
pub(super) struct NormValues {
    gamma: Values,
    beta: Values,
    epsilon: f32,
}

impl NormValues {
    pub(super) fn of((norm, epsilon): NormLayer<'_>) -> Option<Self> {
        Some(Self {
            gamma: Values::of(norm.gamma.val())?,
            beta: Values::of(norm.beta.as_ref()?.val())?,
            epsilon: epsilon as f32,
        })
    }

    pub(super) fn of_pixels(norm: &LayerNorm2d) -> Option<Self> {
        Some(Self {
            gamma: Values::of(norm.weight.val())?,
            beta: Values::of(norm.bias.val())?,
            epsilon: LayerNorm2d::EPSILON as f32,
        })
    }

    pub(super) fn norm(&self) -> Norm<'_> {
        Norm {
            gamma: self.gamma.as_slice(),
            beta: self.beta.as_slice(),
            epsilon: self.epsilon,
        }
    }
}

/// A tensor with these values on the CPU.
pub(super) fn tensor<const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}
