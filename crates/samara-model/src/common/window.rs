//! Splitting a token grid into windows and back.

use burn::tensor::{Tensor, ops::PadMode};

/// Splits `[batch, height, width, channels]` into windows
/// `[batch · rows · columns, window, window, channels]`, padding right and bottom with zeros to
/// whole windows. The padded tokens take part in attention, as in the official code.
pub fn window_partition(x: Tensor<4>, window: usize) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    let (rows, columns) = (height.div_ceil(window), width.div_ceil(window));
    let (pad_h, pad_w) = (rows * window - height, columns * window - width);
    let x = if pad_h + pad_w > 0 {
        x.pad(
            [(0, 0), (0, pad_h), (0, pad_w), (0, 0)],
            PadMode::Constant(0.0),
        )
    } else {
        x
    };
    x.reshape([batch, rows, window, columns, window, channels])
        .swap_dims(2, 3)
        .reshape([batch * rows * columns, window, window, channels])
}

/// Inverse of [`window_partition`]: drops the padding and gives back
/// `[batch, height, width, channels]`.
pub fn window_unpartition(windows: Tensor<4>, height: usize, width: usize) -> Tensor<4> {
    let [count, window, _, channels] = windows.dims();
    let (rows, columns) = (height.div_ceil(window), width.div_ceil(window));
    let batch = count / (rows * columns);
    windows
        .reshape([batch, rows, columns, window, window, channels])
        .swap_dims(2, 3)
        .reshape([batch, rows * window, columns * window, channels])
        .slice([0..batch, 0..height, 0..width, 0..channels])
}
