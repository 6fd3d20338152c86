//! Invariants on random masks, against plain implementations on `bool`s.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use proptest::prelude::*;
use samara_image::{BBox, Connectivity, Mask, Rle, boundary_iou, components, polygons_to_mask};

/// Width, height and pixels, sparse to dense, with sides around the word size.
fn any_mask() -> impl Strategy<Value = Mask> {
    let side = prop_oneof![1u32..12, 60u32..70, 120u32..135];
    (side.clone(), side, 0.0..1.0f64).prop_flat_map(|(w, h, p)| {
        prop::collection::vec(prop::bool::weighted(p), (w * h) as usize)
            .prop_map(move |v| Mask::from_bools(w, h, &v).unwrap())
    })
}

fn two_masks() -> impl Strategy<Value = (Mask, Mask)> {
    (any_mask(), 0.0..1.0f64).prop_flat_map(|(a, p)| {
        let (w, h) = (a.width(), a.height());
        prop::collection::vec(prop::bool::weighted(p), (w * h) as usize)
            .prop_map(move |v| (a.clone(), Mask::from_bools(w, h, &v).unwrap()))
    })
}

fn padding_is_clear(mask: &Mask) -> bool {
    let n = mask.words_per_row() as u32 * 64;
    (0..mask.height()).all(|y| {
        let row = mask.row(y);
        (mask.width()..n).all(|x| row[(x / 64) as usize] >> (x % 64) & 1 == 0)
    })
}

fn near(mask: &Mask, x: u32, y: u32, r: i64) -> impl Iterator<Item = bool> + '_ {
    let get = |x: i64, y: i64| x >= 0 && y >= 0 && mask.get(x as u32, y as u32);
    (-r..=r).flat_map(move |dy| (-r..=r).map(move |dx| get(i64::from(x) + dx, i64::from(y) + dy)))
}

