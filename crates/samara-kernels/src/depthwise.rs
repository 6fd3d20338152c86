//! Depthwise convolution over channels-last images, and its gradients.
//!
//! Every output pixel is a sum over the window of `input · weight`, channel by channel. The
//! channels are taken in blocks that stay in registers while the window is walked.

use rayon::prelude::*;

use crate::activation::Activation;
use crate::isa::{Fma, Isa};
use crate::{add_in_order, rows_per_part};

/// Channels held in registers at once: four AVX2 registers, or two of AVX-512.
const BLOCK: usize = 32;

/// Shape of a depthwise convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depthwise {
    /// Images.
    pub batch: usize,
    /// Input rows.
    pub height: usize,
    /// Input columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
    /// Side of the window.
    pub kernel: usize,
    /// Step of the window.
    pub stride: usize,
    /// Zeros before the first row and column.
    pub pad: usize,
    /// Output rows.
    pub out_height: usize,
    /// Output columns.
    pub out_width: usize,
}

impl Depthwise {
    /// Padding as TensorFlow's `SAME`: ⌈size / stride⌉ outputs, the smaller half of the zeros
    /// first.
    pub fn same(
        [batch, height, width, channels]: [usize; 4],
        kernel: usize,
        stride: usize,
    ) -> Self {
        let (out_height, out_width) = (height.div_ceil(stride), width.div_ceil(stride));
        let needed = ((out_height.max(1) - 1) * stride + kernel).saturating_sub(height);
        Self {
            batch,
            height,
            width,
            channels,
            kernel,
            stride,
            pad: needed / 2,
            out_height,
            out_width,
        }
    }

    /// `pad` zeros on every side, as PyTorch has it.
    pub fn padded(
        [batch, height, width, channels]: [usize; 4],
        kernel: usize,
        stride: usize,
        pad: usize,
    ) -> Self {
        let out = |size: usize| (size + 2 * pad - kernel) / stride + 1;
        Self {
            batch,
            height,
            width,
            channels,
            kernel,
            stride,
            pad,
            out_height: out(height),
            out_width: out(width),
        }
    }

    /// Shape of the output.
    pub fn out_shape(&self) -> [usize; 4] {
        [self.batch, self.out_height, self.out_width, self.channels]
    }

    /// Taps `range` of the window that read inside `size` inputs, for output `at`.
    #[inline(always)]
    fn taps(&self, at: usize, size: usize) -> std::ops::Range<usize> {
        let start = at * self.stride;
        self.pad.saturating_sub(start)..(size + self.pad).saturating_sub(start).min(self.kernel)
    }

    /// `out = activation(x ⊛ weight + bias)`.
    ///
    /// `x` is `[batch, height, width, channels]`, `weight` `[kernel, kernel, channels]`, `bias`
    /// `[channels]`, `out` has the shape [`out_shape`](Self::out_shape).
    pub fn forward(
        &self,
        x: &[f32],
        weight: &[f32],
        bias: &[f32],
        activation: Activation,
        out: &mut [f32],
    ) {
        debug_assert_eq!(
            x.len(),
            self.batch * self.height * self.width * self.channels
        );
        debug_assert_eq!(weight.len(), self.kernel * self.kernel * self.channels);
        let isa = Isa::best();
        out.par_chunks_mut((self.out_width * self.channels).max(1))
            .enumerate()
            .for_each(|(row, out)| {
                let (image, y) = (row / self.out_height, row % self.out_height);
                let size = self.height * self.width * self.channels;
                let image = &x[image * size..(image + 1) * size];
                isa.run(
                    #[inline(always)]
                    |fma| forward_row(fma, self, y, image, weight, bias, activation, out),
                );
            });
    }

    /// Gradient with respect to the input, given that of the output (before the rectifier).
    pub fn backward_input(&self, gradient: &[f32], weight: &[f32], dx: &mut [f32]) {
        let isa = Isa::best();
        dx.par_chunks_mut((self.width * self.channels).max(1))
            .enumerate()
            .for_each(|(row, dx)| {
                let (image, y) = (row / self.height, row % self.height);
                let size = self.out_height * self.out_width * self.channels;
                let gradient = &gradient[image * size..(image + 1) * size];
                isa.run(
                    #[inline(always)]
                    |_| backward_input_row(self, y, gradient, weight, dx),
                );
            });
    }

