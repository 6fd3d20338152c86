//! Hiera, the trunk of SAM 2 (Ryali et al. 2023; `sam2/modeling/backbones/hieradet.py`): four stages
//! of transformer blocks, each at half the resolution and twice the width of the one before.

use std::ops::ControlFlow;

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::conv::Conv2dConfig;
use burn::nn::{Initializer, LayerNorm, LayerNormConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor};

use crate::common::{MlpBlock, MlpBlockConfig, bicubic_weights, never};
use crate::ops::{self, Activation, Conv2d, GridAttention, Linear, PooledAttention, QkvLayout};

/// Epsilon of the norms.
const EPSILON: f64 = 1e-6;
/// Side and step of the patch embedding's window, and its padding.
const PATCH: (usize, usize, usize) = (7, 4, 3);
/// Stages.
pub(crate) const STAGES: usize = 4;

/// Configuration of [`Hiera`].
#[derive(Config, Debug)]
pub struct HieraConfig {
    /// Width of the first stage.
    pub embed_dim: usize,
    /// Attention heads of the first stage.
    pub num_heads: usize,
    /// Blocks of every stage.
    pub stages: [usize; STAGES],
    /// Blocks that attend to the whole grid.
    pub global_att_blocks: Vec<usize>,
    /// Side of the coarse position embedding, which is stretched over the grid.
    pub pos_embed_bkg: usize,
    /// Side of the windows of every stage, in tokens.
    pub window_spec: [usize; STAGES],
}

impl HieraConfig {
    /// The trunk of `sam2_hiera_tiny`.
    pub fn tiny() -> Self {
        Self::new(96, 1, [1, 2, 7, 2], vec![5, 7, 9], 7, [8, 4, 14, 7])
    }

    /// The trunk of `sam2_hiera_small`.
    pub fn small() -> Self {
        Self::new(96, 1, [1, 2, 11, 2], vec![7, 10, 13], 7, [8, 4, 14, 7])
    }

    /// The trunk of `sam2_hiera_base_plus`.
    pub fn base_plus() -> Self {
        Self::new(112, 2, [2, 3, 16, 3], vec![12, 16, 20], 14, [8, 4, 14, 7])
    }

    /// The trunk of `sam2_hiera_large`.
    pub fn large() -> Self {
        Self::new(144, 2, [2, 6, 36, 4], vec![23, 33, 43], 7, [8, 4, 16, 8])
    }

    /// The released trunks.
    pub(crate) fn released() -> [(&'static str, Self); 4] {
        [
            ("tiny", Self::tiny()),
            ("small", Self::small()),
            ("base-plus", Self::base_plus()),
            ("large", Self::large()),
        ]
    }

    /// The released trunk of this width and depth, whose windows and heads its weights do not tell.
    pub(crate) fn released_like(embed_dim: usize, stages: [usize; STAGES]) -> Option<Self> {
        let mut trunks = Self::released().into_iter().map(|(_, trunk)| trunk);
        trunks.find(|trunk| trunk.embed_dim == embed_dim && trunk.stages == stages)
    }

    /// `tiny`, `small`, `base-plus` or `large`.
    pub(crate) fn released_name(&self) -> Option<&'static str> {
        let mut trunks = Self::released().into_iter();
        let same = |trunk: &Self| trunk.embed_dim == self.embed_dim && trunk.stages == self.stages;
        trunks.find(|(_, trunk)| same(trunk)).map(|(name, _)| name)
    }

    /// Channels of every stage, the finest first.
    pub fn channels(&self) -> [usize; STAGES] {
        std::array::from_fn(|stage| self.embed_dim << stage)
    }

    /// A trunk with random weights.
    pub fn init(&self, device: &Device) -> Hiera {
        let (kernel, stride, pad) = PATCH;
        let zeros = |side| Initializer::Zeros.init([1, self.embed_dim, side, side], device);
        Hiera {
            patch_embed: PatchEmbed {
                proj: Conv2dConfig::new([3, self.embed_dim], [kernel, kernel])
                    .with_stride([stride, stride])
                    .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
                    .init(device)
                    .into(),
            },
            pos_embed: zeros(self.pos_embed_bkg),
            pos_embed_window: zeros(self.window_spec[0]),
            blocks: self.blocks(device),
            stages: self.stages,
        }
    }

    fn blocks(&self, device: &Device) -> Vec<MultiScaleBlock> {
        let stage_of = |block: usize| {
            let ends = self.stages.iter().scan(0, |end, &count| {
                *end += count;
                Some(*end)
            });
            ends.take_while(|&end| end <= block).count()
        };
        let blocks = 0..self.stages.iter().sum();
        blocks
            .map(|index| {
                let stage = stage_of(index);
                // The first block of a stage still works on the grid and in the windows of the
                // stage before.
                let before = stage_of(index.saturating_sub(1));
                let window = if self.global_att_blocks.contains(&index) {
                    0
                } else {
                    self.window_spec[before]
                };
                let dims = [before, stage].map(|stage| self.embed_dim << stage);
                MultiScaleBlock::new(dims, self.num_heads << stage, window, device)
            })
            .collect()
    }
}

/// The trunk: pixels `[batch, 3, side, side]` → the tokens of all stages.
#[derive(Module, Debug)]
pub struct Hiera {
    patch_embed: PatchEmbed,
    /// `[1, embed_dim, pos_embed_bkg, pos_embed_bkg]`.
    pos_embed: Param<Tensor<4>>,
    /// `[1, embed_dim, window, window]`, the same in every window.
    pos_embed_window: Param<Tensor<4>>,
    blocks: Vec<MultiScaleBlock>,
    #[module(skip)]
    stages: [usize; STAGES],
}

