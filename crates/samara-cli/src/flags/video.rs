//! The flags of `samara video`.

use std::path::PathBuf;

use super::{IntentFlag, LimitFlags, ModelFlags};
use crate::args::{MaskPromptArg, VideoPromptArg};
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
#[command(after_help = "\
A SAM 2 checkpoint (samara models list) follows objects by its memory. Any other model, the embedded
`lite` too, only carries the last mask to the next frame; it loses objects that move fast, are hidden
or look like others, and SAM 2 is far better. Both say for every frame how likely the object is hidden.

Frames and objects are numbers: frames from 0, objects from 1. A frame may have several prompts for one
object. By default all frames are tracked: from the first prompted frame to the end, then back to the
start. Video files need ffmpeg.

An interrupted or killed run resumes with --resume.

Examples:
  A click on frame 0:
    samara video clip.mp4 --model sam2.1-tiny --prompt 0:1:520,360 --out tracked
  Two objects, a box and two clicks; a correction on frame 40:
    samara video clip.mp4 --model sam2.1-tiny --prompt 0:1:100,80,300,470 \\
        --prompt 0:2:520,360 --prompt 0:2:610,90,0 --prompt 40:1:180,200 --out tracked
  The objects of an annotated frame, as in the DAVIS data set, without the overlay:
    samara video frames --masks 0:00000.png --format masks --out tracked")]
pub(crate) struct VideoFlags {
    /// A video file, or a folder of frames in the order of their names
    #[arg(value_name = "VIDEO|FRAME_DIR")]
    pub(crate) input: PathBuf,

    #[command(flatten)]
    pub(crate) model: ModelFlags,

    /// A click or a box for an object on a frame; repeatable
    #[arg(
        long = "prompt",
        value_name = "FRAME:OBJ:X,Y[,0|1]|X0,Y0,X1,Y1",
        help_heading = "Prompt"
    )]
    pub(crate) prompts: Vec<VideoPromptArg>,

    /// A mask for an object on a frame (an image, white on black), or for several: without OBJ, every
    /// value of a palette or grey image is an object; repeatable
    #[arg(
        long = "masks",
        value_name = "FRAME[:OBJ]:FILE",
        help_heading = "Prompt"
    )]
    pub(crate) masks: Vec<MaskPromptArg>,

    /// Prompts as JSON: [{"frame": 0, "object": 1, "points": [[x, y, 1]], "box": [x0, y0, x1, y1]}]
    #[arg(long = "prompts", value_name = "FILE.json", help_heading = "Prompt")]
    pub(crate) prompts_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) meaning: IntentFlag,

    /// Which way to track from the first prompted frame
    #[arg(long, value_enum, default_value = "both", help_heading = "Tracking")]
    pub(crate) direction: DirectionFlag,

    /// First frame to track
    #[arg(
        long,
        value_name = "FRAME",
        default_value_t = 0,
        help_heading = "Tracking"
    )]
    pub(crate) from: usize,

    /// Last frame to track
    #[arg(long, value_name = "FRAME", help_heading = "Tracking")]
    pub(crate) to: Option<usize>,

    /// A pixel belongs to one object at most
    #[arg(long, help_heading = "Tracking")]
    pub(crate) non_overlap_masks: bool,

    /// Holes of at most so many logit pixels of SAM 2's masks are filled
    #[arg(
        long,
        value_name = "PIXELS",
        default_value_t = 8,
        help_heading = "Tracking"
    )]
    pub(crate) fill_hole_area: u64,

    /// Folder for the results; it is made if it is not there
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub(crate) out: PathBuf,

    /// What to write, separated by commas
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_values = ["masks", "json", "overlay"],
        help_heading = "Output"
    )]
    pub(crate) format: Vec<VideoFormat>,

    /// Resume the run in OUT
    #[arg(long, help_heading = "Output")]
    pub(crate) resume: bool,

    /// Begin anew where there is a run; its results are replaced
    #[arg(long, conflicts_with = "resume", help_heading = "Output")]
    pub(crate) overwrite: bool,

    #[command(flatten)]
    pub(crate) limits: LimitFlags,
}

/// What `samara video` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VideoFormat {
    /// masks/FRAME.png: palette images as in the DAVIS data set; 16-bit grey for numbers above 255
    Masks,
    /// masklets.json: all masks as COCO RLE, as in the SA-V data set, with scores
    Json,
    /// overlay.mp4: the video with the masks over it (needs ffmpeg)
    Overlay,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DirectionFlag {
    /// To the last frame
    Forward,
    /// To the first frame
    Backward,
    /// To the last frame, then to the first
    Both,
}
