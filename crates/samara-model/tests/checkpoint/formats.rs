//! Every kind of file that is to be read.

use std::path::Path;

use safetensors::Dtype;
use samara_model::Model;
use samara_model::burn::tensor::Device;
use samara_model::checkpoint::{Checkpoint, CheckpointInfo, Format, Naming, StorageType};
use samara_model::sam::{ImageEncoderConfig, SamConfig};

use crate::files::{self, Tensors, answers, difference, golden, load, sam_vit};
use crate::torch::{self, Pickle};

const VIT: &str = "sam-vit (width 16, 4 blocks)";

fn info(name: &str) -> CheckpointInfo {
    Checkpoint::open(golden(name)).unwrap().info().unwrap()
}

#[test]
fn a_torch_file_tells_what_it_holds() {
    let info = info("sam_vit.pth");
    assert_eq!(
        (info.format, info.naming),
        (Format::PyTorch, Naming::Official)
    );
    assert_eq!(info.architecture, VIT);
    assert_eq!(info.tensors, 202);
    assert_eq!(info.dtypes, ["F32"]);
    assert_eq!(info.prefix, "");
    assert!(info.other_weights.is_empty());
    assert!(info.metadata.is_empty());
    let values: usize = sam_vit().values().map(|t| t.data.len() / 4).sum();
    assert_eq!(info.parameters, values);
}

#[test]
fn a_transformers_file_tells_what_it_holds() {
    let info = info("sam_hf.safetensors");
    assert_eq!(
        (info.format, info.naming),
        (Format::Safetensors, Naming::Transformers)
    );
    assert_eq!(info.architecture, VIT);
    assert_eq!(info.dtypes, ["F16"]);
}

#[test]
fn mobile_sam_is_recognised_by_its_encoder() {
    let info = info("mobile_sam.pth");
    assert_eq!(
        (info.format, info.naming),
        (Format::PyTorch, Naming::Official)
    );
    assert_eq!(info.architecture, "sam-tinyvit (widths [8, 8, 16, 16])");
    assert_eq!(info.dtypes, ["F16", "I64"]);
}

#[test]
fn the_released_sizes_have_names() {
    let names = [
        SamConfig::vit_b(),
        SamConfig::vit_l(),
        SamConfig::vit_h(),
        SamConfig::mobile_sam(),
    ];
    let names = names.map(|config| config.architecture());
    assert_eq!(names, ["sam-vit-b", "sam-vit-l", "sam-vit-h", "mobile-sam"]);
}

/// MobileSAM's files carry a classifier, batch-norm counters and index tables.
#[test]
fn keys_that_are_unused_by_design_do_not_disturb() {
    let (mut tensors, _) = files::converted("mobile_sam.pth", StorageType::F32);
    assert!(
        tensors
            .keys()
            .any(|key| key.ends_with(".num_batches_tracked"))
    );
    for key in [
        "image_encoder.norm_head.weight",
        "image_encoder.head.bias",
        "pixel_mean",
    ] {
        tensors.insert(key.to_owned(), files::Stored::zeros(Dtype::F32, &[3]));
    }
    let dir = tempfile::tempdir().unwrap();
    load(&files::write(dir.path(), &tensors, None)).unwrap();
    load(&golden("mobile_sam.pth")).unwrap();
}

#[test]
fn half_precision_torch_files_load() {
    let dir = tempfile::tempdir().unwrap();
    let expected = answers(&load(&golden("sam_vit.pth")).unwrap());
    for (storage, tolerance) in [(StorageType::F16, 5e-3), (StorageType::BF16, 5e-2)] {
        let (tensors, _) = files::converted("sam_vit.pth", storage);
        let path = save(dir.path(), &torch::pth(&tensors));
        let actual = answers(&load(&path).unwrap());
        for (actual, expected) in actual.iter().zip(&expected) {
            let error = difference(actual, expected);
            assert!(error > 0.0 && error < tolerance, "{storage:?}: {error:e}");
        }
    }
}

/// What training code writes: the weights beside the optimiser's state, or under a wrapper's name.
#[test]
fn wrapped_weights_load() {
    let dir = tempfile::tempdir().unwrap();
    let tensors = sam_vit();
    let expected = answers(&load(&golden("sam_vit.pth")).unwrap());

    let weights = Pickle::new().raw(b"}(").text("model");
    let (pickle, storages) = torch::state_dict(weights, &tensors);
    let pickle = pickle.text("epoch").int(7).text("optimizer").raw(b"}(");
    let moment = ("FloatStorage", "0", 4);
    let pickle = pickle.text("moment").tensor(moment, &[4], &[1]).raw(b"uu");
    let path = save(dir.path(), &torch::archive(pickle.stop(), storages));
    assert_eq!(answers(&load(&path).unwrap()), expected);

    for wrapper in [
        "module.",
        "model.",
        "state_dict.model.",
        "model.module.",
        "_orig_mod.",
        "module._orig_mod.",
        "model_state.sam.",
        "model_state_dict.module.sam.",
        "state_dict.net.",
        "net.",
        "ema.",
        "model_ema.module.",
        "ema_model._orig_mod.module.",
    ] {
        let wrapped = under(wrapper, &tensors);
        let path = save(dir.path(), &torch::pth(&wrapped));
        assert_eq!(answers(&load(&path).unwrap()), expected, "{wrapper}");
        let path = files::write(dir.path(), &wrapped, None);
        assert_eq!(answers(&load(&path).unwrap()), expected, "{wrapper}");
    }
}

