//! Damages a share of a data set's annotations on purpose, to see whether they are found and whether
//! training without them is better.
//!
//! `cargo run --release --example quality_filter -- DATA OUT [--split train] [--share 0.3] [--seed 1]
//! [--max-iou 0.5] [--limit N]`
//!
//! `OUT/annotations.json` is that of DATA with damaged masks, `OUT/clean.json` is the same without damage,
//! and `OUT/images` leads to the images.
//! Every annotation of the split has two fields more, which nobody reads: `true_iou`, of the mask with
//! what it was, and `damage`. `--limit` keeps N images of the split, evenly spread.
#![allow(clippy::print_stdout, reason = "an example says what it did")]

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use samara_data::{Damage, DataSet, ImageRecord};
use samara_image::{BBox, ImageLimits, Mask, write_atomic};
use serde_json::{Value, json};

/// Draws until a mask is damaged badly enough; there are six kinds.
const TRIES: usize = 60;
/// Masks of other images among which a wrong object is sought.
const STRANGERS: usize = 20;

struct Arguments {
    data: PathBuf,
    out: PathBuf,
    split: String,
    share: f64,
    seed: u64,
    max_iou: f64,
    limit: Option<usize>,
}

impl Arguments {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut arguments = std::env::args().skip(1);
        let usage = "usage: quality_filter DATA OUT [--split train] [--share 0.3] [--seed 1] \
                     [--max-iou 0.5] [--limit N]";
        let (Some(data), Some(out)) = (arguments.next(), arguments.next()) else {
            return Err(usage.into());
        };
        let mut parsed = Self {
            data: data.into(),
            out: out.into(),
            split: "train".into(),
            share: 0.3,
            seed: 1,
            max_iou: 0.5,
            limit: None,
        };
        while let Some(flag) = arguments.next() {
            let value = arguments.next().ok_or(usage)?;
            match flag.as_str() {
                "--split" => parsed.split = value,
                "--share" => parsed.share = value.parse()?,
                "--seed" => parsed.seed = value.parse()?,
                "--limit" => parsed.limit = Some(value.parse()?),
                "--max-iou" => parsed.max_iou = value.parse()?,
                _ => return Err(usage.into()),
            }
        }
        if !(0.0..=1.0).contains(&parsed.share) {
            return Err(format!("--share {}: expected 0 to 1", parsed.share).into());
        }
        Ok(parsed)
    }
}

/// What became of an annotation.
struct Outcome {
    mask: Mask,
    true_iou: f64,
    damage: Option<Damage>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse()?;
    let split = (arguments.split != "all").then_some(arguments.split.as_str());
    let mut data = DataSet::open(&arguments.data, split)?;
    let left_out = thin_out(&mut data.images, arguments.limit);
    let annotations = data.annotations.as_ref();
    let annotations = annotations.ok_or("label maps: a COCO data set is needed")?;
    let mut file: Value = serde_json::from_slice(&fs::read(annotations)?)?;

    drop_images(&mut file, &left_out);
    fs::create_dir_all(&arguments.out)?;
    let clean = serde_json::to_string(&file)?;
    write_atomic(arguments.out.join("clean.json"), clean.as_bytes())?;
    let outcomes = damage_all(&data, &arguments);
    let (mut count, mut damaged) = (0, 0);
    let list = file["annotations"].as_array_mut();
    for annotation in list.ok_or("the file holds no annotations")? {
        let key = (annotation["image_id"].as_u64(), annotation["id"].as_u64());
        if let (Some(image), Some(id)) = key
            && let Some(outcome) = outcomes.get(&(image, id))
        {
            outcome.write(annotation);
            count += 1;
            damaged += usize::from(outcome.damage.is_some());
        }
    }
    link(
        &data.image_dir.canonicalize()?,
        &arguments.out.join("images"),
    )?;
    let out = arguments.out.join("annotations.json");
    write_atomic(&out, serde_json::to_string(&file)?.as_bytes())?;
    println!(
        "{damaged} of {count} annotations damaged, skipped: {}",
        data.skipped
    );
    println!("wrote {}", out.display());
    Ok(())
}

