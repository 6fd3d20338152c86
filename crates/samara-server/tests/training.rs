//! A fine-tune on the masks of the project that is open: started, followed, stopped, gone on with.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{Answered, Served, picture};
use samara_image::Mask;
use samara_train::Recipe;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A server on a folder of so many pictures with two masks each.
fn open(pictures: u32) -> (Served, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    std::fs::create_dir_all(&photos).unwrap();
    for shift in 0..pictures {
        std::fs::write(photos.join(format!("{shift}.png")), picture(shift)).unwrap();
    }
    let server = Served::start(&folder.path().join("state"), |config| {
        config.project = Some(photos);
    });
    let list = server.get("/v1/project/pictures").good();
    let list = list["pictures"].as_array().unwrap();
    for (shift, picture) in (0..).zip(list) {
        draw(&server, picture, shift);
    }
    (server, folder)
}

fn draw(server: &Served, picture: &Value, shift: u32) {
    let at = format!("/v1/project/pictures/{}", picture["id"]);
    server.post(&format!("{at}/open"), &json!({})).good();
    let disc = |cx: u32, cy: u32, r: u32| {
        Mask::from_fn(160, 120, |x, y| {
            x.abs_diff(cx).pow(2) + y.abs_diff(cy).pow(2) < r * r
        })
    };
    let add = |mask: Mask| json!({"add": {"mask": mask.to_rle()}});
    let edits = json!([add(disc(45 + shift, 50, 25)), add(disc(120, 85, 20))]);
    server
        .post(&format!("{at}/edits"), &json!({"edits": edits}))
        .good();
}

const PATH: &str = "/v1/project/training";

fn start(server: &Served, body: &Value) -> Answered {
    server.post(PATH, body)
}

