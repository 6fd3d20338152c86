//! The gradients of the fused operations.
//!
//! [`Kernels`] is what a backend provides for them.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex};
use samara_kernels::activation::{Rectifier, rectifier_backward, sum_rows};
use samara_kernels::depthwise::Depthwise;
use samara_kernels::gemm;
use samara_kernels::layer_norm::layer_norm_backward;
use samara_kernels::math::gelu_backward;

use super::{FusedOps, shape, tensor, values, values_mut};

/// Gradients with respect to input, weight and bias.
type Three<B> = [FloatTensor<B>; 3];

/// What a backend provides for the gradients of [`FusedOps`].
pub(super) trait Kernels: Backend {
    /// Gradient of a rectifier, given its output.
    fn rectify_backward(
        gradient: FloatTensor<Self>,
        y: FloatTensor<Self>,
        rectifier: Rectifier,
    ) -> FloatTensor<Self>;

    /// Gradient of `x · w` with respect to `x`.
    fn linear_backward_input(
        gradient: FloatTensor<Self>,
        w: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// Gradient of `x · w` with respect to `w`.
    fn linear_backward_weight(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// Gradient of [`FusedOps::fused_gelu`], given its input.
    fn gelu_gradient(gradient: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Sum over the rows of a matrix `[rows, columns]`.
    fn sum_over_rows(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Gradient of a depthwise convolution with respect to its input.
    fn depthwise_backward_input(
        gradient: FloatTensor<Self>,
        w: FloatTensor<Self>,
        shape: Depthwise,
    ) -> FloatTensor<Self>;

    /// Gradients of a depthwise convolution with respect to its weight and bias.
    fn depthwise_backward_weight(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        shape: Depthwise,
    ) -> [FloatTensor<Self>; 2];

    /// Gradients of [`FusedOps::fused_layer_norm`].
    fn layer_norm_gradients(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f64,
    ) -> Three<Self>;
}

impl Kernels for Flex {
    fn rectify_backward(gradient: FlexTensor, y: FlexTensor, rectifier: Rectifier) -> FlexTensor {
        if rectifier == Rectifier::Identity {
            return gradient;
        }
        let (mut gradient, y) = (gradient.to_contiguous(), y.to_contiguous());
        rectifier_backward(values_mut(&mut gradient), values(&y), rectifier);
        gradient
    }

    fn linear_backward_input(gradient: FlexTensor, w: FlexTensor) -> FlexTensor {
        let (gradient, w) = (gradient.to_contiguous(), w.to_contiguous());
        let [rows, inputs, outputs] = [shape(&gradient)[0], shape(&w)[0], shape(&w)[1]];
        let dx = gemm::backward_input(values(&gradient), values(&w), [inputs, outputs]);
        tensor(dx, &[rows, inputs])
    }

    fn linear_backward_weight(x: FlexTensor, gradient: FlexTensor) -> FlexTensor {
        let (x, gradient) = (x.to_contiguous(), gradient.to_contiguous());
        let size = [shape(&x)[1], shape(&gradient)[1]];
        let dw = gemm::backward_weight(values(&x), values(&gradient), size);
        tensor(dw, &size)
    }

    fn gelu_gradient(gradient: FlexTensor, x: FlexTensor) -> FlexTensor {
        let (mut gradient, x) = (gradient.to_contiguous(), x.to_contiguous());
        gelu_backward(values_mut(&mut gradient), values(&x));
        gradient
    }

    fn sum_over_rows(x: FlexTensor) -> FlexTensor {
        let x = x.to_contiguous();
        let columns = x.layout().shape().last().copied().unwrap_or(1);
        tensor(sum_rows(values(&x), columns), &[columns])
    }

    fn depthwise_backward_input(
        gradient: FlexTensor,
        w: FlexTensor,
        shape: Depthwise,
    ) -> FlexTensor {
        let (gradient, w) = (gradient.to_contiguous(), w.to_contiguous());
        let dims = [shape.batch, shape.height, shape.width, shape.channels];
        let mut dx = vec![0.0; dims.iter().product()];
        shape.backward_input(values(&gradient), values(&w), &mut dx);
        tensor(dx, &dims)
    }

    fn depthwise_backward_weight(
        x: FlexTensor,
        gradient: FlexTensor,
        shape: Depthwise,
    ) -> [FlexTensor; 2] {
        let (x, gradient) = (x.to_contiguous(), gradient.to_contiguous());
        let dw = shape.backward_weight(values(&x), values(&gradient));
        let db = sum_rows(values(&gradient), shape.channels);
        let taps = shape.kernel * shape.kernel;
        [
            tensor(dw, &[taps, shape.channels]),
            tensor(db, &[shape.channels]),
        ]
    }

    fn layer_norm_gradients(
        x: FlexTensor,
        gamma: FlexTensor,
        gradient: FlexTensor,
        epsilon: f64,
    ) -> Three<Self> {
        let (x, gamma, gradient) = (
            x.to_contiguous(),
            gamma.to_contiguous(),
            gradient.to_contiguous(),
        );
        let d = layer_norm_backward(
            values(&x),
            values(&gamma),
            epsilon as f32,
            values(&gradient),
        );
        let columns = [d.gamma.len()];
        [
            tensor(d.x, &shape(&x)),
            tensor(d.gamma, &columns),
            tensor(d.beta, &columns),
        ]
    }
}

#[derive(Debug)]
struct LinearBackward;

impl<B: Backend + Kernels> Backward<B, 3> for LinearBackward {
    /// Input, weight, output, rectifier.
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, Rectifier);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, w, y, rectifier) = ops.state;
        let [to_x, to_w, to_b] = ops.parents;
        let gradient = B::rectify_backward(grads.consume::<B>(&ops.node), y, rectifier);
        if let Some(node) = to_x {
            let dx = B::linear_backward_input(gradient.clone(), w);
            grads.register::<B>(node.id, dx);
        }
        if let Some(node) = to_w {
            let dw = B::linear_backward_weight(x, gradient.clone());
            grads.register::<B>(node.id, dw);
        }
        if let Some(node) = to_b {
            grads.register::<B>(node.id, B::sum_over_rows(gradient));
        }
    }
}

#[derive(Debug)]
struct DepthwiseBackward;

impl<B: Backend + Kernels> Backward<B, 3> for DepthwiseBackward {
    /// Input, weight, output, shape, rectifier.
    type State = (
        FloatTensor<B>,
        FloatTensor<B>,
        FloatTensor<B>,
        Depthwise,
        Rectifier,
    );

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, w, y, shape, rectifier) = ops.state;
        let [to_x, to_w, to_b] = ops.parents;
        let gradient = B::rectify_backward(grads.consume::<B>(&ops.node), y, rectifier);
        if let Some(node) = to_x {
            let dx = B::depthwise_backward_input(gradient.clone(), w, shape);
            grads.register::<B>(node.id, dx);
        }
        if to_w.is_some() || to_b.is_some() {
            let [dw, db] = B::depthwise_backward_weight(x, gradient, shape);
            if let Some(node) = to_w {
                grads.register::<B>(node.id, dw);
            }
            if let Some(node) = to_b {
                grads.register::<B>(node.id, db);
            }
        }
    }
}

