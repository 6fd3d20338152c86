//! SAM's image encoder: a ViT with window attention, a few global blocks and decomposed relative
//! positions (`segment_anything/modeling/image_encoder.py`).

use std::ops::ControlFlow;

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::conv::Conv2dConfig;
use burn::nn::{Initializer, LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Tensor};

use super::neck::{Neck, NeckConfig};
use crate::common::{MlpBlock, MlpBlockConfig, never};
use crate::ops::{
    self, Activation, AttentionBias, Conv2d, GridAttention, Linear, NormLayer, QkvLayout,
};

/// Epsilon of every layer norm of the encoder, as the released models were built.
const LAYER_NORM_EPSILON: f64 = 1e-6;

/// Configuration of [`ImageEncoderViT`].
#[derive(Config, Debug)]
pub struct ImageEncoderViTConfig {
    /// Side of the square input in model pixels.
    #[config(default = 1024)]
    pub img_size: usize,
    /// Side of a patch in model pixels.
    #[config(default = 16)]
    pub patch_size: usize,
    /// Width of the tokens.
    pub embed_dim: usize,
    /// Number of attention heads.
    pub num_heads: usize,
    /// Hidden width of the feed-forward blocks.
    pub mlp_dim: usize,
    /// Window of every block in tokens; 0 is global attention.
    pub windows: Vec<usize>,
    /// Channels of the image embedding.
    #[config(default = 256)]
    pub out_chans: usize,
}

impl ImageEncoderViTConfig {
    /// The encoder of SAM ViT-B.
    pub fn vit_b() -> Self {
        Self::standard(768, 12, 12, &[2, 5, 8, 11])
    }

    /// The encoder of SAM ViT-L.
    pub fn vit_l() -> Self {
        Self::standard(1024, 16, 24, &[5, 11, 17, 23])
    }

    /// The encoder of SAM ViT-H.
    pub fn vit_h() -> Self {
        Self::standard(1280, 16, 32, &[7, 15, 23, 31])
    }

    fn standard(embed_dim: usize, num_heads: usize, depth: usize, global: &[usize]) -> Self {
        let window = |block| if global.contains(&block) { 0 } else { 14 };
        let windows = (0..depth).map(window).collect();
        Self::new(embed_dim, num_heads, 4 * embed_dim, windows)
    }

    /// An encoder with random weights.
    pub fn init(&self, device: &Device) -> ImageEncoderViT {
        let grid = self.img_size / self.patch_size;
        let blocks = self
            .windows
            .iter()
            .map(|&window| self.block(grid, window, device));
        ImageEncoderViT {
            patch_embed: PatchEmbed {
                proj: Conv2dConfig::new([3, self.embed_dim], [self.patch_size; 2])
                    .with_stride([self.patch_size; 2])
                    .init(device)
                    .into(),
            },
            pos_embed: Initializer::Zeros.init([1, grid, grid, self.embed_dim], device),
            blocks: blocks.collect(),
            neck: NeckConfig::new(self.embed_dim, self.out_chans).init(device),
        }
    }

    fn block(&self, grid: usize, window: usize, device: &Device) -> Block {
        let norm = || {
            LayerNormConfig::new(self.embed_dim)
                .with_epsilon(LAYER_NORM_EPSILON)
                .init(device)
        };
        let extent = if window == 0 { grid } else { window };
        let head_dim = self.embed_dim / self.num_heads;
        let rel_pos = || Initializer::Zeros.init([2 * extent - 1, head_dim], device);
        Block {
            norm1: norm(),
            attn: Attention {
                qkv: Linear::new(self.embed_dim, 3 * self.embed_dim, device),
                proj: Linear::new(self.embed_dim, self.embed_dim, device),
                rel_pos_h: rel_pos(),
                rel_pos_w: rel_pos(),
                num_heads: self.num_heads,
                window,
            },
            norm2: norm(),
            mlp: MlpBlockConfig::new(self.embed_dim, self.mlp_dim).init(Activation::Gelu, device),
        }
    }
}

