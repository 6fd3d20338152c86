//! The flags of `samara everything`.

use std::fmt::Display;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use samara::{ImageLimits, MaskGeneratorOptions, OutputMode, PointGrid};
use samara_image::read_file;

use super::{ModelFlags, ReadFlags};
use crate::args::positive;
use crate::error::{CliError, Result};
use crate::shard::Shard;

#[derive(Debug, Args)]
#[command(after_help = "\
Options have the names and the defaults of the official SamAutomaticMaskGenerator; models
with calibrated scores, as the embedded one, have thresholds of their own. docs/everything.md shows what each threshold does.

For every image OUT holds files that begin with its name, extension included. A folder, or several
images, also get a manifest.jsonl: what is done and what failed. A run that was interrupted or
killed resumes with --resume.

Examples:
  All masks of a photo, as an image and as JSON:
    samara everything photo.jpg --out masks
  A folder, as one COCO file and as label maps; a second time to resume after an interruption:
    samara everything photos --format coco,labels --out masks
    samara everything photos --format coco,labels --out masks --resume
  A folder on two machines that share photos and masks; when both are done, one result:
    samara everything photos --format coco --out masks --shard 1/2
    samara everything photos --format coco --out masks --shard 2/2
    samara everything photos --format coco --out masks --merge
  Small things too: a second layer with four crops, small regions cleaned:
    samara everything photo.jpg --crop-n-layers 1 --crop-n-points-downscale-factor 2 \\
        --min-mask-region-area 100 --out masks")]
pub(crate) struct EverythingFlags {
    /// Images, and folders of images with all folders in them
    #[arg(required = true, value_name = "IMAGE|DIR")]
    pub(crate) inputs: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) model: ModelFlags,

    /// Folder for the results; it is made if it is not there
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub(crate) out: PathBuf,

    /// What to write, separated by commas
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_values = ["json", "overlay"],
        help_heading = "Output"
    )]
    pub(crate) format: Vec<Format>,

    /// How JSON holds a mask: coco_rle or uncompressed_rle
    #[arg(
        long,
        value_name = "MODE",
        value_parser = parse_output_mode,
        default_value = "coco_rle",
        help_heading = "Output"
    )]
    pub(crate) output_mode: OutputMode,

    /// Resume the run in OUT: what is done stays, what failed is tried again
    #[arg(long, help_heading = "Output")]
    pub(crate) resume: bool,

    /// Begin anew where there are results; they are replaced
    #[arg(long, conflicts_with = "resume", help_heading = "Output")]
    pub(crate) overwrite: bool,

    /// Work on the I-th of N parts of the images, beside other machines; OUT may be one folder for all
    #[arg(long, value_name = "I/N", help_heading = "Several machines")]
    pub(crate) shard: Option<Shard>,

    /// Put all shards in OUT together, with the images and options that they had
    #[arg(long, conflicts_with_all = ["shard", "resume"], help_heading = "Several machines")]
    pub(crate) merge: bool,

    #[command(flatten)]
    pub(crate) generator: GeneratorFlags,

    #[command(flatten)]
    pub(crate) read: ReadFlags,
}

/// What `samara everything` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Format {
    /// NAME.json: the official records, with the place in the tree
    Json,
    /// annotations.json: all images in one COCO file (and the NAME.json it is made from)
    Coco,
    /// NAME.masks/: a PNG for each mask, and metadata.csv, as the official amg.py writes them
    Masks,
    /// NAME.labels.png: a 16-bit label map, small masks over large ones
    Labels,
    /// NAME.overlay.png: the masks over the image
    Overlay,
    /// NAME.hierarchy.png: wholes, parts and subparts side by side
    Hierarchy,
}

/// Options of the generator. Those that are not given are the model's own.
#[derive(Debug, Args)]
#[command(next_help_heading = GeneratorFlags::HEADING)]
pub(crate) struct GeneratorFlags {
    /// Points along one side of the image [default: 32]
    #[arg(long, value_name = "N", conflicts_with = "point_grids")]
    pub(crate) points_per_side: Option<u32>,

    /// Points decoded at once, at most [default: 64]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) points_per_batch: Option<usize>,

