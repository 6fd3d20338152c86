//! From an image and a prompt to candidates, on a small model with random weights.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::ops::ControlFlow;

use common::{HEIGHT, WIDTH, checkpoint, difference, largest_difference, photo, segmenter};
use samara::checkpoint::Checkpoint;
use samara::tensors::model::Model;
use samara::tensors::model::burn::tensor::{Device, Tensor, TensorData};
use samara::tensors::model::sam::{PIXEL_MEAN, PIXEL_STD, PromptBatch, Sam};
use samara::{
    Candidates, Embedding, Error, Logits, Mask, MaskGenerator, MaskGeneratorOptions, MaskPrompt,
    OriginalBox, Prompt, Segmenter, StabilityScore,
};
use samara_image::{Frame, RgbImage};

/// What rounding may change between one prompt and a batch.
const ROUNDING: f32 = 1e-5;

fn embedding() -> Embedding {
    segmenter().embed(&photo(WIDTH, HEIGHT)).unwrap()
}

fn sam() -> Sam {
    let checkpoint = Checkpoint::open(checkpoint()).unwrap();
    let model = Model::load(&checkpoint, &Device::flex()).unwrap();
    model.into_sam().unwrap()
}

fn tensor<const D: usize>(values: &[f32], shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

fn bbox() -> OriginalBox {
    OriginalBox::new(30.0, 20.0, 110.0, 95.0).unwrap()
}

/// A rectangle of a quarter to three quarters of a mask of any size.
fn middle(width: u32, height: u32) -> Mask {
    Mask::from_fn(width, height, |x, y| {
        (width / 4..width * 3 / 4).contains(&x) && (height / 4..height * 3 / 4).contains(&y)
    })
}

/// Prompts of every shape, also two of the same shape that differ, and both kinds of answer.
fn mixed_prompts(previous: &Logits) -> Vec<Prompt> {
    vec![
        Prompt::point(70.0, 60.0),
        Prompt::new().with_box(bbox()),
        Prompt::mask(middle(WIDTH, HEIGHT)),
        Prompt::point(150.0, 30.0).with_single_mask(),
        Prompt::point(70.0, 60.0).with_negative_point(180.0, 10.0),
        Prompt::point(70.0, 60.0).with_box(bbox()),
        Prompt::point(70.0, 60.0).with_mask(previous.clone()),
        Prompt::new().with_mask(previous.clone()).with_single_mask(),
        Prompt::new().with_box(bbox()).with_mask(previous.clone()),
        Prompt::point(60.0, 50.0).with_point(80.0, 70.0),
        Prompt::point(70.0, 60.0)
            .with_box(bbox())
            .with_mask(MaskPrompt::Mask(middle(50, 30))),
    ]
}

/// A batch gives what its prompts give alone, in their order.
fn assert_batch_equals_singles(embedding: &Embedding, prompts: &[Prompt]) {
    let batch = embedding.predict_batch(prompts).unwrap();
    assert_eq!(batch.len(), prompts.len());
    let singles: Vec<Candidates> = prompts
        .iter()
        .map(|p| embedding.predict(p).unwrap())
        .collect();
    for (i, batched) in batch.iter().enumerate() {
        assert_eq!(
            batched.as_slice().len(),
            singles[i].as_slice().len(),
            "prompt {i}"
        );
        for (j, single) in singles.iter().enumerate() {
            let difference = difference(batched, single);
            if i == j {
                assert!(difference <= ROUNDING, "prompt {i}: {difference:e}");
            } else if prompts[i].clone().with_single_mask() != prompts[j].clone().with_single_mask()
            {
                // Without this, a model that ignored its prompts would keep any order.
                assert!(
                    difference > 100.0 * ROUNDING,
                    "prompts {i} and {j}: {difference:e}"
                );
            }
        }
    }
}

#[track_caller]
fn error(embedding: &Embedding, prompt: &Prompt) -> String {
    embedding.predict(prompt).unwrap_err().to_string()
}

#[test]
fn a_point_gives_three_candidates_and_single_gives_one() {
    let embedding = embedding();
    let prompt = Prompt::point(70.0, 60.0);
    let three = embedding.predict(&prompt).unwrap();
    let one = embedding.predict(&prompt.with_single_mask()).unwrap();
    for (answer, first_token, count) in [(&three, 1, 3), (&one, 0, 1)] {
        let tokens = answer.tokens();
        assert_eq!((tokens.iou.len(), tokens.low_res_logits.len()), (4, 4));
        assert_eq!(answer.as_slice().len(), count);
        for (i, candidate) in answer.iter().enumerate() {
            let token = first_token + i;
            assert_eq!(candidate.index, i);
            assert_eq!(candidate.low_res_logits, tokens.low_res_logits[token]);
            assert_eq!(candidate.predicted_iou, tokens.iou[token]);
            assert_eq!(candidate.raw_predicted_iou, tokens.iou[token]);
        }
    }
    assert_eq!(difference(&three, &one), 0.0);
    let [a, b, c, d] = &three.tokens().low_res_logits[..] else {
        unreachable!()
    };
    assert!(a != b && b != c && c != d && a != d, "the tokens differ");
}

#[test]
fn masks_and_stability_are_those_of_the_logits() {
    let embedding = embedding();
    let frame = Frame::longest_side(WIDTH, HEIGHT, 128).unwrap();
    assert_eq!(embedding.frame(), &frame);
    for candidate in &embedding.predict(&Prompt::point(70.0, 60.0)).unwrap() {
        let upsampled = candidate
            .low_res_logits
            .upsample(&frame, StabilityScore::OFFSET)
            .unwrap();
        assert_eq!(
            (candidate.mask.width(), candidate.mask.height()),
            (WIDTH, HEIGHT)
        );
        assert_eq!(
            (&candidate.mask, candidate.stability_score),
            (&upsampled.0, upsampled.1)
        );
    }
}

#[test]
fn a_batch_of_mixed_prompts_equals_single_prompts_in_order() {
    let embedding = embedding();
    let first = embedding.predict(&Prompt::point(70.0, 60.0)).unwrap();
    let prompts = mixed_prompts(&first.as_slice()[1].low_res_logits);
    assert_batch_equals_singles(&embedding, &prompts);
}

#[test]
fn a_batch_may_be_larger_than_what_is_decoded_at_once() {
    let point = |i: u32| Prompt::point(f64::from(9 * i + 5), f64::from(113 - 5 * i));
    let prompts: Vec<Prompt> = (0..20).map(point).collect();
    assert_batch_equals_singles(&embedding(), &prompts);
    assert!(embedding().predict_batch(&[]).unwrap().is_empty());
}

#[test]
fn decoding_and_making_candidates_are_the_halves_of_predicting() {
    let embedding = embedding();
    let prompts = [
        Prompt::point(70.0, 60.0),
        Prompt::new().with_box(bbox()),
        Prompt::point(150.0, 30.0).with_single_mask(),
    ];
    let whole = embedding.predict_batch(&prompts).unwrap();
    let tokens = embedding.decode(&prompts).unwrap();
    assert_eq!(tokens.len(), prompts.len());
    for ((tokens, prompt), whole) in tokens.into_iter().zip(&prompts).zip(&whole) {
        let answer = embedding.candidates(tokens, prompt).unwrap();
        assert_eq!(difference(&answer, whole), 0.0);
        let masks = |answer: &Candidates| answer.iter().map(|c| c.mask.clone()).collect::<Vec<_>>();
        assert_eq!(masks(&answer), masks(whole));
    }
    let message = embedding.decode(&[Prompt::new()]).unwrap_err().to_string();
    assert_eq!(message, "the prompt has no point, box or mask");
}

#[test]
fn previous_logits_change_the_answer() {
    let embedding = embedding();
    let click = Prompt::point(70.0, 60.0);
    let first = embedding.predict(&click).unwrap();
    let refined = |candidate: usize| {
        let previous = &first.as_slice()[candidate].low_res_logits;
        embedding
            .predict(&click.clone().with_mask(previous.clone()))
            .unwrap()
    };
    assert!(difference(&first, &refined(0)) > 1e-2);
    assert!(difference(&refined(0), &refined(1)) > 1e-2);
}

#[test]
fn a_mask_prompt_may_have_half_the_size() {
    let embedding = embedding();
    let answer = |mask: Mask| embedding.predict(&Prompt::mask(mask)).unwrap();
    let full = answer(middle(WIDTH, HEIGHT));
    assert!(difference(&full, &answer(middle(WIDTH / 2, HEIGHT / 2))) < 1e-4);
    let lower_half = Mask::from_fn(WIDTH, HEIGHT, |_, y| y >= HEIGHT / 2);
    assert!(difference(&full, &answer(lower_half)) > 1e-2);
}

/// The image has 200×120 pixels, its content in the model 128×77.
#[test]
fn answers_equal_those_of_the_model_for_coordinates_scaled_by_hand() {
    let embedding = embedding();
    let (features, shape) = embedding.values().unwrap();
    assert_eq!(shape, [1, 32, 8, 8]);
    let (sx, sy) = (128.0 / 200.0, 77.0 / 120.0);
    let points = [70.0 * sx, 60.0 * sy, 180.0 * sx, 10.0 * sy];
    let corners = [30.0 * sx, 20.0 * sy, 110.0 * sx, 95.0 * sy];
    let logits: Vec<f32> = (0..32 * 32)
        .map(|i| (i as f32 * 0.01).sin() * 5.0)
        .collect();
    let prompts = PromptBatch {
        points: Some((tensor(&points, [1, 2, 2]), tensor(&[1.0, 0.0], [1, 2]))),
        boxes: Some(tensor(&corners, [1, 4])),
        masks: Some(tensor(&logits, [1, 1, 32, 32])),
    };
    let expected = sam().decode(tensor(&features, shape).permute([0, 2, 3, 1]), &prompts);
    let (expected_logits, expected_iou) = (values(expected.low_res_logits), values(expected.iou));

    let prompt = Prompt::point(70.0, 60.0)
        .with_negative_point(180.0, 10.0)
        .with_box(bbox())
        .with_mask(Logits::new(32, logits).unwrap());
    let answer = embedding.predict(&prompt).unwrap();
    for (token, iou) in answer.tokens().iou.iter().enumerate() {
        let logits = answer.tokens().low_res_logits[token].values();
        let expected = &expected_logits[token * 32 * 32..][..32 * 32];
        let difference = largest_difference(logits, expected);
        assert!(
            difference <= ROUNDING,
            "token {token}: logits differ by {difference:e}"
        );
        assert!(
            (iou.0 - expected_iou[token]).abs() <= ROUNDING,
            "token {token}: IoU"
        );
    }
}

#[test]
fn pixels_are_normalised_and_padded_on_the_right_and_below() {
    for (width, height) in [(128, 77), (50, 128)] {
        let image = photo(width, height);
        let plane = |channel: usize| {
            let image = &image;
            (0..128 * 128).map(move |i| match image.get_pixel_checked(i % 128, i / 128) {
                Some(rgb) => (f32::from(rgb[channel]) - PIXEL_MEAN[channel]) / PIXEL_STD[channel],
                None => 0.0,
            })
        };
        let pixels: Vec<f32> = (0..3).flat_map(plane).collect();
        let expected = values(
            sam()
                .encode_image(tensor(&pixels, [1, 3, 128, 128]))
                .permute([0, 3, 1, 2]),
        );
        let (actual, _) = segmenter().embed(&image).unwrap().values().unwrap();
        let difference = largest_difference(&actual, &expected);
        assert!(difference <= ROUNDING, "{width}×{height}: {difference:e}");
    }
}

#[test]
fn images_of_any_shape_have_masks_of_their_size() {
    for (width, height) in [(1, 1), (3, 500), (700, 2), (128, 128)] {
        let embedding = segmenter().embed(&photo(width, height)).unwrap();
        let last = Prompt::point(f64::from(width) - 0.5, f64::from(height) - 0.5);
        for candidate in &embedding.predict(&last).unwrap() {
            assert_eq!(
                (candidate.mask.width(), candidate.mask.height()),
                (width, height)
            );
        }
    }
}

#[test]
fn segmenters_and_embeddings_serve_several_threads_at_once() {
    fn shared_between_threads<T: Send + Sync>() {}
    shared_between_threads::<Segmenter>();
    shared_between_threads::<Embedding>();

    let embedding = embedding();
    let first = embedding.predict(&Prompt::point(70.0, 60.0)).unwrap();
    let prompts = mixed_prompts(&first.as_slice()[0].low_res_logits);
    let expected = embedding.predict_batch(&prompts).unwrap();
    let all_equal = |answers: Vec<Candidates>| {
        let differences = answers.iter().zip(&expected).map(|(a, b)| difference(a, b));
        differences.fold(0.0, f32::max) <= ROUNDING
    };
    std::thread::scope(|scope| {
        let shared = || all_equal(embedding.predict_batch(&prompts).unwrap());
        let own = || {
            let embedding = segmenter().embed(&photo(WIDTH, HEIGHT)).unwrap();
            all_equal(
                prompts
                    .iter()
                    .map(|p| embedding.predict(p).unwrap())
                    .collect(),
            )
        };
        let threads = [
            scope.spawn(shared),
            scope.spawn(own),
            scope.spawn(shared),
            scope.spawn(own),
        ];
        for (i, thread) in threads.into_iter().enumerate() {
            assert!(thread.join().unwrap(), "thread {i}");
        }
    });
}

#[test]
fn an_empty_prompt_is_refused() {
    assert_eq!(
        error(&embedding(), &Prompt::new()),
        "the prompt has no point, box or mask"
    );
    assert_eq!(
        error(&embedding(), &Prompt::new().with_single_mask()),
        "the prompt has no point, box or mask"
    );
}

#[test]
fn points_outside_the_image_are_refused() {
    let embedding = embedding();
    for (x, y, shown) in [
        (200.0, 60.0, "200,60"),
        (70.0, 120.0, "70,120"),
        (-0.5, 60.0, "-0.5,60"),
        (70.0, -1.0, "70,-1"),
        (f64::NAN, 60.0, "NaN,60"),
        (70.0, f64::INFINITY, "70,inf"),
    ] {
        let message = match (x.is_finite() && y.is_finite(), shown) {
            (false, _) => format!("point {shown} has a coordinate that is not a finite number"),
            (true, "70,120") => "point 70,120 lies outside the image of 200×120 pixels; x comes before y: 120,70 would be inside".into(),
            (true, _) => format!("point {shown} lies outside the image of 200×120 pixels"),
        };
        assert_eq!(error(&embedding, &Prompt::point(x, y)), message);
        assert_eq!(
            error(
                &embedding,
                &Prompt::point(5.0, 5.0).with_negative_point(x, y)
            ),
            message
        );
    }
    assert!(embedding.predict(&Prompt::point(0.0, 0.0)).is_ok());
    assert!(embedding.predict(&Prompt::point(199.99, 119.99)).is_ok());
}

#[test]
fn only_boxes_fully_outside_the_image_are_refused() {
    let embedding = embedding();
    for (b, shown) in [
        ([200.0, 0.0, 250.0, 50.0], "200,0,250,50"),
        ([250.0, 50.0, 200.0, 0.0], "200,0,250,50"),
        ([10.0, 120.0, 20.0, 130.0], "10,120,20,130"),
        ([-9.5, 10.0, 0.0, 20.0], "-9.5,10,0,20"),
        ([10.0, -20.0, 20.0, 0.0], "10,-20,20,0"),
    ] {
        let prompt = Prompt::bbox(b[0], b[1], b[2], b[3]).unwrap();
        let message = format!("box {shown} lies outside the image of 200×120 pixels");
        assert_eq!(error(&embedding, &prompt), message);
    }
    let mut no_number = bbox();
    no_number.max.x = f64::NAN;
    assert_eq!(
        error(&embedding, &Prompt::new().with_box(no_number)),
        "box 30,20,NaN,95 lies outside the image of 200×120 pixels"
    );
    let beyond = Prompt::bbox(-5.0, -5.0, 300.0, 300.0).unwrap();
    assert!(embedding.predict(&beyond).is_ok());
}

#[test]
fn boxes_that_are_no_boxes_are_refused() {
    let refused = |b: [f64; 4]| {
        Prompt::bbox(b[0], b[1], b[2], b[3])
            .unwrap_err()
            .to_string()
    };
    assert_eq!(refused([5.0, 1.0, 5.0, 9.0]), "box: 5,1,5,9 has no area");
    assert_eq!(
        refused([5.0, f64::NAN, 6.0, 9.0]),
        "box: 5,NaN,6,9 has a coordinate that is not a finite number"
    );
}

#[test]
fn logits_of_another_side_are_refused() {
    let logits = Logits::new(16, vec![0.0; 256]).unwrap();
    let message =
        "mask logits of 16×16 values, the model takes 32×32; a mask has no values but 0 and 1";
    assert_eq!(
        error(
            &embedding(),
            &Prompt::point(5.0, 5.0).with_mask(logits.clone())
        ),
        message
    );
}

#[test]
fn a_bad_prompt_in_a_batch_is_reported() {
    let prompts = [
        Prompt::point(5.0, 5.0),
        Prompt::point(900.0, 5.0),
        Prompt::new(),
        Prompt::point(9.0, 9.0),
    ];
    let message = embedding().predict_batch(&prompts).unwrap_err().to_string();
    assert_eq!(
        message,
        "prompt 1: point 900,5 lies outside the image of 200×120 pixels"
    );
}

#[test]
fn an_image_without_pixels_is_refused() {
    let message = segmenter()
        .embed(&RgbImage::new(0, 7))
        .err()
        .unwrap()
        .to_string();
    assert_eq!(
        message,
        "image size: 0x7 pixels: an image needs at least one"
    );
}

#[test]
fn long_work_is_told_of_and_can_be_stopped() {
    let images = [photo(60, 40), photo(40, 60), photo(50, 50)];
    let mut heard = Vec::new();
    let embeddings = segmenter().embed_batch(&images, |done| {
        heard.push(done);
        ControlFlow::Continue(())
    });
    assert_eq!((embeddings.unwrap().len(), heard), (3, vec![1, 2, 3]));
    let stopped = segmenter().embed_batch(&images, |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(Error::Cancelled)));

    let generator = MaskGenerator::new(segmenter(), MaskGeneratorOptions::default()).unwrap();
    let embedding = segmenter().embed(&images[0]).unwrap();
    let mut shares = Vec::new();
    let stopped = generator.generate_from(&images[0], &embedding, |share| {
        shares.push(share);
        if share > 0.1 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert!(matches!(stopped, Err(Error::Cancelled)));
    let last = shares.last().copied().unwrap();
    assert!(shares.len() > 3 && last < 0.2, "{shares:?}");
}