/// Keeps `limit` images, evenly spread; gives the ids of the others.
fn thin_out(images: &mut Vec<ImageRecord>, limit: Option<usize>) -> HashSet<u64> {
    let count = images.len();
    let limit = limit.unwrap_or(count).min(count);
    let kept: HashSet<u64> = (0..limit).map(|i| images[i * count / limit].id).collect();
    let left_out = images.iter().map(|image| image.id);
    let left_out = left_out.filter(|id| !kept.contains(id)).collect();
    images.retain(|image| kept.contains(&image.id));
    left_out
}

fn drop_images(file: &mut Value, left_out: &HashSet<u64>) {
    for (list, key) in [("images", "id"), ("annotations", "image_id")] {
        let kept = |record: &Value| {
            record[key]
                .as_u64()
                .is_none_or(|id| !left_out.contains(&id))
        };
        if let Some(records) = file[list].as_array_mut() {
            records.retain(kept);
        }
    }
}

/// All annotations of the split but crowds, by image and id; a share of them damaged.
fn damage_all(data: &DataSet, arguments: &Arguments) -> HashMap<(u64, u64), Outcome> {
    let limits = ImageLimits::default();
    let masks: Vec<Vec<(u64, Mask)>> = data.images.iter().map(|i| masks(i, &limits)).collect();
    let mut places: Vec<(usize, usize)> = Vec::new();
    for (image, masks) in masks.iter().enumerate() {
        places.extend((0..masks.len()).map(|object| (image, object)));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(arguments.seed);
    for i in (1..places.len()).rev() {
        places.swap(i, rng.random_range(0..=i));
    }
    let chosen = (arguments.share * places.len() as f64).round() as usize;
    let mut outcomes = HashMap::with_capacity(places.len());
    let mut damaged = 0;
    for &(image, object) in &places {
        let (id, truth) = &masks[image][object];
        // The mask of another object of the same image would be as good to learn from as any.
        let mut others: Vec<&Mask> = Vec::new();
        for _ in 0..STRANGERS {
            let (other, object) = places[rng.random_range(0..places.len())];
            if other != image {
                others.push(&masks[other][object].1);
            }
        }
        // Where no damage takes, the next in line is damaged instead.
        let damage = if damaged < chosen {
            damage(truth, &others, arguments.max_iou, &mut rng)
        } else {
            None
        };
        damaged += usize::from(damage.is_some());
        let outcome = damage.unwrap_or_else(|| Outcome {
            mask: truth.clone(),
            true_iou: 1.0,
            damage: None,
        });
        outcomes.insert((data.images[image].id, *id), outcome);
    }
    outcomes
}

fn masks(record: &ImageRecord, limits: &ImageLimits) -> Vec<(u64, Mask)> {
    let objects = record.objects.iter().filter(|object| !object.iscrowd);
    let masks = objects.filter_map(|object| Some((object.id, record.mask(object, limits).ok()?)));
    masks.collect()
}

fn damage(truth: &Mask, others: &[&Mask], max_iou: f64, rng: &mut ChaCha8Rng) -> Option<Outcome> {
    for _ in 0..TRIES {
        let damage = Damage::ALL[rng.random_range(0..Damage::ALL.len())];
        if let Some(mask) = damage.apply(truth, others, rng) {
            let true_iou = mask.iou(truth);
            if true_iou <= max_iou {
                let damage = Some(damage);
                return Some(Outcome {
                    mask,
                    true_iou,
                    damage,
                });
            }
        }
    }
    None
}

impl Outcome {
    fn write(&self, annotation: &mut Value) {
        annotation["true_iou"] = json!(self.true_iou);
        annotation["damage"] = json!(self.damage);
        if self.damage.is_some() {
            annotation["segmentation"] = json!(self.mask.to_rle());
            annotation["area"] = json!(self.mask.area());
            annotation["bbox"] = json!(self.mask.bbox().as_ref().map(BBox::xywh));
        }
    }
}

/// Leads to the images without copying them, where the system allows it.
fn link(images: &Path, link: &Path) -> std::io::Result<()> {
    if link.is_dir() {
        return Ok(());
    }
    #[cfg(unix)]
    return std::os::unix::fs::symlink(images, link);
    #[cfg(not(unix))]
    return copy(images, link);
}

#[cfg(not(unix))]
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let from = entry?.path();
        let to = to.join(from.file_name().unwrap_or_default());
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}
