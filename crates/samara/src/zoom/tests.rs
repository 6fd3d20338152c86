use std::path::Path;
use std::sync::LazyLock;

use samara_image::{Frame, Mask, Rgb};

use super::*;
use crate::device::DeviceKind;
use crate::logits::Logits;
use crate::mask_tokens::MaskTokens;
use crate::score::PredictedIou;
use crate::segmenter::Segmenter;

const SIZE: (u32, u32) = (200, 120);

fn segmenter() -> &'static Segmenter {
    static SEGMENTER: LazyLock<Segmenter> = LazyLock::new(|| {
        let golden = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap())
            .join("../samara-model/tests/golden/sam_vit.pth");
        Segmenter::load(golden, DeviceKind::Cpu).unwrap()
    });
    &SEGMENTER
}

fn image() -> RgbImage {
    RgbImage::from_fn(SIZE.0, SIZE.1, |x, y| Rgb([x as u8, 2 * y as u8, 90]))
}

fn rect(x: u32, y: u32, width: u32, height: u32) -> PixelRect {
    PixelRect {
        x,
        y,
        width,
        height,
    }
}

fn wish(x: f64, y: f64, size: f64, side: f64, exact: bool) -> Wish {
    let b = OriginalBox::new(x, y, x + size, y + size).unwrap();
    let target = Target::joined([b], SIZE).unwrap();
    let rect = target.square(side, SIZE);
    Wish {
        target,
        rect,
        exact,
    }
}

fn embedded(embedding: &Embedding) -> usize {
    embedding.last_view.with(|views| views.embedded)
}

#[test]
fn a_crop_is_embedded_once() {
    let image = image();
    let embedding = segmenter().embed(&image).unwrap();
    let click = Prompt::point(70.0, 60.0);
    let part = rect(40, 30, 60, 60);
    let first = embedding.predict_within(&image, &click, part).unwrap();
    let clone = embedding.clone();
    let again = clone.predict_within(&image, &click, part).unwrap();
    assert_eq!(embedded(&embedding), 1);
    let logits = |answer: &Candidates| answer.tokens().low_res_logits.clone();
    assert_eq!(logits(&first), logits(&again));
    let other = rect(41, 30, 60, 60);
    embedding.predict_within(&image, &click, other).unwrap();
    assert_eq!(embedded(&clone), 2);
    embedding.predict(&click).unwrap();
    let saved = embedding.predict_zoomed(&image, &click, Zoom::Off).unwrap();
    assert_eq!((saved.view(), embedded(&embedding)), (None, 2));
}

#[test]
fn the_last_crop_serves_what_it_shows() {
    let image = image();
    let embedding = segmenter().embed(&image).unwrap();
    let seen = |wish: Wish| embedding.view(&image, &wish).unwrap().0;
    let first = seen(wish(90.0, 50.0, 10.0, 40.0, false));
    assert_eq!(first, rect(75, 35, 40, 40));
    // A little beside it, a little larger, a little smaller.
    for (x, size) in [(94.0, 10.0), (88.0, 12.0), (90.0, 9.0)] {
        assert_eq!(seen(wish(x, 50.0, size, 4.0 * size, false)), first);
    }
    assert_eq!(embedded(&embedding), 1);
    // It shows too little around the object, or the object too small.
    let beside = seen(wish(106.0, 50.0, 10.0, 40.0, false));
    assert_eq!((beside, embedded(&embedding)), (rect(91, 35, 40, 40), 2));
    let small = seen(wish(106.0, 50.0, 4.0, 16.0, false));
    assert_eq!((small, embedded(&embedding)), (rect(100, 44, 16, 16), 3));
    // A factor says how large it is.
    seen(wish(106.0, 50.0, 4.0, 16.0, true));
    assert_eq!(embedded(&embedding), 3);
    let exact = seen(wish(106.0, 50.0, 4.0, 14.0, true));
    assert_eq!((exact, embedded(&embedding)), (rect(101, 45, 14, 14), 4));
}

#[test]
fn threads_share_a_crop_without_waiting_for_each_other() {
    fn shared_between_threads<T: Send + Sync + Clone>(_: &T) {}
    let image = image();
    let embedding = segmenter().embed(&image).unwrap();
    shared_between_threads(&embedding);
    let click = Prompt::point(70.0, 60.0);
    let parts = [rect(40, 30, 60, 60), rect(50, 40, 60, 60)];
    let expected = parts.map(|part| {
        let answer = embedding.predict_within(&image, &click, part).unwrap();
        answer.tokens().iou.clone()
    });
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (embedding, image, click, expected) = (&embedding, &image, &click, &expected);
            scope.spawn(move || {
                for round in 0..4 {
                    let i = (thread + round) % 2;
                    let answer = embedding.predict_within(image, click, parts[i]).unwrap();
                    assert_eq!(answer.view(), Some(parts[i]));
                    for (a, b) in answer.tokens().iou.iter().zip(&expected[i]) {
                        assert!((a.0 - b.0).abs() < 1e-5);
                    }
                }
            });
        }
    });
}

