use serde_json::{Value, json};

use super::*;
use samara_data::Segmentation;
use samara_data::testing::{Folder, data_spec, example_spec, rectangle, rle};

/// A small model with its own weights.
fn segmenter() -> Segmenter {
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let path = format!("{folder}/../samara-model/tests/golden/sam_vit.pth");
    let segmenter = Segmenter::load(path, samara::DeviceKind::Cpu).unwrap();
    assert!(segmenter.architecture().starts_with("sam-vit"));
    segmenter
}

fn no_progress(_: usize, _: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Two images with a duplicate, a crowd, a box of its own and an object that cannot be read.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.image("images/a.png", 60, 40);
    folder.image("images/b.png", 40, 60);
    let object = |id: u64, image: u64, segmentation: Value| json!({"id": id, "image_id": image, "category_id": 1, "segmentation": segmentation});
    let mask = |edges| rle(&rectangle((60, 40), edges));
    let mut crowd = object(3, 1, mask([0, 0, 60, 10]));
    crowd["iscrowd"] = json!(1);
    let mut boxed = object(4, 1, mask([30, 20, 20, 15]));
    boxed["bbox"] = json!([10, 5, 20, 20]);
    let mut own = object(1, 1, mask([5, 5, 30, 20]));
    own["bbox"] = json!([5.4, 5.0, 29.1, 19.7]);
    let annotations = json!([
        own,
        object(2, 1, mask([5, 5, 30, 20])),
        crowd,
        boxed,
        object(5, 1, json!("nonsense")),
        object(6, 2, rle(&rectangle((40, 60), [10, 10, 20, 40]))),
    ]);
    let image = |id, name: &str, width, height| json!({"id": id, "file_name": name, "width": width, "height": height, "split": "train", "license": 7});
    let images = json!([image(1, "a.png", 60, 40), image(2, "b.png", 40, 60)]);
    folder.annotate(&images, &annotations);
    folder
}

fn audited(folder: &Folder) -> Audit {
    let data = DataSet::open(folder.path(), None).unwrap();
    let options = AuditOptions {
        worst: 2,
        ..AuditOptions::default()
    };
    audit(&segmenter(), None, &data, &options, &mut no_progress).unwrap()
}

