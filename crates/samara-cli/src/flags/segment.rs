//! The flags of `samara segment`.

use std::path::PathBuf;

use clap::Args;
use samara::{Click, OriginalBox, Zoom};

use super::{IntentFlag, LimitFlags, ModelFlags};
use crate::args::{SelectArg, parse_box, parse_point};

/// What `segment` does without `--zoom`.
const DEFAULT_ZOOM: Zoom = Zoom::Off;

#[derive(Debug, Args)]
#[command(after_help = "\
Coordinates are pixels of the original image: x before y, from the top left.

Without an output flag the image goes to IMAGE_STEM.overlay.png in the current folder.

Examples:
  One click, the best of three masks drawn over the photo:
    samara segment photo.jpg --model mobile-sam --point 520,360 --out shirt.png
  A click on the object and one beside it, one mask, as JSON with COCO RLE:
    samara segment photo.jpg --model mobile-sam --point 520,360 --point 610,90,0 --single --json -
  The part rather than the whole, and why:
    samara segment photo.jpg --model mobile-sam --point 520,360 --select part --explain
  A small object, looked at once more from close by:
    samara segment photo.jpg --model mobile-sam --point 520,360 --zoom auto --explain
  Outline every segment, not whole things:
    samara segment photo.jpg --point 520,360 --intent segments --explain
  Embed once, ask again at once:
    samara segment photo.jpg --model sam-vit-b --point 520,360 --save-embedding photo.emb
    samara segment photo.jpg --model sam-vit-b --point 300,200 --embedding photo.emb
  Refine the last answer with a further click:
    samara segment photo.jpg --model sam-vit-b --point 520,360 --raw last.safetensors
    samara segment photo.jpg --model sam-vit-b --point 520,360 --point 500,420 --mask last.safetensors --single")]
pub(crate) struct SegmentFlags {
    /// The image: JPEG, PNG, WebP, TIFF, BMP or GIF
    pub(crate) image: PathBuf,

    #[command(flatten)]
    pub(crate) model: ModelFlags,

    /// A click: on the object (1, the default) or a negative one beside it (0); repeatable
    #[arg(long = "point", value_name = "X,Y[,0|1]", value_parser = parse_point,
          allow_hyphen_values = true, help_heading = "Prompt")]
    pub(crate) points: Vec<Click>,

    /// A box around the object, corners in any order; several boxes are several objects
    #[arg(long = "box", value_name = "X0,Y0,X1,Y1", value_parser = parse_box,
          allow_hyphen_values = true, help_heading = "Prompt")]
    pub(crate) boxes: Vec<OriginalBox>,

    /// A rough mask: an image (white on black), an .npy array (bool, u8: mask; f32: logits), or
    /// the .safetensors of an earlier --raw
    #[arg(long, value_name = "FILE", help_heading = "Prompt")]
    pub(crate) mask: Option<PathBuf>,

    /// One mask instead of three, for a prompt that is not ambiguous
    #[arg(long, help_heading = "Prompt")]
    pub(crate) single: bool,

    /// Look at small objects once more, from a crop around the first answer: auto, off, or always
    /// with the image's longest side divided by a FACTOR of more than 1
    #[arg(
        long,
        value_name = "auto|off|FACTOR",
        default_value_t = DEFAULT_ZOOM,
        help_heading = "Prompt"
    )]
    pub(crate) zoom: Zoom,

    #[command(flatten)]
    pub(crate) meaning: IntentFlag,

    /// Which mask: best (learned where the model has a candidate head, else score), learned (highest expected
    /// IoU), score (highest score of the decoder: the official choice), whole, part, subpart, largest,
    /// smallest, area=R, box=X0,Y0,X1,Y1, union, intersection, weighted, vote, oracle=TRUTH.png, or all
    #[arg(
        long,
        value_name = "HOW",
        default_value = "best",
        help_heading = "Selection"
    )]
    pub(crate) select: SelectArg,

    /// Say in one line why this mask was selected
    #[arg(long, help_heading = "Selection")]
    pub(crate) explain: bool,

    /// An image of the selected mask (.png, .jpg), or a folder for images, masks and JSON
    #[arg(long, value_name = "FILE|DIR", help_heading = "Output")]
    pub(crate) out: Option<PathBuf>,

    /// The selected mask, white on black
    #[arg(long, value_name = "FILE.png", help_heading = "Output")]
    pub(crate) out_mask: Option<PathBuf>,

    /// Candidates and selection as JSON, masks as COCO RLE; - is standard output
    #[arg(long, value_name = "FILE|-", help_heading = "Output")]
    pub(crate) json: Option<PathBuf>,

    /// Image embedding, low-resolution logits and scores as tensors
    #[arg(long, value_name = "FILE.safetensors", help_heading = "Output")]
    pub(crate) raw: Option<PathBuf>,

    /// Keep the image embedding for later prompts
    #[arg(long, value_name = "FILE", help_heading = "Embedding")]
    pub(crate) save_embedding: Option<PathBuf>,

    /// Use a kept embedding of this image by this model
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "save_embedding",
        help_heading = "Embedding"
    )]
    pub(crate) embedding: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) limits: LimitFlags,
}
