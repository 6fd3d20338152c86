//! Saved embeddings: what is in them comes back, and what does not belong is refused.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{HEIGHT, WIDTH, checkpoint, difference, photo, segmenter};
use safetensors::SafeTensors;
use samara::checkpoint::{Checkpoint, StorageType};
use samara::{DeviceKind, Embedding, Error, Prompt, Segmenter};
use samara_image::Frame;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn embedding(width: u32, height: u32) -> Embedding {
    segmenter().embed(&photo(width, height)).unwrap()
}

/// A saved embedding in `folder`.
fn saved(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("image.embedding");
    embedding(WIDTH, HEIGHT).save(&path).unwrap();
    path
}

/// A saved embedding with its metadata or tensor header changed.
fn forged(folder: &TempDir, from: &str, to: &str) -> PathBuf {
    let path = saved(folder);
    let bytes = fs::read(&path).unwrap();
    let (header, data) = bytes[8..].split_at(header_len(&bytes));
    let header = str::from_utf8(header).unwrap();
    assert!(header.contains(from), "{from} is not in {header}");
    let header = header.replacen(from, to, 1);
    let parts = [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        data,
    ];
    fs::write(&path, parts.concat()).unwrap();
    path
}

fn header_len(file: &[u8]) -> usize {
    SafeTensors::read_metadata(file).unwrap().0
}

/// Loads a file that has to be refused; gives the reason.
#[track_caller]
fn refusal(path: &Path, segmenter: &Segmenter) -> String {
    let Err(error) = Embedding::load(path, segmenter) else {
        panic!("{} was accepted", path.display());
    };
    let Error::Saved { path: named, .. } = &error else {
        panic!("not an error of an embedding: {error}");
    };
    assert_eq!(named, path);
    let message = error.to_string();
    assert_eq!(message.lines().count(), 1, "{message:?}");
    message
        .strip_prefix(&format!("{}: ", path.display()))
        .unwrap()
        .to_owned()
}

/// The small model as `safetensors`.
fn converted(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("model.safetensors");
    Checkpoint::open(checkpoint())
        .unwrap()
        .convert(&path, Some(StorageType::F32))
        .unwrap();
    path
}

/// The small model with the last bit of one value changed, the first or last one of tensor `name`.
fn with_changed_bit(folder: &TempDir, name: &str, last: bool) -> Segmenter {
    let path = converted(folder);
    let mut file = fs::read(&path).unwrap();
    let (header, metadata) = SafeTensors::read_metadata(&file).unwrap();
    let (start, end) = metadata.info(name).unwrap().data_offsets;
    let value = if last { end - size_of::<f32>() } else { start };
    file[8 + header + value] ^= 1;
    fs::write(&path, file).unwrap();
    Segmenter::load(path, DeviceKind::Cpu).unwrap()
}

fn other_weights(folder: &TempDir) -> Segmenter {
    with_changed_bit(folder, "mask_decoder.iou_token.weight", true)
}

#[test]
fn a_saved_embedding_predicts_the_same() {
    let folder = folder();
    let loaded = Embedding::load(saved(&folder), segmenter()).unwrap();
    let original = embedding(WIDTH, HEIGHT);
    assert_eq!(loaded.values().unwrap(), original.values().unwrap());
    assert_eq!(loaded.frame(), original.frame());
    let prompts = [
        Prompt::point(70.0, 60.0),
        Prompt::bbox(30.0, 20.0, 110.0, 95.0).unwrap(),
    ];
    for prompt in prompts {
        let (a, b) = (
            original.predict(&prompt).unwrap(),
            loaded.predict(&prompt).unwrap(),
        );
        assert_eq!(difference(&a, &b), 0.0);
        for (a, b) in a.iter().zip(&b) {
            assert_eq!(a.mask, b.mask);
        }
    }
}

#[test]
fn an_embedding_knows_its_image() {
    let folder = folder();
    let mut other = photo(WIDTH, HEIGHT);
    other.get_pixel_mut(WIDTH - 1, HEIGHT - 1)[2] ^= 1;
    let loaded = Embedding::load(saved(&folder), segmenter()).unwrap();
    for embedding in [embedding(WIDTH, HEIGHT), loaded] {
        assert!(embedding.is_of(&photo(WIDTH, HEIGHT)));
        assert!(!embedding.is_of(&other), "one pixel differs");
        // The same bytes in rows of another length.
        let raw = photo(WIDTH, HEIGHT).into_raw();
        let reshaped = samara_image::RgbImage::from_raw(HEIGHT, WIDTH, raw).unwrap();
        assert!(!embedding.is_of(&reshaped));
    }
}

#[test]
fn another_file_format_of_the_same_weights_is_accepted() {
    let folder = folder();
    let same = Segmenter::load(converted(&folder), DeviceKind::Cpu).unwrap();
    assert_eq!(
        same.fingerprint().unwrap(),
        segmenter().fingerprint().unwrap()
    );
    assert_eq!(same.fingerprint().unwrap().len(), 64);
    let loaded = Embedding::load(saved(&folder), &same).unwrap();
    let prompt = Prompt::point(70.0, 60.0);
    let expected = embedding(WIDTH, HEIGHT).predict(&prompt).unwrap();
    assert_eq!(
        difference(&loaded.predict(&prompt).unwrap(), &expected),
        0.0
    );
}

