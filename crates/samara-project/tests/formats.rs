//! Projects to and from the formats of other programs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use samara_image::{ImageLimits, Mask, Rgb, RgbImage, Rle, read_object_map, save_png};
use samara_project::{
    Edit, ExportFormat, ExportOptions, Exported, ImportFormat, Imported, NewObject, Picture,
    PictureId, Project, ProjectError,
};
use tempfile::TempDir;

const WIDTH: u32 = 40;
const HEIGHT: u32 = 30;

/// Names that clash when folders or extensions are left out.
const PATHS: [&str; 5] = ["a/b.png", "a_b.png", "c.jpg", "c.png", "d/e.f.png"];

fn draw(path: &Path, (width, height): (u32, u32), shade: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let image = RgbImage::from_fn(width, height, |x, y| Rgb([x as u8 * 3, y as u8 * 5, shade]));
    // Whatever the extension: images are told by their content.
    save_png(path, &image).unwrap();
}

/// A project of these pictures, without a mask.
fn project(paths: &[&str]) -> (TempDir, Project) {
    let folder = tempfile::tempdir().unwrap();
    for (path, shade) in paths.iter().zip(0..) {
        draw(&folder.path().join(path), (WIDTH, HEIGHT), shade * 40);
    }
    let project = Project::open(folder.path()).unwrap();
    project.scan().unwrap();
    (folder, project)
}

fn picture(project: &Project, path: &str) -> Picture {
    let all = project.pictures().unwrap();
    all.into_iter()
        .find(|picture| picture.path == path)
        .unwrap()
}

fn sha256(path: &Path) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(fs::read(path).unwrap()))
}

fn add(project: &Project, path: &str, class: Option<&str>, mask: &Mask) -> PictureId {
    let picture = picture(project, path).id;
    let sum = sha256(&project.folder().join(path));
    project.identify(picture, &sum, WIDTH, HEIGHT).unwrap();
    let mut object = NewObject::new(mask.to_rle());
    object.class = class.map(|name| {
        let found = project
            .classes()
            .unwrap()
            .into_iter()
            .find(|class| class.name == name);
        found.map_or_else(
            || project.add_class(name, "#123456").unwrap(),
            |class| class.id,
        )
    });
    project
        .apply(picture, "me", &[Edit::Add(object)], None)
        .unwrap();
    picture
}

fn square(x0: u32, y0: u32, side: u32) -> Mask {
    Mask::from_fn(WIDTH, HEIGHT, |x, y| {
        (x0..x0 + side).contains(&x) && (y0..y0 + side).contains(&y)
    })
}

/// A ring with a slanted edge, and a part that only touches it by a corner.
fn ring_and_part() -> Mask {
    Mask::from_fn(WIDTH, HEIGHT, |x, y| {
        let (dx, dy) = (i64::from(x) - 20, i64::from(y) - 14);
        let far = dx * dx + dy * dy;
        (20..90).contains(&far) || x + y < 9 || (x, y) == (39, 29)
    })
}

/// A project of pictures with names that clash. No mask lies over another.
fn drawn() -> (TempDir, Project) {
    let (folder, project) = project(&PATHS);
    for (path, i) in PATHS.iter().zip(0..) {
        add(&project, path, Some("cat"), &square(i, 2, 5));
        add(&project, path, Some("a: \"dog\""), &square(20 + i, 20, 7));
    }
    add(
        &project,
        "a/b.png",
        None,
        &Mask::from_fn(WIDTH, HEIGHT, |x, y| x > 34 && y > 3 && x + y < 50),
    );
    add(
        &project,
        "d/e.f.png",
        Some("ring"),
        &ring_and_part()
            .and_not(&square(0, 0, 12))
            .unwrap()
            .and_not(&square(20, 20, 12))
            .unwrap(),
    );
    (folder, project)
}

