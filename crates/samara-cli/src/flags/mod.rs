//! The command line as it is typed. `args` turns it into something to act on.
#![allow(clippy::doc_markdown, reason = "these comments are the help texts")]

/// The layouts of data sets, for the help.
macro_rules! layouts {
    () => {
        "\
A data set is COCO annotations (a .json, or a folder with annotations.json, with COCO's own
annotations/instances_SPLIT.json, or as Roboflow exports it), or label maps (a folder with images/ and
labels/); docs/formats.md has the details."
    };
}

mod attention;
mod eval;
mod everything;
mod quality;
mod segment;
mod serve;
mod studio;
mod video;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use samara::{DeviceKind, ImageLimits, Int8Options, Intent, Precision, SegmenterOptions};
use samara_image::{ReadOptions, Stretch};

pub(crate) use attention::AttentionFlags;
pub(crate) use eval::{CalibrationFlag, EvalFlags, ProtocolFlag};
pub(crate) use everything::{EverythingFlags, Format, GeneratorFlags};
pub(crate) use quality::{LevelsFlags, QualityFlags};
pub(crate) use segment::{SegmentFlags, SegmentFormat};
pub(crate) use serve::{ServeFlags, ServerFlags};
pub(crate) use studio::StudioFlags;
pub(crate) use video::{DirectionFlag, VideoFlags, VideoFormat};

use crate::args::{positive, share, threads};

#[derive(Debug, Parser)]
#[command(
    name = "samara",
    version,
    about = "Promptable segmentation: a click, a box or a rough mask in, three candidate masks out",
    after_help = "Examples:\n  \
        samara models download mobile-sam\n  \
        samara segment photo.jpg --model mobile-sam --point 520,360\n  \
        samara segment photo.jpg --checkpoint sam_vit_b_01ec64.pth --box 100,80,640,470 --json -\n  \
        samara everything photos --out masks"
)]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Threads of the arithmetic; without it, one for every core
    #[arg(long, global = true, value_name = "N", value_parser = threads)]
    pub(crate) threads: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Segment an object: from clicks, a box or a mask to an image, a mask, or JSON
    Segment(Box<SegmentFlags>),
    /// Segment everything: all masks of images and folders, without a prompt
    Everything(Box<EverythingFlags>),
    /// Follow objects through a video: a file, or a folder of frames
    Video(Box<VideoFlags>),
    /// Draw masks on the pictures of a folder, in the browser
    Studio(Box<StudioFlags>),
    /// Serve masks over HTTP, also to X-AnyLabeling, Label Studio and CVAT
    Serve(Box<ServeFlags>),
    /// Say which level of an object attention maps look at: the whole, a part or a subpart
    Attention(Box<AttentionFlags>),
    /// Train or fine-tune a model as a recipe says; resumes where it was interrupted
    Train(TrainFlags),
    /// Measure a model on annotated images: clicks, boxes, and how well it knows its own IoU
    Eval(Box<EvalFlags>),
    /// Estimate how good masks are that someone else made: of an image, or of a data set
    Quality(Box<QualityFlags>),
    /// Make annotations of three granularities, from one click on every object of a data set
    Levels(LevelsFlags),
    /// Measure the speed of a model on this machine, stage by stage
    Bench(BenchFlags),
    /// List, inspect, download and convert models
    #[command(
        subcommand,
        after_help = "Examples:\n  \
        samara models list\n  \
        samara models download mobile-sam\n  \
        samara models info sam_vit_b_01ec64.pth\n  \
        samara models convert sam_vit_b_01ec64.pth sam_vit_b.safetensors --dtype f16"
    )]
    Models(ModelsCommand),
    /// Write a completion script for a shell to standard output
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct IntentFlag {
    /// What a click usually means: objects (things with a name), segments (any region with an outline), or a
    /// balance of both; for models with a candidate head, as the embedded one
    #[arg(
        long,
        value_name = "objects|segments|balanced",
        default_value_t,
        help_heading = "Prompt"
    )]
    pub(crate) intent: Intent,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Times are medians. Operations are those of matrix products, two for a multiplication with its
addition; the peak is what the threads reach when they multiply and add in registers only, measured
in the same run.

Examples:
  The embedded model:
    samara bench
  ViT-B with a batch of 64 prompts, as JSON:
    samara bench photo.jpg --checkpoint sam_vit_b_01ec64.pth --prompts 64 --json -")]
