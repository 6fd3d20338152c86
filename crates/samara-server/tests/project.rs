//! The project that is open, as the page sees it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use common::{Served, agent, picture};
use samara::{ImageLimits, decode_image};
use samara_image::{GrayImage16, Mask, PngSource, Rgb, RgbImage};
use samara_project::{Edit, NewObject, Project};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A server on a folder with two pictures, and one that is none.
fn open(change: impl FnOnce(&mut samara_server::Config)) -> (Served, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    std::fs::create_dir_all(photos.join("more")).unwrap();
    std::fs::write(photos.join("a.png"), picture(0)).unwrap();
    std::fs::write(photos.join("more/b.png"), picture(5)).unwrap();
    std::fs::write(photos.join("note.txt"), "no picture").unwrap();
    let server = Served::start(&folder.path().join("state"), |config| {
        config.project = Some(photos);
        change(config);
    });
    (server, folder)
}

/// The path of a picture's routes, by its place in the list.
fn at(server: &Served, index: usize) -> String {
    let list = server.get("/v1/project/pictures").good();
    format!("/v1/project/pictures/{}", list["pictures"][index]["id"])
}

fn square(width: u32, height: u32) -> Value {
    let mask = Mask::from_fn(width, height, |x, y| (3..20).contains(&x) && y < 9);
    serde_json::to_value(mask.to_rle()).unwrap()
}

fn add(server: &Served, picture: &str) -> Value {
    let add = json!({"edits": [{"add": {"mask": square(160, 120)}}]});
    server.post(&format!("{picture}/edits"), &add).good()
}

/// What an answer is refused with: status, field and detail.
fn refused(answer: &common::Answered) -> (u16, String, String) {
    let problem = answer.json();
    let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    (answer.status, text("field"), text("detail"))
}

#[test]
fn a_picture_is_opened_drawn_on_and_undone() {
    let (server, folder) = open(|_| {});
    let project = server.get("/v1/project").good();
    assert_eq!(
        (&project["name"], &project["author"], &project["model"]),
        (&json!("photos"), &json!("me"), &json!("lite"))
    );
    let list = server.get("/v1/project/pictures").good();
    let paths: Vec<&str> = list["pictures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|picture| picture["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["a.png", "more/b.png"]);
    assert_eq!(list["pictures"][0]["sha256"], Value::Null);
    let picture = at(&server, 0);
    let opened = server.post(&format!("{picture}/open"), &json!({})).good();
    assert_eq!(opened["image"]["id"], opened["picture"]["sha256"]);
    assert_eq!(
        (&opened["picture"]["width"], &opened["image"]["height"]),
        (&json!(160), &json!(120))
    );
    assert_eq!(
        (&opened["depth"], &opened["objects"]),
        (&Value::Null, &json!([]))
    );
    // The model knows it by the same id, and by its path.
    let prompts = json!([{"points": [[45, 50]]}]);
    let by_id = json!({"image": {"id": opened["image"]["id"]}, "prompts": prompts});
    let mask = server.post("/v1/predict", &by_id).good()["objects"][0]["selected"].clone();
    let by_path = json!({"image": {"path": "a.png"}, "prompts": prompts});
    server.post("/v1/predict", &by_path).good();
    let class = server.post(
        "/v1/project/classes",
        &json!({"name": "disc", "colour": "#ff0000"}),
    );
    assert_eq!(class.status, 201);
    let object = json!({
        "mask": mask["segmentation"], "class": class.json()["id"], "predicted_iou": mask["predicted_iou"],
        "prompt": {"points": [[45, 50]]}, "attributes": {"pose": "lying"},
    });
    let edits = json!({"edits": [{"add": object}, {"check": true}], "expected": 0});
    let applied = server.post(&format!("{picture}/edits"), &edits).good();
    assert_eq!(applied["revision"], 1);
    assert_eq!(
        (
            &applied["checked"],
            &applied["can_undo"],
            &applied["can_redo"]
        ),
        (&json!(true), &json!(true), &json!(false))
    );
    let drawn = &applied["objects"][0];
    for (name, value) in object.as_object().unwrap() {
        assert_eq!(&drawn[name], value, "{name}");
    }
    assert_eq!(
        (&drawn["author"], &drawn["position"]),
        (&json!("me"), &json!(1))
    );
    let seen = server.get("/v1/project/pictures").good()["pictures"][0].clone();
    assert_eq!(seen["classes"], json!([class.json()["id"]]));
    assert_eq!(seen["lowest_iou"], object["predicted_iou"]);
    let undone = server.post(&format!("{picture}/undo"), &json!({"expected": 1}));
    let undone = undone.good();
    assert_eq!(
        (&undone["objects"], &undone["can_redo"]),
        (&json!([]), &json!(true))
    );
    let again = server.post(&format!("{picture}/redo"), &json!({})).good();
    assert_eq!(again["objects"], applied["objects"]);
    let history = server.get(&format!("{picture}/history")).good();
    assert_eq!(history["actions"][0]["is_undone"], false);
    // Another start of the server has it all.
    let project = Project::open(folder.path().join("photos")).unwrap();
    assert_eq!(project.pictures().unwrap()[0].objects, 1);
}

