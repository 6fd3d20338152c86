//! Inverted bottlenecks (Sandler et al. 2018, MobileNetV2): a product widens every pixel, a
//! depthwise convolution looks at its neighbours, a product narrows it again.
//!
//! The wide rows never go through memory: a task keeps as many of them as the window is high, in a
//! ring, and makes the next one when the window has moved on.

use std::ops::Range;

use rayon::prelude::*;

use crate::activation::{Activate, Activation};
use crate::depthwise::Depthwise;
use crate::gemm::{Dense, Epilogue, Layer, Scratch as Rows, multiply};
use crate::isa::Isa;

/// Rows of the result per task. The rows above and below a stripe are widened twice.
const STRIPE: usize = 20;

/// An inverted bottleneck.
#[derive(Debug, Clone, Copy)]
pub struct Bottleneck<'a> {
    /// To the wide channels.
    pub expand: Layer<'a>,
    /// The convolution of the wide channels.
    pub shape: Depthwise,
    /// Its weight `[kernel, kernel, wide]`.
    pub weight: &'a [f32],
    /// Its bias `[wide]`.
    pub bias: &'a [f32],
    /// From the wide channels.
    pub project: Layer<'a>,
    /// Applied to the wide channels, before and after the convolution.
    pub activation: Activation,
    /// Whether the input is added to the result and the activation applied to the sum.
    pub shortcut: bool,
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    rows: Rows,
    ring: Vec<f32>,
    convolved: Vec<f32>,
    places: Vec<(usize, usize)>,
}

impl Bottleneck<'_> {
    /// `x` `[batch, height, width, in]` → `out` `[batch, out_height, out_width, out]`.
    ///
    /// # Panics
    /// When sizes do not match.
    pub fn forward(&self, x: &[f32], out: &mut [f32]) {
        let Depthwise {
            batch,
            height,
            width,
            channels,
            out_height,
            out_width,
            ..
        } = self.shape;
        let (inputs, outputs) = (self.expand.weight.depth(), self.project.weight.columns());
        assert_eq!(self.expand.weight.columns(), channels);
        assert_eq!(self.project.weight.depth(), channels);
        assert_eq!(x.len(), batch * height * width * inputs);
        assert_eq!(out.len(), batch * out_height * out_width * outputs);
        assert!(!self.shortcut || x.len() == out.len(), "a sum of two sizes");
        if out.is_empty() {
            return;
        }
        let images = x.chunks_exact(height * width * inputs);
        let images = images.zip(out.chunks_exact_mut(out_height * out_width * outputs));
        for (image, out) in images {
            out.par_chunks_mut(STRIPE * out_width * outputs)
                .enumerate()
                .for_each_init(Scratch::default, |scratch, (stripe, out)| {
                    let first = stripe * STRIPE;
                    let rows = first..first + out.len() / (out_width * outputs);
                    self.stripe(image, rows, scratch, out);
                });
        }
    }

    /// Some rows of the result of one image.
    fn stripe(&self, image: &[f32], rows: Range<usize>, scratch: &mut Scratch, out: &mut [f32]) {
        let Depthwise {
            width,
            channels,
            kernel,
            out_width,
            ..
        } = self.shape;
        let Scratch {
            rows: gathered,
            ring,
            convolved,
            places,
        } = scratch;
        let (wide, narrow) = (width * channels, out_width * self.project.weight.columns());
        ring.resize(kernel * wide, 0.0);
        convolved.resize(out_width * channels, 0.0);
        let place = |line: usize| line % kernel * wide;
        let input = Dense::new(image, self.expand.weight.depth());
        let expansion = Epilogue {
            bias: self.expand.bias,
            activation: self.activation,
            residual: None,
        };
        // Lines of the image that are in the ring, or have been.
        let mut known = 0;
        for (y, out) in rows.zip(out.chunks_exact_mut(narrow)) {
            let needed = self.shape.rows(y);
            for line in needed.start.max(known)..needed.end {
                let wide = &mut ring[place(line)..][..wide];
                multiply(
                    &input,
                    line * width,
                    self.expand.weight,
                    &expansion,
                    gathered,
                    wide,
                );
            }
            known = needed.end;
            let parameters = [&ring[..], self.weight, self.bias];
            self.shape
                .row(parameters, y, place, self.activation, places, convolved);
            let projection = Epilogue {
                bias: self.project.bias,
                activation: Activation::default(),
                residual: self.shortcut.then(|| &image[y * narrow..][..narrow]),
            };
            let convolved = Dense::new(convolved, channels);
            multiply(
                &convolved,
                0,
                self.project.weight,
                &projection,
                gathered,
                out,
            );
            if self.shortcut {
                Isa::best().dispatch(Activate(self.activation, out));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::activation::Rectifier;
    use crate::gemm::{Matrix, Packed, linear};
    use crate::testing::{close, values};

    proptest! {
        #[test]
        fn it_is_two_products_and_a_convolution(
            batch in 1_usize..3, height in 3_usize..50, width in 3_usize..20,
            inputs in 1_usize..9, channels in prop_oneof![1_usize..20, Just(32_usize)],
            stride in 1_usize..3, shortcut in any::<bool>(), seed in 0_usize..99,
        ) {
            let shortcut = shortcut && stride == 1;
            let outputs = if shortcut { inputs } else { 5 };
            let shape = Depthwise::padded([batch, height, width, channels], 3, stride, 1);
            let x = values(batch * height * width * inputs, seed);
            let (first, first_bias) = (values(inputs * channels, seed + 1), values(channels, seed + 2));
            let (weight, bias) = (values(9 * channels, seed + 3), values(channels, seed + 4));
            let (second, second_bias) = (values(channels * outputs, seed + 5), values(outputs, seed + 6));
            for activation in [Activation::Gelu, Activation::Rectifier(Rectifier::Relu)] {
                let epilogue = |bias, activation, residual| Epilogue { bias: Some(bias), activation, residual };
                let mut wide = vec![0.0; batch * height * width * channels];
                linear(&x, &first, [inputs, channels], &epilogue(&first_bias, activation, None), &mut wide);
                let mut convolved = vec![0.0; shape.out_shape().iter().product()];
                shape.forward(&wide, &weight, &bias, activation, &mut convolved);
                let mut expected = vec![0.0; convolved.len() / channels * outputs];
                let last = epilogue(&second_bias, Activation::default(), shortcut.then_some(&x[..]));
                linear(&convolved, &second, [channels, outputs], &last, &mut expected);
                if shortcut {
                    Isa::best().dispatch(Activate(activation, &mut expected));
                }

                let expand = Packed::new(Matrix::new(&first, inputs, channels));
                let project = Packed::new(Matrix::new(&second, channels, outputs));
                let bottleneck = Bottleneck {
                    expand: Layer { weight: expand.right(), bias: Some(&first_bias) },
                    shape,
                    weight: &weight,
                    bias: &bias,
                    project: Layer { weight: project.right(), bias: Some(&second_bias) },
                    activation,
                    shortcut,
                };
                let mut out = vec![f32::NAN; expected.len()];
                bottleneck.forward(&x, &mut out);
                prop_assert!(close(&out, &expected, 1e-5));
            }
        }
    }
}