/// Logits of a box of original pixels in this frame.
fn drawn(b: PixelRect, frame: &Frame) -> Logits {
    let (width, height) = frame.original_size();
    let inside = |x: u32, y: u32| b.contains(f64::from(x) + 0.5, f64::from(y) + 0.5);
    Logits::from_mask(&Mask::from_fn(width, height, inside), frame, 32)
}

/// An answer of these boxes with these scores; the token of a single mask is the first of them.
fn answer(boxes: [(PixelRect, f32); 3], frame: &Frame) -> Candidates {
    let logits = boxes.iter().map(|(b, _)| drawn(*b, frame));
    let scores = boxes.iter().map(|&(_, score)| PredictedIou(score));
    let tokens = MaskTokens {
        low_res_logits: logits.clone().take(1).chain(logits).collect(),
        iou: scores.clone().take(1).chain(scores).collect(),
    };
    let (width, height) = frame.original_size();
    let embedding = segmenter().embed(RgbImage::new(width, height)).unwrap();
    embedding
        .candidates(tokens, &Prompt::point(1.0, 1.0))
        .unwrap()
}

fn first(scores: [f32; 3]) -> Candidates {
    let frame = Frame::longest_side(SIZE.0, SIZE.1, 128).unwrap();
    let boxes = [
        rect(90, 50, 20, 20),
        rect(40, 20, 120, 80),
        rect(96, 56, 8, 8),
    ];
    let [a, b, c] = scores;
    answer([(boxes[0], a), (boxes[1], b), (boxes[2], c)], &frame)
}

/// The first box nearly as above, the second as far as it can be seen, the third another object.
fn second(scores: [f32; 3]) -> (Candidates, PixelRect) {
    let frame = Frame::longest_side(64, 64, 128).unwrap();
    let boxes = [rect(22, 22, 18, 20), rect(0, 0, 64, 64), rect(50, 4, 8, 8)];
    let [a, b, c] = scores;
    let answer = answer([(boxes[0], a), (boxes[1], b), (boxes[2], c)], &frame);
    let view = rect(68, 28, 64, 64);
    (answer.seen_in(view, SIZE, Logits::clone), view)
}

#[test]
fn the_second_answer_counts_if_it_chooses_the_same_object() {
    let (closer, view) = second([0.9, 0.5, 0.6]);
    let masks: Vec<Mask> = closer.iter().map(|c| c.mask.clone()).collect();
    let before = first([0.8, 0.7, 0.3]);
    let answer = instead(&before, closer, view).unwrap().unwrap();
    assert_eq!(answer.view(), Some(view));
    assert_eq!(answer.as_slice()[0].mask, masks[0]);
    assert_eq!(answer.as_slice()[2].mask, masks[2]);
    assert_eq!(answer.as_slice()[0].predicted_iou, PredictedIou(0.9));
    // The crop cuts the second one off.
    let whole = &answer.as_slice()[1];
    assert_eq!(whole.mask, before.as_slice()[1].mask);
    assert_eq!(whole.predicted_iou, PredictedIou(0.5));
    assert_eq!(whole.index, 1);
    assert_eq!(answer.select(&Select::Best).unwrap().index, Some(0));
}

#[test]
fn the_first_answer_is_believed_otherwise() {
    for (before, after) in [
        // Another object.
        ([0.8, 0.7, 0.3], [0.5, 0.4, 0.6]),
        // One that the crop cuts off.
        ([0.7, 0.8, 0.3], [0.5, 0.6, 0.4]),
    ] {
        let (closer, view) = second(after);
        let answer = instead(&first(before), closer, view).unwrap();
        assert!(answer.is_none(), "{before:?} {after:?}");
    }
}