/// Parts of a model may be compiled one by one.
#[test]
fn compiled_parts_load() {
    let dir = tempfile::tempdir().unwrap();
    let expected = answers(&load(&golden("sam_vit.pth")).unwrap());
    let compiled = |key: &str| {
        key.replace("image_encoder.", "image_encoder._orig_mod.")
            .replace("transformer.layers.", "transformer.layers._orig_mod.")
    };
    let mut tensors: Tensors = sam_vit()
        .into_iter()
        .map(|(key, tensor)| (compiled(&key), tensor))
        .collect();
    let path = files::write(dir.path(), &tensors, None);
    assert_eq!(answers(&load(&path).unwrap()), expected);

    let twice = "image_encoder._orig_mod.pos_embed";
    let tensor = tensors[twice].clone();
    tensors.insert("image_encoder.pos_embed".to_owned(), tensor);
    let path = files::write(dir.path(), &tensors, None);
    let message = files::refusal(&path, load(&path));
    let expected = "key image_encoder.pos_embed is there under another name as well";
    assert_eq!(message, expected);
}

/// Averaged weights are preferred, and what is not taken is told.
#[test]
fn of_two_sets_of_weights_one_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let taken = sam_vit();
    let expected = answers(&load(&golden("sam_vit.pth")).unwrap());
    let mut other = taken.clone();
    other.values_mut().for_each(|tensor| tensor.data.fill(0));
    for (first, second) in [
        ("ema.", "model."),
        ("model_ema.module.", "model."),
        ("ema.", ""),
        ("state_dict.ema.", "state_dict."),
        ("", "model."),
        ("model.", "state_dict.net."),
        ("model.", "model.net."),
    ] {
        let both: Tensors = under(first, &taken)
            .into_iter()
            .chain(under(second, &other))
            .collect();
        let as_torch = save(dir.path(), &torch::pth(&both));
        for path in [as_torch, files::write(dir.path(), &both, None)] {
            let both = format!("{first} and {second}");
            assert_eq!(answers(&load(&path).unwrap()), expected, "{both}");
            let info = Checkpoint::open(path).unwrap().info().unwrap();
            assert_eq!((info.prefix.as_str(), info.tensors), (first, 202), "{both}");
            assert_eq!(info.other_weights, [second]);
        }
    }
}

/// The tensors under further names.
fn under(wrapper: &str, tensors: &Tensors) -> Tensors {
    let wrapped = tensors.iter();
    wrapped
        .map(|(key, tensor)| (format!("{wrapper}{key}"), tensor.clone()))
        .collect()
}

/// The header's length comes first in such a file, and may look like the start of a pickle.
#[test]
fn a_safetensors_header_of_any_length_is_recognised() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(golden("sam_hf.safetensors")).unwrap();
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let padded: usize = 0x1_0280;
    let mut longer = (padded as u64).to_le_bytes().to_vec();
    assert_eq!(longer[..2], [0x80, 2]);
    longer.extend(&bytes[8..8 + length]);
    longer.resize(8 + padded, b' ');
    longer.extend(&bytes[8 + length..]);
    load(&save(dir.path(), &longer)).unwrap();
}

/// The weights of a TinyViT do not tell the size of the input; our metadata does.
#[test]
fn the_configuration_in_the_metadata_wins() {
    let (tensors, mut metadata) = files::converted("mobile_sam.pth", StorageType::F32);
    let checkpoint = Checkpoint::open(golden("mobile_sam.pth")).unwrap();
    let mut config = checkpoint.config().unwrap().into_sam().unwrap();
    assert!(matches!(
        config.image_encoder,
        ImageEncoderConfig::TinyViT(_)
    ));
    assert_eq!(
        (config.prompt_encoder.img_size, config.prompt_encoder.grid),
        (1024, 64)
    );
    config.prompt_encoder.img_size = 128;
    config.prompt_encoder.grid = 8;
    let expected =
        answers(&Model::load_with(&checkpoint, &config.clone().into(), &Device::flex()).unwrap());

    let json = serde_json::to_string(&config).unwrap();
    metadata.insert("samara.config".to_owned(), json);
    let dir = tempfile::tempdir().unwrap();
    let path = files::write(dir.path(), &tensors, Some(metadata));
    assert_eq!(answers(&load(&path).unwrap()), expected);
}

fn save(dir: &Path, bytes: &[u8]) -> std::path::PathBuf {
    let path = dir.join("made.pth");
    std::fs::write(&path, bytes).unwrap();
    path
}