#[test]
fn what_cannot_be_done_is_named() {
    let (server, folder) = open(|_| {});
    let picture = at(&server, 0);
    let edits = |edits: Value| server.post(&format!("{picture}/edits"), &json!({"edits": edits}));
    let early = refused(&edits(json!([{"add": {"mask": square(160, 120)}}])));
    assert_eq!((early.0, &*early.1), (422, "edits[0].add"), "{early:?}");
    server.post(&format!("{picture}/open"), &json!({})).good();
    let first = add(&server, &picture)["objects"][0]["id"].clone();
    let mask = square(160, 120);
    let long = "x".repeat(70_000);
    for (edit, status, field) in [
        (json!({"add": {"mask": square(120, 160)}}), 422, "add.mask"),
        (
            json!({"add": {"mask": {"size": [120, 160], "counts": [7]}}}),
            422,
            "add.mask",
        ),
        (json!({"add": {"mask": mask, "class": 9}}), 404, "add.class"),
        (
            json!({"add": {"mask": mask, "class": "cat"}}),
            422,
            "add.class",
        ),
        (
            json!({"add": {"mask": mask, "prompt": long}}),
            422,
            "add.prompt",
        ),
        (
            json!({"add": {"mask": mask, "attributes": {"a": 1}}}),
            422,
            "add.attributes",
        ),
        (json!({"add": {"class": 9}}), 422, "add.mask"),
        (
            json!({"change": [first, {"mask": square(9, 9)}]}),
            422,
            "change[1].mask",
        ),
        (json!({"change": [99, {"mask": mask}]}), 404, "change[1]"),
        (json!({"move": [99, 1]}), 404, "move"),
        (json!({"remove": 99}), 404, "remove"),
        (json!({"remove": "a"}), 422, "remove"),
    ] {
        let (was, named, detail) = refused(&edits(json!([{"check": true}, edit])));
        let field = format!("edits[1].{field}");
        assert_eq!((was, &named), (status, &field), "{edit} {detail}");
    }
    let after = server.post(&format!("{picture}/open"), &json!({})).good();
    assert_eq!(after["picture"]["revision"], 1);
    assert_eq!(after["picture"]["checked"], false);
    let class = |id: &str, name: &str, colour: &str| {
        let class = json!({"name": name, "colour": colour});
        refused(&server.post(&format!("/v1/project/classes{id}"), &class))
    };
    server
        .post(
            "/v1/project/classes",
            &json!({"name": "cat", "colour": "#00ff00"}),
        )
        .good();
    for (id, name, colour, status, field) in [
        ("", "cat", "#000000", 409, "name"),
        ("", " a", "#000000", 422, "name"),
        ("", "b", "red", 422, "colour"),
        ("/7", "b", "#000000", 404, "class"),
    ] {
        let (was, named, detail) = class(id, name, colour);
        assert_eq!((was, &*named), (status, field), "{name} {detail}");
    }
    for (path, status) in [
        ("/v1/project/pictures/99/open", 404),
        ("/v1/project/pictures/x/open", 400),
        ("/v1/project/pictures/99/undo", 404),
    ] {
        assert_eq!(server.post(path, &json!({})).status, status, "{path}");
    }
    assert_eq!(
        server.post(&format!("{picture}/redo"), &json!({})).status,
        409
    );
    let photos = folder.path().join("photos");
    std::fs::write(photos.join("a.png"), "no picture any more").unwrap();
    std::fs::remove_file(photos.join("more/b.png")).unwrap();
    let damaged = refused(&server.post(&format!("{picture}/open"), &json!({})));
    assert!(
        damaged.0 == 422 && damaged.2.starts_with("a.png: is not an image"),
        "{damaged:?}"
    );
    let gone = refused(&server.post(&format!("{}/open", at(&server, 1)), &json!({})));
    assert!(gone.0 == 404 && gone.2.contains("more/b.png"), "{gone:?}");
    let scanned = server.post("/v1/project/scan", &json!({})).good();
    assert_eq!(
        scanned,
        json!({"new": 0, "gone": 1, "written": 1, "unreadable": []})
    );
}

