//! `samara serve` as a program: what it refuses, how it ends, and what outlives a kill.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Bench, agent, stderr};
use serde_json::{Value, json};

/// A server that is killed with the test.
struct Served {
    process: Child,
    url: String,
}

impl Served {
    fn start(state: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_samara"))
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--log-format",
                "json",
                "--state",
            ])
            .arg(state)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let url = loop {
            let line: Value = serde_json::from_str(&log.next().unwrap().unwrap()).unwrap();
            let message = line["message"].as_str().unwrap_or_default().to_owned();
            if let Some(url) = message.strip_prefix("listening on ") {
                break url.to_owned();
            }
        };
        // The log must not fill its pipe.
        std::thread::spawn(move || log.for_each(drop));
        Self { process, url }
    }

    fn send(&self, path: &str, content_type: &str, body: &[u8]) -> (u16, Value) {
        let request = agent().post(format!("{}{path}", self.url));
        let mut answer = request
            .header("content-type", content_type)
            .send(body)
            .unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        (
            answer.status().as_u16(),
            serde_json::from_str(&text).unwrap_or(Value::Null),
        )
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.send(path, "application/json", body.to_string().as_bytes());
        assert!(status < 300, "{path}: {answer}");
        answer
    }

    fn get(&self, path: &str) -> Value {
        let mut answer = agent().get(format!("{}{path}", self.url)).call().unwrap();
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    }

    fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    fn wait(&mut self) -> std::process::ExitStatus {
        let end = Instant::now() + Duration::from_secs(40);
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the server does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A picture with a disc, as PNG.
fn picture(x: u32) -> Vec<u8> {
    use samara_image::{PngSource, Rgb, RgbImage};
    let disc = |px: u32, py: u32| px.abs_diff(x).pow(2) + py.abs_diff(50).pow(2) < 625;
    let image = RgbImage::from_fn(160, 120, |px, py| {
        Rgb(if disc(px, py) {
            [220, 60, 30]
        } else {
            [30, 60, 90]
        })
    });
    image.to_png().unwrap()
}

#[test]
fn what_makes_no_sense_is_one_line() {
    let bench = Bench::new();
    std::fs::write(bench.path("good.toml"), "listen = '127.0.0.1:0'").unwrap();
    std::fs::write(bench.path("bad.toml"), "threads = 1\nport = 7").unwrap();
    std::fs::write(bench.path("empty.txt"), "# nothing\n").unwrap();
    std::fs::write(bench.path("short.txt"), "abc").unwrap();
    std::fs::create_dir(bench.path("other")).unwrap();
    std::fs::write(bench.path("other/photo.jpg"), "mine").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (arguments, name, status) in [
        (&["--listen", "0.0.0.0:0"][..], "--allow-without-token", 2),
        (&["--listen", "nowhere"], "--listen", 2),
        (&["--listen", &taken], &*taken, 1),
        (&["--config", "none.toml"], "none.toml", 1),
        (&["--config", "bad.toml"], "line 2", 1),
        (&["--token-file", "empty.txt"], "empty.txt", 2),
        (&["--token-file", "short.txt"], "tokens.default", 2),
        (&["--token-file", "/dev/zero"], "/dev/zero", 1),
        (&["--root", "none"], "root none", 2),
        (&["--cors", "*"], "cors", 2),
        (&["--image-host", "http://a/"], "image_hosts", 2),
        (&["--model", "none"], "none", 1),
        (&["--checkpoint", "good.toml"], "good.toml", 1),
        (&["--state", "other"], "other", 1),
        (&["--state", "good.toml/x"], "good.toml", 1),
    ] {
        let state: &[&str] = if arguments[0] == "--state" {
            &[]
        } else {
            &["--state", "state"]
        };
        let output = bench.run(&[&["serve"], state, arguments].concat());
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {error}");
        let lines: Vec<&str> = error
            .lines()
            .filter(|line| !line.contains(" INFO "))
            .collect();
        assert!(
            lines.len() == 1 && lines[0].contains(name),
            "{arguments:?}: {error}"
        );
    }
    assert!(bench.path("other/photo.jpg").exists());
}

#[test]
fn a_signal_ends_it_in_order() {
    let bench = Bench::new();
    let mut server = Served::start(&bench.path("state"));
    let (status, image) = server.send("/v1/images", "image/png", &picture(60));
    assert_eq!(status, 201);
    // A click that runs is answered.
    let request = json!({"image": {"id": image["id"]}, "prompts": [{"points": [[60, 50]]}]});
    let click = std::thread::scope(|scope| {
        let click = scope.spawn(|| server.post("/v1/predict", &request));
        std::thread::sleep(Duration::from_millis(100));
        server.signal("-TERM");
        click.join().unwrap()
    });
    assert_eq!(click["objects"].as_array().unwrap().len(), 1);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_killed_server_goes_on() {
    let bench = Bench::new();
    let state = bench.path("state");
    let mut server = Served::start(&state);
    let ids: Vec<Value> = (0..8)
        .map(|index| {
            server
                .send("/v1/images", "image/png", &picture(40 + 8 * index))
                .1["id"]
                .clone()
        })
        .collect();
    let request = json!({"image": {"id": ids[0]}, "prompts": [{"points": [[40, 50]]}]});
    let before = server.post("/v1/predict", &request);
    let video = server.post("/v1/videos", &json!({"frames": true}))["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for index in 0..3 {
        let (status, _) = server.send(
            &format!("/v1/videos/{video}/frames"),
            "image/png",
            &picture(50 + 3 * index),
        );
        assert_eq!(status, 201);
    }
    let prompt = json!({"frame": 0, "object": 1, "prompt": {"points": [[50, 50]]}});
    server.post(&format!("/v1/videos/{video}/prompts"), &prompt);
    let images: Vec<Value> = ids.iter().map(|id| json!({"id": id})).collect();
    server.post("/v1/embeddings", &json!({"images": images}));
    // In the middle of embeddings and of their files.
    std::thread::sleep(Duration::from_millis(700));
    server.signal("-KILL");
    server.wait();
    let server = Served::start(&state);
    let after = server.post("/v1/predict", &request);
    assert_eq!(
        before["objects"][0]["candidates"],
        after["objects"][0]["candidates"]
    );
    for id in &ids {
        let request = json!({"image": {"id": id}, "prompts": [{"points": [[5, 5]]}]});
        server.post("/v1/predict", &request);
    }
    let session = server.get(&format!("/v1/videos/{video}"));
    assert_eq!(
        (&session["objects"], &session["frames"]),
        (&json!([1]), &json!(3))
    );
    let (status, _) = server.send(
        &format!("/v1/videos/{video}/propagate"),
        "application/json",
        b"{}",
    );
    assert_eq!(status, 200);
    assert_eq!(server.get(&format!("/v1/videos/{video}"))["position"], 2);
    for folder in ["images", "embeddings", "videos"] {
        let left = std::fs::read_dir(state.join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let unfinished: Vec<_> = left
            .filter(|name| name.to_string_lossy().starts_with(".samara"))
            .collect();
        assert!(unfinished.is_empty(), "{unfinished:?}");
    }
}
