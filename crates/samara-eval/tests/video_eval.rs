//! Figures of given predictions, by the formulas of the official evaluators.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use samara_eval::{
    EvalError, VideoDataSet, VideoEvalOptions, VideoProtocol, VideoReport, VideoSubject,
    evaluate_video,
};
use samara_image::{Mask, RgbImage, contour_f_measure, save_object_map, save_png};

const SIZE: (u32, u32) = (64, 48);

fn disc(x: i32, y: i32, radius: i32) -> Mask {
    Mask::from_fn(SIZE.0, SIZE.1, |px, py| {
        (px as i32 - x).pow(2) + (py as i32 - y).pow(2) <= radius.pow(2)
    })
}

fn empty() -> Mask {
    Mask::new(SIZE.0, SIZE.1)
}

/// Objects 1 and on, a list of frames each.
type Objects = Vec<Vec<Mask>>;

/// One object on its way, two of different sizes, one that leaves and comes back.
fn truth() -> Vec<(&'static str, Objects)> {
    let path = |n: i32, at: &dyn Fn(i32) -> Mask| (0..n).map(at).collect::<Vec<Mask>>();
    vec![
        ("one", vec![path(6, &|t| disc(12 + 6 * t, 20, 8))]),
        (
            "two",
            vec![
                path(5, &|t| disc(10 + 4 * t, 12, 6)),
                path(5, &|t| disc(50 - 5 * t, 34, 9 - t)),
            ],
        ),
        (
            "leaves",
            vec![path(6, &|t| {
                if (2..4).contains(&t) {
                    empty()
                } else {
                    disc(8, 24 + t, 7)
                }
            })],
        ),
    ]
}

/// Predictions that are a little off; nothing in the fourth frame.
fn predictions() -> Vec<(&'static str, Objects)> {
    let mut all = truth();
    all[0].1[0] = (0..6).map(|t| disc(12 + 5 * t, 21, 8)).collect();
    all[1].1[1] = (0..5).map(|t| disc(50 - 5 * t, 36, 8)).collect();
    for (_, objects) in &mut all {
        for frames in objects {
            frames[3] = empty();
        }
    }
    all[2].1[0][2] = disc(8, 26, 5);
    all
}

fn write_maps(root: &Path, sequences: &[(&str, Objects)]) {
    for (name, objects) in sequences {
        let folder = root.join(name);
        fs::create_dir_all(&folder).unwrap();
        for t in 0..objects[0].len() {
            let masks = objects.iter().map(|frames| &frames[t]);
            let labelled: Vec<(u16, &Mask)> = (1..).zip(masks).collect();
            save_object_map(folder.join(format!("{t:05}.png")), SIZE, &labelled).unwrap();
        }
    }
}

fn davis(root: &Path) -> VideoDataSet {
    write_maps(&root.join("Annotations/480p"), &truth());
    write_maps(&root.join("masks"), &predictions());
    VideoDataSet::open(root, Some("val")).unwrap()
}

fn evaluate(
    root: &Path,
    data: &VideoDataSet,
    protocol: Option<VideoProtocol>,
) -> Result<VideoReport, EvalError> {
    let folder = root.join("masks");
    let options = VideoEvalOptions {
        protocol,
        limit: None,
    };
    let subject = VideoSubject::Predictions(&folder);
    evaluate_video(subject, data, &options, &mut |_, _| {
        ControlFlow::Continue(())
    })
}

fn means(prediction: &[Mask], truth: &[Mask]) -> (f64, f64) {
    let pairs = || prediction.iter().zip(truth);
    let count = truth.len() as f64;
    let j: f64 = pairs().map(|(p, t)| p.iou(t)).sum();
    let f: f64 = pairs().map(|(p, t)| contour_f_measure(p, t)).sum();
    (j / count, f / count)
}

fn near(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-12, "{a} is not {b}");
}

