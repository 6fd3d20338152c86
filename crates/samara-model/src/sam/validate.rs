//! Which configurations a model can be built from.

use super::{
    ImageEncoderConfig, ImageEncoderViTConfig, MaskDecoderConfig, PromptEncoderConfig, SamConfig,
};
use crate::InvalidConfig;
use crate::bounds::{MAX_DEPTH, MAX_WIDTH, at_most, equal, multiple, require};
use crate::mobile_sam::TinyViTConfig;

const MAX_STAGES: usize = 8;
const MAX_RATIO: usize = 16;
const MAX_GRID: usize = 256;
const MAX_WINDOW: usize = 64;
const MAX_MASK_TOKENS: usize = 16;

impl SamConfig {
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
}

pub(crate) fn validate_prompt_encoder(prompt: &PromptEncoderConfig) -> Result<(), InvalidConfig> {
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

pub(crate) fn validate_mask_decoder(decoder: &MaskDecoderConfig) -> Result<(), InvalidConfig> {
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
