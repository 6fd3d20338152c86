//! The native API, as a client sees it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use common::{Served, agent, events, picture};
use samara::{DeviceKind, ImageLimits, Prompt, Segmenter, decode_image};
use serde_json::{Value, json};
use tempfile::TempDir;

/// One server for all tests that leave it as it is.
static SHARED: LazyLock<(Served, TempDir)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir_all(root.join("inner")).unwrap();
    std::fs::write(root.join("inner/photo.png"), picture(0)).unwrap();
    std::fs::write(root.join("note.txt"), "no picture").unwrap();
    std::fs::write(folder.path().join("secret.png"), picture(3)).unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret.png"), root.join("link.png")).unwrap();
    let server = Served::start(&folder.path().join("state"), |config| {
        config.root = Some(root);
        config.limits.body_bytes = 300_000;
        config.limits.prompts = 4;
        config.limits.image_pixels = 1_000_000;
    });
    (server, folder)
});

fn server() -> &'static Served {
    &SHARED.0
}

#[test]
fn a_click_is_answered_as_by_the_library() {
    let file = picture(0);
    let id = server().upload(&file);
    let request = json!({"image": {"id": id}, "prompts": [{"points": [[45, 50]]}, {"box": [98, 63, 142, 107]}]});
    let answer = server().post("/v1/predict", &request).good();
    let segmenter = Segmenter::embedded(DeviceKind::Cpu).unwrap();
    let image = decode_image(&file, "picture", &ImageLimits::default()).unwrap();
    let embedding = segmenter.embed(&image).unwrap();
    let prompts = [
        Prompt::point(45.0, 50.0),
        Prompt::bbox(98.0, 63.0, 142.0, 107.0).unwrap(),
    ];
    for (object, prompt) in answer["objects"].as_array().unwrap().iter().zip(&prompts) {
        let truth = embedding.predict(prompt).unwrap();
        assert_eq!(object["candidates"].as_array().unwrap().len(), truth.len());
        for (candidate, truth) in object["candidates"].as_array().unwrap().iter().zip(&truth) {
            let counts = truth.mask.to_rle().to_compressed_string();
            assert_eq!(candidate["segmentation"]["counts"], counts);
            assert_eq!(candidate["segmentation"]["size"], json!([120, 160]));
            assert_eq!(candidate["area"], truth.mask.area());
            let iou = candidate["predicted_iou"].as_f64().unwrap() as f32;
            assert!((iou - truth.predicted_iou.0).abs() < 1e-6);
        }
        assert_eq!(object["selected"]["index"], truth.best().index);
    }
    assert_eq!(answer["model"], "lite");
    assert_eq!(answer["precision"], "fp32");
    assert_eq!(answer["image"]["width"], 160);
}

