//! The flags of `samara quality` and `samara levels`.

use std::path::PathBuf;

use clap::{Arg, Args};
use samara::{Click, OriginalBox};

use super::{DataFlags, LimitFlags, ModelFlags, ReadFlags};
use crate::args::{parse_box, parse_point, positive};

/// Flags that only mean something for an image with masks, and for a data set.
const OF_IMAGES: [&str; 6] = ["soft", "point", "bbox", "out", "out_mask", "page"];
const OF_DATA: [&str; 9] = [
    "split",
    "images",
    "limit",
    "min_area",
    "worst",
    "report",
    "keep",
    "min_quality",
    "drop",
];

/// Says which flags need `--mask`, and which rule it out. What is required counts for nothing beside a flag that rules
/// it out, so that is ruled out as well.
fn needs_its_kind(arg: Arg) -> Arg {
    let id = arg.get_id().as_str();
    if OF_IMAGES.contains(&id) {
        arg.requires("masks").conflicts_with_all(OF_DATA)
    } else if OF_DATA.contains(&id) {
        arg.conflicts_with("masks")
    } else {
        arg
    }
}

#[derive(Debug, Args)]
#[command(mut_args(needs_its_kind), after_help = concat!("\
A mask may come from anywhere: another model, an annotator, a thresholded attention map. Its IoU with
the unknown truth is estimated from how the model's own answers agree with it, its outline and form,
and the features inside and outside of it (docs/quality.md).

--mask reads images (white on black; with --soft grey levels are probabilities), .npy (bool, u8: a
mask; f32, f64: probabilities from 0 to 1) and .json (COCO run lengths or polygons, an annotation, a
list of them, or what 'samara segment --json' writes).

", layouts!(), "

--keep writes the annotations of a data set without the suspects and everything else as it was. File
names of images are not touched: keep the new file beside the old one, or give it an images/ folder of
its own.

Examples:
  How good is a mask, and how would the model draw it:
    samara quality photo.jpg --mask mask.png --out both.png --out-mask refined.png
  Several masks of one detection, as JSON:
    samara quality photo.jpg --mask a.npy --mask b.json --box 100,80,640,470 --json -
  The worst annotations of a data set, as a page:
    samara quality data/coco256 --report suspects.html
  Annotations without the worst tenth, to train with:
    samara quality data/coco256 --drop 0.1 --keep data/coco256/kept.json"))]
pub(crate) struct QualityFlags {
    /// An image with --mask, or a data set: a folder, or a .json of COCO annotations
    #[arg(value_name = "IMAGE|DATA")]
    pub(crate) input: PathBuf,

    #[command(flatten)]
    pub(crate) model: ModelFlags,

    /// Estimate with this head, which was trained with the same model; the embedded one has its own
    #[arg(long, value_name = "FILE.safetensors", help_heading = "Model")]
    pub(crate) head: Option<PathBuf>,

    /// A mask of the image; repeatable
    #[arg(long = "mask", value_name = "FILE", help_heading = "Image")]
    pub(crate) masks: Vec<PathBuf>,

    /// The grey levels of mask images (8 or 16 bits) are probabilities
    #[arg(long, help_heading = "Image")]
    pub(crate) soft: bool,

