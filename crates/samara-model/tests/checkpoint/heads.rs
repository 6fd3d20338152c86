//! Heads that travel with a model: no keys of it, kept by every conversion.

use std::collections::BTreeMap;

use burn::tensor::Device;
use safetensors::Dtype;
use samara_model::Model;
use samara_model::checkpoint::{
    CANDIDATE_HEAD, Checkpoint, HeadTensor, HeadTensors, StorageType, save_model,
};

use crate::files::{self, Stored, answers, golden, load, refusal, sam_vit};

/// A head of these layers, large enough to be stored as int8 if it were the model's.
fn head(layers: &[&str]) -> HeadTensors {
    let layers = layers.iter().enumerate();
    layers
        .map(|(i, name)| {
            let values = (0..64 * 32)
                .map(|v| (v as f32 * 0.1 + i as f32).sin())
                .collect();
            let shape = vec![64, 32];
            (format!("{name}.weight"), HeadTensor { shape, values })
        })
        .collect()
}

#[test]
fn a_head_is_no_part_of_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.safetensors");
    for name in [
        "sam_vit.pth",
        "mobile_sam.pth",
        "sam2_video.safetensors",
        "sam_hf.safetensors",
    ] {
        let source = Checkpoint::open(golden(name)).unwrap();
        assert_eq!(
            source.head_tensors(CANDIDATE_HEAD).unwrap(),
            BTreeMap::new()
        );
        let first = head(&["layer0", "layer1"]);
        let heads = [(CANDIDATE_HEAD, first.clone())];
        source.convert_with(&out, None, &[], &heads).unwrap();
        let with = Checkpoint::open(&out).unwrap();
        Model::load(&with, &Device::flex()).unwrap();
        let (before, after) = (source.info().unwrap(), with.info().unwrap());
        assert_eq!(after.heads, ["candidate_head"]);
        assert_eq!(
            (after.tensors, after.parameters),
            (before.tensors, before.parameters)
        );
        assert_eq!(
            (after.dtypes, after.architecture),
            (before.dtypes, before.architecture)
        );
        assert_eq!(with.head_tensors(CANDIDATE_HEAD).unwrap(), first);
    }
}

#[test]
fn recognition_without_a_configuration_passes_over_it() {
    let mut tensors = sam_vit();
    tensors.insert(
        "candidate_head.weight".into(),
        Stored::zeros(Dtype::F32, &[3, 4]),
    );
    let dir = tempfile::tempdir().unwrap();
    let path = files::write(dir.path(), &tensors, None);
    let expected = answers(&load(&golden("sam_vit.pth")).unwrap());
    assert_eq!(answers(&load(&path).unwrap()), expected);
    // Others are not passed over.
    tensors.insert(
        "candidate_heads.weight".into(),
        Stored::zeros(Dtype::F32, &[3, 4]),
    );
    let path = files::write(dir.path(), &tensors, None);
    let message = refusal(&path, load(&path));
    assert!(
        message.ends_with("1 key not used (candidate_heads.weight)"),
        "{message}"
    );
}

#[test]
fn a_conversion_keeps_it_and_its_type() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let source = Checkpoint::open(golden("sam_vit.pth")).unwrap();
    let first = head(&["layer0"]);
    let heads = [(CANDIDATE_HEAD, first.clone())];
    source
        .convert_with(&path, Some(StorageType::I8), &[], &heads)
        .unwrap();
    for storage in [
        StorageType::F16,
        StorageType::I8,
        StorageType::BF16,
        StorageType::F32,
    ] {
        let checkpoint = Checkpoint::open(&path).unwrap();
        checkpoint.convert(&path, Some(storage)).unwrap();
        let (tensors, _) = files::read(&path);
        assert_eq!(tensors["candidate_head.layer0.weight"].dtype, Dtype::F32);
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert_eq!(checkpoint.head_tensors(CANDIDATE_HEAD).unwrap(), first);
    }
}

#[test]
fn a_new_head_takes_the_place_of_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let source = Checkpoint::open(golden("sam_vit.pth")).unwrap();
    let (model, config) = (
        Model::load(&source, &Device::flex()).unwrap(),
        source.config().unwrap(),
    );
    let heads = [(CANDIDATE_HEAD, head(&["layer0", "layer1"]))];
    save_model(
        &model,
        &config,
        &BTreeMap::new(),
        &heads,
        StorageType::F16,
        &path,
    )
    .unwrap();
    let read = || {
        Checkpoint::open(&path)
            .unwrap()
            .head_tensors(CANDIDATE_HEAD)
    };
    assert_eq!(read().unwrap(), heads[0].1);
    for new in [head(&["other"]), HeadTensors::new()] {
        let checkpoint = Checkpoint::open(&path).unwrap();
        let heads = [(CANDIDATE_HEAD, new.clone())];
        checkpoint.convert_with(&path, None, &[], &heads).unwrap();
        assert_eq!(read().unwrap(), new);
    }
    load(&path).unwrap();
}

#[test]
fn heads_that_could_not_be_read_again_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.safetensors");
    let source = Checkpoint::open(golden("sam_vit.pth")).unwrap();
    let write = |prefix: &str, head: HeadTensors| {
        refusal(
            &out,
            source.convert_with(&out, None, &[], &[(prefix, head)]),
        )
    };
    let unknown = write("quality_head.", head(&["layer0"]));
    assert_eq!(
        unknown,
        "no head has names that begin with \"quality_head.\""
    );
    for shape in [vec![3, 4], vec![usize::MAX, 2], vec![]] {
        let tensor = HeadTensor {
            shape: shape.clone(),
            values: vec![0.0; 7],
        };
        let message = write(
            CANDIDATE_HEAD,
            BTreeMap::from([("layer0.bias".to_owned(), tensor)]),
        );
        let expected =
            format!("key candidate_head.layer0.bias has the shape {shape:?} and 7 values");
        assert_eq!(message, expected);
    }
    assert!(!out.exists());
}

#[test]
fn a_head_that_is_not_floating_point_is_refused_when_it_is_read() {
    let mut tensors = sam_vit();
    tensors.insert(
        "candidate_head.table".into(),
        Stored::zeros(Dtype::I8, &[3]),
    );
    let dir = tempfile::tempdir().unwrap();
    let path = files::write(dir.path(), &tensors, None);
    load(&path).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let message = refusal(&path, checkpoint.head_tensors(CANDIDATE_HEAD));
    assert_eq!(message, "key candidate_head.table is I8");
}
