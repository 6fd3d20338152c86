//! The trunk of `compact`: EfficientNet-Lite0 (Tan and Le 2019, without squeeze-and-excitation, with
//! ReLU6), its batch norms folded into the convolutions.

use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, module::conv2d, ops::ConvOptions, ops::PadMode};

use super::conv_block::DepthwiseConv;
use crate::ops::{self, Activation};

/// Stages: blocks, window, stride, expansion, output channels.
const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
];
const STEM: usize = 32;

/// Channels of the features at strides 4, 8, 16 and 32.
pub(super) const CHANNELS: [usize; 4] = [24, 40, 112, 320];
/// The last block of each of these strides.
const TAPS: [usize; 4] = [2, 4, 10, 15];

/// EfficientNet-Lite0 without its classifier.
#[derive(Module, Debug)]
pub struct EfficientNetLite0 {
    pub(super) conv_stem: Stem,
    pub(super) blocks: Vec<MbConv>,
}

/// The first convolution: 3×3, stride 2.
#[derive(Module, Debug)]
pub(super) struct Stem {
    /// `[32, 3, 3, 3]`.
    pub(super) weight: Param<Tensor<4>>,
    /// `[32]`.
    pub(super) bias: Param<Tensor<1>>,
}

/// An inverted residual block.
#[derive(Module, Debug)]
pub(super) struct MbConv {
    pub(super) expand_conv: Option<Linear>,
    pub(super) depthwise_conv: DepthwiseConv,
    pub(super) project_conv: Linear,
    #[module(skip)]
    stride: usize,
    #[module(skip)]
    residual: bool,
}

impl EfficientNetLite0 {
    pub(super) fn new(device: &Device) -> Self {
        let mut blocks = Vec::new();
        let mut inputs = STEM;
        for (repeats, kernel, stride, expansion, outputs) in STAGES {
            for repeat in 0..repeats {
                let stride = if repeat == 0 { stride } else { 1 };
                let hidden = inputs * expansion;
                blocks.push(MbConv {
                    expand_conv: (expansion > 1)
                        .then(|| LinearConfig::new(inputs, hidden).init(device)),
                    depthwise_conv: DepthwiseConv::new(hidden, kernel, device),
                    project_conv: LinearConfig::new(hidden, outputs).init(device),
                    stride,
                    residual: stride == 1 && inputs == outputs,
                });
                inputs = outputs;
            }
        }
        let uniform = Initializer::KaimingUniform {
            gain: 1.0,
            fan_out_only: false,
        };
        Self {
            conv_stem: Stem {
                weight: uniform.init_with([STEM, 3, 3, 3], Some(27), None, device),
                bias: Initializer::Zeros.init([STEM], device),
            },
            blocks,
        }
    }

    /// Normalised pixels `[batch, 3, side, side]` → features at strides 4, 8, 16 and 32,
    /// channels last.
    pub fn forward(&self, pixels: Tensor<4>) -> [Tensor<4>; 4] {
        let mut x = self.conv_stem.forward(pixels);
        let mut taps = Vec::with_capacity(TAPS.len());
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(x);
            if TAPS.contains(&index) {
                taps.push(x.clone());
            }
        }
        match taps.try_into() {
            Ok(taps) => taps,
            Err(_) => unreachable!("one feature per tap"),
        }
    }
}

impl Stem {
    /// `[batch, 3, side, side]` → `[batch, side / 2, side / 2, 32]`.
    fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        let padded = pixels.pad([(0, 0), (0, 0), (0, 1), (0, 1)], PadMode::Constant(0.0));
        let options = ConvOptions::new([2, 2], [0, 0], [1, 1], 1);
        let x = conv2d(padded, self.weight.val(), Some(self.bias.val()), options);
        Activation::Relu6.apply(x.permute([0, 2, 3, 1]))
    }
}

impl MbConv {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let hidden = match &self.expand_conv {
            Some(expand) => ops::linear(x.clone(), expand, Activation::Relu6),
            None => x.clone(),
        };
        let hidden = self
            .depthwise_conv
            .forward(hidden, self.stride, Activation::Relu6);
        let out = ops::linear(hidden, &self.project_conv, Activation::Identity);
        if self.residual { x + out } else { out }
    }
}
