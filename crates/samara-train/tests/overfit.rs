//! A tiny model learns eight images by heart.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Instant;

use common::{Bench, recipe};

#[test]
fn eight_images_are_learnt_by_heart() {
    let bench = Bench::new(8, 64);
    let stages = "[[stages]]
steps = 600
images_per_step = 3
masks_per_image = 2
rounds = [1, 2]
[validation]
examples = 16
every = 600
[[validation.data]]
path = 'shapes'
";
    let text = recipe("replicas = 2\ncheckpoint_every = 600", 2e-3, stages);
    let began = Instant::now();
    let seen = bench.run(&text, "run").unwrap();
    let [first, .., last] = &seen.steps[..] else {
        unreachable!()
    };
    let learnt = seen.validations[0];
    println!("{:.0} s, {learnt:?}", began.elapsed().as_secs_f64());
    assert!(last.metrics.loss < 0.2 * first.metrics.loss);
    assert!(learnt.oracle > 0.94, "{learnt:?}");
    assert!(learnt.automatic > 0.84, "{learnt:?}");
    assert!(learnt.last > 0.86, "{learnt:?}");
    assert!(learnt.iou_error < 0.1, "{learnt:?}");
    assert!(bench.path("run/curves.svg").exists());
}
