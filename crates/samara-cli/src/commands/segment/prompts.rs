//! What is asked of which image: by flags, or by a file of prompts.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Component, Path, PathBuf};

use samara::{ImageLimits, MaskPrompt, OriginalBox, Prompt};
use samara_data::{Category, DataOptions, DataSet};
use samara_image::number::{counted, short};
use samara_image::{RgbImage, read_file};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::commands::missing_images;
use crate::error::{CliError, Result};
use crate::flags::SegmentFlags;
use crate::prompt_file::{Object, PointRecord, text};
use crate::{mask_file, terminal};

/// One object that is asked for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// The name of its class, if it has one.
    pub(super) label: Option<String>,
    pub(super) prompt: Prompt,
    /// The file of a mask prompt, which is read when it is needed.
    pub(super) mask: Option<PathBuf>,
}

/// An image, and what is asked of it.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) image: PathBuf,
    /// How results name it: as the file of prompts does.
    pub(super) name: String,
    /// Width and height in pixels that the prompts are for, if their file says so.
    pub(super) size: Option<(u32, u32)>,
    pub(super) asked: Vec<Asked>,
}

/// What a file asks for.
pub(super) struct Prompts {
    pub(super) jobs: Vec<Job>,
    /// The classes that the file names, in its order: COCO's.
    pub(super) categories: Vec<Category>,
}

/// An object in a file of prompts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    image: Option<String>,
    label: Option<String>,
    #[serde(default)]
    points: Vec<PointRecord>,
    #[serde(rename = "box")]
    bbox: Option<[f64; 4]>,
    mask: Option<PathBuf>,
    #[serde(default)]
    single: bool,
}

impl Record {
    fn asked(self, flags: &SegmentFlags, folder: &Path) -> Result<Asked, String> {
        let mut prompt = blank(flags);
        if self.single {
            prompt = prompt.with_single_mask();
        }
        for point in &self.points {
            prompt = prompt.with_click(point.click()?);
        }
        if let Some([x0, y0, x1, y1]) = self.bbox {
            let bbox = OriginalBox::new(x0, y0, x1, y1).map_err(|e| e.to_string())?;
            prompt = prompt.with_box(bbox);
        }
        let mask = self.mask.map(|mask| folder.join(mask));
        if prompt.is_empty() && mask.is_none() {
            return Err("no prompt: it needs points, a box or a mask".into());
        }
        Ok(Asked {
            label: self
                .label
                .filter(|label| !label.trim().is_empty())
                .or_else(|| flags.label.clone()),
            prompt,
            mask,
        })
    }
}

/// A prompt without content.
fn blank(flags: &SegmentFlags) -> Prompt {
    let blank = Prompt::new().with_intent(flags.meaning.intent);
    if flags.single {
        blank.with_single_mask()
    } else {
        blank
    }
}

/// The objects of the flags: all points, the box and the mask are one; several boxes are one each.
pub(super) fn of_flags(flags: &SegmentFlags) -> Result<Vec<Asked>> {
    if flags.points.is_empty() && flags.boxes.is_empty() && flags.mask.is_none() {
        return Err(CliError::usage(
            "no prompt: give --point X,Y, --box X0,Y0,X1,Y1, --mask FILE or --prompts FILE",
        ));
    }
    let blank = blank(flags);
    let asked = |prompt, mask: Option<&PathBuf>| Asked {
        label: flags.label.clone(),
        prompt,
        mask: mask.cloned(),
    };
    if flags.boxes.len() > 1 {
        if !flags.points.is_empty() || flags.mask.is_some() {
            return Err(CliError::usage(
                "several --box are several objects: --point and --mask go with at most one --box; a file of \
                 --prompts has boxes with their points",
            ));
        }
        let boxes = flags.boxes.iter();
        return Ok(boxes
            .map(|b| asked(blank.clone().with_box(*b), None))
            .collect());
    }
    let prompt = flags.points.iter().copied().fold(blank, Prompt::with_click);
    let prompt = flags.boxes.iter().copied().fold(prompt, Prompt::with_box);
    Ok(vec![asked(prompt, flags.mask.as_ref())])
}