    /// Where the object is, known from elsewhere than the mask: a click on it
    #[arg(long, value_name = "X,Y", value_parser = parse_point,
          allow_hyphen_values = true, help_heading = "Image")]
    pub(crate) point: Option<Click>,

    /// Where the object is, known from elsewhere than the mask: a box around it
    #[arg(long = "box", value_name = "X0,Y0,X1,Y1", value_parser = parse_box,
          allow_hyphen_values = true, help_heading = "Image")]
    pub(crate) bbox: Option<OriginalBox>,

    /// An image: each mask on the left, as the model refines it on the right
    #[arg(long, value_name = "FILE", help_heading = "Image")]
    pub(crate) out: Option<PathBuf>,

    /// The refined mask, white on black
    #[arg(long, value_name = "FILE.png", help_heading = "Image")]
    pub(crate) out_mask: Option<PathBuf>,

    /// The split of the data set: val, train, … or all images [default: all]
    #[arg(long, value_name = "NAME", help_heading = "Data set")]
    pub(crate) split: Option<String>,

    /// The folder of the images of a data set's COCO annotations, if it is not one of the usual places
    #[arg(long, value_name = "DIR", help_heading = "Data set")]
    pub(crate) images: Option<PathBuf>,

    /// At most N images, evenly spread
    #[arg(long, value_name = "N", value_parser = positive, conflicts_with = "keep",
          help_heading = "Data set")]
    pub(crate) limit: Option<usize>,

    /// Masks of fewer pixels are not assessed, and kept: those that the model is too coarse for
    #[arg(long, value_name = "PIXELS", help_heading = "Data set")]
    pub(crate) min_area: Option<u64>,

    /// How many of the worst are shown [default: 20]
    #[arg(long, value_name = "N", value_parser = positive,
          help_heading = "Data set")]
    pub(crate) worst: Option<usize>,

    /// A page with figures and images of the worst
    #[arg(long, value_name = "FILE.html", help_heading = "Data set")]
    pub(crate) report: Option<PathBuf>,

    /// The annotations without the suspects: those that --min-quality or --drop name
    #[arg(
        long,
        value_name = "OUT.json",
        requires = "suspects",
        help_heading = "Data set"
    )]
    pub(crate) keep: Option<PathBuf>,

    /// A suspect has an estimated IoU below Q, from 0 to 1
    #[arg(long, value_name = "Q", value_parser = share, requires = "keep", group = "suspects",
          help_heading = "Data set")]
    pub(crate) min_quality: Option<f64>,

    /// The worst SHARE of the annotations are suspects, from 0 to 1
    #[arg(long, value_name = "SHARE", value_parser = share, requires = "keep", group = "suspects",
          help_heading = "Data set")]
    pub(crate) drop: Option<f64>,

    /// Everything as JSON; - is standard output
    #[arg(long, value_name = "FILE|-", help_heading = "Output")]
    pub(crate) json: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) read: ReadFlags,
}

#[derive(Debug, Args)]
#[command(after_help = concat!(layouts!(), "

Every annotated object is clicked where it is deepest, and the three candidates become annotations of
their own: level (whole, part, subpart), score (predicted IoU), stability_score, source (the
annotation they come from), point, and its category. What was found before in the same image (IoU
above 0.95) is written once, with its best score.

OUT is COCO with the file names of the data set, and is read like any data set: write it beside
annotations.json, or beside images/, and train with it.

Examples:
  Three granularities, of which the model is half sure at least:
    samara levels data/coco256 --min-score 0.5 --out data/coco256/levels.json
  Together with what was annotated:
    samara levels data/coco256 --with-annotations --out data/coco256/levels.json"))]
pub(crate) struct LevelsFlags {
    /// The data set: a folder, or a .json of COCO annotations
    pub(crate) data: PathBuf,

    #[command(flatten)]
    pub(crate) model: ModelFlags,

    /// The annotations to write
    #[arg(long, value_name = "OUT.json", help_heading = "Output")]
    pub(crate) out: PathBuf,

    /// The split: val, train, … or all images
    #[arg(
        long,
        value_name = "NAME",
        default_value = "all",
        help_heading = "Data set"
    )]
    pub(crate) split: String,

    /// At most N images, evenly spread
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Data set")]
    pub(crate) limit: Option<usize>,

    /// Skip candidates with a lower score, from 0 to 1
    #[arg(long, value_name = "SCORE", value_parser = share, default_value_t = 0.0,
          help_heading = "Output")]
    pub(crate) min_score: f64,

    /// Write the annotations of the data set too, with masks as run lengths
    #[arg(long, help_heading = "Output")]
    pub(crate) with_annotations: bool,

    #[command(flatten)]
    pub(crate) read: DataFlags,

    #[command(flatten)]
    pub(crate) limits: LimitFlags,
}

/// A number from 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
        _ => Err("expected a number from 0 to 1".into()),
    }
}
