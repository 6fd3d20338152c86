//! Video sessions and their masks as answers write them.

use samara::{FrameMasks, ObjectMask};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::Result;
use crate::masks::{MaskAnswer, MaskStyle};

/// A video session.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct VideoInfo {
    /// Its name.
    pub(crate) id: String,
    /// The model that follows the objects.
    pub(crate) model: String,
    /// Width of the frames in pixels; null before the first frame.
    pub(crate) width: Option<u32>,
    /// Height of the frames in pixels; null before the first frame.
    pub(crate) height: Option<u32>,
    /// How many frames there are; null if that is not known. Of a file it is what the file says.
    pub(crate) frames: Option<usize>,
    /// Frames a second; null if that is not known.
    pub(crate) frame_rate: Option<f64>,
    /// The objects that are followed.
    pub(crate) objects: Vec<u32>,
    /// The frame that was tracked last; null before any.
    pub(crate) position: Option<usize>,
    /// Whether it is at work; the rest is what was known before then.
    pub(crate) busy: bool,
}

impl VideoInfo {
    /// Width and height in pixels; 0 before the first frame.
    pub(crate) fn size(&self) -> (u32, u32) {
        (self.width.unwrap_or(0), self.height.unwrap_or(0))
    }

    /// How many frames are known of.
    pub(crate) fn frame_count(&self) -> usize {
        self.frames.unwrap_or(0)
    }
}

/// An object in a frame.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct VideoObject {
    /// Which object.
    pub(crate) object: u32,
    /// The estimated IoU of the mask.
    predicted_iou: f32,
    /// Logit of the object being in the frame: it is there if this is positive.
    object_score: f32,
    #[serde(flatten)]
    mask: MaskAnswer,
}

impl VideoObject {
    pub(crate) fn new(found: &ObjectMask, style: MaskStyle) -> Result<Self> {
        Ok(Self {
            object: found.object,
            predicted_iou: found.predicted_iou.0,
            object_score: found.object_score,
            mask: MaskAnswer::new(&found.mask, style)?,
        })
    }
}

/// All objects in a frame.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct VideoFrameAnswer {
    /// Number of the frame, from 0.
    frame: usize,
    objects: Vec<VideoObject>,
}

impl VideoFrameAnswer {
    pub(crate) fn new(found: &FrameMasks, style: MaskStyle) -> Result<Self> {
        let objects = found
            .objects
            .iter()
            .map(|object| VideoObject::new(object, style));
        Ok(Self {
            frame: found.index,
            objects: objects.collect::<Result<_>>()?,
        })
    }
}