#[test]
fn what_is_kept_of_a_picture_outlives_its_file() {
    let (server, folder) = open(|_| {});
    let picture = at(&server, 0);
    server.post(&format!("{picture}/open"), &json!({})).good();
    let added = add(&server, &picture);
    std::fs::remove_file(folder.path().join("photos/a.png")).unwrap();
    assert_eq!(
        server.post(&format!("{picture}/open"), &json!({})).status,
        404
    );
    let kept = server.get(&picture).good();
    assert_eq!(kept["objects"], added["objects"]);
    assert_eq!(kept["picture"]["revision"], added["revision"]);
    assert_eq!(
        (&kept["can_undo"], &kept["can_redo"]),
        (&json!(true), &json!(false))
    );
    let unknown = refused(&server.get("/v1/project/pictures/9999"));
    assert!(
        unknown.0 == 404 && unknown.2.contains("9999"),
        "{unknown:?}"
    );
}

#[test]
fn two_windows_do_not_overwrite_each_other() {
    let (server, _folder) = open(|_| {});
    let picture = at(&server, 0);
    let opened = server.post(&format!("{picture}/open"), &json!({})).good();
    let revision = opened["picture"]["revision"].clone();
    let edit = json!({"edits": [{"add": {"mask": square(160, 120)}}], "expected": revision});
    server.post(&format!("{picture}/edits"), &edit).good();
    let late = server.post(&format!("{picture}/edits"), &edit);
    assert_eq!(late.status, 409, "{late:?}");
    for step in ["undo", "redo"] {
        let late = server.post(&format!("{picture}/{step}"), &json!({"expected": revision}));
        assert_eq!(late.status, 409, "{late:?}");
    }
    let opened = server.post(&format!("{picture}/open"), &json!({})).good();
    assert_eq!(opened["objects"].as_array().unwrap().len(), 1);
}

#[test]
fn who_turns_pages_waits_for_the_last_one_alone() {
    let (server, folder) = open(|_| {});
    for index in 0..12 {
        let path = folder.path().join(format!("photos/{index}.png"));
        std::fs::write(path, picture(index)).unwrap();
    }
    server.post("/v1/project/scan", &json!({})).good();
    let list = server.get("/v1/project/pictures").good();
    let mut ids = Vec::new();
    for picture in list["pictures"].as_array().unwrap().iter().take(12) {
        let open = format!("/v1/project/pictures/{}/open", picture["id"]);
        ids.push(server.post(&open, &json!({})).good()["image"]["id"].clone());
    }
    let state = |id: &Value, wait: u32| {
        let path = format!("/v1/embeddings/{}?wait={wait}", id.as_str().unwrap());
        server.get(&path).good()["state"].clone()
    };
    assert_eq!(state(&ids[11], 60), "ready");
    let left_out = ids.iter().filter(|id| state(id, 0) == "missing").count();
    assert!(left_out >= 6, "{left_out}");
    // They are not given up for good.
    server
        .post(
            "/v1/predict",
            &json!({"image": {"id": ids[5]}, "prompts": [{"points": [[45, 50]]}]}),
        )
        .good();
}

