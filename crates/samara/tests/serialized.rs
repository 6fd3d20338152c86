//! Prompts, candidates, selections and options as JSON (feature `serde`), and arrays (feature `ndarray`).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{HEIGHT, WIDTH, photo, segmenter};
use samara::{Candidates, Mask, MaskGeneratorOptions, Prompt, Select, Selection, Zoom};
use serde_json::{from_str, from_value, json, to_string, to_value};

#[test]
fn prompts_come_back_and_are_read_by_hand() {
    let prompt = Prompt::point(3.0, 4.5)
        .with_negative_point(1.0, 2.0)
        .with_mask(Mask::full(4, 3))
        .with_single_mask();
    let text = to_string(&prompt).unwrap();
    assert_eq!(from_str::<Prompt>(&text).unwrap(), prompt);
    let written = json!({"clicks": [{"at": {"x": 3.0, "y": 4.5}, "positive": true}]});
    assert_eq!(
        from_value::<Prompt>(written).unwrap(),
        Prompt::point(3.0, 4.5)
    );
    let typo = json!({"click": []});
    assert!(
        from_value::<Prompt>(typo)
            .unwrap_err()
            .to_string()
            .contains("click")
    );
}

#[test]
fn answers_come_back() {
    let embedding = segmenter().embed(photo(WIDTH, HEIGHT)).unwrap();
    let candidates = embedding.predict(&Prompt::point(70.0, 60.0)).unwrap();
    let value = to_value(&candidates).unwrap();
    let size = &value["all"][0]["mask"]["size"];
    assert_eq!(size, &json!([HEIGHT, WIDTH]), "masks are COCO run lengths");
    let back: Candidates = from_value(value.clone()).unwrap();
    assert_eq!(back.len(), 3);
    assert_eq!(back.best().mask, candidates.best().mask);
    let chosen = candidates.select(&Select::Best).unwrap();
    let again: Selection = from_value(to_value(&chosen).unwrap()).unwrap();
    assert_eq!((again.mask, again.reason), (chosen.mask, chosen.reason));

    let mut none = value.clone();
    none["all"] = json!([]);
    assert!(
        from_value::<Candidates>(none).is_err(),
        "an answer has a candidate"
    );
    let mut damaged = value;
    damaged["all"][0]["low_res_logits"]["side"] = json!(7);
    assert!(from_value::<Candidates>(damaged).is_err());
}

#[test]
fn strategies_and_options_come_back() {
    for select in [
        Select::Best,
        Select::AreaRatio(0.25),
        "part".parse().unwrap(),
    ] {
        assert_eq!(
            from_str::<Select>(&to_string(&select).unwrap()).unwrap(),
            select
        );
        assert_eq!(select.to_string().parse::<Select>().unwrap(), select);
    }
    for zoom in [Zoom::Off, Zoom::Factor(2.5)] {
        assert_eq!(from_str::<Zoom>(&to_string(&zoom).unwrap()).unwrap(), zoom);
    }
    let options = MaskGeneratorOptions::default().with_points_per_side(7);
    let text = to_string(&options).unwrap();
    assert_eq!(from_str::<MaskGeneratorOptions>(&text).unwrap(), options);
}

#[cfg(feature = "ndarray")]
#[test]
fn arrays_are_embedded_as_images_are() {
    use ndarray::{Array2, Array3};

    let image = photo(60, 40);
    let array = Array3::from_shape_vec((40, 60, 3), image.clone().into_raw()).unwrap();
    let embedding = segmenter().embed(array.view()).unwrap();
    assert!(embedding.is_of(&image));
    let planes = array.view().permuted_axes([2, 0, 1]);
    let error = segmenter().embed(planes).unwrap_err().to_string();
    assert!(error.contains("[3, 40, 60]"), "{error}");
    let answer = embedding.predict(&Prompt::point(30.0, 20.0)).unwrap();
    assert_eq!(Array2::from(&answer.best().mask).dim(), (40, 60));
}
