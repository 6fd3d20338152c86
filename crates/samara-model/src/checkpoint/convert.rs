//! Writing checkpoints as `safetensors` under official names.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use burn::tensor::DType;
use burn_store::burn_pack::Tensor as StoredTensor;
use burn_store::{FloatCastAdapter, ModuleAdapter, ModuleContext};
use safetensors::tensor::{Dtype, View};

use super::file::{file_dtype, invalid, io_error};
use super::finite::FiniteCheck;
use crate::tensor_file::order_header;

use super::{
    CONFIG_KEY, Checkpoint, CheckpointError, HeadTensors, INT8_KEY, OUR_KEYS, heads, int8,
};

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageType {
    /// 32 bits.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    BF16,
    /// The weights of linear, convolution and transposed convolution layers as 8-bit integers with one
    /// scale for every output channel, `f32` again once loaded; everything else, and layers of few
    /// weights, as it was. A model whose encoder is [quantised](Checkpoint::convert_quantised) stays as it is.
    I8,
}

impl StorageType {
    /// The type of floating-point values, unless each tensor keeps its own.
    fn float(self) -> Option<DType> {
        match self {
            Self::F32 => Some(DType::F32),
            Self::F16 => Some(DType::F16),
            Self::BF16 => Some(DType::BF16),
            Self::I8 => None,
        }
    }
}

impl Checkpoint {
    /// Writes the checkpoint as `safetensors` under official names, with the configuration and
    /// what else of ours was there in the metadata. Every tensor of the file is kept, one in memory at
    /// a time; `storage` changes how weights are stored, but not those of heads. The file appears only
    /// when it is complete.
    ///
    /// # Errors
    /// The checkpoint is not recognised, cannot be read, or `out` cannot be written; a value is NaN or
    /// infinite.
    pub fn convert(&self, out: &Path, storage: Option<StorageType>) -> Result<(), CheckpointError> {
        self.convert_with(out, storage, &[], &[])
    }

    /// As [`Checkpoint::convert`], with `entries` put into the metadata, whose keys begin with
    /// `samara.`, so that a later conversion keeps them, and with `heads`: what the names of each begin
    /// with, such as [`CANDIDATE_HEAD`](super::CANDIDATE_HEAD), and its tensors, which replace all that
    /// the file has of this head.
    ///
    /// # Errors
    /// As [`Checkpoint::convert`]; also a head of another name, or values that do not fill their shape.
    pub fn convert_with(
        &self,
        out: &Path,
        storage: Option<StorageType>,
        entries: &[(&str, String)],
        heads: &[(&str, HeadTensors)],
    ) -> Result<(), CheckpointError> {
        let all = count_values(self.tensors.values());
        let is_quantised = self.metadata.contains_key(INT8_KEY);
        let mut source = self.clone();
        let storage = match storage {
            // Its other layers have been found to lose too much.
            Some(StorageType::I8) if is_quantised => None,
            // Without integers it is none of these any more.
            Some(_) if is_quantised => {
                source.metadata.remove(INT8_KEY);
                storage
            }
            _ => storage,
        };
        source.write(out, entries, heads, |key, tensor| {
            match (self.quantised.get(key), storage) {
                (Some(pair), None | Some(StorageType::I8)) => {
                    Ok(pair.clone().into_tensors(key).into())
                }
                _ => stored(key, tensor, storage, all),
            }
        })
    }

    /// Writes every tensor of the model as what it `becomes`, or tells why it cannot be that.
    pub(super) fn write(
        &self,
        out: &Path,
        entries: &[(&str, String)],
        heads: &[(&str, HeadTensors)],
        becomes: impl Fn(&str, &StoredTensor) -> Result<Vec<(String, StoredTensor)>, String>,
    ) -> Result<(), CheckpointError> {
        let unreadable = |reason: String| invalid(&self.path, &reason);
        let config = serde_json::to_string(&self.config()?);
        let config = config.map_err(|e| unreadable(e.to_string()))?;
        let mut tensors = Vec::new();
        for (key, tensor) in &self.tensors {
            tensors.extend(becomes(key, tensor).map_err(unreadable)?);
        }
        tensors.extend(heads::stored(&self.heads, heads).map_err(|e| invalid(out, &e))?);
        let finite = FiniteCheck::default();
        let tensors = tensors.into_iter();
        let tensors = tensors.map(|(key, tensor)| (key.clone(), finite.watch(&key, tensor)));
        let kept = self
            .metadata
            .iter()
            .filter(|(key, _)| key.starts_with(OUR_KEYS));
        let mut metadata: HashMap<String, String> = kept
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        metadata.insert(CONFIG_KEY.to_owned(), config);
        metadata.extend(
            entries
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone())),
        );
        write_tensors(&self.path, tensors.collect(), metadata, out, || {
            finite.objection().filter(|_| !self.unchecked)
        })
    }
}

