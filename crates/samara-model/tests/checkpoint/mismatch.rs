//! Tensors that do not fit the model: the message names them as the official code does.

use std::path::Path;

use burn::tensor::Device;
use safetensors::Dtype;
use samara_model::Model;
use samara_model::checkpoint::{Checkpoint, CheckpointError, StorageType};

use crate::files::{self, Stored, Tensors, golden, load, refusal, sam_vit};

const FIT: &str = "does not fit sam-vit (width 16, 4 blocks): ";

/// What loading these tensors is refused with, after the file's name.
fn verdict(tensors: &Tensors) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = files::write(dir.path(), tensors, None);
    refusal(&path, load(&path))
}

fn without(tensors: &Tensors, keys: &[&str]) -> Tensors {
    let mut tensors = tensors.clone();
    for key in keys {
        assert!(tensors.remove(*key).is_some(), "{key}");
    }
    tensors
}

fn zeros(shape: &[usize]) -> Stored {
    Stored::zeros(Dtype::F32, shape)
}

/// Whatever key is lost, it is named; all but a few, which tell the architecture, with its model.
fn every_lost_key_is_named(name: &str, fit: &str) {
    let (tensors, _) = files::converted(name, StorageType::F32);
    let needed = tensors.keys().filter(|key| !is_unused_by_design(key));
    let mut told_otherwise = Vec::new();
    for key in needed {
        let message = verdict(&without(&tensors, &[key]));
        if message != format!("{fit}1 key missing ({key})") {
            assert!(message.contains(key), "{key}: {message}");
            told_otherwise.push(key);
        }
    }
    assert!(told_otherwise.len() <= 4, "{told_otherwise:?}");
}

fn is_unused_by_design(key: &str) -> bool {
    let heads = ["image_encoder.norm_head.", "image_encoder.head."];
    let tables = [".num_batches_tracked", ".attention_bias_idxs"];
    heads.iter().any(|head| key.starts_with(head)) || tables.iter().any(|t| key.ends_with(t))
}

#[test]
fn every_lost_key_of_sam_is_named() {
    every_lost_key_is_named("sam_vit.pth", FIT);
}

#[test]
fn every_lost_key_of_mobile_sam_is_named() {
    let fit = "does not fit sam-tinyvit (widths [8, 8, 16, 16]): ";
    every_lost_key_is_named("mobile_sam.pth", fit);
}

#[test]
fn several_lost_keys_are_counted_and_the_first_are_named() {
    let tensors = sam_vit();
    let lost = [
        "image_encoder.blocks.1.norm1.weight",
        "image_encoder.blocks.1.norm1.bias",
        "image_encoder.neck.0.weight",
        "image_encoder.neck.3.bias",
        "mask_decoder.output_upscaling.1.weight",
        "mask_decoder.transformer.norm_final_attn.bias",
    ];
    let expected = "6 keys missing (image_encoder.blocks.1.norm1.bias, \
                    image_encoder.blocks.1.norm1.weight, image_encoder.neck.0.weight, …)";
    assert_eq!(
        verdict(&without(&tensors, &lost)),
        format!("{FIT}{expected}")
    );
}

/// Also when the keys that tell a size are among them.
#[test]
fn a_lost_module_is_counted_whole() {
    for lost in [
        "prompt_encoder.",
        "mask_decoder.",
        "image_encoder.blocks.2.",
    ] {
        let (lost, kept): (Tensors, Tensors) = sam_vit()
            .into_iter()
            .partition(|(key, _)| key.starts_with(lost));
        let first: Vec<String> = lost.keys().take(3).cloned().collect();
        let expected = format!("{} keys missing ({}, …)", lost.len(), first.join(", "));
        assert_eq!(verdict(&kept), format!("{FIT}{expected}"));
    }
}

#[test]
fn unused_keys_are_named() {
    let mut tensors = sam_vit();
    tensors.insert("mask_decoder.extra.weight".into(), zeros(&[1]));
    let expected = format!("{FIT}1 key not used (mask_decoder.extra.weight)");
    assert_eq!(verdict(&tensors), expected);

    tensors.insert("image_encoder.extra".into(), zeros(&[1]));
    let expected = "2 keys not used (image_encoder.extra, mask_decoder.extra.weight)";
    assert_eq!(verdict(&tensors), format!("{FIT}{expected}"));
}

