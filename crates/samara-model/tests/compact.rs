//! The small model: shapes, batches, files, and what its configuration refuses.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use burn::tensor::{Device, Distribution, Tensor};
use safetensors::Dtype;
use samara_model::checkpoint::{Checkpoint, StorageType, save_model};
use samara_model::compact::CompactConfig;
use samara_model::sam::{DecodedMasks, PromptBatch};
use samara_model::{Model, ModelConfig, burn};

fn config() -> ModelConfig {
    ModelConfig::Compact(
        CompactConfig::new()
            .with_img_size(128)
            .with_embed_dim(32)
            .with_num_heads(2),
    )
}

fn model(device: &Device) -> Model {
    device.seed(7);
    config().init(device)
}

fn pixels(side: usize, device: &Device) -> Tensor<4> {
    Tensor::random([1, 3, side, side], Distribution::Normal(0.0, 1.0), device)
}

fn points(points: &[[f32; 3]], device: &Device) -> PromptBatch {
    let coords: Vec<f32> = points.iter().flat_map(|&[x, y, _]| [x, y]).collect();
    let labels: Vec<f32> = points.iter().map(|p| p[2]).collect();
    let coords = Tensor::<1>::from_floats(&coords[..], device).reshape([1, points.len(), 2]);
    let labels = Tensor::<1>::from_floats(&labels[..], device).reshape([1, points.len()]);
    PromptBatch {
        points: Some((coords, labels)),
        ..PromptBatch::default()
    }
}

fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.clone().into_data().try_into_vec().unwrap()
}

