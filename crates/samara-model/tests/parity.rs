//! Layer-by-layer parity with the official PyTorch code on small, fully randomised models.
//! `tests/golden/model_references.py small` made the files.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::HashMap;
use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};
use samara_model::checkpoint::{Checkpoint, Naming};
use samara_model::sam::{ImageEncoder, ImageEncoderConfig, PromptBatch, Sam, SamConfig};
use samara_model::{ImageFeatures, Model};

/// Relative L2 error that rounding explains; the official code differs from itself by about
/// 1e-6 between thread counts.
const TOLERANCE: f32 = 2e-5;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .join("tests/golden")
        .join(name)
}

/// Expected tensors by name.
struct Expected(HashMap<String, TensorData>);

impl Expected {
    fn read(name: &str) -> Self {
        let bytes = std::fs::read(golden(name)).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let data = |view: &safetensors::tensor::TensorView<'_>| {
            let values: Vec<f32> = match view.dtype() {
                Dtype::F32 => chunks(view.data()).map(f32::from_le_bytes).collect(),
                Dtype::F16 => chunks(view.data())
                    .map(|b| half::f16::from_le_bytes(b).to_f32())
                    .collect(),
                other => panic!("{other:?}"),
            };
            TensorData::new(values, view.shape().to_vec())
        };
        Self(
            file.iter()
                .map(|(name, view)| (name.to_owned(), data(&view)))
                .collect(),
        )
    }

    fn get<const D: usize>(&self, name: &str) -> Option<Tensor<D>> {
        let data = self.0.get(name)?.clone();
        Some(Tensor::from_data(data, &Device::flex()))
    }

    fn cases(&self) -> Vec<String> {
        let case = |name: &String| Some(name.strip_prefix("case.")?.split('.').next()?.to_owned());
        let mut cases: Vec<String> = self.0.keys().filter_map(case).collect();
        cases.sort();
        cases.dedup();
        cases
    }
}

fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.chunks_exact(N).map(|c| c.try_into().unwrap())
}

#[track_caller]
fn assert_close<const D: usize>(what: &str, actual: &Tensor<D>, expected: &Tensor<D>) {
    assert_eq!(actual.dims(), expected.dims(), "{what}: shape");
    let difference: f32 = (actual.clone() - expected.clone())
        .powi_scalar(2)
        .sum()
        .into_scalar();
    let norm: f32 = expected.clone().powi_scalar(2).sum().into_scalar();
    let error = (difference / norm).sqrt();
    assert!(error <= TOLERANCE, "{what}: relative L2 error {error:e}");
}

/// Runs every golden case of `name` through the loaded model.
fn check(sam: &Sam, expected: &Expected) {
    let pixels = Expected::read("pixels.safetensors")
        .get::<4>("pixels")
        .unwrap();
    check_layers(sam.image_encoder(), expected, &pixels);
    let embedding = sam.encode_image(pixels);
    assert_close(
        "image_embedding",
        &embedding.clone().permute([0, 3, 1, 2]),
        &expected.get("image_embedding").unwrap(),
    );
    assert_close(
        "image_pe",
        &sam.image_pe(),
        &expected
            .get::<4>("image_pe")
            .unwrap()
            .flatten::<3>(2, 3)
            .swap_dims(1, 2),
    );

    let cases = expected.cases();
    assert_eq!(
        cases,
        [
            "batch",
            "box",
            "box_points",
            "mask",
            "point",
            "point_mask",
            "points"
        ]
    );
    for case in cases {
        let name = |field: &str| format!("case.{case}.{field}");
        let prompts = prompts(expected, &case);
        let embedded = sam.encode_prompts(&prompts);
        if let Some(sparse) = expected.get::<3>(&name("sparse")) {
            assert_close(&name("sparse"), &embedded.sparse.unwrap(), &sparse);
        }
        if let Some(dense) = expected.get::<4>(&name("dense")) {
            assert_close(&name("dense"), &embedded.dense, &dense);
        }
        if prompts.masks.is_none() {
            let shared = sam.image_tokens(embedding.clone());
            let scored = sam.score(embedding.clone(), &prompts, Some(&shared));
            let expected = expected.get(&name("iou")).unwrap();
            assert_close(&name("iou, shared cells"), &scored.iou, &expected);
        }
        let decoded = sam.decode(embedding.clone(), &prompts);
        assert_close(
            &name("iou"),
            &decoded.iou,
            &expected.get(&name("iou")).unwrap(),
        );
        let logits = decoded.low_res_logits;
        match expected.get::<4>(&name("low_res_logits")) {
            Some(expected) => assert_close(&name("low_res_logits"), &logits, &expected),
            // The batch keeps every fifth pixel only.
            None => assert_close(
                &name("low_res_logits"),
                &logits.slice(burn::tensor::s![.., .., ..;5, ..;5]),
                &expected.get(&name("low_res_logits_every5")).unwrap(),
            ),
        }
    }
}

