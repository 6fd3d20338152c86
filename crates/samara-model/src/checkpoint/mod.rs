//! Checkpoints: reading, recognising, converting and downloading weights.
//!
//! [`Checkpoint::open`] reads official `.pth` files, `safetensors` as the `transformers` library
//! writes them, and our own `safetensors` (official names, configuration in the metadata). The
//! architecture is recognised from the keys, and a load succeeds only when every tensor of the
//! model was found and every tensor of the file was used.

pub mod cache;
mod convert;
mod detect;
#[cfg(feature = "download")]
pub mod download;
mod error;
mod file;
mod finite;
mod heads;
mod int8;
mod keys;
mod load;
mod nesting;
mod quantise;
pub mod registry;
mod transposed;
mod weights;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use burn::tensor::{Shape, TensorData};
use burn_store::bridge;
use burn_store::burn_pack::Tensor as StoredTensor;

pub use convert::StorageType;
pub use error::{CheckpointError, Mismatch, WrongShape};
pub use file::Format;
pub use heads::{CANDIDATE_HEAD, HeadTensor, HeadTensors};
pub(crate) use load::official;
pub use weights::{Weights, save_model};

use crate::ModelConfig;
use file::{CheckpointFile, floats, invalid};
use int8::Quantised;
use keys::KeyTable;

/// Metadata key under which our own files keep the model's configuration as JSON.
const CONFIG_KEY: &str = "samara.config";
/// Metadata key of what was found when the encoder was [quantised](Checkpoint::convert_quantised).
pub const INT8_KEY: &str = "samara.int8";
/// What our own metadata keys begin with.
const OUR_KEYS: &str = "samara.";

/// Whose names a checkpoint uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// The official code's (also ours).
    Official,
    /// Those of the `transformers` library.
    Transformers,
}

/// What a checkpoint holds.
#[derive(Debug, Clone)]
pub struct CheckpointInfo {
    /// File format.
    pub format: Format,
    /// Naming of the keys.
    pub naming: Naming,
    /// What the names of the weights begin with in the file, such as `model.`; empty in most.
    pub prefix: String,
    /// The same of further sets of weights that are in the file and are not used. Averaged weights, such as
    /// those under `ema.`, are preferred to others.
    pub other_weights: Vec<String>,
    /// Recognised architecture, such as `sam-vit-b`.
    pub architecture: String,
    /// Number of tensors of the model; the scales of int8 weights do not count.
    pub tensors: usize,
    /// Number of values in them.
    pub parameters: usize,
    /// Storage types, such as `F32`.
    pub dtypes: Vec<String>,
    /// Heads beside the model, such as `candidate_head`.
    pub heads: Vec<String>,
    /// Free-form metadata.
    pub metadata: BTreeMap<String, String>,
}

/// An opened checkpoint: names and shapes are known, data is read when a model is built.
#[derive(Clone)]
pub struct Checkpoint {
    path: PathBuf,
    format: Format,
    naming: Naming,
    prefix: String,
    other_weights: Vec<String>,
    /// By official key; int8 weights in floating point.
    tensors: BTreeMap<String, StoredTensor>,
    /// The int8 weights among them, as they are in the file.
    quantised: BTreeMap<String, Quantised>,
    /// Tensors of heads, under their full names.
    heads: BTreeMap<String, StoredTensor>,
    metadata: BTreeMap<String, String>,
    unchecked: bool,
}

