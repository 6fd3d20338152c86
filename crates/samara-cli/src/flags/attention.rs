//! The flags of `samara attention`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use samara::{OriginalBox, OriginalPx};
use samara_attention::{AttentionOptions, Resampling};

use super::{LimitFlags, ModelFlags};
use crate::args::{parse_box, parse_place_in_image, parse_share, positive};
use crate::map_file::Grid;

#[derive(Debug, Args)]
#[command(after_help = "\
MAP holds non-negative weights over the whole image, at any resolution:
  .npy           [H, W], [heads, H, W] or [layers, heads, H, W]
  .safetensors   tensors of these shapes
  .png, …        a grey image of 8 or 16 bits
With --grid HxW the last axis of an array holds tokens, row by row: [tokens], [heads, tokens] or
[layers, heads, tokens]; class and register tokens before them are dropped.

Every --point, every --box and the --mask is a prompt of its own. Without any, the highest peak of
the mean map is the click. A level is named when it is clear, and 'undecided' otherwise;
docs/attention.md explains the measures.

Without an output flag the image goes to IMAGE_STEM.attention.png in the current folder.

Examples:
  Which level does the map look at, at this point?
    samara attention photo.jpg map.npy --point 520,360
  All heads of a ViT that saw the photo stretched to a square, class token first:
    samara attention photo.jpg cls.npy --grid 14x14 --stretch --json heads.json
  Three peaks of the mean map instead of a point:
    samara attention photo.jpg heads.npy --peaks 3 --out peaks.png")]
pub(crate) struct AttentionFlags {
    /// The image: JPEG, PNG, WebP, TIFF, BMP or GIF
    pub(crate) image: PathBuf,

    /// The attention maps: .npy, .safetensors, or a grey image
    pub(crate) map: PathBuf,

    #[command(flatten)]
    pub(crate) model: ModelFlags,

    /// A click on the object; repeatable
    #[arg(long = "point", value_name = "X,Y", value_parser = parse_place_in_image,
          allow_hyphen_values = true, help_heading = "Prompt")]
    pub(crate) points: Vec<OriginalPx>,

    /// A box around the object, corners in any order; repeatable
    #[arg(long = "box", value_name = "X0,Y0,X1,Y1", value_parser = parse_box,
          allow_hyphen_values = true, help_heading = "Prompt")]
    pub(crate) boxes: Vec<OriginalBox>,

    /// A rough mask of the object, as `segment` takes it
    #[arg(long, value_name = "FILE", help_heading = "Prompt")]
    pub(crate) mask: Option<PathBuf>,

    /// The N highest peaks of the mean map as clicks; 1 without any prompt
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Prompt",
          conflicts_with_all = ["points", "boxes", "mask"])]
    pub(crate) peaks: Option<usize>,

    /// Rows and columns of the bins whose tokens the last axis holds
    #[arg(long, value_name = "HxW", help_heading = "Map")]
    pub(crate) grid: Option<Grid>,

    /// This tensor of a .safetensors file instead of all
    #[arg(long, value_name = "NAME", help_heading = "Map")]
    pub(crate) tensor: Option<String>,

    /// The map is the attention of the stretched image, so its aspect ratio may be another one
    #[arg(long, help_heading = "Map")]
    pub(crate) stretch: bool,

    /// How the map is brought to the size of the image
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        default_value = "auto",
        help_heading = "Map"
    )]
    pub(crate) resampling: ResamplingFlag,

    /// Undecided if the mean of agreement, correlation and stability of the best candidate is lower
    #[arg(long, value_name = "R", default_value_t = AttentionOptions::default().min_confidence,
          value_parser = parse_share, help_heading = "Decision")]
    pub(crate) min_confidence: f64,

    /// Undecided if the lead over the best candidate of another level is smaller
    #[arg(long, value_name = "R", default_value_t = AttentionOptions::default().min_margin,
          value_parser = parse_share, help_heading = "Decision")]
    pub(crate) min_margin: f64,

    /// An image of map, candidates and measures (.png, .jpg)
    #[arg(long, value_name = "IMAGE", help_heading = "Output")]
    pub(crate) out: Option<PathBuf>,

    /// Everything as JSON, masks as COCO RLE; - is standard output
    #[arg(long, value_name = "FILE|-", help_heading = "Output")]
    pub(crate) json: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) limits: LimitFlags,
}

impl AttentionFlags {
    pub(crate) fn options(&self) -> AttentionOptions {
        AttentionOptions {
            stretch: self.stretch,
            resampling: match self.resampling {
                ResamplingFlag::Auto => Resampling::Auto,
                ResamplingFlag::Area => Resampling::Area,
                ResamplingFlag::Bilinear => Resampling::Bilinear,
            },
            min_confidence: self.min_confidence,
            min_margin: self.min_margin,
        }
    }
}

/// The value of `--resampling`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ResamplingFlag {
    /// Along each side: area where the map shrinks, bilinear where it grows
    Auto,
    /// The mean of what a pixel covers; bins stay blocks where the map grows
    Area,
    /// Linear between the centres of bins
    Bilinear,
}