/// The objects in a text: one on each line, or a list.
fn records(text: &[u8], lines: bool) -> Result<Vec<Object<Record>>, String> {
    if lines {
        let lines = text.split(|&b| b == b'\n').enumerate();
        let lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
        let record =
            |(i, line)| serde_json::from_slice(line).map_err(|e| format!("line {}: {e}", i + 1));
        return lines.map(record).collect();
    }
    serde_json::from_slice(text).map_err(|e| {
        if are_results(text) {
            "COCO results name no files: give COCO annotations, with images and these boxes".into()
        } else {
            format!("{e}; a file of prompts is a JSON list, .jsonl, or COCO annotations")
        }
    })
}

/// The images of a file of prompts, in its order, each with all that is asked of it. `image` is the one that the
/// command line names; prompts without an image of their own are for it.
pub(super) fn of_file(path: &Path, flags: &SegmentFlags, limits: &ImageLimits) -> Result<Prompts> {
    let failed =
        |why: &dyn Display| CliError::failed(format!("--prompts {}: {why}", path.display()));
    let bytes = read_file(path, limits).map_err(|e| failed(&e.reason()))?;
    let bytes = text(&bytes);
    let lines = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("jsonl"));
    if !lines && bytes.trim_ascii_start().starts_with(b"{") {
        return of_coco(path, flags);
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let records = records(bytes, lines).map_err(|why| failed(&why))?;
    if let Some(images) = &flags.images {
        return Err(CliError::usage(format!(
            "--images {}: for COCO annotations; in this file images have paths from its own folder",
            images.display()
        )));
    }
    let mut jobs: Vec<Job> = Vec::new();
    let mut known: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for (i, Object(mut record)) in records.into_iter().enumerate() {
        let wrong = |why: &dyn Display| failed(&format!("object {i}: {why}"));
        let (name, image) = match (record.image.take(), &flags.image) {
            (Some(name), None) if name.trim().is_empty() => {
                return Err(wrong(&"the name of its image is empty"));
            }
            (Some(name), None) => (name.clone(), folder.join(&name)),
            (None, Some(image)) => (image.display().to_string(), image.clone()),
            (Some(_), Some(_)) => {
                return Err(wrong(
                    &"it names an image, and the command line another one",
                ));
            }
            (None, None) => {
                return Err(wrong(
                    &"it names no image, and neither does the command line",
                ));
            }
        };
        let asked = record.asked(flags, folder).map_err(|why| wrong(&why))?;
        let at = *known.entry(plain(&name)).or_insert(jobs.len());
        if at == jobs.len() {
            let asked = Vec::new();
            jobs.push(Job {
                image,
                name,
                size: None,
                asked,
            });
        }
        jobs[at].asked.push(asked);
    }
    if jobs.is_empty() {
        return Err(failed(&"holds no prompt"));
    }
    let categories = Vec::new();
    Ok(Prompts { jobs, categories })
}

/// A path without the folders `.` in it.
fn plain(name: &str) -> PathBuf {
    let parts = Path::new(name).components();
    parts.filter(|part| *part != Component::CurDir).collect()
}

/// Whether a text is a list of COCO results.
fn are_results(text: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Detection {
        #[expect(dead_code, reason = "it is there or not")]
        image_id: IgnoredAny,
    }
    serde_json::from_slice::<Vec<Object<Detection>>>(text).is_ok()
}

