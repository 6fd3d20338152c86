//! Recognises an architecture from the names and shapes of a checkpoint's tensors.

use std::collections::BTreeMap;

use crate::mobile_sam::TinyViTConfig;
use crate::sam::{
    ImageEncoderConfig, ImageEncoderViTConfig, MaskDecoderConfig, PromptEncoderConfig, SamConfig,
    TwoWayTransformerConfig,
};

/// Shapes by official key.
pub(super) struct Shapes<'a>(pub(super) BTreeMap<&'a str, &'a [usize]>);

/// Input side and grid of the released models, for encoders whose weights do not tell.
const IMG_SIZE: usize = 1024;
const GRID: usize = 64;
/// Heads of the two-way transformer; its weights do not tell.
const DECODER_HEADS: usize = 8;

impl Shapes<'_> {
    /// The configuration of the SAM whose tensors these are, or what speaks against it.
    pub(super) fn sam_config(&self) -> Result<SamConfig, String> {
        let (image_encoder, img_size, grid) = if self.has("image_encoder.pos_embed") {
            let config = self.vit()?;
            let (img_size, grid) = (config.img_size, config.img_size / config.patch_size);
            (ImageEncoderConfig::ViT(config), img_size, grid)
        } else if self.has("image_encoder.patch_embed.seq.0.c.weight") {
            (ImageEncoderConfig::TinyViT(self.tiny_vit()?), IMG_SIZE, GRID)
        } else {
            return Err(self.not_recognised());
        };
        Ok(SamConfig {
            image_encoder,
            prompt_encoder: PromptEncoderConfig {
                embed_dim: self.dim("prompt_encoder.no_mask_embed.weight", 1)?,
                grid,
                img_size,
                mask_in_chans: self.dim("prompt_encoder.mask_downscaling.3.weight", 0)?,
            },
            mask_decoder: self.mask_decoder()?,
        })
    }

    fn vit(&self) -> Result<ImageEncoderViTConfig, String> {
        let grid = self.dim("image_encoder.pos_embed", 1)?;
        let embed_dim = self.dim("image_encoder.pos_embed", 3)?;
        let patch_size = self.dim("image_encoder.patch_embed.proj.weight", 2)?;
        let head_dim = self.dim("image_encoder.blocks.0.attn.rel_pos_h", 1)?;
        let depth = self.count("image_encoder.blocks.");
        let windows = (0..depth).map(|block| {
            let key = format!("image_encoder.blocks.{block}.attn.rel_pos_h");
            let extent = self.dim(&key, 0)?.div_ceil(2);
            Ok(if extent == grid { 0 } else { extent })
        });
        Ok(ImageEncoderViTConfig {
            img_size: grid
                .checked_mul(patch_size)
                .ok_or("image_encoder.pos_embed is too large")?,
            patch_size,
            embed_dim,
            num_heads: divide(embed_dim, head_dim, "image_encoder.blocks.0.attn.rel_pos_h")?,
            mlp_dim: self.dim("image_encoder.blocks.0.mlp.lin1.weight", 0)?,
            windows: windows.collect::<Result<_, String>>()?,
            out_chans: self.dim("image_encoder.neck.0.weight", 0)?,
        })
    }

    fn tiny_vit(&self) -> Result<TinyViTConfig, String> {
        let first = "image_encoder.layers.0.blocks.0";
        let dim = self.dim(&format!("{first}.conv3.c.weight"), 0)?;
        let expanded = self.dim(&format!("{first}.conv1.c.weight"), 0)?;
        let mut config = TinyViTConfig {
            embed_dims: vec![dim],
            depths: vec![self.count("image_encoder.layers.0.blocks.")],
            // The first stage has no attention.
            num_heads: vec![0],
            window_sizes: vec![0],
            mbconv_expand_ratio: divide(expanded, dim, first)?,
            ..TinyViTConfig::mobile_sam()
        };
        for stage in 1..self.count("image_encoder.layers.") {
            let blocks = format!("image_encoder.layers.{stage}.blocks.");
            let dim = self.dim(&format!("{blocks}0.attn.proj.weight"), 0)?;
            let hidden = self.dim(&format!("{blocks}0.mlp.fc1.weight"), 0)?;
            let biases = format!("{blocks}0.attn.attention_biases");
            config.embed_dims.push(dim);
            config.depths.push(self.count(&blocks));
            config.num_heads.push(self.dim(&biases, 0)?);
            config.window_sizes.push(self.dim(&biases, 1)?.isqrt());
            config.mlp_ratio = divide(hidden, dim, &blocks)?;
        }
        if config.embed_dims.len() != TinyViTConfig::mobile_sam().embed_dims.len() {
            return Err(format!(
                "its TinyViT has {} stages, not 4",
                config.embed_dims.len()
            ));
        }
        config.out_chans = self.dim("image_encoder.neck.0.weight", 0)?;
        Ok(config)
    }

    fn mask_decoder(&self) -> Result<MaskDecoderConfig, String> {
        let layers = "mask_decoder.transformer.layers.";
        let dim = self.dim("mask_decoder.iou_token.weight", 1)?;
        let cross = format!("{layers}0.cross_attn_token_to_image.q_proj.weight");
        let transformer = TwoWayTransformerConfig {
            depth: self.count(layers),
            embedding_dim: dim,
            num_heads: DECODER_HEADS,
            mlp_dim: self.dim(&format!("{layers}0.mlp.lin1.weight"), 0)?,
            attention_downsample_rate: divide(dim, self.dim(&cross, 0)?, &cross)?,
        };
        divide(dim / transformer.attention_downsample_rate, DECODER_HEADS, &cross)?;
        Ok(MaskDecoderConfig {
            transformer,
            num_mask_tokens: self.dim("mask_decoder.mask_tokens.weight", 0)?,
            iou_head_depth: self.count("mask_decoder.iou_prediction_head.layers."),
            iou_head_hidden_dim: self.dim("mask_decoder.iou_prediction_head.layers.0.weight", 0)?,
        })
    }

    fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Size of `key` along `axis`; never 0.
    fn dim(&self, key: &str, axis: usize) -> Result<usize, String> {
        let shape = self.0.get(key).ok_or(format!("key {key} is missing"))?;
        match shape.get(axis) {
            Some(&size) if size > 0 => Ok(size),
            _ => Err(format!("key {key} has the impossible shape {shape:?}")),
        }
    }

    /// How many modules are listed under `prefix`: one more than the largest index.
    fn count(&self, prefix: &str) -> usize {
        let index = |key: &str| key.strip_prefix(prefix)?.split('.').next()?.parse().ok();
        let last: Option<usize> = self.0.keys().filter_map(|key| index(key)).max();
        // A hostile index must not make us build a giant model: each module owns tensors.
        last.map_or(0, |last| (last.saturating_add(1)).min(self.0.len()))
    }

    fn not_recognised(&self) -> String {
        let keys = self.0.keys();
        if keys.clone().any(|k| k.contains("sam_mask_decoder.") || k.contains(".trunk.")) {
            return "a SAM 2 checkpoint: SAM 2 is not supported yet".into();
        }
        let first: Vec<&str> = keys.take(3).copied().collect();
        format!(
            "not a SAM checkpoint: neither image_encoder.pos_embed (ViT) nor \
             image_encoder.patch_embed.seq.0.c.weight (TinyViT) among its {} keys (first: {})",
            self.0.len(),
            first.join(", ")
        )
    }
}

/// `a / b`, which must be whole.
fn divide(a: usize, b: usize, key: &str) -> Result<usize, String> {
    if b == 0 || a % b != 0 || a / b == 0 {
        return Err(format!("key {key}: {a} is not a multiple of {b}"));
    }
    Ok(a / b)
}
