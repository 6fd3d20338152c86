use std::collections::BTreeMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Folder, data_spec, example_spec, rectangle, rle};

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// One image of 80×60 with these objects.
fn folder(masks: &[Mask]) -> Folder {
    let folder = Folder::new();
    folder.image("images/a.png", 80, 60);
    let objects: Vec<Value> = (1..)
        .zip(masks)
        .map(|(id, mask): (u64, _)| {
            let bbox = mask.to_rle().bbox().unwrap().xywh();
            json!({
                "id": id, "image_id": 1, "area": mask.area(), "bbox": bbox, "annotator": id,
                "segmentation": rle(mask),
            })
        })
        .collect();
    let images = json!([{"id": 1, "file_name": "a.png", "width": 80, "height": 60}]);
    folder.annotate(&images, &json!(objects));
    folder
}

fn plain(masks_per_image: usize, ambiguous_clicks: f64) -> ExampleSpec {
    ExampleSpec {
        augmentation: Augmentation::none(),
        ambiguous_clicks,
        ..example_spec(80, masks_per_image)
    }
}

#[test]
fn a_shared_click_lies_in_several_clearly_different_masks() {
    let whole = rectangle((80, 60), [10, 10, 50, 40]);
    let almost_whole = rectangle((80, 60), [10, 10, 49, 40]);
    let part = rectangle((80, 60), [10, 10, 20, 20]);
    let elsewhere = rectangle((80, 60), [65, 5, 10, 10]);
    let folder = folder(&[whole, almost_whole, part, elsewhere]);
    let spec = ExampleSpec {
        ambiguous_clicks: 1.0,
        ..example_spec(64, 4)
    };
    let sampler = Sampler::open(&[data_spec(&folder)], spec).unwrap();
    let mut groups = BTreeMap::new();
    for seed in 0..200 {
        let example = sampler
            .draw(&mut rng(seed), &mut Skipped::default())
            .unwrap();
        let shared: Vec<_> = example
            .objects
            .iter()
            .filter(|o| o.first_click.is_some())
            .collect();
        *groups.entry(shared.len()).or_insert(0) += 1;
        for (i, object) in shared.iter().enumerate() {
            let (x, y) = object.first_click.unwrap();
            assert_eq!(object.first_click, shared[0].first_click);
            assert!(object.mask.get(x, y), "seed {seed}");
            assert!(
                shared[..i].iter().all(|o| o.mask.iou(&object.mask) < 0.9),
                "seed {seed}"
            );
        }
    }
    // The whole and its part; the two wholes are too alike, and the rest has nothing in common.
    assert!(groups[&2] > 30 && groups[&0] > 30, "{groups:?}");
    assert_eq!(
        groups.keys().copied().collect::<Vec<_>>(),
        [0, 2],
        "{groups:?}"
    );
}

#[test]
fn without_ambiguity_no_click_is_given_and_as_many_masks_as_asked_for() {
    let masks: Vec<Mask> = (0..6)
        .map(|i| rectangle((80, 60), [i * 12, 5, 10, 40]))
        .collect();
    let folder = folder(&masks);
    let sampler = Sampler::open(&[data_spec(&folder)], plain(4, 0.0)).unwrap();
    let mut seen = [0; 6];
    for seed in 0..60 {
        let example = sampler
            .draw(&mut rng(seed), &mut Skipped::default())
            .unwrap();
        assert_eq!(
            (example.objects.len(), example.image.dimensions()),
            (4, (80, 60))
        );
        assert!(example.source.ends_with("/1"));
        for object in &example.objects {
            assert_eq!(object.first_click, None);
            seen[masks.iter().position(|mask| *mask == object.mask).unwrap()] += 1;
        }
    }
    assert!(seen.iter().all(|&n| n > 20), "{seen:?}");
}

