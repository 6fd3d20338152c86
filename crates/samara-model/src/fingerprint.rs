//! What tells the weights of one model from those of another.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{ExecutionError, Tensor, TensorData};
use sha2::{Digest, Sha256};

use crate::{Model, ModulePath};

impl Model {
    /// SHA-256 over the names, shapes and values of all weights in the order of their names, in
    /// hexadecimal. Reads one weight after the other.
    ///
    /// # Errors
    /// The device failed.
    pub fn fingerprint(&self) -> Result<String, ExecutionError> {
        let mut weights = Weights::default();
        self.visit(&mut weights);
        weights.found.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut hash = Sha256::new();
        for (name, values) in weights.found {
            let values = values()?;
            hash.update(format!("{name} {:?}\n", &values.shape()[..]));
            hash.update(values.as_bytes());
        }
        Ok(hex::encode(hash.finalize()))
    }
}

/// Reads the values of a weight.
type Read = Box<dyn FnOnce() -> Result<TensorData, ExecutionError>>;

/// The weights of a module by name.
#[derive(Default)]
struct Weights {
    path: ModulePath,
    found: Vec<(String, Read)>,
}

impl ModuleVisitor for Weights {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let param = param.clone();
        let read = Box::new(move || param.val().try_into_data());
        self.found.push((self.path.name(), read));
    }
}
