//! Checkpoints: reading, recognising, converting and downloading weights.
//!
//! [`Checkpoint::open`] reads official `.pth` files, `safetensors` as the `transformers` library
//! writes them, and our own `safetensors` (official names, configuration in the metadata). The
//! architecture is recognised from the keys, and a load succeeds only when every tensor of the
//! model was found and every tensor of the file was used.

pub mod cache;
mod convert;
mod detect;
pub mod download;
mod error;
mod file;
mod keys;
pub mod registry;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device};
use burn_store::burn_pack::Tensor as StoredTensor;
use burn_store::{
    ApplyError, ApplyResult, FloatCastAdapter, ModuleAdapter, ModuleSnapshot, PyTorchToBurnAdapter,
};

pub use convert::StorageType;
pub use error::{CheckpointError, Mismatch, WrongShape};
pub use file::Format;

use crate::sam::{Sam, SamConfig};
use file::CheckpointFile;

/// Metadata key under which our own files keep the model's configuration as JSON.
const CONFIG_KEY: &str = "samara.config";

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
    /// Recognised architecture, such as `sam-vit-b`.
    pub architecture: String,
    /// Number of tensors.
    pub tensors: usize,
    /// Number of values in them.
    pub parameters: usize,
    /// Storage types, such as `F32`.
    pub dtypes: Vec<String>,
    /// Free-form metadata.
    pub metadata: BTreeMap<String, String>,
}

/// An opened checkpoint: names and shapes are known, data is read when a model is built.
pub struct Checkpoint {
    path: PathBuf,
    format: Format,
    naming: Naming,
    /// By official key.
    tensors: BTreeMap<String, StoredTensor>,
    metadata: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens a checkpoint file.
    ///
    /// # Errors
    /// The file is missing, empty, truncated, damaged, or no checkpoint.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
        let file = CheckpointFile::open(path)?;
        let is_theirs = |k: &String| k.starts_with("vision_encoder.");
        let naming = if file.tensors.keys().any(is_theirs) {
            Naming::Transformers
        } else {
            Naming::Official
        };
        let tensors = match naming {
            Naming::Official => file.tensors,
            Naming::Transformers => official_names(path, file.tensors)?,
        };
        Ok(Self {
            path: path.into(),
            format: file.format,
            naming,
            tensors,
            metadata: file.metadata,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Configuration of the model: from the metadata of our own files, otherwise recognised from
    /// the tensors' names and shapes.
    ///
    /// # Errors
    /// The file belongs to no architecture that is known here.
    pub fn config(&self) -> Result<SamConfig, CheckpointError> {
        if let Some(json) = self.metadata.get(CONFIG_KEY) {
            let bad = |e: &dyn std::fmt::Display| {
                file::invalid(
                    &self.path,
                    &format!("bad {CONFIG_KEY} in its metadata: {e}"),
                )
            };
            let config: SamConfig = serde_json::from_str(json).map_err(|e| bad(&e))?;
            return config.validate().map_err(|e| bad(&e)).map(|()| config);
        }
        let shapes = self.tensors.iter().map(|(k, t)| (k.as_str(), &t.shape[..]));
        let config = detect::Shapes(shapes.collect())
            .sam_config()
            .map_err(|reason| self.unsupported(reason))?;
        self.check(&config)?;
        Ok(config)
    }

    fn check(&self, config: &SamConfig) -> Result<(), CheckpointError> {
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
        let dtypes: BTreeSet<String> = self
            .tensors
            .values()
            .map(|t| format!("{:?}", t.dtype))
            .collect();
        let size = |t: &StoredTensor| t.shape.iter().product::<usize>();
        Ok(CheckpointInfo {
            format: self.format,
            naming: self.naming,
            architecture: self.config()?.architecture(),
            tensors: self.tensors.len(),
            parameters: self.tensors.values().map(size).sum(),
            dtypes: dtypes.into_iter().collect(),
            metadata: self.metadata.clone(),
        })
    }

    /// Builds the model and loads its weights as `f32`.
    ///
    /// # Errors
    /// [`CheckpointError::Mismatch`] names missing, unused, wrongly shaped and unreadable keys.
    pub fn load(&self, device: &Device) -> Result<Sam, CheckpointError> {
        self.load_with(&self.config()?, device)
    }

    /// As [`Checkpoint::load`], with a given configuration.
    ///
    /// # Errors
    /// As [`Checkpoint::load`].
    pub fn load_with(&self, config: &SamConfig, device: &Device) -> Result<Sam, CheckpointError> {
        // A panic while weights are applied would end the process, so nothing reaches that point
        // unchecked.
        self.check(config)?;
        let mut sam = config.init(device);
        let mut strays = Vec::new();
        let mut tensors = Vec::new();
        for (key, tensor) in &self.tensors {
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
            tensors.push(tensor);
        }
        let adapter = PyTorchToBurnAdapter.chain(FloatCastAdapter::to(DType::F32));
        let mut mismatch = mismatch(sam.apply(tensors, None, Some(Box::new(adapter)), true));
        mismatch.unused.extend(strays);
        if mismatch.is_empty() {
            return Ok(sam);
        }
        Err(CheckpointError::Mismatch {
            path: self.path.clone(),
            architecture: config.architecture(),
            mismatch,
        })
    }
}

/// Tensors of a `transformers` file by official key.
fn official_names(
    path: &Path,
    tensors: BTreeMap<String, StoredTensor>,
) -> Result<BTreeMap<String, StoredTensor>, CheckpointError> {
    let mut official = BTreeMap::new();
    for (theirs, tensor) in tensors {
        let key = keys::TRANSFORMERS.rename(&theirs);
        let second = official.insert(key, tensor).is_some();
        // Sorted, the copy of the shared matrix comes first and is replaced by the original.
        if second && !keys::is_shared_pe(&theirs) {
            let reason = format!("key {theirs} is there under another name as well");
            return Err(file::invalid(path, &reason));
        }
    }
    Ok(official)
}

/// Translates the outcome of a load to official keys.
fn mismatch(result: ApplyResult) -> Mismatch {
    let official = |path: &str| {
        let path = keys::OFFICIAL.restore(path);
        // Our layer norms call scale and shift gamma and beta.
        match path.rsplit_once('.') {
            Some((module, "gamma")) => format!("{module}.weight"),
            Some((module, "beta")) => format!("{module}.bias"),
            _ => path,
        }
    };
    let mut mismatch = Mismatch {
        // With an encoder enum in the tree, its variant is part of the visited path.
        missing: result
            .missing
            .iter()
            .map(|(path, _)| official(&path.replace(".ViT.", ".").replace(".TinyViT.", ".")))
            .collect(),
        unused: result.unused.iter().map(|path| official(path)).collect(),
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
                    expected: expected.to_vec(),
                    found: found.to_vec(),
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
