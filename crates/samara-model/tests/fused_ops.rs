//! The fused operations of the CPU backend give the values and gradients of the composed ones.
#![allow(clippy::unwrap_used, reason = "a test")]

use burn::module::Module;
use burn::nn::conv::ConvTranspose2dConfig;
use burn::nn::{LayerNormConfig, LinearConfig};
use burn::tensor::module::conv2d;
use burn::tensor::ops::{ConvOptions, PadMode};
use burn::tensor::{Device, Distribution, Tensor, activation};
use samara_kernels::depthwise::Depthwise;
use samara_model::burn;
use samara_model::common::LayerNorm2d;
use samara_model::ops::{self, Activation, LAYER_NORM_EPSILON, Linear, Precision, Upscaling};

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device).require_grad()
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

fn assert_close<const D: usize>(actual: Tensor<D>, expected: Tensor<D>, what: &str) {
    assert_eq!(actual.dims(), expected.dims(), "{what}");
    for (a, b) in values(actual).iter().zip(values(expected)) {
        assert!((a - b).abs() <= 2e-4 * (1.0 + b.abs()), "{what}: {a} {b}");
    }
}

#[test]
fn linear() {
    let device = Device::flex().autodiff();
    for activation in [Activation::Identity, Activation::Relu] {
        let plain = LinearConfig::new(13, 21).init(&device);
        let layer = Linear::from(plain.clone());
        let x = random([2, 3, 5, 13], &device);
        let weight = random([2, 3, 5, 21], &device);
        let fused = ops::linear(x.clone(), &layer, activation);
        let composed = activation.apply(plain.forward(x.clone()));
        assert_close(fused.clone(), composed.clone(), "output");
        let a = (fused * weight.clone()).sum().backward();
        let b = (composed * weight).sum().backward();
        let bias = layer.bias.as_ref().unwrap();
        let w = &plain.weight;
        assert_close(w.grad(&a).unwrap(), w.grad(&b).unwrap(), "weight");
        assert_close(bias.grad(&a).unwrap(), bias.grad(&b).unwrap(), "bias");
    }
}

#[test]
fn linear_passes_the_gradient_on() {
    let device = Device::flex().autodiff();
    let plain = LinearConfig::new(7, 5).init(&device);
    let layer = Linear::from(plain.clone());
    let x = random([4, 7], &device);
    let a = ops::linear(x.clone(), &layer, Activation::Relu)
        .sum()
        .backward();
    let b = activation::relu(plain.forward(x.clone())).sum().backward();
    assert_close(x.grad(&a).unwrap(), x.grad(&b).unwrap(), "input");
}

#[test]
fn layer_norm() {
    let device = Device::flex().autodiff();
    let layer = LayerNormConfig::new(19).init(&device);
    let x = random([3, 4, 19], &device);
    let weight = random([3, 4, 19], &device);
    let fused = ops::layer_norm(x.clone(), &layer, LAYER_NORM_EPSILON);
    let composed = layer.forward(x.clone());
    assert_close(fused.clone(), composed.clone(), "output");
    let a = (fused * weight.clone()).sum().backward();
    let b = (composed * weight).sum().backward();
    assert_close(x.grad(&a).unwrap(), x.grad(&b).unwrap(), "input");
    let gamma = &layer.gamma;
    assert_close(gamma.grad(&a).unwrap(), gamma.grad(&b).unwrap(), "gamma");
}

#[test]
fn depthwise() {
    let device = Device::flex().autodiff();
    for (kernel, stride, side) in [(3, 1, 7), (5, 1, 8), (3, 2, 8), (5, 2, 8), (7, 1, 5)] {
        let x = random([2, side, side, 11], &device);
        let w = random([kernel * kernel, 11], &device);
        let b = random([11], &device);
        let shape = Depthwise::same(x.dims(), kernel, stride);
        let fused = ops::depthwise(x.clone(), w.clone(), b.clone(), shape, Activation::Relu);
        let out = fused.dims()[1];
        let total = (out - 1) * stride + kernel - side;
        let (before, after) = (total / 2, total - total / 2);
        let padded = x.clone().permute([0, 3, 1, 2]).pad(
            [(0, 0), (0, 0), (before, after), (before, after)],
            PadMode::Constant(0.0),
        );
        let options = ConvOptions::new([stride, stride], [0, 0], [1, 1], 11);
        let kernels = w.clone().swap_dims(0, 1).reshape([11, 1, kernel, kernel]);
        let composed = conv2d(padded, kernels, Some(b.clone()), options);
        let composed = composed.permute([0, 2, 3, 1]).clamp_min(0.0);
        assert_close(fused.clone(), composed.clone(), "output");
        let weight = random(fused.dims(), &device);
        let f = (fused * weight.clone()).sum().backward();
        let c = (composed * weight).sum().backward();
        assert_close(x.grad(&f).unwrap(), x.grad(&c).unwrap(), "input");
        assert_close(w.grad(&f).unwrap(), w.grad(&c).unwrap(), "weight");
        assert_close(b.grad(&f).unwrap(), b.grad(&c).unwrap(), "bias");
    }
}