/// The events of a server, as they come.
fn follow(server: &Served) -> Receiver<(String, Value)> {
    let answer = agent().get(format!("{}/v1/project/events", server.url));
    let mut answer = answer.call().unwrap();
    assert_eq!(answer.status(), 200);
    let (send, events) = channel();
    let (started, is_there) = channel();
    std::thread::spawn(move || {
        started.send(()).unwrap();
        let mut kind = String::new();
        for line in BufReader::new(answer.body_mut().as_reader()).lines() {
            let Ok(line) = line else { return };
            if let Some(event) = line.strip_prefix("event: ") {
                event.clone_into(&mut kind);
            } else if let Some(data) = line.strip_prefix("data: ") {
                let data = serde_json::from_str(data).unwrap();
                if send.send((kind.clone(), data)).is_err() {
                    return;
                }
            }
        }
    });
    is_there.recv().unwrap();
    events
}

#[test]
fn a_stream_of_events_begins_at_once() {
    let (server, _folder) = open(|_| {});
    let begun = Instant::now();
    let answer = agent().get(format!("{}/v1/project/events", server.url));
    let mut answer = answer.call().unwrap();
    let mut line = String::new();
    let mut lines = BufReader::new(answer.body_mut().as_reader());
    lines.read_line(&mut line).unwrap();
    assert!(line.starts_with(':'), "{line:?}");
    // The comments by which one that has gone is noticed come every ten seconds.
    assert!(begun.elapsed() < Duration::from_secs(5), "{begun:?}");
}

fn next(events: &Receiver<(String, Value)>) -> (String, Value) {
    events.recv_timeout(Duration::from_secs(20)).unwrap()
}

#[test]
fn every_window_hears_of_every_change() {
    let (mut server, folder) = open(|_| {});
    let windows = [follow(&server), follow(&server)];
    let picture = at(&server, 0);
    server.post(&format!("{picture}/open"), &json!({})).good();
    add(&server, &picture);
    server.post(&format!("{picture}/undo"), &json!({})).good();
    let class = json!({"name": "cat", "colour": "#00ff00"});
    let class = server.post("/v1/project/classes", &class).good();
    server.post("/v1/project/scan", &json!({})).good();
    for events in &windows {
        for (revision, objects) in [(0, 0), (1, 1), (2, 0)] {
            let (kind, told) = next(events);
            assert_eq!(kind, "picture");
            assert_eq!(
                (&told["revision"], &told["objects"]),
                (&json!(revision), &json!(objects))
            );
            assert_eq!(told["width"], 160);
        }
        assert_eq!(
            next(events),
            ("classes".into(), json!({"classes": [class]}))
        );
        assert_eq!(next(events), ("pictures".into(), json!({})));
    }
    // Another program, such as a second server.
    let other = Project::open(folder.path().join("photos")).unwrap();
    let picture = other.pictures().unwrap()[0].id;
    // It is looked once before a change is noticed.
    std::thread::sleep(Duration::from_millis(1500));
    let mask = Mask::from_fn(160, 120, |x, _| x < 9).to_rle();
    let add = [Edit::Add(NewObject::new(mask))];
    other.apply(picture, "you", &add, None).unwrap();
    for events in &windows {
        assert_eq!(next(events).0, "pictures");
        assert_eq!(next(events).0, "classes");
    }
    // Windows do not keep a server from ending.
    let start = Instant::now();
    server.stop();
    assert!(start.elapsed() < Duration::from_secs(10));
}

/// A picture whose neighbours differ little, as those of photos.
fn waves(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let wave = |v: u32, of: f32| (127.0 + 100.0 * (v as f32 / of).sin()) as u8;
        Rgb([wave(x, 40.0), wave(y, 30.0), wave(x + y, 50.0)])
    })
}

fn decoded((status, jpeg): (u16, Vec<u8>)) -> RgbImage {
    assert_eq!(status, 200);
    decode_image(&jpeg, "tile", &ImageLimits::default()).unwrap()
}

