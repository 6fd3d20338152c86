//! The flags of `samara eval`.
#![allow(clippy::doc_markdown, reason = "these comments are the help texts")]

use std::error::Error;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Arg, Args, ValueEnum};
use samara::{Intent, Precision, Zoom};
use samara_data::prompts::Placement;

use super::{DataFlags, GeneratorFlags, ModelFlags};
use crate::args::positive;

/// Flags that only mean something where images are prompted.
const PROMPTED: [&str; 15] = [
    "compare",
    "clicks_at",
    "clicks",
    "draws",
    "seed",
    "further_clicks_at",
    "intent",
    "zoom",
    "max_objects",
    "min_area",
    "max_area",
    "noc",
    "report",
    "calibrate",
    "calibration",
];

/// Flags that mean nothing to videos, beside these.
const NOT_OF_VIDEOS: [&str; 3] = ["everything", "images", "stretch"];

/// Says which flags only mean something with `--everything`, and which with `--video`. What is required counts for
/// nothing beside a flag that rules it out, so that is ruled out as well.
fn needs_its_kind(arg: Arg) -> Arg {
    let id = arg.get_id().as_str();
    if arg.get_help_heading() == Some(GeneratorFlags::HEADING) {
        let arg = arg.requires("everything").conflicts_with("video");
        arg.conflicts_with_all(PROMPTED)
    } else if ["protocol", "predictions"].contains(&id) {
        let arg = arg.requires("video").conflicts_with_all(NOT_OF_VIDEOS);
        arg.conflicts_with_all(PROMPTED)
    } else {
        arg
    }
}

/// Names of placements and of intents, which the help lists.
const PLACEMENTS: [&str; 3] = ["center", "uniform", "human"];
const INTENTS: [&str; 3] = ["balanced", "objects", "segments"];

/// One of the named values.
fn named<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: Into<Box<dyn Error + Send + Sync>>> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names.iter().copied()).try_map(|name| name.parse::<T>())
}

#[derive(Debug, Args)]
#[command(mut_args(needs_its_kind), after_help = concat!(layouts!(), "

Every object is clicked where it is deepest (center), anywhere on it (uniform) and as people
click (human: rather toward the middle, rarely exactly in it). Each of these clicks is a prompt of its
own and answered with three candidates, of which the model chooses one. Further clicks begin with the
one in the center; each goes where the mask is most wrong and is answered with one mask, as the box is.

Examples:
  The mIoU after 1 to 5 clicks and of boxes, as a page:
    samara eval data/coco256 --model mobile-sam --report mobile-sam.html
  Quickly, over several sets, by the usual protocol alone:
    samara eval data/coco256 data/camvid --model mobile-sam --limit 50 --max-objects 10 --clicks 3 \\
        --clicks-at center
  What small objects and clicks as people make them cost, ten clicks on each:
    samara eval data/coco256 --clicks-at human --draws 10 --max-area 1024
  Is the embedded model better than MobileSAM, and how sure is that?
    samara eval data/coco256 --compare mobile-sam --json compared.json
  How many annotated objects segment-everything finds:
    samara eval data/bsds500 --everything
  How well objects are followed through videos:
    samara eval data/DAVIS --video --model sam2.1-tiny
  Teach a model what its scores mean:
    samara eval data/coco256 --split train --model sam-vit-b --calibrate sam_vit_b.calibrated.safetensors"))]
