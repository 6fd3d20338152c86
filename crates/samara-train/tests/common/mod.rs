//! Small data sets and recipes, and runs of them.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Once, OnceLock};

use samara_image::{Mask, Rgb, RgbImage, save_png};
use samara_model::ModelConfig;
use samara_model::burn::tensor::Device;
use samara_model::checkpoint::{StorageType, save_model};
use samara_model::mobile_sam::TinyViTConfig;
use samara_model::sam::{
    ImageEncoderConfig, MaskDecoderConfig, PromptEncoderConfig, SamConfig, TwoWayTransformerConfig,
};
use samara_train::step::StepMetrics;
use samara_train::{Recipe, StepReport, TrainError, Trainer, Watcher};
use serde_json::json;
use tempfile::TempDir;

/// A folder with a COCO data set `shapes`: coloured shapes on noise, one or two per image.
pub(crate) struct Bench {
    folder: TempDir,
}

impl Bench {
    pub(crate) fn new(count: u32, side: u32) -> Self {
        static POOL: Once = Once::new();
        POOL.call_once(|| {
            samara_kernels::denormals::flush_denormals_in_pool(None);
        });
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::write(bench.path("tiny.safetensors"), tiny_file()).unwrap();
        std::fs::create_dir_all(bench.path("shapes/images")).unwrap();
        let (mut images, mut annotations) = (Vec::new(), Vec::new());
        for id in 0..count {
            let masks = shapes(id, side);
            let name = format!("{id}.png");
            let path = bench.path("shapes/images").join(&name);
            save_png(path, &image(id, side, &masks)).unwrap();
            images.push(json!({"id": id, "file_name": name, "width": side, "height": side}));
            for mask in masks {
                let rle = serde_json::to_value(mask.to_rle()).unwrap();
                let number = annotations.len();
                annotations.push(json!({
                    "id": number, "image_id": id, "category_id": 1, "area": mask.area(),
                    "segmentation": rle,
                }));
            }
        }
        let categories = json!([{"id": 1, "name": "shape"}]);
        let file = json!({
            "images": images, "annotations": annotations, "categories": categories,
        });
        std::fs::write(bench.path("shapes/annotations.json"), file.to_string()).unwrap();
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Reads a recipe of this text.
    pub(crate) fn recipe(&self, text: &str) -> Recipe {
        let path = self.path("recipe.toml");
        std::fs::write(&path, text).unwrap();
        Recipe::read(&path).unwrap()
    }

    /// Runs a recipe in the folder `out` and gives what was seen.
    pub(crate) fn run(&self, text: &str, out: &str) -> Result<Seen, TrainError> {
        self.run_until(text, out, u64::MAX)
    }

    /// As [`Bench::run`], stopped after `last` steps.
    pub(crate) fn run_until(&self, text: &str, out: &str, last: u64) -> Result<Seen, TrainError> {
        let recipe = self.recipe(text);
        let mut seen = Seen::new(last);
        let mut trainer = Trainer::new(recipe, &self.path(out), &Device::flex())?;
        let stop = std::sync::Arc::clone(&seen.stop);
        let result = trainer.run(&mut seen, &stop);
        seen.skipped = trainer.skipped();
        result.map(|_| seen)
    }

    /// The values of the finished model by official key.
    pub(crate) fn weights(&self, out: &str) -> BTreeMap<String, Vec<u8>> {
        tensors(&self.path(out).join("model.safetensors"))
    }
}

/// A MobileSAM of 280 000 values for images of 128 pixels.
fn tiny_sam() -> ModelConfig {
    let (width, side, grid) = (64, 128, 8);
    let encoder = TinyViTConfig::new(
        vec![16, 32, 48, 64],
        vec![1; 4],
        vec![1, 2, 2, 2],
        vec![7; 4],
    );
    let encoder = ImageEncoderConfig::TinyViT(encoder.with_out_chans(width));
    let prompts = PromptEncoderConfig::new().with_embed_dim(width);
    let prompts = prompts.with_grid(grid).with_img_size(side);
    let transformer = TwoWayTransformerConfig::new().with_embedding_dim(width);
    let transformer = transformer.with_num_heads(2).with_mlp_dim(128);
    let decoder = MaskDecoderConfig::new(transformer).with_iou_head_hidden_dim(width);
    SamConfig::new(encoder, prompts, decoder).into()
}

/// A file of the model crate's references.
pub(crate) fn golden(name: &str) -> String {
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .join("../samara-model/tests/golden");
    folder.join(name).to_str().unwrap().to_owned()
}

/// The file of [`tiny_sam`]. Its values are drawn once, before anything is trained: a test that drew them later would
/// take numbers out of the row of another, as the tensor library has one generator for all.
fn tiny_file() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.safetensors");
        let (config, f32) = (tiny_sam(), StorageType::F32);
        let model = config.init(&Device::flex());
        save_model(&model, &config, &BTreeMap::new(), &[], f32, &path).unwrap();
        std::fs::read(path).unwrap()
    })
}

