//! Annotations of three granularities from one click on every annotated object.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use samara::{Embedding, Granularity, ImageLimits, Mask, Prompt, Segmenter};
use samara_data::CocoId;
use samara_image::{Rle, write_atomic_with};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{AT_ONCE, DUPLICATE_IOU, embed, load};
use samara_data::{DataError, DataSet, ImageRecord, ObjectRecord, Skipped};
use samara_eval::{EvalError, spread};

use crate::Result;

/// What is proposed.
#[derive(Debug, Clone, Default)]
pub struct LevelsOptions {
    /// At most as many images, evenly spread.
    pub limit: Option<usize>,
    /// Candidates with a lower predicted IoU are skipped.
    pub min_score: f64,
    /// Whether the annotations of the data set are written too.
    pub with_annotations: bool,
    /// Limits for images.
    pub limits: ImageLimits,
}

/// Annotations of three granularities.
#[derive(Debug, Clone)]
pub struct Levels {
    /// Name of the data set.
    pub name: String,
    /// Objects that were clicked.
    pub objects: usize,
    /// Annotations that were made, by level: whole, part, subpart.
    pub made: [usize; 3],
    /// Candidates that an object before or another level had given already.
    pub duplicates: usize,
    /// Candidates with too low a score, or without a pixel.
    pub low: usize,
    /// Records that could not be used.
    pub skipped: Skipped,
    images: Vec<Value>,
    categories: Vec<Value>,
    annotations: Vec<Annotation>,
}

/// COCO's fields, then ours.
#[derive(Debug, Clone, Serialize)]
struct Annotation {
    id: u64,
    image_id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    category_id: Option<u64>,
    iscrowd: u8,
    bbox: [f64; 4],
    area: f64,
    segmentation: Rle,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotator: Option<u32>,
    #[serde(flatten)]
    origin: Option<Origin>,
}

/// How a candidate came about.
#[derive(Debug, Clone, Serialize)]
struct Origin {
    /// The predicted IoU.
    score: f32,
    stability_score: f32,
    /// The annotation that was clicked.
    source: u64,
    /// The click, in original pixels.
    point: [f64; 2],
}

/// A candidate whose mask is still at hand.
struct Proposal {
    mask: Mask,
    level: Granularity,
    category_id: Option<u64>,
    origin: Origin,
}

/// What annotations say beside images and masks.
#[derive(Deserialize)]
struct Head {
    images: Vec<Value>,
    #[serde(default)]
    categories: Vec<Value>,
}

impl Head {
    fn of(data: &DataSet) -> Result<Self, DataError> {
        let Some(path) = &data.annotations else {
            let images = data.images.iter().map(|record| image_value(record, data));
            let categories = Vec::new();
            let images = images.collect();
            return Ok(Self { images, categories });
        };
        let refuse = |what: String| DataError::DataSet {
            path: path.clone(),
            what,
        };
        let file = std::fs::read(path).map_err(|e| refuse(format!("cannot be read: {e}")))?;
        let head: Self = serde_json::from_slice(&file)
            .map_err(|e| refuse(format!("not COCO annotations: {e}")))?;
        Ok(head.with_numbers())
    }

    /// Ids that are texts, as the numbers that they stand for: what is written has numbers alone.
    fn with_numbers(mut self) -> Self {
        for record in self.images.iter_mut().chain(&mut self.categories) {
            if let Ok(CocoId(id)) = CocoId::deserialize(&record["id"]) {
                record["id"] = id.into();
            }
        }
        self
    }

    /// Their ids by name; where there are none, all objects are of one category.
    fn category_ids(&mut self) -> HashMap<String, u64> {
        if self.categories.is_empty() {
            self.categories.push(json!({"id": 1, "name": "object"}));
        }
        let ids = self.categories.iter().rev().filter_map(|category| {
            let name = category["name"].as_str()?.to_owned();
            Some((name, category["id"].as_u64()?))
        });
        ids.collect()
    }
}

fn image_value(record: &ImageRecord, data: &DataSet) -> Value {
    let name = record
        .path
        .strip_prefix(&data.image_dir)
        .unwrap_or(&record.path);
    let parts: Vec<_> = name.iter().map(|part| part.to_string_lossy()).collect();
    json!({
        "id": record.id,
        "file_name": parts.join("/"),
        "width": record.width,
        "height": record.height,
        "split": record.split,
    })
}