#[test]
fn every_annotation_is_assessed_and_duplicates_come_first() {
    let audit = audited(&folder());
    assert_eq!((audit.images, audit.annotations.len()), (2, 4));
    assert_eq!((audit.crowds, audit.skipped.total()), (1, 1));
    let ids: Vec<u64> = audit.annotations.iter().map(|q| q.annotation).collect();
    let mut duplicates = [ids[0], ids[1]];
    duplicates.sort_unstable();
    assert_eq!(duplicates, [1, 2]);
    let by_id = |id| {
        audit
            .annotations
            .iter()
            .find(|q| q.annotation == id)
            .unwrap()
    };
    assert_eq!(by_id(1).duplicate_of, Some(2));
    assert_eq!(by_id(2).duplicate_of, Some(1));
    assert!(by_id(1).superfluous != by_id(2).superfluous);
    assert_eq!((by_id(4).duplicate_of, by_id(6).duplicate_of), (None, None));
    assert!(audit.annotations[2].estimate <= audit.annotations[3].estimate);
    assert!(by_id(1).box_agreement.unwrap() > 0.9);
    assert_eq!(by_id(4).box_agreement.unwrap(), 0.0);
    assert_eq!(by_id(6).box_agreement, None);
    assert_eq!((by_id(6).area, by_id(6).image), (800, 2));
    assert_eq!(by_id(6).category.as_deref(), Some("thing"));
    for q in &audit.annotations {
        assert!((0.0..=1.0).contains(&q.estimate) && (0.0..=1.0).contains(&q.alignment_iou));
    }
    let worst: Vec<u64> = audit.worst.iter().map(|s| s.quality.annotation).collect();
    assert_eq!(worst, ids[..2]);

    let text = audit.to_text(3);
    assert!(
        text.contains("a.png / 1, thing, same mask as 2") && text.contains("1 bad segmentation"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 6, "{text}");
    let page = audit.to_html("a<b").unwrap();
    assert_eq!(page.matches("data:image/jpeg").count(), 2);
    assert!(page.contains("a&lt;b") && !page.contains("<script"));
}

#[test]
fn only_a_box_of_its_own_is_a_claim() {
    let segmentation = Segmentation::default();
    let object = |bbox| ObjectRecord {
        id: 1,
        area: None,
        bbox,
        annotator: None,
        level: None,
        category: None,
        iscrowd: false,
        segmentation: segmentation.clone(),
    };
    let own = OriginalBox::from(rectangle((60, 40), [5, 5, 30, 20]).bbox().unwrap());
    let claimed = |bbox| {
        let annotated = annotated_box(&object(Some(bbox))).unwrap();
        claim(&annotated, &own, (60, 40)).is_some()
    };
    assert!(!claimed([5.0, 5.0, 30.0, 20.0]) && !claimed([3.0, 3.5, 33.0, 21.0]));
    assert!(claimed([2.0, 5.0, 33.0, 20.0]) && claimed([5.0, 5.0, 30.0, 25.0]));
    assert!(!claimed([100.0, 100.0, 30.0, 25.0]), "outside the image");
}

#[test]
fn suspects_are_left_out_and_the_rest_stays_as_it_is() {
    let folder = folder();
    let audit = audited(&folder);
    let ids = |filter| -> Vec<u64> {
        let suspects = audit.suspects(filter);
        suspects.iter().map(|q| q.annotation).collect()
    };
    let superfluous = audit.annotations.iter().find(|q| q.superfluous).unwrap();
    assert_eq!(ids(Filter::MinQuality(0.0)), [superfluous.annotation]);
    assert_eq!(ids(Filter::Drop(0.0)), [superfluous.annotation]);
    assert_eq!(ids(Filter::Drop(0.5)).len(), 2);
    assert_eq!(ids(Filter::Drop(1.0)).len(), 4);
    assert_eq!(ids(Filter::MinQuality(1.1)).len(), 4);

    let data = DataSet::open(folder.path(), None).unwrap();
    let out = folder.path().join("kept.json");
    let suspects = audit.suspects(Filter::Drop(0.5));
    assert_eq!(keep_others(&data, &suspects, &out).unwrap(), (4, 2));
    let read = |path| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap();
    let (before, mut after) = (
        read(folder.path().join("annotations.json")),
        read(out.clone()),
    );
    let dropped = |a: &Value| suspects.iter().any(|q| a["id"] == q.annotation);
    let expected: Vec<Value> = before["annotations"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|a| !dropped(a))
        .cloned()
        .collect();
    assert_eq!(after["annotations"], json!(expected));
    after["annotations"] = before["annotations"].clone();
    assert_eq!(after, before);
    let kept = DataSet::open(&out, None).unwrap();
    assert!(kept.images[0].load(&ImageLimits::default()).is_ok());

    let nothing = audit.suspects(Filter::Drop(0.0));
    keep_others(&data, &nothing[..0], &out).unwrap();
    assert_eq!(
        std::fs::read(&out).unwrap(),
        std::fs::read(folder.path().join("annotations.json")).unwrap()
    );
    assert_eq!(
        keep_others(&data, &audit.suspects(Filter::Drop(1.0)), &out).unwrap(),
        (2, 4)
    );
}

#[test]
fn three_granularities_are_a_data_set_to_train_with() {
    let folder = folder();
    let data = DataSet::open(folder.path(), Some("train")).unwrap();
    let mut options = LevelsOptions::default();
    let segmenter = segmenter();
    let levels = propose_levels(&segmenter, &data, &options, &mut no_progress).unwrap();
    assert_eq!((levels.objects, levels.skipped.total()), (4, 1));
    let made: usize = levels.made.iter().sum();
    assert_eq!(made + levels.duplicates + levels.low, 12);
    assert!(levels.duplicates >= 3, "two objects have the same click");
    let out = folder.path().join("levels.json");
    levels.write(&out).unwrap();
    let read = || serde_json::from_slice::<Value>(&std::fs::read(&out).unwrap()).unwrap();
    let file = read();
    assert_eq!(file["images"][0]["license"], 7);
    assert_eq!(file["categories"], json!([{"id": 1, "name": "thing"}]));
    let annotations = file["annotations"].as_array().unwrap();
    assert_eq!(annotations.len(), made);
    for a in annotations {
        assert!(["whole", "part", "subpart"].contains(&a["level"].as_str().unwrap()));
        assert!(a["score"].is_f64() && a["stability_score"].is_f64());
        assert!(a["segmentation"]["counts"].is_string() && a["category_id"] == 1);
        assert_eq!(a["point"].as_array().unwrap().len(), 2);
        assert!([1, 2, 4, 6].contains(&a["source"].as_u64().unwrap()));
    }
    let opened = DataSet::open(&out, Some("train")).unwrap();
    assert!(opened.skipped.is_empty() && opened.images.len() == 2);
    let spec = samara_data::DataSpec {
        path: out.clone(),
        max_area_fraction: 1.0,
        ..data_spec(&folder)
    };
    let sampler = samara_data::Sampler::open(&[spec], example_spec(32, 2)).unwrap();
    let mut rng: rand_chacha::ChaCha8Rng = rand::SeedableRng::seed_from_u64(1);
    let example = sampler.draw(&mut rng, &mut Skipped::default()).unwrap();
    assert!(!example.objects.is_empty());

    options.with_annotations = true;
    options.min_score = f64::from(f32::MAX);
    let levels = propose_levels(&segmenter, &data, &options, &mut no_progress).unwrap();
    assert_eq!((levels.low, levels.duplicates), (12, 0));
    levels.write(&out).unwrap();
    let ids = read()["annotations"].as_array().unwrap().clone();
    let ids: Vec<u64> = ids.iter().map(|a| a["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1, 2, 3, 4, 6]);
}

/// Nothing good goes with a suspect that has the same number.
#[test]
fn suspects_whose_numbers_stand_for_two_annotations_are_refused() {
    let folder = folder();
    let audit = audited(&folder);
    let path = folder.path().join("annotations.json");
    let mut file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let suspects = audit.suspects(Filter::Drop(1.0));
    let twice = file["annotations"].as_array().unwrap().iter();
    let mut twice = twice.filter(|a| a["id"] == suspects[0].annotation).cloned();
    let again = twice.next().unwrap();
    file["annotations"].as_array_mut().unwrap().push(again);
    std::fs::write(&path, file.to_string()).unwrap();
    let data = DataSet::open(folder.path(), None).unwrap();
    let out = folder.path().join("kept.json");
    let error = keep_others(&data, &suspects, &out).unwrap_err().to_string();
    assert!(error.contains("two annotations of image"), "{error}");
    assert!(!out.exists());
}
