//! Depthwise convolution over channels-last images, and its gradients.
//!
//! Every output pixel is a sum over the window of `input · weight`, channel by channel. The
//! channels are taken in blocks that stay in registers while the window is walked.

use std::ops::Range;

use pulp::Simd;
use rayon::prelude::*;

use crate::activation::Activation;
use crate::isa::{Fma, Isa, Kernel};
use crate::{add_in_order, rows_per_part};

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
    fn taps(&self, at: usize, size: usize) -> Range<usize> {
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
        let line = self.width * self.channels;
        out.par_chunks_mut((self.out_width * self.channels).max(1))
            .enumerate()
            .for_each_init(Vec::new, |places, (row, out)| {
                let (image, y) = (row / self.out_height, row % self.out_height);
                let begin = |y: usize| (image * self.height + y) * line;
                self.row([x, weight, bias], y, begin, activation, places, out);
            });
    }

    /// Row `y` of a result of [`forward`](Self::forward), where row `i` of the input begins at
    /// `begin(i)` in `x`. `places` is a buffer.
    pub(crate) fn row(
        &self,
        [x, weight, bias]: [&[f32]; 3],
        y: usize,
        begin: impl Fn(usize) -> usize,
        activation: Activation,
        places: &mut Vec<(usize, usize)>,
        out: &mut [f32],
    ) {
        let (channels, rows, inner) = (self.channels, self.rows(y), self.inner_columns());
        let tap = |row| (begin(row), (row + self.pad - y * self.stride) * self.kernel);
        for x_at in (0..inner.start).chain(inner.end..self.out_width) {
            places.clear();
            for (line, first) in rows.clone().map(tap) {
                for kx in self.taps(x_at, self.width) {
                    let column = x_at * self.stride + kx - self.pad;
                    places.push((line + column * channels, (first + kx) * channels));
                }
            }
            let out = &mut out[x_at * channels..][..channels];
            out.copy_from_slice(bias);
            add_products([x, weight], places, activation, out);
        }
        if inner.is_empty() {
            return;
        }
        places.clear();
        places.extend(rows.map(tap).map(|(line, first)| {
            let left = (inner.start - self.pad) * channels;
            (line + left, first * channels)
        }));
        Isa::best().dispatch(Neighbours {
            x,
            weight,
            bias,
            kernel: self.kernel,
            places,
            activation,
            out: &mut out[inner.start * channels..inner.end * channels],
        });
    }

    /// The rows of the input that row `y` of the result looks at.
    pub(crate) fn rows(&self, y: usize) -> Range<usize> {
        let (taps, first) = (self.taps(y, self.height), y * self.stride);
        first + taps.start - self.pad..first + taps.end - self.pad
    }

    /// The columns of a row that [`Neighbours`] makes: whole groups, with the window inside the
    /// input.
    fn inner_columns(&self) -> Range<usize> {
        let lanes_fit = self.channels.is_multiple_of(MOST_LANES);
        if self.stride != 1 || !lanes_fit || ![3, 5, 7].contains(&self.kernel) {
            return 0..0;
        }
        let end = (self.width + self.pad + 1).saturating_sub(self.kernel);
        let groups = end.min(self.out_width).saturating_sub(self.pad) / NEIGHBOURS;
        if groups == 0 {
            return 0..0;
        }
        self.pad..self.pad + groups * NEIGHBOURS
    }

    /// Gradient with respect to the input, given that of the output (before the activation).
    pub fn backward_input(&self, gradient: &[f32], weight: &[f32], dx: &mut [f32]) {
        let channels = self.channels;
        // Output `o` reads input `i` through tap `k` when i + pad = o · stride + k.
        let output = |input: usize, tap: usize, size: usize| {
            let shifted = (input + self.pad).checked_sub(tap)?;
            let output = shifted / self.stride;
            (shifted.is_multiple_of(self.stride) && output < size).then_some(output)
        };
        dx.par_chunks_mut((self.width * channels).max(1))
            .enumerate()
            .for_each_init(Vec::new, |places, (row, dx)| {
                let (image, y) = (row / self.height, row % self.height);
                for (x, dx) in dx.chunks_exact_mut(channels).enumerate() {
                    places.clear();
                    for ky in 0..self.kernel {
                        let Some(out_y) = output(y, ky, self.out_height) else {
                            continue;
                        };
                        let line = (image * self.out_height + out_y) * self.out_width;
                        for kx in 0..self.kernel {
                            if let Some(out_x) = output(x, kx, self.out_width) {
                                let tap = (ky * self.kernel + kx) * channels;
                                places.push(((line + out_x) * channels, tap));
                            }
                        }
                    }
                    dx.fill(0.0);
                    add_products([gradient, weight], places, Activation::default(), dx);
                }
            });
    }

    /// Gradient with respect to the weight, given that of the output (before the activation).
    pub fn backward_weight(&self, x: &[f32], gradient: &[f32]) -> Vec<f32> {
        let channels = self.channels;
        let lines = self.batch * self.out_height;
        let part = rows_per_part(lines);
        let parts = (0..lines.div_ceil(part)).into_par_iter().map(|index| {
            let mut dw = vec![0.0; self.kernel * self.kernel * channels];
            let mut places = Vec::with_capacity(self.out_width);
            for out_line in index * part..lines.min((index + 1) * part) {
                let (image, y) = (out_line / self.out_height, out_line % self.out_height);
                for ky in self.taps(y, self.height) {
                    let line = image * self.height + y * self.stride + ky - self.pad;
                    for kx in 0..self.kernel {
                        let first = self.pad.saturating_sub(kx).div_ceil(self.stride);
                        let end = (self.width + self.pad).saturating_sub(kx);
                        places.clear();
                        for out_x in first..end.div_ceil(self.stride).min(self.out_width) {
                            let pixel = line * self.width + out_x * self.stride + kx - self.pad;
                            let out = out_line * self.out_width + out_x;
                            places.push((pixel * channels, out * channels));
                        }
                        let tap = (ky * self.kernel + kx) * channels;
                        let dw = &mut dw[tap..tap + channels];
                        add_products([x, gradient], &places, Activation::default(), dw);
                    }
                }
            }
            dw
        });
        add_in_order(parts.collect())
    }
}

