//! Reading single tensors of any file, and writing a model.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use burn_store::burn_pack::Tensor as StoredTensor;
use burn_store::{BurnToPyTorchAdapter, ModuleSnapshot};

use super::convert::{StorageType, count_values, stored, write_tensors};
use super::file::{CheckpointFile, floats, invalid};
use super::{CONFIG_KEY, CheckpointError, HeadTensors, heads, keys};
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
        floats(tensor).map_err(bad)
    }
}

/// Writes a model as `safetensors` under official names, with its configuration, `metadata`, and
/// `heads` as [`Checkpoint::convert_with`](super::Checkpoint::convert_with) takes them. The file
/// appears only when it is complete.
///
/// # Errors
/// `out` cannot be written; a weight that is to become int8 is not finite; a head is of another name, or
/// its values do not fill their shape.
pub fn save_model(
    model: &Model,
    config: &ModelConfig,
    metadata: &BTreeMap<String, String>,
    heads: &[(&str, HeadTensors)],
    storage: StorageType,
    out: &Path,
) -> Result<(), CheckpointError> {
    let refused = |reason: String| invalid(out, &reason);
    let mut tensors = Vec::new();
    let weights = model.collect(None, Some(Box::new(BurnToPyTorchAdapter)), true);
    let all = count_values(weights.iter());
    for tensor in weights {
        let key = keys::OFFICIAL.restore(&tensor.name);
        tensors.extend(stored(&key, &tensor, Some(storage), all).map_err(refused)?);
    }
    tensors.extend(heads::stored(&BTreeMap::new(), heads).map_err(refused)?);
    let json = serde_json::to_string(config).map_err(|e| refused(e.to_string()))?;
    let mut metadata: HashMap<String, String> = metadata.clone().into_iter().collect();
    metadata.insert(CONFIG_KEY.to_owned(), json);
    write_tensors(out, tensors, metadata, out, || None)
}
