//! Segment Anything (SAM 1): ViT-B, ViT-L, ViT-H, and every model with its graph (MedSAM,
//! MobileSAM with another image encoder).

mod image_encoder;
mod mask_decoder;
mod neck;
mod prompt_encoder;
mod transformer;

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

pub use image_encoder::{ImageEncoderViT, ImageEncoderViTConfig};
pub use mask_decoder::{DecodedMasks, MaskDecoder, MaskDecoderConfig};
pub use neck::{Neck, NeckConfig};
pub use prompt_encoder::{PromptBatch, PromptEmbeddings, PromptEncoder, PromptEncoderConfig};
pub use transformer::{TwoWayTransformer, TwoWayTransformerConfig};

use crate::mobile_sam::{TinyViT, TinyViTConfig};

/// Mean of the training pixels per channel (RGB, 0..255).
pub const PIXEL_MEAN: [f32; 3] = [123.675, 116.28, 103.53];
/// Standard deviation of the training pixels per channel (RGB, 0..255).
pub const PIXEL_STD: [f32; 3] = [58.395, 57.12, 57.375];

/// Which image encoder a model has.
#[derive(Config, Debug)]
pub enum ImageEncoderConfig {
    /// The ViT of SAM.
    ViT(ImageEncoderViTConfig),
    /// The TinyViT of MobileSAM.
    TinyViT(TinyViTConfig),
}

/// Configuration of [`Sam`].
#[derive(Config, Debug)]
pub struct SamConfig {
    /// The image encoder.
    pub image_encoder: ImageEncoderConfig,
    /// The prompt encoder.
    pub prompt_encoder: PromptEncoderConfig,
    /// The mask decoder.
    pub mask_decoder: MaskDecoderConfig,
}

impl SamConfig {
    /// SAM with the ViT-B encoder.
    pub fn vit_b() -> Self {
        Self::with_encoder(ImageEncoderConfig::ViT(ImageEncoderViTConfig::vit_b()))
    }

    /// SAM with the ViT-L encoder.
    pub fn vit_l() -> Self {
        Self::with_encoder(ImageEncoderConfig::ViT(ImageEncoderViTConfig::vit_l()))
    }

    /// SAM with the ViT-H encoder.
    pub fn vit_h() -> Self {
        Self::with_encoder(ImageEncoderConfig::ViT(ImageEncoderViTConfig::vit_h()))
    }

    /// MobileSAM.
    pub fn mobile_sam() -> Self {
        Self::with_encoder(ImageEncoderConfig::TinyViT(TinyViTConfig::mobile_sam()))
    }

    fn with_encoder(image_encoder: ImageEncoderConfig) -> Self {
        let decoder = MaskDecoderConfig::new(TwoWayTransformerConfig::new());
        Self::new(image_encoder, PromptEncoderConfig::new(), decoder)
    }

    /// A short name of the architecture, such as `sam-vit-b`; other sizes are described.
    pub fn architecture(&self) -> String {
        match &self.image_encoder {
            ImageEncoderConfig::ViT(vit) => match (vit.embed_dim, vit.windows.len()) {
                (768, 12) => "sam-vit-b".into(),
                (1024, 24) => "sam-vit-l".into(),
                (1280, 32) => "sam-vit-h".into(),
                (width, depth) => format!("sam-vit (width {width}, {depth} blocks)"),
            },
            ImageEncoderConfig::TinyViT(tiny) if tiny.is_mobile_sam() => "mobile-sam".into(),
            ImageEncoderConfig::TinyViT(tiny) => {
                format!("sam-tinyvit (widths {:?})", tiny.embed_dims)
            }
        }
    }

    /// Refuses what no model can be built from or run with: sizes that are 0 or absurd, or that do
    /// not go together.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first field that is wrong.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let prompt = &self.prompt_encoder;
        validate_prompt_encoder(prompt)?;
        validate_mask_decoder(&self.mask_decoder)?;
        let (out_chans, stride) = match &self.image_encoder {
            ImageEncoderConfig::ViT(vit) => {
                validate_vit(vit)?;
                let img_size = ("prompt_encoder.img_size", prompt.img_size);
                equal(("image_encoder.img_size", vit.img_size), img_size)?;
                (vit.out_chans, vit.patch_size)
            }
            ImageEncoderConfig::TinyViT(tiny) => {
                validate_tiny_vit(tiny)?;
                let strides: usize = tiny.merge_strides.iter().product();
                (tiny.out_chans, 4 * strides)
            }
        };
        let side = ("grid times stride", prompt.grid * stride);
        equal(("prompt_encoder.img_size", prompt.img_size), side)?;
        let width = ("prompt_encoder.embed_dim", prompt.embed_dim);
        equal(("image_encoder.out_chans", out_chans), width)?;
        let decoder = self.mask_decoder.transformer.embedding_dim;
        equal(("transformer.embedding_dim", decoder), width)
    }

    /// A model with random weights.
    ///
    /// # Panics
    /// May panic on a configuration that [`validate`](Self::validate) refuses.
    pub fn init(&self, device: &Device) -> Sam {
        Sam {
            image_encoder: match &self.image_encoder {
                ImageEncoderConfig::ViT(config) => ImageEncoder::ViT(config.init(device)),
                ImageEncoderConfig::TinyViT(config) => ImageEncoder::TinyViT(config.init(device)),
            },
            prompt_encoder: self.prompt_encoder.init(device),
            mask_decoder: self.mask_decoder.init(device),
        }
    }
}

