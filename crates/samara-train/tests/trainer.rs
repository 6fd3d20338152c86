//! Runs of the trainer: the same whatever the threads and interruptions, fine-tuning of parts, and
//! steps that cannot be used.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use common::{Bench, Seen, golden, middle, recipe, tensors};
use samara_model::burn::tensor::Device;
use samara_model::checkpoint::{Checkpoint, StorageType};
use samara_train::Trainer;
use samara_train::step::StepMetrics;

const STAGES: &str = "[[stages]]
steps = 4
images_per_step = 3
masks_per_image = 2
rounds = [1, 3]
freeze = ['image_encoder.']
[[stages]]
steps = 4
images_per_step = 2
masks_per_image = 2
rounds = [1, 2]
[validation]
examples = 2
every = 3
[[validation.data]]
path = 'shapes'
";

const ONE_STEP: &str = "[[stages]]\nsteps = 1\nmasks_per_image = 1\nrounds = [1, 1]";

fn varied(more: &str) -> String {
    recipe(more, 1e-3, STAGES).replace(&middle(true), &middle(false))
}

#[test]
fn threads_and_interruptions_change_nothing() {
    let bench = Bench::new(6, 64);
    let one = varied("ema = 0.9\ncheckpoint_every = 3\nambiguous_clicks = 0.5");
    let straight = bench.run(&one, "straight").unwrap();
    let expected = bench.weights("straight");
    assert_eq!(straight.steps.len(), 8);
    assert_eq!(straight.validations.len(), 2);

    let two = format!("replicas = 2\nworkers = 2\n{one}");
    bench.run(&two, "two").unwrap();
    assert!(bench.weights("two") == expected, "threads");

    // Once within each stage, once before a validation, once between the stages.
    for (i, last) in [2, 3, 4, 5].into_iter().enumerate() {
        let part = bench.run_until(&one, "parts", last).unwrap();
        let begin = [0, 2, 3, 4][i];
        assert!(part.steps.iter().map(|s| s.step).eq(begin + 1..=last));
        assert!(!bench.path("parts/model.safetensors").exists());
    }
    bench.run(&one, "parts").unwrap();
    assert!(bench.weights("parts") == expected, "interruptions");
    let log = |out: &str| {
        let log = std::fs::read_to_string(bench.path(out).join("log.jsonl")).unwrap();
        let lines = log.lines().map(|line| {
            let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
            line.as_object_mut().unwrap().remove("seconds");
            line
        });
        lines.collect::<Vec<_>>()
    };
    assert_eq!(log("parts"), log("straight"));

    // A finished run is finished.
    assert!(bench.run(&one, "parts").unwrap().steps.is_empty());
    assert!(bench.weights("parts") == expected);
}

/// A recipe that goes on with a checkpoint.
fn tuning(checkpoint: &str, more: &str) -> String {
    format!(
        "model = {{ checkpoint = '{checkpoint}' }}
checkpoint_every = 100
{more}
{}[optimizer]
lr = 1e-3
warmup = 2
[[stages]]
steps = 6
images_per_step = 2
masks_per_image = 2
rounds = [1, 2]
",
        middle(true)
    )
}

fn losses(seen: &Seen) -> Vec<f64> {
    seen.steps.iter().map(|step| step.metrics.loss).collect()
}

/// The keys that changed between two files.
fn changed(before: &Path, after: &Path) -> Vec<String> {
    let (before, after) = (tensors(before), tensors(after));
    // Tables of indices are not written again.
    assert!(after.keys().all(|key| before.contains_key(key)));
    let keys = after.keys().filter(|key| before[*key] != after[*key]);
    keys.cloned().collect()
}