#[test]
fn a_correction_names_the_answer_that_it_corrects() {
    let id = server().upload(&picture(1));
    let first = json!({"image": {"id": id}, "prompts": [{"points": [[45, 50]]}]});
    let first = server().post("/v1/predict", &first).good();
    let answer = &first["objects"][0];
    let with = |mask: Value| {
        let prompt = json!({"points": [[45, 50], [120, 85, 0]], "mask": mask, "single": true});
        server().post(
            "/v1/predict",
            &json!({"image": {"id": id}, "prompts": [prompt]}),
        )
    };
    let by_logits = with(json!({"answer": {"id": answer["id"], "candidate": 0}})).good();
    assert_eq!(
        by_logits["objects"][0]["candidates"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    with(json!({"answer": {"id": answer["id"]}})).good();
    with(json!({"rle": answer["selected"]["segmentation"]})).good();
    let png = json!({"image": {"id": id}, "prompts": [{"points": [[45, 50]]}], "masks": "png", "candidates": false});
    let png = server().post("/v1/predict", &png).good();
    assert_eq!(png["objects"][0]["candidates"], json!([]));
    with(json!({"png": png["objects"][0]["selected"]["png"]})).good();
    let refused = with(json!({"answer": {"id": answer["id"], "candidate": 7}}));
    assert_eq!(
        (refused.status, refused.json()["field"].as_str()),
        (422, Some("prompts[0].mask.answer.candidate"))
    );
    let gone = with(json!({"answer": {"id": "x"}}));
    let other = server().upload(&picture(2));
    let prompt = json!({"points": [[45, 50]], "mask": {"answer": {"id": answer["id"]}}});
    let other = server().post(
        "/v1/predict",
        &json!({"image": {"id": other}, "prompts": [prompt]}),
    );
    assert_eq!(
        (other.status, other.json()["field"].as_str()),
        (422, Some("prompts[0].mask.answer.id"))
    );
    assert_eq!(
        (gone.status, gone.json()["field"].as_str()),
        (422, Some("prompts[0].mask.answer.id"))
    );
}

#[test]
fn small_objects_are_looked_at_again_as_by_the_library() {
    let file = picture(1);
    let image = decode_image(&file, "picture", &ImageLimits::default()).unwrap();
    let id = server().upload(&file);
    let segmenter = Segmenter::embedded(DeviceKind::Cpu).unwrap();
    let embedding = segmenter.embed(&image).unwrap();
    let click = Prompt::point(45.0, 50.0);
    for zoom in ["off", "auto", "2"] {
        let asked = json!({"image": {"id": id}, "prompts": [{"points": [[45, 50]]}], "zoom": zoom});
        let answer = server().post("/v1/predict", &asked).good();
        let object = &answer["objects"][0];
        let truth = embedding.predict_zoomed(&image, &click, zoom.parse().unwrap());
        let truth = truth.unwrap();
        assert_eq!(object["zoom"], json!(truth.view()), "{zoom}");
        assert_eq!(object["zoom"].is_object(), zoom == "2");
        for (candidate, truth) in object["candidates"].as_array().unwrap().iter().zip(&truth) {
            let counts = truth.mask.to_rle().to_compressed_string();
            assert_eq!(candidate["segmentation"]["counts"], counts, "{zoom}");
        }
    }
}

#[test]
fn masks_come_in_the_form_that_is_asked_for() {
    let id = server().upload(&picture(0));
    let with = |masks: &str| {
        let request =
            json!({"image": {"id": id}, "prompts": [{"points": [[45, 50]]}], "masks": masks});
        server().post("/v1/predict", &request).good()["objects"][0]["selected"].clone()
    };
    let keys = |mask: &Value| {
        let forms = ["segmentation", "png", "polygons"];
        forms
            .into_iter()
            .filter(|form| mask.get(form).is_some())
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(&with("rle")), ["segmentation"]);
    assert_eq!(keys(&with("png")), ["png"]);
    assert!(keys(&with("none")).is_empty());
    let polygons = with("polygons");
    assert_eq!(keys(&polygons), ["polygons"]);
    let outer = polygons["polygons"][0]["outer"].as_array().unwrap();
    assert!(outer.len() > 10 && outer[0].as_array().unwrap().len() == 2);
}

#[test]
fn a_mask_alone_is_warned_of() {
    let id = server().upload(&picture(0));
    let ask = |prompt: &Value| {
        let request = json!({"image": {"id": id}, "prompts": [prompt]});
        server().post("/v1/predict", &request).good()["objects"][0].clone()
    };
    let disc = ask(&json!({"points": [[120, 85]]}));
    assert_eq!(disc["warnings"], json!([]));
    let rle = disc["selected"]["segmentation"].clone();
    let alone = ask(&json!({"mask": {"rle": rle}}));
    let warning = alone["warnings"][0].as_str().unwrap();
    let [x, y, w, h] =
        serde_json::from_value::<[f64; 4]>(disc["selected"]["bbox"].clone()).unwrap();
    let own = format!("\"box\": {:?}", [x, y, x + w, y + h]);
    assert!(warning.contains(&own), "{warning} {own}");
    let with_box = ask(&json!({"mask": {"rle": rle}, "box": [x, y, x + w, y + h]}));
    assert_eq!(with_box["warnings"], json!([]));
    assert!(ask(&json!({"mask": {"answer": {"id": disc["id"]}}}))["warnings"][0].is_string());
}

#[test]
fn polygons_are_as_exact_as_is_asked_for() {
    let id = server().upload(&picture(0));
    let points = |tolerance: f64| {
        let request = json!({"image": {"id": id}, "prompts": [{"points": [[120, 85]]}],
            "masks": "polygons", "tolerance": tolerance, "candidates": false});
        let answer = server().post("/v1/predict", &request).good();
        let outer = &answer["objects"][0]["selected"]["polygons"][0]["outer"];
        outer.as_array().unwrap().len()
    };
    assert!(2 * points(1.0) < points(0.0));
    let request = json!({"image": {"id": id}, "prompts": [{}], "tolerance": -1});
    assert_eq!(
        server().post("/v1/predict", &request).json()["field"],
        "tolerance"
    );
}

#[test]
fn bad_requests_are_named_by_their_field() {
    let id = server().upload(&picture(0));
    let prompt = |prompt: Value| ("prompts", json!([prompt]));
    let image = |image: Value| ("image", image);
    let large = json!({"size": [90_000, 90_000], "counts": ""});
    let cases = [
        (422, "prompts[0]", prompt(json!({"points": [[1000, 50]]}))),
        (422, "prompts[0]", prompt(json!({}))),
        (
            422,
            "prompts[1]",
            (
                "prompts",
                json!([{"points": [[1, 1]]}, {"box": [200, 200, 300, 300]}]),
            ),
        ),
        (
            422,
            "prompts[0].points[0]",
            prompt(json!({"points": [[1, 1, 5]]})),
        ),
        (
            422,
            "prompts[0].points[0]",
            prompt(json!({"points": [[1]]})),
        ),
        (422, "prompts[0].box", prompt(json!({"box": [1, 1, 1, 9]}))),
        (422, "prompts[0].box", prompt(json!({"box": [1, 1]}))),
        (422, "prompts", ("prompts", json!([]))),
        (
            422,
            "prompts",
            ("prompts", json!(vec![json!({"points": [[1, 1]]}); 5])),
        ),
        (422, "prompts[0].mask", prompt(json!({"mask": {}}))),
        (
            422,
            "prompts[0].mask.rle",
            prompt(json!({"mask": {"rle": {"size": [120, 160], "counts": "zz"}}})),
        ),
        (
            422,
            "prompts[0].mask.rle.size",
            prompt(json!({"mask": {"rle": large}})),
        ),
        (
            422,
            "prompts[0].mask.png",
            prompt(json!({"mask": {"png": "AAAA"}})),
        ),
        (422, "select", ("select", json!("prettiest"))),
        (404, "model", ("model", json!("none"))),
        (422, "image", image(json!({}))),
        (422, "image", image(json!({"id": "a", "path": "b"}))),
        (422, "image.id", image(json!({"id": "../../etc/passwd"}))),
        (404, "image.id", image(json!({"id": "0".repeat(64)}))),
        (
            422,
            "image.data",
            image(json!({"data": "data:image/png;base64,AA"})),
        ),
        (
            422,
            "image.url",
            image(json!({"url": "http://127.0.0.1/photo.png"})),
        ),
        (422, "masks", ("masks", json!("svg"))),
        (422, "zoom", ("zoom", json!("2x"))),
        (408, "", ("deadline_ms", json!(0))),
    ];
    for (status, field, (key, value)) in cases {
        let mut request = json!({"image": {"id": id}, "prompts": [{"points": [[45, 50]]}]});
        request[key] = value;
        let answer = server().post("/v1/predict", &request);
        let problem = answer.json();
        assert_eq!(answer.status, status, "{field}: {problem}");
        assert_eq!(
            problem["field"].as_str().unwrap_or_default(),
            field,
            "{problem}"
        );
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        let detail = problem["detail"].as_str().unwrap();
        assert!(!detail.is_empty() && !detail.contains('\n'), "{detail}");
    }
}

#[test]
fn what_is_no_request_is_refused() {
    let id = server().upload(&picture(0));
    let text = json!({"image": {"id": id}, "prompts": [{"points": [[45, 50]]}]}).to_string();
    let status =
        |content_type: &str, body: &[u8]| server().send("/v1/predict", content_type, body).status;
    assert_eq!(
        status("application/json; charset=utf-8", text.as_bytes()),
        200
    );
    assert_eq!(status("text/plain", text.as_bytes()), 415);
    assert_eq!(status("application/json", &text.as_bytes()[..20]), 400);
    assert_eq!(status("application/json", b""), 400);
    assert_eq!(status("application/json", b"\xff\xfe"), 400);
    assert_eq!(status("application/json", b"[1, 2"), 400);
    assert_eq!(status("application/json", b"null"), 422);
    assert_eq!(
        server()
            .send("/v1/images", "multipart/form-data; boundary=x", b"--x")
            .status,
        415
    );
    assert_eq!(
        status("application/json", "[".repeat(100_000).as_bytes()),
        400
    );
    assert_eq!(status("application/json", &vec![b' '; 300_001]), 413);
    assert_eq!(server().get("/v1/nothing").status, 404);
    assert_eq!(server().get("/v1/predict").status, 405);
    assert_eq!(server().get("/v1/nothing").json()["status"], 404);
    assert_eq!(server().get("/v1/embeddings/x?wait=a").status, 422);
    assert_eq!(
        server().get(&format!("/v1/embeddings/{id}?other=1")).json()["field"],
        "other"
    );
    assert_eq!(server().get("//health").status, 200);
    for path in [
        "/v1/images/%ff",
        "/v1/jobs/%ff",
        "/docs/nothing",
        "/v1/videos/%ff",
    ] {
        let answer = server().get(path);
        assert!([400, 404].contains(&answer.status), "{answer:?}");
        assert_eq!(
            answer.headers["content-type"], "application/problem+json",
            "{path}"
        );
    }
    let negative = server().get(&format!("/v1/embeddings/{id}?wait=-1"));
    assert_eq!(
        (negative.status, negative.json()["field"].as_str()),
        (422, Some("wait")),
        "{negative:?}"
    );
}

#[test]
fn what_is_no_image_is_refused() {
    let upload = |file: &[u8]| server().send("/v1/images", "image/png", file);
    assert_eq!(upload(b"").status, 422);
    assert_eq!(upload(b"no image").status, 422);
    let file = picture(0);
    assert_eq!(upload(&file[..file.len() / 2]).status, 422);
    // 50 000 by 50 000 pixels are said to follow.
    let mut bomb = file.clone();
    bomb[16..24].copy_from_slice(&[0, 0, 0xc3, 0x50, 0, 0, 0xc3, 0x50]);
    let crc = crc(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.to_be_bytes());
    let answer = upload(&bomb);
    assert_eq!(
        (answer.status, answer.json()["field"].as_str()),
        (413, Some("body")),
        "{answer:?}"
    );
}

/// The CRC-32 of a chunk of a PNG.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ (0xedb8_8320 * (crc & 1))
        })
    };
    !bytes.iter().fold(!0, step)
}

