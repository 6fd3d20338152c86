//! Videos in projects, as a program uses them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;

use samara_image::Mask;
use samara_project::{
    Edit, NewObject, PictureId, Placed, Project, Track, TrackId, VideoFile, frame_id,
};
use tempfile::TempDir;

const FRAMES: usize = 6;

fn file() -> VideoFile {
    VideoFile {
        sha256: "a".into(),
        width: 12,
        height: 8,
        frames: FRAMES,
        rate: Some(25.0),
    }
}

/// A project of a video that is not read, and its frames.
fn project() -> (TempDir, Project, PictureId, Vec<PictureId>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("clip.MP4"), "").unwrap();
    std::fs::write(folder.path().join("z.png"), "").unwrap();
    let project = Project::open(folder.path()).unwrap();
    assert_eq!(project.scan().unwrap().new, 2);
    let pictures = project.pictures().unwrap();
    assert_eq!(pictures[1].frames, None);
    let video = &pictures[0];
    assert_eq!((&*video.path, video.frames), ("clip.MP4", Some(0)));
    assert!(project.frames(video.id).unwrap().is_empty());
    project.identify_video(video.id, &file()).unwrap();
    let frames = project.frames(video.id).unwrap();
    (folder, project, video.id, frames)
}

fn square(at: u32) -> NewObject {
    NewObject::new(Mask::from_fn(12, 8, |x, y| (at..at + 3).contains(&x) && y < 3).to_rle())
}

fn propagated(at: u32, track: i64) -> NewObject {
    let track = Track {
        id: TrackId(track),
        is_keyframe: false,
    };
    NewObject {
        track: Some(track),
        ..square(at)
    }
}

fn apply(project: &Project, frame: PictureId, edit: Edit) -> samara_project::Applied {
    project.apply(frame, "me", &[edit], None).unwrap()
}

/// Of each mask: track, frame, and whether it is a keyframe.
fn places(project: &Project, video: PictureId) -> Vec<(i64, u32, bool)> {
    let place = |p: &Placed| (p.track.0, p.frame, p.is_keyframe);
    project.tracks(video).unwrap().iter().map(place).collect()
}

#[test]
fn a_video_is_one_picture_whose_frames_have_masks() {
    let (_folder, project, video, frames) = project();
    assert_eq!(frames.len(), FRAMES);
    assert_eq!(project.pictures().unwrap().len(), 2);
    assert_eq!(project.scan().unwrap().new, 0);
    let frame = project.picture(frames[3]).unwrap();
    assert_eq!((frame.video, frame.frame), (Some(video), Some(3)));
    assert_eq!(frame.path, "clip.MP4/00003.png");
    assert_eq!(frame.sha256, Some(frame_id("a", 3)));
    let first = apply(&project, frames[3], Edit::Add(square(1)));
    let track = first.objects[0].content.track.unwrap();
    assert_eq!((track.id, track.is_keyframe), (TrackId(1), true));
    apply(&project, frames[0], Edit::Add(square(1)));
    assert_eq!(places(&project, video), [(1, 3, true), (2, 0, true)]);
    let seen = project.picture(video).unwrap();
    assert_eq!((seen.objects, seen.revision), (2, 2));
    apply(&project, frames[5], Edit::Check(true));
    assert!(project.picture(video).unwrap().checked);
    assert!(project.opened(frames[0]).unwrap().picture.checked);
}