#[derive(Debug)]
struct GeluBackward;

impl<B: Backend + Kernels> Backward<B, 1> for GeluBackward {
    /// Input.
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::gelu_gradient(gradient, ops.state));
        }
    }
}

#[derive(Debug)]
struct LayerNormBackward;

impl<B: Backend + Kernels> Backward<B, 3> for LayerNormBackward {
    /// Input, scale, epsilon.
    type State = (FloatTensor<B>, FloatTensor<B>, f64);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, gamma, epsilon) = ops.state;
        let gradient = grads.consume::<B>(&ops.node);
        let gradients = B::layer_norm_gradients(x, gamma, gradient, epsilon);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: Backend + FusedOps + Kernels, C: CheckpointStrategy> FusedOps for Autodiff<B, C> {
    fn fused_linear(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        rectifier: Rectifier,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), w.node(), b.node()];
        let (x, w, b) = (x.into_primitive(), w.into_primitive(), b.into_primitive());
        let y = B::fused_linear(x.clone(), w.clone(), b, rectifier);
        match LinearBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((x, w, y.clone(), rectifier), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn fused_depthwise(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        shape: Depthwise,
        rectifier: Rectifier,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), w.node(), b.node()];
        let (x, w, b) = (x.into_primitive(), w.into_primitive(), b.into_primitive());
        let y = B::fused_depthwise(x.clone(), w.clone(), b, shape, rectifier);
        match DepthwiseBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((x, w, y.clone(), shape, rectifier), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let node = x.node();
        let x = x.into_primitive();
        let y = B::fused_gelu(x.clone());
        match GeluBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(x, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn fused_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), gamma.node(), beta.node()];
        let (x, gamma, beta) = (
            x.into_primitive(),
            gamma.into_primitive(),
            beta.into_primitive(),
        );
        let y = B::fused_layer_norm(x.clone(), gamma.clone(), beta, epsilon);
        match LayerNormBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((x, gamma, epsilon), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}