/// Follows it until `is_there`.
fn wait(server: &Served, is_there: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let info = server.get(PATH).good();
        if is_there(&info) {
            return info;
        }
        assert!(began.elapsed() < Duration::from_mins(3), "{info}");
        assert!(info["state"] != "failed", "{info}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn has_ended(info: &Value) -> bool {
    ["done", "stopped"]
        .map(Value::from)
        .contains(&info["state"])
}

/// Status, field and detail of what is refused.
fn refused(answer: &Answered) -> (u16, String, String) {
    let problem = answer.json();
    let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    (answer.status, text("field"), text("detail"))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_fine_tune_ends_with_a_model_that_answers() {
    let (server, folder) = open(5);
    assert_eq!(server.get(PATH).good()["state"], "idle");
    let started = start(&server, &json!({"name": "discs", "steps": 2}));
    assert_eq!(started.status, 202, "{started:?}");
    let (status, _, detail) = refused(&start(&server, &json!({"name": "more"})));
    assert!(status == 409 && detail.contains("at work"), "{detail}");
    // Who draws is answered meanwhile.
    let prompts = json!([{"points": [[45, 50]]}]);
    let ask = json!({"image": {"path": "0.png"}, "prompts": prompts});
    server.post("/v1/predict", &ask).good();
    let info = wait(&server, has_ended);
    assert_eq!(info["state"], "done", "{info}");
    assert_eq!(
        (&info["step"], &info["steps"], &info["stopping"]),
        (&json!(2), &json!(2), &json!(false))
    );
    assert_eq!(info["curve"].as_array().unwrap().len(), 2);
    assert!(!info["validation"].as_array().unwrap().is_empty());
    for measured in [&info["before"], &info["after"]] {
        assert_eq!(measured["objects"], 2);
        let [chosen, best] = ["chosen", "best"].map(|key| measured[key].as_f64().unwrap());
        assert!(0.0 <= chosen && chosen <= best && best <= 1.0, "{measured}");
    }
    let model = info["checkpoint"].as_str().unwrap();
    assert!(Path::new(model).is_file());
    assert_eq!(names(folder.path()), ["discs", "photos", "state"]);
    let folder = folder.path().join("discs");
    assert_eq!(names(&folder), ["data", "features", "recipe.toml", "runs"]);
    let recipe = Recipe::read(&folder.join("recipe.toml")).unwrap();
    assert_eq!(recipe.steps(), 2);
    // It is one of the server's models, and answers when it is asked to.
    let list = server.get("/v1/models").good();
    let named = |model: &&Value| model["name"] == "discs" && model["loaded"] == false;
    assert!(
        list["models"]
            .as_array()
            .unwrap()
            .iter()
            .any(|model| named(&model))
    );
    let load = json!({"name": "discs", "default": true});
    assert_eq!(server.post("/v1/models", &load).good()["default"], true);
    assert_eq!(server.get("/v1/project").good()["model"], "discs");
    assert_eq!(server.post("/v1/predict", &ask).good()["model"], "discs");
    // A finished one is not made again.
    let (status, field, detail) = refused(&start(&server, &json!({"name": "discs"})));
    assert_eq!((status, &*field), (409, "name"));
    assert!(detail.contains("is finished"), "{detail}");
}

#[test]
fn one_that_was_stopped_goes_on_also_after_a_restart() {
    let (mut server, folder) = open(4);
    let body = json!({"name": "discs", "steps": 40});
    start(&server, &body).good();
    wait(&server, |info| info["step"].as_u64() > Some(0));
    let stopped = server.delete(PATH);
    assert_eq!(stopped.status, 202);
    let info = wait(&server, has_ended);
    assert_eq!(info["state"], "stopped", "{info}");
    let reached = info["step"].as_u64().unwrap();
    assert!((1..40).contains(&reached), "{info}");
    assert!(info["checkpoint"].is_null() && info["error"].is_null());
    let (status, _, detail) = refused(&server.delete(PATH));
    assert!(status == 409 && detail.contains("no fine-tune"), "{detail}");
    let other = refused(&start(&server, &json!({"name": "discs", "steps": 3})));
    assert_eq!((other.0, &*other.1), (409, "steps"));
    // The end of the server is one, too.
    start(&server, &json!({"name": "discs"})).good();
    wait(&server, |info| info["step"].as_u64() > Some(reached));
    server.stop();
    let server = Served::start(&folder.path().join("state"), |config| {
        config.project = Some(folder.path().join("photos"));
    });
    assert_eq!(server.get(PATH).good()["state"], "idle");
    start(&server, &body).good();
    let info = wait(&server, |info| info["step"].as_u64() > Some(reached + 1));
    let curve = info["curve"].as_array().unwrap();
    let steps: Vec<u64> = curve.iter().map(|p| p["step"].as_u64().unwrap()).collect();
    let all: Vec<u64> = (1..=steps.len() as u64).collect();
    assert_eq!(steps, all);
}

#[test]
fn what_cannot_be_done_is_named() {
    let (server, folder) = open(3);
    let refusal = |body: Value| refused(&start(&server, &body));
    let (status, _, detail) = refusal(json!({}));
    assert_eq!(status, 409);
    assert_eq!(detail, "there are 6 masks on pictures; a fine-tune needs 8");
    let (_, _, detail) = refusal(json!({"checked_only": true}));
    assert!(
        detail.starts_with("there are 0 masks on checked"),
        "{detail}"
    );
    for name in ["", "..", "a/b", "/a", "a\\b", ".hidden", "a\nb"] {
        let (status, field, _) = refusal(json!({"name": name}));
        assert_eq!((status, &*field), (422, "name"), "{name:?}");
    }
    for steps in [0, 10_001] {
        let (status, field, _) = refusal(json!({"steps": steps}));
        assert_eq!((status, &*field), (422, "steps"));
    }
    assert_eq!(refusal(json!({"stepps": 3})).0, 422);
    let (status, field, detail) = refusal(json!({"name": "photos"}));
    assert_eq!((status, &*field), (409, "name"));
    assert!(detail.contains("is no fine-tune"), "{detail}");
    assert_eq!(refusal(json!({"name": "lite"})).0, 409);
    assert_eq!(names(folder.path()), ["photos", "state"]);
    assert_eq!(server.get(PATH).good()["state"], "idle");
}