/// Runs [`AddProducts`].
fn add_products(
    [a, b]: [&[f32]; 2],
    places: &[(usize, usize)],
    activation: Activation,
    out: &mut [f32],
) {
    Isa::best().dispatch(AddProducts {
        a,
        b,
        places,
        activation,
        out,
    });
}

/// Output pixels of a group. Their sums, the inputs that they share and a weight fit into the 16
/// registers of AVX2, and a weight is loaded once for all of them.
const NEIGHBOURS: usize = 4;
/// Lanes of the widest registers.
const MOST_LANES: usize = 16;

/// A stretch of an output row, with a step of 1 and away from the edges. Neighbouring pixels share
/// most of their inputs: each is loaded once for a row of the window.
struct Neighbours<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    kernel: usize,
    /// For every row of the window, where the input of the first pixel and the weights begin.
    places: &'a [(usize, usize)],
    activation: Activation,
    /// `[pixels, channels]`, whole groups.
    out: &'a mut [f32],
}

impl Kernel for Neighbours<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S, fma: Fma) {
        match self.kernel {
            3 => self.window::<S, 3>(simd, fma),
            5 => self.window::<S, 5>(simd, fma),
            _ => self.window::<S, 7>(simd, fma),
        }
    }
}

impl Neighbours<'_> {
    #[inline(always)]
    fn window<S: Simd, const K: usize>(self, simd: S, fma: Fma) {
        let channels = self.bias.len();
        let load = |values: &[f32], at: usize| S::as_simd_f32s(&values[at..at + S::F32_LANES]).0[0];
        let groups = self.out.chunks_exact_mut(NEIGHBOURS * channels);
        for (group, out) in groups.enumerate() {
            let first = group * NEIGHBOURS * channels;
            for channel in (0..channels).step_by(S::F32_LANES) {
                let mut sums = [load(self.bias, channel); NEIGHBOURS];
                for &(input, weight) in self.places {
                    let mut inputs = [simd.splat_f32s(0.0); NEIGHBOURS + 6];
                    for (i, value) in inputs[..K + NEIGHBOURS - 1].iter_mut().enumerate() {
                        *value = load(self.x, input + first + i * channels + channel);
                    }
                    for kx in 0..K {
                        let weight = load(self.weight, weight + kx * channels + channel);
                        for pixel in 0..NEIGHBOURS {
                            let sum = sums[pixel];
                            sums[pixel] =
                                fma.multiply_add_lanes(simd, inputs[pixel + kx], weight, sum);
                        }
                    }
                }
                for (pixel, sum) in sums.into_iter().enumerate() {
                    let at = pixel * channels + channel;
                    let out = S::as_mut_simd_f32s(&mut out[at..at + S::F32_LANES]).0;
                    out[0] = self.activation.apply_lanes(simd, fma, sum);
                }
            }
        }
    }
}

