//! What follows a linear map.

#[cfg(feature = "flex")]
use burn::backend::Dispatch;
use burn::tensor::{Tensor, activation};
use samara_kernels::activation::{self as kernel, Rectifier};
use samara_kernels::precision::Precision;

#[cfg(feature = "flex")]
use super::{backend::is_cpu, fused};

/// Activation applied to the result of [`linear`](super::linear).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// The result as it is.
    Identity,
    /// max(0, x).
    Relu,
    /// x · Φ(x), with the exact error function (not the tanh approximation).
    Gelu,
}

impl Activation {
    /// Applies the activation element by element.
    pub fn apply<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Identity => x,
            Self::Relu => activation::relu(x),
            Self::Gelu => gelu(x),
        }
    }
}

fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if is_cpu(&x.device()) {
        let y = <Dispatch as fused::FusedOps>::fused_gelu(x.into_dispatch());
        return Tensor::from_dispatch(y);
    }
    activation::gelu(x)
}

impl Activation {
    /// The activation as the fused kernels know it.
    pub(super) fn rectifier(self) -> Option<Rectifier> {
        match self {
            Self::Identity => Some(Rectifier::Identity),
            Self::Relu => Some(Rectifier::Relu),
            Self::Gelu => None,
        }
    }

    /// The activation as the kernels of inference know it, after matmuls in these numbers.
    pub(super) fn kernel(self, precision: Precision) -> kernel::Activation {
        match self.rectifier() {
            Some(rectifier) => kernel::Activation::Rectifier(rectifier),
            None => kernel::Activation::gelu(precision),
        }
    }
}
