//! The flags of `samara segment`.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use samara::{Click, OriginalBox, Zoom};

use super::{IntentFlag, ModelFlags, ReadFlags};
use crate::args::{SelectArg, parse_box, parse_point};

/// What `segment` does without `--zoom`.
const DEFAULT_ZOOM: Zoom = Zoom::Off;

/// What `segment` writes into a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SegmentFormat {
    /// NAME.overlay.png: the photo with masks, prompts and scores
    Overlay,
    /// NAME.json: candidates and selections with run lengths
    Json,
    /// NAME.mask.png and NAME.candidate-0.png, …: selected masks and all candidates
    Masks,
    /// annotations.json: COCO with run lengths
    Coco,
    /// yolo/NAME.txt and yolo/classes.txt: polygons as YOLO segmentation has them
    Yolo,
    /// labelme/NAME.json: polygons, and masks where there are holes or several parts
    Labelme,
    /// labels/NAME.png: a label map of 16 bits, 1 for the first object
    Labels,
    /// cutouts/NAME.png: the objects on a transparent ground
    Cutouts,
}

impl SegmentFormat {
    /// What is written if nothing else is asked for.
    pub(crate) const DEFAULT: [Self; 3] = [Self::Overlay, Self::Json, Self::Masks];
}

impl Display for SegmentFormat {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

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
  Boxes of COCO annotations as masks, for many images, as COCO and YOLO files:
    samara segment --prompts instances_val2017.json --images val2017 --out masks --format coco,yolo
  Refine the last answer with a further click:
    samara segment photo.jpg --model sam-vit-b --point 520,360 --raw last.safetensors
    samara segment photo.jpg --model sam-vit-b --point 520,360 --point 500,420 --mask last.safetensors --single")]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub(crate) struct SegmentFlags {
    /// The image: JPEG, PNG, WebP, TIFF, BMP or GIF; --prompts may name many instead
    pub(crate) image: Option<PathBuf>,

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

    /// A rough mask: an image (white on black), an .npy array (bool, u8: mask; f32: logits), .json (COCO run
    /// lengths, an annotation, the answer of an earlier --json), or the .safetensors of an earlier --raw
    #[arg(long, value_name = "FILE", help_heading = "Prompt")]
    pub(crate) mask: Option<PathBuf>,

    /// A file of prompts, for the image or for many: JSON (a list), .jsonl (one a line), or COCO annotations, whose
    /// boxes are the prompts
    #[arg(long, value_name = "FILE", conflicts_with_all = ["points", "boxes", "mask"], help_heading = "Prompt")]
    pub(crate) prompts: Option<PathBuf>,

    /// The folder of the images of COCO annotations, if it is not one of the usual places
    #[arg(
        long,
        value_name = "DIR",
        requires = "prompts",
        help_heading = "Prompt"
    )]
    pub(crate) images: Option<PathBuf>,

    /// The class of the objects in COCO, YOLO and labelme files, if the file of prompts names none [default: object]
    #[arg(long, value_name = "NAME", help_heading = "Prompt")]
    pub(crate) label: Option<String>,

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

    /// An image of the selected mask (.png, .jpg), or a folder for what --format names
    #[arg(long, value_name = "FILE|DIR", help_heading = "Output")]
    pub(crate) out: Option<PathBuf>,

    /// What to write into the folder of --out, separated by commas
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_values_t = SegmentFormat::DEFAULT,
        help_heading = "Output"
    )]
    pub(crate) format: Vec<SegmentFormat>,

    /// Resume the run of a file of prompts in OUT; what is done stays
    #[arg(long, help_heading = "Output")]
    pub(crate) resume: bool,

    /// Begin anew where there are results; they are replaced
    #[arg(long, conflicts_with = "resume", help_heading = "Output")]
    pub(crate) overwrite: bool,

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
    pub(crate) read: ReadFlags,
}
