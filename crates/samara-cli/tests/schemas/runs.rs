//! What the commands write and read, with the small models of the tests.

use std::collections::BTreeSet;
use std::fs;

use samara_image::{save_object_map, save_png};
use serde_json::{Map, Value, json};

use crate::common::{self, Bench, disc, model, npy, photo, run, stderr};
use crate::{Document, check_sum, validator};

/// One for each command: what it wrote, and what it read.
pub(crate) const RUNS: [fn() -> Vec<Document>; 11] = [
    segment,
    segment_prompts,
    everything,
    video,
    attention,
    quality,
    eval,
    eval_video,
    levels,
    bench_and_models,
    train,
];

fn read(bench: &Bench, name: &str) -> Value {
    serde_json::from_slice(&fs::read(bench.path(name)).unwrap()).unwrap()
}

/// The lines of a journal by what they are: a header, then `entries`.
#[track_caller]
fn journal(
    bench: &Bench,
    file: &str,
    schema: &'static str,
    entries: &[&'static str],
) -> Vec<Document> {
    let text = fs::read_to_string(bench.path(file)).unwrap();
    let kinds = std::iter::once("header").chain(entries.iter().copied());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), entries.len() + 1, "{text}");
    let mut documents = Vec::new();
    for (line, kind) in lines.into_iter().zip(kinds) {
        let value: Value = serde_json::from_str(line).unwrap();
        check_sum(line, &value);
        assert_eq!(value.get("crc32").is_some(), kind != "header");
        documents.push((schema, Some(kind), value.clone()));
        documents.push((schema, None, value));
    }
    documents
}