/// The prompts of a case.
fn prompts(expected: &Expected, case: &str) -> PromptBatch {
    let name = |field: &str| format!("case.{case}.{field}");
    PromptBatch {
        points: expected
            .get::<3>(&name("points"))
            .map(|points| (points, expected.get(&name("labels")).unwrap())),
        boxes: expected.get(&name("boxes")),
        masks: expected.get(&name("mask_input")),
    }
}

fn check_layers(encoder: &ImageEncoder, expected: &Expected, pixels: &Tensor<4>) {
    match encoder {
        ImageEncoder::ViT(encoder) => {
            for (i, layer) in encoder.layers(pixels.clone()).iter().enumerate() {
                let name = if i == 0 {
                    "patch_embed".into()
                } else {
                    format!("block.{}", i - 1)
                };
                if let Some(expected) = expected.get::<4>(&name) {
                    assert_close(&name, layer, &expected);
                }
            }
        }
        ImageEncoder::TinyViT(encoder) => {
            let layers = encoder.layers(pixels.clone());
            assert_close(
                "patch_embed",
                &layers[0].clone().permute([0, 3, 1, 2]),
                &expected.get("patch_embed").unwrap(),
            );
            for (i, layer) in layers[1..].iter().enumerate() {
                let name = format!("layer.{i}");
                let tokens = layer.clone().flatten::<3>(1, 2);
                assert_close(&name, &tokens, &expected.get(&name).unwrap());
            }
        }
    }
}

#[test]
fn sam_vit_equals_segment_anything() {
    let checkpoint = Checkpoint::open(golden("sam_vit.pth")).unwrap();
    let SamConfig {
        image_encoder: ImageEncoderConfig::ViT(vit),
        ..
    } = checkpoint.config().unwrap().into_sam().unwrap()
    else {
        panic!("not recognised as a ViT");
    };
    assert_eq!(vit.windows, [3, 0, 3, 0]);
    assert_eq!((vit.img_size, vit.num_heads), (128, 2));
    let sam = Model::load(&checkpoint, &Device::flex()).unwrap();
    let sam = sam.into_sam().unwrap();
    check(&sam, &Expected::read("sam_vit.expected.safetensors"));
}

#[test]
fn transformers_names_give_the_same_model() {
    let checkpoint = Checkpoint::open(golden("sam_hf.safetensors")).unwrap();
    assert_eq!(checkpoint.info().unwrap().naming, Naming::Transformers);
    let sam = Model::load(&checkpoint, &Device::flex()).unwrap();
    let sam = sam.into_sam().unwrap();
    check(&sam, &Expected::read("sam_hf.expected.safetensors"));
}

#[test]
fn mobile_sam_equals_mobile_sam() {
    let checkpoint = Checkpoint::open(golden("mobile_sam.pth")).unwrap();
    let mut config = checkpoint.config().unwrap().into_sam().unwrap();
    let ImageEncoderConfig::TinyViT(tiny) = &config.image_encoder else {
        panic!("not recognised as a TinyViT");
    };
    assert_eq!(tiny.embed_dims, [8, 8, 16, 16]);
    assert_eq!(tiny.window_sizes[1..], [7, 14, 7]);
    // The weights of a TinyViT do not tell the size of the input.
    config.prompt_encoder.img_size = 128;
    config.prompt_encoder.grid = 8;
    let sam = Model::load_with(&checkpoint, &config.into(), &Device::flex()).unwrap();
    let sam = sam.into_sam().unwrap();
    check(&sam, &Expected::read("mobile_sam.expected.safetensors"));
}

#[test]
fn tokens_look_at_the_image_as_in_segment_anything() {
    let model = Checkpoint::open(golden("sam_vit.pth")).unwrap();
    let model = Model::load(&model, &Device::flex()).unwrap();
    let known = Expected::read("sam_vit.expected.safetensors");
    let expected = Expected::read("sam_vit.attention.safetensors");
    let embedding = known.get::<4>("image_embedding").unwrap();
    let features = ImageFeatures {
        image_embed: embedding.permute([0, 2, 3, 1]),
        high_res_feats: Vec::new(),
    };
    let cases = [
        ("point", "point 0, padding"),
        ("points", "point 0, point 1, point 2, padding"),
        (
            "box_points",
            "point 0, point 1, point 2, corner 0, corner 1",
        ),
        ("mask", ""),
    ];
    for (case, names) in cases {
        let attention = model.token_attention(&features, &prompts(&known, case));
        let name = format!("case.{case}.attention");
        assert_close(&name, &attention.weights, &expected.get(&name).unwrap());
        let own = ["iou", "mask 0", "mask 1", "mask 2", "mask 3"].map(String::from);
        let tokens: Vec<String> = attention.tokens.iter().map(ToString::to_string).collect();
        assert_eq!(tokens[..5], own);
        assert_eq!(tokens[5..].join(", "), names);
    }
}