#[test]
fn masks_at_inner_edges_of_the_crop_are_cut() {
    let mask = |b: PixelRect| Mask::from_fn(SIZE.0, SIZE.1, |x, y| b.contains(x.into(), y.into()));
    let middle = rect(50, 40, 40, 40);
    for (b, cut) in [
        (rect(51, 41, 38, 38), false),
        (rect(50, 45, 5, 5), true),
        (rect(55, 40, 5, 5), true),
        (rect(85, 45, 5, 5), true),
        (rect(55, 75, 5, 5), true),
    ] {
        assert_eq!(is_cut(&mask(b), middle, SIZE), cut, "{b}");
    }
    // The image's own edges cut nothing.
    assert!(!is_cut(
        &mask(rect(0, 0, 5, 120)),
        rect(0, 0, 20, 120),
        SIZE
    ));
    assert!(!is_cut(
        &mask(rect(195, 110, 5, 10)),
        rect(150, 80, 50, 40),
        SIZE
    ));
    assert!(!is_cut(&Mask::new(SIZE.0, SIZE.1), middle, SIZE));
}

#[test]
fn small_answers_are_looked_at_and_factors_always() {
    let image = RgbImage::new(1000, 600);
    let embedding = segmenter().embed(&image).unwrap();
    let wish = |width: u32, prompt: &Prompt, zoom: Zoom| {
        let b = rect(500, 300, width, width);
        let answer = answer([(b, 0.9), (b, 0.8), (b, 0.7)], embedding.frame());
        embedding
            .wish(prompt, &answer, zoom)
            .unwrap()
            .map(|w| w.rect)
    };
    let click = Prompt::point(520.0, 320.0);
    assert_eq!(wish(60, &click, Zoom::Off), None);
    let near = wish(60, &click, Zoom::Auto).unwrap();
    assert!(near.longest().abs_diff(420) < 60, "{near}");
    // Seven times as long is too much of the image, four times is enough.
    let near = wish(110, &click, Zoom::Auto).unwrap();
    assert_eq!((near.width, near.height), (500, 500));
    assert_eq!(wish(200, &click, Zoom::Auto), None);
    // The clicks on the object are far apart.
    let far = click.clone().with_point(20.0, 20.0);
    assert_eq!(wish(60, &far, Zoom::Auto), None);
    let beside = click.clone().with_negative_point(20.0, 20.0);
    assert!(wish(60, &beside, Zoom::Auto).is_some());
    let exact = wish(60, &click, Zoom::Factor(4.0)).unwrap();
    assert_eq!((exact.width, exact.height), (250, 250));
    // The clicks, up to the far edge of the answer.
    let both = wish(60, &far, Zoom::Factor(4.0)).unwrap();
    assert_eq!((both.x, both.y), (20, 20));
    assert!(both.width.abs_diff(540) < 32, "{both}");
}

/// The embedded model sees what an image shows.
#[cfg(feature = "embedded")]
#[test]
fn refining_an_answer_looks_at_the_same_crop() {
    let disc = |x: u32, y: u32| x.abs_diff(150).pow(2) + y.abs_diff(100).pow(2) < 90;
    let image = RgbImage::from_fn(240, 180, |x, y| {
        let shade = 200 - (x / 4) as u8;
        Rgb(if disc(x, y) {
            [30, 60, 160]
        } else {
            [shade, shade, 150]
        })
    });
    let segmenter = Segmenter::embedded(DeviceKind::Cpu).unwrap();
    let embedding = segmenter.embed(&image).unwrap();
    let truth = Mask::from_fn(240, 180, disc);
    let mut prompt = Prompt::point(150.0, 100.0);
    for (x, y) in [(147.5, 103.5), (154.5, 97.5), (150.5, 100.5)] {
        let answer = embedding
            .predict_zoomed(&image, &prompt, Zoom::Auto)
            .unwrap();
        assert!(answer.view().is_some());
        let chosen = answer.select(&Select::Best).unwrap();
        assert!(chosen.mask.iou(&truth) > 0.9, "{}", chosen.mask.iou(&truth));
        let candidate = &answer.as_slice()[chosen.index.unwrap()];
        prompt = prompt
            .with_point(x, y)
            .with_mask(candidate.low_res_logits.clone())
            .with_single_mask();
    }
    assert_eq!(embedded(&embedding), 1);
    // Without a closer look the last answer is understood too.
    let whole = embedding.predict(&prompt).unwrap();
    assert!(whole.as_slice()[0].mask.iou(&truth) > 0.8);
    // A saved embedding can be looked at closely as well.
    let file = tempfile::NamedTempFile::new().unwrap();
    embedding.save(file.path()).unwrap();
    let loaded = Embedding::load(file.path(), &segmenter).unwrap();
    let again = loaded.predict_zoomed(&image, &prompt, Zoom::Auto).unwrap();
    assert!(again.view().is_some());
}

