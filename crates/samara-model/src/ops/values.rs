//! Tensors of the CPU backend as slices, for the kernels of inference.

#[cfg(feature = "flex")]
use burn::backend::{Flex, flex::FlexTensor};
use burn::tensor::{Device, Tensor, TensorData};

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

/// A tensor with these values on the CPU.
pub(super) fn tensor<const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}