fn largest_difference(a: &DecodedMasks, b: &DecodedMasks) -> f32 {
    let logits = values(&a.low_res_logits)
        .into_iter()
        .zip(values(&b.low_res_logits));
    let scores = values(&a.iou).into_iter().zip(values(&b.iou));
    logits
        .chain(scores)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

#[test]
fn features_have_the_shapes_that_the_configuration_tells() {
    let device = Device::flex();
    // Any multiple of 32 will do.
    for side in [128, 160] {
        let features = model(&device).encode_image(pixels(side, &device));
        let shapes: Vec<[usize; 4]> = features.tensors().iter().map(Tensor::dims).collect();
        assert_eq!(shapes, config().feature_shapes(side));
    }
}

#[test]
fn a_batch_answers_as_its_prompts_do_alone() {
    let device = Device::flex();
    let model = model(&device);
    let features = model.encode_image(pixels(128, &device));
    let (a, b) = ([20.0, 30.0, 1.0], [90.0, 60.0, 0.0]);
    let alone = model.decode(&features, &points(&[a], &device));
    assert_eq!(alone.low_res_logits.dims(), [1, 4, 32, 32]);
    assert!(values(&alone.iou).iter().all(|&iou| iou > 0.0 && iou < 1.0));

    let coords = Tensor::<1>::from_floats([20.0, 30.0, 90.0, 60.0], &device);
    let labels = Tensor::<1>::from_floats([1.0, 0.0], &device);
    let both = PromptBatch {
        points: Some((coords.reshape([2, 1, 2]), labels.reshape([2, 1]))),
        ..PromptBatch::default()
    };
    let both = model.decode(&features, &both);
    let other = model.decode(&features, &points(&[b], &device));
    let expected = DecodedMasks {
        low_res_logits: Tensor::cat(vec![alone.low_res_logits.clone(), other.low_res_logits], 0),
        iou: Tensor::cat(vec![alone.iou.clone(), other.iou], 0),
    };
    assert!(largest_difference(&both, &expected) < 1e-4);
    // And they differ from each other: the click is looked at.
    let first = both.low_res_logits.clone().slice(0..1);
    let second = both.low_res_logits.slice(1..2);
    assert!((first - second).abs().mean().into_scalar::<f32>() > 1e-3);
}

#[test]
fn a_box_and_its_corners_as_points_are_the_same() {
    let device = Device::flex();
    let model = model(&device);
    let features = model.encode_image(pixels(128, &device));
    let boxed = PromptBatch {
        boxes: Some(Tensor::from_floats([[10.0, 20.0, 100.0, 110.0]], &device)),
        ..PromptBatch::default()
    };
    let corners = points(&[[10.0, 20.0, 2.0], [100.0, 110.0, 3.0]], &device);
    let boxed = model.decode(&features, &boxed);
    let corners = model.decode(&features, &corners);
    assert!(largest_difference(&boxed, &corners) < 1e-5);
}

#[test]
fn a_saved_model_is_the_same_model() {
    let device = Device::flex();
    let model = model(&device);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("compact.safetensors");
    let note = BTreeMap::from([("samara.step".to_owned(), "3".to_owned())]);
    save_model(&model, &config(), &note, &[], StorageType::F32, &path).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let info = checkpoint.info().unwrap();
    assert_eq!(info.architecture, "compact");
    assert_eq!(info.metadata["samara.step"], "3");
    let loaded = checkpoint.load(&device).unwrap();
    let features = model.encode_image(pixels(128, &device));
    let prompt = points(&[[64.0, 64.0, 1.0]], &device);
    let difference = largest_difference(
        &model.decode(&features, &prompt),
        &loaded.decode(&features, &prompt),
    );
    assert_eq!(difference, 0.0);
}

/// Its depthwise convolutions are too small to become integers.
#[test]
fn a_model_saved_as_int8_is_nearly_the_same_model() {
    let device = Device::flex();
    let model = model(&device);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("compact.safetensors");
    let (note, storage) = (BTreeMap::new(), StorageType::I8);
    save_model(&model, &config(), &note, &[], storage, &path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let depthwise = "neck.block16.dwconv.weight";
    assert_eq!(file.tensor(depthwise).unwrap().dtype(), Dtype::F32);
    let integers = file.tensors().into_iter();
    assert!(integers.filter(|(_, t)| t.dtype() == Dtype::I8).count() > 10);

    let loaded = Checkpoint::open(&path).unwrap().load(&device).unwrap();
    let prompt = points(&[[64.0, 64.0, 1.0]], &device);
    let image = pixels(128, &device);
    let decode = |model: &Model| {
        let features = model.encode_image(image.clone());
        model.decode(&features, &prompt).low_res_logits
    };
    let (expected, actual) = (decode(&model), decode(&loaded));
    let norm = |x: Tensor<4>| x.powi_scalar(2).sum().sqrt().into_scalar::<f32>();
    let error = norm(actual - expected.clone()) / norm(expected);
    assert!(error > 0.0 && error < 5e-2, "{error}");
}

#[test]
fn impossible_configurations_are_refused() {
    let refused = |config: CompactConfig| config.validate().unwrap_err().to_string();
    assert!(refused(CompactConfig::new().with_img_size(500)).contains("img_size 500"));
    assert!(refused(CompactConfig::new().with_embed_dim(155)).contains("embed_dim 155"));
    assert!(refused(CompactConfig::new().with_num_heads(0)).contains("heads"));
    assert!(refused(CompactConfig::new().with_depth(0)).contains("depth 0"));
    assert!(refused(CompactConfig::new().with_num_mask_tokens(1)).contains("num_mask_tokens 1"));
    assert!(CompactConfig::new().validate().is_ok());
}

#[test]
fn tokens_look_at_the_whole_grid_and_nothing_else() {
    let device = Device::flex();
    let model = model(&device);
    let features = model.encode_image(pixels(128, &device));
    let click = points(&[[20.0, 30.0, 1.0], [90.0, 60.0, 0.0]], &device);
    let boxed = PromptBatch {
        boxes: Some(Tensor::from_floats([[10.0, 20.0, 100.0, 110.0]], &device)),
        ..click.clone()
    };
    let masked = PromptBatch {
        masks: Some(Tensor::zeros([1, 1, 32, 32], &device)),
        ..PromptBatch::default()
    };
    let cases = [
        (click, "point 0, point 1"),
        (boxed, "point 0, point 1, corner 0, corner 1"),
        (masked, "padding"),
    ];
    for (prompts, names) in cases {
        let attention = model.token_attention(&features, &prompts);
        let tokens: Vec<String> = attention.tokens.iter().map(ToString::to_string).collect();
        assert_eq!(tokens[..2], ["iou", "mask 0"]);
        assert_eq!(tokens[5..].join(", "), names);
        let [layers, batch, heads, count, rows, columns] = attention.weights.dims();
        assert_eq!([layers, batch, heads], [3, 1, 2]);
        assert_eq!([count, rows, columns], [tokens.len(), 8, 8]);
        let sums = values(&attention.weights.sum_dim(5).sum_dim(4));
        assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-5));
    }
}