/// Hills of logits that are smooth from cell to cell.
fn hills(side: usize) -> Logits {
    let value = |i: usize| {
        let (x, y) = ((i % side) as f32, (i / side) as f32);
        3.0 * (x * 0.2).sin() + 2.0 * (y * 0.15 + x * 0.05).cos() - 0.3
    };
    Logits::new(side, (0..side * side).map(value).collect()).unwrap()
}

fn frames(size: (u32, u32)) -> [Frame; 2] {
    [
        Frame::longest_side(size.0, size.1, 128).unwrap(),
        Frame::stretch(size.0, size.1, 128).unwrap(),
    ]
}

#[test]
fn logits_of_the_whole_image_stay_what_they_are() {
    for size in [SIZE, (97, 61), (33, 210), (1, 7), (1, 1), (128, 128)] {
        for frame in frames(size) {
            let (logits, whole) = (hills(32), Part::whole(&frame));
            let same = resample(&logits, whole, whole);
            let (masks, same_masks) = (
                logits.upsample(&frame, 1.0).unwrap(),
                same.upsample(&frame, 1.0).unwrap(),
            );
            let content = |i: usize| {
                let cell = |i: usize| (i as u32 + 1) * 4;
                cell(i % 32) <= frame.content_size().0 && cell(i / 32) <= frame.content_size().1
            };
            let pairs = logits.values().iter().zip(same.values()).enumerate();
            for (i, (a, b)) in pairs.filter(|&(i, _)| content(i)) {
                assert_eq!(a, b, "{size:?}, cell {i}");
            }
            assert!(
                masks.0.iou(&same_masks.0) > 0.98 || masks.0.is_empty(),
                "{size:?}"
            );
        }
    }
}

#[test]
fn logits_go_to_a_part_and_back() {
    let part = rect(60, 20, 80, 80);
    for (whole, frame) in frames(SIZE).iter().zip(&frames((80, 80))) {
        let (whole, part) = (Part::whole(whole), Part { rect: part, frame });
        let logits = hills(32);
        let there = resample(&logits, whole, part);
        let (mask, _) = logits.upsample(whole.frame, 1.0).unwrap();
        let (cut, _) = there.upsample(frame, 1.0).unwrap();
        let expected = mask.crop(60, 20, 80, 80);
        assert!(cut.iou(&expected) > 0.95, "{}", cut.iou(&expected));
        let back = resample(&there, part, whole);
        let (back, _) = back.upsample(whole.frame, 1.0).unwrap();
        let inside = Mask::from_fn(SIZE.0, SIZE.1, |x, y| {
            // Nothing within a cell of the edge, where the outside begins.
            rect(68, 28, 64, 64).contains(x.into(), y.into())
        });
        let (back, mask) = (back.and(&inside).unwrap(), mask.and(&inside).unwrap());
        assert!(back.iou(&mask) > 0.9, "{}", back.iou(&mask));
    }
}

#[test]
fn beyond_the_part_is_outside() {
    let whole = Frame::longest_side(SIZE.0, SIZE.1, 128).unwrap();
    let frame = Frame::longest_side(50, 50, 128).unwrap();
    let all_inside = Logits::new(32, vec![5.0; 32 * 32]).unwrap();
    let part = Part {
        rect: rect(100, 50, 50, 50),
        frame: &frame,
    };
    let placed = resample(&all_inside, part, Part::whole(&whole));
    // A cell is 6.25 pixels wide.
    for (i, value) in placed.values().iter().enumerate() {
        let (x, y) = (
            (i % 32) as f64 * 6.25 + 3.125,
            (i / 32) as f64 * 6.25 + 3.125,
        );
        let expected = if part.rect.contains(x, y) { 5.0 } else { -6.9 };
        assert!((value - expected).abs() < 1e-4, "cell {i}: {value}");
    }
}

#[test]
fn a_mask_smaller_than_a_cell_is_not_lost() {
    let whole = Frame::longest_side(2000, 2000, 128).unwrap();
    let frame = Frame::longest_side(100, 100, 128).unwrap();
    // Half of the part: a cell of the whole image is 62.5 pixels wide.
    let left = |i: usize| if i % 32 < 16 { 8.0 } else { -8.0 };
    let logits = Logits::new(32, (0..32 * 32).map(left).collect()).unwrap();
    let part = Part {
        rect: rect(900, 900, 100, 100),
        frame: &frame,
    };
    let placed = resample(&logits, part, Part::whole(&whole));
    let highest = placed.values().iter().copied().fold(f32::MIN, f32::max);
    assert!(highest > 0.0, "{highest}");
}
