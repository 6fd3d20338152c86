//! Masks and their scores as answers write them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use samara::{Candidate, Candidates, Mask, Selection};
use samara_image::{BBox, PngSource, Polygon, Rle};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{Problem, Result};

/// In which form masks are answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MaskFormat {
    /// COCO run lengths.
    #[default]
    Rle,
    /// A PNG of 0 and 255 as base64.
    Png,
    /// Outer rings and holes, along the edges of the pixels; `tolerance` says how exactly.
    Polygons,
    /// Left out: scores and boxes alone.
    None,
}

/// How far the line of a polygon may leave the mask's outline, in pixels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub(crate) struct Tolerance(f64);

impl TryFrom<f64> for Tolerance {
    type Error = &'static str;

    fn try_from(pixels: f64) -> Result<Self, Self::Error> {
        if pixels.is_finite() && pixels >= 0.0 {
            Ok(Self(pixels))
        } else {
            Err("a number of pixels, 0 or more, is expected")
        }
    }
}

/// How masks are answered.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MaskStyle {
    format: MaskFormat,
    tolerance: Tolerance,
}

impl MaskStyle {
    pub(crate) fn new(format: MaskFormat, tolerance: Tolerance) -> Self {
        Self { format, tolerance }
    }
}

/// COCO run lengths of a mask.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RleAnswer {
    /// Height, then width.
    size: [u32; 2],
    /// The compressed string of `pycocotools`.
    counts: String,
}

/// A part of a mask, with its holes.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PolygonAnswer {
    /// `[[x, y], …]` in pixels; a pixel covers x to x + 1 and y to y + 1.
    outer: Vec<[f64; 2]>,
    /// The holes, each such a ring.
    holes: Vec<Vec<[f64; 2]>>,
}

/// A mask in the form that was asked for; the other forms are left out.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct MaskAnswer {
    /// Number of pixels.
    area: u64,
    /// `[x, y, width, height]` in pixels; all 0 for an empty mask.
    bbox: [u32; 4],
    #[serde(skip_serializing_if = "Option::is_none")]
    segmentation: Option<RleAnswer>,
    /// PNG as base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    png: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    polygons: Option<Vec<PolygonAnswer>>,
}

impl MaskAnswer {
    /// The mask, if it is written as run lengths.
    pub(crate) fn to_mask(&self) -> Result<Mask> {
        let segmentation = self.segmentation.as_ref();
        let RleAnswer { size, counts } =
            segmentation.ok_or_else(|| Problem::internal("no run lengths"))?;
        Ok(Rle::from_compressed_string(*size, counts)?.to_mask()?)
    }

    /// Bytes that it takes.
    pub(crate) fn memory(&self) -> u64 {
        let rle = self.segmentation.as_ref().map_or(0, |rle| rle.counts.len());
        let png = self.png.as_ref().map_or(0, String::len);
        let rings = |polygon: &PolygonAnswer| {
            let holes: usize = polygon.holes.iter().map(Vec::len).sum();
            polygon.outer.len() + holes
        };
        let points: usize = self.polygons.iter().flatten().map(rings).sum();
        (size_of::<Self>() + rle + png + points * size_of::<[f64; 2]>()) as u64
    }

    pub(crate) fn new(mask: &Mask, style: MaskStyle) -> Result<Self> {
        let mut answer = Self {
            area: mask.area(),
            bbox: mask.bbox().as_ref().map_or([0; 4], BBox::xywh),
            ..Self::default()
        };
        match style.format {
            MaskFormat::Rle => {
                let rle = mask.to_rle();
                answer.segmentation = Some(RleAnswer {
                    size: [mask.height(), mask.width()],
                    counts: rle.to_compressed_string(),
                });
            }
            MaskFormat::Png => answer.png = Some(BASE64_STANDARD.encode(png(mask)?)),
            MaskFormat::Polygons => {
                let Tolerance(pixels) = style.tolerance;
                let polygons = mask.to_polygons().into_iter();
                let polygons = polygons.map(|polygon| polygon.simplify(pixels));
                answer.polygons = Some(polygons.map(|p| PolygonAnswer::new(&p)).collect());
            }
            MaskFormat::None => {}
        }
        Ok(answer)
    }
}

impl PolygonAnswer {
    fn new(polygon: &Polygon) -> Self {
        let ring = |ring: &samara_image::Ring| ring.points.iter().map(|p| [p.x, p.y]).collect();
        Self {
            outer: ring(&polygon.outer),
            holes: polygon.holes.iter().map(ring).collect(),
        }
    }
}