#[test]
fn a_track_has_one_mask_in_a_frame_and_one_class() {
    let (_folder, project, video, frames) = project();
    let class = project.add_class("cat", "#ff0000").unwrap();
    apply(&project, frames[0], Edit::Add(square(1)));
    for (frame, at) in [(1, 2), (2, 3)] {
        apply(&project, frames[frame], Edit::Add(propagated(at, 1)));
    }
    let twice = project.apply(frames[1], "me", &[Edit::Add(propagated(5, 1))], None);
    let why = twice.unwrap_err().to_string();
    assert_eq!(why, "track 1 has a mask in this frame already");
    let picture = project.pictures().unwrap()[1].id;
    project.identify(picture, "b", 12, 8).unwrap();
    let outside = project.apply(picture, "me", &[Edit::Add(propagated(1, 1))], None);
    assert!(outside.unwrap_err().to_string().contains("only frames"));
    let number = project.apply(frames[4], "me", &[Edit::Add(propagated(5, 0))], None);
    assert!(number.unwrap_err().to_string().contains("1 to 65535"));

    let object = project.objects(frames[1]).unwrap().remove(0);
    let mut cat = object.content.clone();
    (cat.class, cat.track) = (Some(class), None);
    apply(&project, frames[1], Edit::Change(object.id, cat));
    let classes = |project: &Project| -> Vec<_> {
        project
            .tracks(video)
            .unwrap()
            .iter()
            .map(|p| p.class)
            .collect()
    };
    assert_eq!(classes(&project), [Some(class); 3]);
    // The mask is the same one, and nobody has drawn it.
    assert_eq!(places(&project, video)[1], (1, 1, false));
    // Another mask of it has its class, whatever is said.
    apply(&project, frames[5], Edit::Add(propagated(6, 1)));
    assert_eq!(classes(&project), [Some(class); 4]);
    project.undo(frames[0], None).unwrap();
    project.undo(frames[0], None).unwrap();
    assert_eq!(classes(&project), [None; 3]);
    let on_video = project.apply(video, "me", &[Edit::Add(square(1))], None);
    assert!(on_video.unwrap_err().to_string().contains("is a video"));
    let drawn = NewObject {
        class: Some(class),
        ..square(7)
    };
    apply(
        &project,
        frames[2],
        Edit::Change(project.objects(frames[2]).unwrap()[0].id, drawn),
    );
    assert_eq!(places(&project, video)[2], (1, 2, true));
}

#[test]
fn a_propagation_is_undone_as_one_wherever_it_went() {
    let (_folder, project, video, frames) = project();
    apply(&project, frames[0], Edit::Add(square(1)));
    let mut action = None;
    for (frame, at) in [(1, 2), (2, 3), (3, 4)] {
        let edits = [Edit::Add(propagated(at, 1))];
        action = project
            .apply_to_frame(frames[frame], "me", &edits, action)
            .unwrap();
    }
    assert_eq!(project.history(video).unwrap().len(), 2);
    let before = project.picture(frames[2]).unwrap().revision;
    let undone = project.undo(frames[0], None).unwrap();
    assert_eq!(undone.picture, frames[1]);
    assert_eq!(places(&project, video), [(1, 0, true)]);
    assert!(project.picture(frames[2]).unwrap().revision > before);
    let again = project.redo(frames[3], None).unwrap();
    assert_eq!((again.picture, again.objects.len()), (frames[3], 1));
    assert_eq!(places(&project, video).len(), 4);
    // Something else was done meanwhile: what comes is an action of its own.
    apply(&project, frames[5], Edit::Add(square(1)));
    let edits = [Edit::Add(propagated(5, 1))];
    project
        .apply_to_frame(frames[4], "me", &edits, action)
        .unwrap();
    assert_eq!(project.history(video).unwrap().len(), 4);

    apply(&project, frames[2], Edit::RemoveTrack(TrackId(1)));
    assert_eq!(places(&project, video), [(2, 5, true)]);
    let gone = project.apply(frames[2], "me", &[Edit::RemoveTrack(TrackId(1))], None);
    assert!(gone.unwrap_err().to_string().contains("no track 1"));
    project.undo(frames[2], None).unwrap();
    assert_eq!(places(&project, video).len(), 6);
}