/// Adds products of channels: `out[c] = activation(out[c] + Σ a[i + c] · b[j + c])` over pairs of
/// places (i, j), for every channel c.
struct AddProducts<'a> {
    a: &'a [f32],
    b: &'a [f32],
    places: &'a [(usize, usize)],
    activation: Activation,
    out: &'a mut [f32],
}

impl Kernel for AddProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S, fma: Fma) {
        /// Registers of sums: enough to hide the latency of a multiply-add.
        const SUMS: usize = 4;
        let (lanes, channels) = (S::F32_LANES, self.out.len());
        let mut start = 0;
        while start + SUMS * lanes <= channels {
            self.whole::<S, SUMS>(simd, fma, start);
            start += SUMS * lanes;
        }
        while start + lanes <= channels {
            self.whole::<S, 1>(simd, fma, start);
            start += lanes;
        }
        if start < channels {
            self.rest(simd, fma, start);
        }
    }
}

impl AddProducts<'_> {
    /// `N` registers of channels.
    #[inline(always)]
    fn whole<S: Simd, const N: usize>(&mut self, simd: S, fma: Fma, start: usize) {
        let end = start + N * S::F32_LANES;
        let out = S::as_mut_simd_f32s(&mut self.out[start..end]).0;
        let mut sums = [simd.splat_f32s(0.0); N];
        sums.copy_from_slice(out);
        for &(i, j) in self.places {
            let a = S::as_simd_f32s(&self.a[i + start..i + end]).0;
            let b = S::as_simd_f32s(&self.b[j + start..j + end]).0;
            for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                *sum = fma.multiply_add_lanes(simd, *a, *b, *sum);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = self.activation.apply_lanes(simd, fma, sum);
        }
    }

    /// The channels that do not fill a register.
    #[inline(always)]
    fn rest<S: Simd>(&mut self, simd: S, fma: Fma, start: usize) {
        let end = self.out.len();
        let out = &mut self.out[start..];
        let mut sum = simd.partial_load_f32s(out);
        for &(i, j) in self.places {
            let a = simd.partial_load_f32s(&self.a[i + start..i + end]);
            let b = simd.partial_load_f32s(&self.b[j + start..j + end]);
            sum = fma.multiply_add_lanes(simd, a, b, sum);
        }
        simd.partial_store_f32s(out, self.activation.apply_lanes(simd, fma, sum));
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

    /// Any number, or one that fills registers.
    fn channels() -> impl Strategy<Value = usize> {
        prop_oneof![1_usize..70, (1_usize..4).prop_map(|n| 16 * n)]
    }

    proptest! {
        #[test]
        fn forward_and_gradients_follow_the_definition(
            batch in 1_usize..3, height in 1_usize..14, width in 1_usize..14,
            channels in channels(), kernel in prop::sample::select(vec![1_usize, 3, 5, 7]),
            stride in 1_usize..3, seed in 0_usize..100,
        ) {
            // A square image has the same padding on both axes.
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
            shape.forward(&x, &weight, &bias, Activation::Rectifier(Rectifier::Relu), &mut out);
            let rectified: Vec<f32> = expected.iter().map(|x| x.max(0.0)).collect();
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