pub(crate) struct BenchFlags {
    /// An image; without one, a pattern of 1800×1200 pixels
    pub(crate) image: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) model: ModelFlags,

    /// Prompts of one batch, beside the single prompt
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive)]
    pub(crate) prompts: usize,

    /// Times that every stage is measured, after one that is not
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = positive)]
    pub(crate) repeat: usize,

    /// Figures as JSON; - is standard output
    #[arg(long, value_name = "FILE|-")]
    pub(crate) json: Option<PathBuf>,

    /// Measure one stage whenever a line on standard input names it, to take turns with others:
    /// embed, prompt, batch or track (a frame of a video); the milliseconds go to standard output.
    /// `error FILE` is answered with the relative error of a picture's embedding against fp32
    #[arg(long, conflicts_with = "json", hide_short_help = true)]
    pub(crate) turns: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LimitFlags {
    /// Most pixels of an image, checked before it is decoded
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100_000_000,
        help_heading = "Limits"
    )]
    pub(crate) max_pixels: u64,

    /// Most bytes of an image's file and of its decoded form
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1 << 30,
        help_heading = "Limits"
    )]
    pub(crate) max_bytes: u64,
}

/// How an image is read.
#[derive(Debug, Args)]
pub(crate) struct ReadFlags {
    #[command(flatten)]
    pub(crate) limits: LimitFlags,

    /// Which page of a TIFF, or frame of an animated GIF or WebP; they count from 0
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Image")]
    pub(crate) page: usize,

    #[command(flatten)]
    pub(crate) depth: StretchFlag,
}

#[derive(Debug, Args)]
pub(crate) struct StretchFlag {
    /// Which values of 16-bit, 32-bit and float images become black and white: off (the ends of their type),
    /// min-max, or two percentiles of the image's values such as 1,99
    #[arg(
        long,
        value_name = "off|min-max|LOW,HIGH",
        default_value_t,
        allow_hyphen_values = true,
        value_parser = parse_stretch,
        help_heading = "Image"
    )]
    pub(crate) stretch: Stretch,
}

/// How a data set is read.
#[derive(Debug, Args)]
pub(crate) struct DataFlags {
    /// The folder of the images of COCO annotations, if it is not one of the usual places
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    pub(crate) images: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) depth: StretchFlag,
}

fn parse_stretch(text: &str) -> Result<Stretch, String> {
    text.parse()
        .map_err(|_| "expected off, min-max, or two percentiles such as 1,99".into())
}

impl ReadFlags {
    pub(crate) fn options(&self) -> ReadOptions {
        ReadOptions {
            limits: ImageLimits::from(&self.limits),
            page: self.page,
            stretch: self.depth.stretch,
        }
    }
}

impl From<&LimitFlags> for ImageLimits {
    fn from(flags: &LimitFlags) -> Self {
        Self {
            max_pixels: flags.max_pixels,
            max_bytes: flags.max_bytes,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ModelFlags {
    /// A downloaded model by name; see `samara models list`
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with = "checkpoint",
        help_heading = "Model"
    )]
    pub(crate) model: Option<String>,

    /// A checkpoint file (.pth, .safetensors); the architecture is recognised
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pub(crate) checkpoint: Option<PathBuf>,

    /// Load weights that are NaN or infinite, instead of refusing them
    #[arg(long, help_heading = "Model", hide_short_help = true)]
    pub(crate) unchecked_weights: bool,

    /// Numbers that are multiplied on the CPU: fp32, bf16, int8, or auto: what the processor has instructions
    /// for, int8 for a model of `samara models quantize`, or else bf16, or else fp32
    #[arg(
        long,
        value_name = "PRECISION",
        env = "SAMARA_PRECISION",
        hide_env_values = true,
        default_value = "auto",
        help_heading = "Model"
    )]
    pub(crate) precision: Precision,

    #[command(flatten)]
    pub(crate) device: DeviceFlag,
}