/// The names of our modules are not the file's business.
#[test]
fn the_path_of_a_module_is_not_an_official_name() {
    let mut tensors = sam_vit();
    let norm = tensors["image_encoder.neck.1.weight"].clone();
    tensors.insert("image_encoder.neck.norm1.weight".into(), norm);
    let expected = "1 key not used (image_encoder.neck.norm1.weight)";
    assert_eq!(verdict(&tensors), format!("{FIT}{expected}"));

    let mut tensors = sam_vit();
    tensors.insert("image_encoder.blocks.0.extra.gamma".into(), zeros(&[1]));
    let expected = "1 key not used (image_encoder.blocks.0.extra.gamma)";
    assert_eq!(verdict(&tensors), format!("{FIT}{expected}"));
}

#[test]
fn wrong_shapes_are_shown_as_they_are_in_the_file() {
    for (key, shape, found, model) in [
        (
            "image_encoder.blocks.0.norm1.weight",
            &[17][..],
            "[17]",
            "[16]",
        ),
        (
            "image_encoder.neck.2.weight",
            &[32, 32, 1, 1],
            "[32, 32, 1, 1]",
            "[32, 32, 3, 3]",
        ),
        (
            "image_encoder.blocks.1.attn.qkv.weight",
            &[48, 8],
            "[48, 8]",
            "[48, 16]",
        ),
        (
            "image_encoder.blocks.1.attn.qkv.weight",
            &[48],
            "[48]",
            "[48, 16]",
        ),
        (
            "mask_decoder.iou_prediction_head.layers.1.bias",
            &[0],
            "[0]",
            "[32]",
        ),
    ] {
        let mut tensors = sam_vit();
        tensors.insert(key.into(), zeros(shape));
        let expected = format!("1 key of the wrong shape ({key} (file {found}, model {model}))");
        assert_eq!(verdict(&tensors), format!("{FIT}{expected}"));
    }
}

#[test]
fn a_shape_of_many_axes_does_not_flood_the_message() {
    let mut tensors = sam_vit();
    tensors.insert("image_encoder.neck.3.bias".into(), zeros(&[1; 1000]));
    let message = verdict(&tensors);
    assert!(message.contains("model [32]"), "{message}");
}

#[test]
fn integers_are_no_weights() {
    let mut tensors = sam_vit();
    for (key, dtype) in [
        ("image_encoder.blocks.0.norm2.bias", Dtype::I64),
        ("prompt_encoder.not_a_point_embed.weight", Dtype::BOOL),
    ] {
        let shape = tensors[key].shape.clone();
        tensors.insert(key.into(), Stored::zeros(dtype, &shape));
    }
    let expected = "2 keys unreadable (image_encoder.blocks.0.norm2.bias: is I64, \
                    prompt_encoder.not_a_point_embed.weight: is Bool(Native))";
    assert_eq!(verdict(&tensors), format!("{FIT}{expected}"));
}

#[test]
fn everything_wrong_is_told_at_once() {
    let mut tensors = without(&sam_vit(), &["mask_decoder.output_upscaling.3.bias"]);
    tensors.insert("extra".into(), zeros(&[1]));
    tensors.insert("image_encoder.neck.1.bias".into(), zeros(&[2]));
    tensors.insert(
        "image_encoder.neck.1.weight".into(),
        Stored::zeros(Dtype::I32, &[32]),
    );
    let expected = "1 key unreadable (image_encoder.neck.1.weight: is I32); \
                    1 key of the wrong shape (image_encoder.neck.1.bias (file [2], model [32])); \
                    1 key missing (mask_decoder.output_upscaling.3.bias); \
                    1 key not used (extra)";
    assert_eq!(verdict(&tensors), format!("{FIT}{expected}"));
}

#[test]
fn the_lists_can_be_read_by_a_program() {
    let mut tensors = without(&sam_vit(), &["mask_decoder.iou_token.weight"]);
    tensors.insert("extra".into(), zeros(&[1]));
    let dir = tempfile::tempdir().unwrap();
    let path = files::write(dir.path(), &tensors, None);
    let Err(CheckpointError::Mismatch { mismatch, .. }) = load(&path) else {
        panic!("loaded");
    };
    assert_eq!(mismatch.missing, ["mask_decoder.iou_token.weight"]);
    assert_eq!(mismatch.unused, ["extra"]);
    assert!(mismatch.wrong_shape.is_empty() && mismatch.unreadable.is_empty());
}

