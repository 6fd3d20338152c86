//! Reading tensors from checkpoint files. A pickle is parsed as data, never executed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{BoolStore, DType, Shape, TensorData};
use burn_store::burn_pack::{Error as StoredTensorError, Tensor as StoredTensor};
use burn_store::pytorch_reader::PytorchReader;
use burn_store::{FloatCastAdapter, ModuleAdapter, ModuleContext, bridge};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::{CheckpointError, nesting};

/// File format of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// What `torch.save` writes (`.pth`, `.pt`, `.bin`).
    PyTorch,
    /// `safetensors`.
    Safetensors,
}

/// The tensors of a file, data not yet read.
pub(super) struct CheckpointFile {
    pub(super) format: Format,
    /// By the names that they have in their model.
    pub(super) tensors: BTreeMap<String, StoredTensor>,
    /// What these names begin with in the file.
    pub(super) prefix: String,
    /// The same of sets of weights that are not taken.
    pub(super) other_weights: Vec<String>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// Longest header of a safetensors file, as the format has it.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes before the header, which hold its length.
const HEADER_START: u64 = 8;

impl CheckpointFile {
    /// Opens a file and reads its directory of tensors.
    pub(super) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let file = match format_of(path)? {
            // Read from the open file rather than from a memory map: a file that shrinks while it
            // is read is an error then, and not the end of the process.
            Format::Safetensors => {
                let file = File::open(path).map_err(io_error(path))?;
                open_safetensors(path, file)?
            }
            Format::PyTorch => open_pytorch(path)?,
        };
        Self::checked(path, file)
    }

    /// As [`open`](Self::open), from the bytes of a `safetensors` file that is part of the program.
    pub(super) fn embedded(name: &Path, bytes: &'static [u8]) -> Result<Self, CheckpointError> {
        Self::checked(name, open_safetensors(name, Cursor::new(bytes))?)
    }

    fn checked(path: &Path, file: Self) -> Result<Self, CheckpointError> {
        if file.tensors.is_empty() {
            return Err(invalid(path, "holds no tensors"));
        }
        let weights = nesting::unwrap(file.tensors).map_err(|reason| invalid(path, &reason))?;
        Ok(Self {
            tensors: weights.tensors,
            prefix: weights.prefix,
            other_weights: weights.others,
            ..file
        })
    }
}

/// Recognises the format by content.
fn format_of(path: &Path) -> Result<Format, CheckpointError> {
    let io = io_error(path);
    // Asked before opening: opening a pipe waits for a writer.
    let metadata = std::fs::metadata(path).map_err(io)?;
    if metadata.is_dir() {
        return Err(invalid(path, "is a folder, not a checkpoint file"));
    }
    if !metadata.is_file() {
        return Err(invalid(path, "is not a regular file"));
    }
    if metadata.len() == 0 {
        return Err(invalid(path, "is empty"));
    }
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(9).read_to_end(&mut head))
        .map_err(io)?;
    // First, because the length of the header may begin like a pickle.
    if let [a, b, c, d, e, f, g, h, b'{'] = head[..]
        && u64::from_le_bytes([a, b, c, d, e, f, g, h]) <= MAX_HEADER
    {
        return Ok(Format::Safetensors);
    }
    // A pickle starts with the protocol opcode; torch writes protocol 2 unless told otherwise.
    let pickle = matches!(head[..], [0x80, 2..=5, ..]);
    if pickle || head.starts_with(b"PK\x03\x04") {
        return Ok(Format::PyTorch);
    }
    Err(invalid(
        path,
        "is neither a PyTorch (.pth) nor a safetensors checkpoint",
    ))
}

/// Where the bytes of a checkpoint come from.
trait Source: Read + Seek + Send + 'static {}

impl<T: Read + Seek + Send + 'static> Source for T {}

fn open_safetensors(path: &Path, mut file: impl Source) -> Result<CheckpointFile, CheckpointError> {
    let (header, data_start) = safetensors_header(path, &mut file)?;
    let file = Arc::new(Mutex::new(file));
    let mut tensors = BTreeMap::new();
    for (name, info) in header.tensors() {
        let dtype = stored_dtype(info.dtype).ok_or_else(|| {
            invalid(
                path,
                &format!(
                    "key {name} has the type {:?}, which is not supported",
                    info.dtype
                ),
            )
        })?;
        let tensor = lazy_tensor(&name, dtype, info, data_start, Arc::clone(&file));
        tensors.insert(name, tensor);
    }
    let metadata = header.metadata().clone().unwrap_or_default();
    Ok(CheckpointFile {
        format: Format::Safetensors,
        tensors,
        prefix: String::new(),
        other_weights: Vec::new(),
        metadata: metadata.into_iter().collect(),
    })
}

/// The header, checked against the length of the file, and where the data starts.
fn safetensors_header(
    path: &Path,
    file: &mut impl Source,
) -> Result<(Metadata, u64), CheckpointError> {
    let io = io_error(path);
    let damaged = |e: &dyn std::fmt::Display| {
        invalid(
            path,
            &format!("damaged or truncated safetensors header: {e}"),
        )
    };
    let length = file.seek(SeekFrom::End(0)).map_err(io)?;
    file.rewind().map_err(io)?;
    let mut size = [0; HEADER_START as usize];
    file.read_exact(&mut size).map_err(io)?;
    let size = u64::from_le_bytes(size).min(MAX_HEADER);
    let mut header = Vec::new();
    file.take(size).read_to_end(&mut header).map_err(io)?;
    if (header.len() as u64) < size {
        return Err(damaged(&"the file ends inside it"));
    }
    let header: Metadata = serde_json::from_slice(&header).map_err(|e| damaged(&e))?;
    let data_start = HEADER_START + size;
    // The offsets are whatever the file says; their sum may not fit 64 bits.
    let promised = u128::from(data_start) + header.data_len() as u128;
    if u128::from(length) != promised {
        let reason = format!("truncated: {length} bytes, its header promises {promised}");
        return Err(invalid(path, &reason));
    }
    Ok((header, data_start))
}