/// The ViT image encoder of SAM: `[batch, 3, 1024, 1024]` → `[batch, 64, 64, 256]`.
#[derive(Module, Debug)]
pub struct ImageEncoderViT {
    patch_embed: PatchEmbed,
    pos_embed: Param<Tensor<4>>,
    blocks: Vec<Block>,
    neck: Neck,
}

impl ImageEncoderViT {
    /// Normalised and padded pixels `[batch, 3, side, side]` → image embedding
    /// `[batch, side / patch, side / patch, out_chans]`.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        let ControlFlow::Continue(embedding) = self.try_forward(pixels, never);
        embedding
    }

    /// The same, which `between` hears of before every block, and can stop.
    pub fn try_forward<B>(
        &self,
        pixels: Tensor<4>,
        mut between: impl FnMut() -> ControlFlow<B>,
    ) -> ControlFlow<B, Tensor<4>> {
        let mut tokens = self.patch_embed.forward(pixels) + self.pos_embed.val();
        for block in &self.blocks {
            between()?;
            tokens = block.forward(tokens);
        }
        between()?;
        ControlFlow::Continue(self.neck.forward(tokens))
    }

    /// What goes through the encoder, for analysis: the patch embedding, then the output of every
    /// block, each `[batch, grid, grid, embed_dim]`.
    pub fn layers(&self, pixels: Tensor<4>) -> Vec<Tensor<4>> {
        let mut layers = vec![self.patch_embed.forward(pixels)];
        let mut tokens = layers[0].clone() + self.pos_embed.val();
        for block in &self.blocks {
            tokens = block.forward(tokens);
            layers.push(tokens.clone());
        }
        layers
    }
}

/// Cuts the image into patches and projects each to a token.
#[derive(Module, Debug)]
struct PatchEmbed {
    proj: Conv2d,
}

impl PatchEmbed {
    /// `[batch, 3, side, side]` → `[batch, grid, grid, embed_dim]`.
    fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        let [.., patch, _] = self.proj.weight.dims();
        let pixels = pixels.permute([0, 2, 3, 1]);
        ops::conv2d(pixels, &self.proj, [patch, 0], Activation::Identity)
    }
}

/// A transformer block, windowed or global.
#[derive(Module, Debug)]
struct Block {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    mlp: MlpBlock,
}

impl Block {
    /// `[batch, height, width, embed_dim]` → the same shape.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.attn.forward(x, (&self.norm1, LAYER_NORM_EPSILON));
        self.mlp
            .forward_of_norm(x, (&self.norm2, LAYER_NORM_EPSILON))
    }
}

/// Multi-head self-attention with decomposed relative position.
#[derive(Module, Debug)]
struct Attention {
    qkv: Linear,
    proj: Linear,
    rel_pos_h: Param<Tensor<2>>,
    rel_pos_w: Param<Tensor<2>>,
    #[module(skip)]
    num_heads: usize,
    /// Side of a window in tokens; 0 is global attention.
    #[module(skip)]
    window: usize,
}

impl Attention {
    /// `x + attention(norm(x))`, both `[batch, height, width, embed_dim]`.
    fn forward(&self, x: Tensor<4>, norm: NormLayer<'_>) -> Tensor<4> {
        let qkv = ops::linear_of_norm(x.clone(), norm, &self.qkv);
        let padding = ops::projected_padding(&self.qkv);
        let attention = GridAttention {
            heads: self.num_heads,
            window: self.window,
            layout: QkvLayout::ByPart,
            bias: AttentionBias::Decomposed {
                h: self.rel_pos_h.val(),
                w: self.rel_pos_w.val(),
            },
            precision: self.qkv.precision(),
        };
        ops::linear_add(attention.forward(qkv, padding), &self.proj, x)
    }
}