/// The tensors of a file as bytes.
pub(crate) fn tensors(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    file.iter()
        .map(|(key, view)| (key.to_owned(), view.data().to_vec()))
        .collect()
}

/// What a run told.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) steps: Vec<StepReport>,
    pub(crate) validations: Vec<StepMetrics>,
    pub(crate) notes: Vec<String>,
    pub(crate) skipped: u64,
    last: u64,
    stop: std::sync::Arc<AtomicBool>,
}

impl Seen {
    fn new(last: u64) -> Self {
        Self {
            steps: Vec::new(),
            validations: Vec::new(),
            notes: Vec::new(),
            skipped: 0,
            last,
            stop: std::sync::Arc::default(),
        }
    }
}

impl Watcher for Seen {
    fn step(&mut self, report: &StepReport) {
        self.steps.push(*report);
        if report.step >= self.last {
            self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn validation(&mut self, _: u64, metrics: &StepMetrics) {
        self.validations.push(*metrics);
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }
}

/// A disc or a rectangle of about a third of the side, and in every second image another one.
fn shapes(id: u32, side: u32) -> Vec<Mask> {
    let disc = |cx: u32, cy: u32, r: u32| {
        Mask::from_fn(side, side, |x, y| {
            x.abs_diff(cx).pow(2) + y.abs_diff(cy).pow(2) <= r * r
        })
    };
    let rectangle = |x0: u32, y0: u32, w: u32, h: u32| {
        Mask::from_fn(side, side, |x, y| {
            (x0..x0 + w).contains(&x) && (y0..y0 + h).contains(&y)
        })
    };
    let unit = side / 16;
    let shift = unit * (id % 3);
    let first = if id.is_multiple_of(2) {
        disc(5 * unit + shift, 5 * unit, 4 * unit)
    } else {
        rectangle(2 * unit + shift, unit, 5 * unit, 7 * unit)
    };
    let mut masks = vec![first];
    if id % 4 < 2 {
        masks.push(rectangle(4 * unit, 10 * unit, 8 * unit - shift, 4 * unit));
    }
    masks
}

/// Noise, with a colour for every shape.
fn image(id: u32, side: u32, masks: &[Mask]) -> RgbImage {
    let colours = [[230, 60, 40], [50, 190, 70], [60, 80, 220], [220, 200, 40]];
    let mut noise = 12_345 + id;
    RgbImage::from_fn(side, side, |x, y| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let grey = 100 + (noise >> 24) as u8 % 56;
        let shape = masks.iter().position(|mask| mask.get(x, y));
        shape.map_or(Rgb([grey; 3]), |i| {
            let colour = colours[(id as usize + 3 * i) % 4];
            Rgb(colour.map(|c: u8| c.saturating_add(grey % 24)))
        })
    })
}

/// A recipe for that MobileSAM, with random weights, on `shapes`. `more` are keys of the top level.
pub(crate) fn recipe(more: &str, lr: f64, stages: &str) -> String {
    format!(
        "{more}
[model]
random = 'tiny.safetensors'
{}
[optimizer]
lr = {lr:?}
warmup = 10
clip_norm = 1.0
weight_decay = 0.01
{stages}",
        middle(true)
    )
}

/// Data, prompts and losses of a recipe; images as they are, or varied.
pub(crate) fn middle(plain: bool) -> String {
    let augmentation = "[augmentation]
scale = [1.0, 1.0]
flip = 0.0
brightness = 0.0
contrast = 0.0
saturation = 0.0
min_pixels = 1
min_visible = 0.0
";
    format!(
        "{}[[data]]
path = 'shapes'
[prompts]
recipe = 'sam'
[losses]
weights = {{ focal = 20.0, dice = 1.0, iou = 1.0, object_score = 0.0 }}
iou = {{ kind = 'l1', supervise_all = true }}
",
        if plain { augmentation } else { "" }
    )
}
