//! Prompts as requests write them.

use samara::{Intent, Logits, Mask, MaskPrompt, OriginalBox, Prompt, PromptError, Segmenter};
use samara_image::{CocoRle, ImageLimits, Rle, decode_mask};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::answers::Answers;
use crate::bounded::Bounded;
use crate::error::{Problem, Result};
use crate::images::{ImageId, ImageInfo, decode_base64};

/// A prompt for one object: any combination of points, a box and a mask, in pixels of the original image, x before y.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PromptRequest {
    /// Clicks: `[x, y]` or `[x, y, 1]` on the object, `[x, y, 0]` beside it.
    #[schema(value_type = Vec<Vec<f64>>, example = json!([[290.0, 150.0], [420.0, 200.0, 0]]))]
    #[serde(default)]
    points: Bounded<Point, 4096>,
    /// `[x0, y0, x1, y1]`: two opposite corners.
    #[schema(value_type = Option<Vec<f64>>, min_items = 4, max_items = 4, example = json!([160.0, 40.0, 420.0, 300.0]))]
    #[serde(rename = "box")]
    bbox: Option<[f64; 4]>,
    /// A mask of the object: rough, of another program, or an earlier answer.
    mask: Option<MaskRequest>,
    /// Asks for one mask in the place of three: better for prompts that mean one thing, such as several clicks.
    #[serde(default)]
    #[schema(default = false)]
    single: bool,
}

/// `[x, y]`, or `[x, y, label]`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "Bounded<f64, 3>")]
struct Point([f64; 3]);

impl TryFrom<Bounded<f64, 3>> for Point {
    type Error = &'static str;

    fn try_from(numbers: Bounded<f64, 3>) -> Result<Self, Self::Error> {
        match numbers.0[..] {
            [x, y] => Ok(Self([x, y, 1.0])),
            [x, y, label] => Ok(Self([x, y, label])),
            _ => Err("a point is [x, y], or [x, y, 1] on the object and [x, y, 0] beside it"),
        }
    }
}

/// The image or the frame that a prompt is about.
pub(crate) struct PromptedImage<'a> {
    /// Width and height in pixels.
    pub(crate) size: (u32, u32),
    /// `None` for a frame of a video.
    pub(crate) image: Option<&'a ImageId>,
}

impl<'a> From<&'a ImageInfo> for PromptedImage<'a> {
    fn from(info: &'a ImageInfo) -> Self {
        Self {
            size: (info.width, info.height),
            image: Some(&info.id),
        }
    }
}

impl PromptedImage<'_> {
    /// Refuses a mask of another size.
    fn check_size(&self, width: u32, height: u32) -> Result<()> {
        let (w, h) = self.size;
        if (width, height) == (w, h) {
            return Ok(());
        }
        let detail = format!("has {width}×{height} pixels, the image {w}×{h}");
        Err(Problem::field("", detail))
    }
}

/// A mask prompt of the size of the image: exactly one of these.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MaskRequest {
    /// COCO run lengths.
    rle: Option<RleRequest>,
    /// A PNG as base64, or as a data URI: white is inside.
    png: Option<String>,
    /// A mask of an earlier answer, whose logits the server still has: the best way to correct it.
    answer: Option<AnswerRef>,
}

/// A mask of an earlier answer.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswerRef {
    /// The `id` of the object in that answer.
    id: String,
    /// Which of the candidates; left out: the selected one.
    candidate: Option<usize>,
}

/// How [`RleRequest::counts`] are described.
#[derive(ToSchema)]
#[schema(as = RleCounts)]
#[serde(untagged)]
#[expect(dead_code, reason = "a description")]
pub(crate) enum RleCountsSchema {
    /// The compressed string of `pycocotools`.
    Compressed(String),
    /// Run lengths, down the columns, beginning with unset pixels.
    Uncompressed(Vec<u32>),
}

/// COCO run lengths.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RleRequest {
    /// Height, then width.
    size: [u32; 2],
    /// The compressed string of `pycocotools`, or run lengths.
    #[schema(value_type = RleCountsSchema)]
    counts: samara_image::RleCounts,
}

impl RleRequest {
    /// The mask of an image of this size; another one is refused before memory is taken for it.
    pub(crate) fn mask_of(self, size: (u32, u32)) -> Result<Mask> {
        let Self {
            size: [height, width],
            counts,
        } = self;
        PromptedImage { size, image: None }
            .check_size(width, height)
            .map_err(|e| e.about("size"))?;
        let rle = Rle::try_from(CocoRle {
            size: [height, width],
            counts,
        });
        let mask = rle.and_then(|rle| rle.to_mask());
        mask.map_err(|error| Problem::field("", error))
    }
}

