//! Whether weights are numbers: one NaN makes every answer NaN, or, worse, some of them wrong.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{DType, TensorData};
use burn_store::bridge;
use burn_store::burn_pack::Tensor as StoredTensor;
use half::{bf16, f16};

/// Notes the tensors that hold a NaN or an infinity while they are read.
#[derive(Clone, Default)]
pub(super) struct FiniteCheck(Arc<Mutex<Vec<String>>>);

impl FiniteCheck {
    /// The tensor of this key, looked at when it is read.
    pub(super) fn watch(&self, key: &str, tensor: StoredTensor) -> StoredTensor {
        let (noted, key) = (Arc::clone(&self.0), key.to_owned());
        let (name, dtype, shape) = (tensor.name.clone(), tensor.dtype, tensor.shape.clone());
        bridge::map_data(tensor, name, dtype, shape, move |data| {
            if !is_finite(&data) {
                let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                noted.push(key.clone());
            }
            data
        })
    }

    /// What is wrong, if any tensor so far was.
    pub(super) fn objection(&self) -> Option<String> {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.sort();
        noted.dedup();
        let first = noted.first()?;
        let more = match noted.len() {
            1 => String::new(),
            n => format!(" and {} other tensors", n - 1),
        };
        Some(format!("key {first}{more}: a value is NaN or infinite"))
    }
}

/// Whether no value is NaN or infinite; integers never are.
fn is_finite(data: &TensorData) -> bool {
    fn all<T: Copy>(values: &[T], finite: fn(T) -> bool) -> bool {
        // A chunk is looked at as a whole, which vectorises.
        let chunk = |values: &[T]| values.iter().fold(true, |all, &value| all & finite(value));
        values.chunks(4096).all(chunk)
    }
    match data.dtype() {
        DType::F32 => data.as_slice().is_ok_and(|v| all(v, f32::is_finite)),
        DType::F64 => data.as_slice().is_ok_and(|v| all(v, f64::is_finite)),
        DType::F16 => data.as_slice().is_ok_and(|v| all(v, f16::is_finite)),
        DType::BF16 => data.as_slice().is_ok_and(|v| all(v, bf16::is_finite)),
        _ => true,
    }
}