/// The largest and the mean difference of two images' samples.
fn difference(a: &RgbImage, b: &RgbImage) -> (u8, f64) {
    assert_eq!(a.dimensions(), b.dimensions());
    let pairs = a.as_raw().iter().zip(b.as_raw());
    let differences: Vec<u8> = pairs.map(|(a, b)| a.abs_diff(*b)).collect();
    let sum: f64 = differences.iter().map(|d| f64::from(*d)).sum();
    let most = differences.iter().max().copied().unwrap_or_default();
    (most, sum / differences.len() as f64)
}

#[test]
fn tiles_are_the_picture() {
    let (server, folder) = open(|_| {});
    let photos = folder.path().join("photos");
    let image = waves(1101, 701);
    std::fs::write(photos.join("z.png"), image.to_png().unwrap()).unwrap();
    server.post("/v1/project/scan", &json!({})).good();
    let picture = at(&server, 2);
    // A picture that was not opened is shown as well.
    for x in 0..3 {
        for y in 0..2 {
            let tile = decoded(server.bytes(&format!("{picture}/tiles/0/{x}/{y}")));
            let (left, top) = (512 * x, 512 * y);
            assert_eq!(tile.width(), 512.min(1101 - left));
            assert_eq!(tile.height(), 512.min(701 - top));
            let truth = RgbImage::from_fn(tile.width(), tile.height(), |x, y| {
                *image.get_pixel(left + x, top + y)
            });
            let (most, mean) = difference(&tile, &truth);
            assert!(most <= 12 && mean < 1.5, "{x} {y}: {most} {mean}");
        }
    }
    let whole = decoded(server.bytes(&format!("{picture}/tiles/2/0/0")));
    assert_eq!(whole.dimensions(), (276, 176));
    let middle = whole.get_pixel(100, 100);
    let truth = image.get_pixel(401, 401);
    assert!((0..3).all(|c| middle.0[c].abs_diff(truth.0[c]) < 8));
    assert_eq!(
        decoded(server.bytes(&format!("{picture}/tiles/11/0/0"))).dimensions(),
        (1, 1)
    );
    for outside in ["0/3/0", "0/0/2", "2/1/0", "12/0/0", "0/4294967295/0"] {
        let answer = server.get(&format!("{picture}/tiles/{outside}"));
        assert_eq!(answer.status, 404, "{outside}");
    }
    assert_eq!(server.get(&format!("{picture}/tiles/0/-1/0")).status, 400);
    assert_eq!(
        server.get(&format!("{picture}/tiles/0/0/0?low=a")).status,
        422
    );
    // A file that was written since is noticed when it is opened.
    let path = photos.join("z.png");
    std::fs::write(&path, waves(64, 48).to_png().unwrap()).unwrap();
    server.post(&format!("{picture}/open"), &json!({})).good();
    let tile = decoded(server.bytes(&format!("{picture}/tiles/0/0/0")));
    assert_eq!(tile.dimensions(), (64, 48));
}

#[test]
fn grey_of_16_bits_is_stretched() {
    let (server, folder) = open(|_| {});
    let values = (0..600 * 40).map(|at| 1000 + at % 600).collect();
    let gray = GrayImage16::from_raw(600, 40, values).unwrap();
    let path = folder.path().join("photos/deep.png");
    std::fs::write(path, gray.to_png().unwrap()).unwrap();
    server.post("/v1/project/scan", &json!({})).good();
    let picture = at(&server, 1);
    let opened = server.post(&format!("{picture}/open"), &json!({})).good();
    let depth = &opened["depth"];
    let [low, high] = ["low", "high"].map(|end| depth[end].as_u64().unwrap());
    assert!(
        (1000..1004).contains(&low) && (1595..1600).contains(&high),
        "{depth}"
    );
    assert_eq!(depth["max"], 65535);
    let levels = |query: &str| {
        let tile = decoded(server.bytes(&format!("{picture}/tiles/0/0/0{query}")));
        [0, 300, 511].map(|x| tile.get_pixel(x, 20).0[0])
    };
    let near = |levels: [u8; 3], truth: [u8; 3]| {
        let pairs = levels.iter().zip(&truth);
        assert!(
            pairs.clone().all(|(a, b)| a.abs_diff(*b) < 4),
            "{levels:?} {truth:?}"
        );
    };
    near(levels(""), [0, 127, 217]);
    near(levels("?low=0&high=65535"), [4, 5, 6]);
    near(levels("?low=1300&high=1301"), [0, 0, 255]);
    near(levels("?high=1300"), [0, 255, 255]);
    let refused = server.get(&format!("{picture}/tiles/0/0/0?low=9&high=9"));
    assert_eq!(
        (refused.status, &refused.json()["field"]),
        (422, &json!("high"))
    );
    // The model sees what people see.
    assert_eq!(opened["image"]["warnings"], json!([]));
}

