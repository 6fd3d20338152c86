//! Masks in the formats of annotation tools, read back as those tools read them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use samara_image::{
    Annotation, CocoWriter, Labels, Mask, Rgb, RgbImage, coco_polygons_to_mask, cut_out,
    decode_mask, instance_map, labelme, yolo,
};
use serde_json::{Value, json};

const SIZE: (u32, u32) = (40, 30);

type Object = (&'static str, Mask);

fn object(label: &'static str, inside: impl FnMut(u32, u32) -> bool) -> Object {
    (label, Mask::from_fn(SIZE.0, SIZE.1, inside))
}

fn annotations(objects: &[Object]) -> Vec<Annotation<'_>> {
    let annotations = objects.iter();
    annotations
        .map(|(label, mask)| Annotation { label, mask })
        .collect()
}

/// A square with a hole, and a part apart from it.
fn with_hole_and_part() -> Object {
    object("ring", |x, y| {
        let within = |low: u32, high: u32| (low..high).contains(&x) && (low..high).contains(&y);
        within(4, 20) && !within(8, 14) || x > 30 && (3..9).contains(&y)
    })
}

fn objects() -> Vec<Object> {
    vec![
        object("cat", |x, y| (10..14).contains(&x) && y > 20),
        with_hole_and_part(),
        object("cat", |x, y| x == 39 && y == 29),
        object("nothing", |_, _| false),
    ]
}

/// The masks of YOLO lines, filled as a polygon by the even-odd rule.
fn of_yolo(lines: &str) -> Vec<(usize, Mask)> {
    let mask = |line: &str| {
        let mut numbers = line.split(' ');
        let class = numbers.next().unwrap().parse().unwrap();
        let shares: Vec<f64> = numbers.map(|n| n.parse().unwrap()).collect();
        let pixels = shares
            .chunks(2)
            .flat_map(|p| [p[0] * f64::from(SIZE.0), p[1] * f64::from(SIZE.1)]);
        let ring: Vec<f64> = pixels.collect();
        (
            class,
            coco_polygons_to_mask(&[ring], SIZE.0, SIZE.1).unwrap(),
        )
    };
    lines.lines().map(mask).collect()
}

#[test]
fn yolo_keeps_holes_and_parts_by_cuts() {
    let objects = objects();
    let objects = annotations(&objects);
    let mut labels = Labels::new();
    let found = of_yolo(&yolo(&objects, &mut labels));
    let classes: Vec<usize> = found.iter().map(|(class, _)| *class).collect();
    assert_eq!(classes, [0, 1, 0]);
    assert_eq!(labels.lines(), "cat\nring\nnothing\n");
    for ((_, mask), object) in found.iter().zip(&objects) {
        let iou = mask.iou(object.mask);
        assert!(iou > 0.99, "{}: {iou}", object.label);
    }
    let shares = yolo(&objects, &mut labels);
    assert!(
        shares
            .split_whitespace()
            .all(|n| n.parse::<f64>().unwrap() <= 1.0)
    );
}

#[test]
fn labelme_has_polygons_and_masks() {
    let objects = objects();
    let objects = annotations(&objects);
    let json = labelme("../photo.jpg", SIZE, &objects).unwrap();
    assert_eq!(json["imagePath"], "../photo.jpg");
    assert_eq!(
        (&json["imageWidth"], &json["imageHeight"]),
        (&json!(40), &json!(30))
    );
    let shapes = json["shapes"].as_array().unwrap();
    assert_eq!(shapes.len(), 3);
    for (shape, object) in shapes.iter().zip(&objects) {
        assert_eq!(shape["label"], object.label);
        let points: Vec<[f64; 2]> = serde_json::from_value(shape["points"].clone()).unwrap();
        let mask = if shape["shape_type"] == "polygon" {
            coco_polygons_to_mask(&[points.concat()], SIZE.0, SIZE.1).unwrap()
        } else {
            assert_eq!(shape["shape_type"], "mask");
            let png = BASE64_STANDARD
                .decode(shape["mask"].as_str().unwrap())
                .unwrap();
            let part = decode_mask(&png, "mask", &samara_image::ImageLimits::default()).unwrap();
            let [[x0, y0], [x1, y1]] = points[..] else {
                panic!("{points:?}")
            };
            // As labelme checks it.
            assert_eq!(
                (x1 - x0 + 1.0, y1 - y0 + 1.0),
                (f64::from(part.width()), f64::from(part.height()))
            );
            part.placed(x0 as u32, y0 as u32, SIZE.0, SIZE.1)
        };
        assert_eq!(&mask, object.mask, "{}", object.label);
    }
    let kinds: Vec<&Value> = shapes.iter().map(|shape| &shape["shape_type"]).collect();
    assert_eq!(kinds, ["polygon", "mask", "polygon"]);
}