#[test]
fn a_blended_model_lies_between_the_first_weights_and_the_trained_ones() {
    let bench = Bench::new(3, 64);
    let first = golden("mobile_sam.pth");
    let start = bench.path("start.safetensors");
    let file = Checkpoint::open(&first).unwrap();
    file.convert(&start, Some(StorageType::F32)).unwrap();
    let finished = |out: &str, more: &str| {
        bench.run(&tuning(&first, more), out).unwrap();
        tensors(&bench.path(out).join("model.safetensors"))
    };
    let (trained, blended) = (finished("all", ""), finished("part", "blend = 0.25"));
    let start = tensors(&start);
    let floats = |bytes: &[u8]| -> Vec<f32> {
        let (values, _) = bytes.as_chunks::<4>();
        values.iter().map(|v| f32::from_le_bytes(*v)).collect()
    };
    let mut moved = 0;
    for (key, blended) in &blended {
        let [from, to, blended] = [&start[key], &trained[key], blended].map(|b| floats(b));
        for ((from, to), blended) in from.into_iter().zip(to).zip(blended) {
            let expected = from + 0.25 * (to - from);
            assert!(
                (blended - expected).abs() <= 1e-6 * (1.0 + expected.abs()),
                "{key}"
            );
            moved += u32::from(from.to_bits() != to.to_bits());
        }
    }
    assert!(moved > 1000, "{moved}");
}

/// The first step of two runs differs by the retention only, wherever the first model's features come from.
#[test]
fn what_the_first_model_drew_is_retained() {
    let bench = Bench::new(3, 64);
    let first = golden("mobile_sam.pth");
    let seen = |out: &str, weight: f32, more: &str| {
        let recipe = tuning(&first, more);
        let weights = format!("iou = 1.0, retention = {weight:?}, object_score");
        let recipe = recipe
            .replace("iou = 1.0, object_score", &weights)
            .replace("steps = 6", "steps = 1");
        bench.run(&recipe, out).unwrap().steps[0].metrics
    };
    let frozen = "groups = [{ prefix = 'image_encoder.', lr_scale = 0.0 }]";
    let free = seen("free", 0.0, frozen);
    let kept = seen("kept", 1.0, frozen);
    let twice = seen("twice", 2.0, frozen);
    let retention = kept.loss - free.loss;
    assert!(retention > 1e-3, "{retention}");
    assert!((twice.loss - kept.loss - retention).abs() < 1e-5);
    assert_eq!(
        StepMetrics { loss: 0.0, ..kept },
        StepMetrics { loss: 0.0, ..free }
    );
    let learning = seen("learning", 1.0, "");
    assert!((learning.loss - kept.loss).abs() < 1e-5 * kept.loss);
}

#[test]
fn parts_of_any_model_are_tuned() {
    let bench = Bench::new(3, 64);
    let (encoder, head) = ("image_encoder.", "mask_decoder.iou_prediction_head.");
    for (name, checkpoint) in [
        ("vit", golden("sam_vit.pth")),
        ("tiny", golden("mobile_sam.pth")),
    ] {
        let before = bench.path(&format!("{name}.safetensors"));
        let file = Checkpoint::open(&checkpoint).unwrap();
        file.convert(&before, Some(StorageType::F32)).unwrap();
        let after = |out: &str| bench.path(out).join("model.safetensors");

        let frozen = format!("groups = [{{ prefix = '{encoder}', lr_scale = 0.0 }}]");
        let decoder = tuning(&checkpoint, &frozen);
        let out = format!("{name}-decoder");
        let seen = bench.run(&decoder, &out).unwrap();
        let keys = changed(&before, &after(&out));
        assert!(
            !keys.is_empty() && !keys.iter().any(|key| key.starts_with(encoder)),
            "{keys:?}"
        );
        assert!(seen.steps.iter().all(|step| step.metrics.loss.is_finite()));

        // With the features kept on disk, the same up to rounding; with those that are there, exactly.
        let cached = tuning(&checkpoint, &format!("embedding_cache = '{name}-cache'"));
        let [first, second] = ["first", "second"].map(|out| {
            let out = format!("{name}-{out}");
            let kept = bench.run(&cached, &out).unwrap();
            let cache = std::fs::read_dir(bench.path(&format!("{name}-cache")));
            assert_eq!(cache.unwrap().count(), 3);
            (losses(&kept), bench.weights(&out))
        });
        assert!(first == second, "{name}: {:?} {:?}", first.0, second.0);
        for (a, b) in losses(&seen).into_iter().zip(first.0) {
            assert!((a - b).abs() < 1e-5 * a, "{name}: {a} {b}");
        }
        let only = format!(
            "groups = [{{ prefix = '', lr_scale = 0.0 }}, {{ prefix = '{head}', lr_scale = 1.0 }}]"
        );
        let out = format!("{name}-head");
        bench.run(&tuning(&checkpoint, &only), &out).unwrap();
        let keys = changed(&before, &after(&out));
        assert!(
            !keys.is_empty() && keys.iter().all(|key| key.starts_with(head)),
            "{keys:?}"
        );

        let out = format!("{name}-all");
        bench.run(&tuning(&checkpoint, "ema = 0.5"), &out).unwrap();
        assert!(
            changed(&before, &after(&out))
                .iter()
                .any(|key| key.starts_with(encoder))
        );
    }
}

