//! Attention of a frame to its memories, and rotary positions.

use burn::tensor::{Tensor, TensorData};
use samara_kernels::memory;
use samara_kernels::memory_attention::MemoryAttention;
use samara_kernels::rope::Rotations;

use super::layer_values::LayerValues;
use super::values::{Values, tensor};
use super::{Activation, Linear, Precision, attention, linear};

/// Rotary positions of the cells of a square grid.
#[derive(Debug, Clone)]
pub struct Rope {
    side: usize,
    rotations: Rotations,
}

impl Rope {
    /// For a grid of `side` × `side` cells and `dim` channels.
    pub fn new(side: usize, dim: usize) -> Self {
        let rotations = Rotations::new(side, dim);
        Self { side, rotations }
    }

    /// Rotates `[batch, tokens, dim]`, whose tokens are one grid after the other.
    pub fn rotate(&self, x: Tensor<3>) -> Tensor<3> {
        let (dims, device) = (x.dims(), x.device());
        if let Some(values) = Values::of(x.clone()) {
            let mut values = values.as_slice().to_vec();
            self.rotations.rotate(&mut values);
            return tensor(values, dims, &device);
        }
        let [batch, tokens, dim] = dims;
        let (cells, pairs) = (self.side * self.side, dim / 2);
        // What (1, 0) is rotated into are the cosines and sines of all cells.
        let mut angles = [1.0, 0.0].repeat(cells * pairs);
        self.rotations.rotate(&mut angles);
        let angles = TensorData::new(angles, [1, cells, pairs, 2]);
        let angles = Tensor::<4>::from_data(angles, &device);
        let (cos, sin) = (angles.clone().narrow(3, 0, 1), angles.narrow(3, 1, 1));
        let x = x.reshape([batch * tokens / cells, cells, pairs, 2]);
        let (a, b) = (x.clone().narrow(3, 0, 1), x.narrow(3, 1, 1));
        let rotated = vec![
            a.clone() * cos.clone() - b.clone() * sin.clone(),
            a * sin + b * cos,
        ];
        Tensor::cat(rotated, 3).reshape([batch, tokens, dim])
    }
}

/// Attention of rotated queries `[1, cells, dim]` to memories with one head: keys are
/// `rotate(k_proj(tokens + positions))`, of which the last `unplaced` are not rotated, values are the
/// tokens `[1, keys, width]`. Gives `[1, cells, width]`.
pub fn attention_to_memories(
    q: Tensor<3>,
    [tokens, positions]: [&Tensor<3>; 2],
    unplaced: usize,
    k_proj: &Linear,
    rope: &Rope,
) -> Tensor<3> {
    let keys = tokens.clone() + positions.clone();
    let placed = keys.dims()[1] - unplaced;
    if let Some(attended) = with_kernel(&q, &keys, tokens, placed, k_proj, rope) {
        return attended;
    }
    let k = linear(keys, k_proj, Activation::Identity);
    let rotated = rope.rotate(k.clone().narrow(1, 0, placed));
    let k = if unplaced == 0 {
        rotated
    } else {
        Tensor::cat(vec![rotated, k.narrow(1, placed, unplaced)], 1)
    };
    attention(q, k, tokens.clone(), 1, Precision::Fp32)
}

fn with_kernel(
    q: &Tensor<3>,
    keys: &Tensor<3>,
    values: &Tensor<3>,
    placed: usize,
    k_proj: &Linear,
    rope: &Rope,
) -> Option<Tensor<3>> {
    let ([batch, cells, dim], device) = (q.dims(), q.device());
    let [_, count, width] = keys.dims();
    if batch != 1 || cells != rope.side * rope.side {
        return None;
    }
    let q = Values::of(q.clone())?;
    let layer = LayerValues::of(k_proj)?;
    let unplaced = count - placed;
    let extra = (unplaced > 0).then(|| {
        let unplaced = keys.clone().narrow(1, placed, unplaced);
        linear(unplaced, k_proj, Activation::Identity)
    });
    let extra = Values::optional(extra)?;
    let (keys, values) = (Values::of(keys.clone())?, Values::of(values.clone())?);
    let projection = layer.projection();
    let attention = MemoryAttention {
        side: rope.side,
        dim,
        width,
        scale: (dim as f32).powf(-0.5),
        key_tokens: &keys.as_slice()[..placed * width],
        weight: projection.weight,
        bias: projection.bias,
        rotations: &rope.rotations,
        extra_keys: extra.as_ref().map_or(&[], Values::as_slice),
        values: values.as_slice(),
    };
    let mut out = memory::zeros(cells * width);
    attention.forward(q.as_slice(), &mut out);
    Some(tensor(out, [1, cells, width], &device))
}
