use samara_image::{GrayImage, save_png};
use serde_json::json;

use super::*;
use crate::testing::{Folder, rectangle};

fn open(folder: &Folder, split: Option<&str>) -> DataSet {
    DataSet::open(folder.path(), split).unwrap()
}

#[test]
fn polygons_and_both_kinds_of_run_lengths_give_the_same_mask() {
    let folder = Folder::with_every_fault();
    let set = open(&folder, Some("train"));
    let sample = set.images[0].load(&ImageLimits::default()).unwrap();
    assert_eq!(sample.image.dimensions(), (60, 40));
    assert!(sample.skipped.is_empty());
    let expected = rectangle((60, 40), [5, 5, 30, 20]);
    assert_eq!(sample.objects.len(), 3);
    for object in &sample.objects {
        assert_eq!(object.mask, expected, "annotation {}", object.id);
    }
    assert_eq!(set.images[0].objects[0].category.as_deref(), Some("thing"));
}

#[test]
fn bad_objects_are_left_out_and_counted_by_kind() {
    let folder = Folder::with_every_fault();
    let set = open(&folder, None);
    let sample = set.images[1].load(&ImageLimits::default()).unwrap();
    assert_eq!(
        sample.objects.iter().map(|o| o.id).collect::<Vec<_>>(),
        [4, 5]
    );
    let skipped = &sample.skipped;
    assert_eq!(skipped.count(Fault::EmptyMask), 1);
    assert_eq!(skipped.count(Fault::BadSegmentation), 4);
    assert_eq!(skipped.count(Fault::MaskSize), 1);
    assert_eq!(skipped.total(), 6);
    let text = skipped.to_string();
    assert!(
        text.contains("b.png: image 2, annotation 6: no pixel"),
        "{text}"
    );
}

#[test]
fn bad_images_are_errors_that_name_them() {
    let folder = Folder::with_every_fault();
    let set = open(&folder, Some("train"));
    let fault = |id: u64| {
        let image = set.images.iter().find(|image| image.id == id).unwrap();
        let bad = image.load(&ImageLimits::default()).unwrap_err();
        assert!(bad.record.ends_with(&format!("image {id}")), "{bad}");
        assert!(!bad.to_string().contains('\n'));
        bad.fault
    };
    assert_eq!(fault(3), Fault::MissingImage);
    assert_eq!(fault(4), Fault::CorruptImage);
    assert_eq!(fault(5), Fault::ImageSize);
    assert_eq!(set.skipped.count(Fault::ImagePath), 1);
    assert_eq!(set.skipped.count(Fault::DuplicateImage), 1);
    assert_eq!(set.skipped.count(Fault::UnknownImage), 1);
    assert_eq!(set.skipped.total(), 3);
}

#[test]
fn a_split_without_images_names_those_there_are() {
    let folder = Folder::with_every_fault();
    assert_eq!(open(&folder, Some("val")).images.len(), 1);
    let error = DataSet::open(folder.path(), Some("test")).unwrap_err();
    let text = error.to_string();
    assert!(
        text.ends_with("no image in split 'test'; available: train (7), val (1)"),
        "{text}"
    );
}

#[test]
fn a_file_is_opened_like_its_folder_and_images_may_lie_beside_it() {
    let folder = Folder::new();
    std::fs::remove_dir(folder.path().join("images")).unwrap();
    folder.image("a.png", 8, 6);
    let images = json!([{"id": 1, "file_name": "a.png", "width": 8, "height": 6}]);
    let annotations = json!([{
        "id": 1, "image_id": 1, "area": 0, "bbox": [0, 0, 0, 0], "annotator": 3, "level": "part",
        "iscrowd": 1, "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]],
    }]);
    folder.annotate(&images, &annotations);
    let set = DataSet::open(folder.path().join("annotations.json"), None).unwrap();
    let sample = set.images[0].load(&ImageLimits::default()).unwrap();
    assert_eq!(sample.objects[0].mask.area(), 16);
    let object = &set.images[0].objects[0];
    assert_eq!(
        (object.area, object.bbox),
        (None, None),
        "zeros are not annotated"
    );
    assert_eq!(
        (object.annotator, object.level.as_deref()),
        (Some(3), Some("part"))
    );
    assert!(object.iscrowd);
    let all = open(&folder, Some("train"));
    assert_eq!((all.images.len(), all.split), (1, None));
}