/// Masks by the names of their classes, of all pictures.
fn masks(project: &Project) -> BTreeMap<String, Vec<(String, Rle)>> {
    let classes = project.classes().unwrap();
    let name = |object: &samara_project::Object| {
        let class = classes
            .iter()
            .find(|class| Some(class.id) == object.content.class);
        class.map_or("object", |class| &class.name).to_owned()
    };
    let pictures = project.pictures().unwrap().into_iter();
    let pictures = pictures.map(|picture| {
        let objects = project.objects(picture.id).unwrap();
        let objects = objects.iter().map(|o| (name(o), o.content.mask.clone()));
        (picture.path, objects.collect())
    });
    pictures.collect()
}

fn export_with(
    project: &Project,
    format: ExportFormat,
    options: &ExportOptions,
) -> (TempDir, PathBuf, Exported) {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("out");
    let mut last = (0, 0);
    let exported = project.export(format, options, &into, &mut |done, total| {
        last = (done, total);
        ControlFlow::Continue(())
    });
    let exported = exported.unwrap();
    assert_eq!(last.0, last.1);
    // Nothing else is left.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    (folder, into, exported)
}

#[test]
fn a_share_of_the_pictures_is_for_validation() {
    let paths: Vec<String> = (0..10).map(|i| format!("{i}.png")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let (_folder, project) = project(&paths);
    for path in &paths[..8] {
        add(&project, path, Some("cat"), &square(4, 4, 9));
    }
    for path in &paths[8..] {
        let check = [Edit::Check(true)];
        let picture = picture(&project, path).id;
        project.apply(picture, "me", &check, None).unwrap();
    }
    let options = ExportOptions {
        validation: 0.25,
        ..exact()
    };
    let (_folder, coco, exported) = export_with(&project, ExportFormat::Coco, &options);
    assert_eq!((exported.pictures, exported.objects), (10, 8));
    let text = fs::read(coco.join("annotations.json")).unwrap();
    let told: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let of = |split: &str| -> Vec<String> {
        let images = told["images"].as_array().unwrap().iter();
        let images = images.filter(|image| image["split"] == split);
        images
            .map(|image| image["file_name"].as_str().unwrap().to_owned())
            .collect()
    };
    let (train, val) = (of("train"), of("val"));
    assert_eq!((train.len(), val.len()), (7, 3));
    let drawn = |name: &&String| paths[..8].contains(&name.as_str());
    assert_eq!(val.iter().filter(drawn).count(), 2);
    // The same in folders, and as it is without.
    let (_folder, yolo, _) = export_with(&project, ExportFormat::Yolo, &options);
    let data = fs::read_to_string(yolo.join("data.yaml")).unwrap();
    assert!(
        data.starts_with("train: images/train\nval: images/val\n"),
        "{data}"
    );
    let (_folder, maps, _) = export_with(&project, ExportFormat::LabelMaps, &options);
    for name in &val {
        assert!(yolo.join("images/val").join(name).is_file());
        assert!(
            yolo.join("labels/val")
                .join(name)
                .with_extension("txt")
                .is_file()
        );
        assert!(
            maps.join("images/val").join(name).is_file()
                && maps.join("labels/val").join(name).is_file()
        );
    }
    let (_folder, coco, _) = export_with(&project, ExportFormat::Coco, &exact());
    let text = fs::read_to_string(coco.join("annotations.json")).unwrap();
    assert!(!text.contains("split"), "{text}");
    for folder in [yolo, maps] {
        let (_folder, to) = self::project(&paths);
        let imported = to.import(&folder, "import").unwrap();
        assert_eq!(
            (imported.pictures, imported.objects),
            (8, 8),
            "{imported:?}"
        );
    }
    let refused = |validation: f64| {
        let options = ExportOptions {
            validation,
            ..exact()
        };
        let into = project.folder().with_file_name("never");
        let refused = project.export(ExportFormat::Coco, &options, &into, &mut |_, _| {
            ControlFlow::Continue(())
        });
        refused.unwrap_err().to_string()
    };
    let into = project.folder().with_file_name("never");
    let labelme = project.export(ExportFormat::Labelme, &options, &into, &mut |_, _| {
        ControlFlow::Continue(())
    });
    assert!(labelme.unwrap_err().to_string().contains("splits"));
    for validation in [-0.1, 1.0, f64::NAN] {
        assert!(refused(validation).contains("less than 1"), "{validation}");
    }
}

fn exact() -> ExportOptions {
    ExportOptions {
        tolerance: 0.0,
        ..ExportOptions::default()
    }
}

fn there_and_back(format: ExportFormat, expected: ImportFormat) -> (Exported, Imported) {
    let (_folder, from) = drawn();
    for pictures in [false, true] {
        let (_folder, path, exported) = export_with(
            &from,
            format,
            &ExportOptions {
                pictures,
                ..exact()
            },
        );
        assert_eq!(
            (exported.pictures, exported.objects),
            (5, 12),
            "{exported:?}"
        );
        let (_folder, to) = project(&PATHS);
        let imported = to.import(&path, "import").unwrap();
        assert_eq!((imported.format, imported.pictures), (expected, 5));
        if format != ExportFormat::LabelMaps {
            assert_eq!(masks(&to), masks(&from), "{format}: {imported:?}");
            assert_eq!(
                (imported.objects, imported.classes),
                (12, 4),
                "{imported:?}"
            );
        }
        let first = picture(&to, "a/b.png");
        assert_eq!(
            first.sha256.as_ref(),
            picture(&from, "a/b.png").sha256.as_ref()
        );
        let history = to.history(first.id).unwrap();
        assert_eq!((history.len(), &*history[0].author), (1, "import"));
        let colours: std::collections::BTreeSet<String> = to
            .classes()
            .unwrap()
            .into_iter()
            .map(|class| class.colour)
            .collect();
        assert_eq!(colours.len(), imported.classes);
        // The same again is left out.
        let again = to.import(&path, "import").unwrap();
        assert_eq!((again.objects, again.pictures), (0, 0));
        assert!(
            again
                .warnings
                .last()
                .unwrap()
                .starts_with("12 objects are there already"),
            "{again:?}"
        );
        assert_eq!(to.history(first.id).unwrap().len(), 1);
        // As into the project that it came from, also where classes are not told.
        assert_eq!(from.import(&path, "import").unwrap().objects, 0, "{format}");
        if pictures {
            return (exported, imported);
        }
    }
    unreachable!()
}

#[test]
fn coco_keeps_masks() {
    let (exported, imported) = there_and_back(ExportFormat::Coco, ImportFormat::Coco);
    assert_eq!(
        exported.warnings,
        ["1 objects without a class are called \"object\""]
    );
    assert_eq!(imported.warnings, [""; 0]);
}

#[test]
fn polygons_that_follow_the_pixels_keep_masks() {
    for format in [ExportFormat::CocoPolygons, ExportFormat::Yolo] {
        let expected =
            [ImportFormat::Coco, ImportFormat::Yolo][usize::from(format == ExportFormat::Yolo)];
        let (exported, imported) = there_and_back(format, expected);
        assert!(
            exported.warnings[0].contains("cuts of no width"),
            "{exported:?}"
        );
        assert_eq!(imported.warnings, [""; 0]);
    }
}

#[test]
fn simpler_polygons_stay_near_the_masks() {
    let (_folder, from) = project(&["a.png"]);
    let disc = Mask::from_fn(WIDTH, HEIGHT, |x, y| {
        let (dx, dy) = (f64::from(x) - 19.5, f64::from(y) - 14.5);
        dx * dx + 2.0 * dy * dy < 300.0
    });
    add(&from, "a.png", Some("disc"), &disc);
    for format in [
        ExportFormat::CocoPolygons,
        ExportFormat::Yolo,
        ExportFormat::Labelme,
    ] {
        let lengths = [0.0, 0.5, 3.0].map(|tolerance| {
            let options = ExportOptions {
                tolerance,
                ..ExportOptions::default()
            };
            let (_out, path, _) = export_with(&from, format, &options);
            let (_folder, to) = project(&["a.png"]);
            to.import(&path, "import").unwrap();
            let mask = masks(&to)["a.png"][0].1.to_mask().unwrap();
            let least = if tolerance > 1.0 { 0.7 } else { 0.95 };
            assert!(
                mask.iou(&disc) > least,
                "{format} {tolerance}: {}",
                mask.iou(&disc)
            );
            let file = match format {
                ExportFormat::Yolo => "labels/a.txt",
                ExportFormat::Labelme => "a.json",
                _ => "annotations.json",
            };
            fs::metadata(path.join(file)).unwrap().len()
        });
        assert!(lengths.is_sorted_by(|a, b| a > b), "{format}: {lengths:?}");
    }
}

#[test]
fn labelme_keeps_masks() {
    let (_, imported) = there_and_back(ExportFormat::Labelme, ImportFormat::Labelme);
    assert_eq!(imported.warnings, [""; 0]);
}

#[test]
fn maps_keep_masks_that_do_not_overlap() {
    there_and_back(ExportFormat::IndexPng, ImportFormat::Maps);
    let (_, imported) = there_and_back(ExportFormat::LabelMaps, ImportFormat::Maps);
    assert_eq!((imported.objects, imported.classes), (12, 0));
}

fn refused(project: &Project, into: &Path, options: &ExportOptions) -> String {
    let go_on = &mut |_, _| ControlFlow::Continue(());
    let error = project.export(ExportFormat::Coco, options, into, go_on);
    error.unwrap_err().to_string()
}

#[test]
fn an_export_is_complete_or_absent() {
    let (folder, project) = drawn();
    let out = tempfile::tempdir().unwrap();
    let there = out.path().join("there");
    fs::create_dir(&there).unwrap();
    let options = ExportOptions::default();
    assert!(refused(&project, &there, &options).contains("is there already"));
    let inside = folder.path().join("a").join("out");
    assert!(refused(&project, &inside, &options).contains("choose a place outside of it"));
    assert!(refused(&project, &out.path().join("no/where"), &options).contains("No such file"));
    let wrong = ExportOptions {
        tolerance: f64::NAN,
        ..options
    };
    assert!(refused(&project, &out.path().join("new"), &wrong).contains("tolerance"));
    for format in ExportFormat::ALL {
        for last in [0, 3, 5] {
            let stop = &mut |done, _| match done {
                done if done == last => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            };
            let error = project.export(format, &options, &out.path().join("new"), stop);
            assert!(matches!(error, Err(ProjectError::Stopped)));
        }
    }
    let left: Vec<_> = fs::read_dir(out.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    assert_eq!(left, [there]);
}

#[test]
fn pictures_that_are_gone_or_changed_are_left_out_and_named() {
    for format in ExportFormat::ALL {
        let (folder, project) = drawn();
        fs::remove_file(folder.path().join("c.png")).unwrap();
        draw(&folder.path().join("a/b.png"), (WIDTH, HEIGHT), 201);
        draw(&folder.path().join("a_b.png"), (WIDTH + 1, HEIGHT), 201);
        let picture = picture(&project, "a_b.png");
        project
            .identify(picture.id, "other", WIDTH + 1, HEIGHT)
            .unwrap();
        let (_folder, path, exported) = export_with(&project, format, &exact());
        assert_eq!((exported.pictures, exported.objects), (2, 5), "{format}");
        let left_out = |name: &str| exported.warnings.iter().any(|line| line.starts_with(name));
        for name in [
            "c.png: is gone",
            "a/b.png: is another file",
            "a_b.png: is another file",
        ] {
            assert!(left_out(name), "{format}: {exported:?}");
        }
        // Nor is there a copy.
        assert!(!path.join("images/a_b.png-2.png").exists());
        assert!(!path.join("images/a/b.png").exists());
    }
}

#[test]
fn checked_pictures_are_exported_without_objects_too() {
    let (_folder, project) = project(&["a.png", "b.png", "c.png"]);
    add(&project, "a.png", Some("cat"), &square(1, 1, 5));
    let empty = picture(&project, "b.png").id;
    project
        .apply(empty, "me", &[Edit::Check(true)], None)
        .unwrap();
    for format in ExportFormat::ALL {
        let (_folder, path, exported) = export_with(&project, format, &exact());
        let expected = if format == ExportFormat::Cutouts {
            vec!["cat"]
        } else {
            vec![]
        };
        assert_eq!((exported.pictures, exported.objects), (2, 1), "{format}");
        assert_eq!(exported.warnings, [""; 0]);
        for name in expected {
            assert!(path.join(name).is_dir());
        }
        let checked_only = ExportOptions {
            checked_only: true,
            ..exact()
        };
        let (_folder, path, exported) = export_with(&project, format, &checked_only);
        assert_eq!((exported.pictures, exported.objects), (1, 0), "{format}");
        if format == ExportFormat::Yolo {
            assert_eq!(fs::read_to_string(path.join("labels/b.txt")).unwrap(), "");
            assert!(path.join("images/b.png").is_file());
        }
    }
}

#[test]
fn the_highest_object_lies_on_top_of_maps() {
    let (_folder, project) = project(&["a.png"]);
    let (large, small, inner) = (square(0, 0, 20), square(5, 5, 6), square(6, 6, 2));
    // The order in which they were drawn is not that in which they lie.
    let picture = add(&project, "a.png", Some("small"), &small);
    add(&project, "a.png", Some("large"), &large);
    add(&project, "a.png", Some("small"), &inner);
    add(&project, "a.png", None, &square(30, 20, 1));
    let objects = project.objects(picture).unwrap();
    let up = [
        Edit::Move(objects[0].id, 100),
        Edit::Move(objects[2].id, 50),
    ];
    project.apply(picture, "me", &up, None).unwrap();
    let read = |path: PathBuf| {
        read_object_map(path, &ImageLimits::default())
            .unwrap()
            .objects
    };

    let (_out, path, exported) = export_with(&project, ExportFormat::IndexPng, &exact());
    let map = read(path.join("masks/a.png"));
    assert_eq!(map.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(map[&1], small.to_rle());
    assert_eq!(map[&2], large.and_not(&small).unwrap().to_rle());
    let classes = fs::read_to_string(path.join("classes.txt")).unwrap();
    assert_eq!(classes, "background\nsmall\nlarge\nobject\n");
    // What lies under an object of its class is not lost.
    assert_eq!(exported.warnings.len(), 2, "{exported:?}");
    assert!(exported.warnings[0].starts_with("1 objects lie under others in part"));

    let (_out, path, exported) = export_with(&project, ExportFormat::LabelMaps, &exact());
    let map = read(path.join("labels/a.png"));
    assert_eq!(map.keys().copied().collect::<Vec<_>>(), [1, 2, 4]);
    assert_eq!(map[&4], small.to_rle());
    assert!(
        exported.warnings[0].starts_with("1 objects lie under others and are not"),
        "{exported:?}"
    );
    assert!(exported.warnings[1].starts_with("1 objects lie under others in part"));
}

#[test]
fn cut_outs_have_the_objects_and_nothing_else() {
    let (_folder, project) = project(&["x/a.png"]);
    add(&project, "x/a.png", Some("../b"), &square(3, 4, 5));
    add(&project, "x/a.png", Some(".._b"), &ring_and_part());
    let (_out, path, exported) = export_with(&project, ExportFormat::Cutouts, &exact());
    assert_eq!(exported.objects, 2);
    let cut = image::open(path.join("___b/x_a-1.png"))
        .unwrap()
        .into_rgba8();
    assert_eq!(cut.dimensions(), (5, 5));
    assert_eq!(cut.get_pixel(1, 2).0, [4 * 3, 6 * 5, 0, 255]);
    let cut = image::open(path.join("___b-2/x_a-2.png"))
        .unwrap()
        .into_rgba8();
    assert_eq!(cut.dimensions(), (WIDTH, HEIGHT));
    for (x, y, pixel) in cut.enumerate_pixels() {
        assert_eq!(pixel.0[3] == 255, ring_and_part().get(x, y));
    }
}

#[test]
fn formats_have_names() {
    for format in ExportFormat::ALL {
        assert_eq!(format.name().parse::<ExportFormat>().unwrap(), format);
        assert_eq!(serde_json::to_value(format).unwrap(), format.name());
        assert!(!format.title().is_empty() && !format.description().contains('\n'));
    }
    assert!(
        "zip"
            .parse::<ExportFormat>()
            .unwrap_err()
            .to_string()
            .contains("coco-polygons")
    );
}

#[test]
fn splits_of_pictures_in_folders_are_imported_again() {
    // The last would be what `train/f.png` is called in an export.
    let paths = [
        "train/a.png",
        "train/f.png",
        "val/b.png",
        "val/a.png",
        "x/y/c.png",
        "d.png",
        "e.png",
        "f.png",
    ];
    let (_folder, project) = project(&paths);
    for (path, i) in paths.iter().zip(0..) {
        add(&project, path, Some("cat"), &square(i, 2, 5));
    }
    let options = ExportOptions {
        validation: 0.4,
        ..exact()
    };
    for format in [
        ExportFormat::Yolo,
        ExportFormat::LabelMaps,
        ExportFormat::IndexPng,
    ] {
        let (_out, out, _) = export_with(&project, format, &options);
        let (_folder, to) = self::project(&paths);
        let imported = to.import(&out, "import").unwrap();
        assert_eq!((imported.objects, &imported.warnings[..]), (8, &[][..]));
        let of = |masks: BTreeMap<String, Vec<(String, Rle)>>| {
            let all = masks.into_iter();
            all.map(|(path, objects)| (path, objects.into_iter().map(|(_, mask)| mask).collect()))
                .collect::<BTreeMap<String, Vec<Rle>>>()
        };
        assert_eq!(of(masks(&to)), of(masks(&project)), "{format}");
    }
}

#[test]
fn who_comes_late_to_a_new_folder_is_told() {
    let (_folder, project) = project(&["a.png"]);
    add(&project, "a.png", None, &square(4, 4, 9));
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("out");
    let late = project.export(ExportFormat::Coco, &exact(), &into, &mut |_, _| {
        fs::create_dir_all(into.join("of somebody else")).unwrap();
        ControlFlow::Continue(())
    });
    let error = late.unwrap_err();
    assert!(matches!(error, ProjectError::Exists { .. }), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_killed_exports_have_left_goes_after_a_day() {
    let (_folder, project) = project(&["a.png"]);
    add(&project, "a.png", None, &square(4, 4, 9));
    let folder = tempfile::tempdir().unwrap();
    let old = std::time::SystemTime::now() - std::time::Duration::from_hours(30);
    let leave = |name: &str, is_new: bool| {
        let below = folder.path().join(name).join("images");
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("a.png"), "a").unwrap();
        let mut parts = vec![below.join("a.png"), below, folder.path().join(name)];
        if is_new {
            parts.remove(0);
        }
        for part in parts {
            fs::File::open(part).unwrap().set_modified(old).unwrap();
        }
    };
    leave(".samara-a1B2c3.tmp", false);
    leave(".samara-writes.tmp", true);
    leave(".other-a1B2c3.tmp", false);
    leave("samara-a1B2c3.tmp", false);
    fs::write(folder.path().join(".samara-file.tmp"), "a").unwrap();
    let into = folder.path().join("out");
    let go = &mut |_, _| ControlFlow::Continue(());
    project
        .export(ExportFormat::Coco, &exact(), &into, go)
        .unwrap();
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(
        names,
        [
            ".other-a1B2c3.tmp",
            ".samara-file.tmp",
            ".samara-writes.tmp",
            "out",
            "samara-a1B2c3.tmp",
        ]
    );
}
