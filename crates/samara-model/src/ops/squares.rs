//! Images whose pixels are gathered by fours, and channels that lie plane by plane: products that take
//! them as they are, instead of putting them in order first.

use burn::nn::Linear;
use burn::tensor::Tensor;
use samara_kernels::gemm::{Epilogue, Matrix, Packed, Patches, Planes, Rows, gemm};
use samara_kernels::pool;

use super::values::{LayerValues, Values, tensor};
use super::{Activation, linear};

/// `activation(xᵀ · W + b) + residual`: planes `[batch, d_in, n]` → `[batch, n, d_out]`; the residual
/// may be one for all.
pub fn linear_of_planes(
    x: Tensor<3>,
    layer: &Linear,
    activation: Activation,
    residual: Tensor<3>,
) -> Tensor<3> {
    let [batch, _, count] = x.dims();
    if let (1, Some(values)) = (batch, Values::of(x.clone())) {
        let planes = Planes::new(values.as_slice(), count);
        if let Some(y) = product(&planes, layer, activation, &residual) {
            return y;
        }
    }
    linear(x.swap_dims(1, 2), layer, activation) + residual
}

/// `space_to_depth(x) · W + b + residual`: `[batch, 2h, 2w, c]` → `[batch, h, w, d_out]`; the residual
/// may be one for all.
pub fn linear_of_squares(x: Tensor<4>, layer: &Linear, residual: Tensor<4>) -> Tensor<4> {
    if let (1, Some(values)) = (x.dims()[0], Values::of(x.clone())) {
        let squares = Patches::new(values.as_slice(), x.dims(), 2, 2, 0);
        if let Some(y) = product(&squares, layer, Activation::Identity, &residual) {
            return y;
        }
    }
    linear(space_to_depth(x), layer, Activation::Identity) + residual
}

/// A product with an image's worth of rows, in the shape of the residual.
fn product<const D: usize>(
    rows: &impl Rows,
    layer: &Linear,
    activation: Activation,
    residual: &Tensor<D>,
) -> Option<Tensor<D>> {
    let (shape, device) = (residual.dims(), residual.device());
    let residual = Values::of(residual.clone())?;
    let layer = LayerValues::of(layer)?;
    let projection = layer.projection();
    let right = Matrix::new(projection.weight, rows.depth(), projection.bias.len());
    let epilogue = Epilogue {
        bias: Some(projection.bias),
        activation: activation.kernel(),
        residual: Some(residual.as_slice()),
    };
    let mut out = vec![0.0; residual.as_slice().len()];
    let right = Packed::for_rows(right, rows.count());
    gemm(rows, right.right(), &epilogue, &mut out);
    Some(tensor(out, shape, &device))
}

/// `depth_to_space(x) + residual`: `[batch, h, w, 4c]` and `[batch, 2h, 2w, c]`.
pub fn add_squares(x: Tensor<4>, residual: Tensor<4>) -> Tensor<4> {
    let ([_, _, width, four], device) = (x.dims(), x.device());
    let shape = residual.dims();
    if let (Some(x), Some(residual)) = (Values::of(x.clone()), Values::of(residual.clone())) {
        let mut out = residual.as_slice().to_vec();
        // Two lines of pixels from one line of squares: the upper halves, then the lower ones.
        let half = four / 2;
        let lines = x.as_slice().chunks_exact(width * four);
        for (squares, lines) in lines.zip(out.chunks_exact_mut(2 * width * half)) {
            for (part, line) in lines.chunks_exact_mut(width * half).enumerate() {
                let squares = squares.chunks_exact(four);
                for (out, square) in line.chunks_exact_mut(half).zip(squares) {
                    let values = &square[part * half..][..half];
                    out.iter_mut().zip(values).for_each(|(out, x)| *out += x);
                }
            }
        }
        return tensor(out, shape, &device);
    }
    depth_to_space(x) + residual
}

/// Four neighbours' channels in one pixel of half the size: `[b, 2h, 2w, c]` → `[b, h, w, 4c]`.
pub fn space_to_depth(x: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    x.reshape([batch, height / 2, 2, width / 2, 2, channels])
        .swap_dims(2, 3)
        .reshape([batch, height / 2, width / 2, 4 * channels])
}

/// The inverse of [`space_to_depth`]: with a linear layer before it, a transposed convolution of
/// window and stride 2 as one matrix product.
pub fn depth_to_space(x: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    x.reshape([batch, height, width, 2, 2, channels / 4])
        .swap_dims(2, 3)
        .reshape([batch, 2 * height, 2 * width, channels / 4])
}

/// Doubles height and width of `[batch, height, width, channels]` by repetition.
pub fn upsample_nearest(x: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    x.reshape([batch, height, 1, width, 1, channels])
        .expand([batch, height, 2, width, 2, channels])
        .reshape([batch, 2 * height, 2 * width, channels])
}

/// Halves height and width: of every four pixels the largest value, channel by channel.
pub fn max_pool(x: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    if let Some(values) = Values::of(x.clone()) {
        let shape = [batch, height / 2, width / 2, channels];
        let mut out = vec![0.0; shape.iter().product()];
        pool::max_pool(values.as_slice(), width, channels, channels, &mut out);
        return tensor(out, shape, &x.device());
    }
    let squares = x.reshape([batch, height / 2, 2, width / 2, 2, channels]);
    let pooled = squares.max_dim(4).max_dim(2);
    pooled.reshape([batch, height / 2, width / 2, channels])
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;
    use burn::tensor::{Device, Distribution};

    use super::*;

    fn close<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> bool {
        let difference: f32 = (a.clone() - b.clone()).abs().max().into_scalar();
        a.dims() == b.dims() && difference < 1e-4
    }

    #[test]
    fn every_form_gives_the_same() {
        let device = Device::default();
        let random = |shape| Tensor::<4>::random(shape, Distribution::Default, &device);
        for batch in [1, 2] {
            let layer = LinearConfig::new(12, 5).init(&device);
            let x = random([batch, 6, 10, 3]);
            for residuals in [1, batch] {
                let residual = random([residuals, 3, 5, 5]);
                let y = linear_of_squares(x.clone(), &layer, residual.clone());
                let plain = linear(space_to_depth(x.clone()), &layer, Activation::Identity);
                assert!(close(&y, &(plain + residual)));

                let planes = random([batch, 1, 12, 40]).squeeze_dim::<3>(1);
                let residual = random([residuals, 1, 40, 5]).squeeze_dim::<3>(1);
                let relu = Activation::Relu;
                let y = linear_of_planes(planes.clone(), &layer, relu, residual.clone());
                let plain = linear(planes.swap_dims(1, 2), &layer, relu);
                assert!(close(&y, &(plain + residual)));
            }
            let (x, residual) = (random([batch, 3, 5, 12]), random([batch, 6, 10, 3]));
            let y = add_squares(x.clone(), residual.clone());
            assert!(close(&y, &(depth_to_space(x.clone()) + residual)));
            assert!(close(&space_to_depth(depth_to_space(x.clone())), &x));
        }
    }
}
