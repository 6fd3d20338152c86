//! Errors of the public API, split by who must act.

use std::convert::Infallible;
use std::path::PathBuf;

use samara_image::number::short;
use samara_image::{OriginalBox, OriginalPx};
use samara_model::checkpoint::CheckpointError;

use crate::zoom::PixelRect;

/// What can go wrong; every message is one line and names what it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller: a prompt that makes no sense for the image or the model.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The caller: a selection that makes no sense for the candidates.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The caller: an option that makes no sense.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The caller: a text that names nothing.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The caller: something that is asked of a video session.
    #[cfg(feature = "video")]
    #[error(transparent)]
    Video(#[from] VideoError),
    /// The caller: a box, pixels or a size that makes no sense.
    #[error(transparent)]
    Parameter(samara_image::Error),
    /// The file, its folder, or its size: an image or a mask that cannot be read or written.
    #[error(transparent)]
    Image(samara_image::Error),
    /// The checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint, or who made it: a candidate head.
    #[error("candidate head: {0}")]
    Head(#[from] HeadError),
    /// The checkpoint, or who made it: a calibration.
    #[error("calibration: {0}")]
    Calibration(#[from] CalibrationError),
    /// The file: a saved embedding or video session that is missing, damaged or of other weights.
    #[error("{}: {reason}", path.display())]
    Saved {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The device, or the build.
    #[error("device: {0}")]
    Device(#[from] DeviceError),
    /// The system gives no more threads.
    #[error("no threads to work on: {0}")]
    Threads(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nobody: a long call that its caller stopped.
    #[error("cancelled")]
    Cancelled,
}

/// `Result` with [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<samara_image::Error> for Error {
    fn from(error: samara_image::Error) -> Self {
        match error {
            samara_image::Error::Parameter { .. } => Self::Parameter(error),
            _ => Self::Image(error),
        }
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// An option that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option} {why}")]
pub struct OptionError {
    /// Its name.
    pub option: &'static str,
    /// Its value, and what is wrong with it.
    pub why: String,
}

impl OptionError {
    pub(crate) fn new(option: &'static str, why: impl Into<String>) -> Self {
        Self {
            option,
            why: why.into(),
        }
    }
}

/// A text that names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?}: expected {expected}")]
pub struct ParseError {
    /// What it should name.
    pub what: &'static str,
    /// The text.
    pub text: String,
    /// What is understood.
    pub expected: String,
}

impl ParseError {
    pub(crate) fn new(what: &'static str, text: &str, expected: impl Into<String>) -> Self {
        Self {
            what,
            text: text.to_owned(),
            expected: expected.into(),
        }
    }

    /// The one of `all` that `text` names.
    pub(crate) fn named<T: Copy>(
        what: &'static str,
        text: &str,
        all: &[T],
        name: fn(T) -> &'static str,
    ) -> Result<T, Self> {
        let named = all.iter().copied().find(|&one| name(one) == text);
        named.ok_or_else(|| {
            let names: Vec<_> = all.iter().copied().map(name).collect();
            Self::new(what, text, format!("one of {}", names.join(", ")))
        })
    }
}

/// A prompt that makes no sense for the image or the model.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// There is nothing to answer.
    #[error("the prompt has no point, box or mask")]
    Empty,
    /// The mask shows nothing.
    #[error("the mask prompt has no pixel set")]
    EmptyMask,
    /// A click whose coordinates are no numbers.
    #[error("point {},{} has a coordinate that is not a finite number", short(at.x), short(at.y))]
    PointNotFinite {
        /// The click, in original pixels.
        at: OriginalPx,
    },
    /// A number of a [`ModelPrompt`](crate::ModelPrompt) that is NaN or infinite.
    #[error("the prompt has a number that is not finite")]
    NotFinite,
    /// A click outside of the image.
    #[error(
        "point {},{} lies outside the image of {width}×{height} pixels{}",
        short(at.x), short(at.y), swapped_hint(*at, *width, *height)
    )]
    PointOutside {
        /// The click, in original pixels.
        at: OriginalPx,
        /// Width of the image.
        width: u32,
        /// Height of the image.
        height: u32,
    },
    /// A box that shares nothing with the image.
    #[error(
        "box {},{},{},{} lies outside the image of {width}×{height} pixels",
        short(bbox.min.x), short(bbox.min.y), short(bbox.max.x), short(bbox.max.y)
    )]
    BoxOutside {
        /// The box, in original pixels.
        bbox: OriginalBox,
        /// Width of the image.
        width: u32,
        /// Height of the image.
        height: u32,
    },
    /// Mask logits that make no square.
    #[error("mask logits: {values} values do not make a {side}×{side} grid")]
    LogitsLength {
        /// How many there are.
        values: usize,
        /// The side that they should have.
        side: usize,
    },
    /// Mask logits with a value that is NaN or infinite.
    #[error("mask logits: the value at row {row}, column {column} is not a finite number")]
    LogitsNotFinite {
        /// Its row.
        row: usize,
        /// Its column.
        column: usize,
    },
    /// Mask logits of another model.
    #[error(
        "mask logits of {found}×{found} values, the model takes {expected}×{expected}; a mask has no values but 0 and 1"
    )]
    LogitsSide {
        /// Their side.
        found: usize,
        /// The side that the model takes.
        expected: usize,
    },
    /// Mask logits that are finer than the model's input.
    #[error(
        "mask logits of {side}×{side} values do not belong to a model input of {input}×{input} pixels"
    )]
    LogitsTooFine {
        /// Their side.
        side: usize,
        /// Side of the model's input, in model pixels.
        input: u32,
    },
    /// There is no such mask token.
    #[error("there is no mask token {0}")]
    NoToken(usize),
    /// Prompts that cannot be decoded together.
    #[error("the prompts have different shapes")]
    Shapes,
    /// One of several prompts.
    #[error("prompt {index}: {source}")]
    OfBatch {
        /// Its position.
        index: usize,
        /// What is wrong with it.
        source: Box<PromptError>,
    },
    /// The image of a second look, or of all masks, is not the one that was embedded.
    #[error(
        "the image of {}×{} pixels is not the embedded one of {}×{}",
        image.0, image.1, embedded.0, embedded.1
    )]
    OtherImage {
        /// Width and height of the image.
        image: (u32, u32),
        /// Width and height of the embedded one.
        embedded: (u32, u32),
    },
    /// A part that the image does not have.
    #[error("part {part} is none of the image of {width}×{height} pixels")]
    PartOutside {
        /// The part, in original pixels.
        part: PixelRect,
        /// Width of the image.
        width: u32,
        /// Height of the image.
        height: u32,
    },
    /// A part in which nothing of the prompt lies.
    #[error("nothing of the prompt lies in the part {0}")]
    NothingInside(PixelRect),
}

