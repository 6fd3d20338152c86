//! Reading tensors from checkpoint files. A pickle is parsed as data, never executed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use burn_store::burn_pack::Tensor as StoredTensor;
use burn_store::pytorch_reader::PytorchReader;
use burn_store::{ModuleStore, SafetensorsStore, bridge};

use super::CheckpointError;

/// File format of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// What `torch.save` writes (`.pth`, `.pt`, `.bin`).
    PyTorch,
    /// `safetensors`.
    Safetensors,
}

/// The tensors of a file under the names they have there, data not yet read.
pub(super) struct CheckpointFile {
    pub(super) format: Format,
    pub(super) tensors: BTreeMap<String, StoredTensor>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// Longest header that is accepted; the largest released model needs less than 1 MB.
const MAX_HEADER: u64 = 100 << 20;

impl CheckpointFile {
    /// Opens a file and reads its directory of tensors.
    pub(super) fn open(path: &Path) -> Result<Self, CheckpointError> {
        match format_of(path)? {
            Format::Safetensors => open_safetensors(path),
            Format::PyTorch => open_pytorch(path),
        }
    }
}

/// Recognises the format by content.
fn format_of(path: &Path) -> Result<Format, CheckpointError> {
    let io = |source| CheckpointError::Io { path: path.into(), source };
    let mut file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if metadata.is_dir() {
        return Err(invalid(path, "is a folder, not a checkpoint file"));
    }
    if metadata.len() == 0 {
        return Err(invalid(path, "is empty"));
    }
    let mut head = Vec::new();
    Read::by_ref(&mut file).take(9).read_to_end(&mut head).map_err(io)?;
    let zip = head.starts_with(b"PK\x03\x04");
    // A pickle starts with the protocol opcode; torch wrote protocol 2.
    let pickle = head.starts_with(&[0x80, 0x02]);
    if zip || pickle {
        return Ok(Format::PyTorch);
    }
    if let [a, b, c, d, e, f, g, h, b'{'] = head[..]
        && u64::from_le_bytes([a, b, c, d, e, f, g, h]) < MAX_HEADER
    {
        return Ok(Format::Safetensors);
    }
    Err(invalid(
        path,
        "is neither a PyTorch (.pth) nor a safetensors checkpoint",
    ))
}

fn open_safetensors(path: &Path) -> Result<CheckpointFile, CheckpointError> {
    let metadata = safetensors_metadata(path)?;
    let mut store = SafetensorsStore::from_file(path);
    let tensors = store
        .get_all_tensors()
        .map_err(|e| invalid(path, &format!("damaged safetensors file: {e}")))?
        .clone();
    Ok(CheckpointFile { format: Format::Safetensors, tensors, metadata })
}

/// The header's free-form metadata. Checks on the way that the file is as long as its header
/// says.
fn safetensors_metadata(path: &Path) -> Result<BTreeMap<String, String>, CheckpointError> {
    let io = |source| CheckpointError::Io { path: path.into(), source };
    let mut file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(io)?;
    let size = u64::from_le_bytes(size);
    let mut header = Vec::new();
    file.take(size).read_to_end(&mut header).map_err(io)?;
    let damaged = |e: &dyn std::fmt::Display| {
        invalid(path, &format!("damaged or truncated safetensors header: {e}"))
    };
    if (header.len() as u64) < size {
        return Err(damaged(&"the file ends inside it"));
    }
    let header: safetensors::tensor::Metadata =
        serde_json::from_slice(&header).map_err(|e| damaged(&e))?;
    let data = header.data_len() as u64;
    if length != 8 + size + data {
        let reason = format!("truncated: {length} bytes, its header promises {}", 8 + size + data);
        return Err(invalid(path, &reason));
    }
    Ok(header.metadata().clone().unwrap_or_default().into_iter().collect())
}

/// Keys under which training code likes to put the weights.
const WRAPPERS: [&str; 5] = ["", "model.", "state_dict.", "model_state_dict.", "module."];

fn open_pytorch(path: &Path) -> Result<CheckpointFile, CheckpointError> {
    let reader = PytorchReader::new(path)
        .map_err(|e| invalid(path, &format!("damaged or unsupported PyTorch file: {e}")))?;
    let tensors: BTreeMap<String, StoredTensor> = reader
        .into_tensors()
        .into_iter()
        .map(|(name, tensor)| (name, bridge::from_pytorch(tensor)))
        .collect();
    if tensors.is_empty() {
        return Err(invalid(path, "holds no tensors"));
    }
    Ok(CheckpointFile {
        format: Format::PyTorch,
        tensors: unwrap_nesting(tensors),
        metadata: BTreeMap::new(),
    })
}

/// Gives the weights out of nesting such as `{"model": …, "optimizer": …}` or a data-parallel
/// wrapper; a flat file stays as it is.
fn unwrap_nesting(tensors: BTreeMap<String, StoredTensor>) -> BTreeMap<String, StoredTensor> {
    let holds_model = |wrapper: &String| {
        let inner = |key: &String| key.strip_prefix(wrapper).is_some_and(is_model_key);
        tensors.keys().any(inner)
    };
    let wrappers = WRAPPERS.map(str::to_owned).into_iter();
    let wrapper = wrappers
        .chain(WRAPPERS.map(|outer| format!("{outer}module.")))
        .find(holds_model);
    match wrapper {
        Some(wrapper) => tensors
            .into_iter()
            .filter_map(|(key, tensor)| Some((key.strip_prefix(&wrapper)?.to_owned(), tensor)))
            .collect(),
        None => tensors,
    }
}

fn is_model_key(key: &str) -> bool {
    key.starts_with("image_encoder.") || key.starts_with("vision_encoder.")
}

pub(super) fn invalid(path: &Path, reason: &str) -> CheckpointError {
    // Library messages may span lines; ours do not.
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    CheckpointError::Invalid { path: path.into(), reason }
}
