//! Masks of one image.

use std::fmt::Write;
use std::path::Path;

use samara::{ImageLimits, Mask, Prompt, Segmenter};
use samara_image::{
    BBox, Overlay, ReadImage, Rgb, RgbImage, Rle, montage, save_image, write_atomic,
};
use samara_quality::{EstimateSource, MaskQuality, QualityEstimator, QualityHead};
use serde::Serialize;

use super::head::{check_head, load_head};
use crate::error::{CliError, Result};
use crate::external_mask::{self, NamedMask};
use crate::files::{Files, Kind};
use crate::flags::QualityFlags;
use crate::model::checkpoint;
use crate::progress;
use crate::read::read;
use crate::report::ImageRecord;
use crate::terminal;

/// Colour of a mask as it came.
const EXTERNAL: Rgb<u8> = Rgb([255, 205, 30]);
/// Colour of the refined mask.
const REFINED: Rgb<u8> = Rgb([38, 128, 235]);

#[derive(Serialize)]
struct MaskRecord {
    area: u64,
    bbox: [u32; 4],
    segmentation: Rle,
}

#[derive(Serialize)]
struct Record<'a> {
    mask: &'a str,
    estimated_iou: f32,
    alignment_iou: f64,
    stability_score: f32,
    predicted_iou: f32,
    level: &'static str,
    external: MaskRecord,
    refined: MaskRecord,
}

#[derive(Serialize)]
struct Report<'a> {
    image: ImageRecord,
    model: String,
    precision: &'static str,
    estimate: EstimateSource,
    masks: Vec<Record<'a>>,
}

pub(super) fn run(flags: &QualityFlags) -> Result<()> {
    // Everything that can be wrong is looked at before the expensive work starts.
    let checkpoint = checkpoint(&flags.model)?;
    let place = flags.model.options();
    Files::new()
        .read("the input image", &flags.input)
        .read_all("the mask of --mask", &flags.masks)
        .read_all("the head of --head", &flags.head)
        .read("the checkpoint", checkpoint.path())
        .write("--out", Kind::Image, flags.out.as_deref())
        .write("--out-mask", Kind::Mask, flags.out_mask.as_deref())
        .write("--json", Kind::JsonOrStdout, flags.json.as_deref())
        .check()?;
    let options = flags.read.options();
    let limits = options.limits;
    let ReadImage { image, warnings } = read(&flags.input, &options)?;
    let masks = masks(flags, &image, &limits)?;
    let head = load_head(flags.head.as_deref())?;

    let segmenter = progress::spin("loading the model", || {
        Segmenter::from_checkpoint(&checkpoint, place)
    })?;
    check_head(flags.head.as_deref(), head.as_ref(), &segmenter)?;
    let (qualities, source) = progress::spin("assessing", || {
        assess(&segmenter, &image, &masks, head.as_ref())
    })?;
    let record = ImageRecord::new(&flags.input, &image, &warnings);
    write(
        flags, &segmenter, &image, record, &masks, &qualities, source,
    )
}

/// The masks of all files, each with what is known of the object.
fn masks(flags: &QualityFlags, image: &RgbImage, limits: &ImageLimits) -> Result<Vec<NamedMask>> {
    let claim = claim(flags, image)?;
    let mut masks = Vec::new();
    for path in &flags.masks {
        masks.extend(external_mask::read(path, flags.soft, image, limits)?);
    }
    if let (Some(out), true) = (&flags.out_mask, masks.len() > 1) {
        return Err(CliError::usage(format!(
            "--out-mask {}: one refined mask, but {} masks are given",
            out.display(),
            masks.len()
        )));
    }
    if let Some(claim) = claim {
        let claimed = |named: NamedMask| NamedMask {
            mask: named.mask.with_claim(claim.clone()),
            ..named
        };
        masks = masks.into_iter().map(claimed).collect();
    }
    Ok(masks)
}

fn claim(flags: &QualityFlags, image: &RgbImage) -> Result<Option<Prompt>> {
    if flags.point.is_none() && flags.bbox.is_none() {
        return Ok(None);
    }
    let mut claim = Prompt::new();
    if let Some(click) = flags.point {
        if !click.positive {
            return Err(CliError::usage(
                "--point: the click is on the object, and has no label 0",
            ));
        }
        claim = claim.with_click(click);
    }
    if let Some(bbox) = flags.bbox {
        claim = claim.with_box(bbox);
    }
    claim.check(image.width(), image.height())?;
    Ok(Some(claim))
}

