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
mod expected_iou;
mod granularity;
mod int8_model;
mod int8_report;
mod intent;
mod logits;
mod mask_tokens;
mod mlp;
mod model_prompt;
mod precision;
mod predict;
mod preprocess;
mod prompt;
mod score;
mod segmenter;
mod segmenter_options;
mod select;
mod setters;
#[cfg(feature = "tensors")]
pub mod tensors;
mod token_score;
mod upsampler;
#[cfg(feature = "video")]
mod video;
mod zoom;

pub use calibration::{Calibration, CalibrationCurve};
pub use candidate_head::{CandidateFeatures, CandidateHead, INTENT_NUMBERS, intent_numbers};
pub use candidates::{Candidate, Candidates};
pub use device::DeviceKind;
#[cfg(feature = "embedded")]
pub use embedded::{EMBEDDED_MODEL, embedded_checkpoint};
pub use embedding::Embedding;
#[cfg(feature = "video")]
pub use error::VideoError;
pub use error::{
    CalibrationError, DeviceError, Error, HeadError, MlpError, OptionError, ParseError,
    PromptError, Result, SelectError,
};
pub use everything::{
    Hierarchy, MaskGenerator, MaskGeneratorOptions, MaskRecord, MaskThresholds, Node, OutputMode,
    PointGrid, Segmentation,
};
pub use granularity::Granularity;
pub use int8_model::{Int8Model, Int8Options, Int8Stage};
pub use int8_report::Int8Report;
pub use intent::Intent;
pub use logits::Logits;
pub use mask_tokens::MaskTokens;
pub use mlp::{DenseLayer, Mlp};
pub use model_prompt::ModelPrompt;
pub use precision::Precision;
pub use prompt::{Click, MaskPrompt, Prompt};
pub use score::{MatchProbability, PredictedIou, StabilityScore};
pub use segmenter::Segmenter;
pub use segmenter_options::SegmenterOptions;
pub use select::{Select, Selection};
#[cfg(feature = "video")]
pub use video::{
    Direction, FrameMasks, ObjectId, ObjectMask, Position, Progress, VideoFrame, VideoOptions,
    VideoSession,
};
pub use zoom::{PixelRect, Zoom};

pub use samara_image;
#[cfg(feature = "overlay")]
pub use samara_image::Overlay;
pub use samara_image::{
    BBox, CocoRle, Frame, ImageLimits, InputImage, Mask, OriginalBox, OriginalPx, PixelFormat,
    Pixels, Polygon, RgbImage, Rle, decode_image, decode_mask, palette, read_image, read_mask,
};
#[cfg(feature = "video")]
pub use samara_image::{FrameSource, VideoWriter, open_video};

/// Checkpoints: what a file holds, conversion, released models and their download.
pub mod checkpoint {
    #[cfg(feature = "download")]
    pub use samara_model::checkpoint::download;
    pub use samara_model::checkpoint::{
        CANDIDATE_HEAD, Checkpoint, CheckpointError, CheckpointInfo, Format, HeadTensor,
        HeadTensors, Mismatch, Naming, StorageType, WrongShape, cache, registry,
    };
}

/// What most programs need.
///
/// ```
/// use samara::prelude::*;
/// ```
pub mod prelude {
    pub use crate::{
        Candidate, Candidates, DeviceKind, Embedding, Granularity, Hierarchy, ImageLimits, Intent,
        Mask, MaskGenerator, MaskGeneratorOptions, OriginalBox, OriginalPx, OutputMode,
        PixelFormat, Pixels, Precision, Prompt, Segmenter, SegmenterOptions, Select, Selection,
        decode_image, read_image, read_mask,
    };
    #[cfg(feature = "video")]
    pub use crate::{Direction, VideoOptions, VideoSession, open_video};
}
