//! Writing checkpoints as `safetensors` under official names.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use burn::tensor::DType;
use burn_store::burn_pack::Tensor as StoredTensor;
use burn_store::{FloatCastAdapter, ModuleAdapter};
use safetensors::tensor::{Dtype, View};

use super::file::{file_dtype, invalid, io_error};
use super::{CONFIG_KEY, Checkpoint, CheckpointError, OUR_KEYS};

/// How floating-point weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageType {
    /// 32 bits.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    BF16,
}

impl From<StorageType> for DType {
    fn from(storage: StorageType) -> Self {
        match storage {
            StorageType::F32 => Self::F32,
            StorageType::F16 => Self::F16,
            StorageType::BF16 => Self::BF16,
        }
    }
}

impl Checkpoint {
    /// Writes the checkpoint as `safetensors` under official names, with the configuration and
    /// what else of ours was there in the metadata. Every tensor of the file is kept, one in memory at a time; `storage` changes how
    /// floating-point values are stored. The file appears only when it is complete.
    ///
    /// # Errors
    /// The checkpoint is not recognised, cannot be read, or `out` cannot be written.
    pub fn convert(&self, out: &Path, storage: Option<StorageType>) -> Result<(), CheckpointError> {
        self.convert_with(out, storage, &[])
    }

    /// As [`Checkpoint::convert`], with `entries` put into the metadata. Their keys begin with
    /// `samara.`, so that a later conversion keeps them.
    ///
    /// # Errors
    /// As [`Checkpoint::convert`].
    pub fn convert_with(
        &self,
        out: &Path,
        storage: Option<StorageType>,
        entries: &[(&str, String)],
    ) -> Result<(), CheckpointError> {
        let config = serde_json::to_string(&self.config()?)
            .map_err(|e| invalid(&self.path, &e.to_string()))?;
        let tensors = self.tensors.iter().map(|(key, tensor)| {
            let tensor = match storage {
                Some(storage) => cast(tensor.clone(), storage),
                None => tensor.clone(),
            };
            (key.clone(), tensor)
        });
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
        write_tensors(&self.path, tensors.collect(), metadata, out)
    }
}

/// Writes tensors of `source` as `safetensors`, one in memory at a time. The file appears only
/// when it is complete.
pub(super) fn write_tensors(
    source: &Path,
    tensors: Vec<(String, StoredTensor)>,
    metadata: HashMap<String, String>,
    out: &Path,
) -> Result<(), CheckpointError> {
    let failure = RefCell::new(None);
    let mut views = Vec::with_capacity(tensors.len());
    for (key, tensor) in tensors {
        let dtype = file_dtype(tensor.dtype)
            .ok_or_else(|| invalid(source, &format!("key {key} has type {:?}", tensor.dtype)))?;
        views.push((
            key,
            LazyView {
                tensor,
                dtype,
                failure: &failure,
            },
        ));
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
    if let Some(reason) = failure.into_inner() {
        return Err(invalid(source, &reason));
    }
    // The library replaces the file by one that only its owner may read.
    std::fs::set_permissions(&temporary, permissions).map_err(io)?;
    temporary.persist(out).map_err(|e| io(e.error))
}

/// A temporary file in `folder`, removed unless it is persisted, and the permissions of a new
/// file there.
fn new_file_in(folder: &Path) -> std::io::Result<(tempfile::TempPath, std::fs::Permissions)> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".samara-").suffix(".safetensors");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let file = builder.tempfile_in(folder)?;
    let permissions = file.as_file().metadata()?.permissions();
    Ok((file.into_temp_path(), permissions))
}

/// Casts floating-point values, leaves integers alone.
fn cast(tensor: StoredTensor, storage: StorageType) -> StoredTensor {
    let context = burn_store::ModuleContext::new(&[]);
    FloatCastAdapter::to(storage.into()).adapt(tensor, context)
}

/// A tensor that is read when it is written.
struct LazyView<'a> {
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
                self.failure.borrow_mut().get_or_insert(error.to_string());
                Cow::Owned(vec![0; self.tensor.byte_len()])
            }
        }
    }

    fn data_len(&self) -> usize {
        self.tensor.byte_len()
    }
}