#[test]
fn thumbnails_are_kept_and_follow_the_file() {
    let (server, folder) = open(|_| {});
    let path = folder.path().join("photos/z.png");
    std::fs::write(&path, waves(1000, 500).to_png().unwrap()).unwrap();
    server.post("/v1/project/scan", &json!({})).good();
    let thumbnail = format!("{}/thumbnail", at(&server, 2));
    assert_eq!(decoded(server.bytes(&thumbnail)).dimensions(), (192, 96));
    let small = decoded(server.bytes(&format!("{}/thumbnail", at(&server, 0))));
    assert_eq!(small.dimensions(), (160, 120));
    let with_tag = |tag: &str| {
        let request = agent().get(format!("{}{thumbnail}", server.url));
        request.header("if-none-match", tag).call().unwrap()
    };
    let first = with_tag("\"x\"");
    let tag = first.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!((first.status().as_u16(), tag.len()), (200, 66));
    assert_eq!(with_tag(&tag).status(), 304);
    std::fs::write(&path, waves(300, 600).to_png().unwrap()).unwrap();
    assert_eq!(with_tag(&tag).status(), 200);
    assert_eq!(decoded(server.bytes(&thumbnail)).dimensions(), (96, 192));
    let kept = std::fs::read_dir(folder.path().join("state/thumbnails")).unwrap();
    assert_eq!(kept.count(), 3);
}

#[test]
fn changes_are_those_of_the_token() {
    let (server, _folder) = open(|config| {
        config
            .tokens
            .insert("ann".into(), "0123456789abcdef".into());
        config
            .tokens
            .insert("bob".into(), "fedcba9876543210".into());
    });
    let send = |token: &str, method: &str, path: &str, body: &Value| -> Value {
        let (url, token) = (format!("{}{path}", server.url), format!("Bearer {token}"));
        let answer = match method {
            "GET" => agent().get(url).header("authorization", token).call(),
            _ => agent()
                .post(url)
                .header("authorization", token)
                .header("content-type", "application/json")
                .send(body.to_string()),
        };
        let mut answer = answer.unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let ann = "0123456789abcdef";
    let bob = "fedcba9876543210";
    assert_eq!(send(bob, "GET", "/v1/project", &json!({}))["author"], "bob");
    let list = send(ann, "GET", "/v1/project/pictures", &json!({}));
    let picture = format!("/v1/project/pictures/{}", list["pictures"][0]["id"]);
    send(ann, "POST", &format!("{picture}/open"), &json!({}));
    let edits = json!({"edits": [{"add": {"mask": square(160, 120)}}]});
    for token in [ann, bob] {
        send(token, "POST", &format!("{picture}/edits"), &edits);
    }
    let opened = send(ann, "POST", &format!("{picture}/open"), &json!({}));
    let authors = [0, 1].map(|index| opened["objects"][index]["author"].clone());
    assert_eq!(authors, ["ann", "bob"]);
    // The page needs no token, what it asks does.
    assert_eq!(server.get("/studio/").status, 200);
    assert_eq!(server.get("/v1/project").status, 401);
    assert_eq!(server.post("/", &json!({})).status, 401);
}

#[test]
fn the_page_may_do_nothing_but_call_its_server() {
    let (server, _folder) = open(|_| {});
    let page = server.get("/studio/");
    assert!(page.status == 200 && page.text.contains("<title>Samara Studio</title>"));
    let header = |name: &str| page.headers[name].to_str().unwrap();
    let policy = header("content-security-policy");
    for rule in [
        "default-src 'none'",
        "script-src 'self'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe"));
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("referrer-policy"), "no-referrer");
    assert_eq!(header("cache-control"), "no-cache");
    let get = |path: &str, name: &str, value: &str| {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .build()
            .into();
        let request = agent.get(format!("{}{path}", server.url));
        request.header(name, value).call().unwrap()
    };
    let known = get("/studio/", "if-none-match", header("etag"));
    assert_eq!(known.status(), 304);
    for path in [
        "/studio/none.js",
        "/studio/../Cargo.toml",
        "/studio/..%2fCargo.toml",
    ] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
    let browser = get("/", "accept", "text/html,*/*");
    assert_eq!(
        (browser.status().as_u16(), &browser.headers()["location"]),
        (307, &"/studio/".parse().unwrap())
    );
    assert_eq!(get("/", "accept", "*/*").status(), 200);
    assert_eq!(
        get("/studio", "accept", "*/*").headers()["location"],
        "/studio/"
    );
}

