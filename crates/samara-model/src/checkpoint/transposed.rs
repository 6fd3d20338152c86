//! Weights of linear layers, which our modules keep transposed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{DType, Shape, TensorData};
use burn_store::burn_pack::Tensor as StoredTensor;
use burn_store::{ModuleAdapter, ModuleContext, PyTorchToBurnAdapter, bridge};
use rayon::prelude::*;

/// Turns the weights that our modules keep transposed, and notes them, as a message shows shapes as
/// files have them. `burn-store` would turn them as well, but value by value on one thread, which
/// takes longer than everything else when a model is loaded.
#[derive(Clone, Default)]
pub(super) struct Transposed(Arc<Mutex<BTreeSet<String>>>);

impl Transposed {
    /// A shape of ours as a file has it.
    pub(super) fn in_file(&self, path: &str, shape: &[usize]) -> Vec<usize> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut shape = shape.to_vec();
        if shape.len() == 2 && noted.contains(path) {
            shape.reverse();
        }
        shape
    }
}

impl ModuleAdapter for Transposed {
    fn adapt(&self, tensor: StoredTensor, context: ModuleContext<'_>) -> StoredTensor {
        if context.module_type() != Some("Struct:Linear") {
            return PyTorchToBurnAdapter.adapt(tensor, context);
        }
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.insert(tensor.name.clone());
        let (&[rows, columns], true) = (&tensor.shape[..], tensor.dtype.is_float()) else {
            return PyTorchToBurnAdapter.adapt(tensor, context);
        };
        let (name, shape) = (tensor.name.clone(), Shape::from([columns, rows]));
        bridge::map_data(tensor, name, DType::F32, shape, transpose)
    }

    fn get_alternative_param_name(&self, name: &str, module_type: &str) -> Option<String> {
        PyTorchToBurnAdapter.get_alternative_param_name(name, module_type)
    }

    fn clone_box(&self) -> Box<dyn ModuleAdapter> {
        Box::new(self.clone())
    }
}

/// Rows for columns, as `f32`.
fn transpose(data: TensorData) -> TensorData {
    /// Columns that are read together: a cache line of them.
    const COLUMNS: usize = 16;
    let shape = data.shape().to_vec();
    let (rows, columns) = (shape[0], shape[1]);
    let data = data.convert::<f32>();
    let values = data.as_slice::<f32>().unwrap_or_default();
    let mut transposed = vec![0.0_f32; rows * columns];
    let blocks = transposed
        .par_chunks_mut((rows * COLUMNS).max(1))
        .enumerate();
    blocks.for_each(|(block, transposed)| {
        let width = transposed.len() / rows;
        for (row, values) in values.chunks_exact(columns).enumerate() {
            let values = &values[block * COLUMNS..][..width];
            for (transposed, value) in transposed[row..].iter_mut().step_by(rows).zip(values) {
                *transposed = *value;
            }
        }
    });
    TensorData::new(transposed, [columns, rows])
}