#[test]
fn what_is_no_data_set_is_refused_by_name() {
    let folder = Folder::new();
    let refused = |path: &Path| DataSet::open(path, None).unwrap_err().to_string();
    assert!(refused(&folder.path().join("nowhere")).ends_with("nowhere: no such file or folder"));
    assert!(refused(folder.path()).contains("neither annotations.json"));
    std::fs::write(
        folder.path().join("annotations.json"),
        r#"{"images": [{"id": -1}]}"#,
    )
    .unwrap();
    let text = refused(folder.path());
    assert!(text.contains("annotations.json: not COCO annotations") && text.contains("line 1"));
    folder.annotate(&json!([]), &json!([]));
    assert!(refused(folder.path()).contains("holds no image"));
}

/// An image and its label map.
fn labelled(folder: &Folder, name: &str, label: impl Fn(u32, u32) -> u8) {
    for kind in ["images", "labels"] {
        let parent = folder.path().join(kind).join(name);
        std::fs::create_dir_all(parent.parent().unwrap()).unwrap();
    }
    folder.image(&format!("images/{name}.png"), 12, 9);
    let map = GrayImage::from_fn(12, 9, |x, y| [label(x, y)].into());
    save_png(folder.path().join(format!("labels/{name}.png")), &map).unwrap();
}

#[test]
fn every_value_of_a_label_map_is_an_object_and_subfolders_are_splits() {
    let folder = Folder::new();
    labelled(&folder, "train/a", |x, y| {
        u8::from(x < 4) * 5 + u8::from(x > 7 && y > 4) * 9
    });
    labelled(&folder, "train/b", |_, _| 0);
    labelled(&folder, "val/c", |x, _| u8::from(x == 2));
    folder.image("images/train/alone.png", 12, 9);
    std::fs::write(folder.path().join("images/train/broken.jpg"), b"").unwrap();
    std::fs::write(folder.path().join("labels/train/broken.png"), b"x").unwrap();
    std::fs::write(folder.path().join("labels/train/orphan.png"), b"x").unwrap();

    let set = open(&folder, Some("train"));
    assert_eq!(set.images.len(), 2);
    let sample = set.images[0].load(&ImageLimits::default()).unwrap();
    assert_eq!(
        sample.objects.iter().map(|o| o.id).collect::<Vec<_>>(),
        [5, 9]
    );
    assert_eq!(sample.objects[0].mask, rectangle((12, 9), [0, 0, 4, 9]));
    assert_eq!(sample.objects[1].mask, rectangle((12, 9), [8, 5, 4, 4]));
    assert_eq!(set.images[0].objects[1].area, Some(16.0));
    assert!(set.images[1].objects.is_empty());
    assert_eq!(set.skipped.count(Fault::MissingLabelMap), 1);
    assert_eq!(set.skipped.count(Fault::BadLabelMap), 1);
    assert_eq!(set.skipped.count(Fault::MissingImage), 1);

    assert_eq!(open(&folder, Some("val")).images.len(), 1);
    assert_eq!(open(&folder, None).images.len(), 3);
    let error = DataSet::open(folder.path(), Some("test"))
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("available: train (4), val (1)"), "{error}");
}

