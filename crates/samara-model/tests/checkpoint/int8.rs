//! Weights as int8 with a scale per output channel: what is stored so, how far it is off, and how
//! everything that does not fit together is refused.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use safetensors::Dtype;
use samara_model::Model;
use samara_model::checkpoint::{Checkpoint, StorageType, save_model};

use crate::files::{self, Stored, Tensors, answers, difference, golden, load, refusal, sam_vit};

const SCALE: &str = ".i8_scale";
const MODELS: [&str; 4] = [
    "sam_vit.pth",
    "mobile_sam.pth",
    "sam2_video.safetensors",
    "sam_hf.safetensors",
];
/// A weight that is stored as int8, and one of a transposed convolution, `[32, 8, 2, 2]`.
const LINEAR: &str = "image_encoder.blocks.0.mlp.lin1.weight";
const UPSCALING: &str = "mask_decoder.output_upscaling.0.weight";

fn int8(name: &str) -> Tensors {
    files::converted(name, StorageType::I8).0
}

/// The small SAM with int8 weights, its configuration not in the metadata.
fn small() -> Tensors {
    int8("sam_vit.pth")
}

fn integers(tensor: &Stored) -> Vec<f32> {
    assert_eq!(tensor.dtype, Dtype::I8);
    let bytes = tensor.data.iter();
    bytes.map(|byte| f32::from(byte.cast_signed())).collect()
}

/// The output channel of the value at `index`.
fn channel(key: &str, shape: &[usize], index: usize) -> usize {
    let axis = usize::from(key.contains("output_upscaling"));
    index / shape[axis + 1..].iter().product::<usize>() % shape[axis]
}

/// Values, integers and scales of every int8 weight, channel by channel.
fn each_channel(name: &str, mut check: impl FnMut(&str, &[(f32, f32)], f32)) {
    let (floats, quantised) = (files::converted(name, StorageType::F32).0, int8(name));
    for (key, scales) in quantised.iter().filter(|(key, _)| key.ends_with(SCALE)) {
        let key = key.strip_suffix(SCALE).unwrap();
        let shape = &floats[key].shape;
        assert_eq!(&quantised[key].shape, shape, "{key}");
        let count = shape[usize::from(key.contains("output_upscaling"))];
        assert_eq!((scales.dtype, &scales.shape), (Dtype::F32, &vec![count]));
        let pairs = floats[key].values().into_iter();
        let pairs = pairs.zip(integers(&quantised[key])).enumerate();
        let mut channels = vec![Vec::new(); count];
        for (index, pair) in pairs {
            channels[channel(key, shape, index)].push(pair);
        }
        for (pairs, scale) in channels.iter().zip(scales.values()) {
            check(key, pairs, scale);
        }
    }
}

#[test]
fn a_weight_is_off_by_half_a_scale_at_most() {
    for name in MODELS {
        each_channel(name, |key, pairs, scale| {
            let largest = pairs
                .iter()
                .fold(0.0_f32, |m, (value, _)| m.max(value.abs()));
            assert_eq!(scale, largest / 127.0, "{key}");
            for &(value, integer) in pairs {
                // Beside half a scale what the product is rounded by.
                let bound = 0.5 * scale + 1e-6 * value.abs();
                assert!(
                    (value - integer * scale).abs() <= bound,
                    "{key}: {value} {integer}"
                );
                assert!(integer.abs() <= 127.0);
            }
        });
    }
}

#[test]
fn everything_else_stays_as_it_is() {
    for name in MODELS {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out.safetensors");
        Checkpoint::open(golden(name))
            .unwrap()
            .convert(&out, None)
            .unwrap();
        let (before, metadata) = files::read(&out);
        let (after, int8_metadata) = files::converted(name, StorageType::I8);
        assert_eq!(int8_metadata, metadata);
        let size = |tensor: &Stored| tensor.shape.iter().product::<usize>();
        let all: usize = before.values().map(size).sum();
        let mut scales = 0;
        for (key, tensor) in &after {
            if key.ends_with(SCALE) {
                scales += 1;
            } else if tensor.dtype == Dtype::I8 {
                assert!(key.ends_with(".weight") && tensor.shape.len() >= 2, "{key}");
                assert!(size(tensor) >= all / 300, "{key}");
                assert!(after.contains_key(&format!("{key}{SCALE}")), "{key}");
            } else {
                assert_eq!(tensor, &before[key], "{key}");
            }
        }
        assert!(scales > 10);
        assert_eq!(after.len(), before.len() + scales);
    }
}