/// Says so where a point would be inside with its coordinates swapped.
fn swapped_hint(at: OriginalPx, width: u32, height: u32) -> String {
    if OriginalPx::new(at.y, at.x).is_inside(width, height) {
        let (x, y) = (short(at.y), short(at.x));
        format!("; x comes before y: {x},{y} would be inside")
    } else {
        String::new()
    }
}

/// A selection that makes no sense for the candidates.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// There is nothing to select from.
    #[error("there is no candidate to select from")]
    NoCandidate,
    /// The model says nothing of what a prompt means.
    #[error("this model has no candidate head, which a learned selection needs")]
    NoHead,
    /// A ratio that no area has.
    #[error("area ratio {}: a share of the image, more than 0 and at most 1", short(*.0))]
    AreaRatio(f64),
    /// The truth is of another image.
    #[error(
        "the truth has {}×{} pixels, the image {}×{}",
        truth.0, truth.1, image.0, image.1
    )]
    TruthSize {
        /// Width and height of the truth.
        truth: (u32, u32),
        /// Width and height of the image.
        image: (u32, u32),
    },
}

/// What cannot be asked of a video session.
#[cfg(feature = "video")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VideoError {
    /// No object was prompted yet.
    #[error("no object to follow: prompt one first")]
    NoObject,
    /// The prompts of this object were taken back.
    #[error("object {0} has no prompt: give it one, or remove it")]
    NoPrompt(u32),
    /// There is no object of this id.
    #[error("there is no object {0}")]
    UnknownObject(u32),
    /// A frame of another size than the first one.
    #[error(
        "frame {index} has {}×{} pixels, the video has {}×{}",
        frame.0, frame.1, video.0, video.1
    )]
    FrameSize {
        /// Number of the frame.
        index: usize,
        /// Its width and height.
        frame: (u32, u32),
        /// Width and height of the video.
        video: (u32, u32),
    },
    /// A frame behind the last one.
    #[error("there is no frame {index}: the video has {frames}")]
    NoFrame {
        /// Number of the frame.
        index: usize,
        /// How many the video has.
        frames: usize,
    },
}

