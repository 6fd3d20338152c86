//! `samara models` and `samara completions`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;

use common::{Bench, assert_fails, golden, model, stderr, stdout};
use safetensors::SafeTensors;
use serde_json::Value;

#[test]
fn list_names_every_release() {
    let bench = Bench::new();
    let text = stdout(&bench.run(&["models", "list"]));
    for name in [
        "sam-vit-b",
        "sam-vit-l",
        "sam-vit-h",
        "mobile-sam",
        "medsam-vit-b",
        "sam2.1-tiny",
    ] {
        assert!(text.contains(name), "{name}");
    }
    assert!(!text.contains("on this machine"), "{text}");
    let json: Value =
        serde_json::from_str(&stdout(&bench.run(&["models", "list", "--json"]))).unwrap();
    assert_eq!(json[0]["name"], "sam-vit-b");
    assert_eq!(json[0]["size"], 375_042_383);
    assert!(json[0]["path"].is_null());
}

#[test]
fn info_recognises_a_checkpoint() {
    let bench = Bench::new();
    let text = stdout(&bench.run(&["models", "info", &model()]));
    assert!(text.contains("sam-vit (width 16, 4 blocks)"), "{text}");
    assert!(text.contains("pytorch, official names"), "{text}");
    let file = golden("sam_hf.safetensors");
    let json: Value =
        serde_json::from_str(&stdout(&bench.run(&["models", "info", &file, "--json"]))).unwrap();
    assert_eq!(json["naming"], "transformers");
    assert_eq!(json["format"], "safetensors");
    assert_fails(
        &bench.run(&["models", "info", "mobile-sam"]),
        1,
        &["mobile-sam", "download"],
    );
    assert_fails(&bench.run(&["models", "info", "no.pth"]), 1, &["no.pth"]);
}

#[test]
fn info_says_which_weights_are_taken() {
    let bench = Bench::new();
    let bytes = fs::read(golden("sam_hf.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = ["ema", "model"].into_iter().flat_map(|set| {
        let tensors = file.tensors().into_iter();
        tensors.map(move |(name, tensor)| (format!("{set}.{name}"), tensor))
    });
    let both = safetensors::serialize(tensors, None).unwrap();
    fs::write(bench.path("both.safetensors"), both).unwrap();
    let text = stdout(&bench.run(&["models", "info", "both.safetensors"]));
    let line = "  weights       those under ema., not those under model.\n";
    assert!(text.contains(line), "{text}");
    let text = stdout(&bench.run(&["models", "info", "both.safetensors", "--json"]));
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["prefix"], "ema.");
    assert_eq!(json["other_weights"], serde_json::json!(["model."]));
    let text = stdout(&bench.run(&["models", "info", &model()]));
    assert!(!text.contains("weights"), "{text}");
}