#[test]
fn paths_stay_below_the_root() {
    let ask = |path: &str| server().post("/v1/images", &json!({"path": path}));
    let found = ask("inner/photo.png").good();
    assert_eq!(found["id"], server().upload(&picture(0)));
    assert_eq!(ask("./inner/photo.png").status, 201);
    let outside = SHARED.1.path().join("secret.png");
    for path in [
        "../secret.png",
        "inner/../../secret.png",
        "/etc/passwd",
        outside.to_str().unwrap(),
        "link.png",
        "inner",
        "",
        "nothing.png",
        "inner/photo.png\0",
        "..%2fsecret.png",
    ] {
        let answer = ask(path);
        assert_eq!(
            (answer.status, answer.json()["field"].as_str()),
            (404, Some("image.path")),
            "{path:?} {answer:?}"
        );
        assert!(
            !answer.text.contains("/root/") && !answer.text.contains("No such file"),
            "{answer:?}"
        );
    }
    let text = ask("note.txt");
    assert_eq!(text.status, 422);
    assert!(
        !text.text.contains(SHARED.1.path().to_str().unwrap()),
        "{text:?}"
    );
}

#[test]
fn embeddings_are_made_ahead_and_survive() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Served::start(folder.path(), |_| {});
    let ids: Vec<String> = (0..3).map(|shift| server.upload(&picture(shift))).collect();
    let images: Vec<Value> = ids
        .iter()
        .map(|id| json!({"id": id}))
        .chain([json!({"id": "0".repeat(64)})])
        .collect();
    let answer = server.post("/v1/embeddings", &json!({"images": images}));
    assert_eq!(answer.status, 202);
    let states = answer.json();
    for state in &states["embeddings"].as_array().unwrap()[..3] {
        assert!(
            ["queued", "running", "ready"].contains(&state["state"].as_str().unwrap()),
            "{state}"
        );
    }
    assert_eq!(states["embeddings"][3]["error"]["status"], 404);
    for id in &ids {
        let state = server.get(&format!("/v1/embeddings/{id}?wait=30")).good();
        assert_eq!(state["state"], "ready");
    }
    let request = json!({"image": {"id": ids[0]}, "prompts": [{"points": [[45, 50]]}]});
    let first = server.post("/v1/predict", &request).good();
    assert_eq!(
        server.delete(&format!("/v1/embeddings/{}", ids[2])).status,
        204
    );
    assert_eq!(
        server.delete(&format!("/v1/embeddings/{}", ids[2])).status,
        404
    );
    assert_eq!(
        server.get(&format!("/v1/embeddings/{}", ids[2])).good()["state"],
        "missing"
    );
    server.stop();
    let server = Served::start(folder.path(), |_| {});
    assert_eq!(
        server.get(&format!("/v1/embeddings/{}", ids[0])).good()["state"],
        "ready"
    );
    let second = server.post("/v1/predict", &request).good();
    assert_eq!(
        first["objects"][0]["candidates"],
        second["objects"][0]["candidates"]
    );
    let metrics = server.get("/metrics").text;
    assert!(
        metrics.contains(r#"samara_embeddings_total{found="disk"} 1"#),
        "{metrics}"
    );
    assert_eq!(server.delete(&format!("/v1/images/{}", ids[0])).status, 204);
    assert_eq!(server.post("/v1/predict", &request).status, 404);
}