/// The boxes of COCO annotations or detections: one prompt for each, with the name of its category.
fn of_coco(path: &Path, flags: &SegmentFlags) -> Result<Prompts> {
    let failed =
        |why: &dyn Display| CliError::failed(format!("--prompts {}: {why}", path.display()));
    if flags.image.is_some() {
        return Err(failed(
            &"COCO annotations name their images, and the command line another one",
        ));
    }
    let options = DataOptions {
        image_dir: flags.images.clone(),
        ..DataOptions::default()
    };
    let data = DataSet::open_with(path, &options);
    let data = data.map_err(|e| CliError::failed(format!("--prompts {e}")))?;
    if let Some(why) = missing_images(&data) {
        return Err(failed(&why));
    }
    let mut jobs = Vec::new();
    let (mut boxless, mut crowds, mut outside, mut unnamed) = (0, 0, 0, 0);
    for image in data.images {
        let mut asked = Vec::new();
        for object in image.objects {
            if object.iscrowd {
                crowds += 1;
                continue;
            }
            let Some([x, y, w, h]) = object.bbox else {
                boxless += 1;
                continue;
            };
            let bbox = OriginalBox::new(x, y, x + w, y + h)
                .map_err(|e| failed(&format!("annotation {}: {e}", object.id)))?;
            let prompt = blank(flags).with_box(bbox);
            if prompt.check(image.width, image.height).is_err() {
                outside += 1;
                continue;
            }
            unnamed += usize::from(object.category.is_none() && !data.categories.is_empty());
            asked.push(Asked {
                label: object.category.or_else(|| flags.label.clone()),
                prompt,
                mask: None,
            });
        }
        if !asked.is_empty() {
            let name = image
                .path
                .strip_prefix(&data.image_dir)
                .unwrap_or(&image.path);
            jobs.push(Job {
                name: name.to_string_lossy().into_owned(),
                image: image.path,
                size: Some((image.width, image.height)),
                asked,
            });
        }
    }
    if jobs.is_empty() {
        return Err(failed(&"none of its annotations has a box"));
    }
    let left_out = [
        (boxless, "without a box, skipped"),
        (crowds, "of a crowd (iscrowd), skipped"),
        (outside, "with a box outside of the image, skipped"),
        (unnamed, "of a category that is not in the file"),
    ];
    for (count, why) in left_out.into_iter().filter(|(count, _)| *count > 0) {
        let count = counted(count, "annotation");
        let notice = format!("--prompts {}: {count} {why}", path.display());
        terminal::tell("notice", &notice);
    }
    if !data.skipped.is_empty() {
        terminal::tell(
            "notice",
            &format!("--prompts {}: skipped: {}", path.display(), data.skipped),
        );
    }
    let categories = data.categories;
    Ok(Prompts { jobs, categories })
}

/// The prompts, with masks read and everything checked against the image.
pub(super) fn checked(
    asked: &[Asked],
    image: &RgbImage,
    limits: &ImageLimits,
) -> Result<Vec<Prompt>> {
    let prompt = |asked: &Asked| {
        let mut prompt = asked.prompt.clone();
        if let Some(path) = &asked.mask {
            let mask = mask_file::read(path, image.dimensions(), limits)?;
            if let MaskPrompt::Mask(mask) = &mask {
                mask_file::tell_stretched(path, (mask.width(), mask.height()), image.dimensions());
                if prompt.is_empty() {
                    mask_file::tell_alone(path, mask, image.dimensions());
                }
            }
            prompt = prompt.with_mask(mask);
        }
        prompt.check(image.width(), image.height())?;
        tell_beyond(&prompt, image.dimensions());
        Ok(prompt)
    };
    asked.iter().map(prompt).collect()
}

/// A box far out of the image was often drawn on an image of another size; better to say so.
fn tell_beyond(prompt: &Prompt, (width, height): (u32, u32)) {
    let Some(bbox) = prompt.box_prompt() else {
        return;
    };
    let (width, height) = (f64::from(width), f64::from(height));
    let beyond = |low: f64, high: f64, size: f64| (-low).max(high - size) > 0.1 * size;
    if beyond(bbox.min.x, bbox.max.x, width) || beyond(bbox.min.y, bbox.max.y, height) {
        let (min, max) = (bbox.min, bbox.max);
        let line = format!(
            "box {},{},{},{} reaches far out of the image of {width}×{height} pixels; is it for an image of \
             another size?",
            short(min.x),
            short(min.y),
            short(max.x),
            short(max.y)
        );
        terminal::tell("notice", &line);
    }
}