/// A file of the prompt encoder alone is no SAM, but with a configuration all else is missing.
#[test]
fn a_part_of_a_model_is_refused() {
    for name in ["sam_vit_f16.pth", "sam_vit_bf16.pth", "sam_vit.legacy.pth"] {
        let path = golden(name);
        let expected = "not a SAM checkpoint: neither image_encoder.pos_embed (ViT) nor \
                        image_encoder.patch_embed.seq.0.c.weight (TinyViT) nor \
                        image_encoder.trunk (Hiera) among its 17 keys";
        let message = refusal(&path, load(&path));
        assert!(message.starts_with(expected), "{message}");

        let config = Checkpoint::open(golden("sam_vit.pth"))
            .unwrap()
            .config()
            .unwrap();
        let part = Checkpoint::open(&path).unwrap();
        let message = refusal(&path, Model::load_with(&part, &config, &Device::flex()));
        assert!(
            message.starts_with(&format!("{FIT}185 keys missing (image_encoder.")),
            "{message}"
        );
    }
}

#[test]
fn a_damaged_tensor_is_named() {
    let mut bytes = std::fs::read(golden("sam_vit.pth")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.pth");
    std::fs::write(&path, bytes).unwrap();
    let message = refusal(&path, load(&path));
    assert!(
        message.starts_with(&format!("{FIT}1 key unreadable (")),
        "{message}"
    );
    assert!(message.contains("Invalid checksum"), "{message}");
}

#[test]
fn two_names_for_one_weight_are_refused() {
    let (mut tensors, _) = files::read(&golden("sam_hf.safetensors"));
    let twin = tensors["vision_encoder.layers.0.layer_norm1.bias"].clone();
    tensors.insert("vision_encoder.layers.0.norm1.bias".into(), twin);
    let expected = "key vision_encoder.layers.0.norm1.bias is there under another name as well";
    assert_eq!(verdict(&tensors), expected);

    // The one matrix that those files may hold twice.
    let (mut tensors, _) = files::read(&golden("sam_hf.safetensors"));
    let shared = tensors["shared_image_embedding.positional_embedding"].clone();
    tensors.insert(
        "prompt_encoder.shared_embedding.positional_embedding".into(),
        shared,
    );
    let dir = tempfile::tempdir().unwrap();
    load(&files::write(dir.path(), &tensors, None)).unwrap();
}

#[test]
fn every_lost_key_of_sam2_is_named() {
    let (tensors, metadata) = files::read(&golden("sam2_video.safetensors"));
    let dir = tempfile::tempdir().unwrap();
    load(&files::write(dir.path(), &tensors, Some(metadata.clone()))).unwrap();
    for key in tensors.keys().step_by(5) {
        let path = files::write(
            dir.path(),
            &without(&tensors, &[key]),
            Some(metadata.clone()),
        );
        let fit = "does not fit sam2.1 (width 8, [1, 2, 3, 2] blocks): ";
        let message = refusal(&path, load(&path));
        assert_eq!(message, format!("{fit}1 key missing ({key})"));
    }
}

#[test]
fn a_trunk_that_was_not_released_needs_a_configuration() {
    let (tensors, _) = files::read(&golden("sam2_video.safetensors"));
    assert_eq!(
        verdict(&tensors),
        "its Hiera trunk of width 8 with [1, 2, 3, 2] blocks is none of the released ones"
    );
}

#[test]
fn another_model_is_told_by_its_first_keys() {
    let keys = ["fc.bias", "fc.weight", "conv1.weight", "zzz"];
    let tensors: Tensors = keys.map(|key| (key.to_owned(), zeros(&[1]))).into();
    let message = verdict(&tensors);
    let end = "among its 4 keys (first: conv1.weight, fc.bias, fc.weight)";
    assert!(message.starts_with("not a SAM checkpoint: "), "{message}");
    assert!(message.ends_with(end), "{message}");
}

/// A file chooses its keys; they must not break the line, colour the terminal or flood it.
#[test]
fn strange_keys_stay_on_the_line() {
    let mut tensors = sam_vit();
    tensors.insert("a\n\u{1b}[31mb\u{2028}".into(), zeros(&[1]));
    tensors.insert("x".repeat(100_000), zeros(&[1]));
    let message = verdict(&tensors);
    let start = format!(r"{FIT}2 keys not used (a\n\u{{1b}}[31mb\u{{2028}}, xxx");
    assert!(message.starts_with(&start), "{message}");
    assert!(message.ends_with("xxx…)"), "{message}");
    let strange: Tensors = [("a\nb\t".repeat(1000), zeros(&[1]))].into();
    verdict(&strange);
}

#[cfg(unix)]
#[test]
fn a_strange_path_stays_on_the_line() {
    let error = load(Path::new("/no/such\nfolder")).err().unwrap();
    let expected = r"/no/such\nfolder: No such file or directory (os error 2)";
    assert_eq!(error.to_string(), expected);
}