#[test]
fn a_damaged_cache_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Served::start(folder.path(), |_| {});
    let id = server.upload(&picture(0));
    let request = json!({"image": {"id": id}, "prompts": [{"points": [[45, 50]]}]});
    let first = server.post("/v1/predict", &request).good();
    server.stop();
    for entry in std::fs::read_dir(folder.path().join("embeddings")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(bytes.len() / 2);
        std::fs::write(path, bytes).unwrap();
    }
    std::fs::write(folder.path().join("embeddings/.samara-x.tmp"), "half").unwrap();
    let server = Served::start(folder.path(), |_| {});
    assert!(!folder.path().join("embeddings/.samara-x.tmp").exists());
    let second = server.post("/v1/predict", &request).good();
    assert_eq!(
        first["objects"][0]["candidates"],
        second["objects"][0]["candidates"]
    );
}

#[test]
fn everything_is_a_job() {
    let id = server().upload(&picture(0));
    let request =
        json!({"image": {"id": id}, "options": {"points_per_side": 8, "pred_iou_thresh": 0.5}});
    let job = server().post("/v1/everything", &request);
    assert_eq!(job.status, 202);
    let path = format!("/v1/jobs/{}", job.json()["id"].as_str().unwrap());
    let followed = server().get(&format!("{path}/events"));
    assert!(
        followed.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/event-stream")
    );
    let followed = events(&followed.text);
    let (kind, data) = followed.last().unwrap();
    assert_eq!(
        (&**kind, data["state"].as_str()),
        ("done", Some("done")),
        "{followed:?}"
    );
    let result = server().get(&format!("{path}/result")).good();
    assert_eq!(result["precision"], "fp32");
    let masks = result["masks"].as_array().unwrap();
    assert!(masks.len() >= 2, "{result}");
    assert!(
        masks
            .iter()
            .all(|mask| mask["segmentation"]["size"] == json!([120, 160]))
    );
    assert_eq!(server().delete(&path).status, 204);
    assert_eq!(server().get(&path).status, 404);
    let refused = server().post(
        "/v1/everything",
        &json!({"image": {"id": id}, "options": {"points_per_side": 0}}),
    );
    assert_eq!(
        (refused.status, refused.json()["field"].as_str()),
        (422, Some("options")),
        "{refused:?}"
    );
}