    /// Drop masks whose predicted IoU is not above this [default: the model's own, 0.88 for SAM, 0.8 for SAM 2]
    #[arg(long, value_name = "X")]
    pub(crate) pred_iou_thresh: Option<f32>,

    /// Drop masks whose stability is below this [default: the model's own, 0.95 for SAM and SAM 2]
    #[arg(long, value_name = "X")]
    pub(crate) stability_score_thresh: Option<f32>,

    /// How far the logits' threshold is moved to measure stability [default: 1]
    #[arg(long, value_name = "X")]
    pub(crate) stability_score_offset: Option<f32>,

    /// Drop masks whose box has a larger IoU with a better one's [default: 0.7]
    #[arg(long, value_name = "X")]
    pub(crate) box_nms_thresh: Option<f64>,

    /// Layers of crops; layer n has 4^n [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) crop_n_layers: Option<u32>,

    /// As --box-nms-thresh, between crops [default: 0.7]
    #[arg(long, value_name = "X")]
    pub(crate) crop_nms_thresh: Option<f64>,

    /// Overlap of crops as a share of the shorter side [default: 512/1500]
    #[arg(long, value_name = "X")]
    pub(crate) crop_overlap_ratio: Option<f64>,

    /// Divides the points along one side, once for each layer [default: 1]
    #[arg(long, value_name = "N")]
    pub(crate) crop_n_points_downscale_factor: Option<u32>,

    /// JSON with a list of points [x, y] from 0 to 1 for every layer, instead of even grids
    #[arg(long, value_name = "FILE.json")]
    pub(crate) point_grids: Option<PathBuf>,

    /// Fill holes and remove islands of fewer pixels [default: 0, leave them]
    #[arg(long, value_name = "PIXELS")]
    pub(crate) min_mask_region_area: Option<u64>,

    /// Give every mask back to the model once, for a better one
    #[arg(long)]
    pub(crate) use_m2m: bool,

    /// Skip points inside finished masks of all three levels: faster, not the official result
    #[arg(long)]
    pub(crate) adaptive: bool,
}

impl GeneratorFlags {
    /// What they stand under in the help.
    pub(crate) const HEADING: &str = "Generator";

    /// The options that are given; the others are the official ones, and the thresholds those of the model.
    ///
    /// # Errors
    /// The file of points cannot be read, or an option makes no sense.
    pub(crate) fn options(&self) -> Result<MaskGeneratorOptions> {
        let mut options = MaskGeneratorOptions::default();
        macro_rules! take {
            ($($name:ident),*) => {$(
                if let Some(value) = self.$name {
                    options.$name = value;
                }
            )*};
        }
        take!(
            points_per_batch,
            stability_score_offset,
            box_nms_thresh,
            crop_n_layers,
            crop_nms_thresh,
            crop_overlap_ratio,
            crop_n_points_downscale_factor,
            min_mask_region_area
        );
        options.pred_iou_thresh = self.pred_iou_thresh;
        options.stability_score_thresh = self.stability_score_thresh;
        options.points_per_side = self.points_per_side.or(options.points_per_side);
        if let Some(path) = &self.point_grids {
            let failed = |e: &dyn Display| {
                CliError::failed(format!("--point-grids {}: {e}", path.display()))
            };
            let bytes =
                read_file(path, &ImageLimits::default()).map_err(|e| failed(&e.reason()))?;
            let grids: Vec<PointGrid> = serde_json::from_slice(&bytes).map_err(|e| failed(&e))?;
            options.points_per_side = None;
            options.point_grids = Some(grids);
        }
        options.use_m2m = self.use_m2m;
        options.adaptive = self.adaptive;
        options.check()?;
        Ok(options)
    }
}

fn parse_output_mode(text: &str) -> Result<OutputMode, String> {
    match text {
        "coco_rle" => Ok(OutputMode::CocoRle),
        "uncompressed_rle" => Ok(OutputMode::UncompressedRle),
        "binary_mask" => Err("JSON holds run lengths; --format masks writes pixels".into()),
        _ => Err("one of coco_rle, uncompressed_rle".into()),
    }
}