/// Clicks on every object of a data set where it is deepest, and takes the three candidates of the
/// answer. Of candidates of one image that are nearly the same (IoU above 0.95) the one with the
/// best score stays. Regions of many objects (`iscrowd`) are not clicked.
///
/// `progress` hears of every image (done, all) and can stop.
///
/// # Errors
/// The data set holds nothing to click on, the device failed, or `progress` said so. Single bad
/// records are [skipped](Levels::skipped).
pub fn propose_levels(
    segmenter: &Segmenter,
    data: &DataSet,
    options: &LevelsOptions,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Levels> {
    let mut head = Head::of(data)?;
    let category_ids = head.category_ids();
    let mut levels = Levels {
        name: data.name.clone(),
        objects: 0,
        made: [0; 3],
        duplicates: 0,
        low: 0,
        skipped: data.skipped.clone(),
        images: Vec::new(),
        categories: head.categories,
        annotations: Vec::new(),
    };
    let only = (category_ids.len() == 1 && data.annotations.is_none()).then_some(1);
    let category = |object: &ObjectRecord| {
        let named = object.category.as_ref();
        named
            .and_then(|name| category_ids.get(name).copied())
            .or(only)
    };
    let mut used = HashSet::new();
    let images: Vec<&ImageRecord> = spread(data.images.iter().collect(), options.limit);
    for (i, record) in images.iter().enumerate() {
        if progress(i, images.len()).is_break() {
            return Err(EvalError::Cancelled.into());
        }
        if levels.add(segmenter, record, options, &category)? {
            used.insert(record.id);
        }
    }
    // The last word may come too late to stop anything.
    let _ = progress(images.len(), images.len());
    if levels.objects == 0 {
        let (name, skipped) = (levels.name, &levels.skipped);
        let reason = format!("{} images, skipped: {skipped}", images.len());
        return Err(EvalError::Empty { name, reason }.into());
    }
    let mut wanted = |image: &Value| image["id"].as_u64().is_some_and(|id| used.remove(&id));
    levels.images = head.images.into_iter().filter(|i| wanted(i)).collect();
    levels.number();
    Ok(levels)
}

impl Levels {
    /// Writes the annotations as COCO.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> samara::Result<()> {
        Ok(write_atomic_with(path, |file| {
            file.write_all(b"{\"images\":[")?;
            write_lines(file, &self.images)?;
            file.write_all(b"],\n\"categories\":[")?;
            write_lines(file, &self.categories)?;
            file.write_all(b"],\n\"annotations\":[")?;
            write_lines(file, &self.annotations)?;
            file.write_all(b"]}\n")
        })?)
    }

    /// What was made, in one line.
    pub fn outline(&self) -> String {
        let [whole, part, subpart] = self.made;
        format!(
            "{}: {} images, {} objects: {whole} wholes, {part} parts, {subpart} subparts; \
             {} candidates were there already, {} had too low a score; skipped: {}",
            self.name,
            self.images.len(),
            self.objects,
            self.duplicates,
            self.low,
            self.skipped
        )
    }

    /// Whether the image could be used.
    fn add(
        &mut self,
        segmenter: &Segmenter,
        record: &ImageRecord,
        options: &LevelsOptions,
        category: &dyn Fn(&ObjectRecord) -> Option<u64>,
    ) -> Result<bool> {
        let Some(image) = load(record, &options.limits, &mut self.skipped) else {
            return Ok(false);
        };
        let mut objects = Vec::with_capacity(record.objects.len());
        for object in &record.objects {
            match record.mask(object, &options.limits) {
                Ok(mask) => {
                    if options.with_annotations {
                        let annotation = original(record, object, &mask, category(object));
                        self.annotations.push(annotation);
                    }
                    if !object.iscrowd {
                        objects.push((object, mask));
                    }
                }
                Err(bad) => self.skipped.add(bad),
            }
        }
        if objects.is_empty() {
            return Ok(true);
        }
        let Some(embedding) = embed(segmenter, record, &image, &mut self.skipped)? else {
            return Ok(false);
        };
        let mut proposals = Vec::with_capacity(3 * objects.len());
        for chunk in objects.chunks(AT_ONCE) {
            proposals.extend(propose(&embedding, chunk, category)?);
        }
        self.objects += objects.len();
        self.keep(record, proposals, options);
        Ok(true)
    }

    /// The proposals that are good enough and not there yet, best first.
    fn keep(&mut self, record: &ImageRecord, proposals: Vec<Proposal>, options: &LevelsOptions) {
        let count = proposals.len();
        let mut good: Vec<Proposal> = proposals
            .into_iter()
            .filter(|p| f64::from(p.origin.score) >= options.min_score && !p.mask.is_empty())
            .collect();
        self.low += count - good.len();
        good.sort_by(|a, b| b.origin.score.total_cmp(&a.origin.score));
        let mut kept: Vec<Proposal> = Vec::new();
        for proposal in good {
            if kept
                .iter()
                .any(|k| k.mask.iou(&proposal.mask) > DUPLICATE_IOU)
            {
                self.duplicates += 1;
                continue;
            }
            kept.push(proposal);
        }
        // In the order of the objects, each from whole to subpart.
        let place = |level| Granularity::ALL.iter().position(|&l| l == level);
        kept.sort_by_key(|p| (p.origin.source, place(p.level)));
        for proposal in kept {
            if let Some(place) = place(proposal.level) {
                self.made[place] += 1;
            }
            self.annotations.push(proposal.annotation(record));
        }
    }

    /// Gives the candidates ids behind those of the annotations, and all of them new ones where ids
    /// are not unique, as the labels of label maps.
    fn number(&mut self) {
        let originals = || self.annotations.iter().filter(|a| a.origin.is_none());
        let ids: HashSet<u64> = originals().map(|a| a.id).collect();
        let unique = ids.len() == originals().count();
        let behind = ids.iter().max().and_then(|most| most.checked_add(1));
        let keeps = unique && (behind.is_some() || ids.is_empty());
        let mut next = if keeps { behind.unwrap_or(1) } else { 1 };
        for annotation in &mut self.annotations {
            if annotation.origin.is_some() || !keeps {
                annotation.id = next;
                next += 1;
            }
        }
    }
}