/// The JSON of a command on stdout.
#[track_caller]
fn json_of(bench: &Bench, args: &[&str]) -> Value {
    let output = bench.run(args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn succeeds(bench: &Bench, command: &str, args: &[&str]) {
    let output = run(bench, command, args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
}

fn segment() -> Vec<Document> {
    let bench = Bench::new();
    let boxes = ["--box=10,5,60,50", "--box=30,10,90,60", "--label=thing"];
    let mut answers = vec![
        bench.json(&["--point", "40,30"]),
        bench.json(&boxes),
        bench.json(&["--point=40,30", "--select=union"]),
    ];
    assert_eq!(answers[1]["objects"].as_array().unwrap().len(), 2);
    let union = &answers[2]["objects"][0]["selected"];
    assert!(union["index"].is_null(), "{union}");
    // The embedded model, which has a candidate head.
    save_png(bench.path("large.png"), &photo(240, 180, 0)).unwrap();
    let near = ["segment", "large.png", "--point=120,90", "--zoom=4"];
    let answer = json_of(&bench, &[&near[..], &["--json=-"]].concat());
    let object = &answer["objects"][0];
    assert!(object["zoom"].is_object(), "{object}");
    let probability = &object["selected"]["match_probability"];
    assert!(probability.is_number(), "{probability}");
    answers.push(answer);
    let of_schema = |answer| ("segment", None, answer);
    answers.into_iter().map(of_schema).collect()
}

fn segment_prompts() -> Vec<Document> {
    let bench = Bench::new();
    let prompts = json!([
        {"image": "photo.png", "label": "cat", "points": [[40, 30], [90.5, 5, 0]], "single": true},
        {"image": "photo.png", "label": null, "box": [60, 50, 10, 5], "mask": null},
        {"image": "gone.png", "mask": "mask.png"},
    ]);
    disc().save_png(bench.path("mask.png")).unwrap();
    bench.write("prompts.json", prompts.to_string().as_bytes());
    let files = ["--prompts=prompts.json", "--out=out", "--format=json,coco"];
    let output = run(&bench, "segment", &files);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let entries = ["done", "failed"];
    let mut documents = journal(
        &bench,
        "out/objects.jsonl",
        "segment.objects-line",
        &entries,
    );
    let union = ["--point=40,30", "--select=union", "--format=coco"];
    let image = [&["photo.png", "--out=union"], &union[..]].concat();
    succeeds(&bench, "segment", &image);
    for name in ["out/annotations.json", "union/annotations.json"] {
        documents.push(("segment.annotations", None, read(&bench, name)));
    }
    documents.push(("segment", None, read(&bench, "out/photo.json")));
    for prompt in prompts.as_array().unwrap() {
        documents.push(("segment.prompts", Some("prompt"), prompt.clone()));
    }
    documents.push(("segment.prompts", None, prompts));
    let without = json!({"image": "photo.png", "points": []});
    assert!(!validator("segment.prompts", Some("prompt")).is_valid(&without));
    documents
}

fn everything() -> Vec<Document> {
    let bench = Bench::new();
    fs::create_dir(bench.path("photos")).unwrap();
    fs::copy(bench.path("photo.png"), bench.path("photos/a.png")).unwrap();
    bench.write("photos/b.png", b"no image");
    let grids = json!([[[0.25, 0.5], [0.75, 0.5], [0.5, 0.5]]]);
    bench.write("grids.json", grids.to_string().as_bytes());
    let all = ["--pred-iou-thresh=0", "--stability-score-thresh=0"];
    let grid = "--point-grids=grids.json";
    let mut documents = vec![("everything.point-grids", None, grids)];
    let formats = ["photos", "--out=many", "--format=json,coco", grid];
    let output = run(&bench, "everything", &[&formats[..], &all].concat());
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let entries = ["done", "failed"];
    let manifest = "everything.manifest-line";
    documents.extend(journal(&bench, "many/manifest.jsonl", manifest, &entries));
    let shard = ["photos", "--out=shards", "--shard=1/1", grid];
    run(&bench, "everything", &[&shard[..], &all].concat());
    let of_shard = "shards/manifest.shards/1-of-1.jsonl";
    documents.extend(journal(&bench, of_shard, manifest, &entries));
    for mode in ["coco_rle", "uncompressed_rle"] {
        let (out, mode) = (format!("--out={mode}"), format!("--output-mode={mode}"));
        let args = [
            "photo.png",
            "--format=json",
            &out,
            &mode,
            "--points-per-side=2",
        ];
        succeeds(&bench, "everything", &[&args[..], &all].concat());
        let masks = read(&bench, &format!("{}/photo.png.json", &out[6..]));
        assert!(!masks.as_array().unwrap().is_empty(), "{mode}");
        documents.push(("everything", None, masks));
    }
    let coco = read(&bench, "many/annotations.json");
    documents.push(("everything.annotations", None, coco));
    documents
}

/// A folder `frames` of images that change little.
fn with_frames() -> Bench {
    let bench = Bench::new();
    fs::create_dir(bench.path("frames")).unwrap();
    for frame in 0..3 {
        let path = bench.path(&format!("frames/{frame}.png"));
        save_png(path, &photo(96, 64, frame)).unwrap();
    }
    bench
}

fn video() -> Vec<Document> {
    let bench = with_frames();
    let prompts = json!([
        {"frame": 0, "object": 1, "points": [[48, 32, 1], [2, 2.5, 0]]},
        {"frame": 0, "object": 300, "box": [28, 12, 68, 52]},
    ]);
    bench.write("prompts.json", prompts.to_string().as_bytes());
    save_object_map(bench.path("map.png"), (96, 64), &[(3, &disc())]).unwrap();
    let given = ["--prompts=prompts.json", "--masks=0:map.png"];
    let args = ["frames", "--out=out", "--format=json"];
    succeeds(&bench, "video", &[&args[..], &given].concat());
    let entries = ["frame"; 3];
    let mut documents = journal(&bench, "out/frames.jsonl", "video.frames-line", &entries);
    documents.push(("video.masklets", None, read(&bench, "out/masklets.json")));
    documents.push(("video.prompts", None, prompts));
    documents
}

fn attention() -> Vec<Document> {
    let bench = Bench::new();
    let values = (0..2 * 10 * 15).map(|i: u16| 1.0 / f32::from(1 + i % 150 % 17));
    let data: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    bench.write("heads.npy", &npy("<f4", &[2, 10, 15], &data));
    bench.write("map.npy", &npy("<f4", &[10, 15], &data[..600]));
    let prompts: [&[&str]; 2] = [&["heads.npy", "--point=48,32"], &["map.npy"]];
    let mut documents = Vec::new();
    for args in prompts {
        let model = ["--checkpoint", &model(), "--json=-"];
        let args = [&["attention", "photo.png"], args, &model].concat();
        documents.push(("attention", None, json_of(&bench, &args)));
    }
    documents
}

fn quality() -> Vec<Document> {
    let polygon: &[u32] = &[30, 15, 65, 15, 65, 50, 30, 50];
    let bench = Bench::new().with_data(&["val"], &[(1, polygon), (1, polygon)]);
    disc().save_png(bench.path("mask.png")).unwrap();
    let image = ["photo.png", "--mask=mask.png"];
    let data = common::json_of(&bench, &["data"]);
    let duplicate = &data["annotations"][0]["duplicate_of"];
    assert!(duplicate.is_number(), "{data}");
    vec![
        ("quality.image", None, common::json_of(&bench, &image)),
        ("quality.data", None, data),
    ]
}

fn eval() -> Vec<Document> {
    let objects: [(_, &[_]); 3] = [
        (1, &[30, 12, 66, 12, 66, 52, 30, 52]),
        (1, &[5, 5, 25, 5, 25, 30, 5, 30]),
        (2, &[20, 20, 80, 20, 50, 60]),
    ];
    let bench = Bench::new().with_data(&["val", "val"], &objects);
    let model = model();
    let eval = |args: &[&str]| {
        let all = ["eval", "data", "--checkpoint", &model, "--json=-"];
        json_of(&bench, &[&all, args].concat())
    };
    let grid = ["--points-per-side=2", "--pred-iou-thresh=0"];
    let grid = [&["--everything", "--stability-score-thresh=0"], &grid[..]].concat();
    let compared = eval(&["--clicks=5", "--noc", "--compare", &model]);
    assert!(compared["difference"].is_object(), "{compared}");
    vec![
        (
            "eval.clicks",
            None,
            eval(&["--clicks=1", "--clicks-at=center"]),
        ),
        ("eval.clicks", None, compared),
        ("eval.everything", None, eval(&grid)),
    ]
}

fn eval_video() -> Vec<Document> {
    let bench = Bench::new();
    let [images, maps] = ["JPEGImages", "Annotations"].map(|folder| {
        let path = bench.path(&format!("videos/{folder}/clip"));
        fs::create_dir_all(&path).unwrap();
        path
    });
    for frame in 0..4 {
        save_png(images.join(format!("{frame}.png")), &photo(96, 64, frame)).unwrap();
        let map = maps.join(format!("{frame}.png"));
        save_object_map(map, (96, 64), &[(1, &disc())]).unwrap();
    }
    let eval = |args: &[&str]| {
        let all = ["eval", "videos", "--video", "--json=-"];
        json_of(&bench, &[&all, args].concat())
    };
    let given = eval(&["--predictions=videos/Annotations"]);
    assert!(given["model"].is_null(), "{given}");
    let tracked = eval(&["--checkpoint", &model()]);
    [given, tracked]
        .map(|report| ("eval.video", None, report))
        .into()
}

fn levels() -> Vec<Document> {
    let objects: [(_, &[_]); 1] = [(1, &[30, 12, 66, 12, 66, 52, 30, 52])];
    let bench = Bench::new().with_data(&["val"], &objects);
    succeeds(
        &bench,
        "levels",
        &["data", "--out=data/levels.json", "--with-annotations"],
    );
    let levels = read(&bench, "data/levels.json");
    assert!(levels["annotations"].as_array().unwrap().len() > 1);
    vec![("levels", None, levels)]
}

fn bench_and_models() -> Vec<Document> {
    let bench = Bench::new();
    let model = model();
    let once = ["--repeat=1", "--prompts=2", "--json=-"];
    let measured = ["bench", "photo.png", "--checkpoint", &model];
    vec![
        (
            "bench",
            None,
            json_of(&bench, &[&measured, &once[..]].concat()),
        ),
        (
            "models.list",
            None,
            json_of(&bench, &["models", "list", "--json"]),
        ),
        (
            "models.info",
            None,
            json_of(&bench, &["models", "info", &model, "--json"]),
        ),
        (
            "models.info",
            None,
            json_of(&bench, &["models", "info", "lite", "--json"]),
        ),
    ]
}

const RECIPE: &str = "seed = 3
checkpoint_every = 2
[model]
random = 'tiny.safetensors'
[[data]]
path = 'data'
[prompts]
recipe = 'sam'
[losses]
weights = { focal = 20.0, dice = 1.0, iou = 1.0, object_score = 0.0 }
iou = { kind = 'l1', supervise_all = true }
[optimizer]
lr = 0.001
warmup = 1
clip_norm = 1.0
[[stages]]
steps = 2
masks_per_image = 1
rounds = [1, 1]
freeze = ['image_encoder.']
[validation]
examples = 1
every = 1
[[validation.data]]
path = 'data'
";

fn train() -> Vec<Document> {
    let objects: [(_, &[_]); 1] = [(1, &[30, 12, 66, 12, 66, 52, 30, 52])];
    let bench = Bench::new().with_data(&["train"], &objects);
    bench.tiny_model();
    bench.write("recipe.toml", RECIPE.as_bytes());
    let output = bench.run(&["train", "recipe.toml", "--out=run"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let log = fs::read_to_string(bench.path("run/log.jsonl")).unwrap();
    let line = |line| {
        let value: Map<String, Value> = serde_json::from_str(line).unwrap();
        let is_step = !value.contains_key("validation");
        let kind = if is_step { "step" } else { "validation" };
        ("train.log-line", Some(kind), Value::Object(value))
    };
    let lines: Vec<Document> = log.lines().map(line).collect();
    let kinds: BTreeSet<_> = lines.iter().map(|line| line.1).collect();
    assert_eq!(kinds.len(), 2, "{log}");
    lines
}