fn lazy_tensor(
    name: &str,
    dtype: DType,
    info: &TensorInfo,
    data_start: u64,
    file: Arc<Mutex<impl Source>>,
) -> StoredTensor {
    let shape = Shape::from(info.shape.clone());
    let (start, end) = info.data_offsets;
    bridge::deferred(name.to_owned(), dtype, shape.clone(), None, move || {
        let mut bytes = vec![0; end - start];
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(data_start + start as u64))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|e| StoredTensorError::IoError(e.to_string()))?;
        Ok(TensorData::from_bytes_vec(bytes, shape.clone(), dtype))
    })
}

/// Storage types of safetensors files, as the file and as the tensor library name them.
const DTYPES: [(Dtype, DType); 13] = [
    (Dtype::F64, DType::F64),
    (Dtype::F32, DType::F32),
    (Dtype::F16, DType::F16),
    (Dtype::BF16, DType::BF16),
    (Dtype::I64, DType::I64),
    (Dtype::I32, DType::I32),
    (Dtype::I16, DType::I16),
    (Dtype::I8, DType::I8),
    (Dtype::U64, DType::U64),
    (Dtype::U32, DType::U32),
    (Dtype::U16, DType::U16),
    (Dtype::U8, DType::U8),
    (Dtype::BOOL, DType::Bool(BoolStore::Native)),
];

fn stored_dtype(dtype: Dtype) -> Option<DType> {
    let found = DTYPES.iter().find(|(in_file, _)| *in_file == dtype);
    found.map(|&(_, stored)| stored)
}

/// The safetensors type that holds a stored type.
pub(super) fn file_dtype(dtype: DType) -> Option<Dtype> {
    let found = DTYPES.iter().find(|(_, stored)| *stored == dtype);
    found.map(|&(in_file, _)| in_file)
}

/// The values of a floating-point tensor as `f32`, or why there are none.
pub(super) fn floats(tensor: &StoredTensor) -> Result<Vec<f32>, String> {
    if !tensor.dtype.is_float() {
        return Err(format!("is {:?}", tensor.dtype));
    }
    let tensor = FloatCastAdapter::to(DType::F32).adapt(tensor.clone(), ModuleContext::new(&[]));
    let data = bridge::into_data(tensor).map_err(|e| e.to_string())?;
    data.try_into_vec().map_err(|e| format!("{e:?}"))
}

/// How many times the bytes of a file its tensors may take together. More than 1, as tensors may
/// share storage; bounded, as a tensor of stride 0 takes as much as its shape says.
const MAX_SHARING: u64 = 8;

fn open_pytorch(path: &Path) -> Result<CheckpointFile, CheckpointError> {
    let length = std::fs::metadata(path).map_err(io_error(path))?.len();
    check_archive(path)?;
    let reader = PytorchReader::new(path)
        .map_err(|e| invalid(path, &format!("damaged or unsupported PyTorch file: {e}")))?;
    let tensors: BTreeMap<String, StoredTensor> = reader
        .into_tensors()
        .into_iter()
        .map(|(name, tensor)| (name, bridge::from_pytorch(tensor)))
        .collect();
    let claimed: u128 = tensors.values().map(|t| t.byte_len() as u128).sum();
    if claimed > u128::from(length) * u128::from(MAX_SHARING) {
        let reason = format!("damaged: its tensors claim {claimed} bytes, the file has {length}");
        return Err(invalid(path, &reason));
    }
    Ok(CheckpointFile {
        format: Format::PyTorch,
        tensors,
        prefix: String::new(),
        other_weights: Vec::new(),
        metadata: BTreeMap::new(),
    })
}

/// Refuses an archive whose pickle is blown up: parsing takes some 90 bytes of memory for every
/// byte of it, and `torch.save` never compresses. What is no archive passes.
fn check_archive(path: &Path) -> Result<(), CheckpointError> {
    /// Well above the 0.1 MB of the largest released model.
    const MAX_COMPRESSED_PICKLE: u64 = 4 << 20;
    let archive = File::open(path)
        .ok()
        .and_then(|file| zip::ZipArchive::new(file).ok());
    let Some(mut archive) = archive else {
        return Ok(());
    };
    for index in 0..archive.len() {
        let Ok(entry) = archive.by_index_raw(index) else {
            continue;
        };
        let blown_up = entry.size() > entry.compressed_size().max(MAX_COMPRESSED_PICKLE);
        let is_pickle = entry.name().is_ok_and(|name| name.ends_with(".pkl"));
        if is_pickle && blown_up {
            let reason = format!("damaged: its pickle unpacks to {} bytes", entry.size());
            return Err(invalid(path, &reason));
        }
    }
    Ok(())
}

/// Puts the file's name to errors of the operating system.
pub(super) fn io_error(path: &Path) -> impl Fn(std::io::Error) -> CheckpointError + Copy + '_ {
    move |source| CheckpointError::Io {
        path: path.into(),
        source,
    }
}

pub(super) fn invalid(path: &Path, reason: &str) -> CheckpointError {
    // Library messages may span lines; ours do not.
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    CheckpointError::Invalid {
        path: path.into(),
        reason,
    }
}
