//! The parts of SAM 2 against the official code, piece by piece, with random weights.
//! `tests/golden/model_references.py small` made the files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use burn_store::{ModuleSnapshot, PyTorchToBurnAdapter, SafetensorsStore};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use samara_model::sam::{
    ImageTokens, MaskDecoderConfig, PromptEmbeddings, TwoWayTransformerConfig,
};
use samara_model::sam2::{
    FpnNeckConfig, HieraConfig, MaskDecoder, Memories, MemoryAttentionConfig, MemoryEncoderConfig,
};

/// Relative L2 error that rounding explains.
const TOLERANCE: f32 = 2e-5;

fn golden(name: &str) -> PathBuf {
    let folder = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/golden");
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

/// Loads a module from the tensors of a file whose names begin with `prefix`, changed by `names`.
fn load<M: ModuleSnapshot>(module: &mut M, file: &str, prefix: &str, names: &[(&str, &str)]) {
    let weights = tensors(file);
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
        .with_key_remapping(format!("^{prefix}"), "")
        .allow_partial(true);
    for (official, ours) in names {
        store = store.with_key_remapping(*official, *ours);
    }
    let loaded = module.load_from(&mut store).unwrap();
    assert!(loaded.missing.is_empty(), "{:?}", loaded.missing);
    assert!(loaded.errors.is_empty(), "{:?}", loaded.errors);
}

fn read<const D: usize>(file: &str, name: &str) -> Tensor<D> {
    let all = tensors(file).into_iter();
    let (_, shape, values) = all.into_iter().find(|(n, ..)| n == name).unwrap();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

#[track_caller]
fn assert_close<const D: usize>(what: &str, actual: Tensor<D>, expected: &Tensor<D>) {
    assert_eq!(actual.dims(), expected.dims(), "{what}");
    let squared = |x: Tensor<D>| -> f32 { x.powi_scalar(2).sum().into_scalar() };
    let error = (squared(actual - expected.clone()) / squared(expected.clone())).sqrt();
    assert!(error <= TOLERANCE, "{what}: relative L2 error {error:e}");
}

/// Channels last.
fn last(x: Tensor<4>) -> Tensor<4> {
    x.permute([0, 2, 3, 1])
}

#[test]
fn the_encoder_agrees_stage_by_stage() {
    let device = Device::flex();
    let config = HieraConfig::new(8, 1, [1, 2, 3, 2], vec![4], 7, [8, 4, 6, 3]);
    let mut trunk = config.init(&device);
    load(&mut trunk, "sam2_encoder.safetensors", r"trunk\.", &[]);
    let neck = FpnNeckConfig::new(config.channels()).with_d_model(32);
    let mut neck = neck.init(&device);
    load(&mut neck, "sam2_encoder.safetensors", r"neck\.", &[]);

    let expected = |name: &str| read("sam2_encoder.expected.safetensors", name);
    let stages = trunk.forward(read("pixels.safetensors", "pixels"));
    for (i, stage) in stages.iter().enumerate() {
        let name = format!("stage.{i}");
        assert_close(&name, stage.clone(), &last(expected(&name)));
    }
    for (i, level) in neck.forward(&stages).into_iter().enumerate() {
        let name = format!("level.{i}");
        assert_close(&name, level, &last(expected(&name)));
    }
}

#[test]
fn the_decoder_agrees() {
    let device = Device::flex();
    let transformer = TwoWayTransformerConfig::new()
        .with_embedding_dim(32)
        .with_mlp_dim(64);
    let config = MaskDecoderConfig::new(transformer).with_iou_head_hidden_dim(32);
    let mut decoder = MaskDecoder::new(&config, &device);
    let names = [
        (r"output_upscaling\.0", "output_upscaling.conv1"),
        (r"output_upscaling\.1", "output_upscaling.norm"),
        (r"output_upscaling\.3", "output_upscaling.conv2"),
    ];
    load(&mut decoder, "sam2_decoder.safetensors", "", &names);

    let file = "sam2_decoder.expected.safetensors";
    let image = |name: &str| last(read(file, name));
    // Levels that are made already, as by convolutions that change nothing.
    let level = |name: &str| {
        let level = image(name);
        let channels = level.dims()[3];
        let weight = Tensor::<2>::eye(channels, &device).reshape([channels, channels, 1, 1]);
        (level, (weight, Tensor::zeros([channels], &device)))
    };
    let high_res = decoder.high_res_features([level("stride8"), level("stride4")]);
    let pe = read::<4>(file, "image_pe")
        .flatten::<3>(2, 3)
        .swap_dims(1, 2);
    let prompts = PromptEmbeddings {
        sparse: Some(read(file, "sparse")),
        dense: read(file, "dense"),
    };
    let cells = ImageTokens::new(image("image_embedding"), prompts.dense.clone(), pe);
    let found = decoder.score(&cells, &prompts, 3);
    let again = decoder.score(&decoder.project(cells), &prompts, 3);
    assert_close(
        "iou, projected",
        again.masks.iou.clone(),
        &read(file, "iou"),
    );
    let logits = decoder.decode_masks(&again.masks, high_res.clone(), &[0, 1, 2]);
    assert_close("logits, projected", logits, &read(file, "low_res_logits"));
    let logits = decoder.decode_masks(&found.masks, high_res, &[0, 1, 2]);
    assert_close("logits", logits, &read(file, "low_res_logits"));
    assert_close("iou", found.masks.iou, &read(file, "iou"));
    assert_close("mask tokens", found.mask_tokens, &read(file, "mask_tokens"));
    assert_close(
        "object score",
        found.object_score,
        &read(file, "object_score"),
    );
}

#[test]
fn the_memory_agrees() {
    let device = Device::flex();
    let (weights, file) = (
        "sam2_memory.safetensors",
        "sam2_memory.expected.safetensors",
    );
    let mut encoder = MemoryEncoderConfig::new()
        .with_in_dim(32)
        .with_out_dim(16)
        .init(&device);
    let names = [
        (r"encoder\.0\.", "convs.0."),
        (r"encoder\.1\.", "norms.0."),
        (r"encoder\.3\.", "convs.1."),
        (r"encoder\.4\.", "norms.1."),
        (r"encoder\.6\.", "convs.2."),
        (r"encoder\.7\.", "norms.2."),
        (r"encoder\.9\.", "convs.3."),
        (r"encoder\.10\.", "norms.3."),
        (r"encoder\.12\.", "proj."),
    ];
    load(&mut encoder, weights, r"encoder\.", &names);
    let memory = encoder.forward(
        last(read(file, "image_embedding")),
        last(read(file, "mask")),
    );
    assert_close("memory", memory, &last(read(file, "memory")));

    let mut attention = MemoryAttentionConfig::new()
        .with_d_model(32)
        .with_kv_in_dim(16)
        .with_dim_feedforward(48)
        .with_num_layers(2)
        .init(&device);
    load(&mut attention, weights, r"attention\.", &[]);
    let tokens = |name| read::<3>(file, name).swap_dims(0, 1);
    let memories = Memories {
        tokens: tokens("tokens"),
        positions: tokens("tokens_pos"),
        pointers: 3,
    };
    let conditioned = attention.forward(tokens("frame"), tokens("frame_pos"), &memories);
    assert_close("conditioned", conditioned, &tokens("conditioned"));
}
