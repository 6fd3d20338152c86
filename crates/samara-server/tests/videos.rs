//! Video sessions over HTTP.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{Answered, Served, events, picture};
use serde_json::{Value, json};

/// A session of frames in which a disc moves to the right.
fn session(server: &Served, frames: u32) -> String {
    let video = server.post("/v1/videos", &json!({"frames": true}));
    assert_eq!(video.status, 201, "{video:?}");
    let path = format!("/v1/videos/{}", video.json()["id"].as_str().unwrap());
    for index in 0..frames {
        let pushed = server.send(&format!("{path}/frames"), "image/png", &picture(3 * index));
        assert_eq!(
            (pushed.status, pushed.json()["frame"].as_u64()),
            (201, Some(u64::from(index)))
        );
    }
    path
}

fn prompt(server: &Served, path: &str, frame: usize, object: u32, at: [f64; 2]) -> Answered {
    let request = json!({"frame": frame, "object": object, "prompt": {"points": [at]}});
    server.post(&format!("{path}/prompts"), &request)
}

fn propagate(server: &Served, path: &str, request: &Value) -> Vec<(String, Value)> {
    let answer = server.post(&format!("{path}/propagate"), request);
    assert_eq!(answer.status, 200, "{answer:?}");
    events(&answer.text)
}

/// The middle of an object's box in a frame.
fn middle(frame: &Value, object: usize) -> f64 {
    let bbox = &frame["objects"][object]["bbox"];
    bbox[0].as_f64().unwrap() + bbox[2].as_f64().unwrap() / 2.0
}