#[test]
fn davis_counts_all_frames_but_the_first_and_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let data = davis(folder.path());
    let report = evaluate(folder.path(), &data, None).unwrap();
    assert_eq!(report.protocol, VideoProtocol::Davis);
    assert_eq!((report.sequences.len(), report.objects), (3, 4));
    // Without a list the sequences come by name.
    let names: Vec<&str> = report.sequences.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["leaves", "one", "two"]);

    let (truth, predictions) = (truth(), predictions());
    let (mut j, mut f, mut copied) = (0.0, 0.0, 0.0);
    for ((name, truth), (_, predicted)) in truth.iter().zip(&predictions) {
        let sequence = report.sequences.iter().find(|s| s.name == *name).unwrap();
        for ((object, truth), predicted) in sequence.objects.iter().zip(truth).zip(predicted) {
            let inner = 1..truth.len() - 1;
            let (mean_j, mean_f) = means(&predicted[inner.clone()], &truth[inner.clone()]);
            near(object.figures.j.mean, mean_j);
            near(object.figures.f.mean, mean_f);
            near(object.figures.j_and_f, f64::midpoint(mean_j, mean_f));
            let copies = vec![truth[0].clone(); inner.len()];
            let copy = means(&copies, &truth[inner]);
            near(object.copy.j_and_f, f64::midpoint(copy.0, copy.1));
            (j, f, copied) = (j + mean_j, f + mean_f, copied + object.copy.j_and_f);
        }
    }
    near(report.figures.j.mean, j / 4.0);
    near(report.figures.f.mean, f / 4.0);
    near(report.copy.j_and_f, copied / 4.0);
}

/// By hand: the object of `leaves` is right in frame 1, wrong in 2, rightly absent in 3, right in 4.
#[test]
fn an_absent_object_is_right_if_nothing_is_predicted() {
    let folder = tempfile::tempdir().unwrap();
    let data = davis(folder.path());
    let report = evaluate(folder.path(), &data, None).unwrap();
    let object = &report.sequences[0].objects[0];
    near(object.figures.j.mean, 0.75);
    near(object.figures.f.mean, 0.75);
    near(object.figures.j.recall, 0.75);
    // Frames 1 and 2 against 3 and 4, as four values make quarters of two, overlapping.
    near(object.figures.j.decay, 0.5 - 1.0);
    let presence = object.presence;
    assert_eq!((presence.frames, presence.right), (4, 3));
    assert_eq!((presence.hidden, presence.hidden_found), (2, 1));
    near(object.copy_presence.accuracy(), 0.5);
    let text = report.to_text();
    assert!(text.contains("1 of 2 absences found"), "{text}");
}

/// The same masks in folders of their objects, annotated in every other frame.
#[test]
fn objects_with_images_of_their_own_are_sparse() {
    let folder = tempfile::tempdir().unwrap();
    let write = |root: &str, all: &[(&str, Objects)]| {
        for (name, objects) in all {
            for (number, frames) in objects.iter().enumerate() {
                let own = folder.path().join(format!("{root}/{name}/{number:03}"));
                fs::create_dir_all(&own).unwrap();
                for (t, mask) in frames.iter().enumerate().step_by(2) {
                    mask.save_png(own.join(format!("{:05}.png", 4 * t)))
                        .unwrap();
                }
            }
        }
    };
    write("Annotations_6fps", &truth());
    write("masks", &predictions());
    let data = VideoDataSet::open(folder.path(), Some("val")).unwrap();
    let report = evaluate(folder.path(), &data, None).unwrap();
    assert_eq!(report.protocol, VideoProtocol::Sav);
    // Of frames 0, 2, 4 the middle one counts; `leaves` does not show its object there.
    assert_eq!((report.objects, report.left_out), (3, 1));
    let (truth, predictions) = (truth(), predictions());
    let one = means(&predictions[0].1[0][2..3], &truth[0].1[0][2..3]);
    let found = &report.sequences[0];
    assert_eq!(
        (&found.name[..], &found.objects[0].name[..]),
        ("one", "000")
    );
    near(found.figures.j.mean, one.0);
    near(found.figures.f.mean, one.1);

    let all = evaluate(folder.path(), &data, Some(VideoProtocol::Davis)).unwrap();
    assert_eq!((all.objects, all.left_out), (4, 0));
}