#[test]
fn gelu() {
    let device = Device::flex().autodiff();
    let x = random([6, 5, 23], &device);
    let weight = random([3, 5, 23], &device);
    // A view whose values begin in the middle of what is stored.
    let part = || x.clone().slice(2..5);
    let (fused, composed) = (Activation::Gelu.apply(part()), activation::gelu(part()));
    assert_close(fused.clone(), composed.clone(), "output");
    let a = (fused * weight.clone()).sum().backward();
    let b = (composed * weight).sum().backward();
    assert_close(x.grad(&a).unwrap(), x.grad(&b).unwrap(), "input");
}

/// The definition: transposed convolutions over images. Training takes products of pixels instead,
/// inference a kernel.
#[test]
fn upscaling() {
    const SIZE: [usize; 2] = [3, 5];
    let device = Device::flex().autodiff();
    let double = |channels| {
        let config = ConvTranspose2dConfig::new(channels, [2, 2]);
        config.with_stride([2, 2]).init(&device)
    };
    let (first, norm) = (double([16, 8]), LayerNorm2d::new(8, &device));
    let second = double([8, 4]);
    let (cells, hyper) = (random([3, 15, 16], &device), random([3, 2, 4], &device));
    let finer = [
        random([1, 6, 10, 8], &device),
        random([1, 12, 20, 4], &device),
    ];
    for (prompts, finer) in [(&[0, 1, 2][..], None), (&[2, 0], Some(finer))] {
        let layers = Upscaling {
            precision: Precision::Fp32,
            first: &first,
            norm: &norm,
            second: &second,
            features: finer.clone(),
        };
        let fused = ops::upscale_masks(cells.clone(), SIZE, &layers, hyper.clone(), prompts);

        let chosen = |x: &Tensor<3>| {
            let chosen = prompts.iter().map(|&i| x.clone().narrow(0, i, 1));
            Tensor::cat(chosen.collect(), 0)
        };
        let count = prompts.len();
        let add = |x: Tensor<4>, level: usize| match &finer {
            Some(finer) => x + finer[level].clone().permute([0, 3, 1, 2]),
            None => x,
        };
        let x = chosen(&cells).swap_dims(1, 2).reshape([count, 16, 3, 5]);
        let x = add(first.forward(x), 0).permute([0, 2, 3, 1]);
        let x = norm.forward_channels_last(x).permute([0, 3, 1, 2]);
        let x = activation::gelu(add(second.forward(activation::gelu(x)), 1));
        let logits = chosen(&hyper).matmul(x.reshape([count, 4, 240]));
        let composed = logits.reshape([count, 2, 12, 20]);
        assert_close(fused.clone(), composed.clone(), "logits");

        let weight = random(fused.dims(), &device);
        let a = (fused.clone() * weight.clone()).sum().backward();
        let b = (composed * weight).sum().backward();
        for (what, x) in [("cells", &cells), ("hyper", &hyper)] {
            assert_close(x.grad(&a).unwrap(), x.grad(&b).unwrap(), what);
        }
        for layer in [&first, &second] {
            let (weight, bias) = (&layer.weight, layer.bias.as_ref().unwrap());
            assert_close(weight.grad(&a).unwrap(), weight.grad(&b).unwrap(), "weight");
            assert_close(bias.grad(&a).unwrap(), bias.grad(&b).unwrap(), "bias");
        }
        for x in finer.iter().flatten() {
            assert_close(x.grad(&a).unwrap(), x.grad(&b).unwrap(), "finer");
        }

        let (first, second) = (first.clone().valid(), second.clone().valid());
        let norm = norm.clone().valid();
        let layers = Upscaling {
            precision: Precision::Fp32,
            first: &first,
            norm: &norm,
            second: &second,
            features: finer.map(|finer| finer.map(Tensor::inner)),
        };
        let (cells, hyper) = (cells.clone().inner(), hyper.clone().inner());
        let kernel = ops::upscale_masks(cells, SIZE, &layers, hyper, prompts);
        assert_close(kernel, fused.inner(), "kernel");
    }
}