/// COCO's own layout, and Roboflow's.
#[test]
fn data_sets_as_people_have_them() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, image: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = json!({
            "images": [{"id": "a-1", "file_name": "a.png", "width": 8, "height": 6}],
            "annotations": [{
                "id": "5", "image_id": "a-1", "iscrowd": true, "category_id": 1.0,
                "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]],
            }],
            "categories": [{"id": 1, "name": "thing"}],
        });
        std::fs::write(path, text.to_string()).unwrap();
        let image = folder.path().join(image);
        std::fs::create_dir_all(image.parent().unwrap()).unwrap();
        save_png(image, &GrayImage::new(8, 6)).unwrap();
    };
    write("annotations/instances_val2017.json", "val2017/a.png");
    let check = |set: DataSet, folder: &str| {
        let image = &set.images[0];
        assert!(
            image.path.to_string_lossy().contains(folder),
            "{}",
            image.path.display()
        );
        let sample = image.load(&ImageLimits::default()).unwrap();
        assert_eq!(sample.objects[0].mask.area(), 16);
        let object = &image.objects[0];
        assert_eq!((object.id, object.iscrowd), (5, true));
        assert_eq!(object.category.as_deref(), Some("thing"));
    };
    let open = |split: Option<&str>| DataSet::open(folder.path(), split);
    check(open(None).unwrap(), "val2017");
    check(open(Some("val")).unwrap(), "val2017");
    // What was made from it lies beside it.
    let instances = folder.path().join("annotations/instances_val2017.json");
    let kept = folder.path().join("annotations/kept.json");
    std::fs::copy(instances, &kept).unwrap();
    check(DataSet::open(kept, None).unwrap(), "val2017");
    write(
        "annotations/instances_train2017.json",
        "images/train2017/a.png",
    );
    check(open(Some("train2017")).unwrap(), "train2017");
    check(open(Some("val2017")).unwrap(), "val2017");
    let refused = |split| open(split).unwrap_err().to_string();
    assert!(refused(None).ends_with("(train2017, val2017): choose a split, or name the file"));
    assert!(refused(Some("test")).ends_with("available: train2017, val2017"));
    let options = DataOptions {
        image_dir: Some(folder.path().join("elsewhere")),
        ..DataOptions::default()
    };
    let file = folder.path().join("annotations/instances_val2017.json");
    let error = DataSet::open_with(&file, &options).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("elsewhere: the folder of the images is not there")
    );
    std::fs::rename(
        folder.path().join("val2017"),
        folder.path().join("elsewhere"),
    )
    .unwrap();
    check(DataSet::open_with(&file, &options).unwrap(), "elsewhere");

    std::fs::remove_dir_all(folder.path().join("annotations")).unwrap();
    write("valid/_annotations.coco.json", "valid/a.png");
    write("train/_annotations.coco.json", "train/a.png");
    check(open(Some("valid")).unwrap(), "valid");
    check(
        DataSet::open(folder.path().join("train"), None).unwrap(),
        "train",
    );
}

#[test]
fn a_split_is_that_of_records_or_of_a_name() {
    let folder = Folder::new();
    folder.image("images/a.png", 8, 8);
    let image = json!({"id": 1, "file_name": "a.png", "width": 8, "height": 8});
    folder.annotate(&json!([image]), &json!([]));
    let annotations = folder.path().join("annotations.json");
    std::fs::copy(annotations, folder.path().join("instances_val2017.json")).unwrap();
    let split = |file: &str, split: &str| {
        let file = folder.path().join(file);
        DataSet::open(file, Some(split)).unwrap().split
    };
    assert_eq!(split("annotations.json", "val"), None);
    assert_eq!(split("instances_val2017.json", "val"), Some("val".into()));
    assert_eq!(split("instances_val2017.json", "test"), None);
}

/// Images beside the annotations come before those of the same name elsewhere.
#[test]
fn images_are_those_beside_their_annotations() {
    let folder = Folder::new();
    let image = json!({"id": 1, "file_name": "a.png", "width": 8, "height": 8});
    folder.annotate(&json!([image]), &json!([]));
    for place in ["", "train", "val", "other"] {
        std::fs::create_dir_all(folder.path().join(place)).unwrap();
        folder.image(format!("{place}/a.png").trim_start_matches('/'), 8, 8);
    }
    let annotations = folder.path().join("annotations.json");
    for place in ["val", "other"] {
        std::fs::copy(&annotations, folder.path().join(place).join("some.json")).unwrap();
    }
    let images = |file: &str| {
        DataSet::open(folder.path().join(file), None)
            .unwrap()
            .image_dir
    };
    assert_eq!(images("annotations.json"), folder.path());
    assert_eq!(images("val/some.json"), folder.path().join("val"));
    // Of several other folders none is taken.
    std::fs::remove_file(folder.path().join("other/a.png")).unwrap();
    std::fs::remove_file(folder.path().join("a.png")).unwrap();
    assert_eq!(images("other/some.json"), folder.path().join("other"));
    std::fs::remove_file(folder.path().join("train/a.png")).unwrap();
    assert_eq!(
        images("other/some.json"),
        folder.path().join("other/../val")
    );
}