#[test]
fn answers_are_nearly_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["sam_vit.pth", "sam_hf.safetensors"] {
        let source = Checkpoint::open(golden(name)).unwrap();
        let expected = answers(&Model::load(&source, &Device::flex()).unwrap());
        let out = dir.path().join("out.safetensors");
        source.convert(&out, Some(StorageType::I8)).unwrap();
        let actual = answers(&load(&out).unwrap());
        for (actual, expected) in actual.iter().zip(&expected) {
            let error = difference(actual, expected);
            assert!(error > 0.0 && error < 5e-2, "{name}: {error:e}");
        }
    }
}

#[test]
fn a_file_tells_what_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    for (name, dtypes) in [
        ("sam_vit.pth", &["F32", "I8"][..]),
        ("mobile_sam.pth", &["F16", "I64", "I8"]),
    ] {
        let source = Checkpoint::open(golden(name)).unwrap();
        let out = dir.path().join("out.safetensors");
        source.convert(&out, Some(StorageType::I8)).unwrap();
        let (before, after) = (source.info().unwrap(), Checkpoint::open(&out).unwrap());
        let after = after.info().unwrap();
        assert_eq!(after.dtypes, dtypes);
        assert_eq!(after.architecture, before.architecture);
        assert_eq!(
            (after.tensors, after.parameters),
            (before.tensors, before.parameters)
        );
    }
}

#[test]
fn other_types_hold_the_dequantised_values() {
    let dir = tempfile::tempdir().unwrap();
    for name in MODELS {
        let (small, metadata) = files::converted(name, StorageType::I8);
        let source = files::write(dir.path(), &small, Some(metadata));
        let converted = |storage: Option<StorageType>| {
            let out = dir.path().join("out.safetensors");
            Checkpoint::open(&source)
                .unwrap()
                .convert(&out, storage)
                .unwrap();
            files::read(&out).0
        };
        for same in [None, Some(StorageType::I8)] {
            assert_eq!(converted(same), small, "{name}");
        }
        let floats = converted(Some(StorageType::F32));
        let [halves, brains] = [StorageType::F16, StorageType::BF16]
            .map(Some)
            .map(converted);
        assert!(floats.keys().all(|key| !key.ends_with(SCALE)));
        for (key, scales) in small.iter().filter(|(key, _)| key.ends_with(SCALE)) {
            let key = key.strip_suffix(SCALE).unwrap();
            let scales = scales.values();
            let shape = &small[key].shape;
            let integers = integers(&small[key]).into_iter().enumerate();
            let expected: Vec<f32> = integers
                .map(|(i, integer)| integer * scales[channel(key, shape, i)])
                .collect();
            assert_eq!(floats[key].values(), expected, "{key}");
            assert_eq!(
                (halves[key].dtype, brains[key].dtype),
                (Dtype::F16, Dtype::BF16)
            );
            assert!(difference(&halves[key].values(), &expected) < 1e-3);
            assert!(difference(&brains[key].values(), &expected) < 1e-2);
        }
    }
}

/// Integers that were made from floating point are found again.
#[test]
fn a_second_rounding_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (once, metadata) = files::converted("sam_vit.pth", StorageType::I8);
    let path = files::write(dir.path(), &once, Some(metadata));
    let out = dir.path().join("out.safetensors");
    for storage in [StorageType::F32, StorageType::I8] {
        Checkpoint::open(&path)
            .unwrap()
            .convert(&out, Some(storage))
            .unwrap();
        std::fs::copy(&out, &path).unwrap();
    }
    let twice = files::read(&path).0;
    for (key, tensor) in &once {
        if key.ends_with(SCALE) {
            assert!(
                difference(&twice[key].values(), &tensor.values()) < 1e-6,
                "{key}"
            );
        } else {
            assert_eq!(&twice[key], tensor, "{key}");
        }
    }
}