    /// Gradient with respect to the weight, given that of the output (before the rectifier).
    pub fn backward_weight(&self, x: &[f32], gradient: &[f32]) -> Vec<f32> {
        let (isa, row) = (Isa::best(), (self.out_width * self.channels).max(1));
        let rows = rows_per_part(gradient.len() / row);
        let parts = gradient.par_chunks(rows * row).enumerate();
        let parts = parts.map(|(part, gradient)| {
            let mut dw = vec![0.0; self.kernel * self.kernel * self.channels];
            for (i, gradient) in gradient.chunks_exact(row).enumerate() {
                let at = part * rows + i;
                let (image, y) = (at / self.out_height, at % self.out_height);
                let size = self.height * self.width * self.channels;
                let image = &x[image * size..(image + 1) * size];
                isa.run(
                    #[inline(always)]
                    |_| backward_weight_row(self, y, image, gradient, &mut dw),
                );
            }
            dw
        });
        add_in_order(parts.collect())
    }
}

/// `sum[c] += a[c] · b[c]`.
#[inline(always)]
fn multiply_add(sum: &mut [f32], a: &[f32], b: &[f32]) {
    for ((sum, a), b) in sum.iter_mut().zip(a).zip(b) {
        *sum += a * b;
    }
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "all of them are operands")]
fn forward_row(
    fma: Fma,
    shape: &Depthwise,
    y: usize,
    image: &[f32],
    weight: &[f32],
    bias: &[f32],
    activation: Activation,
    out: &mut [f32],
) {
    let channels = shape.channels;
    let rows = shape.taps(y, shape.height);
    for (x, out) in out.chunks_exact_mut(channels).enumerate() {
        let columns = shape.taps(x, shape.width);
        let mut start = 0;
        while start < channels {
            let count = BLOCK.min(channels - start);
            let mut sum = [0.0_f32; BLOCK];
            sum[..count].copy_from_slice(&bias[start..start + count]);
            for ky in rows.clone() {
                let line = (y * shape.stride + ky - shape.pad) * shape.width;
                for kx in columns.clone() {
                    let pixel = (line + x * shape.stride + kx - shape.pad) * channels + start;
                    let tap = (ky * shape.kernel + kx) * channels + start;
                    if count == BLOCK {
                        multiply_add(
                            &mut sum,
                            &image[pixel..pixel + BLOCK],
                            &weight[tap..tap + BLOCK],
                        );
                    } else {
                        multiply_add(
                            &mut sum[..count],
                            &image[pixel..pixel + count],
                            &weight[tap..tap + count],
                        );
                    }
                }
            }
            activation.apply(fma, &mut sum);
            out[start..start + count].copy_from_slice(&sum[..count]);
            start += BLOCK;
        }
    }
}

#[inline(always)]
fn backward_input_row(
    shape: &Depthwise,
    y: usize,
    gradient: &[f32],
    weight: &[f32],
    dx: &mut [f32],
) {
    let (channels, stride) = (shape.channels, shape.stride);
    // Output `o` reads input `i` through tap `k` when i + pad = o · stride + k.
    let output = |input: usize, tap: usize, size: usize| {
        let shifted = (input + shape.pad).checked_sub(tap)?;
        (shifted.is_multiple_of(stride) && shifted / stride < size).then_some(shifted / stride)
    };
    for (x, dx) in dx.chunks_exact_mut(channels).enumerate() {
        let mut start = 0;
        while start < channels {
            let count = BLOCK.min(channels - start);
            let mut sum = [0.0_f32; BLOCK];
            for ky in 0..shape.kernel {
                let Some(out_y) = output(y, ky, shape.out_height) else {
                    continue;
                };
                for kx in 0..shape.kernel {
                    let Some(out_x) = output(x, kx, shape.out_width) else {
                        continue;
                    };
                    let pixel = (out_y * shape.out_width + out_x) * channels + start;
                    let tap = (ky * shape.kernel + kx) * channels + start;
                    if count == BLOCK {
                        multiply_add(
                            &mut sum,
                            &gradient[pixel..pixel + BLOCK],
                            &weight[tap..tap + BLOCK],
                        );
                    } else {
                        multiply_add(
                            &mut sum[..count],
                            &gradient[pixel..pixel + count],
                            &weight[tap..tap + count],
                        );
                    }
                }
            }
            dx[start..start + count].copy_from_slice(&sum[..count]);
            start += BLOCK;
        }
    }
}