/// Sizes of components by flooding from each pixel in turn.
fn flood(mask: &Mask, connectivity: Connectivity) -> Vec<Mask> {
    let mut left = mask.clone();
    let mut found = Vec::new();
    while let Some(seed) = { left.iter_set().next() } {
        let mut part = Mask::new(mask.width(), mask.height());
        let mut open = vec![seed];
        while let Some((x, y)) = open.pop() {
            if !left.get(x, y) {
                continue;
            }
            left.set(x, y, false);
            part.set(x, y, true);
            for (dx, dy) in [
                (1, 0),
                (0, 1),
                (-1, 0),
                (0, -1),
                (1, 1),
                (-1, 1),
                (1, -1),
                (-1, -1),
            ] {
                if dx * dy == 0 || connectivity == Connectivity::Eight {
                    open.push((x.wrapping_add_signed(dx), y.wrapping_add_signed(dy)));
                }
            }
        }
        found.push(part);
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn operations_agree_with_bools((a, b) in two_masks()) {
        let (va, vb) = (a.to_bools(), b.to_bools());
        let (w, h) = (a.width(), a.height());
        let zip = |op: fn(bool, bool) -> bool| {
            let v: Vec<bool> = va.iter().zip(&vb).map(|(&a, &b)| op(a, b)).collect();
            Mask::from_bools(w, h, &v).unwrap()
        };
        prop_assert_eq!(a.and(&b).unwrap(), zip(|a, b| a && b));
        prop_assert_eq!(a.or(&b).unwrap(), zip(|a, b| a || b));
        prop_assert_eq!(a.and_not(&b).unwrap(), zip(|a, b| a && !b));
        prop_assert_eq!(a.xor(&b).unwrap(), zip(|a, b| a != b));
        prop_assert_eq!(!&a, zip(|a, _| !a));
        prop_assert!(padding_is_clear(&!&a));
        let count = |m: &Mask| m.to_bools().iter().filter(|&&v| v).count() as u64;
        prop_assert_eq!(a.area(), count(&a));
        prop_assert_eq!(a.intersection_area(&b), count(&zip(|a, b| a && b)));
        prop_assert_eq!(a.union_area(&b), count(&zip(|a, b| a || b)));
        prop_assert_eq!(a.is_empty(), a.area() == 0);
        prop_assert_eq!(a.iter_set().count() as u64, a.area());
        prop_assert!(a.iter_set().all(|(x, y)| a.get(x, y)));
        prop_assert_eq!(Mask::from_luma(&a.to_luma(), 127), a);
    }

    #[test]
    fn the_box_is_tight(a in any_mask()) {
        let (xs, ys): (Vec<u32>, Vec<u32>) = a.iter_set().unzip();
        let span = |v: &[u32]| Some((*v.iter().min()?, v.iter().max()? - v.iter().min()? + 1));
        let naive = span(&xs).zip(span(&ys)).map(|((x, width), (y, height))| {
            BBox { x, y, width, height }
        });
        prop_assert_eq!(a.bbox(), naive);
        prop_assert_eq!(a.to_rle().bbox(), naive);
        prop_assert_eq!(a.to_rle().area(), a.area());
    }

    #[test]
    fn crops_and_resizes_look_up_pixels(
        a in any_mask(), x in 0u32..140, y in 0u32..140, w in 0u32..140, h in 0u32..140,
    ) {
        let cropped = a.crop(x, y, w, h);
        prop_assert_eq!(&cropped, &Mask::from_fn(w, h, |i, j| a.get(x + i, y + j)));
        prop_assert!(padding_is_clear(&cropped));
        let placed = a.placed(x, y, w, h);
        let source = |i: u32, j: u32| i.checked_sub(x).zip(j.checked_sub(y));
        prop_assert_eq!(
            &placed,
            &Mask::from_fn(w, h, |i, j| source(i, j).is_some_and(|(i, j)| a.get(i, j)))
        );
        prop_assert!(padding_is_clear(&placed));
        let at = |to: u32, n: u32, m: u32| {
            ((f64::from(to) + 0.5) * f64::from(m) / f64::from(n)).floor() as u32
        };
        let naive = Mask::from_fn(w, h, |i, j| a.get(at(i, w, a.width()), at(j, h, a.height())));
        let resized = a.resize_nearest(w, h);
        // The look-up in floating point may fall on the other side of an exact pixel edge.
        let off = resized.xor(&naive).unwrap().area();
        prop_assert!(off * 50 <= u64::from(w * h), "{} of {}", off, w * h);
        prop_assert_eq!(a.resize_nearest(a.width(), a.height()), a);
    }

    #[test]
    fn run_lengths_round_trip(a in any_mask()) {
        let rle = a.to_rle();
        let flat: Vec<bool> =
            (0..a.width()).flat_map(|x| (0..a.height()).map(move |y| (x, y)))
                .map(|(x, y)| a.get(x, y)).collect();
        let decoded: Vec<bool> = rle.counts.iter().enumerate()
            .flat_map(|(i, &n)| std::iter::repeat_n(i % 2 == 1, n as usize)).collect();
        prop_assert_eq!(decoded, flat);
        prop_assert!(rle.counts.iter().skip(1).all(|&n| n > 0));
        prop_assert_eq!(rle.to_mask().unwrap(), a);
        let json = serde_json::to_string(&rle).unwrap();
        prop_assert_eq!(serde_json::from_str::<Rle>(&json).unwrap(), rle.clone());
        let list = serde_json::to_string(&rle.to_uncompressed()).unwrap();
        prop_assert_eq!(serde_json::from_str::<Rle>(&list).unwrap(), rle);
    }

    #[test]
    fn hostile_run_lengths_never_panic(
        text in "[0-o]{0,40}", h in any::<u32>(), w in any::<u32>(),
        counts in prop::collection::vec(any::<u32>(), 0..6),
    ) {
        if let Ok(rle) = Rle::from_compressed_string([h % 100, w % 100], &text) {
            rle.to_mask().unwrap();
        }
        let rle = Rle { size: [h, w], counts };
        let _ = (rle.to_mask(), rle.bbox(), rle.area());
        let again = Rle::from_compressed_string(rle.size, &rle.to_compressed_string());
        prop_assert!(again.is_err() || again.unwrap() == rle);
    }

    #[test]
    fn polygons_reproduce_the_mask(a in any_mask()) {
        let polygons = a.to_polygons();
        prop_assert_eq!(polygons.len(), components(&a, Connectivity::Four).len());
        let area: f64 = polygons.iter().map(samara_image::Polygon::area).sum();
        prop_assert_eq!(area, a.area() as f64);
        for p in &polygons {
            prop_assert!(p.outer.signed_area() > 0.0);
            prop_assert!(p.holes.iter().all(|h| h.signed_area() < 0.0));
            prop_assert_eq!(&p.simplify(0.0).outer, &p.outer);
        }
        prop_assert_eq!(polygons_to_mask(&polygons, a.width(), a.height()).unwrap(), a);
    }

    #[test]
    fn components_are_those_of_flooding(a in any_mask(), eight in any::<bool>()) {
        let connectivity = if eight { Connectivity::Eight } else { Connectivity::Four };
        let found = components(&a, connectivity);
        let expected = flood(&a, connectivity);
        prop_assert_eq!(found.len(), expected.len());
        for (part, expected) in found.iter().zip(&expected) {
            prop_assert_eq!(part.area, expected.area());
            prop_assert_eq!(Some(part.bbox), expected.bbox());
            prop_assert_eq!(&part.mask(), expected);
        }
    }

    #[test]
    fn holes_are_background_away_from_the_edge(a in any_mask()) {
        let (w, h) = (a.width(), a.height());
        let mut expected = a.clone();
        for hole in flood(&!&a, Connectivity::Four) {
            let edge = hole.iter_set().any(|(x, y)| x == 0 || y == 0 || x == w - 1 || y == h - 1);
            if !edge {
                expected = expected.or(&hole).unwrap();
            }
        }
        prop_assert_eq!(a.fill_holes(), expected);
    }

    #[test]
    fn morphology_looks_at_the_square(a in any_mask(), r in 0u32..9) {
        let radius = i64::from(r);
        let (w, h) = (a.width(), a.height());
        let eroded = Mask::from_fn(w, h, |x, y| near(&a, x, y, radius).all(|v| v));
        let dilated = Mask::from_fn(w, h, |x, y| near(&a, x, y, radius).any(|v| v));
        prop_assert_eq!(&a.erode(r), &eroded);
        prop_assert_eq!(&a.dilate(r), &dilated);
        prop_assert!(padding_is_clear(&a.dilate(r)));
        prop_assert_eq!(a.boundary(r), a.and_not(&eroded).unwrap());
    }

    #[test]
    fn scores_are_symmetric_shares((a, b) in two_masks()) {
        let iou = a.iou(&b);
        prop_assert!((0.0..=1.0).contains(&iou));
        prop_assert_eq!(iou, b.iou(&a));
        prop_assert_eq!(a.iou(&a), 1.0);
        prop_assert!(a.containment(&b) >= iou || a.is_empty());
        let boundary = boundary_iou(&a, &b, 0.02).unwrap();
        prop_assert_eq!(boundary, boundary_iou(&b, &a, 0.02).unwrap());
        prop_assert!((0.0..=1.0).contains(&boundary));
    }
}

#[test]
fn huge_radii_and_sizes_are_harmless() {
    let mask = Mask::full(70, 3);
    assert!(mask.erode(u32::MAX).is_empty());
    let mut dot = Mask::new(70, 3);
    dot.set(69, 2, true);
    assert_eq!(dot.dilate(u32::MAX), mask);
    assert_eq!(Mask::new(0, 5).dilate(3), Mask::new(0, 5));
    assert!(Mask::new(0, 0).to_polygons().is_empty());
    assert_eq!(Mask::new(0, 0).to_rle().counts, [0]);
    assert_eq!(Mask::new(0, 0).to_rle().to_mask().unwrap(), Mask::new(0, 0));
    assert_eq!(mask.crop(u32::MAX, u32::MAX, 2, 2), Mask::new(2, 2));
}

#[test]
fn logits_are_cut_at_the_threshold() {
    let logits: Vec<f32> = (0..300).map(|i| (i as f32 * 0.7).sin()).collect();
    let whole = Mask::from_logits(&logits, 100, 3, 0.25).unwrap();
    assert_eq!(
        whole,
        Mask::from_fn(100, 3, |x, y| logits[(y * 100 + x) as usize] > 0.25)
    );
    let mut rows = Mask::new(100, 3);
    for (y, line) in (0..).zip(logits.chunks(100)) {
        for (from, to) in [(0, 37), (37, 64), (64, 64), (64, 100)] {
            rows.set_row_from_logits(y, from as u32, &line[from..to], 0.25);
        }
    }
    assert_eq!(rows, whole);
    rows.set_row_from_logits(0, 0, &[1.0; 500], 0.25);
    rows.set_row_from_logits(1, 98, &[1.0; 3], 0.25);
    rows.set_row_from_logits(1, 500, &[1.0; 3], 0.25);
    rows.set_row_from_logits(9, 0, &[1.0; 3], 0.25);
    let mut expected = whole.clone();
    (0..100).for_each(|x| expected.set(x, 0, true));
    (98..100).for_each(|x| expected.set(x, 1, true));
    assert_eq!(rows, expected);
    for (y, columns) in [
        (2, 3..70),
        (2, 90..500),
        (2, 80..80),
        (2, 200..300),
        (9, 0..9),
    ] {
        rows.set_row_range(y, columns);
    }
    (3..70)
        .chain(90..100)
        .for_each(|x| expected.set(x, 2, true));
    assert_eq!(rows, expected);
    assert!(
        !Mask::from_logits(&[0.0, f32::NAN], 2, 1, 0.0)
            .unwrap()
            .get(1, 0)
    );
    assert!(Mask::from_logits(&logits, 100, 4, 0.0).is_err());
}

#[test]
fn masks_of_other_sizes_are_refused_or_aligned() {
    let (a, b) = (Mask::full(4, 4), Mask::full(8, 2));
    assert_eq!(
        a.and(&b).unwrap_err().to_string(),
        "mask size: 4x4 and 8x2 cannot be combined"
    );
    assert_eq!(a.intersection_area(&b), 8);
    assert_eq!(a.iou(&b), 8.0 / 24.0);
    assert!(boundary_iou(&a, &b, 0.02).is_err());
    assert!(boundary_iou(&a, &a, f64::NAN).is_err());
}

#[test]
fn a_coarse_outline_is_never_a_finer_one() {
    let disc = Mask::from_fn(200, 200, |x, y| {
        (f64::from(x) - 100.0).hypot(f64::from(y) - 100.0) < 80.0
    });
    let outer = &disc.to_polygons()[0].outer;
    let count = |tolerance: f64| outer.simplify(tolerance).points.len();
    assert!(count(0.0) > 200);
    assert!(count(1.0) < 50);
    for tolerance in [50.0, 150.0, 1e9, f64::MAX] {
        assert!(
            (3..6).contains(&count(tolerance)),
            "{tolerance}: {}",
            count(tolerance)
        );
    }
    // A pixel has four corners, however coarse.
    let pixel = Mask::from_fn(9, 9, |x, y| (x, y) == (4, 4));
    assert_eq!(pixel.to_polygons()[0].outer.simplify(1e9).points.len(), 4);
}

#[test]
fn simplified_polygons_stay_close() {
    let disc = Mask::from_fn(200, 200, |x, y| {
        (f64::from(x) - 99.5).hypot(f64::from(y) - 99.5) < 80.0
    });
    let exact = &disc.to_polygons()[0];
    let simple = exact.simplify(1.0);
    assert!(simple.outer.points.len() * 5 < exact.outer.points.len());
    assert!(simple.to_mask(200, 200).unwrap().iou(&disc) > 0.98);
}

#[test]
fn wrong_run_lengths_are_named() {
    let bad = |size, text: &str| {
        Rle::from_compressed_string(size, text)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        bad([2, 2], "5"),
        "RLE counts: the runs add up to 5, but 2x2 has 4 pixels"
    );
    assert_eq!(
        bad([2, 2], "1\u{e9}"),
        "RLE counts: '\\u{c3}' at position 1 is not part of the code"
    );
    assert_eq!(
        bad([2, 2], "Q"),
        "RLE counts: the string ends inside a number"
    );
    assert_eq!(
        bad([2, 2], "ooooooooooo0"),
        "RLE counts: a number has too many digits"
    );
    assert_eq!(bad([2, 2], "N4"), "RLE counts: run 0 has the length -2");
    let huge = Rle {
        size: [u32::MAX, u32::MAX],
        counts: vec![],
    };
    assert!(
        huge.to_mask()
            .unwrap_err()
            .to_string()
            .starts_with("RLE size: 4294967295x4294967295")
    );
    let json = r#"{"size":[2,2],"counts":[1,2]}"#;
    assert!(serde_json::from_str::<Rle>(json).is_err());
    let json = r#"{"size":[2,2],"counts":[1,-2]}"#;
    assert!(serde_json::from_str::<Rle>(json).is_err());
}