pub(crate) struct EvalFlags {
    /// Data sets
    #[arg(required = true)]
    pub(crate) data: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) model: ModelFlags,

    /// The split: val, train, … or all images
    #[arg(
        long,
        value_name = "NAME",
        default_value = "val",
        help_heading = "Data"
    )]
    pub(crate) split: String,

    #[command(flatten)]
    pub(crate) read: DataFlags,

    /// At most N images of a set, or N videos, evenly spread
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Data")]
    pub(crate) limit: Option<usize>,

    /// At most N objects of an image, evenly spread
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Data")]
    pub(crate) max_objects: Option<usize>,

    /// Skip objects of fewer pixels
    #[arg(
        long,
        value_name = "PIXELS",
        default_value_t = 1,
        help_heading = "Data"
    )]
    pub(crate) min_area: u64,

    /// Skip objects of more pixels
    #[arg(long, value_name = "PIXELS", help_heading = "Data")]
    pub(crate) max_area: Option<u64>,

    /// Where first clicks land: on the deepest pixel of the object, on any pixel of it, or on a pixel
    /// drawn by its depth; repeatable or with commas [default: all three]
    #[arg(long, value_name = "WHERE", value_delimiter = ',', value_parser = named::<Placement>(&PLACEMENTS),
          help_heading = "Protocol")]
    pub(crate) clicks_at: Vec<Placement>,

    /// Clicks on every object for each of uniform and human [default: 3]
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Protocol")]
    pub(crate) draws: Option<usize>,

    /// Seed of the clicks that are drawn: the same seed, the same clicks, for any model [default: 0]
    #[arg(long, value_name = "N", help_heading = "Protocol")]
    pub(crate) seed: Option<u64>,

    /// Where further clicks land in the larger error of the mask: on its deepest pixel, on any pixel
    /// of it, or on a pixel drawn by its depth [default: center]
    #[arg(long, value_name = "WHERE", value_parser = named::<Placement>(&PLACEMENTS), help_heading = "Protocol")]
    pub(crate) further_clicks_at: Option<Placement>,

    /// What clicks are said to mean, for a model that chooses by that
    #[arg(long, value_name = "WHAT", default_value_t, value_parser = named::<Intent>(&INTENTS),
          help_heading = "Protocol")]
    pub(crate) intent: Intent,

    /// Look at small objects once more, as `samara segment --zoom` does: auto, off, or a FACTOR. A model
    /// that is compared does not, so the same one shows what it is worth
    #[arg(
        long,
        value_name = "auto|off|FACTOR",
        default_value_t,
        help_heading = "Protocol"
    )]
    pub(crate) zoom: Zoom,

    /// Another model on the same objects and first clicks, and the difference to it: a downloaded
    /// model by name, or a checkpoint file
    #[arg(long, value_name = "NAME|FILE", help_heading = "Model")]
    pub(crate) compare: Option<String>,

    /// Numbers that the model of --compare multiplies [default: as --precision]
    #[arg(
        long,
        value_name = "PRECISION",
        requires = "compare",
        help_heading = "Model"
    )]
    pub(crate) compare_precision: Option<Precision>,

    /// Clicks on every object, 1 to 20
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=20),
          help_heading = "Protocol")]
    pub(crate) clicks: u8,

    /// Also count clicks to an IoU of 80, 85 and 90 %: up to 20 clicks on every object
    #[arg(long, help_heading = "Protocol")]
    pub(crate) noc: bool,

    /// Instead of prompts: generate all masks, and see how many objects are among them, and whether
    /// the tree of masks has annotated parts below their wholes
    #[arg(long, conflicts_with_all = PROMPTED, help_heading = "Protocol")]
    pub(crate) everything: bool,

    /// Instead of images: annotated videos as DAVIS or SA-V has them. Objects are followed from
    /// their first annotation, and J and F are measured
    #[arg(long, conflicts_with_all = NOT_OF_VIDEOS, conflicts_with_all = PROMPTED,
          help_heading = "Protocol")]
    pub(crate) video: bool,

    /// Which frames and objects of videos count; without it, as the layout of the set says
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Protocol")]
    pub(crate) protocol: Option<ProtocolFlag>,

    /// Masks that are there already, instead of a model: DIR/SEQUENCE/*.png
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["model", "checkpoint", "unchecked_weights"],
        help_heading = "Protocol"
    )]
    pub(crate) predictions: Option<PathBuf>,

    /// Figures with confidence intervals as JSON; - is standard output
    #[arg(long, value_name = "FILE|-", help_heading = "Output")]
    pub(crate) json: Option<PathBuf>,

    /// A page with figures, charts and examples
    #[arg(long, value_name = "FILE.html", help_heading = "Output")]
    pub(crate) report: Option<PathBuf>,

    /// The model with a calibration of its scores, fitted to what was evaluated
    #[arg(long, value_name = "FILE.safetensors", help_heading = "Output")]
    pub(crate) calibrate: Option<PathBuf>,

    /// The form of a calibration that is fitted: for --calibrate, and to judge a model without one
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "KIND",
        help_heading = "Protocol"
    )]
    pub(crate) calibration: CalibrationFlag,

    #[command(flatten)]
    pub(crate) generator: GeneratorFlags,
}

/// The value of `--protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProtocolFlag {
    /// The objects of the first annotation, over all annotations but the first and the last one
    Davis,
    /// All objects, each over its own annotations but the first and the last one
    Sav,
}

/// The value of `--calibration`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum CalibrationFlag {
    /// A curve of any rising form
    #[default]
    Isotonic,
    /// One number that makes scores more or less confident; they lie between 0 and 1
    Temperature,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listed_names_are_those_of_the_values() {
        assert_eq!(PLACEMENTS, Placement::ALL.map(Placement::name));
        assert_eq!(INTENTS, Intent::ALL.map(Intent::name));
    }
}