#[test]
fn links_that_lead_out_of_the_folder_are_not_followed() {
    let (server, folder) = open(|_| {});
    let project = Project::open(folder.path().join("photos")).unwrap();
    std::fs::write(folder.path().join("secret.png"), picture(9)).unwrap();
    // A file that becomes a link after it was found.
    let path = folder.path().join("photos/a.png");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret.png"), &path).unwrap();
    let picture = format!("/v1/project/pictures/{}", project.pictures().unwrap()[0].id);
    assert_eq!(
        server.post(&format!("{picture}/open"), &json!({})).status,
        404
    );
    for path in ["thumbnail", "tiles/0/0/0"] {
        assert_eq!(
            server.get(&format!("{picture}/{path}")).status,
            404,
            "{path}"
        );
    }
}

#[test]
fn without_a_project_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let server = Served::start(folder.path(), |_| {});
    for path in [
        "/v1/project",
        "/v1/project/pictures",
        "/v1/project/events",
        "/v1/project/pictures/1/thumbnail",
        "/v1/project/pictures/1/tiles/0/0/0",
        "/v1/project/pictures/1/history",
    ] {
        let (status, _, detail) = refused(&server.get(path));
        assert!(
            status == 404 && detail.contains("samara studio"),
            "{path}: {detail}"
        );
    }
    for path in ["scan", "pictures/1/open", "pictures/1/undo"] {
        assert_eq!(
            server
                .post(&format!("/v1/project/{path}"), &json!({}))
                .status,
            404
        );
    }
    assert_eq!(server.delete("/v1/project/classes/1").status, 404);
    assert!(!Path::new("samara.project").exists());
    let api = server.get("/openapi.json").good();
    assert!(api["paths"]["/v1/project/pictures/{id}/edits"].is_object());
}