#[test]
fn objects_are_followed_and_a_session_outlives_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Served::start(folder.path(), |_| {});
    let path = session(&server, 5);
    let found = prompt(&server, &path, 0, 7, [45.0, 50.0]).good();
    assert_eq!(found["object"], 7);
    let tracked = propagate(&server, &path, &json!({"start": 0, "count": 3}));
    assert_eq!(tracked.len(), 4, "{tracked:?}");
    assert_eq!(tracked[3], ("done".into(), json!({"frames": 3})));
    let late = propagate(&server, &path, &json!({"start": 9}));
    assert_eq!(
        (&*late[0].0, late[0].1["field"].as_str()),
        ("failed", Some("start"))
    );
    for (index, (kind, frame)) in tracked[..3].iter().enumerate() {
        assert_eq!(
            (&**kind, frame["frame"].as_u64()),
            ("frame", Some(index as u64))
        );
        assert!(
            (middle(frame, 0) - 45.0 - 3.0 * index as f64).abs() < 6.0,
            "{frame}"
        );
    }
    let before = server.get(&path).good();
    assert_eq!(
        (&before["objects"], &before["frames"], &before["position"]),
        (&json!([7]), &json!(5), &json!(2))
    );
    server.stop();
    let server = Served::start(folder.path(), |_| {});
    assert_eq!(
        server.get("/v1/videos").good()["videos"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(server.get(&path).good(), before);
    let rest = propagate(&server, &path, &json!({"start": 3}));
    assert_eq!(rest.last().unwrap(), &("done".into(), json!({"frames": 2})));
    assert!((middle(&rest[1].1, 0) - 57.0).abs() < 6.0, "{rest:?}");
    let back = propagate(
        &server,
        &path,
        &json!({"start": 4, "count": 2, "direction": "backward"}),
    );
    assert_eq!(back[1].1["frame"], 3);
    // A correction, another object, and one less.
    prompt(&server, &path, 4, 7, [57.0, 50.0]).good();
    prompt(&server, &path, 4, 8, [120.0, 85.0]).good();
    assert_eq!(server.delete(&format!("{path}/objects/7")).status, 204);
    assert_eq!(server.get(&path).good()["objects"], json!([8]));
    assert_eq!(
        server
            .delete(&format!("{path}/prompts?frame=4&object=8"))
            .status,
        204
    );
    let refused = propagate(&server, &path, &json!({}));
    assert_eq!(
        (&*refused[0].0, refused.len()),
        ("failed", 1),
        "{refused:?}"
    );
    assert_eq!(server.delete(&path).status, 204);
    assert_eq!(server.get(&path).status, 404);
    assert_eq!(
        std::fs::read_dir(folder.path().join("videos"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn bad_requests_leave_a_session_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path(), |config| config.limits.videos = 2);
    let field = |answer: &Answered| {
        answer.json()["field"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let empty = session(&server, 0);
    assert_eq!(prompt(&server, &empty, 0, 1, [1.0, 1.0]).status, 409);
    assert_eq!(server.delete(&empty).status, 204);
    let path = session(&server, 2);
    let outside = prompt(&server, &path, 0, 1, [500.0, 1.0]);
    assert_eq!(
        (outside.status, &*field(&outside)),
        (422, "prompt"),
        "{outside:?}"
    );
    let late = prompt(&server, &path, 2, 1, [1.0, 1.0]);
    assert_eq!((late.status, &*field(&late)), (422, "frame"), "{late:?}");
    assert_eq!(
        prompt(&server, &path, usize::MAX, 1, [1.0, 1.0]).status,
        422
    );
    assert_eq!(
        server
            .send(&format!("{path}/frames"), "image/png", b"none")
            .status,
        422
    );
    let other = samara_image::PngSource::to_png(&samara_image::RgbImage::new(9, 9)).unwrap();
    let other = server.send(&format!("{path}/frames"), "image/png", &other);
    assert_eq!((other.status, &*field(&other)), (422, "frame"), "{other:?}");
    let nobody = propagate(&server, &path, &json!({}));
    assert_eq!(nobody[0].0, "failed");
    let none = server.post(&format!("{path}/propagate"), &json!({"count": 0}));
    assert_eq!((none.status, &*field(&none)), (422, "count"), "{none:?}");
    // A mask of an image of another size is no mask of a frame.
    let other = samara_image::PngSource::to_png(&samara_image::RgbImage::new(90, 90)).unwrap();
    let request =
        json!({"image": {"id": server.upload(&other)}, "prompts": [{"points": [[9, 9]]}]});
    let id = server.post("/v1/predict", &request).good()["objects"][0]["id"].clone();
    let request = json!({"frame": 0, "object": 1, "prompt": {"mask": {"answer": {"id": id}}}});
    let foreign = server.post(&format!("{path}/prompts"), &request);
    assert_eq!(
        (foreign.status, &*field(&foreign)),
        (422, "prompt.mask.answer"),
        "{foreign:?}"
    );
    assert_eq!(server.delete(&format!("{path}/objects/1")).status, 404);
    assert_eq!(server.get(&path).good()["frames"], 2);
    for request in [
        json!({}),
        json!({"path": "a", "frames": true}),
        json!({"path": "../x"}),
        json!({"frames": false}),
    ] {
        let answer = server.post("/v1/videos", &request);
        assert_eq!(
            (answer.status, &*field(&answer)),
            (422, "path"),
            "{answer:?}"
        );
    }
    let video = server.send("/v1/videos", "video/mp4", b"no video");
    // It is not read at all where ffmpeg is missing.
    assert!([422, 415].contains(&video.status), "{video:?}");
    assert!(
        !video.text.contains(folder.path().to_str().unwrap()),
        "{video:?}"
    );
    session(&server, 0);
    assert_eq!(
        server.post("/v1/videos", &json!({"frames": true})).status,
        409
    );
    assert_eq!(
        std::fs::read_dir(folder.path().join("videos"))
            .unwrap()
            .count(),
        2
    );
}

#[test]
fn what_lies_outside_of_the_root_is_no_video() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    for inner in ["good", "bad", "damaged"] {
        std::fs::create_dir_all(root.join(inner)).unwrap();
        std::fs::write(root.join(inner).join("0.png"), picture(0)).unwrap();
    }
    std::fs::write(folder.path().join("secret.png"), picture(3)).unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret.png"), root.join("bad/1.png")).unwrap();
    std::fs::write(root.join("damaged/1.png"), "none").unwrap();
    let server = Served::start(&folder.path().join("state"), |config| {
        config.root = Some(root);
    });
    let create = |path: &str| server.post("/v1/videos", &json!({"path": path}));
    assert_eq!(create("good").good()["frames"], 1);
    for path in ["bad", "none", "../secret.png", "/etc"] {
        let refused = create(path);
        assert_eq!(
            (refused.status, refused.json()["field"].as_str()),
            (404, Some("path")),
            "{refused:?}"
        );
    }
    let damaged = format!(
        "/v1/videos/{}",
        create("damaged").good()["id"].as_str().unwrap()
    );
    let damaged = prompt(&server, &damaged, 1, 1, [5.0, 5.0]);
    assert_eq!(damaged.status, 422, "{damaged:?}");
    for answer in [&damaged, &create("good/0.png")] {
        assert!(
            !answer.text.contains(folder.path().to_str().unwrap()),
            "{answer:?}"
        );
    }
}

#[test]
fn a_client_that_goes_away_stops_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path(), |_| {});
    let path = session(&server, 12);
    prompt(&server, &path, 0, 1, [45.0, 50.0]).good();
    let mut stream = TcpStream::connect(server.address).unwrap();
    let request = format!(
        "POST {path}/propagate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut some = [0; 64];
    stream.read_exact(&mut some).unwrap();
    drop(stream);
    let end = Instant::now() + Duration::from_secs(30);
    // While it is at work nobody else can change it.
    while prompt(&server, &path, 0, 2, [120.0, 85.0]).status == 409 {
        assert!(Instant::now() < end, "the session is still at work");
        std::thread::sleep(Duration::from_millis(20));
    }
    let position = server.get(&path).good()["position"].as_u64();
    assert!(position.is_none_or(|frame| frame < 11), "{position:?}");
}