#[test]
fn the_oldest_result_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path(), |config| config.limits.jobs_memory = 1);
    let id = server.upload(&picture(0));
    let run = || {
        let request = json!({"image": {"id": id}, "options": {"points_per_side": 2}});
        let job = server.post("/v1/everything", &request).good()["id"].clone();
        let job = format!("/v1/jobs/{}", job.as_str().unwrap());
        let told = events(&server.get(&format!("{job}/events")).text);
        assert_eq!(told.last().unwrap().0, "done");
        job
    };
    let first = run();
    assert_eq!(server.get(&format!("{first}/result")).status, 200);
    let second = run();
    assert_eq!(server.get(&format!("{first}/result")).status, 404);
    assert_eq!(server.get(&format!("{second}/result")).status, 200);
}

#[test]
fn a_job_is_cancelled() {
    let id = server().upload(&picture(7));
    let request = json!({"image": {"id": id}, "options": {"points_per_side": 200}});
    let job = server().post("/v1/everything", &request).good();
    let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    assert_eq!(server().get(&format!("{path}/result")).status, 409);
    let started = std::time::Instant::now();
    assert_eq!(server().delete(&path).status, 204);
    // The model is free again.
    server()
        .post(
            "/v1/predict",
            &json!({"image": {"id": id}, "prompts": [{"points": [[5, 5]]}]}),
        )
        .good();
    assert!(started.elapsed().as_secs() < 20);
}