#[test]
fn it_is_exported_beside_its_folder_and_imported_again() {
    let (server, folder) = open(|_| {});
    let picture = at(&server, 0);
    server.post(&format!("{picture}/open"), &json!({})).good();
    add(&server, &picture);
    let formats = server.get("/v1/project").good()["formats"].clone();
    for format in formats.as_array().unwrap() {
        let name = format["name"].as_str().unwrap();
        let asked = json!({"format": name, "folder": format!("out-{name}")});
        let exported = server.post("/v1/project/export", &asked).good();
        assert_eq!(
            (&exported["pictures"], &exported["objects"]),
            (&json!(1), &json!(1))
        );
        let path = folder
            .path()
            .canonicalize()
            .unwrap()
            .join(format!("out-{name}"));
        assert_eq!(exported["path"], path.to_str().unwrap());
        let again = server.post("/v1/project/export", &asked);
        assert_eq!((again.status, refused(&again).1.as_str()), (409, "folder"));
    }
    for (wrong, field) in [
        (json!({"format": "coco", "folder": "../out"}), "folder"),
        (json!({"format": "coco", "folder": ".."}), "folder"),
        (json!({"format": "coco", "folder": ""}), "folder"),
        (json!({"format": "svg", "folder": "out"}), "format"),
        (
            json!({"format": "coco", "folder": "out", "tolerance": -1}),
            "tolerance",
        ),
    ] {
        let answer = server.post("/v1/project/export", &wrong);
        assert_eq!(
            (answer.status, refused(&answer).1.as_str()),
            (422, field),
            "{wrong}"
        );
    }

    let mask = &server.post(&format!("{picture}/open"), &json!({})).good()["objects"][0]["mask"];
    server.post(&format!("{picture}/undo"), &json!({})).good();
    let coco = std::fs::read(folder.path().join("out-coco/annotations.json")).unwrap();
    let send = |name: &str, file: &[u8]| {
        let path = format!("/v1/project/import?name={name}");
        server.send(&path, "application/octet-stream", file)
    };
    let imported = send("annotations.json", &coco).good();
    assert_eq!(
        (&imported["format"], &imported["objects"]),
        (&json!("coco"), &json!(1))
    );
    let opened = server.post(&format!("{picture}/open"), &json!({})).good();
    assert_eq!(&opened["objects"][0]["mask"], mask);
    assert_eq!(opened["objects"][0]["author"], "me");
    assert_eq!(opened["can_undo"], true);
    assert_eq!(send("annotations.json", &coco).good()["objects"], 0);

    let damaged = send("annotations.json", &coco[..coco.len() / 2]);
    let (status, _, detail) = refused(&damaged);
    assert_eq!(status, 422);
    assert!(detail.starts_with("annotations.json: "), "{detail}");
    assert_eq!(send("../a.json", &coco).status, 422);
    for path in ["../out-coco", "/etc", "nothing.json"] {
        let answer = server.post("/v1/project/import", &json!({"path": path}));
        assert_eq!(
            (answer.status, refused(&answer).1.as_str()),
            (404, "path"),
            "{path}"
        );
    }
    std::fs::write(folder.path().join("photos/here.json"), &coco).unwrap();
    server.post(&format!("{picture}/undo"), &json!({})).good();
    let here = server
        .post("/v1/project/import", &json!({"path": "here.json"}))
        .good();
    assert_eq!(here["objects"], 1);
}

#[test]
fn names_and_places_that_cannot_be_are_refused() {
    let (server, folder) = open(|_| {});
    let picture = at(&server, 0);
    server.post(&format!("{picture}/open"), &json!({})).good();
    add(&server, &picture);
    let long = "n".repeat(300);
    let path = format!("/v1/project/import?name={long}.json");
    let answer = server.send(&path, "application/octet-stream", b"{}");
    assert_eq!((answer.status, refused(&answer).1.as_str()), (422, "name"));
    let asked = json!({"format": "coco", "folder": long});
    let answer = server.post("/v1/project/export", &asked);
    assert_eq!(
        (answer.status, refused(&answer).1.as_str()),
        (422, "folder")
    );
    // Several at once.
    let asked = json!({"format": "coco", "folder": "out"});
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = || server.post("/v1/project/export", &asked);
        let asks: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        asks.into_iter().map(|ask| ask.join().unwrap()).collect()
    });
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409, 409, 409]);
    for answer in answers.iter().filter(|answer| answer.status == 409) {
        assert_eq!(refused(answer).1, "folder");
    }
    // A folder that has gone.
    let photos = folder.path().join("photos");
    let away = folder.path().join("away");
    std::fs::rename(&photos, &away).unwrap();
    let answer = server.post("/v1/project/scan", &json!({}));
    let (status, _, detail) = refused(&answer);
    assert_eq!(status, 503, "{detail}");
    assert!(detail.contains("has gone while it was open"), "{detail}");
    std::fs::rename(&away, &photos).unwrap();
    server.post("/v1/project/scan", &json!({})).good();
}

#[test]
fn warnings_name_the_file_that_was_sent() {
    let (server, _folder) = open(|_| {});
    let coco = json!({
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"id": 1, "image_id": 1, "segmentation": [[1, 1, 2, 2]]}],
    });
    let imported = server
        .send(
            "/v1/project/import?name=mine.json",
            "application/octet-stream",
            coco.to_string().as_bytes(),
        )
        .good();
    assert_eq!(
        imported["warnings"],
        json!([
            "1 objects without a pixel in the picture are left out; the first: mine.json: annotations[0]",
            "1 polygons of fewer than 3 points are left out; the first: mine.json: annotations[0]",
        ])
    );
}