/// Layers or tensors that make no head, or none for this model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// The layers of a network do not follow on each other, or hold a value that is not finite.
    #[error("{network}: {source}")]
    Layers {
        /// The network: `predicted_iou` or `match`.
        network: &'static str,
        /// What is wrong with its layers.
        source: MlpError,
    },
    /// A network takes another number of inputs than the model gives.
    #[error(
        "{network} takes {found} numbers, this model with {tokens} mask tokens gives {expected}"
    )]
    Inputs {
        /// The network: `predicted_iou` or `match`.
        network: &'static str,
        /// Numbers that it takes.
        found: usize,
        /// Mask tokens of the model.
        tokens: usize,
        /// Numbers that the model gives.
        expected: usize,
    },
    /// A tensor that belongs to no layer.
    #[error("{0} belongs to no layer")]
    Unused(String),
    /// A tensor that is missing.
    #[error("{0} is missing")]
    Missing(String),
    /// A bias that does not fit its weight.
    #[error("{tensor} has the shape {shape:?} beside a weight of {weight:?}")]
    Shape {
        /// The bias.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The shape of the weight.
        weight: Vec<usize>,
    },
}

/// Layers that make no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MlpError {
    /// There is none.
    #[error("there is no layer")]
    Empty,
    /// A layer has another shape than the one behind it takes.
    #[error("layer {layer} has {weights} weights and {outputs} outputs, not {expected} outputs")]
    Shape {
        /// Its position.
        layer: usize,
        /// Its weights.
        weights: usize,
        /// Its outputs.
        outputs: usize,
        /// The outputs that the next layer takes.
        expected: usize,
    },
    /// A value is NaN or infinite.
    #[error("layer {layer} holds a value that is not finite")]
    NotFinite {
        /// Position of the layer.
        layer: usize,
    },
}

/// A curve that is none.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrationError {
    /// There is nothing to fit a curve to.
    #[error("no score is finite")]
    NoScore,
    /// It has no knots, or too many.
    #[error("{found} knots, a curve has 1 to {most}")]
    Knots {
        /// How many it has.
        found: usize,
        /// How many it may have.
        most: usize,
    },
    /// A knot whose score is not finite, or whose IoU is not in 0..=1.
    #[error("knot {knot} maps {score} to {iou}, which is no IoU of a score")]
    NoIou {
        /// Its position.
        knot: usize,
        /// Its score.
        score: f32,
        /// Its IoU.
        iou: f32,
    },
    /// A knot that does not rise above the one before.
    #[error("knot {knot} does not rise above knot {}", knot - 1)]
    Falls {
        /// Its position.
        knot: usize,
    },
}

/// A device that this build does not have, or that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// This build has no support for it.
    #[error("{device} is not part of this build; build with --features {feature}")]
    Absent {
        /// The name of the device.
        device: &'static str,
        /// The cargo feature that brings it.
        feature: &'static str,
    },
    /// It failed while it computed, or a value could not be read back.
    #[error("{0}")]
    Failed(String),
    /// It gave no answer to a prompt.
    #[error("the prompt was not answered")]
    NoAnswer,
    /// It gave an answer that is NaN or infinite: its weights or the logits of the prompt are damaged.
    #[error("{tensor} of the model's answer is NaN or infinite")]
    NotFinite {
        /// What of the answer: `iou`, `low_res_logits`, or what is computed from them.
        tensor: &'static str,
    },
}