#[test]
fn one_bit_of_any_weight_changes_the_fingerprint() {
    let folder = folder();
    for name in [
        "image_encoder.patch_embed.proj.weight",
        "image_encoder.pos_embed",
        "image_encoder.blocks.3.mlp.lin2.bias",
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        "prompt_encoder.no_mask_embed.weight",
        "mask_decoder.output_upscaling.1.weight",
        "mask_decoder.output_hypernetworks_mlps.3.layers.2.bias",
    ] {
        for last in [false, true] {
            let other = with_changed_bit(&folder, name, last);
            let (other, original) = (other.fingerprint(), segmenter().fingerprint());
            assert_ne!(other.unwrap(), original.unwrap(), "{name}, last: {last}");
        }
    }
}

#[test]
fn other_weights_refuse_it() {
    let folder = folder();
    let other = other_weights(&folder);
    let name = "sam-vit (width 16, 4 blocks)";
    let short = |segmenter: &Segmenter| segmenter.fingerprint().unwrap()[..12].to_owned();
    assert_ne!(short(&other), short(segmenter()));
    assert_eq!(
        refusal(&saved(&folder), &other),
        format!(
            "this embedding was made by other weights ({name}, fingerprint {}…), not by these \
             ({name}, {}…)",
            short(segmenter()),
            short(&other)
        )
    );
}

#[test]
fn metadata_cannot_break_the_message_into_lines() {
    let folder = folder();
    let path = forged(&folder, "sam-vit (", "sam\\nvit (");
    let reason = refusal(&path, &other_weights(&folder));
    assert!(reason.contains("weights (sam\\nvit ("), "{reason}");
}

#[test]
fn files_that_are_no_embedding_are_refused() {
    let folder = folder();
    let path = folder.path().join("file");
    for content in [
        &b""[..],
        b"short",
        b"just some text that is longer than a header",
        &[0; 64],
    ] {
        fs::write(&path, content).unwrap();
        let reason = refusal(&path, segmenter());
        assert!(reason.starts_with("no saved embedding: "), "{reason}");
    }
    let missing = refusal(&folder.path().join("missing"), segmenter());
    assert!(missing.contains("no such file"), "{missing}");
    refusal(folder.path(), segmenter());
    refusal(&checkpoint(), segmenter());
    assert_eq!(
        refusal(&converted(&folder), segmenter()),
        "no saved embedding: samara.fingerprint is missing in its metadata"
    );
}

#[test]
fn a_truncated_file_is_refused_wherever_it_ends() {
    let folder = folder();
    let path = saved(&folder);
    let file = fs::read(&path).unwrap();
    let header = 8 + header_len(&file);
    let ends = (0..header)
        .step_by(13)
        .chain([header, header + 1, file.len() / 2, file.len() - 1]);
    for end in ends {
        fs::write(&path, &file[..end]).unwrap();
        let reason = refusal(&path, segmenter());
        assert!(
            reason.starts_with("no saved embedding: "),
            "cut at {end}: {reason}"
        );
    }
    fs::write(&path, [&file[..], b"more"].concat()).unwrap();
    refusal(&path, segmenter());
}

/// A damaged header is refused, or it is harmless: nothing panics, now or when it is used.
#[test]
fn a_damaged_header_never_panics() {
    let folder = folder();
    let path = saved(&folder);
    let file = fs::read(&path).unwrap();
    let expected = embedding(WIDTH, HEIGHT);
    for (at, bit) in (0..8 + header_len(&file)).flat_map(|at| [(at, 1), (at, 8)]) {
        let mut damaged = file.clone();
        damaged[at] ^= bit;
        fs::write(&path, damaged).unwrap();
        match Embedding::load(&path, segmenter()) {
            Ok(loaded) => {
                assert_eq!(loaded.values().unwrap(), expected.values().unwrap());
                loaded.predict(&Prompt::point(1.0, 1.0)).unwrap();
            }
            Err(_) => {
                refusal(&path, segmenter());
            }
        }
    }
}

#[test]
fn a_frame_that_this_model_would_not_make_is_refused() {
    let folder = folder();
    let frame = serde_json::to_string(&Frame::longest_side(WIDTH, HEIGHT, 128).unwrap()).unwrap();
    let quoted = |json: &str| json.replace('"', "\\\"");
    for other in [
        frame.replace("[128,77]", "[128,78]"),
        frame.replace("[128,77]", "[8,5]").replace("128", "8"),
        frame.replace("[200,120]", "[120,200]"),
        frame.replace("[200,120]", "[0,120]"),
    ] {
        let path = forged(&folder, &quoted(&frame), &quoted(&other));
        let reason = refusal(&path, segmenter());
        assert!(
            reason.starts_with("no saved embedding: "),
            "{other}: {reason}"
        );
    }
}

