//! A second look at a part of the image.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{HEIGHT, WIDTH, difference, photo, segmenter};
use samara::{
    Candidates, DeviceKind, Embedding, Mask, MaskPrompt, PixelRect, Prompt, Segmenter, Zoom,
};
use samara_image::{RgbImage, crop_image};

fn embedding() -> Embedding {
    segmenter().embed(&photo(WIDTH, HEIGHT)).unwrap()
}

fn rect(x: u32, y: u32, width: u32, height: u32) -> PixelRect {
    PixelRect {
        x,
        y,
        width,
        height,
    }
}

fn masks(answer: &Candidates) -> Vec<Mask> {
    answer.iter().map(|c| c.mask.clone()).collect()
}

/// A box with a click in it, moved by this much.
fn prompt(x: f64, y: f64) -> Prompt {
    let boxed = Prompt::bbox(x, y, x + 9.0, y + 7.0).unwrap();
    boxed.with_point(x + 4.0, y + 3.5)
}

/// Asks for a part, and the model for the crop alone.
fn check_part(segmenter: &Segmenter, image: &RgbImage, part: PixelRect) {
    let embedding = segmenter.embed(image).unwrap();
    let (x, y) = (f64::from(part.x), f64::from(part.y));
    // Half of the second prompt's box lies beyond the part, and so do clicks that say nothing there.
    let far = f64::from(part.width.min(part.height)) - 5.0;
    for (dx, dy) in [(0.0, 0.0), (far, far)] {
        let mut there = prompt(x + dx, y + dy);
        for (x, y) in [(0, 0), (0, image.height() - 1), (image.width() - 1, 0)] {
            let within = (part.x..part.x + part.width).contains(&x)
                && (part.y..part.y + part.height).contains(&y);
            if !within {
                there = there.with_negative_point(f64::from(x), f64::from(y));
            }
        }
        let answer = embedding.predict_within(image, &there, part).unwrap();
        assert_eq!(answer.view(), Some(part));
        let crop = crop_image(image, part.x, part.y, part.width, part.height);
        let crop = segmenter.embed(&crop).unwrap();
        let expected = crop.predict(&prompt(dx, dy)).unwrap();
        for (a, b) in answer.iter().zip(&expected) {
            let placed = b.mask.placed(part.x, part.y, image.width(), image.height());
            assert_eq!(a.mask, placed, "{part}");
            assert_eq!(a.predicted_iou, b.predicted_iou);
            assert_eq!(a.stability_score, b.stability_score);
            assert_eq!(a.granularity, b.granularity);
            assert_eq!(a.low_res_logits.side(), segmenter.logits_side());
        }
        assert_eq!(answer.tokens().iou, expected.tokens().iou);
    }
}

#[test]
fn a_part_is_answered_as_the_crop_alone() {
    let image = photo(WIDTH, HEIGHT);
    for part in [
        rect(0, 0, 50, 50),
        rect(131, 67, 60, 40),
        rect(190, 20, 10, 100),
    ] {
        check_part(segmenter(), &image, part);
    }
    check_part(segmenter(), &photo(37, 90), rect(20, 40, 17, 50));
}

#[test]
fn a_stretched_part_is_answered_as_the_crop_alone() {
    let golden = common::checkpoint().with_file_name("sam2_video.safetensors");
    let segmenter = Segmenter::load(golden, DeviceKind::Cpu).unwrap();
    check_part(&segmenter, &photo(WIDTH, HEIGHT), rect(120, 10, 40, 90));
}

#[test]
fn the_whole_image_is_a_part_too() {
    let image = photo(WIDTH, HEIGHT);
    let embedding = embedding();
    let click = Prompt::point(70.0, 60.0);
    let plain = embedding.predict(&click).unwrap();
    let part = embedding
        .predict_within(&image, &click, rect(0, 0, WIDTH, HEIGHT))
        .unwrap();
    let off = embedding.predict_zoomed(&image, &click, Zoom::Off).unwrap();
    for same in [&part, &off] {
        assert_eq!(difference(&plain, same), 0.0);
        assert_eq!(masks(&plain), masks(same));
        assert_eq!(same.view(), None);
    }
}

#[test]
fn images_of_any_shape_can_be_looked_at_closely() {
    for (width, height) in [(1, 1), (1, 9), (2, 2), (300, 3), (128, 128)] {
        let image = photo(width, height);
        let embedding = segmenter().embed(&image).unwrap();
        let last = Prompt::point(f64::from(width) - 0.5, f64::from(height) - 0.5);
        for zoom in [Zoom::Auto, Zoom::Factor(1.5), Zoom::Factor(Zoom::MOST)] {
            let answer = embedding.predict_zoomed(&image, &last, zoom).unwrap();
            for candidate in &answer {
                let mask = &candidate.mask;
                assert_eq!((mask.width(), mask.height()), (width, height));
            }
        }
        let pixel = rect(width - 1, height - 1, 1, 1);
        let answer = embedding.predict_within(&image, &last, pixel).unwrap();
        let inside = Mask::from_fn(width, height, |x, y| (x, y) == (width - 1, height - 1));
        assert!(
            answer
                .iter()
                .all(|c| c.mask.and_not(&inside).unwrap().is_empty())
        );
    }
}

