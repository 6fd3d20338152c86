//! Attention between prompt tokens and image cells.

use burn::nn::Linear;
use burn::tensor::{Tensor, activation};
use rayon::prelude::*;
use samara_kernels::attention::{Attention, Bias, PackedKeys, Tokens};
use samara_kernels::two_way::{Cells, CellsToTokens, TokensToCells};

use super::values::{LayerValues, NormValues, Values, tensor};
use super::{Activation, NormLayer, attention, layer_norm, linear};

/// The layers of one attention between tokens and cells, and how many heads it has.
#[derive(Debug, Clone, Copy)]
pub struct CrossAttention<'a> {
    /// To queries.
    pub q_proj: &'a Linear,
    /// To keys.
    pub k_proj: &'a Linear,
    /// To values.
    pub v_proj: &'a Linear,
    /// From the heads, side by side, to the width of who asks.
    pub out_proj: &'a Linear,
    /// Heads.
    pub heads: usize,
}

/// The cells of an image in the first layer of a decoder, projected once for all prompts without a mask:
/// these see them as they are. What is left of that layer for a prompt is a tenth of its first
/// attention and half of its second.
#[derive(Debug)]
pub struct ProjectedImage {
    /// What the tokens look at.
    keys: PackedKeys,
    /// With which the cells look at tokens, `[cells, inner]`.
    queries: Values,
}

impl ProjectedImage {
    /// Of `cells` and `position`, both `[1, cells, dim]`, for the attention of tokens to cells and that
    /// of cells to tokens. `None` where the kernels do not work.
    pub fn new(
        cells: &Tensor<3>,
        position: &Tensor<3>,
        [look, answer]: [CrossAttention<'_>; 2],
    ) -> Option<Self> {
        let project = |x, layer| Values::of(linear(x, layer, Activation::Identity));
        let placed = cells.clone() + position.clone();
        let k = project(placed.clone(), look.k_proj)?;
        let v = project(cells.clone(), look.v_proj)?;
        let [_, inner] = look.k_proj.weight.dims();
        let attention = look.attention(inner);
        let kv = [&k, &v].map(|x| attention_tokens(x.as_slice(), &attention));
        Some(Self {
            keys: attention.pack(kv, cells.dims()[1]),
            queries: project(placed, answer.q_proj)?,
        })
    }
}

impl CrossAttention<'_> {
    /// The attention of projected tokens of this width.
    fn attention(&self, inner: usize) -> Attention<'static> {
        let head_dim = inner / self.heads;
        Attention {
            heads: self.heads,
            head_dim,
            value_dim: head_dim,
            scale: (head_dim as f32).powf(-0.5),
            bias: Bias::None,
            padding: None,
        }
    }
}

/// Tokens whose heads lie side by side.
fn attention_tokens<'a>(values: &'a [f32], attention: &Attention<'_>) -> Tokens<'a> {
    Tokens {
        values,
        token_stride: attention.heads * attention.head_dim,
        head_stride: attention.head_dim,
    }
}

/// Tokens `[batch, tokens, dim]` attend to cells: keys from `cells + position`, values from
/// `cells`. `cells` is `[batch, cells, dim]`, or `[1, cells, dim]` shared by the batch; `position`
/// is `[1, cells, dim]`. Gives `[batch, tokens, dim]`, projected. `projected` are the same cells.
pub fn tokens_to_image(
    tokens: Tensor<3>,
    [cells, position]: [&Tensor<3>; 2],
    layers: CrossAttention<'_>,
    projected: Option<&ProjectedImage>,
) -> Tensor<3> {
    let q = linear(tokens, layers.q_proj, Activation::Identity);
    let attended = match projected {
        Some(projected) => tokens_with_projected(&q, projected, layers),
        None => tokens_with_kernel(&q, cells, position, layers),
    };
    let attended = attended.unwrap_or_else(|| {
        let k = linear(
            cells.clone() + position.clone(),
            layers.k_proj,
            Activation::Identity,
        );
        let v = linear(cells.clone(), layers.v_proj, Activation::Identity);
        let [batch, ..] = q.dims();
        attention(q, for_each(k, batch), for_each(v, batch), layers.heads)
    });
    linear(attended, layers.out_proj, Activation::Identity)
}

