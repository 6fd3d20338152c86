//! Equality with the reference implementations, on cases recorded by
//! `tests/golden/image_references.py` of the workspace.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed helper is a failed test"
)]

use std::path::PathBuf;

use samara_image::{
    GrayImage, Mask, Region, RgbImage, Rle, coco_polygons_to_mask, remove_small_regions,
    resize_bicubic, resize_bilinear, resize_bilinear_f32, resize_bilinear_gray,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

fn golden(file: &str) -> Vec<u8> {
    let path = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .join("tests/golden")
        .join(file);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn cases<T: DeserializeOwned>(file: &str) -> Vec<T> {
    let cases: Vec<T> = serde_json::from_slice(&golden(file)).unwrap();
    assert!(!cases.is_empty());
    cases
}

/// A mask packed row by row, lowest bit first, in hexadecimal; `size` is height, width.
fn unpack(size: [u32; 2], hex: &str) -> Mask {
    let [height, width] = size;
    let byte = |i: usize| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap();
    Mask::from_fn(width, height, |x, y| {
        let i = (y * width + x) as usize;
        byte(i / 8) >> (i % 8) & 1 == 1
    })
}

#[derive(Deserialize)]
struct ResizeCase {
    name: String,
    channels: u32,
    from: [u32; 2],
    to: [u32; 2],
    input: usize,
    output: usize,
    bicubic: Option<u64>,
    floats: Option<usize>,
}

impl ResizeCase {
    fn bytes<'a>(&self, all: &'a [u8], at: usize, [w, h]: [u32; 2]) -> &'a [u8] {
        &all[at..at + (w * h * self.channels) as usize]
    }

    fn rgb(&self, all: &[u8]) -> RgbImage {
        let [w, h] = self.from;
        RgbImage::from_raw(w, h, self.bytes(all, self.input, self.from).to_vec()).unwrap()
    }

    fn what(&self) -> String {
        format!(
            "{} x{} {:?} -> {:?}",
            self.name, self.channels, self.from, self.to
        )
    }
}

#[test]
fn resizing_gives_the_bytes_of_pillow() {
    let bytes = golden("resize.bin");
    for case in cases::<ResizeCase>("resize.json") {
        let expected = case.bytes(&bytes, case.output, case.to);
        let [to_w, to_h] = case.to;
        let actual = if case.channels == 3 {
            resize_bilinear(&case.rgb(&bytes), to_w, to_h).into_raw()
        } else {
            let [w, h] = case.from;
            let input = case.bytes(&bytes, case.input, case.from).to_vec();
            resize_bilinear_gray(&GrayImage::from_raw(w, h, input).unwrap(), to_w, to_h).into_raw()
        };
        let wrong = actual.iter().zip(expected).filter(|(a, b)| a != b).count();
        assert_eq!(
            (actual.len(), wrong),
            (expected.len(), 0),
            "{}",
            case.what()
        );
    }
}

/// FNV-1a of 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |total, &byte| {
        (total ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

#[test]
fn bicubic_resizing_gives_the_bytes_of_pillow() {
    let bytes = golden("resize.bin");
    let all = cases::<ResizeCase>("resize.json");
    for case in all.iter().filter(|case| case.channels == 3) {
        let resized = resize_bicubic(&case.rgb(&bytes), case.to[0], case.to[1]);
        assert_eq!(Some(fnv(resized.as_raw())), case.bicubic, "{}", case.what());
    }
}

#[test]
fn resizing_to_floats_gives_the_values_of_torchvision() {
    /// Of the values so many are recorded.
    const EVERY: usize = 11;
    let bytes = golden("resize.bin");
    for case in cases::<ResizeCase>("resize.json") {
        let Some(at) = case.floats else { continue };
        let actual = resize_bilinear_f32(&case.rgb(&bytes), case.to[0], case.to[1]);
        assert_eq!(actual.len(), (3 * case.to[0] * case.to[1]) as usize);
        let (expected, _) = bytes[at..].as_chunks::<4>();
        for (i, (a, &b)) in actual.iter().step_by(EVERY).zip(expected).enumerate() {
            let off = (a - f32::from_le_bytes(b)).abs();
            assert!(off < 5e-7, "{}: value {i} is off by {off}", case.what());
        }
    }
}

#[test]
fn images_without_pixels_give_zeros() {
    assert_eq!(
        resize_bilinear_f32(&RgbImage::new(0, 4), 2, 1),
        vec![0.0; 6]
    );
    assert_eq!(
        resize_bilinear_f32(&RgbImage::new(3, 4), 2, 0),
        Vec::<f32>::new()
    );
    assert_eq!(
        resize_bicubic(&RgbImage::new(4, 0), 2, 1),
        RgbImage::new(2, 1)
    );
}

#[derive(Deserialize)]
struct RleCase {
    name: String,
    size: [u32; 2],
    bits: String,
    counts: Vec<u32>,
    compressed: String,
    area: u64,
    bbox: [u32; 4],
    amg_box: [u32; 4],
}

#[test]
fn run_lengths_are_those_of_pycocotools() {
    for case in cases::<RleCase>("rle.json") {
        let name = &case.name;
        let mask = unpack(case.size, &case.bits);
        let rle = mask.to_rle();
        assert_eq!(rle.size, case.size, "{name}");
        assert_eq!(rle.counts, case.counts, "{name}");
        assert_eq!(rle.to_compressed_string(), case.compressed, "{name}");
        let parsed = Rle::from_compressed_string(case.size, &case.compressed).unwrap();
        assert_eq!(parsed, rle, "{name}");
        assert_eq!(parsed.to_mask().unwrap(), mask, "{name}");
        assert_eq!((rle.area(), mask.area()), (case.area, case.area), "{name}");
        assert_eq!(rle.bbox(), mask.bbox(), "{name}");
        assert_eq!(
            mask.bbox().map_or([0; 4], |b| b.xywh()),
            case.bbox,
            "{name}"
        );
        assert_eq!(
            mask.bbox().map_or([0; 4], |b| b.xyxy_inclusive()),
            case.amg_box,
            "{name}"
        );
    }
}

#[derive(Deserialize)]
struct PolygonCase {
    size: [u32; 2],
    segmentation: Vec<Vec<f64>>,
    compressed: String,
}

#[test]
fn polygons_are_filled_as_pycocotools_does() {
    for case in cases::<PolygonCase>("polygons.json") {
        let [height, width] = case.size;
        let mask = coco_polygons_to_mask(&case.segmentation, width, height).unwrap();
        let text = mask.to_rle().to_compressed_string();
        assert_eq!(
            text, case.compressed,
            "{height}x{width} {:?}",
            case.segmentation
        );
    }
}

#[derive(Deserialize)]
struct RegionCase {
    size: [u32; 2],
    bits: String,
    runs: Vec<RegionRun>,
}

#[derive(Deserialize)]
struct RegionRun {
    mode: String,
    area: u64,
    bits: String,
    changed: bool,
}

#[test]
fn small_regions_go_as_in_the_official_generator() {
    for (i, case) in cases::<RegionCase>("small_regions.json").iter().enumerate() {
        let mask = unpack(case.size, &case.bits);
        for run in &case.runs {
            let region = if run.mode == "holes" {
                Region::Holes
            } else {
                Region::Islands
            };
            let (result, changed) = remove_small_regions(&mask, run.area, region);
            let what = format!("case {i}, {} below {}", run.mode, run.area);
            assert_eq!(changed, run.changed, "{what}");
            assert_eq!(result, unpack(case.size, &run.bits), "{what}");
        }
    }
}