/// How many values tensors have. A damaged file may claim any number.
pub(super) fn count_values<'a>(tensors: impl Iterator<Item = &'a StoredTensor>) -> usize {
    let count = |tensor: &StoredTensor| {
        tensor
            .shape
            .iter()
            .fold(1_usize, |n, &d| n.saturating_mul(d))
    };
    tensors.map(count).fold(0, usize::saturating_add)
}

/// A tensor as it is stored, with its scales if it has some; or why it cannot be. The model has so many values in
/// `all`.
pub(super) fn stored(
    key: &str,
    tensor: &StoredTensor,
    storage: Option<StorageType>,
    all: usize,
) -> Result<Vec<(String, StoredTensor)>, String> {
    if storage == Some(StorageType::I8)
        && let Some(pair) = int8::quantise(key, tensor, all)?
    {
        return Ok(pair.into_tensors(key).into());
    }
    let tensor = match storage.and_then(StorageType::float) {
        // Leaves integers alone.
        Some(float) => FloatCastAdapter::to(float).adapt(tensor.clone(), ModuleContext::new(&[])),
        None => tensor.clone(),
    };
    Ok(vec![(key.to_owned(), tensor)])
}

/// Writes tensors of `source` as `safetensors`, one in memory at a time. The file appears only
/// when it is complete and nothing `is_wrong` with the tensors that were read.
pub(super) fn write_tensors(
    source: &Path,
    tensors: Vec<(String, StoredTensor)>,
    metadata: HashMap<String, String>,
    out: &Path,
    is_wrong: impl FnOnce() -> Option<String>,
) -> Result<(), CheckpointError> {
    let failure = RefCell::new(None);
    let mut views = Vec::with_capacity(tensors.len());
    for (key, tensor) in tensors {
        let dtype = file_dtype(tensor.dtype)
            .ok_or_else(|| invalid(source, &format!("key {key} has type {:?}", tensor.dtype)))?;
        let view = LazyView {
            key: key.clone(),
            tensor,
            dtype,
            failure: &failure,
        };
        views.push((key, view));
    }
    let io = io_error(out);
    // Written beside the target and moved there once every tensor could be read.
    let folder = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let (temporary, permissions) = new_file_in(folder).map_err(io)?;
    safetensors::serialize_to_file(views, Some(metadata), &temporary)
        .map_err(|e| io(std::io::Error::other(e.to_string())))?;
    if let Some(reason) = failure.into_inner().or_else(is_wrong) {
        return Err(invalid(source, &reason));
    }
    order_header(&temporary).map_err(io)?;
    // The library replaces the file by one that only its owner may read.
    std::fs::set_permissions(&temporary, permissions).map_err(io)?;
    temporary.persist(out).map_err(|e| io(e.error))
}

/// A temporary file in `folder`, removed unless it is persisted, and the permissions of a new
/// file there.
fn new_file_in(folder: &Path) -> std::io::Result<(tempfile::TempPath, std::fs::Permissions)> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".samara-").suffix(".tmp");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let file = builder.tempfile_in(folder)?;
    let permissions = file.as_file().metadata()?.permissions();
    Ok((file.into_temp_path(), permissions))
}

/// A tensor that is read when it is written.
struct LazyView<'a> {
    key: String,
    tensor: StoredTensor,
    dtype: Dtype,
    /// The writer cannot fail inside a view, so the first error waits here.
    failure: &'a RefCell<Option<String>>,
}

impl View for LazyView<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self.tensor.to_bytes() {
            Ok(bytes) => Cow::Owned(bytes.to_vec()),
            Err(error) => {
                let reason = || format!("key {}: {error}", self.key);
                self.failure.borrow_mut().get_or_insert_with(reason);
                Cow::Owned(vec![0; self.tensor.byte_len()])
            }
        }
    }

    fn data_len(&self) -> usize {
        self.tensor.byte_len()
    }
}
