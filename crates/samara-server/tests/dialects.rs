//! What annotation tools send, and what they understand.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use common::{Served, agent, picture};
use serde_json::{Value, json};
use tempfile::TempDir;

static SHARED: LazyLock<(Served, TempDir)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    (Served::start(folder.path(), |_| {}), folder)
});

fn server() -> &'static Served {
    &SHARED.0
}

fn data_uri(shift: u32) -> String {
    format!(
        "data:image/png;base64,{}",
        BASE64_STANDARD.encode(picture(shift))
    )
}

/// The box of points.
fn around(points: &Value) -> [f64; 4] {
    let points = points.as_array().unwrap().iter();
    points.fold(
        [f64::INFINITY, f64::INFINITY, 0.0, 0.0],
        |[x0, y0, x1, y1], point| {
            let (x, y) = (point[0].as_f64().unwrap(), point[1].as_f64().unwrap());
            [x0.min(x), y0.min(y), x1.max(x), y1.max(y)]
        },
    )
}

fn assert_near(found: [f64; 4], expected: [f64; 4]) {
    let near = found
        .iter()
        .zip(expected)
        .all(|(a, b)| (a - b).abs() <= 6.0);
    assert!(near, "{found:?} is not near {expected:?}");
}

/// The disc that does not move.
const DISC: [f64; 4] = [100.0, 65.0, 140.0, 105.0];

#[test]
fn x_anylabeling_lists_models_and_predicts() {
    let models = server().get("/v1/models").good();
    assert_eq!(models["success"], true);
    let lite = &models["data"]["lite"];
    let widgets: Vec<&str> = lite["widgets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| w["name"].as_str().unwrap())
        .collect();
    assert!(
        widgets.contains(&"button_add_point") && widgets.contains(&"button_add_rect"),
        "{widgets:?}"
    );
    let predict = |marks: Value| {
        let params = json!({"marks": marks, "conf_threshold": 0.0, "epsilon_factor": 0.001, "reset_tracker": true});
        server().post(
            "/v1/predict",
            &json!({"model": "lite", "image": data_uri(0), "params": params}),
        )
    };
    let point =
        |x: i32, y: i32, label: i32| json!({"type": "point", "data": [x, y], "label": label});
    let answer = predict(json!([point(120, 85, 1), point(10, 10, 0)])).good();
    let shapes = answer["data"]["shapes"].as_array().unwrap();
    assert_eq!(
        (
            shapes.len(),
            &answer["data"]["replace"],
            &answer["data"]["description"]
        ),
        (1, &json!(false), &json!(""))
    );
    assert_eq!(shapes[0]["label"], "AUTOLABEL_OBJECT");
    assert_eq!(shapes[0]["shape_type"], "polygon");
    let points = shapes[0]["points"].as_array().unwrap();
    assert_eq!(points.first(), points.last());
    assert_near(around(&shapes[0]["points"]), DISC);
    let boxes = json!([
        {"type": "rectangle", "data": [142, 107, 98, 63], "label": 1},
        {"type": "rectangle", "data": [18, 23, 72, 77], "label": 1},
    ]);
    let shapes = predict(boxes).good()["data"]["shapes"].clone();
    assert_eq!(shapes.as_array().unwrap().len(), 2, "{shapes}");
    assert_near(around(&shapes[0]["points"]), DISC);
    assert_ne!(shapes[0]["group_id"], shapes[1]["group_id"]);
    assert_eq!(predict(json!([])).good()["data"]["shapes"], json!([]));
    assert_eq!(predict(Value::Null).good()["data"]["shapes"], json!([]));
    let malformed = predict(json!([{}]));
    assert_eq!(
        (malformed.status, malformed.json()["success"].as_bool()),
        (422, Some(false)),
        "{malformed:?}"
    );
    let outside = predict(json!([point(500, 85, 1)]));
    assert_eq!(
        (outside.status, outside.json()["success"].as_bool()),
        (422, Some(false)),
        "{outside:?}"
    );
}

#[test]
fn x_anylabeling_follows_objects_through_videos() {
    let frames: Vec<String> = (0..4).map(|index| data_uri(3 * index)).collect();
    let init = json!({"model": "lite (video)", "frames": frames, "start_frame_index": 0});
    let session = server().post("/v1/video/init", &init).good()["data"]["session_id"].clone();
    let request = json!({
        "session_id": session, "model": "lite (video)", "frame_index": 0, "obj_id": 10000,
        "points": [[45.0 / 160.0, 50.0 / 120.0]], "point_labels": [1], "params": {"epsilon_factor": 0.001},
    });
    let masks = server().post("/v1/video/prompt", &request).good()["data"]["masks"].clone();
    assert_near(around(&masks[0]["points"]), [20.0, 25.0, 70.0, 75.0]);
    let request = json!({"session_id": session, "model": "lite (video)", "start_frame": 0});
    let answer = server().post("/v1/video/propagate/stream", &request);
    assert_eq!(
        answer.headers["content-type"],
        "text/event-stream; charset=utf-8"
    );
    let lines = answer
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    let told: Vec<Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<&str> = told
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "started",
            "progress",
            "progress",
            "progress",
            "progress",
            "completed"
        ]
    );
    assert_eq!(
        (&told[0]["total_frames"], &told[4]["current_frame"]),
        (&json!(4), &json!(3))
    );
    let last = &told[5]["results"]["3"]["masks"][0];
    assert_near(around(&last["points"]), [29.0, 25.0, 79.0, 75.0]);
    let empty = server().post("/v1/videos", &json!({"frames": true})).good()["id"].clone();
    let too_early = json!({"session_id": empty, "points": [[0.5, 0.5]], "point_labels": [1]});
    let too_early = server().post("/v1/video/prompt", &too_early);
    assert_eq!(
        (too_early.status, too_early.json()["success"].as_bool()),
        (409, Some(false)),
        "{too_early:?}"
    );
    let bad = server().post(
        "/v1/video/init",
        &json!({"model": "lite", "frames": [data_uri(0), "!"]}),
    );
    assert!(bad.status == 422 && bad.text.contains("frame 1"), "{bad:?}");
    let path = format!("/v1/video/cleanup/{}?model=lite", session.as_str().unwrap());
    assert_eq!(
        server().send(&path, "application/json", b"").good()["success"],
        true
    );
    let gone = server().post("/v1/video/propagate/stream", &request);
    assert_eq!(
        (gone.status, gone.json()["success"].as_bool()),
        (404, Some(false))
    );
}

