//! Weights that are no numbers are refused by their key, unless they are asked for.

use burn::tensor::Device;
use samara_model::Model;
use samara_model::checkpoint::{Checkpoint, StorageType};

use crate::files::{self, converted, load, refusal};

#[test]
fn a_weight_that_is_no_number_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let keys = [
        "mask_decoder.iou_prediction_head.layers.0.weight",
        "image_encoder.blocks.1.norm1.bias",
        "prompt_encoder.no_mask_embed.weight",
    ];
    for (storage, bad) in [
        (StorageType::F32, f32::NAN.to_le_bytes().to_vec()),
        (StorageType::F32, f32::NEG_INFINITY.to_le_bytes().to_vec()),
        (StorageType::F16, half::f16::NAN.to_le_bytes().to_vec()),
        (
            StorageType::BF16,
            half::bf16::INFINITY.to_le_bytes().to_vec(),
        ),
    ] {
        for key in keys {
            let (mut tensors, metadata) = converted("sam_vit.pth", storage);
            let tensor = tensors.get_mut(key).unwrap();
            let last = tensor.data.len() - bad.len();
            tensor.data[last..].copy_from_slice(&bad);
            let path = files::write(dir.path(), &tensors, Some(metadata));
            let right = format!("key {key}: a value is NaN or infinite");
            assert!(refusal(&path, load(&path)).ends_with(&right));
            let out = dir.path().join("out.safetensors");
            let open = || Checkpoint::open(&path).unwrap();
            for storage in [None, Some(StorageType::F32), Some(StorageType::I8)] {
                assert!(refusal(&path, open().convert(&out, storage)).contains(key));
                assert!(!out.exists());
            }
            let unchecked = open().with_unchecked_weights();
            Model::load(&unchecked, &Device::flex()).unwrap();
            unchecked.convert(&out, None).unwrap();
            std::fs::remove_file(&out).unwrap();
        }
    }
}

#[test]
fn all_bad_weights_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (mut tensors, metadata) = converted("sam_vit.pth", StorageType::F32);
    for tensor in tensors.values_mut() {
        tensor.data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    }
    let others = tensors.len() - 1;
    let path = files::write(dir.path(), &tensors, Some(metadata));
    let message = refusal(&path, load(&path));
    let right = format!("and {others} other tensors: a value is NaN or infinite");
    assert!(message.ends_with(&right), "{message}");
}
