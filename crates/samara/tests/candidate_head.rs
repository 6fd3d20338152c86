//! Heads that rank the candidates, around small models with random weights.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::path::PathBuf;

use common::{HEIGHT, WIDTH, photo};
use samara::DeviceKind;
use samara::checkpoint::{CANDIDATE_HEAD, Checkpoint};
use samara::{
    CandidateFeatures, CandidateHead, DenseLayer, INTENT_NUMBERS, Intent, MaskGenerator,
    MaskGeneratorOptions, MaskThresholds, Prompt, Segmenter, Select,
};

fn golden(name: &str) -> PathBuf {
    let folder = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap());
    folder.join("../samara-model/tests/golden").join(name)
}

/// One layer: the weight of some inputs, and a bias.
fn layer(inputs: usize, weights: &[(usize, f32)], bias: f32) -> Vec<DenseLayer> {
    let mut weight = vec![0.0; inputs];
    weights.iter().for_each(|&(i, value)| weight[i] = value);
    let bias = vec![bias];
    vec![DenseLayer { weight, bias }]
}

/// Every mask has the predicted IoU sigmoid(1), and the mask of the third token is likelier meant than others.
fn head(tokens: usize) -> CandidateHead {
    let inputs = CandidateHead::inputs(tokens);
    // The last inputs say which token it is.
    let third = inputs - tokens + 2;
    let matching = layer(
        inputs + INTENT_NUMBERS,
        &[(third, 2.0), (inputs, 5.0)],
        0.25,
    );
    CandidateHead::new(tokens, layer(inputs, &[], 1.0), matching).unwrap()
}

fn segmenter(name: &str) -> Segmenter {
    let checkpoint = Checkpoint::open(golden(name)).unwrap();
    Segmenter::from_checkpoint(&checkpoint, DeviceKind::Cpu).unwrap()
}

#[test]
fn any_model_of_the_family_takes_a_head() {
    for name in ["sam_vit.pth", "mobile_sam.pth", "sam2_video.safetensors"] {
        let plain = segmenter(name);
        let tokens = plain.mask_tokens();
        let ranked = plain.clone().with_candidate_head(Some(head(tokens)));
        let image = photo(WIDTH, HEIGHT);
        let prompt = Prompt::point(70.0, 60.0);
        let before = plain.embed(&image).unwrap().predict(&prompt).unwrap();
        let embedding = ranked.embed(&image).unwrap();
        let after = embedding.predict(&prompt).unwrap();
        assert!(before.iter().all(|c| c.match_probability.is_none()));
        assert!(before.expected_ious().is_none());
        let refused = before.select(&Select::Learned).unwrap_err().to_string();
        assert!(refused.contains("candidate head"), "{refused}");

        // The masks and the decoder's scores are the same; the others come from the head.
        let expected = 1.0 / (1.0 + (-1.0_f32).exp());
        for (a, b) in before.iter().zip(&after) {
            assert_eq!(
                (&a.mask, a.raw_predicted_iou),
                (&b.mask, b.raw_predicted_iou)
            );
            assert!((b.predicted_iou.0 - expected).abs() < 1e-6);
        }
        let probabilities: Vec<f32> = after
            .iter()
            .map(|c| c.match_probability.unwrap().0)
            .collect();
        let softmax = |logits: [f32; 3]| {
            let exp = logits.map(f32::exp);
            exp.map(|e| e / exp.iter().sum::<f32>())
        };
        // Mask tokens 1, 2 and 3: the second candidate is of the third token.
        for (found, wanted) in probabilities.iter().zip(softmax([0.0, 2.0, 0.0])) {
            assert!((found - wanted).abs() < 1e-5, "{name}: {probabilities:?}");
        }
        let chosen = after.select(&Select::Best).unwrap();
        let words = [
            "highest expected IoU",
            "match probability",
            "predicted IoU 0.73",
        ];
        assert!(
            words.iter().all(|word| chosen.reason.contains(word)),
            "{}",
            chosen.reason
        );
        assert_eq!(chosen.index, after.select(&Select::Learned).unwrap().index);
        let official = after.select(&Select::Score).unwrap();
        assert_eq!(official.index, before.select(&Select::Best).unwrap().index);

        // A single mask is all that can be meant.
        let single = embedding.predict(&prompt.with_single_mask()).unwrap();
        assert_eq!(single.as_slice()[0].match_probability, None);
    }
}