#[test]
fn coco_numbers_images_objects_and_categories() {
    let objects = objects();
    let mut file = Vec::new();
    let mut coco = CocoWriter::new(&mut file).unwrap();
    for (name, objects) in [("a.jpg", &objects[..]), ("b.jpg", &objects[1..2])] {
        coco.image(name, SIZE);
        for (label, mask) in objects {
            coco.object(label, Some(0.5), &mask.to_rle()).unwrap();
        }
    }
    coco.finish().unwrap();
    let json: Value = serde_json::from_slice(&file).unwrap();
    assert_eq!(
        json["images"][1],
        json!({"id": 2, "file_name": "b.jpg", "width": 40, "height": 30})
    );
    let names: Vec<&Value> = json["categories"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(names, ["cat", "ring", "nothing"]);
    let last = &json["annotations"][4];
    let ids = ["id", "image_id", "category_id", "iscrowd"].map(|key| last[key].as_u64().unwrap());
    assert_eq!(ids, [5, 2, 2, 0]);
    assert_eq!(last["bbox"], json!([4, 3, 36, 17]));
    assert_eq!(last["area"], json!(objects[1].1.area()));
    assert_eq!(json["annotations"][1]["segmentation"], last["segmentation"]);
}

#[test]
fn maps_and_cut_outs() {
    let objects = objects();
    let objects = annotations(&objects);
    let map = instance_map(SIZE, &objects).unwrap();
    assert_eq!(
        [(11, 25), (5, 5), (39, 29), (0, 0)].map(|(x, y)| map.get_pixel(x, y)[0]),
        [1, 2, 3, 0]
    );
    let image = RgbImage::from_pixel(SIZE.0, SIZE.1, Rgb([9, 8, 7]));
    let cut = cut_out(&image, objects[1].mask).unwrap();
    assert_eq!(
        (cut.get_pixel(5, 5).0, cut.get_pixel(10, 10).0),
        ([9, 8, 7, 255], [0; 4])
    );
    assert!(cut_out(&image, &Mask::new(3, 3)).is_err());
}

/// Any mask survives: blobs, single pixels, pixels that touch by a corner.
#[test]
fn any_shape_comes_back_from_its_polygon() {
    let mut state = 7_u64;
    for round in 0..200 {
        let mut mask = Mask::new(SIZE.0, SIZE.1);
        for _ in 0..=round % 6 {
            let mut next = |most: u32| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 33) as u32 % most
            };
            let (x, y, w, h) = (next(36), next(26), 1 + next(12), 1 + next(12));
            let set = next(4) > 0;
            for (i, j) in (0..w).flat_map(|i| (0..h).map(move |j| (i, j))) {
                if x + i < SIZE.0 && y + j < SIZE.1 {
                    mask.set(x + i, y + j, set);
                }
            }
        }
        if mask.is_empty() {
            continue;
        }
        let object = Annotation {
            label: "a",
            mask: &mask,
        };
        let found = of_yolo(&yolo(&[object], &mut Labels::new()));
        assert_eq!(found[0].1, mask, "{round}");
    }
}