#[test]
fn another_file_in_the_place_of_a_video_takes_no_masks() {
    let (_folder, project, video, frames) = project();
    let other = VideoFile {
        sha256: "b".into(),
        frames: 3,
        ..file()
    };
    apply(&project, frames[0], Edit::Add(square(1)));
    assert!(project.identify_video(video, &other).unwrap().is_changed);
    assert!(project.picture(frames[0]).unwrap().is_changed);
    assert_eq!(project.frames(video).unwrap(), frames);
    assert!(!project.identify_video(video, &file()).unwrap().is_changed);
    project.undo(frames[0], None).unwrap();
    project.identify_video(video, &other).unwrap();
    assert_eq!(project.frames(video).unwrap().len(), 3);
    assert!(!project.opened(video).unwrap().can_redo);
    for frames in [0, 1_000_000] {
        let sha256 = "c".into();
        let wrong = VideoFile {
            frames,
            sha256,
            ..file()
        };
        project.identify_video(video, &wrong).unwrap_err();
    }
    let picture = project.pictures().unwrap()[1].id;
    project.identify_video(picture, &file()).unwrap_err();
    project.frames(picture).unwrap_err();
}

/// A video of 3 frames.
fn film(path: &Path) {
    let made = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i"])
        .args([
            "testsrc=size=32x24:rate=5:duration=0.6",
            "-c:v",
            "mpeg4",
            "-y",
        ])
        .arg(path)
        .status();
    assert!(made.unwrap().success());
}

#[test]
#[ignore = "needs ffmpeg"]
fn frames_are_exported_as_pictures_and_imported_again() {
    use samara_project::{ExportFormat, ExportOptions, sha256_of};
    use std::ops::ControlFlow;

    let folder = tempfile::tempdir().unwrap();
    let pictures = folder.path().join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    let path = pictures.join("clip.mp4");
    film(&path);
    let project = Project::open(&pictures).unwrap();
    project.scan().unwrap();
    let video = project.pictures().unwrap()[0].id;
    let file = VideoFile {
        sha256: sha256_of(&path).unwrap(),
        width: 32,
        height: 24,
        frames: 3,
        rate: Some(5.0),
    };
    project.identify_video(video, &file).unwrap();
    let frames = project.frames(video).unwrap();
    let mask = |at| Mask::from_fn(32, 24, |x, y| (at..at + 5).contains(&x) && y < 9).to_rle();
    apply(&project, frames[0], Edit::Add(NewObject::new(mask(1))));
    let moved = NewObject {
        track: propagated(0, 1).track,
        ..NewObject::new(mask(4))
    };
    apply(&project, frames[2], Edit::Add(moved));
    let hidden = NewObject {
        track: propagated(0, 1).track,
        ..NewObject::new(Mask::new(32, 24).to_rle())
    };
    apply(&project, frames[1], Edit::Add(hidden));
    let mut go_on = |_, _| ControlFlow::Continue(());
    for format in ExportFormat::ALL {
        let into = folder.path().join(format.name());
        let options = ExportOptions::default();
        let exported = project.export(format, &options, &into, &mut go_on).unwrap();
        assert_eq!(
            (exported.pictures, exported.objects),
            (2, 2),
            "{}",
            format.name()
        );
    }
    let coco = folder.path().join("coco");
    let image = image::open(coco.join("images/clip.mp4/00002.png")).unwrap();
    assert_eq!((image.width(), image.height()), (32, 24));
    let unopened = folder.path().join("unopened");
    std::fs::create_dir(&unopened).unwrap();
    std::fs::copy(&path, unopened.join("clip.mp4")).unwrap();
    let other = Project::open(&unopened).unwrap();
    other.scan().unwrap();
    let told = other.import(&coco.join("annotations.json"), "me").unwrap();
    assert!(
        told.warnings[0].contains("was not opened yet"),
        "{:?}",
        told.warnings
    );
    for frame in [0, 2] {
        let id = project.objects(frames[frame]).unwrap()[0].id;
        apply(&project, frames[frame], Edit::Remove(id));
    }
    let imported = project
        .import(&coco.join("annotations.json"), "me")
        .unwrap();
    assert_eq!((imported.objects, &*imported.warnings), (2, &[][..]));
    let all = places(&project, video);
    assert_eq!(all, [(1, 0, true), (1, 1, false), (1, 2, false)]);
}