#[test]
fn a_tensor_of_another_shape_or_type_is_refused() {
    let folder = folder();
    for (from, to) in [
        ("[1,8,8,32]", "[1,8,32,8]"),
        ("[1,8,8,32]", "[8,8,32]"),
        ("[1,8,8,32]", "[1,64,32]"),
        ("\"F32\"", "\"I32\""),
        ("\"image_embedding\"", "\"image_embeddinh\""),
    ] {
        let reason = refusal(&forged(&folder, from, to), segmenter());
        assert!(reason.starts_with("no saved embedding: "), "{to}: {reason}");
    }
}

#[test]
fn overwriting_replaces_the_file_as_a_whole() {
    let folder = folder();
    let path = saved(&folder);
    // A second name of the old file: writing into the file would show through it.
    let old = folder.path().join("old");
    fs::hard_link(&path, &old).unwrap();
    embedding(64, 64).save(&path).unwrap();
    let size = |path: &Path| {
        Embedding::load(path, segmenter())
            .unwrap()
            .frame()
            .original_size()
    };
    assert_eq!((size(&old), size(&path)), ((WIDTH, HEIGHT), (64, 64)));
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        2,
        "a temporary file was left"
    );
}

#[test]
fn a_failed_save_names_the_file_and_leaves_nothing_behind() {
    let folder = folder();
    let embedding = embedding(64, 64);
    let missing = folder.path().join("missing/image.embedding");
    for path in [missing.as_path(), folder.path()] {
        let message = embedding.save(path).unwrap_err().to_string();
        let expected = format!("{}: cannot be written: ", path.display());
        assert!(message.starts_with(&expected), "{message}");
        assert_eq!(message.lines().count(), 1, "{message:?}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn an_unwritable_folder_keeps_the_old_file() {
    use std::os::unix::fs::PermissionsExt;

    let folder = folder();
    let path = saved(&folder);
    let allow = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode));
    allow(0o555).unwrap();
    // The administrator may write everywhere.
    if fs::write(folder.path().join("probe"), b"").is_ok() {
        return;
    }
    let message = embedding(64, 64).save(&path).unwrap_err().to_string();
    allow(0o755).unwrap();
    assert_eq!(
        message,
        format!("{}: cannot be written: permission denied", path.display())
    );
    let kept = Embedding::load(&path, segmenter()).unwrap();
    assert_eq!(kept.frame().original_size(), (WIDTH, HEIGHT));
}

/// Embeddings travel as bytes, as values alone, and come from images that were scaled elsewhere.
#[test]
fn an_embedding_comes_from_bytes_values_and_scaled_pixels() {
    let original = embedding(WIDTH, HEIGHT);
    let prompt = Prompt::point(70.0, 60.0);
    let expected = original.predict(&prompt).unwrap();
    let of_bytes = Embedding::from_bytes(&original.to_bytes().unwrap(), segmenter()).unwrap();
    let (values, _) = original.values().unwrap();
    let of_values = Embedding::from_values(segmenter(), values.clone(), (WIDTH, HEIGHT)).unwrap();
    let (width, height) = original.frame().content_size();
    let scaled = samara_image::resize_bilinear(&photo(WIDTH, HEIGHT), width, height);
    let scaled: Vec<f32> = scaled.as_raw().iter().map(|&v| v.into()).collect();
    let of_pixels = segmenter().embed_scaled(&scaled, (WIDTH, HEIGHT)).unwrap();
    for other in [of_bytes, of_values, of_pixels] {
        let found = other.predict(&prompt).unwrap();
        assert_eq!(difference(&expected, &found), 0.0);
        assert_eq!(expected[0].mask, found[0].mask);
    }

    let refusal = |error: Error| error.to_string();
    let few = Embedding::from_values(segmenter(), values[1..].to_vec(), (WIDTH, HEIGHT));
    assert!(refusal(few.unwrap_err()).starts_with("embedding: "));
    let mut not_finite = values;
    not_finite[7] = f32::NAN;
    let not_finite = Embedding::from_values(segmenter(), not_finite, (WIDTH, HEIGHT));
    assert!(refusal(not_finite.unwrap_err()).contains("not a finite number"));
    let other_size = segmenter().embed_scaled(&scaled, (WIDTH, WIDTH));
    assert!(refusal(other_size.unwrap_err()).starts_with("scaled image: "));
    let damaged = Embedding::from_bytes(b"no embedding", segmenter());
    assert!(refusal(damaged.unwrap_err()).starts_with("embedding: no saved embedding"));
}

/// The logits of every pixel say what the mask says.
#[test]
fn full_logits_are_those_of_the_mask() {
    let embedding = embedding(WIDTH, HEIGHT);
    for candidate in &embedding.predict(&Prompt::point(70.0, 60.0)).unwrap() {
        let logits = &candidate.low_res_logits;
        let full = logits.upsample_logits(embedding.frame()).unwrap();
        let mask = samara::Mask::from_logits(&full, WIDTH, HEIGHT, 0.0).unwrap();
        assert_eq!(mask, candidate.mask);
    }
}