/// The softmax weights with which [`tokens_to_image`] mixes the values of the cells,
/// `[batch, heads, tokens, cells]`. Always in composed form: for looking at them, not for speed.
pub fn token_weights(
    tokens: Tensor<3>,
    cells: &Tensor<3>,
    position: &Tensor<3>,
    layers: CrossAttention<'_>,
) -> Tensor<4> {
    let q = linear(tokens, layers.q_proj, Activation::Identity);
    let k = cells.clone() + position.clone();
    let k = linear(k, layers.k_proj, Activation::Identity);
    let [batch, _, inner] = q.dims();
    let head_dim = inner / layers.heads;
    let split = |x: Tensor<3>| {
        let [batch, count, _] = x.dims();
        let heads = x.reshape([batch, count, layers.heads, head_dim]);
        heads.swap_dims(1, 2)
    };
    let (q, k) = (split(q), split(for_each(k, batch)));
    let scores = q
        .mul_scalar((head_dim as f64).powf(-0.5))
        .matmul(k.swap_dims(2, 3));
    activation::softmax(scores, 3)
}

fn tokens_with_projected(
    q: &Tensor<3>,
    cells: &ProjectedImage,
    layers: CrossAttention<'_>,
) -> Option<Tensor<3>> {
    let (shape, device) = (q.dims(), q.device());
    let q = Values::of(q.clone())?;
    let attention = layers.attention(shape[2]);
    let mut out = vec![0.0; shape.iter().product()];
    // The tokens of all prompts look at the same cells: they are one sequence.
    let tokens = attention_tokens(q.as_slice(), &attention);
    attention.forward_packed(tokens, &cells.keys, &mut out);
    Some(tensor(out, shape, &device))
}

fn tokens_with_kernel(
    q: &Tensor<3>,
    cells: &Tensor<3>,
    position: &Tensor<3>,
    layers: CrossAttention<'_>,
) -> Option<Tensor<3>> {
    let ([batch, tokens, inner], device) = (q.dims(), q.device());
    let [images, count, width] = cells.dims();
    let (q, cells) = (Values::of(q.clone())?, Values::of(cells.clone())?);
    let position = Values::of(position.clone())?;
    let (key, value) = (
        LayerValues::of(layers.k_proj)?,
        LayerValues::of(layers.v_proj)?,
    );
    let attention = TokensToCells {
        key: key.projection(),
        value: value.projection(),
        heads: layers.heads,
    };
    let mut out = vec![0.0; batch * tokens * inner];
    out.par_chunks_exact_mut(tokens * inner)
        .zip(q.as_slice().par_chunks_exact(tokens * inner))
        .enumerate()
        .for_each(|(i, (out, q))| {
            let cells = Cells {
                values: &cells.as_slice()[i % images * count * width..][..count * width],
                position: position.as_slice(),
                width,
            };
            attention.forward(q, cells, out);
        });
    Some(tensor(out, [batch, tokens, inner], &device))
}

/// Cells attend to tokens and are normalised: `norm(cells + attention)`. The queries come from
/// `cells + position`, the keys from `keys`, the values from `values` (both
/// `[batch, tokens, dim]`). `cells` is `[batch, cells, dim]` or `[1, cells, dim]`; gives
/// `[batch, cells, dim]`. `projected` are the same cells.
pub fn image_to_tokens(
    cells: Tensor<3>,
    position: &Tensor<3>,
    [keys, values]: [Tensor<3>; 2],
    layers: CrossAttention<'_>,
    (norm, epsilon): NormLayer<'_>,
    projected: Option<&ProjectedImage>,
) -> Tensor<3> {
    let k = linear(keys, layers.k_proj, Activation::Identity);
    let v = linear(values, layers.v_proj, Activation::Identity);
    let seen = [&cells, position];
    if let Some(cells) = cells_with_kernel(seen, [&k, &v], layers, (norm, epsilon), projected) {
        return cells;
    }
    let cells = for_each(cells, k.dims()[0]);
    let q = linear(
        cells.clone() + position.clone(),
        layers.q_proj,
        Activation::Identity,
    );
    let attended = attention(q, k, v, layers.heads);
    let attended = linear(attended, layers.out_proj, Activation::Identity);
    layer_norm(cells + attended, norm, epsilon)
}