/// Bounds of what is accepted, well above every released model: sizes from a file must not ask for
/// more memory than the file itself justifies.
const MAX_WIDTH: usize = 8192;
const MAX_DEPTH: usize = 64;
const MAX_STAGES: usize = 8;
const MAX_RATIO: usize = 16;
const MAX_GRID: usize = 256;
const MAX_WINDOW: usize = 64;
const MAX_MASK_TOKENS: usize = 16;

/// A [`SamConfig`] that no model can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("impossible configuration: {0}")]
pub struct InvalidConfig(String);

fn validate_prompt_encoder(prompt: &PromptEncoderConfig) -> Result<(), InvalidConfig> {
    at_most(MAX_GRID, "prompt_encoder.grid", prompt.grid)?;
    at_most(MAX_WIDTH, "prompt_encoder.img_size", prompt.img_size)?;
    at_most(MAX_WIDTH, "prompt_encoder.embed_dim", prompt.embed_dim)?;
    at_most(
        MAX_WIDTH,
        "prompt_encoder.mask_in_chans",
        prompt.mask_in_chans,
    )?;
    multiple("prompt_encoder.mask_in_chans", prompt.mask_in_chans, 4)
}

fn validate_mask_decoder(decoder: &MaskDecoderConfig) -> Result<(), InvalidConfig> {
    let transformer = &decoder.transformer;
    let (width, heads) = (transformer.embedding_dim, transformer.num_heads);
    at_most(MAX_WIDTH, "transformer.embedding_dim", width)?;
    at_most(MAX_WIDTH, "transformer.num_heads", heads)?;
    at_most(MAX_WIDTH, "transformer.mlp_dim", transformer.mlp_dim)?;
    at_most(MAX_DEPTH, "transformer.depth", transformer.depth)?;
    let rate = transformer.attention_downsample_rate;
    at_most(MAX_WIDTH, "transformer.attention_downsample_rate", rate)?;
    // The upscaling narrows to an eighth.
    multiple("transformer.embedding_dim", width, 8)?;
    multiple("transformer.embedding_dim", width, heads)?;
    multiple("transformer.embedding_dim", width, rate)?;
    multiple("the inner width of cross attention", width / rate, heads)?;
    let tokens = decoder.num_mask_tokens;
    at_most(MAX_MASK_TOKENS, "mask_decoder.num_mask_tokens", tokens)?;
    require(
        tokens > 1,
        "mask_decoder.num_mask_tokens is 1, not 2 or more",
    )?;
    at_most(
        MAX_DEPTH,
        "mask_decoder.iou_head_depth",
        decoder.iou_head_depth,
    )?;
    let hidden = decoder.iou_head_hidden_dim;
    at_most(MAX_WIDTH, "mask_decoder.iou_head_hidden_dim", hidden)
}

fn validate_vit(vit: &ImageEncoderViTConfig) -> Result<(), InvalidConfig> {
    at_most(MAX_WIDTH, "image_encoder.img_size", vit.img_size)?;
    at_most(MAX_WIDTH, "image_encoder.patch_size", vit.patch_size)?;
    at_most(MAX_WIDTH, "image_encoder.embed_dim", vit.embed_dim)?;
    at_most(MAX_WIDTH, "image_encoder.num_heads", vit.num_heads)?;
    at_most(MAX_WIDTH, "image_encoder.mlp_dim", vit.mlp_dim)?;
    at_most(MAX_WIDTH, "image_encoder.out_chans", vit.out_chans)?;
    at_most(
        MAX_DEPTH,
        "the number of image_encoder.windows",
        vit.windows.len(),
    )?;
    multiple("image_encoder.embed_dim", vit.embed_dim, vit.num_heads)?;
    let grid = vit.img_size / vit.patch_size;
    vit.windows.iter().try_for_each(|&window| {
        let reason = format!("image_encoder.windows has {window}, but the grid is {grid}");
        require(window <= grid, &reason)
    })
}