#[test]
fn a_model_is_saved_as_it_is_converted() {
    let dir = tempfile::tempdir().unwrap();
    let (saved, converted) = (dir.path().join("saved"), dir.path().join("converted"));
    for name in ["sam_vit.pth", "sam2_video.safetensors"] {
        let source = Checkpoint::open(golden(name)).unwrap();
        let (model, config) = (
            Model::load(&source, &Device::flex()).unwrap(),
            source.config().unwrap(),
        );
        let save = |storage, out: &Path| {
            save_model(&model, &config, &BTreeMap::new(), &[], storage, out).unwrap();
        };
        save(StorageType::I8, &saved);
        let floats = dir.path().join("floats");
        save(StorageType::F32, &floats);
        let floats = Checkpoint::open(floats).unwrap();
        floats.convert(&converted, Some(StorageType::I8)).unwrap();
        assert_eq!(files::read(&saved), files::read(&converted));
    }
}

#[test]
fn bytes_in_the_program_and_wrapped_weights_load() {
    let dir = tempfile::tempdir().unwrap();
    let path = files::write(dir.path(), &small(), None);
    let expected = answers(&load(&path).unwrap());
    let bytes: &'static [u8] = Box::leak(std::fs::read(&path).unwrap().into());
    let embedded = Checkpoint::embedded("small", bytes).unwrap();
    assert_eq!(
        answers(&Model::load(&embedded, &Device::flex()).unwrap()),
        expected
    );

    let wrapped = small().into_iter();
    let wrapped = wrapped.map(|(key, tensor)| (format!("model.{key}"), tensor));
    let path = files::write(dir.path(), &wrapped.collect(), None);
    assert_eq!(answers(&load(&path).unwrap()), expected);
}

#[test]
fn a_channel_of_zeros_stays_zero() {
    let mut tensors = sam_vit();
    let weight = tensors.get_mut(LINEAR).unwrap();
    let width = weight.shape[1] * 4;
    weight.data[3 * width..4 * width].fill(0);
    let dir = tempfile::tempdir().unwrap();
    let path = files::write(dir.path(), &tensors, None);
    Checkpoint::open(&path)
        .unwrap()
        .convert(&path, Some(StorageType::I8))
        .unwrap();
    let (stored, _) = files::read(&path);
    assert_eq!(stored[&format!("{LINEAR}{SCALE}")].values()[3], 0.0);
    Checkpoint::open(&path)
        .unwrap()
        .convert(&path, Some(StorageType::F32))
        .unwrap();
    let (floats, _) = files::read(&path);
    let row = &floats[LINEAR].values()[3 * 16..4 * 16];
    assert!(row.iter().all(|value| *value == 0.0));
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    for (value, word) in [
        (f32::NAN, "NaN"),
        (f32::INFINITY, "inf"),
        (f32::NEG_INFINITY, "-inf"),
    ] {
        let mut tensors = sam_vit();
        tensors.get_mut(LINEAR).unwrap().data[400..404].copy_from_slice(&value.to_le_bytes());
        let dir = tempfile::tempdir().unwrap();
        let path = files::write(dir.path(), &tensors, None);
        let out = dir.path().join("out.safetensors");
        let checkpoint = Checkpoint::open(&path).unwrap();
        let message = refusal(&path, checkpoint.convert(&out, Some(StorageType::I8)));
        assert_eq!(
            message,
            format!("key {LINEAR} holds {word}, which int8 cannot")
        );
        assert!(!out.exists());
    }
}

/// What opening and loading these tensors is refused with, after the file's name.
fn verdict(tensors: &Tensors) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = files::write(dir.path(), tensors, None);
    refusal(&path, load(&path))
}

