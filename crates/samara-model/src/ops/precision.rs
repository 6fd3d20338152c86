//! What the weights of layers are rounded to.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
pub use samara_kernels::precision::Precision;

use crate::ModulePath;

/// What a weight is rounded to when it is packed. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rounding(Arc<RwLock<Precision>>);

impl Rounding {
    pub(crate) fn precision(&self) -> Precision {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a weight that was not multiplied yet: what is packed already stays as it is.
    pub(crate) fn set(&self, precision: Precision) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = precision;
    }

    /// Called by a weight that is visited.
    pub(super) fn met(&self, id: ParamId) {
        MET.with_borrow_mut(|met| {
            if let Some(met) = met {
                met.insert(id, self.clone());
            }
        });
    }
}

thread_local! {
    /// The weights that a visit on this thread has met. Burn's visitors see parameters, which do not know
    /// what they are part of.
    static MET: RefCell<Option<HashMap<ParamId, Rounding>>> = const { RefCell::new(None) };
}

/// What all layers of a module multiply, with the path of each weight in it: those of linear layers and
/// convolutions, but not of transposed ones, nor depthwise ones, which are multiplied as they are.
pub(crate) fn weights(module: &impl Module) -> Vec<(String, Rounding)> {
    MET.set(Some(HashMap::new()));
    let parameters = parameters(module);
    let mut met = MET.take().unwrap_or_default();
    let weight = |(path, id)| Some((path, met.remove(&id)?));
    parameters.into_iter().filter_map(weight).collect()
}

/// All parameters by their path.
pub(super) fn parameters(module: &impl Module) -> Vec<(String, ParamId)> {
    let mut paths = Paths::default();
    module.visit(&mut paths);
    paths.found
}

#[derive(Default)]
struct Paths {
    path: ModulePath,
    found: Vec<(String, ParamId)>,
}

impl ModuleVisitor for Paths {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.push((self.path.name(), param.id));
    }
}
