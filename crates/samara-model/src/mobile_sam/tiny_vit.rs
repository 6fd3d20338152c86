//! TinyViT, the image encoder of MobileSAM (`mobile_sam/modeling/tiny_vit_sam.py`): one
//! convolutional stage, then three stages of window attention with local convolutions.

use std::ops::ControlFlow;

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::conv::Conv2dConfig;
use burn::nn::{BatchNorm, BatchNormConfig, Initializer, LayerNorm, LayerNormConfig};
use burn::tensor::module::conv2d as burn_conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Int, Tensor};

use samara_kernels::depthwise::Depthwise;

use crate::common::never;
use crate::ops::{
    self, Activation, AttentionBias, Bottleneck, Conv2d, Convolution, GridAttention,
    LAYER_NORM_EPSILON, Linear, QkvLayout,
};
use crate::sam::{Neck, NeckConfig};

/// Configuration of [TinyViT]. Vectors have one entry per stage.
#[derive(Config, Debug)]
pub struct TinyViTConfig {
    /// Channels of each stage.
    pub embed_dims: Vec<usize>,
    /// Blocks of each stage.
    pub depths: Vec<usize>,
    /// Attention heads of each stage; unused in the first, which is convolutional.
    pub num_heads: Vec<usize>,
    /// Attention window of each stage in tokens; unused in the first.
    pub window_sizes: Vec<usize>,
    /// Stride of the merging layer after each stage but the last. MobileSAM keeps the resolution
    /// before its last stage, so that the embedding has 64×64 cells.
    #[config(default = "vec![2, 2, 1]")]
    pub merge_strides: Vec<usize>,
    /// Hidden width of the feed-forward blocks over the width of the stage.
    #[config(default = 4)]
    pub mlp_ratio: usize,
    /// Expansion of the convolutional blocks of the first stage.
    #[config(default = 4)]
    pub mbconv_expand_ratio: usize,
    /// Channels of the image embedding.
    #[config(default = 256)]
    pub out_chans: usize,
}

impl TinyViTConfig {
    /// The encoder of the released MobileSAM.
    pub fn mobile_sam() -> Self {
        Self::new(
            vec![64, 128, 160, 320],
            vec![2, 2, 6, 2],
            vec![2, 4, 5, 10],
            vec![7, 7, 14, 7],
        )
    }

    pub(crate) fn is_mobile_sam(&self) -> bool {
        let released = Self::mobile_sam();
        self.embed_dims == released.embed_dims && self.depths == released.depths
    }

    /// An encoder with random weights.
    pub fn init(&self, device: &Device) -> TinyViT {
        let dims = &self.embed_dims;
        let stages = dims.len();
        TinyViT {
            patch_embed: PatchEmbed {
                conv1: Conv2dBn::new([3, dims[0] / 2], 3, 2, 1, device),
                conv2: Conv2dBn::new([dims[0] / 2, dims[0]], 3, 2, 1, device),
            },
            layers: (0..stages).map(|stage| self.stage(stage, device)).collect(),
            neck: NeckConfig::new(dims[stages - 1], self.out_chans).init(device),
        }
    }

    fn stage(&self, stage: usize, device: &Device) -> Stage {
        let dim = self.embed_dims[stage];
        let blocks = (0..self.depths[stage]).map(|_| {
            if stage == 0 {
                let hidden = dim * self.mbconv_expand_ratio;
                Block::MbConv(MbConv {
                    conv1: Conv2dBn::new([dim, hidden], 1, 1, 1, device),
                    conv2: Conv2dBn::new([hidden, hidden], 3, 1, hidden, device),
                    conv3: Conv2dBn::new([hidden, dim], 1, 1, 1, device),
                })
            } else {
                Block::TinyViT(self.block(stage, device))
            }
        });
        let downsample = self.embed_dims.get(stage + 1).map(|&out| PatchMerging {
            conv1: Conv2dBn::new([dim, out], 1, 1, 1, device),
            conv2: Conv2dBn::new([out, out], 3, self.merge_strides[stage], out, device),
            conv3: Conv2dBn::new([out, out], 1, 1, 1, device),
        });
        Stage {
            blocks: blocks.collect(),
            downsample,
        }
    }

    fn block(&self, stage: usize, device: &Device) -> TinyViTBlock {
        let (dim, window) = (self.embed_dims[stage], self.window_sizes[stage]);
        let (heads, hidden) = (self.num_heads[stage], dim * self.mlp_ratio);
        TinyViTBlock {
            attn: Attention {
                norm: LayerNormConfig::new(dim).init(device),
                qkv: Linear::new(dim, 3 * dim, device),
                proj: Linear::new(dim, dim, device),
                attention_biases: Initializer::Zeros.init([heads, window * window], device),
                window,
            },
            mlp: Mlp {
                norm: LayerNormConfig::new(dim).init(device),
                fc1: Linear::new(dim, hidden, device),
                fc2: Linear::new(hidden, dim, device),
            },
            local_conv: Conv2dBn::new([dim, dim], 3, 1, dim, device),
        }
    }
}

