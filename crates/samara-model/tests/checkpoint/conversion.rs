//! Conversion to our own files.

use std::path::Path;

use burn::tensor::Device;
use safetensors::Dtype;
use samara_model::Model;
use samara_model::checkpoint::{Checkpoint, Format, Naming, StorageType};
use samara_model::sam::SamConfig;

use crate::files::{self, answers, difference, golden, load, refusal};

#[test]
fn a_converted_file_gives_the_same_answers() {
    for (storage, dtype, tolerance) in [
        (None, Dtype::F32, 0.0),
        (Some(StorageType::F32), Dtype::F32, 0.0),
        (Some(StorageType::F16), Dtype::F16, 5e-3),
        (Some(StorageType::BF16), Dtype::BF16, 5e-2),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out.safetensors");
        let source = Checkpoint::open(golden("sam_vit.pth")).unwrap();
        source.convert(&out, storage).unwrap();
        assert!(files::read(&out).0.values().all(|t| t.dtype == dtype));

        let expected = answers(&Model::load(&source, &Device::flex()).unwrap());
        let actual = answers(&load(&out).unwrap());
        for (actual, expected) in actual.iter().zip(&expected) {
            let error = difference(actual, expected);
            assert!(error <= tolerance, "{storage:?}: {error:e}");
        }
    }
}

#[test]
fn the_metadata_holds_the_configuration() {
    let (_, metadata) = files::converted("sam_vit.pth", StorageType::F32);
    let config: SamConfig = serde_json::from_str(&metadata["samara.config"]).unwrap();
    let source = Checkpoint::open(golden("sam_vit.pth")).unwrap();
    let same = |config: &SamConfig| serde_json::to_string(config).unwrap();
    assert_eq!(
        same(&config),
        same(&source.config().unwrap().into_sam().unwrap())
    );
}

#[test]
fn another_input_side_is_for_encoders_without_learnt_positions() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.safetensors");
    let open = |name: &str| Checkpoint::open(golden(name)).unwrap();
    let own = open("mobile_sam.pth").config().unwrap().input_side();
    let larger = open("mobile_sam.pth").with_input_side(2 * own).unwrap();
    larger.convert(&out, None).unwrap();
    let config = Checkpoint::open(&out).unwrap().config().unwrap();
    assert_eq!(config.input_side(), 2 * own);
    assert_eq!(
        config.logits_side(),
        2 * open("mobile_sam.pth").config().unwrap().logits_side()
    );
    assert!(load(&out).is_ok());
    for (name, side, word) in [
        ("mobile_sam.pth", own + 1, "img_size"),
        ("mobile_sam.pth", 0, "grid"),
        ("sam_vit.pth", 2 * own, "learnt positions"),
    ] {
        let message = refusal(&golden(name), open(name).with_input_side(side));
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn every_tensor_is_kept_and_integers_stay_integers() {
    let source = Checkpoint::open(golden("mobile_sam.pth")).unwrap();
    let (tensors, _) = files::converted("mobile_sam.pth", StorageType::BF16);
    assert_eq!(tensors.len(), source.info().unwrap().tensors);
    for (key, tensor) in &tensors {
        let counter =
            key.ends_with(".num_batches_tracked") || key.ends_with(".attention_bias_idxs");
        let expected = if counter { Dtype::I64 } else { Dtype::BF16 };
        assert_eq!(tensor.dtype, expected, "{key}");
    }
    assert!(tensors.values().any(|tensor| tensor.dtype == Dtype::I64));
}

#[test]
fn transformers_names_become_official_names() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.safetensors");
    let source = Checkpoint::open(golden("sam_hf.safetensors")).unwrap();
    source.convert(&out, None).unwrap();
    let official: Vec<String> = files::sam_vit().into_keys().collect();
    let keys: Vec<String> = files::read(&out).0.into_keys().collect();
    assert_eq!(keys, official);

    let info = Checkpoint::open(&out).unwrap().info().unwrap();
    assert_eq!(
        (info.format, info.naming),
        (Format::Safetensors, Naming::Official)
    );
    let expected = answers(&Model::load(&source, &Device::flex()).unwrap());
    assert_eq!(answers(&load(&out).unwrap()), expected);
}

#[test]
fn a_file_can_be_converted_onto_itself() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    std::fs::copy(golden("sam_hf.safetensors"), &path).unwrap();
    let expected = answers(&load(&path).unwrap());
    let checkpoint = Checkpoint::open(&path).unwrap();
    checkpoint.convert(&path, Some(StorageType::F32)).unwrap();
    assert_eq!(answers(&load(&path).unwrap()), expected);
    assert_eq!(names_in(dir.path()), ["model.safetensors"]);
}

#[cfg(unix)]
#[test]
fn the_result_is_as_readable_as_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let mode = |name: &str| {
        let metadata = dir.path().join(name).metadata().unwrap();
        metadata.permissions().mode() & 0o777
    };
    std::fs::write(dir.path().join("ordinary"), "").unwrap();
    let out = dir.path().join("out.safetensors");
    let source = Checkpoint::open(golden("sam_vit.pth")).unwrap();
    source.convert(&out, None).unwrap();
    assert_eq!(mode("out.safetensors"), mode("ordinary"));
}

#[test]
fn an_unreadable_source_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(golden("sam_vit.pth")).unwrap();
    // Not in the directory, so that the file opens and a checksum goes wrong later.
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..middle + 200] {
        *byte ^= 0x55;
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let source = elsewhere.path().join("damaged.pth");
    std::fs::write(&source, bytes).unwrap();
    let checkpoint = Checkpoint::open(&source).unwrap();
    let out = dir.path().join("out.safetensors");
    let message = refusal(&source, checkpoint.convert(&out, None));
    assert!(message.contains("Invalid checksum"), "{message}");
    assert!(names_in(dir.path()).is_empty());
}

#[test]
fn a_target_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let source = Checkpoint::open(golden("sam_vit.pth")).unwrap();
    let out = dir.path().join("missing/out.safetensors");
    let message = refusal(&out, source.convert(&out, None));
    assert!(
        message.contains("No such file or directory") || cfg!(windows),
        "{message}"
    );
    // A folder cannot be replaced.
    refusal(dir.path(), source.convert(dir.path(), None));
    assert!(names_in(dir.path()).is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    // Writes fail beyond 40 kB.
    let test = "conversion::write_to_the_folder_in_the_environment";
    let output = crate::hostile::run_limited("trap '' XFSZ; ulimit -f 80", test, dir.path());
    assert!(output.contains("File too large"), "{output}");
    assert!(names_in(dir.path()).is_empty());
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn write_to_the_folder_in_the_environment() {
    let Some(dir) = std::env::var_os(crate::hostile::FOLDER_VARIABLE) else {
        return;
    };
    let out = Path::new(&dir).join("out.safetensors");
    let source = Checkpoint::open(golden("sam_vit.pth")).unwrap();
    let message = refusal(&out, source.convert(&out, None));
    println!("{message}");
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    entries.map(|entry| name(entry.unwrap())).collect()
}