impl Checkpoint {
    /// Opens a checkpoint file.
    ///
    /// # Errors
    /// The file is missing, empty, truncated, damaged, or no checkpoint.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
        Self::of_file(path, CheckpointFile::open(path)?)
    }

    /// A checkpoint that is part of the program: the bytes of a `safetensors` file. `name` stands
    /// for the path in messages.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn embedded(name: &str, bytes: &'static [u8]) -> Result<Self, CheckpointError> {
        let name = Path::new(name);
        Self::of_file(name, CheckpointFile::embedded(name, bytes)?)
    }

    fn of_file(path: &Path, mut file: CheckpointFile) -> Result<Self, CheckpointError> {
        let of_heads = |key: &String, _: &mut _| heads::prefix(key).is_some();
        let heads = file.tensors.extract_if(.., of_heads).collect();
        let table = file.tensors.keys().find_map(|key| keys::transformers(key));
        let (naming, mut tensors) = match table {
            Some(table) => (
                Naming::Transformers,
                official_names(path, table, file.tensors)?,
            ),
            None => (Naming::Official, file.tensors),
        };
        let quantised = int8::dequantise_all(path, &mut tensors)?;
        Ok(Self {
            path: path.into(),
            format: file.format,
            naming,
            prefix: file.prefix,
            other_weights: file.other_weights,
            tensors,
            quantised,
            heads,
            metadata: file.metadata,
            unchecked: false,
        })
    }

    /// The same without a look at the values: weights that are NaN or infinite are loaded and converted as
    /// they are, instead of being an error.
    pub fn with_unchecked_weights(mut self) -> Self {
        self.unchecked = true;
        self
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same with another value in the metadata, or without it. Only keys that begin with `samara.` are kept by
    /// a conversion.
    pub fn with_metadata(mut self, key: &str, value: Option<String>) -> Self {
        match value {
            Some(value) => self.metadata.insert(key.to_owned(), value),
            None => self.metadata.remove(key),
        };
        self
    }

    /// Free-form metadata of the file.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Configuration of the model: from the metadata of our own files, otherwise recognised from
    /// the tensors' names and shapes.
    ///
    /// # Errors
    /// The file belongs to no architecture that is known here.
    pub fn config(&self) -> Result<ModelConfig, CheckpointError> {
        if let Some(json) = self.metadata.get(CONFIG_KEY) {
            let bad = |e: &dyn std::fmt::Display| {
                invalid(
                    &self.path,
                    &format!("bad {CONFIG_KEY} in its metadata: {e}"),
                )
            };
            let config = ModelConfig::from_json(json).map_err(|e| bad(&e))?;
            return config.validate().map_err(|e| bad(&e)).map(|()| config);
        }
        let shapes = self.tensors.iter().map(|(k, t)| (k.as_str(), &t.shape[..]));
        let config = detect::Shapes(shapes.collect())
            .config()
            .map_err(|reason| self.unsupported(reason))?;
        self.check(&config)?;
        Ok(config)
    }

    /// The same weights for an input of `side` model pixels: smaller is faster, and blind to small
    /// things.
    ///
    /// # Errors
    /// The model takes no other side, or not this one; see [`ModelConfig::with_input_side`].
    pub fn with_input_side(mut self, side: usize) -> Result<Self, CheckpointError> {
        let config = self.config()?.with_input_side(side);
        let config = config.map_err(|e| self.unsupported(e.to_string()))?;
        let json = serde_json::to_string(&config);
        let json = json.map_err(|e| invalid(&self.path, &e.to_string()))?;
        self.metadata.insert(CONFIG_KEY.to_owned(), json);
        Ok(self)
    }

    fn check(&self, config: &ModelConfig) -> Result<(), CheckpointError> {
        config
            .validate()
            .map_err(|e| self.unsupported(e.to_string()))
    }

    fn unsupported(&self, reason: String) -> CheckpointError {
        CheckpointError::Unsupported {
            path: self.path.clone(),
            reason,
        }
    }

    /// What the checkpoint holds.
    ///
    /// # Errors
    /// As [`Checkpoint::config`].
    pub fn info(&self) -> Result<CheckpointInfo, CheckpointError> {
        let in_file = |(key, tensor): (&String, &StoredTensor)| {
            let integers = self.quantised.get(key).map(|pair| pair.integers.dtype);
            format!("{:?}", integers.unwrap_or(tensor.dtype))
        };
        let dtypes: BTreeSet<String> = self.tensors.iter().map(in_file).collect();
        let prefixes = self.heads.keys().filter_map(|key| heads::prefix(key));
        let heads: BTreeSet<&str> = prefixes.map(|p| p.trim_end_matches('.')).collect();
        let size = |t: &StoredTensor| t.shape.iter().product::<usize>();
        Ok(CheckpointInfo {
            format: self.format,
            naming: self.naming,
            prefix: self.prefix.clone(),
            other_weights: self.other_weights.clone(),
            architecture: self.config()?.architecture(),
            tensors: self.tensors.len(),
            parameters: self.tensors.values().map(size).sum(),
            dtypes: dtypes.into_iter().collect(),
            heads: heads.into_iter().map(str::to_owned).collect(),
            metadata: self.metadata.clone(),
        })
    }

    /// Whether there is any tensor of the head whose names begin with `prefix`.
    pub fn has_head(&self, prefix: &str) -> bool {
        self.heads.keys().any(|key| key.starts_with(prefix))
    }

    /// The tensors of a head whose names begin with `prefix`, such as [`CANDIDATE_HEAD`]; none if the
    /// file has no such head.
    ///
    /// # Errors
    /// A tensor cannot be read, or is not floating point.
    pub fn head_tensors(&self, prefix: &str) -> Result<HeadTensors, CheckpointError> {
        let read = |(name, key, tensor): (&str, &String, &StoredTensor)| {
            let bad = |e: String| invalid(&self.path, &format!("key {key} {e}"));
            let values = floats(tensor).map_err(bad)?;
            let shape = tensor.shape.to_vec();
            Ok((name.to_owned(), HeadTensor { shape, values }))
        };
        let named = self.heads.iter();
        named
            .filter_map(|(key, tensor)| Some((key.strip_prefix(prefix)?, key, tensor)))
            .map(read)
            .collect()
    }
}

