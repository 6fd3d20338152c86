//! 10 000 cases of the functions in the official `utils/amg.py`: not one may differ. The digests
//! come from `tests/golden/amg_references.py`, which also shows what a case should give.

use samara_image::{Mask, Region, Rle, remove_small_regions};

use super::crop::{self, CropBox, crop_boxes};
use super::{grid, nms};

const EXPECTED: &[u8] = include_bytes!("../../tests/golden/amg.bin");

/// `SplitMix64`, as in the script.
struct Random(u64);

impl Random {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    fn below(&mut self, n: u32) -> u32 {
        (self.word() % u64::from(n)) as u32
    }
}

fn digest(values: &[u64]) -> u64 {
    values.iter().fold(0xCBF2_9CE4_8422_2325, |total, value| {
        let total = (total ^ value).wrapping_mul(0x0100_0000_01B3);
        total ^ total >> 29
    })
}

/// Rectangles, each turning over what is there, then single pixels.
fn mask(rng: &mut Random) -> Mask {
    let (width, height) = (1 + rng.below(48), 1 + rng.below(48));
    let mut mask = Mask::new(width, height);
    let mut turn = |x0: u32, y0: u32, x1: u32, y1: u32| {
        for y in y0..y1.min(height) {
            for x in x0..x1.min(width) {
                mask.set(x, y, !mask.get(x, y));
            }
        }
    };
    for _ in 0..rng.below(6) {
        let (x, y) = (rng.below(width), rng.below(height));
        let (w, h) = (1 + rng.below(width), 1 + rng.below(height));
        turn(x, y, x + w, y + h);
    }
    for _ in 0..rng.below(12) {
        let (x, y) = (rng.below(width), rng.below(height));
        turn(x, y, x + 1, y + 1);
    }
    mask
}

fn numbers(values: impl IntoIterator<Item = u32>) -> Vec<u64> {
    values.into_iter().map(u64::from).collect()
}

fn counts(mask: &Mask) -> Vec<u64> {
    numbers(mask.to_rle().counts)
}

fn run_lengths(rng: &mut Random) -> Vec<u64> {
    let mask = mask(rng);
    let rle = mask.to_rle();
    assert_eq!(rle.to_mask().unwrap(), mask);
    let text = rle.to_compressed_string();
    assert_eq!(Rle::from_compressed_string(rle.size, &text).unwrap(), rle);
    let mut out = numbers(rle.counts.iter().copied());
    out.push(rle.area());
    out.extend(text.bytes().map(u64::from));
    out.extend(numbers(crop::corners(&mask)));
    out.extend(numbers(mask.bbox().map_or([0; 4], |b| b.amg_xywh())));
    out
}

fn small_regions(rng: &mut Random) -> Vec<u64> {
    let (mut pixels, area) = (mask(rng), u64::from(rng.below(40)));
    let mut out = Vec::new();
    for region in [Region::Holes, Region::Islands] {
        let (cleaned, changed) = remove_small_regions(&pixels, area, region);
        out.push(u64::from(changed));
        out.extend(counts(&cleaned));
        pixels = cleaned;
    }
    out
}

fn crops(rng: &mut Random) -> Vec<u64> {
    let (height, width) = (1 + rng.below(3000), 1 + rng.below(3000));
    let (layers, ratio) = (rng.below(4), f64::from(rng.below(1000)) / 1000.0);
    let boxes = crop_boxes((width, height), layers, ratio).unwrap_or_default();
    let numbers = |(c, layer): (CropBox, usize)| [c.x0, c.y0, c.x1, c.y1, layer as u32];
    boxes.into_iter().flat_map(numbers).map(u64::from).collect()
}

fn uncropped(rng: &mut Random) -> Vec<u64> {
    let mask = mask(rng);
    let (width, height) = (mask.width(), mask.height());
    let (x0, y0) = (rng.below(60), rng.below(60));
    let size = (x0 + width + rng.below(60), y0 + height + rng.below(60));
    let (x1, y1) = (x0 + width, y0 + height);
    let crop = CropBox { x0, y0, x1, y1 };
    let corners = crop::corners(&mask);
    let mut out = counts(&crop.uncrop_mask(mask, size));
    out.extend(numbers(crop.uncrop(corners)));
    out.push(u64::from(crop.cuts(corners, size)));
    out
}

fn grids(rng: &mut Random) -> Vec<u64> {
    let (side, layers, scale) = (1 + rng.below(64), rng.below(4), 1 + rng.below(3));
    let grids = grid::all_layers(side, layers as usize + 1, scale).unwrap_or_default();
    let bits = |v: f64| v.to_bits();
    grids.into_iter().flatten().flatten().map(bits).collect()
}

fn suppression(rng: &mut Random) -> Vec<u64> {
    let (mut boxes, mut scores) = (Vec::new(), Vec::new());
    for _ in 0..rng.below(60) {
        let (x, y) = (rng.below(40), rng.below(40));
        boxes.push([x, y, x + rng.below(30), y + rng.below(30)]);
        scores.push([rng.below(20) as f32 / 20.0; 2]);
    }
    let thresh = f64::from(rng.below(100)) / 100.0;
    let kept = nms::keep(&boxes, &scores, thresh);
    kept.into_iter().map(|i| i as u64).collect()
}

/// A function with its name; it gives numbers for a case.
type Kind = (&'static str, fn(&mut Random) -> Vec<u64>);

#[test]
fn ten_thousand_cases_of_the_official_functions() {
    let kinds: [Kind; 6] = [
        ("run lengths", run_lengths),
        ("small regions", small_regions),
        ("crops", crops),
        ("uncropped", uncropped),
        ("grids", grids),
        ("suppression", suppression),
    ];
    let (expected, rest) = EXPECTED.as_chunks::<8>();
    assert!(rest.is_empty() && expected.len() == 10_000);
    let mut different = Vec::new();
    for (number, expected) in expected.iter().enumerate() {
        let (kind, give) = kinds[number % kinds.len()];
        let given = give(&mut Random(number as u64));
        if digest(&given) != u64::from_le_bytes(*expected) {
            different.push(format!("{number} ({kind}): {given:?}"));
        }
    }
    let first = different.first();
    assert!(
        different.is_empty(),
        "{} differ: {first:?}",
        different.len()
    );
}