impl Hiera {
    /// The tokens at the end of every stage, the finest first: `[batch, side / 4, side / 4, dim]`,
    /// then half the side and twice the width each time.
    pub fn forward(&self, pixels: Tensor<4>) -> Vec<Tensor<4>> {
        let ControlFlow::Continue(stages) = self.try_forward(pixels, never);
        stages
    }

    /// The same, which `between` hears of before every block, and can stop.
    pub fn try_forward<B>(
        &self,
        pixels: Tensor<4>,
        mut between: impl FnMut() -> ControlFlow<B>,
    ) -> ControlFlow<B, Vec<Tensor<4>>> {
        let x = self.patch_embed.forward(pixels);
        let [_, height, width, _] = x.dims();
        let mut x = x + self.position(height, width);
        let mut blocks = self.blocks.iter();
        let mut ends = Vec::with_capacity(STAGES);
        for &count in &self.stages {
            for block in blocks.by_ref().take(count) {
                between()?;
                x = block.forward(x);
            }
            ends.push(x.clone());
        }
        ControlFlow::Continue(ends)
    }

    /// The position embedding `[1, height, width, embed_dim]`: the coarse one, stretched, and that of
    /// a window in every window.
    fn position(&self, height: usize, width: usize) -> Tensor<4> {
        let coarse = self.pos_embed.val();
        let device = coarse.device();
        let [_, dim, rows, columns] = coarse.dims();
        // Bicubic interpolation is a product with a matrix for each axis.
        let down = bicubic_weights(rows, height, &device).reshape([1, 1, height, rows]);
        let across = bicubic_weights(columns, width, &device).reshape([1, 1, width, columns]);
        let stretched = down.matmul(coarse).matmul(across.swap_dims(2, 3));
        let window = self.pos_embed_window.val();
        let side = window.dims()[2];
        let tiled = window
            .repeat_dim(2, height / side)
            .repeat_dim(3, width / side);
        debug_assert_eq!(tiled.dims(), [1, dim, height, width]);
        (stretched + tiled).permute([0, 2, 3, 1])
    }
}

/// Projects overlapping patches to tokens.
#[derive(Module, Debug)]
struct PatchEmbed {
    proj: Conv2d,
}

impl PatchEmbed {
    /// `[batch, 3, side, side]` → `[batch, side / 4, side / 4, embed_dim]`.
    fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        let (_, stride, pad) = PATCH;
        let pixels = pixels.permute([0, 2, 3, 1]);
        ops::conv2d(pixels, &self.proj, [stride, pad], Activation::Identity)
    }
}

/// A transformer block. The first one of a stage halves the grid by pooling its queries.
#[derive(Module, Debug)]
struct MultiScaleBlock {
    norm1: LayerNorm,
    attn: MultiScaleAttention,
    norm2: LayerNorm,
    mlp: MlpBlock,
    /// Only where the width changes.
    proj: Option<Linear>,
}

impl MultiScaleBlock {
    fn new([dim, dim_out]: [usize; 2], heads: usize, window: usize, device: &Device) -> Self {
        let norm = |dim| LayerNormConfig::new(dim).with_epsilon(EPSILON).init(device);
        let pooled = dim != dim_out;
        Self {
            norm1: norm(dim),
            attn: MultiScaleAttention {
                qkv: Linear::new(dim, 3 * dim_out, device),
                proj: Linear::new(dim_out, dim_out, device),
                heads,
                window,
                pooled,
            },
            norm2: norm(dim_out),
            mlp: MlpBlockConfig::new(dim_out, 4 * dim_out).init(Activation::Gelu, device),
            proj: pooled.then(|| Linear::new(dim, dim_out, device)),
        }
    }

    /// `[batch, height, width, dim]` → the same, or half the sides and `dim_out`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let normed = ops::layer_norm(x.clone(), &self.norm1, EPSILON);
        let shortcut = match &self.proj {
            Some(proj) => ops::max_pool(ops::linear(normed.clone(), proj, Activation::Identity)),
            None => x,
        };
        let x = self.attn.forward(normed, shortcut);
        self.mlp.forward_of_norm(x, (&self.norm2, EPSILON))
    }
}

/// Self-attention in windows or over the whole grid, with pooled queries in some blocks.
#[derive(Module, Debug)]
struct MultiScaleAttention {
    qkv: Linear,
    proj: Linear,
    #[module(skip)]
    heads: usize,
    /// Side of a window in tokens; 0 is global attention.
    #[module(skip)]
    window: usize,
    #[module(skip)]
    pooled: bool,
}

impl MultiScaleAttention {
    /// `residual + attention(x)`.
    fn forward(&self, x: Tensor<4>, residual: Tensor<4>) -> Tensor<4> {
        let qkv = ops::linear(x, &self.qkv, Activation::Identity);
        let padding = ops::projected_padding(&self.qkv);
        let grid = GridAttention {
            heads: self.heads,
            window: self.window,
            layout: QkvLayout::ByPart,
            bias: ops::AttentionBias::None,
            precision: self.qkv.precision(),
        };
        let attended = if self.pooled {
            PooledAttention(grid).forward(qkv, padding)
        } else {
            grid.forward(qkv, padding)
        };
        ops::linear_add(attended, &self.proj, residual)
    }
}