#[inline(always)]
fn backward_weight_row(
    shape: &Depthwise,
    y: usize,
    image: &[f32],
    gradient: &[f32],
    dw: &mut [f32],
) {
    let (channels, stride) = (shape.channels, shape.stride);
    for ky in shape.taps(y, shape.height) {
        let line = (y * stride + ky - shape.pad) * shape.width;
        for kx in 0..shape.kernel {
            let first = shape.pad.saturating_sub(kx).div_ceil(stride);
            let end = ((shape.width + shape.pad).saturating_sub(kx))
                .div_ceil(stride)
                .min(shape.out_width);
            let tap = (ky * shape.kernel + kx) * channels;
            let mut start = 0;
            while start < channels {
                let count = BLOCK.min(channels - start);
                let mut sum = [0.0_f32; BLOCK];
                for x in first..end {
                    let pixel = (line + x * stride + kx - shape.pad) * channels + start;
                    let out = x * channels + start;
                    if count == BLOCK {
                        multiply_add(
                            &mut sum,
                            &image[pixel..pixel + BLOCK],
                            &gradient[out..out + BLOCK],
                        );
                    } else {
                        multiply_add(
                            &mut sum[..count],
                            &image[pixel..pixel + count],
                            &gradient[out..out + count],
                        );
                    }
                }
                let dw = &mut dw[tap + start..tap + start + count];
                dw.iter_mut().zip(sum).for_each(|(dw, sum)| *dw += sum);
                start += BLOCK;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::activation::Rectifier;

    /// The definition, term by term: calls `visit(output index, input index, weight index)`.
    fn for_each_term(shape: &Depthwise, mut visit: impl FnMut(usize, usize, usize)) {
        let c = shape.channels;
        for b in 0..shape.batch {
            for oy in 0..shape.out_height {
                for ox in 0..shape.out_width {
                    for ky in 0..shape.kernel {
                        for kx in 0..shape.kernel {
                            let iy = (oy * shape.stride + ky).wrapping_sub(shape.pad);
                            let ix = (ox * shape.stride + kx).wrapping_sub(shape.pad);
                            if iy >= shape.height || ix >= shape.width {
                                continue;
                            }
                            for ch in 0..c {
                                visit(
                                    ((b * shape.out_height + oy) * shape.out_width + ox) * c + ch,
                                    ((b * shape.height + iy) * shape.width + ix) * c + ch,
                                    (ky * shape.kernel + kx) * c + ch,
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    fn values(count: usize, seed: usize) -> Vec<f32> {
        let value = |i: usize| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0;
        (0..count).map(value).collect()
    }

    fn close(actual: &[f32], expected: &[f32]) -> bool {
        actual
            .iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() <= 1e-4 * (1.0 + b.abs()))
    }

    proptest! {
        #[test]
        fn forward_and_gradients_follow_the_definition(
            batch in 1_usize..3, height in 1_usize..9, width in 1_usize..9,
            channels in 1_usize..70, kernel in prop::sample::select(vec![1_usize, 3, 5, 7]),
            stride in 1_usize..3, seed in 0_usize..100,
        ) {
            // A square picture has the same padding on both axes.
            let width = if stride == 1 { width } else { height };
            let shape = Depthwise::same([batch, height, width, channels], kernel, stride);
            let x = values(batch * height * width * channels, seed);
            let weight = values(kernel * kernel * channels, seed + 1);
            let bias = values(channels, seed + 2);
            let out_len: usize = shape.out_shape().iter().product();
            let mut expected: Vec<f32> = bias.iter().copied().cycle().take(out_len).collect();
            for_each_term(&shape, |o, i, w| expected[o] += x[i] * weight[w]);
            let mut out = vec![f32::NAN; out_len];
            shape.forward(&x, &weight, &bias, Activation::default(), &mut out);
            prop_assert!(close(&out, &expected));
            shape.forward(&x, &weight, &bias, Activation::Rectifier(Rectifier::Relu6), &mut out);
            let rectified: Vec<f32> = expected.iter().map(|x| x.clamp(0.0, 6.0)).collect();
            prop_assert!(close(&out, &rectified));

            let gradient = values(out_len, seed + 3);
            let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
            for_each_term(&shape, |o, i, w| {
                dx[i] += gradient[o] * weight[w];
                dw[w] += gradient[o] * x[i];
            });
            let mut actual = vec![f32::NAN; x.len()];
            shape.backward_input(&gradient, &weight, &mut actual);
            prop_assert!(close(&actual, &dx));
            prop_assert!(close(&shape.backward_weight(&x, &gradient), &dw));
        }
    }
}