fn validate_tiny_vit(tiny: &TinyViTConfig) -> Result<(), InvalidConfig> {
    let stages = tiny.embed_dims.len();
    at_most(MAX_STAGES, "the number of image_encoder.embed_dims", stages)?;
    for (name, list, length) in [
        ("depths", &tiny.depths, stages),
        ("num_heads", &tiny.num_heads, stages),
        ("window_sizes", &tiny.window_sizes, stages),
        ("merge_strides", &tiny.merge_strides, stages - 1),
    ] {
        let count = format!("the number of image_encoder.{name}");
        require(
            list.len() == length,
            &format!("{count} is {}, not {length}", list.len()),
        )?;
    }
    at_most(MAX_WIDTH, "image_encoder.out_chans", tiny.out_chans)?;
    at_most(MAX_RATIO, "image_encoder.mlp_ratio", tiny.mlp_ratio)?;
    at_most(
        MAX_RATIO,
        "image_encoder.mbconv_expand_ratio",
        tiny.mbconv_expand_ratio,
    )?;
    for &stride in &tiny.merge_strides {
        at_most(2, "image_encoder.merge_strides", stride)?;
    }
    for stage in 0..stages {
        let dim = tiny.embed_dims[stage];
        at_most(MAX_WIDTH, "image_encoder.embed_dims", dim)?;
        at_most(MAX_DEPTH, "image_encoder.depths", tiny.depths[stage])?;
        if stage == 0 {
            // The patch embedding reaches it by way of its half; it has no attention.
            multiple("image_encoder.embed_dims", dim, 2)?;
        } else {
            at_most(
                MAX_WINDOW,
                "image_encoder.window_sizes",
                tiny.window_sizes[stage],
            )?;
            at_most(MAX_WIDTH, "image_encoder.num_heads", tiny.num_heads[stage])?;
            multiple("image_encoder.embed_dims", dim, tiny.num_heads[stage])?;
        }
    }
    Ok(())
}

fn require(holds: bool, reason: &str) -> Result<(), InvalidConfig> {
    if holds {
        Ok(())
    } else {
        Err(InvalidConfig(reason.to_owned()))
    }
}

fn at_most(limit: usize, name: &str, size: usize) -> Result<(), InvalidConfig> {
    require(
        (1..=limit).contains(&size),
        &format!("{name} is {size}, not 1 to {limit}"),
    )
}

fn multiple(name: &str, size: usize, of: usize) -> Result<(), InvalidConfig> {
    require(
        size.is_multiple_of(of),
        &format!("{name} is {size}, not a multiple of {of}"),
    )
}

fn equal(a: (&str, usize), b: (&str, usize)) -> Result<(), InvalidConfig> {
    require(
        a.1 == b.1,
        &format!("{} is {}, {} is {}", a.0, a.1, b.0, b.1),
    )
}

/// The image encoder of a [`Sam`].
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one encoder per model")]
pub enum ImageEncoder {
    /// The ViT of SAM.
    ViT(ImageEncoderViT),
    /// The TinyViT of MobileSAM.
    TinyViT(TinyViT),
}

impl ImageEncoder {
    /// Normalised and padded pixels `[batch, 3, side, side]` → `[batch, dim, grid, grid]`.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        match self {
            Self::ViT(encoder) => encoder.forward(pixels),
            Self::TinyViT(encoder) => encoder.forward(pixels),
        }
    }
}

/// A promptable segmentation model.
#[derive(Module, Debug)]
pub struct Sam {
    image_encoder: ImageEncoder,
    prompt_encoder: PromptEncoder,
    mask_decoder: MaskDecoder,
}

impl Sam {
    /// The image encoder.
    pub fn image_encoder(&self) -> &ImageEncoder {
        &self.image_encoder
    }

    /// Image embedding `[batch, 256, 64, 64]` of normalised and padded pixels
    /// `[batch, 3, 1024, 1024]`.
    pub fn encode_image(&self, pixels: Tensor<4>) -> Tensor<4> {
        self.image_encoder.forward(pixels)
    }

    /// Embeds prompts; see [`PromptEncoder::forward`].
    pub fn encode_prompts(&self, prompts: &PromptBatch) -> PromptEmbeddings {
        self.prompt_encoder.forward(prompts)
    }

    /// Positional encoding of the image embedding's cells, `[1, 256, 64, 64]`.
    pub fn image_pe(&self) -> Tensor<4> {
        self.prompt_encoder.dense_pe()
    }

    /// Answers of all mask tokens to a batch of prompts on one image embedding
    /// `[1, 256, 64, 64]`.
    pub fn decode(&self, image_embedding: Tensor<4>, prompts: &PromptBatch) -> DecodedMasks {
        self.mask_decoder.forward(
            image_embedding,
            self.image_pe(),
            self.encode_prompts(prompts),
            prompts.len(),
        )
    }
}
