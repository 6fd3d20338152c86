//! **Samara** is promptable segmentation: give it an image and a click, a box or a rough mask, and
//! it answers with three candidate masks (whole, part, subpart), each with a predicted IoU, and
//! helps to pick the right one. It runs the Segment Anything family on a plain CPU.
//!
//! - [`Segmenter`]: a loaded model,
//! - [`Embedding`]: what it knows of one image; computed once, asked many times, savable,
//! - [`Prompt`]: clicks, a box, a mask, in original pixels,
//! - [`Candidates`]: the answer, and [`Select`]: which mask of it to use,
//! - [`Zoom`]: a second look at small objects, from a crop around the answer,
//! - [`MaskGenerator`]: all masks of an image without a prompt, and [`Hierarchy`]: which of them lies
//!   inside which,
//! - [`VideoSession`]: objects followed through the frames of a video.
//!
//! All coordinates are original pixels: x before y, origin at the top left.
#![forbid(unsafe_code)]

mod calibration;
mod candidate_head;
mod candidates;
mod device;
#[cfg(feature = "embedded")]
mod embedded;
mod embedding;
mod error;
mod everything;
mod granularity;
mod intent;
mod logits;
mod mlp;
mod prompt;
mod segmenter;
mod segmenter_options;
mod select;
#[cfg(feature = "tensors")]
pub mod tensors;
mod token_score;
#[cfg(feature = "video")]
mod video;
mod zoom;

pub use calibration::{Calibration, CalibrationCurve};
pub use candidate_head::{CandidateFeatures, CandidateHead, INTENT_NUMBERS, intent_numbers};
pub use candidates::{
    Candidate, Candidates, MaskTokens, MatchProbability, PredictedIou, StabilityScore,
};
pub use device::DeviceKind;
#[cfg(feature = "embedded")]
pub use embedded::{EMBEDDED_MODEL, embedded_checkpoint};
pub use embedding::Embedding;
pub use error::{Error, Result};
pub use everything::{
    Hierarchy, MaskGenerator, MaskGeneratorOptions, MaskRecord, MaskThresholds, Node, OutputMode,
    PointGrid, Segmentation,
};
pub use granularity::Granularity;
pub use intent::Intent;
pub use logits::Logits;
pub use mlp::{DenseLayer, Mlp, MlpError};
pub use prompt::{Click, MaskPrompt, Prompt};
pub use segmenter::Segmenter;
pub use segmenter_options::SegmenterOptions;
pub use select::{Select, Selection};
#[cfg(feature = "video")]
pub use video::{
    Direction, FrameMasks, ObjectId, ObjectMask, Position, Progress, VideoFrame, VideoOptions,
    VideoSession,
};
pub use zoom::{PixelRect, Zoom};

pub use samara_image as image;
pub use samara_image::{Limits, Mask, OriginalBox, OriginalPx, read_image, read_mask};
pub use samara_model::checkpoint;
