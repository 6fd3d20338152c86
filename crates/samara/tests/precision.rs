//! Models that compute in fewer bits: how far their answers may be from those in `f32`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::path::PathBuf;

use common::{HEIGHT, WIDTH, checkpoint, photo, segmenter};
use samara::{DeviceKind, Embedding, Precision, Prompt, Segmenter, SegmenterOptions};

fn in_precision(file: &PathBuf, precision: Precision) -> Segmenter {
    let options = SegmenterOptions::new().with_precision(precision);
    Segmenter::load(file, options).unwrap()
}

fn golden(name: &str) -> PathBuf {
    checkpoint().with_file_name(name)
}

/// The norm of the difference by that of the first.
fn relative_error(exact: &[f32], other: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let pairs = exact.iter().zip(other);
    let error = norm(&mut pairs.map(|(a, b)| f64::from(a - b)));
    error / norm(&mut exact.iter().map(|x| f64::from(*x)))
}

#[test]
fn embeddings_are_close_to_those_in_fp32() {
    for name in ["sam_vit.pth", "mobile_sam.pth", "sam2_video.safetensors"] {
        let embed = |precision| {
            let segmenter = in_precision(&golden(name), precision);
            let embedding = segmenter.embed(&photo(WIDTH, HEIGHT)).unwrap();
            embedding.values().unwrap().0
        };
        let exact = embed(Precision::Fp32);
        // Where numbers are rounded at all, something changes.
        for (precision, most) in [(Precision::Bf16, 0.015), (Precision::Int8, 0.05)] {
            let error = relative_error(&exact, &embed(precision));
            assert!(error > 1e-5 && error < most, "{name} {precision}: {error}");
        }
    }
}

#[test]
fn logits_are_close_to_those_in_fp32() {
    let prompt = Prompt::point(60.0, 60.0);
    let logits = |segmenter: &Segmenter| -> Vec<f32> {
        let embedding = segmenter.embed(&photo(WIDTH, HEIGHT)).unwrap();
        let answer = embedding.predict(&prompt).unwrap();
        let tokens = &answer.tokens().low_res_logits;
        tokens.iter().flat_map(|l| l.values().to_vec()).collect()
    };
    let exact = logits(segmenter());
    for (precision, most) in [(Precision::Bf16, 0.05), (Precision::Int8, 0.2)] {
        let error = relative_error(&exact, &logits(&in_precision(&checkpoint(), precision)));
        assert!(error > 1e-5 && error < most, "{precision}: {error}");
    }
}

#[test]
fn the_weights_are_the_same_model_in_any_precision() {
    for precision in [Precision::Bf16, Precision::Int8] {
        let rounded = in_precision(&checkpoint(), precision);
        assert_eq!(rounded.precision(), precision);
        // What has been rounded does not change the fingerprint.
        rounded.embed(&photo(WIDTH, HEIGHT)).unwrap();
        let [own, exact] = [&rounded, segmenter()].map(|s| s.fingerprint().unwrap().to_owned());
        assert_eq!(own, exact);
    }
    assert_eq!(segmenter().precision(), Precision::Fp32);
}

#[test]
fn a_saved_embedding_tells_its_precision() {
    let rounded = in_precision(&checkpoint(), Precision::Bf16);
    let embedding = rounded.embed(&photo(WIDTH, HEIGHT)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.embedding");
    embedding.save(&path).unwrap();
    // Any model with these weights takes it.
    for segmenter in [segmenter(), &rounded] {
        let loaded = Embedding::load(&path, segmenter).unwrap();
        assert_eq!(loaded.precision(), Precision::Bf16);
        assert_eq!(loaded.values().unwrap(), embedding.values().unwrap());
    }
}

#[test]
fn precisions_have_names() {
    for precision in Precision::ALL {
        assert_eq!(
            precision.to_string().parse::<Precision>().unwrap(),
            precision
        );
        let resolved = precision.resolved(DeviceKind::Cpu);
        assert!(resolved != Precision::Auto);
        assert!(precision == Precision::Auto || resolved == precision);
        assert_eq!(precision.resolved(DeviceKind::Wgpu), Precision::Fp32);
    }
    let error = "fp8".parse::<Precision>().unwrap_err().to_string();
    assert!(error.contains("fp8") && error.contains("bf16"), "{error}");
}
