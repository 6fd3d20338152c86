//! The measures of video object segmentation, on cases recorded by
//! `tests/golden/vos_references.py` of the workspace.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use proptest::prelude::*;
use samara_image::{Mask, contour_f_measure};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    size: [u32; 2],
    areas: [u64; 2],
    j: f64,
    f: f64,
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ z >> 31) % u64::from(n)) as u32
    }
}

fn turn(mask: &mut Mask, inside: impl Fn(u32, u32) -> bool) {
    let part = Mask::from_fn(mask.width(), mask.height(), inside);
    *mask = mask.xor(&part).unwrap();
}

fn turn_disc(mask: &mut Mask, rng: &mut Random, radii: u32) {
    let (cx, cy) = (rng.below(mask.width()), rng.below(mask.height()));
    let radius = rng.below(radii);
    turn(mask, |x, y| {
        x.abs_diff(cx).pow(2) + y.abs_diff(cy).pow(2) <= radius.pow(2)
    });
}

fn turn_box(mask: &mut Mask, rng: &mut Random) {
    let (left, top) = (rng.below(mask.width()), rng.below(mask.height()));
    let (width, height) = (1 + rng.below(mask.width()), 1 + rng.below(mask.height()));
    turn(mask, |x, y| {
        (left..left + width).contains(&x) && (top..top + height).contains(&y)
    });
}

fn shape(rng: &mut Random, width: u32, height: u32) -> Mask {
    let mut mask = Mask::new(width, height);
    match rng.below(12) {
        0 => {}
        1 => mask = Mask::full(width, height),
        2 => {
            let y = rng.below(height);
            mask.set(rng.below(width), y, true);
        }
        _ => {
            for _ in 0..=rng.below(4) {
                turn_disc(&mut mask, rng, 1 + width.max(height) / 3);
                turn_box(&mut mask, rng);
            }
        }
    }
    mask
}

/// Prediction and truth.
fn pair(number: usize, recorded: &Case) -> [Mask; 2] {
    let mut rng = Random(number as u64);
    let [width, height] = recorded.size;
    if number >= 32 {
        let most = [12, 70, 260][number % 3];
        assert_eq!([1 + rng.below(most), 1 + rng.below(most)], recorded.size);
    }
    let truth = shape(&mut rng, width, height);
    if rng.below(6) == 0 {
        return [shape(&mut rng, width, height), truth];
    }
    let reach = 2 + (width + height) / 60;
    let (right, down) = (rng.below(reach), rng.below(reach));
    let mut prediction = truth.placed(right, down, width, height);
    for _ in 0..rng.below(6) {
        turn_disc(&mut prediction, &mut rng, reach);
    }
    [prediction, truth]
}

#[test]
fn measures_are_those_of_the_davis_evaluation() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("golden/vos.json")).unwrap();
    assert_eq!(cases.len(), 400);
    for (number, case) in cases.iter().enumerate() {
        let [prediction, truth] = pair(number, case);
        let areas = [prediction.area(), truth.area()];
        assert_eq!(areas, case.areas, "the masks of case {number} differ");
        let (j, f) = (
            prediction.iou(&truth),
            contour_f_measure(&prediction, &truth),
        );
        assert!(
            (j - case.j).abs() < 1e-12,
            "{number}: J {j}, not {}",
            case.j
        );
        assert!(
            (f - case.f).abs() < 1e-12,
            "{number}: F {f}, not {}",
            case.f
        );
    }
}

#[test]
fn masks_without_pixels_agree() {
    for mask in [Mask::new(0, 0), Mask::full(0, 3), Mask::full(3, 0)] {
        assert_eq!(contour_f_measure(&mask, &mask), 1.0);
    }
}

proptest! {
    /// Against looking at all pixels; radii beyond the sides, and sides around the word size.
    #[test]
    fn a_disk_reaches_what_is_near(
        (w, h) in (prop_oneof![1u32..12, 60u32..70, 126u32..131], 1u32..20),
        set in prop::collection::vec((0u32..131, 0u32..20), 0..5),
        radius in prop_oneof![0u32..12, 0u32..200],
    ) {
        let mut mask = Mask::new(w, h);
        set.iter().for_each(|&(x, y)| mask.set(x % w, y % h, true));
        let near = |x: u32, y: u32| {
            mask.iter_set()
                .any(|(u, v)| x.abs_diff(u).pow(2) + y.abs_diff(v).pow(2) <= radius.pow(2))
        };
        prop_assert_eq!(mask.dilate_disk(radius), Mask::from_fn(w, h, near));
    }

    /// The smallest frame of both is the size that is compared.
    #[test]
    fn the_smaller_mask_is_unset_outside(
        (a, b) in ((1u32..80, 1u32..40), (1u32..80, 1u32..40)),
        n in 2u32..9,
    ) {
        let of = |(w, h)| Mask::from_fn(w, h, |x, y| (x * y + x + y) % n < 2);
        let (a, b) = (of(a), of(b));
        let (w, h) = (a.width().max(b.width()), a.height().max(b.height()));
        let placed = contour_f_measure(&a.placed(0, 0, w, h), &b.placed(0, 0, w, h));
        prop_assert_eq!(contour_f_measure(&a, &b), placed);
    }
}

#[test]
fn a_huge_radius_sets_everything() {
    let mut mask = Mask::new(70, 3);
    assert!(mask.dilate_disk(u32::MAX).is_empty());
    mask.set(69, 2, true);
    assert_eq!(mask.dilate_disk(u32::MAX), Mask::full(70, 3));
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    for (w, h) in [(854, 480), (1920, 1080), (4000, 3000)] {
        let disc = |cx: u32| {
            Mask::from_fn(w, h, |x, y| {
                x.abs_diff(cx).pow(2) + y.abs_diff(h / 2).pow(2) < (h / 3).pow(2)
            })
        };
        let (a, b) = (disc(w / 2), disc(w / 2 + h / 100));
        let start = std::time::Instant::now();
        let f = contour_f_measure(&a, &b);
        println!("{w}x{h}: F {f:.3} in {:?}", start.elapsed());
    }
}
