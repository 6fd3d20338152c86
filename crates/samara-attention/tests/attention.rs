//! Attention maps against the candidates of prompts.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../../samara/tests/common/mod.rs"]
mod common;

use common::{HEIGHT, WIDTH, photo, segmenter};
use samara::{Mask, Prompt};
use samara_attention::{AttentionMap, AttentionOptions, AttentionTargets, Undecided};

fn targets(width: u32, height: u32, prompts: &[Prompt]) -> AttentionTargets {
    let embedding = segmenter().embed(&photo(width, height)).unwrap();
    AttentionTargets::of(&embedding, prompts).unwrap()
}

/// The attention that sees exactly the mask.
fn map_of(mask: &Mask) -> AttentionMap {
    let values = mask
        .to_bools()
        .iter()
        .map(|&b| f32::from(u8::from(b)))
        .collect();
    AttentionMap::new("mask", mask.width(), mask.height(), values).unwrap()
}

fn ramp(name: &str, width: u32, height: u32) -> AttentionMap {
    let values = (0..width * height).map(|i| i as f32).collect();
    AttentionMap::new(name, width, height, values).unwrap()
}

#[test]
fn a_map_of_a_candidate_agrees_with_it_fully() {
    for (width, height, least) in [(WIDTH, HEIGHT, 1.0 - 1e-9), (1500, 900, 0.98)] {
        let targets = targets(
            width,
            height,
            &[Prompt::point(
                f64::from(width) / 3.0,
                f64::from(height) / 2.0,
            )],
        );
        let candidates = &targets.candidates()[0];
        assert_eq!(candidates.len(), 3);
        for candidate in candidates {
            let map = map_of(&candidate.mask);
            let found = &targets.analyse(&map, &AttentionOptions::default()).unwrap()[0];
            let of = &found.candidates[candidate.index];
            assert!(of.measures.correlation.unwrap() >= least, "{of:?}");
            assert!(
                of.measures.mass >= least && of.measures.auc.unwrap() >= least,
                "{of:?}"
            );
            assert!(of.measures.hit);
            assert!(of.agreement.unwrap() > 0.99, "{of:?}");
            let best = &found.candidates[found.best];
            assert!(best.agreement >= of.agreement);
        }
    }
}

#[test]
fn maps_and_prompts_together_are_as_one_by_one() {
    let prompts = [
        Prompt::point(60.0, 60.0),
        Prompt::bbox(30.0, 30.0, 100.0, 90.0).unwrap(),
        Prompt::mask(Mask::from_fn(WIDTH, HEIGHT, |x, y| {
            x > 40 && x < 90 && y > 30
        })),
    ];
    let maps = [ramp("a", 20, 12), ramp("b", 40, 24), ramp("c", 400, 240)];
    let options = AttentionOptions::default();
    let together = targets(WIDTH, HEIGHT, &prompts);
    let found = together.analyse_all(&maps, &options).unwrap();
    assert_eq!((found.len(), found[0].len()), (3, 3));
    for (map, of_map) in maps.iter().zip(&found) {
        assert_eq!(&together.analyse(map, &options).unwrap(), of_map);
        for (prompt, result) in prompts.iter().zip(of_map) {
            let alone = targets(WIDTH, HEIGHT, std::slice::from_ref(prompt));
            let alone = &alone.analyse(map, &options).unwrap()[0];
            assert_eq!((alone.best, alone.level), (result.best, result.level));
            let difference = (alone.margin - result.margin).abs();
            assert!(difference < 1e-3, "{difference}");
        }
    }
}

#[test]
fn one_candidate_is_never_decided() {
    let targets = targets(
        WIDTH,
        HEIGHT,
        &[Prompt::point(60.0, 60.0).with_single_mask()],
    );
    let map = map_of(&targets.candidates()[0].as_slice()[0].mask);
    let found = &targets.analyse(&map, &AttentionOptions::default()).unwrap()[0];
    assert_eq!(
        (found.level, found.undecided),
        (None, Some(Undecided::Alike))
    );
}

#[test]
fn what_does_not_fit_is_refused() {
    let targets = targets(WIDTH, HEIGHT, &[Prompt::point(60.0, 60.0)]);
    let square = ramp("head 3", 14, 14);
    let options = AttentionOptions::default();
    let error = targets.analyse(&square, &options).unwrap_err().to_string();
    for word in ["head 3", "14×14", "200×120", "stretch"] {
        assert!(error.contains(word), "{error}");
    }
    let stretch = AttentionOptions {
        stretch: true,
        ..options
    };
    assert!(targets.analyse(&square, &stretch).is_ok());
    let bad = AttentionOptions {
        min_margin: f64::NAN,
        ..options
    };
    let error = targets
        .analyse(&ramp("a", 20, 12), &bad)
        .unwrap_err()
        .to_string();
    assert!(error.contains("min_margin"), "{error}");
    assert!(AttentionTargets::new(Vec::new()).is_err());
}