/// The image encoder of MobileSAM: `[batch, 3, 1024, 1024]` → `[batch, 64, 64, 256]`.
#[derive(Module, Debug)]
pub struct TinyViT {
    patch_embed: PatchEmbed,
    layers: Vec<Stage>,
    neck: Neck,
}

impl TinyViT {
    /// Normalised and padded pixels `[batch, 3, side, side]` → image embedding
    /// `[batch, side / 16, side / 16, out_chans]`.
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
        let mut x = self.patch_embed.forward(pixels.permute([0, 2, 3, 1]));
        for stage in &self.layers {
            x = stage.try_forward(x, &mut between)?;
        }
        between()?;
        ControlFlow::Continue(self.neck.forward(x))
    }

    /// What goes through the encoder, for analysis: the patch embedding, then the output of every
    /// stage, each `[batch, height, width, channels]`.
    pub fn layers(&self, pixels: Tensor<4>) -> Vec<Tensor<4>> {
        let mut layers = vec![self.patch_embed.forward(pixels.permute([0, 2, 3, 1]))];
        for stage in &self.layers {
            layers.push(stage.forward(layers[layers.len() - 1].clone()));
        }
        layers
    }
}

/// A batch norm that learns needs the statistics of its input, and cannot be folded into weights.
fn learns(x: &Tensor<4>) -> bool {
    x.device().is_autodiff()
}

/// Convolution without bias, then batch norm. The kernel is odd and padded to keep the size.
#[derive(Module, Debug)]
struct Conv2dBn {
    c: Conv2d,
    bn: BatchNorm,
    #[module(skip)]
    stride: usize,
    #[module(skip)]
    groups: usize,
}

impl Conv2dBn {
    fn new(
        channels: [usize; 2],
        kernel: usize,
        stride: usize,
        groups: usize,
        device: &Device,
    ) -> Self {
        let config = Conv2dConfig::new(channels, [kernel, kernel]).with_groups(groups);
        Self {
            c: config.with_bias(false).init(device).into(),
            bn: BatchNormConfig::new(channels[1]).init(device),
            stride,
            groups,
        }
    }

    /// `[batch, height, width, in]` → `[batch, height / stride, width / stride, out]`.
    fn forward(&self, x: Tensor<4>, activation: Activation) -> Tensor<4> {
        if learns(&x) {
            let y = self.bn.forward(self.convolve(x.permute([0, 3, 1, 2])));
            return activation.apply(y.permute([0, 2, 3, 1]));
        }
        let ([outputs, inputs, kernel, _], stride) = (self.c.weight.dims(), self.stride);
        if self.groups == 1 {
            return ops::conv2d(x, &self.layer(), [stride, kernel / 2], activation);
        }
        debug_assert_eq!(inputs, 1, "a depthwise convolution");
        let (weight, bias) = self.folded();
        let shape = Depthwise::padded(x.dims(), kernel, stride, kernel / 2);
        let weight = weight.reshape([outputs, kernel * kernel]).swap_dims(0, 1);
        ops::depthwise(x, weight, bias, shape, activation)
    }

    /// The convolution alone, `[batch, in, height, width]` → `[batch, out, ..]`, in tensor operations.
    fn convolve(&self, x: Tensor<4>) -> Tensor<4> {
        let weight = self.c.weight.val();
        let (stride, pad) = (self.stride, weight.dims()[2] / 2);
        let options = ConvOptions::new([stride; 2], [pad; 2], [1, 1], self.groups);
        burn_conv2d(x, weight, None, options)
    }

    /// The convolution with the batch norm in it.
    fn layer(&self) -> Conv2d {
        Conv2d::from(self.folded()).with_precision(self.c.weight.precision())
    }

    /// Its weight and bias.
    fn folded(&self) -> Convolution {
        let (mean, variance) = (self.bn.running_mean.value(), self.bn.running_var.value());
        let factor = self.bn.gamma.val() / (variance + self.bn.epsilon).sqrt();
        let bias = self.bn.beta.val() - mean * factor.clone();
        (self.c.weight.val() * factor.reshape([-1, 1, 1, 1]), bias)
    }
}

/// Two strided convolutions: a quarter of the resolution.
#[derive(Module, Debug)]
struct PatchEmbed {
    conv1: Conv2dBn,
    conv2: Conv2dBn,
}

impl PatchEmbed {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.conv1.forward(x, Activation::Gelu);
        self.conv2.forward(x, Activation::Identity)
    }
}

/// Blocks of one width, then the merging layer to the next.
#[derive(Module, Debug)]
struct Stage {
    blocks: Vec<Block>,
    downsample: Option<PatchMerging>,
}