impl PromptRequest {
    /// A prompt of points alone, for the dialects.
    pub(crate) fn new(points: Vec<[f64; 3]>, bbox: Option<[f64; 4]>) -> Self {
        Self {
            points: Bounded(points.into_iter().map(Point).collect()),
            bbox,
            ..Self::default()
        }
    }

    /// What a model is asked. Whether it lies in the image is checked against the embedding.
    pub(crate) fn prompt(
        self,
        of: &PromptedImage<'_>,
        answers: &Answers,
        intent: Intent,
    ) -> Result<Prompt> {
        let mut prompt = Prompt::new().with_intent(intent);
        for (index, &Point([x, y, label])) in self.points.0.iter().enumerate() {
            prompt = if label == 1.0 {
                prompt.with_point(x, y)
            } else if label == 0.0 {
                prompt.with_negative_point(x, y)
            } else {
                let detail = format!("label {label} of a point: 1 is on the object, 0 beside it");
                return Err(Problem::field(format!("points[{index}]"), detail));
            };
        }
        if let Some([x0, y0, x1, y1]) = self.bbox {
            let bbox = OriginalBox::new(x0, y0, x1, y1);
            prompt = prompt.with_box(bbox.map_err(|e| Problem::field("box", e))?);
        }
        if self.single {
            prompt = prompt.with_single_mask();
        }
        match self.mask {
            Some(mask) => mask
                .add_to(prompt, of, answers)
                .map_err(|e| e.about("mask")),
            None => Ok(prompt),
        }
    }
}

impl MaskRequest {
    fn add_to(self, prompt: Prompt, of: &PromptedImage<'_>, answers: &Answers) -> Result<Prompt> {
        match (self.rle, self.png, self.answer) {
            (Some(rle), None, None) => {
                let mask = rle.mask_of(of.size).map_err(|e| e.about("rle"))?;
                Ok(prompt.with_mask(mask))
            }
            (None, Some(png), None) => {
                let (width, height) = of.size;
                // What is larger is refused by its header.
                let limits = ImageLimits {
                    max_pixels: u64::from(width) * u64::from(height),
                    ..ImageLimits::default()
                };
                let decoded = decode_base64(&png)
                    .and_then(|bytes| Ok(decode_mask(&bytes, "mask", &limits)?))
                    .and_then(|mask| of.check_size(mask.width(), mask.height()).map(|()| mask));
                Ok(prompt.with_mask(decoded.map_err(|e| e.about("png"))?))
            }
            (None, None, Some(AnswerRef { id, candidate })) => {
                let kept = answers.get(&id).map_err(|e| e.about("answer"))?;
                if of.image.is_some_and(|image| *image != kept.image) {
                    let detail = "this is an answer about another image";
                    return Err(Problem::field("answer.id", detail));
                }
                of.check_size(kept.mask.width(), kept.mask.height())
                    .map_err(|e| e.about("answer"))?;
                let logits = kept.logits(candidate).map_err(|e| e.about("answer"))?;
                Ok(match logits {
                    Some(logits) => prompt.with_mask(logits.clone()),
                    None => prompt.with_mask(kept.mask.clone()),
                })
            }
            _ => Err(Problem::field(
                "",
                "exactly one of rle, png and answer says which mask",
            )),
        }
    }
}

/// The box around a mask, in pixels.
pub(crate) fn own_box(mask: &Mask) -> Option<[f64; 4]> {
    let [x, y, w, h] = mask.bbox()?.xywh().map(f64::from);
    Some([x, y, x + w, y + h])
}

/// What may keep a prompt from being answered well.
pub(crate) fn warning(prompt: &Prompt) -> Option<String> {
    prompt.is_mask_alone().then(|| {
        let own = match prompt.mask_prompt() {
            Some(MaskPrompt::Mask(mask)) => own_box(mask),
            _ => None,
        };
        let own = own.map_or_else(String::new, |own| format!(": \"box\": {own:?}"));
        format!("a mask alone is a weak prompt; its own box beside it helps{own}")
    })
}

/// The prompt with its mask as logits, as models take it: of many prompts on a large image the masks alone would fill the
/// memory.
pub(crate) fn with_logits(
    prompt: Prompt,
    segmenter: &Segmenter,
    image: &ImageInfo,
) -> Result<Prompt> {
    let Some(MaskPrompt::Mask(mask)) = prompt.mask_prompt() else {
        return Ok(prompt);
    };
    if mask.is_empty() {
        return Err(Problem::field("mask", PromptError::EmptyMask));
    }
    let frame = segmenter.frame(image.width, image.height)?;
    let logits = Logits::from_mask(mask, &frame, segmenter.logits_side());
    Ok(prompt.with_mask(logits))
}