#[test]
fn an_answer_from_a_part_can_be_refined() {
    let image = photo(WIDTH, HEIGHT);
    let embedding = embedding();
    let part = rect(40, 30, 60, 60);
    let click = Prompt::point(70.0, 60.0);
    let first = embedding.predict_within(&image, &click, part).unwrap();
    let chosen = &first.as_slice()[0];
    // The logits say of the whole image what the mask says.
    let (again, _) = chosen
        .low_res_logits
        .upsample(embedding.frame(), 1.0)
        .unwrap();
    // Cells of 6 pixels blur what random weights draw.
    assert!(again.iou(&chosen.mask) > 0.7, "{}", again.iou(&chosen.mask));
    let refined = click.clone().with_mask(chosen.low_res_logits.clone());
    let whole = embedding.predict(&refined).unwrap();
    assert!(difference(&whole, &embedding.predict(&click).unwrap()) > 1e-2);
    let closer = embedding.predict_within(&image, &refined, part).unwrap();
    assert!(difference(&closer, &first) > 1e-2);
}

#[test]
fn a_mask_prompt_reaches_the_part() {
    let image = photo(WIDTH, HEIGHT);
    let embedding = embedding();
    let part = rect(40, 30, 60, 60);
    let within = |mask: Mask| {
        let prompt = Prompt::point(70.0, 60.0).with_mask(MaskPrompt::Mask(mask));
        embedding.predict_within(&image, &prompt, part).unwrap()
    };
    let disc = |width: u32, height: u32| {
        Mask::from_fn(width, height, |x, y| {
            let (x, y) = (x * WIDTH / width, y * HEIGHT / height);
            (50..80).contains(&x) && (40..70).contains(&y)
        })
    };
    let crop = crop_image(&image, 40, 30, 60, 60);
    let by_hand = Prompt::point(30.0, 30.0)
        .with_mask(MaskPrompt::Mask(disc(WIDTH, HEIGHT).crop(40, 30, 60, 60)));
    let expected = segmenter().embed(&crop).unwrap().predict(&by_hand).unwrap();
    let answer = within(disc(WIDTH, HEIGHT));
    assert_eq!(answer.tokens().iou, expected.tokens().iou);
    // Of half the size, it is stretched to the image before it is cut.
    assert_eq!(
        within(disc(WIDTH / 2, HEIGHT / 2)).tokens().iou,
        answer.tokens().iou
    );
}

#[test]
fn another_image_is_refused() {
    let embedding = embedding();
    let click = Prompt::point(70.0, 60.0);
    let mut other = photo(WIDTH, HEIGHT);
    other.get_pixel_mut(3, 4)[0] ^= 1;
    for image in [other, photo(WIDTH, HEIGHT + 1), RgbImage::new(0, 0)] {
        let message = format!(
            "the image of {}×{} pixels is not the embedded one of 200×120",
            image.width(),
            image.height()
        );
        let refused = embedding.predict_zoomed(&image, &click, Zoom::Auto);
        assert_eq!(refused.unwrap_err().to_string(), message);
        let refused = embedding.predict_within(&image, &click, rect(60, 50, 20, 20));
        assert_eq!(refused.unwrap_err().to_string(), message);
    }
}

#[test]
fn parts_and_prompts_that_do_not_fit_are_refused() {
    let image = photo(WIDTH, HEIGHT);
    let embedding = embedding();
    let refused = |prompt: &Prompt, part: PixelRect| {
        let refused = embedding.predict_within(&image, prompt, part);
        refused.unwrap_err().to_string()
    };
    let click = Prompt::point(70.0, 60.0);
    for part in [
        rect(60, 50, 0, 20),
        rect(60, 50, 20, 0),
        rect(190, 50, 20, 20),
        rect(u32::MAX, 50, u32::MAX, 20),
    ] {
        let message = format!("part {part} is none of the image of 200×120 pixels");
        assert_eq!(refused(&click, part), message);
    }
    let message = "nothing of the prompt lies in the part 0,0 20×20";
    assert_eq!(refused(&click, rect(0, 0, 20, 20)), message);
    let message = "the prompt has no point, box or mask";
    assert_eq!(refused(&Prompt::new(), rect(0, 0, 20, 20)), message);
    let factor = embedding.predict_zoomed(&image, &click, Zoom::Factor(f64::NAN));
    let message = "zoom NaN: a factor is more than 1 and at most 64";
    assert_eq!(factor.unwrap_err().to_string(), message);
}

#[test]
fn zooms_are_read_and_written() {
    for (text, zoom) in [
        ("off", Zoom::Off),
        ("auto", Zoom::Auto),
        ("4", Zoom::Factor(4.0)),
        ("1.5", Zoom::Factor(1.5)),
        ("64", Zoom::Factor(64.0)),
    ] {
        assert_eq!(text.parse::<Zoom>().unwrap(), zoom);
        assert_eq!(zoom.to_string(), text);
    }
    for bad in ["1", "0.5", "-2", "65", "inf", "NaN"] {
        let message = bad.parse::<Zoom>().unwrap_err().to_string();
        assert!(
            message.ends_with("a factor is more than 1 and at most 64"),
            "{message}"
        );
    }
    for bad in ["", "on", "2x", "auto "] {
        let message = bad.parse::<Zoom>().unwrap_err().to_string();
        let expected = format!("zoom {bad:?}: expected off, auto or a factor of more than 1");
        assert_eq!(message, expected);
    }
}