#[test]
fn masks_are_judged() {
    let id = server().upload(&picture(0));
    let good = json!({"image": {"id": id}, "prompts": [{"points": [[120, 85]]}], "select": "best"});
    let good = server().post("/v1/predict", &good).good()["objects"][0]["selected"]["segmentation"]
        .clone();
    let bad = json!({"size": [120, 160], "counts": [0, 4000, 15200]});
    let answer = server().post(
        "/v1/quality",
        &json!({"image": {"id": id}, "masks": [good, bad], "refined": "none"}),
    );
    let masks = answer.good()["masks"].clone();
    let estimate = |index: usize| masks[index]["estimate"].as_f64().unwrap();
    assert!(estimate(0) > estimate(1) + 0.2, "{masks}");
    let other_size = json!({"image": {"id": id}, "masks": [{"size": [3, 3], "counts": [0, 9]}]});
    let other_size = server().post("/v1/quality", &other_size);
    assert_eq!(
        (other_size.status, other_size.json()["field"].as_str()),
        (422, Some("masks[0].size")),
        "{other_size:?}"
    );
}

#[test]
fn models_are_listed_loaded_and_unloaded() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path(), |_| {});
    let list = server.get("/v1/models").good();
    let lite = &list["models"][0];
    assert_eq!(
        (
            lite["name"].as_str(),
            lite["loaded"].as_bool(),
            lite["default"].as_bool()
        ),
        (Some("lite"), Some(true), Some(true))
    );
    assert_eq!(
        server.post("/v1/models", &json!({"name": "lite"})).status,
        200
    );
    assert_eq!(
        server
            .post("/v1/models", &json!({"name": "/etc/passwd"}))
            .status,
        404
    );
    let id = server.upload(&picture(0));
    assert_eq!(server.delete("/v1/models/lite").status, 204);
    let request = json!({"image": {"id": id}, "prompts": [{"points": [[45, 50]]}]});
    let refused = server.post("/v1/predict", &request);
    assert_eq!(
        (refused.status, refused.json()["field"].as_str()),
        (404, Some("model"))
    );
    assert_eq!(
        server.get("/v1/models").good()["models"][0]["loaded"],
        false
    );
    server.post("/v1/models", &json!({"name": "lite"})).good();
    server.post("/v1/predict", &request).good();
}

#[test]
fn the_api_describes_itself() {
    let api = server().get("/openapi.json").good();
    let paths: BTreeSet<&str> = api["paths"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    for path in [
        "/v1/images",
        "/v1/predict",
        "/v1/everything",
        "/v1/videos/{id}/propagate",
        "/v1/quality",
        "/health",
    ] {
        assert!(paths.contains(path), "{paths:?}");
    }
    let page = server().get("/docs/");
    assert!(
        page.status == 200 && page.text.contains("swagger"),
        "{page:?}"
    );
    let health = server().get("/health").good();
    assert_eq!(health["status"], "UP");
    let metrics = server().get("/metrics");
    assert!(metrics.text.contains("samara_requests_total") && metrics.text.ends_with("# EOF\n"));
}

#[test]
fn a_token_is_needed_where_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path(), |config| {
        config.tokens.insert("me".into(), "0123456789abcdef".into());
        config.cors = vec!["https://tool.example".into()];
    });
    let get = |headers: &[(&str, &str)]| {
        let mut request = agent().get(format!("{}/v1/models", server.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.call().unwrap()
    };
    let refused = get(&[]);
    assert_eq!(refused.status(), 401);
    assert!(
        refused.headers()["www-authenticate"]
            .to_str()
            .unwrap()
            .contains("Bearer")
    );
    let bearer = ("authorization", "Bearer 0123456789abcdef");
    assert_eq!(get(&[bearer]).status(), 200);
    assert_eq!(get(&[("token", "0123456789abcdef")]).status(), 200);
    assert_eq!(
        get(&[bearer, ("origin", "https://evil.example")]).status(),
        403
    );
    let allowed = get(&[bearer, ("origin", "https://tool.example")]);
    assert_eq!(
        allowed.headers()["access-control-allow-origin"],
        "https://tool.example"
    );
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.get("/metrics").status, 401);
}