#[test]
fn a_converted_checkpoint_answers_the_same() {
    let bench = Bench::new();
    let run = |checkpoint: &str| -> Value {
        let args = [
            "segment",
            "photo.png",
            "--checkpoint",
            checkpoint,
            "--point",
            "40,30",
        ];
        let output = bench.run(&[&args[..], &["--json", "-"]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let convert = |args: &[&str]| bench.run(&[&["models", "convert"], args].concat());
    let output = convert(&[&model(), "same.safetensors"]);
    assert_eq!(
        stdout(&output),
        "wrote same.safetensors\n",
        "{}",
        stderr(&output)
    );
    assert_eq!(
        run("same.safetensors")["objects"][0]["candidates"],
        run(&model())["objects"][0]["candidates"]
    );

    assert!(
        convert(&[&model(), "half.safetensors", "--dtype", "f16"])
            .status
            .success()
    );
    let size = |name: &str| fs::metadata(bench.path(name)).unwrap().len();
    assert!(size("half.safetensors") < size("same.safetensors") * 6 / 10);
    let score = |json: &Value| {
        json["objects"][0]["selected"]["predicted_iou"]
            .as_f64()
            .unwrap()
    };
    assert!((score(&run("half.safetensors")) - score(&run(&model()))).abs() < 0.01);

    assert!(
        convert(&[&model(), "int8.safetensors", "--dtype", "i8"])
            .status
            .success()
    );
    assert!(size("int8.safetensors") < size("same.safetensors") * 6 / 10);
    assert!((score(&run("int8.safetensors")) - score(&run(&model()))).abs() < 0.05);
    let text = stdout(&bench.run(&["models", "info", "int8.safetensors"]));
    assert!(text.contains("stored as F32, I8"), "{text}");

    assert_fails(
        &convert(&[&model(), "x.pth"]),
        2,
        &["x.pth", ".safetensors"],
    );
    assert_fails(&convert(&["photo.png", "x.safetensors"]), 1, &["photo.png"]);
    assert_fails(
        &convert(&[&model(), "x.safetensors", "--input-side", "100"]),
        2,
        &["--input-side 100", "learnt positions"],
    );
    assert!(!bench.path("x.safetensors").exists());
}

/// Answers one request with `reply`, gives the request back.
fn serve_once(reply: &'static [u8]) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mirror", listener.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let n = stream.read(&mut request).unwrap();
        stream.write_all(reply).unwrap();
        String::from_utf8_lossy(&request[..n]).into_owned()
    });
    (url, served)
}

#[test]
fn download_asks_the_mirror() {
    let bench = Bench::new();
    let (url, served) =
        serve_once(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let output = bench.run(&["models", "download", "mobile-sam", "--base-url", &url]);
    assert_fails(&output, 1, &["404", "mobile_sam.pt"]);
    let request = served.join().unwrap();
    assert!(
        request.starts_with("GET /mirror/mobile_sam.pt HTTP/1.1"),
        "{request}"
    );
}

#[test]
fn download_refuses_what_is_not_the_release() {
    let bench = Bench::new();
    let (url, served) =
        serve_once(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
    let output = bench.run(&["models", "download", "mobile-sam", "--base-url", &url]);
    assert_fails(&output, 1, &["mobile_sam.pt", "40728226"]);
    served.join().unwrap();
    assert!(!bench.path("home/models/mobile_sam.pt").exists());
}

#[test]
fn download_offline_says_what_to_do() {
    let bench = Bench::new();
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let output = bench.run(&["models", "download", "mobile-sam", "--base-url", &closed]);
    assert_fails(&output, 1, &["127.0.0.1", "give its file"]);
    let unknown = bench.run(&["models", "download", "mobilesam2"]);
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn completions_for_every_shell() {
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = bench.run(&["completions", shell]);
        assert!(output.status.success());
        assert!(stdout(&output).contains("segment"), "{shell}");
    }
    assert_fails(&bench.run(&["completions", "tcsh"]), 2, &["tcsh"]);
}

#[test]
fn help_has_examples_and_usage_errors_are_one_line() {
    let bench = Bench::new();
    for args in [
        &["--help"][..],
        &["segment", "--help"],
        &["models", "--help"],
    ] {
        let output = bench.run(args);
        assert!(output.status.success());
        assert!(stdout(&output).contains("Examples:"));
        assert!(!stdout(&output).contains('\x1b'));
    }
    assert_fails(&bench.run(&["segment"]), 2, &["no image"]);
    assert_fails(
        &bench.run(&["segment", "a.png", "--pint", "1,2"]),
        2,
        &["--pint"],
    );
    assert_fails(&bench.run(&["segmnt"]), 2, &["segmnt"]);
}

#[test]
fn a_quantized_model_computes_in_integers() {
    let bench = Bench::new().with_data(&["train", "val"], &[]);
    let quantize = |args: &[&str]| bench.run(&[&["models", "quantize"], args].concat());
    let output = quantize(&[&model(), "data", "photo.png", "-o", "int8.safetensors"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("pictures      3\n") && said.contains("smoothing"),
        "{said}"
    );
    let answer = |model: &str, precision: &str| {
        let prompt = ["--point", "50,30", "--json", "-"];
        let model = ["--checkpoint", model, "--precision", precision];
        let output = bench.run(&[&["segment", "photo.png"], &prompt[..], &model].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let int8 = answer("int8.safetensors", "int8");
    assert_eq!(int8["precision"], "int8");
    let scores = |answer: &Value| answer["objects"][0]["candidates"].to_string();
    assert_ne!(scores(&int8), scores(&answer("int8.safetensors", "fp32")));
    // With auto it is int8 or, without instructions for that, never more than the machine has.
    let auto = answer("int8.safetensors", "auto");
    let plain = answer(&model(), "auto");
    assert!(auto["precision"] == "int8" || auto["precision"] == plain["precision"]);
    assert_ne!(plain["precision"], "int8");
    let info = bench.run(&["models", "info", "int8.safetensors", "--json"]);
    let info: Value = serde_json::from_slice(&info.stdout).unwrap();
    let report: Value =
        serde_json::from_str(info["metadata"]["samara.int8"].as_str().unwrap()).unwrap();
    assert!(report["error"].as_f64().unwrap() <= 0.025, "{report}");
    // What was found to lose too much does not become integers afterwards; without integers it is no such model.
    let convert = |output: &str, dtype: &str| {
        let files = [
            "models",
            "convert",
            "int8.safetensors",
            output,
            "--dtype",
            dtype,
        ];
        let output = bench.run(&files);
        assert!(output.status.success(), "{}", stderr(&output));
    };
    convert("again.safetensors", "i8");
    convert("half.safetensors", "f16");
    assert_eq!(scores(&int8), scores(&answer("again.safetensors", "int8")));
    let half = bench.run(&["models", "info", "half.safetensors", "--json"]);
    let half: Value = serde_json::from_slice(&half.stdout).unwrap();
    assert_eq!(half["metadata"]["samara.int8"], Value::Null);
}

#[test]
fn what_cannot_be_quantized_is_told() {
    let bench = Bench::new();
    bench.write("text.png", b"no picture");
    fs::create_dir(bench.path("empty")).unwrap();
    let before = bench.files();
    let model = model();
    let quantize = ["models", "quantize", &model, "-o", "a.safetensors"];
    for (args, status, why) in [
        (&["nowhere"][..], 1, "nowhere"),
        (&["empty"], 1, "empty: no picture"),
        (&["text.png"], 1, "text.png"),
        (&["photo.png", "--max-error", "0"], 2, "--max-error"),
        (&["photo.png", "--max-error", "0.000001"], 2, "bf16 alone"),
        (&["photo.png", "--max-error", "x"], 2, "--max-error"),
        (&["photo.png", "--most", "0"], 2, "--most"),
        (&[], 2, "PICTURES"),
    ] {
        let output = bench.run(&[&quantize, args].concat());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
        assert!(
            said.contains(why) && !said.contains("panic"),
            "{args:?}: {said}"
        );
    }
    for output in ["a.pth", "photo.png"] {
        let output = bench.run(&["models", "quantize", &model, "photo.png", "-o", output]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    }
    assert_eq!(bench.files(), before);
}