#[test]
fn a_run_that_explodes_stops_and_keeps_its_last_good_checkpoint() {
    let bench = Bench::new(4, 64);
    let stages = "[[stages]]
steps = 100
images_per_step = 2
masks_per_image = 2
rounds = [1, 1]
";
    let text = recipe("checkpoint_every = 1\nreplicas = 2\nema = 0.9", 1e6, stages);
    let error = bench.run(&text, "run").unwrap_err().to_string();
    for word in ["not finite", "10 times in a row", "optimizer.lr"] {
        assert!(error.contains(word), "{error}");
    }
    assert!(!bench.path("run/model.safetensors").exists());
    let mut checkpoints: Vec<_> = std::fs::read_dir(bench.path("run"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    checkpoints.sort();
    let last = checkpoints.last().unwrap().join("weights.safetensors");
    for (key, bytes) in tensors(&last) {
        let mut values = bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        assert!(values.all(f32::is_finite), "{key}");
    }
    let log = std::fs::read_to_string(bench.path("run/log.jsonl")).unwrap();
    assert!(
        log.lines()
            .rev()
            .take(10)
            .all(|line| line.contains("\"skipped\":true")),
        "{log}"
    );
    // It can be opened again.
    Trainer::new(bench.recipe(&text), &bench.path("run"), &Device::flex()).unwrap();
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let bench = Bench::new(2, 64);
    let vit = golden("sam_vit.pth");
    let plain = recipe("", 1e-3, ONE_STEP);
    for (text, words) in [
        (
            plain.replace("path = 'shapes'", "path = 'shpaes'"),
            &["data: ", "shpaes"][..],
        ),
        (
            plain.replace("path = 'shapes'", "path = 'shapes'\nsplit = 'train'"),
            &["data: ", "split 'train'"],
        ),
        (
            plain.replace("path = 'shapes'", "path = 'shapes'\nmin_area = 9999"),
            &["data: ", "no image has a usable object"],
        ),
        (tuning("none.pth", ""), &["model.checkpoint: ", "none.pth"]),
        (
            plain.replace("tiny.safetensors", "none.pth"),
            &["model.random: ", "none.pth"],
        ),
        (
            plain.replace("tiny.safetensors", &golden("sam2_video.safetensors")),
            &[
                "model.random: ",
                "sam2_video.safetensors",
                "SAM 2 cannot be trained",
            ],
        ),
        (
            tuning(&vit, "groups = [{ prefix = 'trunk.', lr_scale = 0.1 }]"),
            &["groups[0].prefix: 'trunk.'", "image_encoder."],
        ),
        (
            plain.replace("rounds", "freeze = ['mask_decoder', 'trunk']\nrounds"),
            &["stages[0].freeze: 'trunk'", "image_encoder."],
        ),
    ] {
        let recipe = bench.recipe(&text);
        let result = Trainer::new(recipe, &bench.path("run"), &Device::flex());
        let error = result.err().unwrap().to_string();
        for word in words {
            assert!(error.contains(word), "{error}");
        }
        assert!(!error.contains('\n'), "{error}");
        assert!(!bench.path("run").exists());
    }
}
