//! Distance transforms, against plain search and against `scipy` and OpenCV.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use proptest::prelude::*;
use samara_image::{DistanceTransform, Mask};

/// Squared distance to the nearest unset pixel, by looking at all of them.
fn searched(mask: &Mask, x: u32, y: u32) -> u32 {
    let (w, h) = (mask.width() as i32, mask.height() as i32);
    let (x, y) = (x as i32, y as i32);
    let unset = |x: i32, y: i32| x < 0 || y < 0 || !mask.get(x as u32, y as u32);
    (-1..=h)
        .flat_map(|v| (-1..=w).map(move |u| (u, v)))
        .filter(|&(u, v)| unset(u, v))
        .map(|(u, v)| ((u - x).pow(2) + (v - y).pow(2)) as u32)
        .min()
        .unwrap()
}

fn pixels(mask: &Mask) -> impl Iterator<Item = (u32, u32)> + use<> {
    let width = mask.width();
    (0..mask.height()).flat_map(move |y| (0..width).map(move |x| (x, y)))
}

fn check(mask: &Mask, distances: &DistanceTransform) {
    let mut deepest: Option<(u32, u32, u32)> = None;
    for (x, y) in pixels(mask) {
        let expected = searched(mask, x, y);
        assert_eq!(distances.squared(x, y), expected, "{x},{y} of {mask:?}");
        if expected > deepest.map_or(0, |d| d.2) {
            deepest = Some((x, y, expected));
        }
    }
    let deepest = deepest.map(|(x, y, squared)| (x, y, f64::from(squared).sqrt()));
    assert_eq!(mask.most_interior(), deepest);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Few unset pixels make long parabolas meet, many make short runs.
    #[test]
    fn distances_are_those_of_a_search(
        (w, h) in (1u32..40, 1u32..30),
        wide in any::<bool>(),
        unset in prop::collection::vec((0u32..80, 0u32..30), 0..60),
        dense in any::<bool>(),
    ) {
        let w = if wide { w + 40 } else { w };
        let mut mask = Mask::from_fn(w, h, |x, y| !dense || (x * 7 + y * 13 + x * y) % 5 > 0);
        for (x, y) in unset {
            mask.set(x, y, false);
        }
        check(&mask, &mask.distance_transform());
    }

    #[test]
    fn memory_is_used_again_without_a_trace(
        shapes in prop::collection::vec((1u32..30, 1u32..30, 0u32..9, 0u32..9, 0u32..30), 1..5),
    ) {
        let mut distances = DistanceTransform::default();
        for (w, h, x0, y0, side) in shapes {
            let within = |v: u32, from: u32| (from..from + side).contains(&v);
            let mask = Mask::from_fn(w, h, |x, y| within(x, x0) && within(y, y0));
            distances.compute(&mask);
            check(&mask, &distances);
        }
    }
}

/// `scipy.ndimage.distance_transform_edt` squared, of the mask padded by one;
/// `cv2.distanceTransform(…, DIST_L2, DIST_MASK_PRECISE)` says the same.
#[test]
fn distances_are_those_of_scipy_and_opencv() {
    let ring = Mask::from_fn(20, 15, |x, y| {
        let within = |cx: u32, cy: u32, r: u32| x.abs_diff(cx).pow(2) + y.abs_diff(cy).pow(2) < r;
        within(9, 7, 50) && !within(11, 6, 6)
    });
    let row = [0, 0, 1, 2, 5, 10, 9, 4, 1, 0, 0, 0, 0, 0, 1, 2, 1, 0, 0, 0];
    recorded(&ring, 433, (6, 9, 13), (0, 7), &row);
    let corner = Mask::from_fn(24, 16, |x, y| x + y < 19 && (x * y) % 17 != 5);
    let row = [1, 4, 5, 8, 10, 5, 2, 1, 0, 1, 2, 1, 0, 0];
    recorded(&corner, 552, (5, 5, 13), (0, 7), &row);
    let waves = Mask::from_fn(150, 90, |x, y| {
        (7 * x * x + 3 * x * y + 11 * y * y) % 1009 < 970
    });
    let row = [13, 18, 17, 16, 10, 5, 2, 1, 1, 2, 1, 0, 1, 4, 2];
    recorded(&waves, 99_777, (140, 26, 74), (100, 70), &row);
    recorded(
        &Mask::full(21, 10),
        1830,
        (4, 4, 25),
        (0, 7),
        &[1, 4, 9, 9, 9],
    );
}

fn recorded(mask: &Mask, sum: u32, (x, y, max): (u32, u32, u32), from: (u32, u32), row: &[u32]) {
    let distances = mask.distance_transform();
    let all: u32 = pixels(mask).map(|(x, y)| distances.squared(x, y)).sum();
    assert_eq!(all, sum);
    assert_eq!(mask.most_interior(), Some((x, y, f64::from(max).sqrt())));
    for (x, &expected) in (from.0..).zip(row) {
        assert_eq!(distances.squared(x, from.1), expected);
    }
}

#[test]
fn masks_without_pixels_have_no_distance() {
    for mask in [Mask::new(5, 4), Mask::new(0, 0), Mask::full(0, 3)] {
        assert_eq!(mask.most_interior(), None);
        assert_eq!(mask.distance_transform().get(0, 0), 0.0);
    }
}

#[test]
fn the_deepest_pixel_can_be_excluded() {
    let distances = Mask::full(5, 5).distance_transform();
    assert_eq!(distances.deepest(|_, _| true), Some((2, 2, 3.0)));
    let others = distances.deepest(|x, y| (x, y) != (2, 2));
    assert_eq!(others, Some((1, 1, 2.0)));
    assert_eq!(distances.deepest(|_, _| false), None);
}

/// Squares of the longest distance fit: 1 × 200 001 pixels, all set.
#[test]
fn long_lines_do_not_overflow() {
    let (across, down) = (Mask::full(200_001, 1), Mask::full(1, 200_001));
    assert_eq!(across.most_interior(), Some((0, 0, 1.0)));
    assert_eq!(down.most_interior(), Some((0, 0, 1.0)));
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    let disc = Mask::from_fn(640, 640, |x, y| {
        x.abs_diff(320).pow(2) + y.abs_diff(320).pow(2) < 300 * 300
    });
    let mut noise = disc.clone();
    for i in 0..2000u32 {
        noise.set(i.wrapping_mul(2_654_435_761) % 640, i * 7919 % 640, false);
    }
    let small = Mask::from_fn(640, 640, |x, y| x.abs_diff(320) + y.abs_diff(320) < 20);
    let mut distances = DistanceTransform::default();
    for (name, mask) in [("disc", disc), ("noise", noise), ("small", small)] {
        let start = std::time::Instant::now();
        for _ in 0..100 {
            distances.compute(&mask);
        }
        println!("{name}: {:?}", start.elapsed() / 100);
    }
}