#[test]
fn a_single_mask_is_the_heads_choice_among_all() {
    let plain = segmenter("mobile_sam.pth");
    let tokens = plain.mask_tokens();
    let inputs = CandidateHead::inputs(tokens);
    let image = photo(WIDTH, HEIGHT);
    let prompt = Prompt::point(70.0, 60.0)
        .with_point(90.0, 30.0)
        .with_single_mask();
    let official = plain.embed(&image).unwrap().predict(&prompt).unwrap();
    let all = official.tokens().clone();
    for token in 0..tokens {
        let matching = layer(
            inputs + INTENT_NUMBERS,
            &[(inputs - tokens + token, 40.0)],
            0.0,
        );
        let head = CandidateHead::new(tokens, layer(inputs, &[], 1.0), matching).unwrap();
        let ranked = plain.clone().with_candidate_head(Some(head));
        let answer = ranked.embed(&image).unwrap().predict(&prompt).unwrap();
        assert_eq!(answer.len(), 1);
        let (found, wanted) = (&answer.as_slice()[0], &all.low_res_logits[token]);
        assert_eq!(found.low_res_logits.values(), wanted.values(), "{token}");
        assert_eq!(found.raw_predicted_iou, all.iou[token]);
    }
}

#[test]
fn the_intent_is_told_to_the_second_head_alone() {
    let plain = segmenter("sam_vit.pth");
    let tokens = plain.mask_tokens();
    let inputs = CandidateHead::inputs(tokens);
    // The depth of the click in the mask speaks for it, once objects are meant.
    let depth = 13;
    let hidden = DenseLayer {
        weight: {
            let mut weight = vec![0.0; inputs + INTENT_NUMBERS];
            weight[depth] = 4.0;
            weight[inputs] = 10.0;
            weight
        },
        bias: vec![-10.0],
    };
    let out = DenseLayer {
        weight: vec![3.0],
        bias: vec![0.0],
    };
    let iou = layer(inputs, &[(0, 1.0)], 0.0);
    let head = CandidateHead::new(tokens, iou, vec![hidden, out]).unwrap();
    let embedding = plain.with_candidate_head(Some(head));
    let embedding = embedding.embed(&photo(WIDTH, HEIGHT)).unwrap();
    let answer = |intent| {
        let prompt = Prompt::point(70.0, 60.0).with_intent(intent);
        let answer = embedding.predict(&prompt).unwrap();
        let numbers = answer
            .iter()
            .map(|c| (c.predicted_iou.0, c.match_probability.unwrap().0));
        numbers.collect::<Vec<_>>()
    };
    let (balanced, objects) = (answer(Intent::Balanced), answer(Intent::Objects));
    assert!(balanced.iter().all(|(_, p)| (p - 1.0 / 3.0).abs() < 1e-6));
    assert!(
        objects.iter().any(|(_, p)| (p - 1.0 / 3.0).abs() > 1e-3),
        "{objects:?}"
    );
    assert!(balanced.iter().zip(&objects).all(|(a, b)| a.0 == b.0));
}