const CONFIG: &str = r#"<View><Image name="image" value="$image"/>
    <BrushLabels name="brush" toName="image"><Label value="Ball"/><Label value="Sun"/></BrushLabels>
    <KeyPointLabels name="kp" toName="image" smart="true"><Label value="Sun" smart="true"/></KeyPointLabels></View>"#;

fn label_studio(regions: &Value) -> common::Answered {
    let task = json!({"id": 1, "data": {"image": data_uri(0)}, "annotations": [], "predictions": [], "drafts": []});
    let params = json!({"login": null, "password": null, "context": {"result": regions}});
    let request = json!({"tasks": [task], "project": "3.1753960000", "label_config": CONFIG, "params": params});
    server().post("/predict", &request)
}

fn keypoint(x: f64, y: f64, positive: bool) -> Value {
    json!({
        "original_width": 160, "original_height": 120, "image_rotation": 0, "is_positive": positive, "id": "a",
        "value": {"x": x / 1.6, "y": y / 1.2, "width": 0.3, "keypointlabels": ["Sun"]},
        "from_name": "kp", "to_name": "image", "type": "keypointlabels", "origin": "manual",
    })
}

#[test]
fn label_studio_clicks_and_gets_a_brush() {
    let setup = json!({"project": "3.1", "schema": CONFIG, "hostname": "http://x", "access_token": "t", "extra_params": null});
    let version = server().post("/setup", &setup).good()["model_version"].clone();
    assert!(version.as_str().unwrap().starts_with("samara-lite-"));
    let answer = label_studio(&json!([
        keypoint(120.0, 85.0, true),
        keypoint(10.0, 10.0, false)
    ]))
    .good();
    let result = &answer["results"][0];
    assert_eq!(result["model_version"], version);
    let region = &result["result"][0];
    for (key, value) in [
        ("from_name", json!("brush")),
        ("to_name", json!("image")),
        ("type", json!("brushlabels")),
        ("original_width", json!(160)),
        ("original_height", json!(120)),
    ] {
        assert_eq!(region[key], value);
    }
    assert_eq!(region["value"]["brushlabels"], json!(["Sun"]));
    assert_eq!(region["value"]["format"], "rle");
    let bytes: Vec<u8> = serde_json::from_value(region["value"]["rle"].clone()).unwrap();
    assert_eq!(
        u32::from_be_bytes(bytes[..4].try_into().unwrap()),
        4 * 160 * 120
    );
    // The answer as a prompt: the same mask again.
    let brush = json!({"type": "brushlabels", "value": region["value"], "from_name": "brush", "to_name": "image"});
    let again = label_studio(&json!([brush])).good();
    assert_eq!(again["results"][0]["result"].as_array().unwrap().len(), 1);
    let empty = label_studio(&json!([])).good();
    assert_eq!(empty["results"][0]["result"], json!([]));
    assert_eq!(
        label_studio(&json!([keypoint(10.0, 10.0, false)])).good()["results"][0]["result"],
        json!([])
    );
    let unknown = json!([{"type": "keypointlabels", "value": {"x": "a"}}]);
    assert_eq!(label_studio(&unknown).status, 422);
}

