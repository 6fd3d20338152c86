//! Reading single tensors of any file, and writing a model.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use burn::tensor::DType;
use burn_store::burn_pack::Tensor as StoredTensor;
use burn_store::{
    BurnToPyTorchAdapter, FloatCastAdapter, ModuleAdapter, ModuleContext, ModuleSnapshot, bridge,
};

use super::convert::{StorageType, write_tensors};
use super::file::{CheckpointFile, invalid};
use super::{CONFIG_KEY, CheckpointError, keys};
use crate::{Model, ModelConfig};

/// The tensors of a file, whatever model they belong to.
pub struct Weights {
    path: PathBuf,
    tensors: BTreeMap<String, StoredTensor>,
}

impl Weights {
    /// Opens a `.pth` or `safetensors` file.
    ///
    /// # Errors
    /// The file is missing, empty, truncated or damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
        Ok(Self {
            path: path.into(),
            tensors: CheckpointFile::open(path)?.tensors,
        })
    }

    /// The values of a tensor as `f32`.
    ///
    /// # Errors
    /// The key is missing, has another shape, or cannot be read.
    pub fn values(&self, key: &str, shape: &[usize]) -> Result<Vec<f32>, CheckpointError> {
        let bad = |reason: String| invalid(&self.path, &format!("key {key} {reason}"));
        let tensor = self.tensors.get(key);
        let tensor = tensor.ok_or_else(|| bad("is missing".into()))?;
        if tensor.shape[..] != *shape {
            return Err(bad(format!("is {:?}, not {shape:?}", &tensor.shape[..])));
        }
        let tensor =
            FloatCastAdapter::to(DType::F32).adapt(tensor.clone(), ModuleContext::new(&[]));
        let data = bridge::into_data(tensor).map_err(|e| bad(e.to_string()))?;
        data.try_into_vec().map_err(|e| bad(format!("{e:?}")))
    }
}

/// Writes a model as `safetensors` under official names, with its configuration and `metadata`.
/// The file appears only when it is complete.
///
/// # Errors
/// `out` cannot be written.
pub fn save_model(
    model: &Model,
    config: &ModelConfig,
    metadata: &BTreeMap<String, String>,
    storage: StorageType,
    out: &Path,
) -> Result<(), CheckpointError> {
    let adapter = BurnToPyTorchAdapter.chain(FloatCastAdapter::to(storage.into()));
    let tensors = model.collect(None, Some(Box::new(adapter)), true);
    let tensors = tensors
        .into_iter()
        .map(|tensor| (keys::OFFICIAL.restore(&tensor.name), tensor))
        .collect();
    let json = serde_json::to_string(config).map_err(|e| invalid(out, &e.to_string()))?;
    let mut metadata: HashMap<String, String> = metadata.clone().into_iter().collect();
    metadata.insert(CONFIG_KEY.to_owned(), json);
    write_tensors(out, tensors, metadata, out)
}