/// The file of a mask, as PNG.
pub(crate) fn png(mask: &Mask) -> Result<Vec<u8>> {
    let png = mask.to_luma().to_png();
    png.map_err(|e| Problem::internal(format!("PNG: {e}")))
}

/// One of the masks that answer a prompt.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct CandidateAnswer {
    /// Position among the candidates; null for a mask that was combined of several.
    index: Option<usize>,
    /// The estimated IoU of the mask with what it depicts, from 0 to 1.
    predicted_iou: Option<f32>,
    /// The same as the decoder gives it, before any calibration or head.
    raw_predicted_iou: Option<f32>,
    /// The probability that the mask is what the prompt means; null for models without a candidate head and where one
    /// mask was asked for.
    match_probability: Option<f32>,
    /// The expected IoU of the mask with what the prompt means; null as above. The selection `best` takes the highest.
    expected_iou: Option<f32>,
    /// Area with the logits' threshold raised by 1, divided by that with the threshold lowered by 1.
    stability_score: Option<f32>,
    /// `whole`, `part` or `subpart`, by area and containment among the candidates.
    granularity: Option<&'static str>,
    #[serde(flatten)]
    mask: MaskAnswer,
}

impl CandidateAnswer {
    fn new(candidate: &Candidate, expected: Option<&[f32]>, style: MaskStyle) -> Result<Self> {
        Ok(Self {
            index: Some(candidate.index),
            predicted_iou: Some(candidate.predicted_iou.0),
            raw_predicted_iou: Some(candidate.raw_predicted_iou.0),
            match_probability: candidate.match_probability.map(|p| p.0),
            expected_iou: expected.and_then(|all| all.get(candidate.index).copied()),
            stability_score: Some(candidate.stability_score.0),
            granularity: Some(candidate.granularity.name()),
            mask: MaskAnswer::new(&candidate.mask, style)?,
        })
    }

    fn combined(mask: &Mask, style: MaskStyle) -> Result<Self> {
        Ok(Self {
            index: None,
            predicted_iou: None,
            raw_predicted_iou: None,
            match_probability: None,
            expected_iou: None,
            stability_score: None,
            granularity: None,
            mask: MaskAnswer::new(mask, style)?,
        })
    }
}

/// The mask that was selected.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SelectedAnswer {
    #[serde(flatten)]
    candidate: CandidateAnswer,
    /// Why, in one line.
    reason: String,
}

/// The answer to one prompt.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ObjectAnswer {
    /// By which a correction names it (`mask.answer.id`), for an hour or until many more answers have come.
    id: String,
    /// All masks, in the model's order: three, or one. Empty where `candidates` was false.
    candidates: Vec<CandidateAnswer>,
    selected: SelectedAnswer,
    /// The part of the image from which the masks were drawn, if they were looked at again there; null otherwise.
    zoom: Option<ViewAnswer>,
    /// What may keep the prompt from being answered well.
    pub(crate) warnings: Vec<String>,
}

/// A part of the image: whole pixels.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
struct ViewAnswer {
    /// The leftmost column.
    x: u32,
    /// The topmost row.
    y: u32,
    /// Number of columns.
    width: u32,
    /// Number of rows.
    height: u32,
}

impl ObjectAnswer {
    /// `all` also shows the candidates that were not selected.
    pub(crate) fn new(
        id: String,
        candidates: &Candidates,
        selection: &Selection,
        all: bool,
        style: MaskStyle,
    ) -> Result<Self> {
        let expected = candidates.expected_ious();
        let record = |c| CandidateAnswer::new(c, expected.as_deref(), style);
        let shown = candidates.iter().filter(|_| all).map(record);
        let shown: Vec<CandidateAnswer> = shown.collect::<Result<_>>()?;
        let record_of = |index: usize| {
            let shown = shown.get(index).cloned().map(Ok);
            shown.or_else(|| candidates.as_slice().get(index).map(record))
        };
        let selected = match selection.index.and_then(record_of) {
            Some(selected) => selected?,
            None => CandidateAnswer::combined(&selection.mask, style)?,
        };
        Ok(Self {
            id,
            candidates: shown,
            selected: SelectedAnswer {
                candidate: selected,
                reason: selection.reason.clone(),
            },
            zoom: candidates.view().map(|view| ViewAnswer {
                x: view.x,
                y: view.y,
                width: view.width,
                height: view.height,
            }),
            warnings: Vec::new(),
        })
    }
}
