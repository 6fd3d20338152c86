//! Configurations that no model can have, from a file or a caller, are refused before a model is
//! built.

use burn::tensor::Device;
use samara_model::Model;
use samara_model::checkpoint::{Checkpoint, StorageType};
use samara_model::sam::SamConfig;
use serde_json::{Value, json};

use crate::files::{self, golden, load, refusal};

#[test]
fn the_released_configurations_are_valid() {
    for config in [
        SamConfig::vit_b(),
        SamConfig::vit_l(),
        SamConfig::vit_h(),
        SamConfig::mobile_sam(),
    ] {
        config.validate().unwrap();
    }
}

/// The field at a JSON pointer, and what it is changed to.
type Change = (&'static str, Value);

fn with(config: &SamConfig, (pointer, value): &Change) -> SamConfig {
    let mut json = serde_json::to_value(config).unwrap();
    *json.pointer_mut(pointer).unwrap() = value.clone();
    serde_json::from_value(json).unwrap()
}

const HUGE: usize = usize::MAX;

#[test]
fn impossible_sizes_are_refused() {
    for change in [
        ("/prompt_encoder/grid", json!(0)),
        ("/prompt_encoder/grid", json!(HUGE)),
        ("/prompt_encoder/grid", json!(63)),
        ("/prompt_encoder/img_size", json!(1000)),
        ("/prompt_encoder/img_size", json!(HUGE)),
        ("/prompt_encoder/embed_dim", json!(128)),
        ("/prompt_encoder/mask_in_chans", json!(0)),
        ("/prompt_encoder/mask_in_chans", json!(6)),
        ("/mask_decoder/transformer/embedding_dim", json!(HUGE)),
        ("/mask_decoder/transformer/num_heads", json!(0)),
        ("/mask_decoder/transformer/num_heads", json!(7)),
        ("/mask_decoder/transformer/num_heads", json!(256)),
        (
            "/mask_decoder/transformer/attention_downsample_rate",
            json!(0),
        ),
        (
            "/mask_decoder/transformer/attention_downsample_rate",
            json!(3),
        ),
        ("/mask_decoder/transformer/depth", json!(1_000_000)),
        ("/mask_decoder/transformer/mlp_dim", json!(HUGE)),
        ("/mask_decoder/num_mask_tokens", json!(0)),
        ("/mask_decoder/num_mask_tokens", json!(1)),
        ("/mask_decoder/num_mask_tokens", json!(HUGE)),
        ("/mask_decoder/iou_head_depth", json!(0)),
        ("/mask_decoder/iou_head_hidden_dim", json!(0)),
        ("/image_encoder/ViT/img_size", json!(512)),
        ("/image_encoder/ViT/patch_size", json!(0)),
        ("/image_encoder/ViT/patch_size", json!(15)),
        ("/image_encoder/ViT/embed_dim", json!(HUGE)),
        ("/image_encoder/ViT/num_heads", json!(0)),
        ("/image_encoder/ViT/num_heads", json!(11)),
        ("/image_encoder/ViT/mlp_dim", json!(0)),
        ("/image_encoder/ViT/windows", json!([])),
        ("/image_encoder/ViT/windows", json!([65])),
        ("/image_encoder/ViT/windows", json!([HUGE])),
        ("/image_encoder/ViT/windows", json!(vec![0; 10_000])),
        ("/image_encoder/ViT/out_chans", json!(32)),
    ] {
        let error = with(&SamConfig::vit_b(), &change).validate().unwrap_err();
        assert!(
            error.to_string().starts_with("impossible configuration: "),
            "{change:?}: {error}"
        );
    }
}

#[test]
fn impossible_tiny_vits_are_refused() {
    for change in [
        ("/image_encoder/TinyViT/embed_dims", json!([])),
        (
            "/image_encoder/TinyViT/embed_dims",
            json!([63, 128, 160, 320]),
        ),
        (
            "/image_encoder/TinyViT/embed_dims",
            json!([64, 127, 160, 320]),
        ),
        ("/image_encoder/TinyViT/embed_dims", json!(vec![64; 1000])),
        ("/image_encoder/TinyViT/depths", json!([2, 2])),
        ("/image_encoder/TinyViT/depths", json!([2, 2, HUGE, 2])),
        ("/image_encoder/TinyViT/depths", json!([2, 2, 0, 2])),
        ("/image_encoder/TinyViT/num_heads", json!([2, 0, 5, 10])),
        ("/image_encoder/TinyViT/num_heads", json!([2, 3, 5, 10])),
        ("/image_encoder/TinyViT/window_sizes", json!([7, 0, 14, 7])),
        (
            "/image_encoder/TinyViT/window_sizes",
            json!([7, 7, HUGE, 7]),
        ),
        ("/image_encoder/TinyViT/merge_strides", json!([2, 2])),
        ("/image_encoder/TinyViT/merge_strides", json!([2, 2, 0])),
        ("/image_encoder/TinyViT/merge_strides", json!([2, 2, 2])),
        ("/image_encoder/TinyViT/mlp_ratio", json!(0)),
        ("/image_encoder/TinyViT/mbconv_expand_ratio", json!(HUGE)),
        ("/image_encoder/TinyViT/out_chans", json!(0)),
    ] {
        let error = with(&SamConfig::mobile_sam(), &change).validate();
        assert!(error.is_err(), "{change:?}");
    }
}

#[test]
fn a_bad_configuration_names_its_field() {
    let change = ("/image_encoder/ViT/num_heads", json!(11));
    let error = with(&SamConfig::vit_b(), &change).validate().unwrap_err();
    let expected = "impossible configuration: image_encoder.embed_dim is 768, not a multiple of 11";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_caller_cannot_build_an_impossible_model() {
    let path = golden("sam_vit.pth");
    let checkpoint = Checkpoint::open(&path).unwrap();
    let mut config = checkpoint.config().unwrap().into_sam().unwrap();
    config.mask_decoder.iou_head_depth = 0;
    let message = refusal(
        &path,
        Model::load_with(&checkpoint, &config.into(), &Device::flex()),
    );
    let expected = "impossible configuration: mask_decoder.iou_head_depth is 0, not 1 to 64";
    assert_eq!(message, expected);
}

#[test]
fn the_metadata_is_not_trusted() {
    let (tensors, metadata) = files::converted("sam_vit.pth", StorageType::F32);
    let config: Value = serde_json::from_str(&metadata["samara.config"]).unwrap();
    let mut windows = config.clone();
    windows["image_encoder"]["ViT"]["windows"] = json!([3, 0, 3, 9]);
    let mut deep = config.clone();
    deep["mask_decoder"]["transformer"]["depth"] = json!(HUGE);
    for (json, reason) in [
        (
            windows.to_string(),
            "impossible configuration: image_encoder.windows has 9",
        ),
        (
            deep.to_string(),
            "impossible configuration: transformer.depth is 18446744073709551615",
        ),
        (String::new(), "EOF while parsing"),
        ("{}".to_owned(), "missing field"),
        ("[".repeat(100_000), ""),
        (
            config.to_string().replace("16", "-16"),
            "invalid value: integer `-16`",
        ),
        (
            config.to_string().replace("16", "1e99"),
            "invalid type: floating point",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let metadata = [("samara.config".to_owned(), json)].into();
        let path = files::write(dir.path(), &tensors, Some(metadata));
        let message = refusal(&path, load(&path));
        let start = format!("bad samara.config in its metadata: {reason}");
        assert!(message.starts_with(&start), "{message}");
    }
}

/// A configuration that is possible, but not this file's.
#[test]
fn the_metadata_must_fit_the_tensors() {
    let (tensors, _) = files::converted("sam_vit.pth", StorageType::F32);
    let json = serde_json::to_string(&SamConfig::vit_h()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let metadata = [("samara.config".to_owned(), json)].into();
    let path = files::write(dir.path(), &tensors, Some(metadata));
    let message = refusal(&path, load(&path));
    assert!(message.starts_with("does not fit sam-vit-h: "), "{message}");
}