#[test]
fn label_studio_has_masks_made_of_boxes() {
    let value = json!({"x": 61.25, "y": 52.5, "width": 27.5, "height": 36.7, "rotation": 0, "rectanglelabels": ["Sun"]});
    let region =
        json!({"type": "rectanglelabels", "value": value, "from_name": "r", "to_name": "image"});
    let task = |annotations: Value| json!({"id": 1, "data": {"image": data_uri(0)}, "annotations": annotations});
    let tasks = json!([task(json!([{"result": [region]}])), task(json!([]))]);
    let request = json!({"tasks": tasks, "label_config": CONFIG, "project": "1.1", "params": {"context": null}});
    let results = server().post("/predict", &request).good()["results"].clone();
    assert_eq!(
        results[0]["result"].as_array().unwrap().len(),
        1,
        "{results}"
    );
    assert_eq!(results[1], json!([]));
    let webhook =
        json!({"action": "ANNOTATION_CREATED", "annotation": {}, "task": {}, "project": {}});
    assert_eq!(server().post("/webhook", &webhook).status, 200);
    assert!(
        server().get("/versions").good()["versions"][0]
            .as_str()
            .unwrap()
            .starts_with("samara-lite")
    );
    let without = json!({"tasks": [task(json!([{"result": [region]}]))], "label_config": "<View/>", "params": {"context": null}});
    assert_eq!(server().post("/predict", &without).status, 422);
}

#[test]
fn label_studio_says_which_region_is_wrong() {
    let outside = label_studio(&json!([keypoint(240.0, 85.0, true)]));
    let detail = outside.json()["detail"].as_str().unwrap().to_owned();
    assert_eq!(outside.status, 422);
    assert!(
        detail.starts_with("tasks[0].value.x: 150 percent"),
        "{detail}"
    );
    let mut rotated = keypoint(120.0, 85.0, true);
    rotated["image_rotation"] = json!(90);
    let rotated = label_studio(&json!([rotated]));
    assert_eq!(rotated.status, 422, "{rotated:?}");
    // A border that was rounded is a border.
    let border = json!([keypoint(160.05, 85.0, false), keypoint(120.0, 85.0, true)]);
    label_studio(&border).good();
}

#[test]
fn label_studio_draws_a_polygon_anew() {
    let ring = [[64.0, 55.0], [87.0, 55.0], [87.0, 87.0], [64.0, 87.0]];
    let polygon = json!({"type": "polygonlabels", "to_name": "image",
        "value": {"points": ring, "polygonlabels": ["Sun"]}});
    let answer = label_studio(&json!([polygon])).good();
    let region = &answer["results"][0]["result"][0];
    assert!(region["score"].as_f64().unwrap() > 0.6, "{region}");
}

#[test]
fn label_studio_answers_on_the_image_that_was_drawn_on() {
    const TWO: &str = r#"<View><Image name="a" value="$image"/><Image name="z" value="$two"/>
        <BrushLabels name="first" toName="a"><Label value="Sun"/></BrushLabels>
        <BrushLabels name="second" toName="z"><Label value="Sun"/></BrushLabels></View>"#;
    let ask = |to_name: &str, config: &str| {
        let mut region = keypoint(65.0, 50.0, true);
        region["to_name"] = json!(to_name);
        let task =
            json!({"id": 1, "data": {"image": data_uri(0), "two": data_uri(20), "more": {}}});
        let params = json!({"context": {"result": [region]}});
        let request = json!({"tasks": [task], "label_config": config, "params": params});
        server().post("/predict", &request)
    };
    let answer = ask("z", TWO).good();
    let region = &answer["results"][0]["result"][0];
    assert_eq!(
        (region["to_name"].as_str(), region["from_name"].as_str()),
        (Some("z"), Some("second"))
    );
    let nowhere = ask("nowhere", TWO);
    assert_eq!(nowhere.status, 422);
    assert!(
        nowhere.text.contains("label_config") && nowhere.text.contains("nowhere"),
        "{nowhere:?}"
    );
    // A configuration that would take minutes to search is searched in no time.
    let images = r#"<Image name="a" value="b"/>"#.repeat(20_000);
    let many = format!(
        r#"<View>{images}<Brush name="b" toName="{}"/></View>"#,
        ",".repeat(150_000)
    );
    let started = std::time::Instant::now();
    assert_eq!(ask("a", &many).status, 422);
    assert!(started.elapsed() < std::time::Duration::from_secs(3));
}

fn cvat(function: &str, agent_name: &str, payload: &Value) -> common::Answered {
    let request = agent().post(format!("{}/api/function_invocations", server().url));
    let mut response = request
        .header("content-type", "application/json")
        .header("user-agent", agent_name)
        .header("x-nuclio-function-name", function)
        .header("x-nuclio-path", "/")
        .send(payload.to_string().as_bytes())
        .unwrap();
    common::Answered {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text: response.body_mut().read_to_string().unwrap(),
    }
}

