//! Golden files, files made from them, and what every test asks of a model or an error.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use samara_model::Model;
use samara_model::checkpoint::{Checkpoint, CheckpointError, StorageType};
use samara_model::sam::PromptBatch;

pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .join("tests/golden")
        .join(name)
}

/// A tensor in memory.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<u8>,
}

impl Stored {
    pub(crate) fn zeros(dtype: Dtype, shape: &[usize]) -> Self {
        let bits = shape.iter().product::<usize>() * dtype.bitsize();
        Self {
            dtype,
            shape: shape.to_vec(),
            data: vec![0; bits / 8],
        }
    }

    pub(crate) fn values(&self) -> Vec<f32> {
        let bytes = &self.data;
        match self.dtype {
            Dtype::F32 => numbers(bytes, f32::from_le_bytes),
            Dtype::F16 => numbers(bytes, |b| half::f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => numbers(bytes, |b| half::bf16::from_le_bytes(b).to_f32()),
            other => panic!("{other:?} is not a floating-point type"),
        }
    }
}

fn numbers<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let chunks = bytes.chunks_exact(N);
    chunks
        .map(|chunk| read(chunk.try_into().unwrap()))
        .collect()
}

pub(crate) type Tensors = BTreeMap<String, Stored>;
pub(crate) type Metadata = HashMap<String, String>;

/// Tensors and metadata of a safetensors file.
pub(crate) fn read(path: &Path) -> (Tensors, Metadata) {
    let bytes = std::fs::read(path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let stored = |view: TensorView<'_>| Stored {
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        data: view.data().to_vec(),
    };
    let tensors = file
        .iter()
        .map(|(key, view)| (key.to_owned(), stored(view)));
    (
        tensors.collect(),
        header.metadata().clone().unwrap_or_default(),
    )
}

/// A safetensors file in `dir`.
pub(crate) fn write(dir: &Path, tensors: &Tensors, metadata: Option<Metadata>) -> PathBuf {
    let views = tensors.iter().map(|(key, tensor)| {
        let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.data);
        (key, view.unwrap())
    });
    let path = dir.join("made.safetensors");
    std::fs::write(&path, safetensors::serialize(views, metadata).unwrap()).unwrap();
    path
}

/// A golden file as official names and the given storage type, with our metadata.
pub(crate) fn converted(name: &str, storage: StorageType) -> (Tensors, Metadata) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.safetensors");
    let checkpoint = Checkpoint::open(golden(name)).unwrap();
    checkpoint.convert(&out, Some(storage)).unwrap();
    read(&out)
}

/// The tensors of the small SAM, in 32 bits.
pub(crate) fn sam_vit() -> Tensors {
    converted("sam_vit.pth", StorageType::F32).0
}

/// What a model says to one point on the golden image: embedding, mask logits and scores.
pub(crate) fn answers(model: &Model) -> Vec<Vec<f32>> {
    let device = Device::flex();
    let (tensors, _) = read(&golden("pixels.safetensors"));
    let pixels = &tensors["pixels"];
    let pixels = TensorData::new(pixels.values(), pixels.shape.clone());
    let features = model.encode_image(Tensor::<4>::from_data(pixels, &device));
    let point = Tensor::from_data([[[40.0, 70.0]]], &device);
    let prompts = PromptBatch {
        points: Some((point, Tensor::from_data([[1.0]], &device))),
        ..PromptBatch::default()
    };
    let decoded = model.decode(&features, &prompts);
    let values = |data: TensorData| data.try_into_vec::<f32>().unwrap();
    vec![
        values(features.image_embed.permute([0, 3, 1, 2]).into_data()),
        values(decoded.low_res_logits.into_data()),
        values(decoded.iou.into_data()),
    ]
}

/// Relative L2 difference.
pub(crate) fn difference(actual: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(actual.len(), expected.len());
    let pairs = actual.iter().zip(expected);
    let error: f32 = pairs.map(|(a, b)| (a - b).powi(2)).sum();
    (error / expected.iter().map(|b| b.powi(2)).sum::<f32>()).sqrt()
}

/// Opens, recognises and loads.
pub(crate) fn load(path: &Path) -> Result<Model, CheckpointError> {
    Model::load(&Checkpoint::open(path)?, &Device::flex())
}

/// The message about `path`, after the path; it is one short line.
#[track_caller]
pub(crate) fn refusal<T>(path: &Path, result: Result<T, CheckpointError>) -> String {
    let Err(error) = result else {
        panic!("{} is accepted", path.display());
    };
    let message = error.to_string();
    assert!(!message.contains(char::is_control), "{message:?}");
    assert!(message.chars().count() < 2000, "{message}");
    let start = format!("{}: ", path.display());
    let rest = message.strip_prefix(&start);
    rest.unwrap_or_else(|| panic!("{message} does not name the file"))
        .to_owned()
}
