//! Recognises an architecture from the names and shapes of a checkpoint's tensors.

use std::collections::BTreeMap;

use crate::ModelConfig;
use crate::mobile_sam::TinyViTConfig;
use crate::sam::{
    ImageEncoderConfig, ImageEncoderViTConfig, MaskDecoderConfig, PromptEncoderConfig, SamConfig,
    TwoWayTransformerConfig,
};
use crate::sam2::{HieraConfig, MemoryAttentionConfig, MemoryEncoderConfig, STAGES, Sam2Config};

/// Shapes by official key.
pub(super) struct Shapes<'a>(pub(super) BTreeMap<&'a str, &'a [usize]>);

/// Input side and grid of the released models, for encoders whose weights do not tell.
const IMG_SIZE: usize = 1024;
const GRID: usize = 64;
/// Side of a patch of the released models, for a file without the patch embedding.
const PATCH_SIZE: usize = 16;
/// Heads of the two-way transformer; its weights do not tell.
const DECODER_HEADS: usize = 8;

impl Shapes<'_> {
    /// The configuration of the model whose tensors these are, or what speaks against it.
    pub(super) fn config(&self) -> Result<ModelConfig, String> {
        if self.any("image_encoder.trunk.") {
            self.sam2_config().map(ModelConfig::Sam2)
        } else {
            self.sam_config().map(ModelConfig::Sam)
        }
    }

    fn sam2_config(&self) -> Result<Sam2Config, String> {
        let trunk = self.hiera()?;
        let dim = self.dim(&[
            ("image_encoder.neck.convs.0.conv.weight", 0),
            ("image_encoder.neck.convs.0.conv.bias", 0),
        ])?;
        let memory_dim = self.dim(&[
            ("memory_encoder.out_proj.weight", 0),
            ("memory_encoder.out_proj.bias", 0),
        ])?;
        let prompt_encoder = PromptEncoderConfig::new().with_embed_dim(dim);
        let linear1 = "memory_attention.layers.0.linear1";
        let memory_attention = MemoryAttentionConfig {
            d_model: dim,
            kv_in_dim: memory_dim,
            dim_feedforward: self.dim(&[
                (&format!("{linear1}.weight"), 0),
                (&format!("{linear1}.bias"), 0),
            ])?,
            num_layers: self.count("memory_attention.layers."),
        };
        let memory_encoder = MemoryEncoderConfig {
            in_dim: dim,
            out_dim: memory_dim,
            num_layers: self.count("memory_encoder.fuser.layers."),
        };
        let (prompts, decoder) = ("sam_prompt_encoder.", "sam_mask_decoder.");
        Ok(Sam2Config {
            trunk,
            prompt_encoder: self.prompt_encoder(prompts, &prompt_encoder)?,
            mask_decoder: self.mask_decoder(decoder, ["mlp.layers.0", "mlp.layers.1"])?,
            memory_attention,
            memory_encoder,
            num_maskmem: self.dim(&[("maskmem_tpos_enc", 0)])?,
            no_obj_embed_spatial: self.has("no_obj_embed_spatial"),
            proj_tpos_enc_in_obj_ptrs: self.any("obj_ptr_tpos_proj."),
        })
    }

    /// The trunk among the released ones: its heads, windows and global blocks are not in its weights.
    fn hiera(&self) -> Result<HieraConfig, String> {
        const BLOCKS: &str = "image_encoder.trunk.blocks.";
        let embed_dim = self.dim(&[
            ("image_encoder.trunk.pos_embed", 1),
            ("image_encoder.trunk.pos_embed_window", 1),
        ])?;
        let blocks = self.count(BLOCKS);
        // A stage begins where the width changes.
        let begins = |&i: &usize| i == 0 || self.any(&format!("{BLOCKS}{i}.proj."));
        let mut starts: Vec<usize> = (0..blocks).filter(begins).collect();
        starts.push(blocks);
        let stages: Vec<usize> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let known = <[usize; STAGES]>::try_from(&stages[..]).ok();
        known
            .and_then(|stages| HieraConfig::released_like(embed_dim, stages))
            .ok_or_else(|| {
                format!(
                    "its Hiera trunk of width {embed_dim} with {stages:?} blocks is none of the \
                     released ones"
                )
            })
    }

    fn sam_config(&self) -> Result<SamConfig, String> {
        let (image_encoder, img_size, grid) = if self.has("image_encoder.pos_embed") {
            let config = self.vit()?;
            let (img_size, grid) = (config.img_size, config.img_size / config.patch_size);
            (ImageEncoderConfig::ViT(config), img_size, grid)
        } else if self.has("image_encoder.patch_embed.seq.0.c.weight") {
            let config = self.tiny_vit()?;
            (ImageEncoderConfig::TinyViT(config), IMG_SIZE, GRID)
        } else {
            return Err(self.not_recognised());
        };
        // What a lost part would need, so that all its keys are reported.
        let width = self.out_chans()?;
        let prompt_encoder = PromptEncoderConfig::new()
            .with_embed_dim(width)
            .with_img_size(img_size)
            .with_grid(grid);
        let transformer = TwoWayTransformerConfig::new().with_embedding_dim(width);
        Ok(SamConfig {
            image_encoder,
            prompt_encoder: if self.any("prompt_encoder.") {
                self.prompt_encoder("prompt_encoder.", &prompt_encoder)?
            } else {
                prompt_encoder
            },
            mask_decoder: if self.any("mask_decoder.") {
                self.mask_decoder("mask_decoder.", ["mlp.lin1", "mlp.lin2"])?
            } else {
                MaskDecoderConfig::new(transformer)
            },
        })
    }

    fn prompt_encoder(
        &self,
        prefix: &str,
        config: &PromptEncoderConfig,
    ) -> Result<PromptEncoderConfig, String> {
        let key = |rest: &str| format!("{prefix}{rest}");
        Ok(PromptEncoderConfig {
            embed_dim: self.dim(&[
                (&key("no_mask_embed.weight"), 1),
                (&key("not_a_point_embed.weight"), 1),
                (&key("mask_downscaling.6.weight"), 0),
            ])?,
            mask_in_chans: self.dim(&[
                (&key("mask_downscaling.3.weight"), 0),
                (&key("mask_downscaling.3.bias"), 0),
                (&key("mask_downscaling.6.weight"), 1),
            ])?,
            ..*config
        })
    }

    fn vit(&self) -> Result<ImageEncoderViTConfig, String> {
        let block = |index: usize, rest: &str| format!("image_encoder.blocks.{index}.{rest}");
        let [rel_pos_h, rel_pos_w] =
            ["h", "w"].map(|axis| block(0, &format!("attn.rel_pos_{axis}")));
        let grid = self.dim(&[("image_encoder.pos_embed", 1)])?;
        let embed_dim = self.dim(&[("image_encoder.pos_embed", 3)])?;
        let patch_embed = "image_encoder.patch_embed.proj.weight";
        let patch_size = if self.has(patch_embed) {
            self.dim(&[(patch_embed, 2)])?
        } else {
            PATCH_SIZE
        };
        let head_dim = self.dim(&[(&rel_pos_h, 1), (&rel_pos_w, 1)])?;
        let depth = self.count("image_encoder.blocks.");
        let windows = (0..depth).map(|index| {
            let [h, w] = ["h", "w"].map(|axis| block(index, &format!("attn.rel_pos_{axis}")));
            if !self.has(&h) && !self.has(&w) {
                return Ok(0);
            }
            let extent = self.dim(&[(&h, 0), (&w, 0)])?.div_ceil(2);
            Ok(if extent == grid { 0 } else { extent })
        });
        Ok(ImageEncoderViTConfig {
            img_size: grid
                .checked_mul(patch_size)
                .ok_or("image_encoder.pos_embed is too large")?,
            patch_size,
            embed_dim,
            num_heads: divide(embed_dim, head_dim, &rel_pos_h)?,
            mlp_dim: self.dim(&[
                (&block(0, "mlp.lin1.weight"), 0),
                (&block(0, "mlp.lin1.bias"), 0),
                (&block(0, "mlp.lin2.weight"), 1),
            ])?,
            windows: windows.collect::<Result<_, String>>()?,
            out_chans: self.out_chans()?,
        })
    }

    fn tiny_vit(&self) -> Result<TinyViTConfig, String> {
        let first = "image_encoder.layers.0.blocks.0";
        let [conv1, conv3] = ["conv1", "conv3"].map(|conv| format!("{first}.{conv}.c.weight"));
        let dim = self.dim(&[(&conv3, 0), (&conv1, 1)])?;
        let expanded = self.dim(&[(&conv1, 0), (&conv3, 1)])?;
        let mut config = TinyViTConfig {
            embed_dims: vec![dim],
            depths: vec![self.count("image_encoder.layers.0.blocks.")],
            // The first stage has no attention.
            num_heads: vec![0],
            window_sizes: vec![0],
            mbconv_expand_ratio: divide(expanded, dim, &conv1)?,
            ..TinyViTConfig::mobile_sam()
        };
        for stage in 1..self.count("image_encoder.layers.") {
            let blocks = format!("image_encoder.layers.{stage}.blocks.");
            let part = |rest: &str| format!("{blocks}0.{rest}");
            let biases = part("attn.attention_biases");
            let dim = self.dim(&[(&part("attn.proj.weight"), 0), (&part("attn.proj.bias"), 0)])?;
            let hidden = self.dim(&[(&part("mlp.fc1.weight"), 0), (&part("mlp.fc1.bias"), 0)])?;
            config.embed_dims.push(dim);
            config.depths.push(self.count(&blocks));
            config.num_heads.push(self.dim(&[(&biases, 0)])?);
            config.window_sizes.push(self.dim(&[(&biases, 1)])?.isqrt());
            config.mlp_ratio = divide(hidden, dim, &part("mlp.fc1.weight"))?;
        }
        if config.embed_dims.len() != TinyViTConfig::mobile_sam().embed_dims.len() {
            return Err(format!(
                "its TinyViT has {} stages, not 4",
                config.embed_dims.len()
            ));
        }
        config.out_chans = self.out_chans()?;
        Ok(config)
    }

    fn out_chans(&self) -> Result<usize, String> {
        self.dim(&[
            ("image_encoder.neck.0.weight", 0),
            ("image_encoder.neck.1.weight", 0),
            ("image_encoder.neck.2.weight", 0),
        ])
    }

    /// `mlp` are the names of the two linear layers of the transformer's feed-forwards.
    fn mask_decoder(&self, prefix: &str, mlp: [&str; 2]) -> Result<MaskDecoderConfig, String> {
        let key = |rest: &str| format!("{prefix}{rest}");
        let layers = key("transformer.layers.");
        let layer = |rest: &str| format!("{layers}0.{rest}");
        let cross = layer("cross_attn_token_to_image.q_proj.weight");
        let dim = self.dim(&[
            (&key("iou_token.weight"), 1),
            (&key("mask_tokens.weight"), 1),
        ])?;
        let inner = self.dim(&[
            (&cross, 0),
            (&layer("cross_attn_token_to_image.k_proj.weight"), 0),
        ])?;
        let mask_tokens = key("mask_tokens.weight");
        let iou_head = key("iou_prediction_head.layers.");
        let [lin1, lin2] = mlp.map(layer);
        Ok(MaskDecoderConfig {
            transformer: TwoWayTransformerConfig {
                depth: self.count(&layers),
                embedding_dim: dim,
                num_heads: DECODER_HEADS,
                mlp_dim: self.dim(&[
                    (&format!("{lin1}.weight"), 0),
                    (&format!("{lin1}.bias"), 0),
                    (&format!("{lin2}.weight"), 1),
                ])?,
                attention_downsample_rate: divide(dim, inner, &cross)?,
            },
            num_mask_tokens: if self.has(&mask_tokens) {
                self.dim(&[(&mask_tokens, 0)])?
            } else {
                self.count(&key("output_hypernetworks_mlps."))
            },
            iou_head_depth: self.count(&iou_head),
            iou_head_hidden_dim: self.dim(&[
                (&format!("{iou_head}0.weight"), 0),
                (&format!("{iou_head}0.bias"), 0),
            ])?,
        })
    }

    fn any(&self, prefix: &str) -> bool {
        self.0.keys().any(|key| key.starts_with(prefix))
    }

    fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// A size, told by the first of these keys (and axes) that is there; never 0. Several keys
    /// tell it so that a missing one is reported along with all others that are missing.
    fn dim(&self, witnesses: &[(&str, usize)]) -> Result<usize, String> {
        let found = witnesses
            .iter()
            .find_map(|&(key, axis)| Some((key, axis, self.0.get(key)?)));
        let (key, axis, shape) = found.ok_or(format!("key {} is missing", witnesses[0].0))?;
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
        let first: Vec<&str> = keys.take(3).copied().collect();
        format!(
            "not a SAM checkpoint: neither image_encoder.pos_embed (ViT) nor \
             image_encoder.patch_embed.seq.0.c.weight (TinyViT) nor \
             image_encoder.trunk (Hiera) among its {} keys (first: {})",
            self.0.len(),
            first.join(", ")
        )
    }
}

/// `a / b`, which must be whole.
fn divide(a: usize, b: usize, key: &str) -> Result<usize, String> {
    if a == 0 || b == 0 || !a.is_multiple_of(b) {
        return Err(format!("key {key}: {a} is not a multiple of {b}"));
    }
    Ok(a / b)
}