impl ModelFlags {
    /// How the model is loaded.
    pub(crate) fn options(&self) -> SegmenterOptions {
        self.device.options().with_precision(self.precision)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// List the released models and which of them are on this machine
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a checkpoint file or a downloaded model holds
    Info {
        /// A name from the list, or a file
        model: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Download a released model into the cache (SAMARA_HOME, or the platform's cache folder)
    Download {
        /// A name from the list
        name: String,
        /// A mirror: replaces everything before the file name (also SAMARA_BASE_URL)
        #[arg(long, value_name = "URL")]
        base_url: Option<String>,
        /// Download even if it is there, from the start; a file in its place is replaced
        #[arg(long)]
        force: bool,
    },
    /// Rewrite a checkpoint as safetensors under official names
    Convert {
        /// The checkpoint to read
        input: PathBuf,
        /// The .safetensors file to write
        output: PathBuf,
        /// How to store weights; unchanged by default
        #[arg(long, value_name = "TYPE")]
        dtype: Option<DtypeFlag>,
        /// Side of the model's input; MobileSAM takes multiples of 16, smaller ones are faster
        #[arg(long, value_name = "PIXELS")]
        input_side: Option<usize>,
        /// Convert weights that are NaN or infinite, instead of refusing them
        #[arg(long)]
        unchecked_weights: bool,
    },
    /// Write a model whose image encoder multiplies 8-bit integers, with a bounded loss on your pictures
    Quantize(QuantizeFlags),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Channels of layer norms are smoothed where that helps. If the error is too large then, every layer is tried on
the pictures, and those that lose most are multiplied in bf16. With --precision auto the written model computes
in int8 where the processor has instructions for that.

Examples:
    samara models quantize mobile-sam photos -o mobile-sam-int8.safetensors
    samara segment photo.jpg --checkpoint mobile-sam-int8.safetensors --point 520,360")]
pub(crate) struct QuantizeFlags {
    /// A name from the list, or a file
    pub(crate) model: String,

    /// Pictures like those that the model is for: files, or folders with what is in them
    #[arg(required = true)]
    pub(crate) pictures: Vec<PathBuf>,

    /// The .safetensors file to write
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// Largest relative error of the image embedding against fp32, over all pictures; between 0 and 1
    #[arg(long, value_name = "ERROR", default_value_t = Int8Options::MAX_ERROR, value_parser = share)]
    pub(crate) max_error: f64,

    /// Use at most N pictures, spread evenly over the folders
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = positive)]
    pub(crate) most: usize,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum DtypeFlag {
    F32,
    F16,
    Bf16,
    /// Weights of linear and convolution layers as 8-bit integers with a scale per output channel;
    /// everything else as it is
    I8,
}

#[derive(Debug, Args)]
#[command(after_help = concat!(layouts!(), "

Ctrl-C stops at a checkpoint, and the same command resumes there; a killed run resumes at its
last checkpoint, and ends as one that was not killed. OUT/curves.svg shows the course of the run.

Examples:
  Teach the embedded model cell nuclei:
    samara train examples/nuclei/recipe.toml --out runs/nuclei
  Fine-tune a released model on your own masks, and use it:
    samara train cells.toml --out runs/cells
    samara segment photo.jpg --checkpoint runs/cells/model.safetensors --point 520,360

A recipe for the second one, cells.toml, which trains all but the image encoder:
    embedding_cache = \"features\"      # the encoder runs once on every image
    model = { checkpoint = \"mobile_sam.pt\" }
    data = [{ path = \"cells\", split = \"train\" }]
    prompts = { recipe = \"sam\" }      # clicks, boxes and corrections as SAM was trained
    optimizer = { lr = 1e-4, warmup = 50 }
    stages = [{ steps = 500, masks_per_image = 16, rounds = [1, 4] }]
    [losses]
    weights = { focal = 20.0, dice = 1.0, iou = 1.0, object_score = 0.0 }
    iou = { kind = \"mse\", supervise_all = false }
To train the IoU head only, add before [losses]:
    groups = [{ prefix = \"\", lr_scale = 0.0 },
              { prefix = \"mask_decoder.iou_prediction_head.\", lr_scale = 1.0 }]"))]
pub(crate) struct TrainFlags {
    /// The recipe, a TOML file; its paths are relative to its folder
    pub(crate) recipe: PathBuf,

    /// Folder of the run: checkpoints, log, curves and the model [default: runs/RECIPE_STEM]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) device: DeviceFlag,
}

#[derive(Debug, Args)]
pub(crate) struct DeviceFlag {
    /// Where to run: cpu, or a GPU that this build supports (wgpu, vulkan, metal, cuda, rocm)
    #[arg(
        long,
        value_name = "DEVICE",
        default_value = "cpu",
        help_heading = "Model"
    )]
    pub(crate) device: DeviceKind,
}

impl DeviceFlag {
    /// How models are loaded: this program has the machine, and rayon's global pool, to itself.
    pub(crate) fn options(&self) -> SegmenterOptions {
        let options = SegmenterOptions::new().with_device(self.device);
        options.with_global_thread_pool().with_pinned_threads(true)
    }
}
