//! Videos of the project that is open, as the page sees them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::path::Path;

use common::{Served, picture};
use samara::{ImageLimits, decode_image};
use samara_image::VideoWriter;
use serde_json::{Value, json};
use tempfile::TempDir;

const FRAMES: usize = 5;

/// A video in which a disc moves.
fn film(path: &Path) {
    let limits = ImageLimits::default();
    let mut writer = VideoWriter::create(path, (160, 120), 10.0).unwrap();
    for frame in 0..FRAMES {
        let shift = 2 * u32::try_from(frame).unwrap();
        let image = decode_image(&picture(shift), "", &limits).unwrap();
        writer.write(&image).unwrap();
    }
    writer.finish().unwrap();
}

/// A server on a folder with a video and a picture, and the path of the video's routes.
fn open() -> (Served, TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    std::fs::create_dir_all(&photos).unwrap();
    film(&photos.join("clip.mp4"));
    std::fs::write(photos.join("z.png"), picture(0)).unwrap();
    let server = Served::start(&folder.path().join("state"), |config| {
        config.project = Some(photos);
    });
    let list = server.get("/v1/project/pictures").good();
    let id = list["pictures"][0]["id"].clone();
    (server, folder, format!("/v1/project/videos/{id}"))
}

/// Opens the first frame, and keeps the disc of it as an object. The frame's routes.
fn disc(server: &Served, frames: &Value) -> String {
    let first = format!("/v1/project/pictures/{}", frames[0]);
    let opened = server.post(&format!("{first}/open"), &json!({})).good();
    assert_eq!(opened["picture"]["path"], "clip.mp4/00000.png");
    let asked =
        json!({"image": {"id": opened["image"]["id"]}, "prompts": [{"points": [[45, 50]]}]});
    let mask = server.post("/v1/predict", &asked).good()["objects"][0]["selected"].clone();
    let add = json!({"edits": [{"add": {"mask": mask["segmentation"]}}]});
    let added = server.post(&format!("{first}/edits"), &add).good();
    assert_eq!(
        added["objects"][0]["track"],
        json!({"id": 1, "is_keyframe": true})
    );
    first
}

fn placed(server: &Served, video: &str) -> Vec<(u64, bool)> {
    let tracks = server.get(&format!("{video}/tracks")).good();
    let place = |p: &Value| (p["frame"].as_u64().unwrap(), p["is_keyframe"] == true);
    tracks["placed"]
        .as_array()
        .unwrap()
        .iter()
        .map(place)
        .collect()
}

