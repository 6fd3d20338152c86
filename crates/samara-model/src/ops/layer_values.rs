//! Layers as the kernels of inference read them.

use std::sync::Arc;

use burn::module::Param;
use samara_kernels::gemm::{ForRows, Layer, Packed};
use samara_kernels::two_way::Projection;

use super::convolution::Conv2d;
use super::linear::Linear;
use super::values::Values;

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