fn cells_with_kernel(
    [cells, position]: [&Tensor<3>; 2],
    [k, v]: [&Tensor<3>; 2],
    layers: CrossAttention<'_>,
    norm: NormLayer<'_>,
    projected: Option<&ProjectedImage>,
) -> Option<Tensor<3>> {
    let ([batch, tokens, inner], device) = (k.dims(), k.device());
    let [images, count, width] = cells.dims();
    let cells = Values::of(cells.clone())?;
    let position = Values::of(position.clone())?;
    let (k, v) = (Values::of(k.clone())?, Values::of(v.clone())?);
    let (query, output) = (
        LayerValues::of(layers.q_proj)?,
        LayerValues::of(layers.out_proj)?,
    );
    let norm = NormValues::of(norm)?;
    let attention = CellsToTokens {
        query: query.projection(),
        output: output.projection(),
        norm: norm.norm(),
        heads: layers.heads,
    };
    let mut out = vec![0.0; batch * count * width];
    out.par_chunks_exact_mut(count * width)
        .enumerate()
        .for_each(|(i, out)| {
            let cells = Cells {
                values: &cells.as_slice()[i % images * count * width..][..count * width],
                position: position.as_slice(),
                width,
            };
            let part = i * tokens * inner..(i + 1) * tokens * inner;
            let tokens = [&k.as_slice()[part.clone()], &v.as_slice()[part]];
            match projected {
                Some(projected) => {
                    let queries = projected.queries.as_slice();
                    attention.forward_projected(cells.values, queries, tokens, out);
                }
                None => attention.forward(cells, tokens, out),
            }
        });
    Some(tensor(out, [batch, count, width], &device))
}

/// One for each of the batch, when there is one for all.
fn for_each(x: Tensor<3>, batch: usize) -> Tensor<3> {
    if x.dims()[0] == batch {
        x
    } else {
        x.repeat_dim(0, batch)
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;
    use burn::tensor::{Device, Distribution};

    use super::*;

    /// Weights times values, projected, is what the fused attention gives, for cells of their own and
    /// for shared ones.
    #[test]
    fn token_weights_are_those_that_mix_the_values() {
        let (batch, tokens, cells, width, inner, heads) = (2, 5, 36, 24, 12, 3);
        let device = Device::flex();
        device.seed(11);
        let linear_layer = |from, to| LinearConfig::new(from, to).init(&device);
        let (q_proj, k_proj) = (linear_layer(width, inner), linear_layer(width, inner));
        let (v_proj, out_proj) = (linear_layer(width, inner), linear_layer(inner, width));
        let layers = CrossAttention {
            q_proj: &q_proj,
            k_proj: &k_proj,
            v_proj: &v_proj,
            out_proj: &out_proj,
            heads,
        };
        let normal =
            |shape: [usize; 3]| Tensor::<3>::random(shape, Distribution::Normal(0.0, 3.0), &device);
        let (asked, position) = (normal([batch, tokens, width]), normal([1, cells, width]));
        for images in [1, batch] {
            let image = normal([images, cells, width]);
            let weights = token_weights(asked.clone(), &image, &position, layers);
            assert_eq!(weights.dims(), [batch, heads, tokens, cells]);
            let sums: Vec<f32> = weights.clone().sum_dim(3).into_data().try_to_vec().unwrap();
            assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-5));

            let values = linear(image.clone(), &v_proj, Activation::Identity);
            let values = for_each(values, batch).reshape([batch, cells, heads, inner / heads]);
            let mixed = weights.matmul(values.swap_dims(1, 2)).swap_dims(1, 2);
            let mixed = mixed.reshape([batch, tokens, inner]);
            let mixed = linear(mixed, &out_proj, Activation::Identity);
            let fused = tokens_to_image(asked.clone(), [&image, &position], layers, None);
            let error: f32 = (mixed - fused).abs().max().into_scalar();
            assert!(error < 1e-5, "{error:e}");
        }
    }
}