fn image(shift: u32) -> String {
    BASE64_STANDARD.encode(picture(shift))
}

#[test]
fn cvat_lists_functions_and_interacts() {
    let functions = server().get("/api/functions").good();
    let interactor = &functions["samara-lite"];
    assert_eq!(interactor["metadata"]["annotations"]["type"], "interactor");
    assert_eq!(interactor["metadata"]["annotations"]["version"], "2");
    assert_eq!(
        &server().get("/api/functions/samara-lite").good(),
        interactor
    );
    assert_eq!(
        functions["samara-lite-tracker"]["metadata"]["annotations"]["type"],
        "tracker"
    );
    assert_eq!(server().get("/api/functions/other").status, 404);
    let payload = json!({"image": image(0), "pos_points": [[120, 85]], "neg_points": [[10, 10]], "obj_bbox": []});
    let answer = cvat("samara-lite", "CVAT/2.40.0 python-requests/2", &payload).good();
    let rows = answer["mask"].as_array().unwrap();
    assert_eq!((rows.len(), rows[0].as_array().unwrap().len()), (120, 160));
    assert_eq!((&rows[85][120], &rows[10][10]), (&json!(255), &json!(0)));
    assert_near(around(&answer["points"]), DISC);
    let boxes = json!({"image": image(0), "pos_points": [], "neg_points": [], "obj_bbox": [[98, 63], [142, 107], [18, 23], [72, 77]]});
    let shapes = cvat("samara-lite", "CVAT/2.71.0", &boxes).good()["shapes"].clone();
    assert_eq!(shapes.as_array().unwrap().len(), 2);
    let points: Vec<f64> = shapes[0]["points"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect();
    let (runs, corners) = points.split_at(points.len() - 4);
    assert_near(corners.try_into().unwrap(), DISC);
    let area = (corners[2] - corners[0] + 1.0) * (corners[3] - corners[1] + 1.0);
    assert_eq!(runs.iter().sum::<f64>(), area);
    let many = json!({"image": image(0), "obj_bbox": vec![[1, 1]; 514]});
    assert_eq!(cvat("samara-lite", "CVAT/2.40.0", &many).status, 422);
    let nothing = cvat(
        "samara-lite",
        "CVAT/2.40.0",
        &json!({"image": image(0), "pos_points": [], "neg_points": []}),
    );
    assert_eq!(nothing.status, 422, "{nothing:?}");
    assert_eq!(cvat("samara-none", "CVAT/2.40.0", &payload).status, 404);
    // Called directly, without a name.
    assert!(server().post("/", &payload).good()["mask"].is_array());
}

#[test]
fn cvat_tracks() {
    let tracker = "samara-lite-tracker";
    let begin = json!({"image": image(0), "shapes": [[20, 25, 70, 75], {"type": "rectangle", "points": [100, 65, 140, 105]}], "states": []});
    let begun = cvat(tracker, "CVAT/2.45.0", &begin).good();
    assert_eq!(begun["states"].as_array().unwrap().len(), 2);
    let mut states = begun["states"].clone();
    for index in 1..4 {
        let next = json!({"image": image(3 * index), "shapes": [null, null], "states": states});
        let answer = cvat(tracker, "CVAT/2.45.0", &next).good();
        let corners =
            |i: usize| serde_json::from_value::<[f64; 4]>(answer["shapes"][i].clone()).unwrap();
        let moved = f64::from(3 * index);
        assert_near(corners(0), [20.0 + moved, 25.0, 70.0 + moved, 75.0]);
        assert_near(corners(1), DISC);
        // Asked once more, it answers the same.
        assert_eq!(cvat(tracker, "CVAT/2.45.0", &next).good(), answer);
        states = answer["states"].clone();
    }
    let late = json!({"image": image(9), "shapes": [null], "states": [begun["states"][0]]});
    assert_eq!(cvat(tracker, "CVAT/2.45.0", &late).status, 409);
    let unknown = json!({"track": "00000000-0000-0000-0000-000000000000", "frames": 1});
    assert_eq!(
        cvat(
            tracker,
            "CVAT/2.45.0",
            &json!({"image": image(0), "states": [unknown]})
        )
        .status,
        410
    );
    assert_eq!(
        cvat(
            tracker,
            "CVAT/2.45.0",
            &json!({"image": image(0), "shapes": [[1, 2]], "states": []})
        )
        .status,
        422
    );
    let none = cvat(
        tracker,
        "CVAT/2.45.0",
        &json!({"image": image(0), "shapes": [], "states": []}),
    )
    .good();
    assert_eq!(none, json!({"shapes": [], "states": []}));
}
