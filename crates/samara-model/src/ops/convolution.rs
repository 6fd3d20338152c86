//! Convolutions over channels-last images.

#[cfg(feature = "flex")]
use burn::backend::Dispatch;
use burn::module::{Module, Param, ParamId};
use burn::nn;
use burn::tensor::Tensor;
use burn::tensor::module::conv2d as burn_conv2d;
use burn::tensor::ops::{ConvOptions, PadMode};
use samara_kernels::depthwise::Depthwise;
use samara_kernels::gemm::{Dense, Epilogue, Patches, linear_of_packed};
use samara_kernels::memory;

use super::values::{Values, tensor};
use super::{Activation, Precision, Weight};
#[cfg(feature = "flex")]
use super::{fused, is_cpu};

/// A convolution as the checkpoints have it: weight `[out, in, kernel, kernel]`, bias `[out]`.
pub type Convolution = (Tensor<4>, Tensor<1>);

/// A convolution, as Burn's with a weight that is packed once.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// `[out, in, kernel, kernel]`.
    pub weight: Weight<4>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Conv2d {
    /// The same, multiplied in these numbers.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self {
            weight: self.weight.with_precision(precision),
            ..self
        }
    }
}

impl From<nn::conv::Conv2d> for Conv2d {
    fn from(layer: nn::conv::Conv2d) -> Self {
        Self {
            weight: layer.weight.into(),
            bias: layer.bias,
        }
    }
}

impl From<Convolution> for Conv2d {
    fn from((weight, bias): Convolution) -> Self {
        Self {
            weight: Param::initialized(ParamId::new(), weight).into(),
            bias: Some(Param::initialized(ParamId::new(), bias)),
        }
    }
}

/// Convolution of `[batch, height, width, in]` with a square window and `pad` zeros on every side.
pub fn conv2d(
    x: Tensor<4>,
    layer: &Conv2d,
    [stride, pad]: [usize; 2],
    activation: Activation,
) -> Tensor<4> {
    if let Some(y) = conv2d_with_kernel(&x, layer, [stride, pad], activation) {
        return y;
    }
    let bias = layer.bias.as_ref().map(Param::val);
    let options = ConvOptions::new([stride, stride], [pad, pad], [1, 1], 1);
    let y = burn_conv2d(x.permute([0, 3, 1, 2]), layer.weight.val(), bias, options);
    activation.apply(y.permute([0, 2, 3, 1]))
}

fn conv2d_with_kernel(
    x: &Tensor<4>,
    layer: &Conv2d,
    [stride, pad]: [usize; 2],
    activation: Activation,
) -> Option<Tensor<4>> {
    let (dims, device) = (x.dims(), x.device());
    let x = Values::of(x.clone())?;
    let weight = layer.weight.packed()?;
    let bias = Values::optional(layer.bias.as_ref().map(Param::val))?;
    let epilogue = Epilogue {
        bias: bias.as_ref().map(Values::as_slice),
        activation: activation.kernel(weight.precision()),
        residual: None,
    };
    let [_, inputs, kernel, _] = layer.weight.dims();
    let patches = Patches::new(x.as_slice(), dims, kernel, stride, pad);
    let (height, width) = (patches.out_height, patches.out_width);
    let shape = [dims[0], height, width, weight.columns()];
    let mut out = memory::zeros(shape.iter().product());
    if [kernel, stride, pad] == [1, 1, 0] {
        let pixels = Dense::new(x.as_slice(), inputs);
        linear_of_packed(&pixels, &weight, &epilogue, &mut out);
    } else {
        linear_of_packed(&patches, &weight, &epilogue, &mut out);
    }
    Some(tensor(out, shape, &device))
}

/// Depthwise convolution: `x` `[batch, height, width, channels]` with the size that `shape` says,
/// `weight` `[kernel², channels]`, `bias` `[channels]`.
pub fn depthwise(
    x: Tensor<4>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    shape: Depthwise,
    activation: Activation,
) -> Tensor<4> {
    let device = x.device();
    let sides = (
        Values::of(x.clone()),
        Values::of(weight.clone()),
        Values::of(bias.clone()),
    );
    if let (Some(x), Some(weight), Some(bias)) = sides {
        let mut out = memory::zeros(shape.out_shape().iter().product());
        let [x, weight, bias] = [&x, &weight, &bias].map(Values::as_slice);
        let activation = activation.kernel(Precision::Fp32);
        shape.forward(x, weight, bias, activation, &mut out);
        return tensor(out, shape.out_shape(), &device);
    }
    #[cfg(feature = "flex")]
    if let (Some(rectifier), true) = (activation.rectifier(), is_cpu(&device)) {
        return Tensor::from_dispatch(<Dispatch as fused::FusedOps>::fused_depthwise(
            x.into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
            shape,
            rectifier,
        ));
    }
    let Depthwise {
        channels,
        kernel,
        stride,
        ..
    } = shape;
    let after = |size: usize, out: usize| {
        (((out - 1) * stride + kernel).saturating_sub(size)).saturating_sub(shape.pad)
    };
    let padded = x.permute([0, 3, 1, 2]).pad(
        [
            (0, 0),
            (0, 0),
            (shape.pad, after(shape.height, shape.out_height)),
            (shape.pad, after(shape.width, shape.out_width)),
        ],
        PadMode::Constant(0.0),
    );
    let weight = weight
        .swap_dims(0, 1)
        .reshape([channels, 1, kernel, kernel]);
    let options = ConvOptions::new([stride, stride], [0, 0], [1, 1], channels);
    let y = burn_conv2d(padded, weight, Some(bias), options);
    activation.apply(y.permute([0, 2, 3, 1]))
}
