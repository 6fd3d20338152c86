//! Convolutions over channels-last images.

#[cfg(feature = "flex")]
use burn::backend::Dispatch;
use burn::tensor::Tensor;
use burn::tensor::module::conv2d as burn_conv2d;
use burn::tensor::ops::{ConvOptions, PadMode};
use samara_kernels::depthwise::Depthwise;
use samara_kernels::gemm::{Dense, Epilogue, Matrix, Packed, Patches, Rows as _, gemm};

use super::Activation;
use super::values::{Values, tensor};
#[cfg(feature = "flex")]
use super::{fused, is_cpu};

/// Convolution with a square window: `x` `[batch, height, width, in]`, `weight`
/// `[out, in, kernel, kernel]` as in the checkpoints, `bias` `[out]`, `pad` zeros on every side.
pub fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    [stride, pad]: [usize; 2],
    activation: Activation,
) -> Tensor<4> {
    let window = [stride, pad];
    if let Some(y) = conv2d_with_kernel(&x, &weight, bias.as_ref(), window, activation) {
        return y;
    }
    let options = ConvOptions::new([stride, stride], [pad, pad], [1, 1], 1);
    let y = burn_conv2d(x.permute([0, 3, 1, 2]), weight, bias, options);
    activation.apply(y.permute([0, 2, 3, 1]))
}

fn conv2d_with_kernel(
    x: &Tensor<4>,
    weight: &Tensor<4>,
    bias: Option<&Tensor<1>>,
    [stride, pad]: [usize; 2],
    activation: Activation,
) -> Option<Tensor<4>> {
    let [outputs, inputs, kernel, _] = weight.dims();
    let (dims, device) = (x.dims(), x.device());
    let x = Values::of(x.clone())?;
    // `[out, kernel, kernel, in]`: the channels of a tap side by side, as in the image.
    let weight = Values::of(weight.clone().permute([0, 2, 3, 1]))?;
    let bias = Values::optional(bias.cloned())?;
    let epilogue = Epilogue {
        bias: bias.as_ref().map(Values::as_slice),
        activation: activation.kernel(),
        residual: None,
    };
    let depth = kernel * kernel * inputs;
    let patches = Patches::new(x.as_slice(), dims, kernel, stride, pad);
    let weight = Matrix::new(weight.as_slice(), outputs, depth).transposed();
    let weight = Packed::for_rows(weight, patches.count());
    let shape = [dims[0], patches.out_height, patches.out_width, outputs];
    let mut out = vec![0.0; shape.iter().product()];
    if kernel == 1 && stride == 1 && pad == 0 {
        gemm(
            &Dense::new(x.as_slice(), inputs),
            weight.right(),
            &epilogue,
            &mut out,
        );
    } else {
        gemm(&patches, weight.right(), &epilogue, &mut out);
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
        let mut out = vec![0.0; shape.out_shape().iter().product()];
        let [x, weight, bias] = [&x, &weight, &bias].map(Values::as_slice);
        shape.forward(x, weight, bias, activation.kernel(), &mut out);
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