#[test]
fn lists_of_sequences_and_limits() {
    let folder = tempfile::tempdir().unwrap();
    davis(folder.path());
    let sets = folder.path().join("ImageSets/2017");
    fs::create_dir_all(&sets).unwrap();
    fs::write(sets.join("val.txt"), "two\n\none\n").unwrap();
    let open = |split| VideoDataSet::open(folder.path(), split);
    let names = |data: VideoDataSet| data.sequences.into_iter().map(|s| s.name);
    assert!(names(open(Some("val")).unwrap()).eq(["two", "one"]));
    assert_eq!(open(None).unwrap().sequences.len(), 3);
    for (list, words) in [
        ("two\nthree\n", "three: the sequence has no annotations"),
        ("../one\n", "'../one' is not the name of a sequence"),
        ("\n", "val.txt: no sequence in it"),
    ] {
        fs::write(sets.join("val.txt"), list).unwrap();
        let error = open(Some("val")).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let error = open(Some("test")).unwrap_err().to_string();
    assert!(error.contains("'test': test.txt"), "{error}");
}

#[test]
fn what_is_wrong_is_said_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let data = davis(folder.path());
    let fails = |file: &str, words: &str| {
        // The other sequences are evaluated all the same.
        let report = evaluate(folder.path(), &data, None).unwrap();
        assert_eq!((report.sequences.len(), report.failed.len()), (2, 1));
        assert_eq!(report.failed[0].name, "two");
        let error = &report.failed[0].error;
        let named = folder.path().join(file).display().to_string();
        assert!(error.starts_with(&named), "{error}");
        assert!(error.contains(words), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    };
    let prediction = folder.path().join("masks/two/00002.png");
    let kept = fs::read(&prediction).unwrap();
    fs::remove_file(&prediction).unwrap();
    fails("masks/two/00002.png", "no such file");
    save_png(&prediction, &RgbImage::new(60, 48)).unwrap();
    fails("masks/two/00002.png", "60×48");
    fs::write(&prediction, kept).unwrap();
    // The first and the last prediction do not count.
    fs::remove_file(folder.path().join("masks/two/00000.png")).unwrap();
    evaluate(folder.path(), &data, None).unwrap();

    let first = "Annotations/480p/two/00000.png";
    save_object_map(folder.path().join(first), SIZE, &[]).unwrap();
    fails(first, "the first annotation holds no object");
    let file = "Annotations/480p/two/00001.png";
    save_png(folder.path().join(file), &RgbImage::new(64, 40)).unwrap();
    fails(file, "64×40");
    let empty = "Annotations/480p/two";
    fs::remove_dir_all(folder.path().join(empty)).unwrap();
    fs::create_dir(folder.path().join(empty)).unwrap();
    fails(empty, "no annotation (.png) in it");
    // When all of them fail, the first one says why.
    for name in ["leaves", "one"] {
        fs::remove_dir_all(folder.path().join("masks").join(name)).unwrap();
    }
    let error = evaluate(folder.path(), &data, None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("masks/leaves/00001.png"), "{error}");

    let nothing = folder.path().join("Annotations/480p");
    fs::remove_dir_all(&nothing).unwrap();
    fs::create_dir(&nothing).unwrap();
    let error = VideoDataSet::open(folder.path(), None).unwrap_err();
    assert!(error.to_string().contains("no sequence in it"), "{error}");
    fs::remove_dir_all(folder.path().join("Annotations")).unwrap();
    let error = VideoDataSet::open(folder.path(), None).unwrap_err();
    assert!(
        error.to_string().contains("no folder Annotations"),
        "{error}"
    );
}