/// Tensors of a `transformers` file by official key.
fn official_names(
    path: &Path,
    table: &KeyTable,
    tensors: BTreeMap<String, StoredTensor>,
) -> Result<BTreeMap<String, StoredTensor>, CheckpointError> {
    let mut official = BTreeMap::new();
    for (theirs, tensor) in tensors {
        let key = table.rename(&theirs);
        if key == keys::JOINED_POINTS {
            official.extend(point_embeddings(&tensor));
            continue;
        }
        let second = official.insert(key, tensor).is_some();
        // Sorted, the copy of the shared matrix comes first and is replaced by the original.
        if second && !keys::is_shared_pe(&theirs) {
            let reason = format!("key {theirs} is there under another name as well");
            return Err(invalid(path, &reason));
        }
    }
    Ok(official)
}

/// The rows of a tensor of point embeddings, one by one.
fn point_embeddings(joined: &StoredTensor) -> Vec<(String, StoredTensor)> {
    let (&[rows, width], dtype) = (&joined.shape[..], joined.dtype) else {
        return vec![(keys::JOINED_POINTS.to_owned(), joined.clone())];
    };
    let row = |index: usize| {
        let (key, shape) = (keys::point_embedding(index), Shape::from([1, width]));
        let cut = move |data: TensorData| {
            let size = dtype.size() * width;
            let bytes = data.as_bytes()[index * size..][..size].to_vec();
            TensorData::from_bytes_vec(bytes, [1, width], dtype)
        };
        let tensor = bridge::map_data(joined.clone(), key.clone(), dtype, shape, cut);
        (key, tensor)
    };
    (0..rows).map(row).collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;
    use burn_store::{FloatCastAdapter, ModuleAdapter, ModuleContext, bridge};

    use super::*;

    fn values(name: &str) -> BTreeMap<String, Vec<f32>> {
        let golden = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/golden");
        let checkpoint = Checkpoint::open(golden.join(name)).unwrap();
        let to_f32 = FloatCastAdapter::to(DType::F32);
        let read = |tensor: StoredTensor| {
            let tensor = to_f32.adapt(tensor, ModuleContext::new(&[]));
            bridge::into_data(tensor).unwrap().try_into_vec().unwrap()
        };
        let tensors = checkpoint.tensors.into_iter();
        tensors.map(|(key, tensor)| (key, read(tensor))).collect()
    }

    #[test]
    fn storage_types_and_the_legacy_format_hold_the_same_values() {
        let mut expected = values("sam_vit.pth");
        expected.retain(|key, _| key.starts_with("prompt_encoder."));
        assert_eq!(values("sam_vit.legacy.pth"), expected);
        // Half a unit in the last place of 11 and of 8 bits.
        for (name, precision) in [
            ("sam_vit_f16.pth", 2_f32.powi(-11)),
            ("sam_vit_bf16.pth", 2_f32.powi(-8)),
        ] {
            let actual = values(name);
            assert!(actual.keys().eq(expected.keys()), "{name}");
            for (key, expected) in &expected {
                for (&actual, &expected) in actual[key].iter().zip(expected) {
                    let tolerance = precision * expected.abs() + f32::from(half::f16::MIN_POSITIVE);
                    assert!((actual - expected).abs() <= tolerance, "{name}: {key}");
                }
            }
            assert_ne!(actual, expected, "{name} is rounded");
        }
    }
}
