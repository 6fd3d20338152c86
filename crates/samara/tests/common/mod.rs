//! What the tests share: a small model with random weights, an image for it, and a measure of
//! how much two answers differ.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::path::PathBuf;
use std::sync::LazyLock;

use samara::{Candidates, DeviceKind, Segmenter};
use samara_image::{Rgb, RgbImage};

/// The image's size; the scale to the model's 128 pixels differs between the axes.
pub(crate) const WIDTH: u32 = 200;
pub(crate) const HEIGHT: u32 = 120;

/// 128×128 pixels in, a grid of 8×8, mask logits of 32×32.
pub(crate) fn checkpoint() -> PathBuf {
    let folder = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap());
    folder.join("../samara-model/tests/golden/sam_vit.pth")
}

pub(crate) fn segmenter() -> &'static Segmenter {
    static SEGMENTER: LazyLock<Segmenter> =
        LazyLock::new(|| Segmenter::load(checkpoint(), DeviceKind::Cpu).unwrap());
    &SEGMENTER
}

/// A bright disc on a gradient.
pub(crate) fn photo(width: u32, height: u32) -> RgbImage {
    let (cx, cy) = (width / 3, height / 2);
    RgbImage::from_fn(width, height, |x, y| {
        let inside = x.abs_diff(cx).pow(2) + y.abs_diff(cy).pow(2) < (height / 4).pow(2);
        let ramp = |at: u32, of: u32| (255 * at / of) as u8;
        if inside {
            Rgb([250, 220, 30])
        } else {
            Rgb([ramp(x, width), ramp(y, height), 90])
        }
    })
}

/// The largest difference of logits or scores between two answers, over all mask tokens.
pub(crate) fn difference(a: &Candidates, b: &Candidates) -> f32 {
    let values = |answer: &Candidates| -> Vec<f32> {
        let tokens = answer.tokens();
        let logits = tokens
            .low_res_logits
            .iter()
            .flat_map(|l| l.values().to_vec());
        logits.chain(tokens.iou.iter().map(|iou| iou.0)).collect()
    };
    largest_difference(&values(a), &values(b))
}

pub(crate) fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}