impl Stage {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let ControlFlow::Continue(x) = self.try_forward(x, never);
        x
    }

    fn try_forward<B>(
        &self,
        mut x: Tensor<4>,
        mut between: impl FnMut() -> ControlFlow<B>,
    ) -> ControlFlow<B, Tensor<4>> {
        for block in &self.blocks {
            between()?;
            x = match block {
                Block::MbConv(block) => block.forward(x),
                Block::TinyViT(block) => block.forward(x),
            };
        }
        ControlFlow::Continue(match &self.downsample {
            Some(downsample) => downsample.forward(x),
            None => x,
        })
    }
}

/// A block of a stage: convolutional in the first, attention in the others.
#[derive(Module, Debug)]
enum Block {
    MbConv(MbConv),
    TinyViT(TinyViTBlock),
}

/// Inverted bottleneck with a residual, activated after the sum.
#[derive(Module, Debug)]
struct MbConv {
    conv1: Conv2dBn,
    conv2: Conv2dBn,
    conv3: Conv2dBn,
}

impl MbConv {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        bottleneck(x, [&self.conv1, &self.conv2, &self.conv3], true)
    }
}

/// Three convolutions: to more channels, channel by channel, to fewer. With a `shortcut` their result
/// is added to `x`, and the sum activated too.
fn bottleneck(
    x: Tensor<4>,
    [expand, convolve, project]: [&Conv2dBn; 3],
    shortcut: bool,
) -> Tensor<4> {
    let activation = Activation::Gelu;
    if learns(&x) {
        let wide = expand.forward(x.clone(), activation);
        let wide = convolve.forward(wide, activation);
        let out = project.forward(wide, Activation::Identity);
        return if shortcut {
            activation.apply(x + out)
        } else {
            out
        };
    }
    let bottleneck = Bottleneck {
        expand: expand.layer(),
        convolve: convolve.folded(),
        stride: convolve.stride,
        project: project.layer(),
        activation,
        shortcut,
    };
    bottleneck.forward(x)
}

/// Changes width and, with stride 2, halves the resolution.
#[derive(Module, Debug)]
struct PatchMerging {
    conv1: Conv2dBn,
    conv2: Conv2dBn,
    conv3: Conv2dBn,
}

impl PatchMerging {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        bottleneck(x, [&self.conv1, &self.conv2, &self.conv3], false)
    }
}

/// Window attention, a depthwise convolution, and a feed-forward block.
#[derive(Module, Debug)]
struct TinyViTBlock {
    attn: Attention,
    mlp: Mlp,
    local_conv: Conv2dBn,
}

impl TinyViTBlock {
    /// `[batch, height, width, dim]` → the same shape.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.attn.forward(x);
        let x = self.local_conv.forward(x, Activation::Identity);
        self.mlp.forward(x)
    }
}

/// Attention inside a window, with a learned bias per absolute offset.
#[derive(Module, Debug)]
#[expect(clippy::struct_field_names, reason = "the checkpoint's names")]
struct Attention {
    norm: LayerNorm,
    qkv: Linear,
    proj: Linear,
    attention_biases: Param<Tensor<2>>,
    #[module(skip)]
    window: usize,
}

impl Attention {
    /// `x + attention(x)`, both `[batch, height, width, dim]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let project = |x| ops::linear_of_norm(x, (&self.norm, LAYER_NORM_EPSILON), &self.qkv);
        let [.., dim] = x.dims();
        // Here padding comes before the norm, unlike in SAM's ViT: a padded token enters attention
        // as the norm's shift.
        let zero = Tensor::zeros([1, 1, 1, dim], &x.device());
        let padding = project(zero).reshape([3 * dim]);
        let attention = GridAttention {
            heads: self.attention_biases.dims()[0],
            window: self.window,
            layout: QkvLayout::ByHead,
            bias: AttentionBias::Table(offset_biases(self.attention_biases.val(), self.window)),
            precision: self.qkv.precision(),
        };
        ops::linear_add(
            attention.forward(project(x.clone()), padding),
            &self.proj,
            x,
        )
    }
}

/// The bias of every pair of tokens, from one value per offset: `[heads, window²]` →
/// `[heads, window², window²]`, where offset (|dy|, |dx|) is value |dy| · window + |dx|.
fn offset_biases(biases: Tensor<2>, window: usize) -> Tensor<3> {
    let heads = biases.dims()[0];
    let tokens = window * window;
    let offset = |a: usize, b: usize| {
        let dy = (a / window).abs_diff(b / window);
        let dx = (a % window).abs_diff(b % window);
        (dy * window + dx) as i32
    };
    let index: Vec<i32> = (0..tokens)
        .flat_map(|a| (0..tokens).map(move |b| offset(a, b)))
        .collect();
    let index = Tensor::<1, Int>::from_data(index.as_slice(), &biases.device());
    biases.select(1, index).reshape([heads, tokens, tokens])
}

/// Feed-forward block with its own norm.
#[derive(Module, Debug)]
struct Mlp {
    norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    /// `x + mlp(x)`, both `[batch, height, width, dim]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (norm, layers) = ((&self.norm, LAYER_NORM_EPSILON), [&self.fc1, &self.fc2]);
        ops::feed_forward(x.clone(), norm, layers, Activation::Gelu, x)
    }
}