#[test]
fn scales_that_do_not_fit_are_refused() {
    for key in [LINEAR, UPSCALING] {
        let scale = format!("{key}{SCALE}");
        let mut tensors = small();
        let scales = tensors.remove(&scale).unwrap();
        let missing = format!("key {key} is int8, but {scale} is missing");
        assert_eq!(verdict(&tensors), missing);

        let count = scales.shape[0];
        for wrong in [
            Stored::zeros(Dtype::F32, &[count + 1]),
            Stored::zeros(Dtype::F32, &[count, 1]),
            Stored::zeros(Dtype::F32, &[]),
            Stored::zeros(Dtype::F32, &[0]),
            Stored::zeros(Dtype::F16, &[count]),
            Stored::zeros(Dtype::I8, &[count]),
        ] {
            let found = format!("{:?} {:?}", wrong.dtype, wrong.shape);
            tensors.insert(scale.clone(), wrong);
            let expected = format!("key {scale} is {found}, not F32 [{count}]");
            assert_eq!(verdict(&tensors), expected);
        }
    }
    // The input channels of the transposed convolution.
    let mut tensors = small();
    assert_eq!(tensors[UPSCALING].shape, [32, 8, 2, 2]);
    tensors.insert(
        format!("{UPSCALING}{SCALE}"),
        Stored::zeros(Dtype::F32, &[32]),
    );
    assert!(verdict(&tensors).ends_with("is F32 [32], not F32 [8]"));
}

#[test]
fn scales_that_are_no_scales_are_refused() {
    let scale = format!("{LINEAR}{SCALE}");
    for (value, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (-0.5, "-0.5")] {
        let mut tensors = small();
        let scales = tensors.get_mut(&scale).unwrap();
        scales.data[8..12].copy_from_slice(&value.to_le_bytes());
        let message = verdict(&tensors);
        let reason = format!("a scale in {scale} is {word}");
        assert!(
            message.contains("1 key unreadable (") && message.contains(&reason),
            "{message}"
        );

        let dir = tempfile::tempdir().unwrap();
        let path = files::write(dir.path(), &tensors, None);
        let out = dir.path().join("out.safetensors");
        let checkpoint = Checkpoint::open(&path).unwrap();
        let message = refusal(&path, checkpoint.convert(&out, Some(StorageType::F32)));
        assert!(message.contains(&reason) && !out.exists(), "{message}");
    }
}

#[test]
fn scales_without_integers_and_integers_of_one_dimension_are_refused() {
    let scale = format!("{LINEAR}{SCALE}");
    let mut tensors = small();
    let integers = tensors.remove(LINEAR).unwrap();
    let alone = format!("key {scale} belongs to no int8 tensor");
    assert_eq!(verdict(&tensors), alone);
    tensors.insert(LINEAR.into(), Stored::zeros(Dtype::F32, &integers.shape));
    assert_eq!(verdict(&tensors), alone);

    let bias = "image_encoder.blocks.0.mlp.lin1.bias";
    let mut tensors = small();
    tensors.insert(bias.into(), Stored::zeros(Dtype::I8, &[64]));
    let flat = format!("key {bias} is int8, but has the shape [64]");
    assert_eq!(verdict(&tensors), flat);
    tensors.insert(format!("{bias}{SCALE}"), Stored::zeros(Dtype::F32, &[64]));
    assert_eq!(verdict(&tensors), flat);
}

#[test]
fn a_shorter_file_never_opens() {
    let dir = tempfile::tempdir().unwrap();
    let path = files::write(dir.path(), &small(), None);
    let bytes = std::fs::read(&path).unwrap();
    for length in (0..40)
        .map(|part| part * bytes.len() / 40)
        .chain([bytes.len() - 1])
    {
        std::fs::write(&path, &bytes[..length]).unwrap();
        refusal(&path, Checkpoint::open(&path).map(|_| length));
    }
    // One that shrinks once it is open.
    std::fs::write(&path, &bytes).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(bytes.len() as u64 / 2).unwrap();
    let message = refusal(&path, Model::load(&checkpoint, &Device::flex()));
    assert!(message.contains("unreadable ("), "{message}");
}
