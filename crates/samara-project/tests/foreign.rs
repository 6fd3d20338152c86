//! Files of other programs, also damaged ones.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use samara_image::{GrayImage, Mask, PngSource, RgbImage, Rle, save_png};
use samara_project::{ImportFormat, Imported, Object, Project, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

const WIDTH: u32 = 40;
const HEIGHT: u32 = 30;

fn project(paths: &[&str]) -> (TempDir, Project) {
    let folder = tempfile::tempdir().unwrap();
    for path in paths {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        save_png(path, &RgbImage::new(WIDTH, HEIGHT)).unwrap();
    }
    let project = Project::open(folder.path()).unwrap();
    project.scan().unwrap();
    (folder, project)
}

fn objects(project: &Project) -> Vec<Object> {
    let pictures = project.pictures().unwrap().into_iter();
    pictures
        .flat_map(|picture| project.objects(picture.id).unwrap())
        .collect()
}

fn rectangle(x0: u32, y0: u32, x1: u32, y1: u32) -> Rle {
    let inside = |x, y| (x0..x1).contains(&x) && (y0..y1).contains(&y);
    Mask::from_fn(WIDTH, HEIGHT, inside).to_rle()
}

/// Imports files into a project with the picture `a.png`.
fn import(files: &[(&str, &[u8])], path: &str) -> (Project, Result<Imported>, TempDir) {
    let (folder, project) = project(&["a.png"]);
    let from = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = from.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let imported = project.import(&from.path().join(path), "import");
    (project, imported, folder)
}

fn import_json(json: &Value) -> (Project, Result<Imported>, TempDir) {
    import(&[("x.json", json.to_string().as_bytes())], "x.json")
}

/// The error of an import of which nothing is left.
fn error_of((project, imported, _folder): (Project, Result<Imported>, TempDir)) -> String {
    let error = imported.unwrap_err().to_string();
    assert!(!error.contains('\n') && error.len() < 600, "{error}");
    assert_eq!(objects(&project), []);
    assert_eq!(project.classes().unwrap(), []);
    error
}

fn coco(annotations: &Value) -> Value {
    json!({
        "images": [{"id": 7, "file_name": "some/where/a.png", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": "k", "name": " cat "}, {"id": 2, "name": "dog"}],
        "annotations": annotations,
    })
}

#[test]
fn all_that_coco_has_is_read() {
    let square = json!([1, 2, 5, 2, 5, 6, 1, 6]);
    let far = json!([30, 20, 1000, 20, 1000, 1000, 30, 1000]);
    let text = rectangle(2, 2, 4, 9).to_compressed_string();
    let annotations = json!([
        {"id": 1, "image_id": "7", "category_id": "k", "segmentation": [square, far], "iscrowd": 0},
        {"id": 2, "image_id": 7.0, "category_id": 2, "iscrowd": 1,
         "segmentation": {"size": [HEIGHT, WIDTH], "counts": [0, 60, 0, 0, 1140]}},
        {"id": 3, "image_id": 7, "segmentation": {"size": [HEIGHT, WIDTH], "counts": text},
         "predicted_iou": 0.5, "attributes": {"occluded": false, "pose": "lying"}},
        // None of these is an area.
        {"id": 4, "image_id": 7, "category_id": 2, "segmentation": [[1, 1, 2, 2]], "bbox": [1, 1, 1, 1]},
        {"id": 5, "image_id": 7, "category_id": 2, "segmentation": []},
        {"id": 6, "image_id": 7, "category_id": 2, "bbox": [40, 30, 4, 4]},
        {"id": 7, "image_id": 7, "category_id": 2, "segmentation": {"size": [4, 4], "counts": [16]}},
        // The same as the first.
        {"id": 8, "image_id": 7, "category_id": "k", "segmentation": [far, square]},
    ]);
    let (project, imported, _folder) = import_json(&coco(&annotations));
    let imported = imported.unwrap();
    let read = objects(&project);
    let masks: Vec<&Rle> = read.iter().map(|object| &object.content.mask).collect();
    let parts = rectangle(1, 2, 5, 6).to_mask().unwrap();
    let parts = parts
        .or(&rectangle(30, 20, WIDTH, HEIGHT).to_mask().unwrap())
        .unwrap()
        .to_rle();
    assert_eq!(
        masks,
        [&parts, &rectangle(0, 0, 2, HEIGHT), &rectangle(2, 2, 4, 9)]
    );
    let classes = project.classes().unwrap();
    let names: Vec<&str> = classes.iter().map(|class| &*class.name).collect();
    assert_eq!(names, ["cat", "dog"]);
    assert_eq!(read[0].content.class, Some(classes[0].id));
    assert_eq!(read[1].content.attributes["iscrowd"], "1");
    let last = &read[2].content;
    assert_eq!(
        (last.class, last.predicted_iou, &*last.attributes["pose"]),
        (None, Some(0.5), "lying")
    );
    assert_eq!(
        (
            imported.format,
            imported.objects,
            imported.classes,
            imported.boxes
        ),
        (ImportFormat::Coco, 3, 2, 0)
    );
    let all = imported.warnings.join("\n");
    for words in [
        "1 polygons of fewer than 3 points",
        "2 objects without a pixel",
        "1 annotations without an outline or a box",
        "4x4, and the picture 40x30",
        "1 objects are there already",
    ] {
        assert!(all.contains(words), "{words}: {all}");
    }
}

#[test]
fn boxes_without_an_outline_are_rectangles_with_a_prompt() {
    let annotations = json!([
        {"id": 1, "image_id": 7, "category_id": 2, "bbox": [1.5, 2, 9, 4.25], "segmentation": [], "predicted_iou": 0.9},
        {"id": 2, "image_id": 7, "category_id": 2, "bbox": [30, -5, 50, 10]},
    ]);
    let (project, imported, _folder) = import_json(&coco(&annotations));
    let imported = imported.unwrap();
    assert_eq!((imported.objects, imported.boxes), (2, 2));
    assert_eq!(imported.warnings, [""; 0]);
    let took = &imported.took[..];
    assert_eq!(took.len(), 1);
    let undone = project.undo(took[0].picture, Some(took[0].revision));
    assert_eq!(undone.unwrap().objects, []);
    project.redo(took[0].picture, None).unwrap();
    let read = objects(&project);
    let [of_floats, clipped] = [&read[0].content, &read[1].content];
    assert_eq!(
        of_floats.prompt,
        Some(json!({"box": [1.5, 2.0, 10.5, 6.25]}))
    );
    assert_eq!((of_floats.mask.area(), of_floats.predicted_iou), (36, None));
    assert_eq!(clipped.prompt, Some(json!({"box": [30.0, 0.0, 40.0, 5.0]})));
    assert_eq!(clipped.mask, rectangle(30, 0, WIDTH, 5));
    for (bbox, why) in [
        (
            json!([1, 2, 3]),
            "annotations[0].bbox: a box is [x, y, width, height]",
        ),
        (
            json!([9, 2, -3, 4]),
            "annotations[0].bbox: a box has no size below 0",
        ),
        (json!("all"), "annotations[0].bbox"),
    ] {
        let damaged = json!([{"id": 1, "image_id": 7, "category_id": 2, "bbox": bbox}]);
        let error = error_of(import_json(&coco(&damaged)));
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn damage_of_coco_is_named_with_its_place() {
    let with = |segmentation: Value| {
        let one =
            json!({"id": 1, "image_id": 7, "category_id": 2, "segmentation": [[1, 1, 9, 1, 9, 9]]});
        let two = json!({"id": 1, "image_id": 7, "category_id": 2, "segmentation": segmentation});
        coco(&json!([one, two]))
    };
    let size = [HEIGHT, WIDTH];
    for (json, words) in [
        (
            with(json!([[1, 1, 2, 2, 3]])),
            "annotations[1].segmentation: 5 values are not pairs",
        ),
        (
            with(json!([[1e300, 1, 2, 2, 3, 3]])),
            "annotations[1].segmentation: (1000",
        ),
        (
            with(json!([["a", 1, 2, 2, 3, 3]])),
            "annotations[1].segmentation[0][0]",
        ),
        (
            with(json!("a")),
            "annotations[1].segmentation: invalid type",
        ),
        (with(json!({"size": size, "counts": [7]})), "add up to 7"),
        (
            with(json!({"size": size, "counts": "~"})),
            "annotations[1].segmentation",
        ),
        (
            with(json!({"size": [1e300, 3], "counts": [7]})),
            "annotations[1].segmentation",
        ),
        (
            with(json!({"size": [u32::MAX, u32::MAX], "counts": [7]})),
            "annotations[1].segmentation",
        ),
        (
            coco(&json!([{"id": 1, "image_id": 8}])),
            "annotations[0].image_id: no image has this id",
        ),
        (
            coco(&json!([{"id": 1, "image_id": 7, "category_id": 3}])),
            "annotations[0].category_id: no category",
        ),
        (
            coco(&json!([{"id": 1, "image_id": [7]}])),
            "annotations[0].image_id: an id is",
        ),
        (coco(&json!({})), "annotations: invalid type"),
        (
            json!({"images": [], "categories": []}),
            "is in no format that is read",
        ),
        (json!([{"image_id": 1}]), "is in no format that is read"),
    ] {
        let error = error_of(import_json(&json));
        assert!(
            error.contains("x.json: ") && error.contains(words),
            "{words}: {error}"
        );
    }
    let whole = with(json!([[1, 2, 3, 4, 5, 6]])).to_string();
    for cut in (0..whole.len()).step_by(7) {
        let error = error_of(import(&[("x.json", &whole.as_bytes()[..cut])], "x.json"));
        assert!(error.contains("line 1 column"), "{error}");
    }
    for (bad, words) in [
        ("NaN", "line 1 column"),
        ("1e999", "number out of range"),
        ("-Infinity", "line 1 column"),
    ] {
        let text = whole.replace("[[1,2,", &format!("[[{bad},2,"));
        assert_ne!(text, whole);
        let error = error_of(import(&[("x.json", text.as_bytes())], "x.json"));
        assert!(error.contains(words), "{error}");
    }
    let deep = "[".repeat(1_000_000);
    error_of(import(&[("x.json", deep.as_bytes())], "x.json"));
    let deep = format!("{{\"a\":{deep}{}}}", "]".repeat(1_000_000));
    let attributes = whole.replacen("\"id\":1", &format!("\"attributes\":{deep}"), 1);
    let error = error_of(import(&[("x.json", attributes.as_bytes())], "x.json"));
    assert!(
        error.contains("annotations[0].attributes.a") && error.contains("recursion limit"),
        "{error}"
    );
}

#[test]
fn pictures_that_are_not_found_are_named() {
    let (_folder, project) = project(&["a/x.png", "b/x.png", "b/y.png", "z.png", "z.jpg"]);
    let from = tempfile::tempdir().unwrap();
    let path = from.path().join("x.json");
    let names = [
        "x.png",
        "../../etc/passwd",
        "/data/b/x.png",
        "y.jpg",
        "C:\\data\\b\\..\\a\\x.png",
        "z.webp",
        "..",
    ];
    let images: Vec<Value> = names
        .iter()
        .zip(0..)
        .map(|(name, id)| json!({"id": id, "file_name": name}))
        .collect();
    let annotations: Vec<Value> = (0..7_u32)
        .map(|id| json!({"id": id, "image_id": id, "segmentation": [[id, 1, 9, 1, 9, 9, id, 9]]}))
        .collect();
    fs::write(
        &path,
        json!({"images": images, "annotations": annotations}).to_string(),
    )
    .unwrap();
    let imported = project.import(&path, "import").unwrap();
    assert_eq!(
        imported.warnings,
        [
            "x.png: 2 pictures have this name; 1 objects are left out",
            "../../etc/passwd: no picture has this name; 1 objects are left out",
            "z.webp: 2 pictures have this name; 1 objects are left out",
            "..: is no name of a picture; 1 objects are left out",
        ]
    );
    let with: Vec<(String, u64)> = project
        .pictures()
        .unwrap()
        .into_iter()
        .map(|p| (p.path, p.objects))
        .collect();
    let with: Vec<(&str, u64)> = with.iter().map(|(path, count)| (&**path, *count)).collect();
    assert_eq!(
        with,
        [
            ("a/x.png", 1),
            ("b/x.png", 1),
            ("b/y.png", 1),
            ("z.jpg", 0),
            ("z.png", 0)
        ]
    );
}

#[test]
fn pictures_of_another_size_are_left_out() {
    let mut json = coco(&json!([{"id": 1, "image_id": 7, "segmentation": [[1, 1, 9, 1, 9, 9]]}]));
    json["images"][0]["width"] = json!(WIDTH + 1);
    let (project, imported, _folder) = import_json(&json);
    let warnings = imported.unwrap().warnings;
    assert!(
        warnings[0].contains("is 41x30 in the file, but the picture is 40x30"),
        "{warnings:?}"
    );
    assert_eq!(objects(&project), []);
    // A picture that is none.
    let (folder, project) = self::project(&["a.png"]);
    fs::write(folder.path().join("a.png"), "no picture").unwrap();
    let path = folder.path().join("x.json");
    json["images"][0]["width"] = json!(WIDTH);
    fs::write(&path, json.to_string()).unwrap();
    let warnings = project.import(&path, "import").unwrap().warnings;
    assert!(warnings[0].contains("is not an image"), "{warnings:?}");
}

fn labelme(shapes: &Value) -> Value {
    json!({"version": "5.5.0", "flags": {}, "imagePath": "..\\a.png", "imageData": null,
           "imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": shapes})
}

#[test]
fn all_areas_of_labelme_are_read() {
    // Its own masks have 0 and 1 for values.
    let mask = GrayImage::from_fn(3, 2, |x, y| [u8::from((x, y) != (0, 0))].into());
    let mask = BASE64_STANDARD.encode(mask.to_png().unwrap());
    let shapes = json!([
        {"label": "p", "points": [[1, 1], [4, 1], [4, 5], [1, 5]], "group_id": 3},
        {"label": "r", "points": [[9, 9], [6.0, 7.0]], "shape_type": "rectangle", "group_id": null, "description": "a"},
        {"label": "c", "points": [[20, 15], [20, 20]], "shape_type": "circle"},
        {"label": "m", "points": [[38, 29], [40, 30]], "shape_type": "mask", "mask": mask},
        {"label": "p", "points": [[11, 1], [14, 1], [14, 5], [11, 5]], "group_id": 3, "shape_type": "polygon"},
        {"label": "l", "points": [[1, 1], [9, 9]], "shape_type": "line"},
        {"label": "p", "points": [[1, 1], [9, 9]], "shape_type": "polygon"},
    ]);
    let (project, imported, _folder) = import_json(&labelme(&shapes));
    let imported = imported.unwrap();
    assert!(
        imported.warnings[0].starts_with("2 shapes that are no area"),
        "{imported:?}"
    );
    assert_eq!(
        (imported.format, imported.objects, imported.classes),
        (ImportFormat::Labelme, 4, 4)
    );
    let read = objects(&project);
    let both = rectangle(1, 1, 4, 5)
        .to_mask()
        .unwrap()
        .or(&rectangle(11, 1, 14, 5).to_mask().unwrap());
    assert_eq!(read[0].content.mask, both.unwrap().to_rle());
    assert_eq!(read[1].content.mask, rectangle(6, 7, 9, 9));
    assert_eq!(read[1].content.attributes["description"], "a");
    let circle = Mask::from_fn(WIDTH, HEIGHT, |x, y| {
        (f64::from(x) - 19.5).powi(2) + (f64::from(y) - 14.5).powi(2) <= 25.0
    });
    assert!(read[2].content.mask.to_mask().unwrap().iou(&circle) > 0.95);
    let corner = Mask::from_fn(WIDTH, HEIGHT, |x, y| (x, y) == (39, 29));
    assert_eq!(read[3].content.mask, corner.to_rle());
}

#[test]
fn damage_of_labelme_is_named_with_its_place() {
    let png = BASE64_STANDARD.encode(GrayImage::new(3, 2).to_png().unwrap());
    for (shape, words) in [
        (
            json!({"label": "a", "points": [[0, 0], [1, 1]], "shape_type": "mask", "mask": png}),
            "3x2 pixels in a box of 2x2",
        ),
        (
            json!({"label": "a", "points": [[0, 0], [1e300, 1]], "shape_type": "mask", "mask": png}),
            "shapes[1].mask: is 3x2",
        ),
        (
            json!({"label": "a", "points": [[0, 0], [2, 1]], "shape_type": "mask", "mask": "?"}),
            "shapes[1].mask: ",
        ),
        (
            json!({"label": "a", "points": [[0, 0], [2, 1]], "shape_type": "mask", "mask": "AAAA"}),
            "not an image",
        ),
        (
            json!({"label": "a", "points": [[0, 0], [2, 1]], "shape_type": "mask"}),
            "shapes[1].mask: is missing",
        ),
        (
            json!({"label": "a", "points": [[0, 0], [2, 1], [3, 1e200]]}),
            "shapes[1].points: (3, 1000",
        ),
        (
            json!({"label": "a", "points": [[0, 0], [1e200, 1e200]], "shape_type": "circle"}),
            "shapes[1].points",
        ),
        (
            json!({"label": "a", "points": [[0, 0, 1]]}),
            "shapes[1].points[0]: trailing characters at line 1",
        ),
        (json!({"points": []}), "shapes[1]: missing field `label`"),
    ] {
        let good = json!({"label": "b", "points": [[0, 0], [5, 0], [5, 5]]});
        let json = labelme(&json!([good, shape])).to_string();
        let other = labelme(&json!([good])).to_string();
        // A file before it is not imported either.
        let files: [(&str, &[u8]); 2] = [("a.json", other.as_bytes()), ("x.json", json.as_bytes())];
        let error = error_of(import(&files, ""));
        assert!(
            error.contains("x.json: ") && error.contains(words),
            "{words}: {error}"
        );
    }
}

#[test]
fn labelme_names_pictures_from_its_file() {
    let (folder, project) = project(&["a/x.png", "b/x.png"]);
    let mut json = labelme(&json!([{"label": "b", "points": [[0, 0], [5, 0], [5, 5]]}]));
    json["imagePath"] = json!("../b/x.png");
    fs::write(folder.path().join("a/x.json"), json.to_string()).unwrap();
    json["imagePath"] = json!("x.png");
    fs::write(folder.path().join("b/x.json"), json.to_string()).unwrap();
    fs::write(folder.path().join("other.json"), "{}").unwrap();
    let imported = project.import(folder.path(), "import").unwrap();
    assert_eq!(imported.objects, 1);
    assert!(imported.warnings[0].ends_with("other.json: is neither COCO nor labelme"));
    assert!(imported.warnings[1].starts_with("1 objects are there already"));
    assert_eq!(project.pictures().unwrap()[1].objects, 1);
}

const SQUARE: &str = "0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5";

fn yolo(list: (&str, &str), label: &str) -> (Project, Result<Imported>, TempDir) {
    let label = format!("1 {SQUARE}\n{label}");
    let files: [(&str, &[u8]); 3] = [
        (list.0, list.1.as_bytes()),
        ("train/labels/a.txt", label.as_bytes()),
        ("README.txt", b"not a label"),
    ];
    import(&files, "")
}

#[test]
fn all_lists_of_yolo_are_read() {
    let list = "names: [cat, 'no: dog']\nnc: 2\ntrain: ../train/images\n";
    let map = "# of cats\nnames:\n  0: cat\n  1: \"no: dog\"\n";
    let lines = "\u{feff}cat\nno: dog\n\n";
    let dashes = "names:\n- cat\n- 'no: dog'\n";
    for list in [
        ("data.yaml", list),
        ("data.yml", map),
        ("classes.txt", lines),
        ("data.yaml", dashes),
    ] {
        let (project, imported, _folder) = yolo(
            list,
            &format!("\n0 -1 -1 2 -1 2 0.5 -1 0.5\r\n0.0 {SQUARE}\n0 .5 .5 .1 .1"),
        );
        let imported = imported.unwrap();
        assert_eq!((imported.format, imported.objects), (ImportFormat::Yolo, 4));
        assert_eq!((imported.boxes, &imported.warnings[..]), (1, &[][..]));
        let classes = project.classes().unwrap();
        assert_eq!(classes[0].name, "no: dog");
        let read = objects(&project);
        assert_eq!(read[0].content.mask, rectangle(4, 3, 20, 15));
        // Clipped.
        assert_eq!(read[1].content.mask, rectangle(0, 0, WIDTH, HEIGHT / 2));
        // Half of each side, and a tenth around it.
        let boxed = read.iter().find_map(|object| object.content.prompt.clone());
        assert_eq!(boxed, Some(json!({"box": [18.0, 13.5, 22.0, 16.5]})));
    }
    let (project, imported, _folder) = yolo(("data.yaml", "names: [0, no]"), "");
    assert_eq!(imported.unwrap().classes, 1);
    assert_eq!(project.classes().unwrap()[0].name, "no");
}

#[test]
fn damage_of_yolo_is_named_with_its_line() {
    let list = ("data.yaml", "names: [a, b]");
    for (line, words) in [
        (
            format!("2 {SQUARE}"),
            "line 2: \"2\" is no number of a class of data.yaml, which has 2",
        ),
        (format!("-1 {SQUARE}"), "line 2: \"-1\""),
        (
            format!("99999999999999999999999 {SQUARE}"),
            "line 2: \"9999",
        ),
        (format!("cat {SQUARE}"), "line 2: \"cat\""),
        (format!("0 {SQUARE} 0.5"), "line 2: 9 values"),
        ("0 0.1 0.1".into(), "line 2: 2 values"),
        (
            "0 NaN 0.1 0.2 0.2 0.3 0.3".into(),
            "line 2: \"NaN\" is no coordinate",
        ),
        ("0 inf 0.1 0.2 0.2 0.3 0.3".into(), "line 2: \"inf\""),
        ("0 1e999 0.1 0.2 0.2 0.3 0.3".into(), "line 2: \"1e999\""),
        ("0 1e200 0.1 0.2 0.2 0.3 0.3".into(), "line 2: (399"),
        ("0 0,1 0.1 0.2 0.2 0.3 0.3".into(), "line 2: \"0,1\""),
    ] {
        let error = error_of(yolo(list, &line));
        assert!(
            error.contains("a.txt: ") && error.contains(words),
            "{words}: {error}"
        );
    }
    for names in [
        "names: 3",
        "names: [a",
        "nothing: 1",
        "names: {a: b}",
        "names: [[1]]",
    ] {
        let error = error_of(yolo(("data.yaml", names), ""));
        assert!(error.contains("data.yaml: "), "{error}");
    }
    let aliases = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n\
                   d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nnames: [*e,*e,*e,*e,*e,*e,*e,*e]\n";
    error_of(yolo(("data.yaml", aliases), ""));
    let files: [(&str, &[u8]); 2] = [("data.yaml", b"names: [a]"), ("labels/a.txt", b"0 \xff")];
    assert!(error_of(import(&files, "")).contains("is no text in UTF-8"));
}

fn write_palette(path: &Path, (width, height): (u32, u32), value: impl Fn(u32, u32) -> u8) {
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), width, height);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(vec![9; 768]);
    let values: Vec<u8> = (0..height)
        .flat_map(|y| (0..width).map(move |x| (x, y)))
        .map(|(x, y)| value(x, y))
        .collect();
    encoder
        .write_header()
        .unwrap()
        .write_image_data(&values)
        .unwrap();
}

#[test]
fn maps_are_of_classes_or_objects() {
    let (folder, project) = project(&["images/a.png", "images/b.png"]);
    let maps = folder.path().join("SegmentationClass");
    fs::create_dir(&maps).unwrap();
    let value = |x: u32, _| match x {
        0..4 => 3,
        4..6 => 255,
        20..25 => 7,
        _ => 0,
    };
    write_palette(&maps.join("a.png"), (WIDTH, HEIGHT), value);
    write_palette(&maps.join("b.png"), (WIDTH - 1, HEIGHT), value);
    write_palette(&maps.join("c.png"), (WIDTH, HEIGHT), value);
    // The maps are pictures of the project too, of the same names.
    project.scan().unwrap();
    let imported = project.import(folder.path(), "import").unwrap();
    assert_eq!(
        (imported.format, imported.objects, imported.classes),
        (ImportFormat::Maps, 2, 2)
    );
    let warnings = &imported.warnings;
    assert!(
        warnings[0].ends_with("b.png: is 39x30, but the picture is 40x30; 3 objects are left out"),
        "{warnings:?}"
    );
    assert_eq!(
        warnings[1],
        "c: no picture has this name; 3 objects are left out"
    );
    assert!(warnings[2].starts_with("1 areas of the value 255"));
    let names: Vec<String> = project
        .classes()
        .unwrap()
        .into_iter()
        .map(|class| class.name)
        .collect();
    assert_eq!(names, ["3", "7"]);
    assert_eq!(
        objects(&project)[0].content.mask,
        rectangle(0, 0, 4, HEIGHT)
    );

    // With names.
    fs::write(folder.path().join("classes.txt"), "background\na\nb\ncat").unwrap();
    let error = project.import(&maps, "import").unwrap_err().to_string();
    assert!(
        error.ends_with("a.png: the value 7 has no line in classes.txt"),
        "{error}"
    );
    fs::write(
        maps.join("a.png"),
        &fs::read(maps.join("a.png")).unwrap()[..60],
    )
    .unwrap();
    let error = project.import(&maps, "import").unwrap_err().to_string();
    assert!(
        error.contains("a.png: ") && !error.contains('\n'),
        "{error}"
    );
}

#[test]
fn what_is_in_no_format_is_refused() {
    assert!(error_of(import(&[("x.zip", b"PK")], "x.zip")).contains("is in no format"));
    assert!(error_of(import(&[("x.md", b"PK")], "")).contains("is in no format"));
    assert!(error_of(import(&[], "nothing")).contains("is no file or folder"));
    assert!(error_of(import(&[("x.png", b"PK")], "x.png")).contains("x.png: "));
    assert!(error_of(import(&[("x.json", b"")], "x.json")).contains("EOF"));
}

#[test]
fn colours_of_classes_differ() {
    let (_folder, project) = project(&["a.png"]);
    // The colour that the second class would get.
    project.add_class("old", "#FF8A1E").unwrap();
    let mut json = coco(&json!(vec![Value::Null; 20]));
    json["categories"] = json!(vec![Value::Null; 20]);
    for id in 0..20 {
        json["categories"][id] = json!({"id": id, "name": format!("class {id}")});
        json["annotations"][id] = json!({"id": id, "image_id": 7, "category_id": id, "segmentation": [[id, 1, 29, 1, 29, 9]]});
    }
    let from = tempfile::tempdir().unwrap();
    fs::write(from.path().join("x.json"), json.to_string()).unwrap();
    assert_eq!(
        project
            .import(&from.path().join("x.json"), "import")
            .unwrap()
            .classes,
        20
    );
    let colours: std::collections::BTreeSet<String> = project
        .classes()
        .unwrap()
        .into_iter()
        .map(|class| class.colour.to_lowercase())
        .collect();
    assert_eq!(colours.len(), 21);
}

/// A project without a mask, and a file of COCO with one object on each of these images.
fn one_on_each(pictures: &[&str], images: &[&str]) -> (Imported, Vec<(String, u64)>) {
    let (_folder, project) = project(pictures);
    let named: Vec<Value> = images
        .iter()
        .zip(0..)
        .map(|(name, id)| json!({"id": id, "file_name": name}))
        .collect();
    let annotations: Vec<Value> = (0..images.len())
        .map(|id| json!({"id": id, "image_id": id, "bbox": [id, 1, 9, 9]}))
        .collect();
    let from = tempfile::tempdir().unwrap();
    let path = from.path().join("x.json");
    let file = json!({"images": named, "annotations": annotations});
    fs::write(&path, file.to_string()).unwrap();
    let imported = project.import(&path, "import").unwrap();
    let all = project.pictures().unwrap().into_iter();
    (imported, all.map(|p| (p.path, p.objects)).collect())
}

#[test]
fn two_pictures_are_not_one() {
    for (images, warning) in [
        (
            ["train/a.png", "val/a.png"],
            "val/a.png: is the same picture here as train/a.png; 1 objects are left out",
        ),
        (
            ["a.jpg", "a.webp"],
            "a.webp: is the same picture here as a.jpg; 1 objects are left out",
        ),
        // The one that it is goes before.
        (
            ["a.jpg", "a.png"],
            "a.jpg: is the same picture here as a.png; 1 objects are left out",
        ),
    ] {
        let (imported, objects) = one_on_each(&["a.png"], &images);
        assert_eq!(imported.warnings, [warning]);
        assert_eq!(objects, [("a.png".to_owned(), 1)]);
    }
    for images in [["a.png", "a.png"], ["x/a.png", "./x\\y\\..\\a.png"]] {
        let (imported, objects) = one_on_each(&["a.png"], &images);
        assert_eq!(imported.warnings, [""; 0]);
        assert_eq!(objects, [("a.png".to_owned(), 2)]);
    }
    let line = format!("0 {SQUARE}");
    let files: [(&str, &[u8]); 3] = [
        ("data.yaml", b"names: [a]"),
        ("labels/train/a.txt", line.as_bytes()),
        ("labels/val/a.txt", b"0 .5 .5 .1 .1"),
    ];
    let (project, imported, _folder) = import(&files, "");
    assert_eq!(
        imported.unwrap().warnings,
        ["val/a: is the same picture here as train/a; 1 objects are left out"]
    );
    assert_eq!(objects(&project).len(), 1);
    let (_folder, project) = self::project(&["images/a.png"]);
    let from = tempfile::tempdir().unwrap();
    for name in ["x", "y"] {
        fs::create_dir_all(from.path().join("labels").join(name)).unwrap();
        let map = GrayImage::from_fn(WIDTH, HEIGHT, |x, _| [u8::from(x < 4)].into());
        save_png(from.path().join("labels").join(name).join("a.png"), &map).unwrap();
    }
    let imported = project.import(from.path(), "import").unwrap();
    assert_eq!(
        imported.warnings,
        ["y/a: is the same picture here as x/a; 1 objects are left out"]
    );
}

#[test]
fn poses_of_yolo_are_boxes() {
    let points = "0.4 0.4 2 0.6 0.6 1";
    let label = format!("0 .5 .5 .2 .2 {points}\n0 .2 .2 .1 .1 {points}\n0 .7 .7 .1 .1\n");
    let files: [(&str, &[u8]); 2] = [
        (
            "data.yaml",
            b"kpt_shape: [2, 3]\nflip_idx: [1, 0]\nnames: [a]",
        ),
        ("labels/a.txt", label.as_bytes()),
    ];
    let (project, imported, _folder) = import(&files, "");
    let imported = imported.unwrap();
    assert_eq!((imported.objects, imported.boxes), (3, 3));
    assert_eq!(imported.warnings.len(), 1);
    let warning = &imported.warnings[0];
    assert!(
        warning.starts_with("2 objects have key points, which are left out; the first: ")
            && warning.ends_with("a.txt: line 1"),
        "{warning}"
    );
    let read = objects(&project);
    assert_eq!(
        read[0].content.prompt,
        Some(json!({"box": [16.0, 12.0, 24.0, 18.0]}))
    );
    let files: [(&str, &[u8]); 2] = [
        ("data.yaml", b"kpt_shape: [2, 3]\nnames: [a]"),
        ("labels/a.txt", b"0 .5 .5 .2"),
    ];
    let error = error_of(import(&files, ""));
    assert!(error.ends_with("line 1: 3 values are no box, which has 4"));
}

#[test]
fn a_box_of_yolo_may_be_a_prediction() {
    let (_project, imported, _folder) = yolo(("data.yaml", "names: [a, b]"), "0 .5 .5 .1 .1 .87");
    let imported = imported.unwrap();
    assert_eq!((imported.objects, imported.boxes), (2, 1));
    assert_eq!(imported.warnings, [""; 0]);
}

#[test]
fn outlines_and_boxes_of_coco_may_be_empty() {
    let square = json!([[1, 2, 5, 2, 5, 6, 1, 6]]);
    let annotations = json!([
        {"id": 1, "image_id": 7, "segmentation": square, "bbox": null},
        {"id": 2, "image_id": 7, "segmentation": [[]], "bbox": [20, 2, 9, 4]},
        {"id": 3, "image_id": 7, "segmentation": [[]]},
        {"id": 4, "image_id": 7, "segmentation": null, "bbox": null},
    ]);
    let (project, imported, _folder) = import_json(&coco(&annotations));
    let imported = imported.unwrap();
    assert_eq!((imported.objects, imported.boxes), (2, 1));
    assert_eq!(imported.warnings.len(), 1);
    assert!(imported.warnings[0].starts_with("2 annotations without an outline or a box"));
    assert_eq!(objects(&project)[1].content.mask, rectangle(20, 2, 29, 6));
}

#[test]
fn what_is_too_long_is_told() {
    let long = "n".repeat(200);
    let mut json = coco(&json!([
        {"id": 1, "image_id": 7, "category_id": 0, "bbox": [1, 1, 9, 9],
         "attributes": {"word": "w".repeat(70_000)}},
        {"id": 2, "image_id": 7, "category_id": 1, "bbox": [2, 1, 9, 9],
         "attributes": {"word": "w".repeat(60_000)}},
        {"id": 3, "image_id": 7, "category_id": 2, "bbox": [3, 1, 9, 9]},
    ]));
    json["categories"] = json!([
        {"id": 0, "name": format!(" {long}1")},
        {"id": 1, "name": format!("{long}2")},
        {"id": 2, "name": format!(" {long} ")},
    ]);
    let (project, imported, _folder) = import_json(&json);
    let imported = imported.unwrap();
    assert_eq!((imported.objects, imported.classes), (3, 1));
    assert_eq!(imported.warnings.len(), 2);
    let said = |start: &str, end: &str| {
        let mut warnings = imported.warnings.iter();
        warnings.any(|warning| warning.starts_with(start) && warning.ends_with(end))
    };
    let first = "x.json: annotations[0]";
    assert!(
        said(
            "2 objects are of classes whose names are cut to 200 letters; ",
            first
        ) && said(
            "1 objects have attributes of more than 64 KiB, which are left out; ",
            first
        ),
        "{imported:?}"
    );
    let read = objects(&project);
    assert_eq!(read[0].content.attributes.len(), 0);
    assert_eq!(read[1].content.attributes["word"].len(), 60_000);
}

#[test]
fn thousands_of_classes_are_made_at_once() {
    const COUNT: usize = 8000;
    let mut json = coco(&json!([]));
    let category = |id: usize| json!({"id": id, "name": format!("class {id}")});
    json["categories"] = (0..COUNT).map(category).collect();
    let annotation =
        |id: usize| json!({"id": id, "image_id": 7, "category_id": id, "bbox": [1, 1, 9, 9]});
    json["annotations"] = (0..COUNT).map(annotation).collect();
    let (folder, project) = project(&["a.png"]);
    // One that was there before, and one that was removed.
    let kept = project.add_class("class 7", "#123456").unwrap();
    let removed = project.add_class("class 9", "#123457").unwrap();
    project.remove_class(removed).unwrap();
    let path = folder.path().join("x.json");
    fs::write(&path, json.to_string()).unwrap();
    let start = std::time::Instant::now();
    let imported = project.import(&path, "import").unwrap();
    // It takes two seconds, and took two minutes when all were looked through for each.
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
    assert_eq!((imported.objects, imported.classes), (COUNT, COUNT - 1));
    let classes = project.classes().unwrap();
    assert_eq!(classes.len(), COUNT);
    let names: Vec<&str> = classes[..4].iter().map(|class| &*class.name).collect();
    assert_eq!(names, ["class 7", "class 0", "class 1", "class 2"]);
    let id = |name: &str| classes.iter().find(|class| class.name == name).unwrap().id;
    assert_eq!((id("class 7"), id("class 9")), (kept, removed));
}