#[test]
fn objects_outside_of_the_sizes_and_crowds_are_not_chosen() {
    let small = rectangle((80, 60), [0, 0, 3, 3]);
    let middle = rectangle((80, 60), [20, 20, 10, 10]);
    let large = rectangle((80, 60), [0, 0, 80, 55]);
    let folder = folder(&[small, middle.clone(), large]);
    let data = DataSpec {
        min_area: 10,
        ..data_spec(&folder)
    };
    let sampler = Sampler::open(std::slice::from_ref(&data), plain(8, 0.5)).unwrap();
    for seed in 0..20 {
        let example = sampler
            .draw(&mut rng(seed), &mut Skipped::default())
            .unwrap();
        assert_eq!(example.objects.len(), 1);
        assert_eq!(example.objects[0].mask, middle);
    }
    let data = DataSpec {
        min_area: 5000,
        ..data
    };
    let text = Sampler::open(&[data], plain(8, 0.5))
        .unwrap_err()
        .to_string();
    assert!(text.contains("1 image without a usable object"), "{text}");
}

#[test]
fn data_sets_are_chosen_by_weight() {
    let folders = [0, 20].map(|x| folder(&[rectangle((80, 60), [x, 0, 10, 10])]));
    let [rare, often] = folders.each_ref().map(data_spec);
    let often = DataSpec {
        weight: 4.0,
        ..often
    };
    let sampler = Sampler::open(&[rare, often], plain(1, 0.0)).unwrap();
    let draws = (0..300).filter(|&seed| {
        let example = sampler
            .draw(&mut rng(seed), &mut Skipped::default())
            .unwrap();
        example.objects[0].mask.get(0, 0)
    });
    let rare = draws.count();
    assert!((40..80).contains(&rare), "{rare} of 300, 60 expected");
}

#[test]
fn random_pixels_are_set_and_uniform() {
    let mask = Mask::from_fn(130, 2, |x, y| {
        matches!((x, y), (0 | 63 | 64 | 129, 0) | (70, 1))
    });
    let mut counts = BTreeMap::new();
    let mut rng = rng(0);
    for _ in 0..1000 {
        *counts
            .entry(random_pixel(&mask, &mut rng).unwrap())
            .or_insert(0) += 1;
    }
    assert!(counts.keys().all(|&(x, y)| mask.get(x, y)));
    assert!(
        counts.len() == 5 && counts.values().all(|n| (150..250).contains(n)),
        "{counts:?}"
    );
    assert_eq!(random_pixel(&Mask::new(5, 5), &mut rng), None);
}

#[test]
fn settings_out_of_range_are_named() {
    let folder = folder(&[rectangle((80, 60), [0, 0, 10, 10])]);
    let data = data_spec(&folder);
    let refused =
        |data: &[DataSpec], spec: ExampleSpec| Sampler::open(data, spec).unwrap_err().to_string();
    assert!(refused(&[], plain(1, 0.0)).starts_with("data: "));
    assert!(refused(std::slice::from_ref(&data), plain(0, 0.0)).starts_with("masks_per_image: "));
    assert!(refused(std::slice::from_ref(&data), plain(1, 1.5)).starts_with("ambiguous_clicks: "));
    let weight = DataSpec {
        weight: f64::NAN,
        ..data
    };
    assert!(refused(&[weight], plain(1, 0.0)).starts_with("weight: "));
    let of_parts = DataSpec {
        levels: Some(vec!["part".into(), "subpart".into()]),
        ..data_spec(&folder)
    };
    let why = refused(&[of_parts], plain(1, 0.0));
    assert!(
        why.contains("no object of `levels` (part, subpart)"),
        "{why}"
    );
    let spec: DataSpec = serde_json::from_value(json!({"path": "a"})).unwrap();
    assert_eq!((spec.weight, spec.max_area_fraction), (1.0, 0.9));
    assert!(serde_json::from_value::<DataSpec>(json!({"path": "a", "splt": "b"})).is_err());
}
