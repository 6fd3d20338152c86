//! Models that compute in fewer bits: how far their answers may be from those in `f32`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::ops::ControlFlow;
use std::path::PathBuf;

use common::{HEIGHT, WIDTH, checkpoint, photo, segmenter};
use samara::checkpoint::Checkpoint;
use samara::{
    DeviceKind, Embedding, Int8Model, Int8Options, Int8Report, Precision, Prompt, RgbImage,
    Segmenter, SegmenterOptions,
};

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

/// Integers where they cost little, bf16 elsewhere, and fp32 to the bit where nothing is an integer.
#[test]
fn a_model_in_integers_stays_within_its_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("int8.safetensors");
    let pictures = [photo(WIDTH, HEIGHT), photo(HEIGHT, WIDTH)];
    for name in ["sam_vit.pth", "mobile_sam.pth", "sam2_video.safetensors"] {
        let source = Checkpoint::open(golden(name)).unwrap();
        let find = |max_error: f64| {
            let options = Int8Options::default().with_max_error(max_error);
            Int8Model::find(&source, &pictures, &options, |_, done, of| {
                assert!(done < of);
                ControlFlow::Continue(())
            })
            .unwrap()
        };
        let loose = find(0.9);
        assert!(loose.report().bf16.is_empty(), "{name}");
        let most = f64::midpoint(loose.report().error_of_all, loose.report().error_of_bf16);
        let model = find(most);
        let report = model.report();
        assert!(
            report.error <= most && report.error >= report.error_of_bf16,
            "{name}: {report:?}"
        );
        assert!(
            report.integers > 0 && !report.bf16.is_empty(),
            "{name}: {report:?}"
        );
        model.save(&path).unwrap();
        let saved = Checkpoint::open(&path).unwrap();
        let json = &saved.metadata()[Int8Model::KEY];
        assert_eq!(&serde_json::from_str::<Int8Report>(json).unwrap(), report);
        // The saved model is the one that was measured.
        let values = |segmenter: &Segmenter| {
            let embedding = segmenter.embed(&pictures[0]).unwrap();
            embedding.values().unwrap().0
        };
        let exact = values(&in_precision(&golden(name), Precision::Fp32));
        let int8 = values(&in_precision(&path, Precision::Int8));
        let error = relative_error(&exact, &int8);
        assert!(error > 0.0 && error < 2.0 * most, "{name}: {error}");
        // It gives more than a model whose layers are all integers.
        assert_ne!(int8, values(&in_precision(&golden(name), Precision::Int8)));
    }
}

#[test]
fn what_cannot_be_found_is_told() {
    let source = Checkpoint::open(checkpoint()).unwrap();
    let find = |pictures: &[RgbImage], max_error: f64, options: SegmenterOptions| {
        let options = Int8Options::default()
            .with_max_error(max_error)
            .with_segmenter(options);
        let found = Int8Model::find(&source, pictures, &options, |_, _, _| {
            ControlFlow::Continue(())
        });
        found.map(|_| ()).unwrap_err().to_string()
    };
    let picture = [photo(WIDTH, HEIGHT)];
    let cpu = SegmenterOptions::new;
    assert!(find(&[], 0.1, cpu()).contains("pictures"));
    assert!(find(&picture, f64::NAN, cpu()).contains("max_error"));
    assert!(find(&picture, 1e-6, cpu()).contains("bf16 alone"));
    assert!(find(&picture, 0.1, DeviceKind::Wgpu.into()).contains("CPU"));
    let told = |json: &str| {
        let damaged = source
            .clone()
            .with_metadata(Int8Model::KEY, Some(json.into()));
        let loaded = Segmenter::from_checkpoint(&damaged, SegmenterOptions::new());
        let found = Int8Model::find(&damaged, &picture, &Int8Options::default(), |_, _, _| {
            ControlFlow::Continue(())
        });
        [loaded.map(|_| ()), found.map(|_| ())].map(|result| result.map_err(|e| e.to_string()))
    };
    for json in ["", "{", "5", r#"{"error": 0.1}"#] {
        for result in told(json) {
            assert!(result.unwrap_err().contains("bad samara.int8"), "{json}");
        }
    }
    let report = r#"{"error": 0.1, "error_of_all": 0.2, "error_of_bf16": 0.1, "pictures": 1, "smoothing": 0.5,
        "integers": 3, "bf16": []}"#;
    let [loaded, found] = told(report);
    assert!(loaded.is_ok() && found.unwrap_err().contains("already"));
    let stopped = Int8Model::find(&source, &picture, &Int8Options::default(), |_, _, _| {
        ControlFlow::Break(())
    });
    assert!(matches!(stopped, Err(samara::Error::Cancelled)));
}

#[test]
fn a_gpu_computes_in_fp32_alone() {
    for precision in [Precision::Bf16, Precision::Int8] {
        let options = SegmenterOptions::new().with_device(DeviceKind::Wgpu);
        let error = Segmenter::load(checkpoint(), options.with_precision(precision)).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains(precision.name()) && error.contains("GPU"),
            "{error}"
        );
    }
}

#[test]
fn precisions_have_names() {
    for precision in Precision::ALL {
        assert_eq!(
            precision.to_string().parse::<Precision>().unwrap(),
            precision
        );
        let resolved = in_precision(&checkpoint(), precision).precision();
        assert!(resolved != Precision::Auto);
        assert!(precision == Precision::Auto || resolved == precision);
    }
    let error = "fp8".parse::<Precision>().unwrap_err().to_string();
    assert!(error.contains("fp8") && error.contains("bf16"), "{error}");
}
