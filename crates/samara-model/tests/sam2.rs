//! The image encoder of SAM 2 against the official code, stage by stage, with random weights.
//! `tests/golden/model_references.py small` made the files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use burn_store::{ModuleSnapshot, PyTorchToBurnAdapter, SafetensorsStore};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use samara_model::sam2::{FpnNeckConfig, HieraConfig};

/// Relative L2 error that rounding explains.
const TOLERANCE: f32 = 2e-5;

fn golden(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    folder.join(name)
}

/// All tensors of a file in single precision.
fn tensors(file: &str) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let bytes = std::fs::read(golden(file)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values = |view: &TensorView<'_>| -> Vec<f32> {
        if view.dtype() == Dtype::F16 {
            let halves = view.data().as_chunks::<2>().0.iter();
            halves
                .map(|b| half::f16::from_le_bytes(*b).to_f32())
                .collect()
        } else {
            let words = view.data().as_chunks::<4>().0.iter();
            words.map(|b| f32::from_le_bytes(*b)).collect()
        }
    };
    file.iter()
        .map(|(name, view)| (name.to_owned(), view.shape().to_vec(), values(&view)))
        .collect()
}

fn load<M: ModuleSnapshot>(module: &mut M, part: &str) {
    let weights = tensors("sam2_encoder.safetensors");
    let bytes: Vec<Vec<u8>> = weights
        .iter()
        .map(|(.., values)| values.iter().flat_map(|v| v.to_le_bytes()).collect())
        .collect();
    let views = weights.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name.as_str(), view)
    });
    let file = safetensors::serialize(views, None).unwrap();
    let mut store = SafetensorsStore::from_bytes(Some(file))
        .with_from_adapter(PyTorchToBurnAdapter)
        .with_key_remapping(r"mlp\.layers\.0", "mlp.lin1")
        .with_key_remapping(r"mlp\.layers\.1", "mlp.lin2")
        .with_key_remapping(format!("^{part}\\."), "")
        .allow_partial(true);
    let loaded = module.load_from(&mut store).unwrap();
    assert!(loaded.missing.is_empty(), "{:?}", loaded.missing);
    assert!(loaded.errors.is_empty(), "{:?}", loaded.errors);
}

fn read(file: &str, name: &str) -> Tensor<4> {
    let all = tensors(file).into_iter();
    let (_, shape, values) = all.into_iter().find(|(n, ..)| n == name).unwrap();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

#[track_caller]
fn assert_close(what: &str, actual: Tensor<4>, expected: &Tensor<4>) {
    let actual = actual.permute([0, 3, 1, 2]);
    assert_eq!(actual.dims(), expected.dims(), "{what}");
    let squared = |x: Tensor<4>| -> f32 { x.powi_scalar(2).sum().into_scalar() };
    let error = (squared(actual - expected.clone()) / squared(expected.clone())).sqrt();
    assert!(error <= TOLERANCE, "{what}: relative L2 error {error:e}");
}

#[test]
fn the_encoder_agrees_stage_by_stage() {
    let device = Device::flex();
    let config = HieraConfig::new(8, 1, [1, 2, 3, 2], vec![4], 7, [8, 4, 6, 3]);
    let mut trunk = config.init(&device);
    load(&mut trunk, "trunk");
    let neck = FpnNeckConfig::new(config.channels()).with_d_model(32);
    let mut neck = neck.init(&device);
    load(&mut neck, "neck");

    let expected = |name: &str| read("sam2_encoder.expected.safetensors", name);
    let stages = trunk.forward(read("pixels.safetensors", "pixels"));
    for (i, stage) in stages.iter().enumerate() {
        let name = format!("stage.{i}");
        assert_close(&name, stage.clone(), &expected(&name));
    }
    for (i, level) in neck.forward(&stages).into_iter().enumerate() {
        let name = format!("level.{i}");
        assert_close(&name, level, &expected(&name));
    }
}