#[test]
#[ignore = "needs ffmpeg"]
fn an_object_is_followed_through_a_video() {
    let (server, _folder, video) = open();
    let opened = server.post(&format!("{video}/open"), &json!({})).good();
    assert_eq!(opened["video"]["frames"], FRAMES);
    assert_eq!(opened["frames"].as_array().unwrap().len(), FRAMES);
    let first = disc(&server, &opened["frames"]);
    let follow = server.post(&format!("{video}/propagate"), &json!({"from": 0, "to": 3}));
    let text = &follow.text;
    assert_eq!(text.matches("event: frame").count(), 3, "{text}");
    assert!(text.trim_end().ends_with("data: {}"), "{text}");
    let all = [(0, true), (1, false), (2, false), (3, false)];
    assert_eq!(placed(&server, &video), all);
    // One step back takes all of it.
    server.post(&format!("{first}/undo"), &json!({})).good();
    assert_eq!(placed(&server, &video), [(0, true)]);
    server.post(&format!("{first}/redo"), &json!({})).good();
    // What somebody has drawn stays, also where objects are followed back over it.
    let last = format!("/v1/project/pictures/{}", opened["frames"][3]);
    let there = server.post(&format!("{last}/open"), &json!({})).good();
    let object = &there["objects"][0];
    let mask = json!({"size": [120, 160], "counts": [0, 600, 18600]});
    let change = json!({"edits": [{"change": [object["id"], {"mask": mask}]}]});
    server.post(&format!("{last}/edits"), &change).good();
    let back = json!({"from": 3, "to": 0, "tracks": [1]});
    server.post(&format!("{video}/propagate"), &back);
    let all = [(0, true), (1, false), (2, false), (3, true)];
    assert_eq!(placed(&server, &video), all);
    // Two objects, of which one was drawn in the first frame and one followed to it.
    server
        .post(
            &format!("{last}/edits"),
            &json!({"edits": [{"add": {"mask": mask}}]}),
        )
        .good();
    server.post(
        &format!("{video}/propagate"),
        &json!({"from": 3, "to": 1, "tracks": [2]}),
    );
    let mixed = server.post(&format!("{video}/propagate"), &json!({"from": 1, "to": 4}));
    assert!(
        mixed.text.trim_end().ends_with("data: {}"),
        "{}",
        mixed.text
    );
    let tracks = server.get(&format!("{video}/tracks")).good();
    let of_both = tracks["placed"].as_array().unwrap().iter();
    let frames = |track: u64| {
        let own = of_both.clone().filter(|p| p["track"] == track);
        own.map(|p| p["frame"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (frames(1), frames(2)),
        (vec![0, 1, 2, 3, 4], vec![1, 2, 3, 4])
    );
    let remove = json!({"edits": [{"remove_track": 1}, {"remove_track": 2}]});
    server.post(&format!("{last}/edits"), &remove).good();
    assert!(placed(&server, &video).is_empty());
}

#[test]
#[ignore = "needs ffmpeg"]
fn what_is_asked_in_vain_is_named() {
    let (server, folder, video) = open();
    let early = server.post(&format!("{video}/propagate"), &json!({"from": 0, "to": 1}));
    assert_eq!(early.status, 422, "{}", early.text);
    let opened = server.post(&format!("{video}/open"), &json!({})).good();
    let list = server.get("/v1/project/pictures").good();
    let other = format!("/v1/project/videos/{}", list["pictures"][1]["id"]);
    assert_eq!(
        server.post(&format!("{other}/open"), &json!({})).status,
        404
    );
    assert_eq!(server.get(&format!("{other}/tracks")).status, 404);
    let id = &list["pictures"][0]["id"];
    let as_picture = server.post(&format!("/v1/project/pictures/{id}/open"), &json!({}));
    assert_eq!(as_picture.status, 409, "{}", as_picture.text);
    let poster = server.bytes(&format!("/v1/project/pictures/{id}/thumbnail"));
    let poster = decode_image(&poster.1, "", &ImageLimits::default()).unwrap();
    assert_eq!(poster.dimensions(), (160, 120));
    let ask = |body: Value| {
        let answer = server.post(&format!("{video}/propagate"), &body);
        (answer.status, answer.json()["field"].clone())
    };
    assert_eq!(ask(json!({"from": 0, "to": 1})), (422, json!("from")));
    disc(&server, &opened["frames"]);
    for (body, field) in [
        (json!({"from": 0, "to": 0}), "to"),
        (json!({"from": 0, "to": 5}), "to"),
        (json!({"from": 9, "to": 1}), "from"),
        (json!({"from": 0, "to": 1, "tracks": []}), "tracks"),
        (json!({"from": 0, "to": 1, "tracks": [2]}), "tracks"),
    ] {
        assert_eq!(ask(body.clone()), (422, json!(field)), "{body}");
    }
    let frame = format!("/v1/project/pictures/{}", opened["frames"][1]);
    let remove = json!({"edits": [{"remove_track": 77}]});
    assert_eq!(server.post(&format!("{frame}/edits"), &remove).status, 404);
    // Another video in its place, and the first one again.
    let clip = folder.path().join("photos/clip.mp4");
    let kept = folder.path().join("kept.mp4");
    std::fs::copy(&clip, &kept).unwrap();
    let mut writer = VideoWriter::create(&clip, (160, 120), 10.0).unwrap();
    let dark = samara::RgbImage::new(160, 120);
    (0..FRAMES).for_each(|_| writer.write(&dark).unwrap());
    writer.finish().unwrap();
    let refused = server.post(&format!("{frame}/open"), &json!({}));
    assert_eq!(refused.status, 409, "{}", refused.text);
    let other = server.post(&format!("{video}/open"), &json!({})).good();
    assert_eq!(other["video"]["is_changed"], true);
    std::fs::copy(&kept, &clip).unwrap();
    server.post(&format!("{frame}/open"), &json!({})).good();
    let again = server.post(&format!("{video}/open"), &json!({})).good();
    assert_eq!(again["video"]["is_changed"], false);
    let unknown = json!({"from": 0, "to": 1, "model": "none"});
    assert_eq!(
        server.post(&format!("{video}/propagate"), &unknown).status,
        404
    );
}
