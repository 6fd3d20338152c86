//! From the tensors of a checkpoint to a model.

use burn::tensor::{DType, Device};
use burn_store::{ApplyError, ApplyResult, FloatCastAdapter, ModuleAdapter, ModuleSnapshot};

use super::file::invalid;
use super::finite::FiniteCheck;
use super::transposed::Transposed;
use super::{Checkpoint, CheckpointError, Mismatch, WrongShape, keys};
use crate::{Model, ModelConfig};

impl Model {
    /// The model of a checkpoint, its weights as `f32`.
    ///
    /// # Errors
    /// [`CheckpointError::Mismatch`] names missing, unused, wrongly shaped and unreadable keys,
    /// [`CheckpointError::Invalid`] a key with a value that is NaN or infinite.
    pub fn load(checkpoint: &Checkpoint, device: &Device) -> Result<Self, CheckpointError> {
        Self::load_with(checkpoint, &checkpoint.config()?, device)
    }

    /// As [`Model::load`], with a given configuration.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load_with(
        checkpoint: &Checkpoint,
        config: &ModelConfig,
        device: &Device,
    ) -> Result<Self, CheckpointError> {
        // A panic while weights are applied would end the process, so nothing reaches that point
        // unchecked.
        checkpoint.check(config)?;
        let mut model = config.init(device);
        let finite = FiniteCheck::default();
        let mut strays = Vec::new();
        let mut tensors = Vec::new();
        for (key, tensor) in &checkpoint.tensors {
            let module_path = keys::OFFICIAL.rename(key);
            if keys::is_unused_by_design(key) {
                continue;
            }
            // The path of one of our modules is no official name.
            if keys::OFFICIAL.restore(&module_path) != *key {
                strays.push(key.clone());
                continue;
            }
            let mut tensor = tensor.clone();
            tensor.name = module_path;
            tensors.push(finite.watch(key, tensor));
        }
        let transposed = Transposed::default();
        let adapter = transposed.clone().chain(FloatCastAdapter::to(DType::F32));
        let adapter = Box::new(adapter);
        let result = model.apply(tensors, None, Some(adapter), true);
        let mut mismatch = mismatch(&result, &transposed);
        mismatch.unused.extend(strays);
        mismatch.sort();
        if mismatch.is_empty() {
            return match finite.objection().filter(|_| !checkpoint.unchecked) {
                Some(reason) => Err(invalid(&checkpoint.path, &reason)),
                None => Ok(model),
            };
        }
        Err(CheckpointError::Mismatch {
            path: checkpoint.path.clone(),
            architecture: config.architecture(),
            mismatch: Box::new(mismatch),
        })
    }
}

/// The official key of the parameter with this path in a model.
pub(crate) fn official(path: &str) -> String {
    let path = keys::OFFICIAL.restore(path);
    // Our layer norms call scale and shift gamma and beta.
    match path.rsplit_once('.') {
        // That of SAM 2's fuser is one.
        Some((module, "gamma")) if !module.contains(".fuser.") => format!("{module}.weight"),
        Some((module, "beta")) => format!("{module}.bias"),
        _ => path,
    }
}

/// Translates the outcome of a load to official keys.
fn mismatch(result: &ApplyResult, transposed: &Transposed) -> Mismatch {
    let mut mismatch = Mismatch {
        missing: result
            .missing
            .iter()
            .map(|(path, _)| official(path))
            .collect(),
        unused: result
            .unused
            .iter()
            .map(|path| keys::OFFICIAL.restore(path))
            .collect(),
        ..Mismatch::default()
    };
    for error in &result.errors {
        match error {
            ApplyError::ShapeMismatch {
                path,
                expected,
                found,
            } => {
                mismatch.wrong_shape.push(WrongShape {
                    key: official(path),
                    expected: transposed.in_file(path, expected),
                    found: transposed.in_file(path, found),
                });
            }
            ApplyError::DTypeMismatch { path, found, .. } => {
                mismatch
                    .unreadable
                    .push(format!("{}: is {found:?}", official(path)));
            }
            ApplyError::AdapterError { path, message }
            | ApplyError::LoadError { path, message } => {
                mismatch
                    .unreadable
                    .push(format!("{}: {message}", official(path)));
            }
        }
    }
    mismatch
}
