//! `samara bench` and `--threads`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use assert_cmd::Command;
use common::{Bench, assert_fails, model, stdout};
use serde_json::Value;

#[test]
fn the_figures_belong_together() {
    let bench = Bench::new();
    let args = ["bench", "photo.png", "--checkpoint", &model()];
    let json = [
        &args[..],
        &[
            "--json",
            "-",
            "--repeat",
            "2",
            "--prompts",
            "3",
            "--threads",
            "1",
        ],
    ];
    let report: Value = serde_json::from_str(&stdout(&bench.run(&json.concat()))).unwrap();
    assert_eq!(report["threads"], 1);
    assert_eq!(report["image"], serde_json::json!([96, 64]));
    assert!(report["peak_gflops"].as_f64().unwrap() > 0.1);
    let stages = report["stages"].as_array().unwrap();
    let names: Vec<&str> = stages.iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["load", "embed", "prompt", "prompt + masks", "batch"]
    );
    let gflop = |stage: usize| stages[stage]["gflop"].as_f64().unwrap();
    assert!(gflop(1) > 0.0);
    // Three prompts are three times the work of one, but for what they share.
    assert!((2.0..=3.01).contains(&(gflop(4) / gflop(2))), "{report:#}");
    for stage in &stages[1..] {
        let [gflop, ms, gflops] =
            ["gflop", "milliseconds", "gflops"].map(|k| stage[k].as_f64().unwrap());
        assert!(
            (gflop / ms * 1000.0 - gflops).abs() <= 1e-6 * gflops,
            "{stage}"
        );
    }

    let text = stdout(&bench.run(&args));
    assert!(
        text.contains("of peak") && text.contains("prompt + masks"),
        "{text}"
    );
}

#[test]
fn stages_are_measured_by_turns() {
    let bench = Bench::new();
    let run = |input: &str| {
        Command::cargo_bin("samara")
            .unwrap()
            .args([
                "bench",
                "--turns",
                "--checkpoint",
                &model(),
                "--prompts",
                "2",
            ])
            .current_dir(bench.path(""))
            .env("SAMARA_PRECISION", "fp32")
            .write_stdin(input.to_owned())
            .output()
            .unwrap()
    };
    let text = stdout(&run("embed\nprompt\nbatch\nembed\n"));
    let times: Vec<f64> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(times.len(), 4);
    assert!(times.iter().all(|&time| time > 0.0));
    assert_fails(&run("dance\n"), 2, &["dance", "embed"]);
    // Against itself a model in fp32 is exact.
    assert_eq!(stdout(&run("error photo.png\n")), "0.000000\n");
    assert_fails(&run("error none.png\n"), 1, &["none.png"]);
}

#[test]
fn the_number_of_threads_does_not_change_the_answer() {
    let bench = Bench::new();
    let answer = |threads: &str| {
        let mut json = bench.json(&["--point", "40,30", "--threads", threads]);
        json["timing_ms"] = Value::Null;
        json
    };
    assert_eq!(answer("1"), answer("2"));
    assert_eq!(answer("1"), answer("7"));
    assert_fails(
        &bench.segment(&["--point", "40,30", "--threads", "0"]),
        2,
        &["--threads"],
    );
}
