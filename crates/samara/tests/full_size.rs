//! Parity at full size with the official packages, every parameter random.
//!
//! ```sh
//! python tests/golden/model_references.py full REFERENCES --model vit_b
//! SAMARA_REFERENCES=REFERENCES cargo test --release --workspace --test full_size -- --ignored --nocapture
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints what it measured"
)]

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use samara::{
    DeviceKind, Embedding, ImageLimits, Logits, MaskPrompt, Prompt, Segmenter, read_image,
};

/// Bars of the project: relative L2 of embedding and logits, largest difference of the predicted
/// IoU, smallest IoU of a mask. A point that is off by 0.15 model pixels moves the logits by 5e-4.
const EMBEDDING: f64 = 1e-4;
const LOGITS: f64 = 1e-4;
const IOU: f64 = 1e-4;
const MASKS: f64 = 0.999;

#[test]
#[ignore = "needs the references that tests/golden/model_references.py full makes"]
fn every_reference_in_the_folder() {
    let folder = std::env::var_os("SAMARA_REFERENCES").expect("SAMARA_REFERENCES is not set");
    let folder = PathBuf::from(folder);
    let mut models: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "pth"))
        .collect();
    models.sort();
    assert!(!models.is_empty(), "no .pth in {}", folder.display());
    for model in models {
        check(&model, &folder.join("photo.png"));
    }
}

fn check(model: &Path, photo: &Path) {
    let bytes = std::fs::read(model.with_extension("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let segmenter = Segmenter::load(model, DeviceKind::Cpu).unwrap();
    let photo = read_image(photo, &ImageLimits::default()).unwrap();
    let embedding = segmenter.embed(&photo).unwrap();
    let wanted = floats(&expected, "image_embedding").unwrap();
    let error = relative_l2(&embedding.values().unwrap().0, &wanted);
    println!("{:<28} embedding {error:.2e}", segmenter.architecture());
    assert!(error <= EMBEDDING);
    for case in [
        "point",
        "points",
        "box",
        "box_points",
        "mask",
        "point_mask",
        "batch",
    ] {
        for kind in ["multi", "single"] {
            if expected.tensor(&format!("case.{case}.{kind}.iou")).is_ok() {
                compare(&embedding, &expected, case, kind);
            }
        }
    }
}

fn compare(embedding: &Embedding, expected: &SafeTensors<'_>, case: &str, kind: &str) {
    let mut prompts = prompts(expected, case);
    if kind == "single" {
        prompts = prompts.into_iter().map(Prompt::with_single_mask).collect();
    }
    let answers = embedding.predict_batch(&prompts).unwrap();
    let all = || answers.iter().flat_map(|candidates| candidates.iter());
    let name = |field: &str| format!("case.{case}.{kind}.{field}");

    let logits: Vec<f32> = all()
        .flat_map(|c| c.low_res_logits.values().to_vec())
        .collect();
    let logits = relative_l2(&logits, &floats(expected, &name("low_res_logits")).unwrap());
    let wanted = floats(expected, &name("iou")).unwrap();
    let iou = all()
        .zip(wanted)
        .map(|(c, wanted)| f64::from((c.predicted_iou.0 - wanted).abs()))
        .fold(0.0, f64::max);
    let masks = expected.tensor(&name("masks")).unwrap();
    let size = masks.data().len() / all().count();
    let overlap = all()
        .zip(masks.data().chunks_exact(size))
        .map(|(c, wanted)| overlap(&c.mask.to_bools(), wanted))
        .fold(1.0, f64::min);
    println!(
        "  {case:<10} {kind:<6} x{:<2} logits {logits:.2e}  IoU {iou:.2e}  masks {overlap:.6}",
        prompts.len()
    );
    assert!(logits <= LOGITS && iou <= IOU && overlap >= MASKS);
}

/// The prompts of a case, in original pixels.
fn prompts(expected: &SafeTensors<'_>, case: &str) -> Vec<Prompt> {
    let input = |field: &str| floats(expected, &format!("case.{case}.{field}"));
    let (points, labels) = (input("points"), input("labels"));
    let (boxes, masks) = (input("boxes"), input("mask_input"));
    let batch = points.as_ref().map_or(1, |_| {
        expected
            .tensor(&format!("case.{case}.points"))
            .unwrap()
            .shape()[0]
    });
    let of = |values: &[f32], i: usize| {
        let each = values.len() / batch;
        values[i * each..(i + 1) * each].to_vec()
    };
    let prompt = |i: usize| {
        let mut prompt = Prompt::new();
        if let (Some(points), Some(labels)) = (&points, &labels) {
            for (at, label) in of(points, i).chunks_exact(2).zip(of(labels, i)) {
                let (x, y) = (f64::from(at[0]), f64::from(at[1]));
                prompt = if label > 0.5 {
                    prompt.with_point(x, y)
                } else {
                    prompt.with_negative_point(x, y)
                };
            }
        }
        if let Some(boxes) = &boxes {
            let corners: Vec<f64> = of(boxes, i).into_iter().map(f64::from).collect();
            let [x0, y0, x1, y1] = corners[..] else {
                panic!("{corners:?}")
            };
            prompt = prompt.with_box(samara::OriginalBox::new(x0, y0, x1, y1).unwrap());
        }
        if let Some(masks) = &masks {
            let logits = Logits::new(256, of(masks, i)).unwrap();
            prompt = prompt.with_mask(MaskPrompt::Logits(logits));
        }
        prompt
    };
    (0..batch).map(prompt).collect()
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Option<Vec<f32>> {
    let bytes = file.tensor(name).ok()?.data().as_chunks::<4>().0;
    Some(bytes.iter().copied().map(f32::from_le_bytes).collect())
}

fn relative_l2(found: &[f32], wanted: &[f32]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let square = |x: f32| f64::from(x) * f64::from(x);
    let difference: f64 = found.iter().zip(wanted).map(|(a, b)| square(a - b)).sum();
    let norm: f64 = wanted.iter().map(|&b| square(b)).sum();
    (difference / norm).sqrt()
}

fn overlap(found: &[bool], wanted: &[u8]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let pairs = || found.iter().zip(wanted).map(|(&a, &b)| (a, b > 0));
    let both = pairs().filter(|&(a, b)| a && b).count();
    let either = pairs().filter(|&(a, b)| a || b).count();
    if either == 0 {
        1.0
    } else {
        both as f64 / either as f64
    }
}
