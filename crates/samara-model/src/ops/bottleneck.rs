//! Inverted bottlenecks.

use burn::tensor::Tensor;
use samara_kernels::bottleneck;
use samara_kernels::depthwise::Depthwise;
use samara_kernels::memory;

use super::activation::Activation;
use super::convolution::{Conv2d, Convolution, conv2d, depthwise};
use super::layer_values::PackedLayer;
use super::values::{Values, tensor};

/// Widen, look at the neighbours channel by channel, narrow, with an activation after the first two.
#[derive(Debug, Clone)]
pub struct Bottleneck {
    /// 1×1, to the wide channels.
    pub expand: Conv2d,
    /// Of every wide channel by itself: weight `[wide, 1, kernel, kernel]`, padded to keep the size.
    pub convolve: Convolution,
    /// Its step.
    pub stride: usize,
    /// 1×1, from the wide channels.
    pub project: Conv2d,
    /// After the first two, and after the sum with the input.
    pub activation: Activation,
    /// Whether the input is added to the result.
    pub shortcut: bool,
}

impl Bottleneck {
    /// `[batch, height, width, in]` → `[batch, height / stride, width / stride, out]`.
    pub fn forward(self, x: Tensor<4>) -> Tensor<4> {
        self.forward_with_kernel(&x)
            .unwrap_or_else(|| self.forward_composed(x))
    }

    fn shape(&self, [batch, height, width, _]: [usize; 4]) -> Depthwise {
        let [wide, _, kernel, _] = self.convolve.0.dims();
        Depthwise::padded(
            [batch, height, width, wide],
            kernel,
            self.stride,
            kernel / 2,
        )
    }

    /// The weight of the convolution as `[kernel², wide]`.
    fn taps(&self) -> Tensor<2> {
        let [wide, _, kernel, _] = self.convolve.0.dims();
        let weight = self.convolve.0.clone();
        weight.reshape([wide, kernel * kernel]).swap_dims(0, 1)
    }

    fn forward_with_kernel(&self, x: &Tensor<4>) -> Option<Tensor<4>> {
        let (dims, device) = (x.dims(), x.device());
        let expand = PackedLayer::pointwise(&self.expand)?;
        let project = PackedLayer::pointwise(&self.project)?;
        let (x, weight) = (Values::of(x.clone())?, Values::of(self.taps())?);
        let bias = Values::of(self.convolve.1.clone())?;
        let shape = self.shape(dims);
        let block = bottleneck::Bottleneck {
            expand: expand.layer(),
            shape,
            weight: weight.as_slice(),
            bias: bias.as_slice(),
            project: project.layer(),
            activation: self.activation.kernel(self.expand.weight.precision()),
            shortcut: self.shortcut,
        };
        let [batch, height, width, _] = shape.out_shape();
        let out_shape = [batch, height, width, self.project.weight.dims()[0]];
        let mut out = memory::zeros(out_shape.iter().product());
        block.forward(x.as_slice(), &mut out);
        Some(tensor(out, out_shape, &device))
    }

    fn forward_composed(self, x: Tensor<4>) -> Tensor<4> {
        let (shape, taps) = (self.shape(x.dims()), self.taps());
        let wide = conv2d(x.clone(), &self.expand, [1, 0], self.activation);
        let wide = depthwise(wide, taps, self.convolve.1, shape, self.activation);
        let out = conv2d(wide, &self.project, [1, 0], Activation::Identity);
        if self.shortcut {
            self.activation.apply(x + out)
        } else {
            out
        }
    }
}
