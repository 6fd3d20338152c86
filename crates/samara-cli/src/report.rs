//! What `segment` tells: a table for people, JSON for programs.

use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use samara::{Candidate, Candidates, Intent, Mask, PixelRect, Selection};
use samara_image::{BBox, ImageWarning, RgbImage, Rle};
use serde::Serialize;

use crate::error::{CliError, Result};

/// Milliseconds that each stage took.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Timing {
    pub(crate) load: f64,
    pub(crate) embed: f64,
    pub(crate) decode: f64,
    pub(crate) mask: f64,
    /// The second look; next to nothing without one.
    pub(crate) zoom: f64,
}

/// Runs `work` and adds the milliseconds that it took.
pub(crate) fn timed<T>(milliseconds: &mut f64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    *milliseconds += start.elapsed().as_secs_f64() * 1000.0;
    result
}

/// The image.
#[derive(Debug, Serialize)]
pub(crate) struct ImageRecord {
    pub(crate) path: String,
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// How the image may not be what its author sees.
    pub(crate) warnings: Vec<String>,
}

impl ImageRecord {
    pub(crate) fn new(path: &Path, image: &RgbImage, warnings: &[ImageWarning]) -> Self {
        Self {
            path: path.display().to_string(),
            width: image.width(),
            height: image.height(),
            warnings: warnings.iter().map(ImageWarning::to_string).collect(),
        }
    }
}

/// A candidate or a selection. What does not apply to a combined mask is null.
#[derive(Debug, Serialize)]
pub(crate) struct MaskRecord {
    index: Option<usize>,
    predicted_iou: Option<f32>,
    raw_predicted_iou: Option<f32>,
    match_probability: Option<f32>,
    expected_iou: Option<f32>,
    stability_score: Option<f32>,
    area: u64,
    bbox: [u32; 4],
    granularity: Option<&'static str>,
    segmentation: Rle,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl MaskRecord {
    fn of_mask(mask: &Mask) -> Self {
        Self {
            index: None,
            predicted_iou: None,
            raw_predicted_iou: None,
            match_probability: None,
            expected_iou: None,
            stability_score: None,
            area: mask.area(),
            bbox: mask.bbox().as_ref().map_or([0; 4], BBox::xywh),
            granularity: None,
            segmentation: mask.to_rle(),
            reason: None,
        }
    }

    /// Of all candidates, in their order.
    pub(crate) fn of_all(candidates: &Candidates) -> Vec<Self> {
        let expected = candidates.expected_ious();
        let record = |c| Self::of_candidate(c, expected.as_deref());
        candidates.iter().map(record).collect()
    }

    fn of_candidate(candidate: &Candidate, expected: Option<&[f32]>) -> Self {
        Self {
            index: Some(candidate.index),
            predicted_iou: Some(candidate.predicted_iou.0),
            raw_predicted_iou: Some(candidate.raw_predicted_iou.0),
            match_probability: candidate.match_probability.map(|p| p.0),
            expected_iou: expected.and_then(|all| all.get(candidate.index).copied()),
            stability_score: Some(candidate.stability_score.0),
            granularity: Some(candidate.granularity.name()),
            ..Self::of_mask(&candidate.mask)
        }
    }

    fn of_selection(
        selection: &Selection,
        candidates: &Candidates,
        expected: Option<&[f32]>,
    ) -> Self {
        let record = match selection.index {
            Some(index) => Self::of_candidate(&candidates.as_slice()[index], expected),
            None => Self::of_mask(&selection.mask),
        };
        Self {
            reason: Some(selection.reason.clone()),
            ..record
        }
    }
}

/// The answer for one object.
#[derive(Debug, Serialize)]
pub(crate) struct ObjectRecord {
    /// The name of its class, if the prompt has one.
    label: Option<String>,
    candidates: Vec<MaskRecord>,
    selected: MaskRecord,
    /// The part of the image that was looked at; null for all of it.
    zoom: Option<PixelRect>,
}

impl ObjectRecord {
    pub(crate) fn new(
        label: Option<String>,
        candidates: &Candidates,
        selection: &Selection,
    ) -> Self {
        let expected = candidates.expected_ious();
        Self {
            label,
            candidates: MaskRecord::of_all(candidates),
            selected: MaskRecord::of_selection(selection, candidates, expected.as_deref()),
            zoom: candidates.view(),
        }
    }
}

/// The JSON of `segment`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) image: ImageRecord,
    /// What the model calls itself.
    pub(crate) model: String,
    pub(crate) architecture: String,
    /// The numbers in which the image was embedded.
    pub(crate) precision: &'static str,
    /// What a click was taken to mean.
    pub(crate) intent: Intent,
    /// In the order of the prompts.
    pub(crate) objects: Vec<ObjectRecord>,
    pub(crate) timing_ms: Timing,
}

impl Report {
    /// One line of JSON.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self).map_err(CliError::failed)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// The candidates of one object as a table; `*` marks the selected one.
pub(crate) fn table(candidates: &Candidates, selection: &Selection) -> String {
    let mut text =
        String::from("  candidate  level    predicted IoU  match  stability      area  box\n");
    for c in candidates {
        let mark = if selection.index == Some(c.index) {
            '*'
        } else {
            ' '
        };
        let [x, y, w, h] = c.mask.bbox().as_ref().map_or([0; 4], BBox::xywh);
        let _ = writeln!(
            text,
            "{mark} {:<9}  {:<7}  {:>13.3}  {:>5}  {:>9.3}  {:>8}  {x},{y} {w}×{h}",
            c.index,
            c.granularity,
            c.predicted_iou,
            c.match_probability
                .map_or_else(|| "-".into(), |p| format!("{:.0}%", 100.0 * p.0)),
            c.stability_score,
            c.mask.area(),
        );
    }
    if selection.index.is_none() {
        let _ = writeln!(
            text,
            "* {} ({} pixels)",
            selection.reason,
            selection.mask.area()
        );
    }
    text
}