fn assess(
    segmenter: &Segmenter,
    image: &RgbImage,
    masks: &[NamedMask],
    head: Option<&QualityHead>,
) -> Result<(Vec<MaskQuality>, EstimateSource)> {
    let embedding = segmenter.embed(image)?;
    let mut estimator = QualityEstimator::new(&embedding, image)?;
    if let Some(head) = head {
        estimator = estimator.with_head(head)?;
    }
    let masks: Vec<_> = masks.iter().map(|named| named.mask.clone()).collect();
    Ok((estimator.assess(&masks)?, estimator.source()))
}

fn write(
    flags: &QualityFlags,
    segmenter: &Segmenter,
    image: &RgbImage,
    record_of_image: ImageRecord,
    masks: &[NamedMask],
    qualities: &[MaskQuality],
    source: EstimateSource,
) -> Result<()> {
    let all = || masks.iter().zip(qualities);
    if let Some(path) = &flags.out {
        let panels: Vec<RgbImage> = all().flat_map(|(m, q)| panels(image, m, q)).collect();
        save_image(path, &montage(&panels, 2))?;
    }
    if let (Some(path), [quality]) = (&flags.out_mask, qualities) {
        quality.refined.mask.save_png(path)?;
    }
    let report = Report {
        image: record_of_image,
        model: segmenter.name(),
        precision: segmenter.precision().name(),
        estimate: source,
        masks: all().map(|(mask, quality)| record(mask, quality)).collect(),
    };
    let mut json = serde_json::to_string(&report).map_err(CliError::failed)?;
    json.push('\n');
    match &flags.json {
        Some(path) if path == Path::new("-") => return terminal::print_raw(json.as_bytes()),
        Some(path) => write_atomic(path, json.as_bytes())?,
        None => {}
    }
    let mut text = table(&report);
    let _ = writeln!(text, "{source}");
    for path in [&flags.out, &flags.out_mask, &flags.json]
        .into_iter()
        .flatten()
    {
        let _ = writeln!(text, "wrote {}", terminal::name(path));
    }
    terminal::print(&text)
}

/// The mask as it came, and as the model refines it.
fn panels(image: &RgbImage, named: &NamedMask, quality: &MaskQuality) -> [RgbImage; 2] {
    let estimate = format!("estimated {:.2}", quality.estimate);
    let refined = format!(
        "refined, {} {:.2}",
        quality.refined.granularity, quality.refined.predicted_iou
    );
    let draw = |mask, color, label: String| {
        let overlay = Overlay::new(image).mask(mask, color);
        overlay.label(label).render()
    };
    [
        draw(named.mask.mask(), EXTERNAL, estimate),
        draw(&quality.refined.mask, REFINED, refined),
    ]
}

fn record<'a>(named: &'a NamedMask, quality: &MaskQuality) -> Record<'a> {
    let of_mask = |mask: &Mask| MaskRecord {
        area: mask.area(),
        bbox: mask.bbox().as_ref().map_or([0; 4], BBox::xywh),
        segmentation: mask.to_rle(),
    };
    Record {
        mask: &named.name,
        estimated_iou: quality.estimate.0,
        alignment_iou: quality.alignment_iou,
        stability_score: quality.refined.stability_score.0,
        predicted_iou: quality.refined.predicted_iou.0,
        level: quality.refined.granularity.name(),
        external: of_mask(named.mask.mask()),
        refined: of_mask(&quality.refined.mask),
    }
}

fn table(report: &Report<'_>) -> String {
    let ImageRecord {
        path,
        width,
        height,
        ..
    } = &report.image;
    let path = terminal::shown(path);
    let mut text = format!("{path} {width}×{height}, {}\n", report.model);
    text += "estimated IoU  alignment IoU  stability  predicted IoU  level    mask\n";
    for r in &report.masks {
        let _ = writeln!(
            text,
            "{:>13.3}  {:>13.3}  {:>9.3}  {:>13.3}  {:<7}  {}",
            r.estimated_iou,
            r.alignment_iou,
            r.stability_score,
            r.predicted_iou,
            r.level,
            terminal::shown(r.mask)
        );
    }
    text
}