fn write_lines<T: Serialize>(file: &mut dyn Write, values: &[T]) -> io::Result<()> {
    for (i, value) in values.iter().enumerate() {
        file.write_all(if i == 0 { b"\n" } else { b",\n" })?;
        serde_json::to_writer(&mut *file, value)?;
    }
    Ok(())
}

/// The candidates of one click on each object.
fn propose(
    embedding: &Embedding,
    objects: &[(&ObjectRecord, Mask)],
    category: &dyn Fn(&ObjectRecord) -> Option<u64>,
) -> Result<Vec<Proposal>> {
    let clicks: Vec<[f64; 2]> = objects
        .iter()
        .filter_map(|(_, mask)| mask.most_interior())
        .map(|(x, y, _)| [f64::from(x) + 0.5, f64::from(y) + 0.5])
        .collect();
    let prompts: Vec<Prompt> = clicks.iter().map(|&[x, y]| Prompt::point(x, y)).collect();
    let answers = embedding.predict_batch(&prompts)?;
    let mut proposals = Vec::with_capacity(3 * objects.len());
    for (((object, _), point), answer) in objects.iter().zip(clicks).zip(&answers) {
        proposals.extend(answer.iter().map(|candidate| Proposal {
            mask: candidate.mask.clone(),
            level: candidate.granularity,
            category_id: category(object),
            origin: Origin {
                score: candidate.predicted_iou.0,
                stability_score: candidate.stability_score.0,
                source: object.id,
                point,
            },
        }));
    }
    Ok(proposals)
}

impl Proposal {
    fn annotation(self, record: &ImageRecord) -> Annotation {
        Annotation {
            level: Some(self.level.name().to_owned()),
            origin: Some(self.origin),
            ..of_mask(record, &self.mask, self.category_id)
        }
    }
}

fn of_mask(record: &ImageRecord, mask: &Mask, category_id: Option<u64>) -> Annotation {
    Annotation {
        id: 0,
        image_id: record.id,
        category_id,
        iscrowd: 0,
        bbox: mask
            .bbox()
            .map_or([0.0; 4], |bbox| bbox.xywh().map(f64::from)),
        area: mask.area() as f64,
        segmentation: mask.to_rle(),
        level: None,
        annotator: None,
        origin: None,
    }
}

/// An annotation of the data set.
fn original(
    record: &ImageRecord,
    object: &ObjectRecord,
    mask: &Mask,
    category_id: Option<u64>,
) -> Annotation {
    let own = of_mask(record, mask, category_id);
    Annotation {
        id: object.id,
        iscrowd: object.iscrowd.into(),
        bbox: object.bbox.unwrap_or(own.bbox),
        area: object.area.unwrap_or(own.area),
        level: object.level.clone(),
        annotator: object.annotator,
        ..own
    }
}