#[test]
fn a_head_travels_in_a_checkpoint_with_name_and_thresholds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ranked.safetensors");
    let checkpoint = Checkpoint::open(golden("mobile_sam.pth")).unwrap();
    let tokens = checkpoint.config().unwrap().mask_tokens();
    let thresholds = MaskThresholds {
        pred_iou_thresh: 0.7,
        stability_score_thresh: 0.6,
    };
    let metadata = [
        (Segmenter::NAME_KEY, "tiny".to_owned()),
        (MaskThresholds::KEY, thresholds.to_json().unwrap()),
    ];
    let heads = [(CANDIDATE_HEAD, head(tokens).to_tensors())];
    checkpoint
        .convert_with(&path, None, &metadata, &heads)
        .unwrap();
    let device = DeviceKind::Cpu;
    let load = |checkpoint: &Checkpoint| Segmenter::from_checkpoint(checkpoint, device);
    let loaded = load(&Checkpoint::open(&path).unwrap()).unwrap();
    assert_eq!(loaded.candidate_head(), Some(&head(tokens)));
    assert_eq!(
        (loaded.name().as_str(), loaded.thresholds()),
        ("tiny", thresholds)
    );
    assert!(loaded.architecture().starts_with("sam-"));
    let generator = MaskGenerator::new(&loaded, MaskGeneratorOptions::default()).unwrap();
    assert_eq!(generator.thresholds(), thresholds);
    let options = MaskGeneratorOptions::default().with_pred_iou_thresh(0.1);
    let generator = MaskGenerator::new(&loaded, options).unwrap();
    assert_eq!(generator.thresholds().pred_iou_thresh, 0.1);
    assert_eq!(generator.thresholds().stability_score_thresh, 0.6);

    // Without a word of the model it is the official code's.
    let plain = load(&checkpoint).unwrap();
    assert_eq!(
        (plain.name(), plain.candidate_head()),
        (plain.architecture(), None)
    );
    assert_eq!(plain.thresholds().pred_iou_thresh, 0.88);

    // What does not fit is refused in one line that names the file.
    let mut broken = head(tokens).to_tensors();
    broken.remove("match.layers.0.bias");
    let bad = [
        ([(CANDIDATE_HEAD, broken)], &[][..], "match.layers.0.bias"),
        (
            [(CANDIDATE_HEAD, head(tokens + 1).to_tensors())],
            &[][..],
            "mask tokens",
        ),
        (
            [(CANDIDATE_HEAD, head(tokens).to_tensors())],
            &[(
                MaskThresholds::KEY,
                r#"{"pred_iou_thresh":1.5,"stability_score_thresh":0}"#,
            )][..],
            "pred_iou_thresh",
        ),
        (
            [(CANDIDATE_HEAD, head(tokens).to_tensors())],
            &[(Segmenter::NAME_KEY, "a\nb")][..],
            Segmenter::NAME_KEY,
        ),
        (
            [(CANDIDATE_HEAD, head(tokens).to_tensors())],
            &[(Segmenter::NAME_KEY, " ")][..],
            Segmenter::NAME_KEY,
        ),
    ];
    for (heads, metadata, word) in bad {
        let metadata: Vec<_> = metadata
            .iter()
            .map(|&(key, v)| (key, v.to_owned()))
            .collect();
        checkpoint
            .convert_with(&path, None, &metadata, &heads)
            .unwrap();
        let error = load(&Checkpoint::open(&path).unwrap())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("ranked.safetensors") && error.contains(word),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn everything_is_filtered_by_the_head() {
    let plain = segmenter("sam_vit.pth");
    let tokens = plain.mask_tokens();
    let ranked = plain.with_candidate_head(Some(head(tokens)));
    let options = |pred_iou_thresh| {
        MaskGeneratorOptions::default()
            .with_points_per_side(4)
            .with_pred_iou_thresh(pred_iou_thresh)
            .with_stability_score_thresh(0.0)
            .with_box_nms_thresh(1.0)
    };
    let image = photo(WIDTH, HEIGHT);
    let count = |thresh| {
        let generator = MaskGenerator::new(&ranked, options(thresh)).unwrap();
        let records = generator.generate(&image).unwrap();
        let head_says = 1.0 / (1.0 + (-1.0_f32).exp());
        let all = records
            .iter()
            .all(|r| (r.predicted_iou.0 - head_says).abs() < 1e-6);
        assert!(all);
        records.len()
    };
    assert!(count(0.7) > 0);
    assert_eq!(count(0.74), 0);
}

#[test]
fn features_do_not_depend_on_the_batch() {
    let segmenter = segmenter("sam_vit.pth");
    let embedding = segmenter.embed(&photo(WIDTH, HEIGHT)).unwrap();
    let prompts = [Prompt::point(70.0, 60.0), Prompt::point(20.0, 30.0)];
    let together = embedding.decode(&prompts).unwrap();
    for (prompt, tokens) in prompts.iter().zip(&together) {
        let alone = embedding.decode(std::slice::from_ref(prompt)).unwrap();
        let frame = embedding.frame();
        let a = CandidateFeatures::new(tokens, prompt, frame);
        let b = CandidateFeatures::new(&alone[0], prompt, frame);
        assert_eq!(a.values.len(), a.tokens * CandidateHead::inputs(a.tokens));
        let difference = a.values.iter().zip(&b.values).map(|(a, b)| (a - b).abs());
        assert!(difference.fold(0.0, f32::max) < 0.05);
    }
}
