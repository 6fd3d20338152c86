//! Images of half and of twice the size.

use burn::tensor::Tensor;
use samara_kernels::memory;
use samara_kernels::pool;

use super::values::{Values, tensor};

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
        let mut out = memory::zeros(shape.iter().product());
        pool::max_pool(values.as_slice(), width, channels, channels, &mut out);
        return tensor(out, shape, &x.device());
    }
    let squares = x.reshape([batch, height / 2, 2, width / 2, 2, channels]);
    let pooled = squares.max_dim(4).max_dim(2);
    pooled.reshape([batch, height / 2, width / 2, channels])
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    #[test]
    fn the_largest_of_what_was_repeated_is_the_image() {
        let device = Device::default();
        let x = Tensor::<4>::random([2, 3, 5, 4], Distribution::Default, &device);
        let twice = upsample_nearest(x.clone());
        assert_eq!(twice.dims(), [2, 6, 10, 4]);
        let back = max_pool(twice);
        assert_eq!(back.into_data(), x.into_data());
    }
}
