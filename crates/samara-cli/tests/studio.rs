//! `samara studio` as a program: what it refuses, what it says, and what outlives a kill.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{Bench, agent, stderr};
use serde_json::{Value, json};

/// A studio that is killed with the test.
struct Studio {
    process: Child,
    url: String,
}

impl Studio {
    fn start(folder: &Path, state: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_samara"))
            .arg("studio")
            .arg(folder)
            .args(["--no-open", "--listen", "127.0.0.1:0", "--state"])
            .arg(state)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let page = line.trim().strip_prefix("Samara Studio: ").unwrap();
        let url = page.strip_suffix("/studio/").unwrap().to_owned();
        Self { process, url }
    }

    fn get(&self, path: &str) -> Value {
        let mut answer = agent().get(format!("{}{path}", self.url)).call().unwrap();
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let request = agent().post(format!("{}{path}", self.url));
        let mut answer = request
            .header("content-type", "application/json")
            .send(body.to_string())
            .unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        assert!(answer.status().is_success(), "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Studio {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A folder with a picture of 80×60 pixels.
fn photos(bench: &Bench) -> std::path::PathBuf {
    let folder = bench.path("photos");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(bench.path("photo.png"), folder.join("photo.png")).unwrap();
    folder
}

#[test]
fn nothing_is_lost_by_a_kill() {
    let bench = Bench::new();
    let (folder, state) = (photos(&bench), bench.path("state"));
    let mut studio = Studio::start(&folder, &state);
    let picture = studio.get("/v1/project/pictures")["pictures"][0]["id"].clone();
    let at = |path: &str| format!("/v1/project/pictures/{picture}/{path}");
    let opened = studio.post(&at("open"), &json!({}));
    let [height, width] = ["height", "width"].map(|side| opened["image"][side].as_u64().unwrap());
    let class = json!({"name": "cat", "colour": "#ff0000"});
    let class = studio.post("/v1/project/classes", &class);
    for run in 1..20 {
        let counts = [run, 5, height * width - 5 - run];
        let object =
            json!({"mask": {"size": [height, width], "counts": counts}, "class": class["id"]});
        studio.post(&at("edits"), &json!({"edits": [{"add": object}]}));
    }
    let before = studio.post(&at("undo"), &json!({}));
    studio.kill();
    let studio = Studio::start(&folder, &state);
    let after = studio.post(&at("open"), &json!({}));
    assert_eq!(after["objects"], before["objects"]);
    assert_eq!(after["objects"].as_array().unwrap().len(), 18);
    assert_eq!(after["can_redo"], true);
    assert_eq!(studio.get("/v1/project")["classes"], json!([class]));
    let again = studio.post(&at("redo"), &json!({}));
    assert_eq!(again["objects"].as_array().unwrap().len(), 19);
}

#[test]
fn an_export_is_a_data_set_for_training_and_measuring() {
    let bench = Bench::new();
    bench.tiny_model();
    let folder = photos(&bench);
    std::fs::create_dir(folder.join("more")).unwrap();
    std::fs::copy(bench.path("photo.png"), folder.join("more/photo.png")).unwrap();
    let studio = Studio::start(&folder, &bench.path("state"));
    let list = studio.get("/v1/project/pictures");
    for picture in list["pictures"].as_array().unwrap() {
        let at = |path: &str| format!("/v1/project/pictures/{}/{path}", picture["id"]);
        studio.post(&at("open"), &json!({}));
        let object = json!({"mask": {"size": [64, 96], "counts": [64 * 20, 64 * 40, 64 * 36]}});
        studio.post(&at("edits"), &json!({"edits": [{"add": object}]}));
    }
    for format in ["coco", "coco-polygons", "label-maps"] {
        let export = json!({"format": format, "folder": format, "validation": 0.5});
        let exported = studio.post("/v1/project/export", &export);
        assert_eq!(exported["pictures"], 2, "{exported}");
        let recipe = format!(
            "model = {{ random = 'tiny.safetensors' }}
data = [{{ path = '{format}', split = 'train' }}]
stages = [{{ steps = 1, masks_per_image = 1, rounds = [1, 1] }}]
validation = {{ every = 1, examples = 1, data = [{{ path = '{format}', split = 'val' }}] }}"
        );
        bench.write("recipe.toml", recipe.as_bytes());
        let out = format!("run-{format}");
        let trained = bench.run(&["train", "recipe.toml", "--out", &out]);
        assert!(trained.status.success(), "{format}: {}", stderr(&trained));
        let model = format!("{out}/model.safetensors");
        let eval = ["eval", format, "--split", "val", "--checkpoint", &model];
        let measured =
            bench.run(&[&eval[..], &["--clicks", "1", "--clicks-at", "center"]].concat());
        assert!(measured.status.success(), "{format}: {}", stderr(&measured));
    }
}

#[test]
fn one_studio_for_a_folder() {
    let bench = Bench::new();
    let (folder, state) = (photos(&bench), bench.path("state"));
    let studio = Studio::start(&folder, &state);
    let second = bench.run(&["studio", "photos", "--no-open", "--state", "state"]);
    let error = stderr(&second);
    assert_eq!(second.status.code(), Some(1));
    let address = format!("{}/studio/", studio.url);
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(
        error.contains("is open already") && error.contains(&address),
        "{error}"
    );
    // Another folder with the same state is told whose it is.
    std::fs::create_dir(bench.path("others")).unwrap();
    let other = bench.run(&["studio", "others", "--no-open", "--state", "state"]);
    let error = stderr(&other);
    let whole = folder.canonicalize().unwrap().display().to_string();
    assert!(
        error.contains("--state state: the studio of") && error.contains(&whole),
        "{error}"
    );
    // A port that was asked for is that one or none.
    let taken = studio.url.strip_prefix("http://").unwrap();
    let other = bench.run(&[
        "studio",
        "photos",
        "--no-open",
        "--listen",
        taken,
        "--state",
        "other",
    ]);
    assert!(stderr(&other).contains(taken), "{}", stderr(&other));
    assert_eq!(other.status.code(), Some(1));
}

#[test]
fn what_makes_no_sense_is_one_line() {
    let bench = Bench::new();
    photos(&bench);
    std::fs::create_dir(bench.path("notes")).unwrap();
    std::fs::write(
        bench.path("notes/samara.project"),
        "notes of somebody else, of some length",
    )
    .unwrap();
    let mut cases = vec![
        (vec!["none"], "none: there is no such folder", 1),
        (vec!["photo.png"], "photo.png: is no folder", 1),
        (vec!["notes"], "samara.project: is no project of Samara", 1),
        (vec!["photos", "--model", "none"], "none", 1),
        (vec!["photos", "--listen", "0.0.0.0:0"], "token", 2),
    ];
    if cfg!(target_os = "linux") {
        cases.push((
            vec!["/proc"],
            "/proc/samara.project: cannot be written there",
            1,
        ));
    }
    for (arguments, expected, status) in cases {
        let always = ["--no-open", "--state", "state"];
        let output = bench.run(&[&["studio"], &arguments[..], &always].concat());
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {error}");
        assert!(
            error.lines().count() == 1 && error.contains(expected),
            "{arguments:?}: {error}"
        );
        assert!(output.stdout.is_empty());
    }
}
