//! Attention between prompt tokens and image tokens.

use burn::tensor::{Tensor, activation};
use rayon::prelude::*;
use samara_kernels::attention::{Attention, Bias, PackedKeys, Tokens};
use samara_kernels::memory;
use samara_kernels::two_way::{ImageToTokens, ImageTokens, TokensToImage};

use super::layer_values::LayerValues;
use super::norm::NormValues;
use super::values::{Values, tensor};
use super::{Activation, Linear, NormLayer, attention, layer_norm, linear};

/// The layers of one attention between tokens and image tokens, and how many heads it has.
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

/// The image tokens in the first layer of a decoder, projected once for all prompts without a mask:
/// these see them as they are. What is left of that layer for a prompt is a tenth of its first
/// attention and half of its second.
#[derive(Debug)]
pub struct ProjectedImage {
    /// What the tokens look at.
    keys: PackedKeys,
    /// With which the image tokens look at tokens, `[image tokens, inner]`.
    queries: Values,
}

impl ProjectedImage {
    /// Of `image` and `position`, both `[1, image tokens, dim]`, for the attention of tokens to image tokens and that
    /// of image tokens to tokens. `None` where the kernels do not work.
    pub fn new(
        image: &Tensor<3>,
        position: &Tensor<3>,
        [look, answer]: [CrossAttention<'_>; 2],
    ) -> Option<Self> {
        let project = |x, layer| Values::of(linear(x, layer, Activation::Identity));
        let placed = image.clone() + position.clone();
        let k = project(placed.clone(), look.k_proj)?;
        let v = project(image.clone(), look.v_proj)?;
        let [_, inner] = look.k_proj.weight.dims();
        let attention = look.attention(inner);
        let kv = [&k, &v].map(|x| attention_tokens(x.as_slice(), &attention));
        Some(Self {
            keys: attention.pack(kv, image.dims()[1]),
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
            precision: self.q_proj.precision(),
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

/// Tokens `[batch, tokens, dim]` attend to image tokens: keys from `image + position`, values from
/// `image`. `image` is `[batch, image tokens, dim]`, or `[1, image tokens, dim]` shared by the batch; `position`
/// is `[1, image tokens, dim]`. Gives `[batch, tokens, dim]`, projected. `projected` are the same image tokens.
pub fn tokens_to_image(
    tokens: Tensor<3>,
    [image, position]: [&Tensor<3>; 2],
    layers: CrossAttention<'_>,
    projected: Option<&ProjectedImage>,
) -> Tensor<3> {
    let q = linear(tokens, layers.q_proj, Activation::Identity);
    let attended = match projected {
        Some(projected) => tokens_with_projected(&q, projected, layers),
        None => tokens_with_kernel(&q, image, position, layers),
    };
    let attended = attended.unwrap_or_else(|| {
        let k = linear(
            image.clone() + position.clone(),
            layers.k_proj,
            Activation::Identity,
        );
        let v = linear(image.clone(), layers.v_proj, Activation::Identity);
        let [batch, ..] = q.dims();
        let (k, v) = (for_each(k, batch), for_each(v, batch));
        attention(q, k, v, layers.heads, layers.q_proj.precision())
    });
    linear(attended, layers.out_proj, Activation::Identity)
}

/// The softmax weights with which [`tokens_to_image`] mixes the values of the image tokens,
/// `[batch, heads, tokens, image tokens]`. Always in composed form: for looking at them, not for speed.
pub fn token_weights(
    tokens: Tensor<3>,
    image: &Tensor<3>,
    position: &Tensor<3>,
    layers: CrossAttention<'_>,
) -> Tensor<4> {
    let q = linear(tokens, layers.q_proj, Activation::Identity);
    let k = image.clone() + position.clone();
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
    image: &ProjectedImage,
    layers: CrossAttention<'_>,
) -> Option<Tensor<3>> {
    let (shape, device) = (q.dims(), q.device());
    let q = Values::of(q.clone())?;
    let attention = layers.attention(shape[2]);
    let mut out = memory::zeros(shape.iter().product());
    // The tokens of all prompts look at the same image tokens: they are one sequence.
    let tokens = attention_tokens(q.as_slice(), &attention);
    attention.forward_packed(tokens, &image.keys, &mut out);
    Some(tensor(out, shape, &device))
}

fn tokens_with_kernel(
    q: &Tensor<3>,
    image: &Tensor<3>,
    position: &Tensor<3>,
    layers: CrossAttention<'_>,
) -> Option<Tensor<3>> {
    let ([batch, tokens, inner], device) = (q.dims(), q.device());
    let [images, count, width] = image.dims();
    let (q, image) = (Values::of(q.clone())?, Values::of(image.clone())?);
    let position = Values::of(position.clone())?;
    let (key, value) = (
        LayerValues::of(layers.k_proj)?,
        LayerValues::of(layers.v_proj)?,
    );
    let attention = TokensToImage {
        key: key.projection(),
        value: value.projection(),
        heads: layers.heads,
        precision: layers.q_proj.precision(),
    };
    let mut out = memory::zeros(batch * tokens * inner);
    out.par_chunks_exact_mut(tokens * inner)
        .zip(q.as_slice().par_chunks_exact(tokens * inner))
        .enumerate()
        .for_each(|(i, (out, q))| {
            let image = ImageTokens {
                values: &image.as_slice()[i % images * count * width..][..count * width],
                position: position.as_slice(),
                width,
            };
            attention.forward(q, image, out);
        });
    Some(tensor(out, [batch, tokens, inner], &device))
}

/// Image tokens attend to tokens and are normalised: `norm(image tokens + attention)`. The queries come from
/// `image + position`, the keys from `keys`, the values from `values` (both
/// `[batch, tokens, dim]`). `image` is `[batch, image tokens, dim]` or `[1, image tokens, dim]`; gives
/// `[batch, image tokens, dim]`. `projected` are the same image tokens.
pub fn image_to_tokens(
    image: Tensor<3>,
    position: &Tensor<3>,
    [keys, values]: [Tensor<3>; 2],
    layers: CrossAttention<'_>,
    (norm, epsilon): NormLayer<'_>,
    projected: Option<&ProjectedImage>,
) -> Tensor<3> {
    let k = linear(keys, layers.k_proj, Activation::Identity);
    let v = linear(values, layers.v_proj, Activation::Identity);
    let seen = [&image, position];
    if let Some(image) = image_with_kernel(seen, [&k, &v], layers, (norm, epsilon), projected) {
        return image;
    }
    let image = for_each(image, k.dims()[0]);
    let q = linear(
        image.clone() + position.clone(),
        layers.q_proj,
        Activation::Identity,
    );
    let attended = attention(q, k, v, layers.heads, layers.q_proj.precision());
    let attended = linear(attended, layers.out_proj, Activation::Identity);
    layer_norm(image + attended, norm, epsilon)
}

fn image_with_kernel(
    [image, position]: [&Tensor<3>; 2],
    [k, v]: [&Tensor<3>; 2],
    layers: CrossAttention<'_>,
    norm: NormLayer<'_>,
    projected: Option<&ProjectedImage>,
) -> Option<Tensor<3>> {
    let ([batch, tokens, inner], device) = (k.dims(), k.device());
    let [images, count, width] = image.dims();
    let image = Values::of(image.clone())?;
    let position = Values::of(position.clone())?;
    let (k, v) = (Values::of(k.clone())?, Values::of(v.clone())?);
    let (query, output) = (
        LayerValues::of(layers.q_proj)?,
        LayerValues::of(layers.out_proj)?,
    );
    let norm = NormValues::of(norm)?;
    let attention = ImageToTokens {
        query: query.projection(),
        output: output.projection(),
        norm: norm.norm(),
        heads: layers.heads,
        precision: layers.q_proj.precision(),
    };
    let mut out = memory::zeros(batch * count * width);
    out.par_chunks_exact_mut(count * width)
        .enumerate()
        .for_each(|(i, out)| {
            let image = ImageTokens {
                values: &image.as_slice()[i % images * count * width..][..count * width],
                position: position.as_slice(),
                width,
            };
            let part = i * tokens * inner..(i + 1) * tokens * inner;
            let tokens = [&k.as_slice()[part.clone()], &v.as_slice()[part]];
            match projected {
                Some(projected) => {
                    let queries = projected.queries.as_slice();
                    attention.forward_projected(image.values, queries, tokens, out);
                }
                None => attention.forward(image, tokens, out),
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
    use burn::tensor::{Device, Distribution};

    use super::*;

    /// Weights times values, projected, is what the fused attention gives, for image tokens of their own and
    /// for shared ones.
    #[test]
    fn token_weights_are_those_that_mix_the_values() {
        let (batch, tokens, count, width, inner, heads) = (2, 5, 36, 24, 12, 3);
        let device = Device::flex();
        device.seed(11);
        let linear_layer = |from, to| Linear::new(from, to, &device);
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
        let (asked, position) = (normal([batch, tokens, width]), normal([1, count, width]));
        for images in [1, batch] {
            let image = normal([images, count, width]);
            let weights = token_weights(asked.clone(), &image, &position, layers);
            assert_eq!(weights.dims(), [batch, heads, tokens, count]);
            let sums: Vec<f32> = weights.clone().sum_dim(3).into_data().try_to_vec().unwrap();
            assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-5));

            let values = linear(image.clone(), &v_proj, Activation::Identity);
            let values = for_each(values, batch).reshape([batch, count, heads, inner / heads]);
            let mixed = weights.matmul(values.swap_dims(1, 2)).swap_dims(1, 2);
            let mixed = mixed.reshape([batch, tokens, inner]);
            let mixed = linear(mixed, &out_proj, Activation::Identity);
            let fused = tokens_to_image(asked.clone(), [&image, &position], layers, None);
            let error: f32 = (mixed - fused).abs().max().into_scalar();
            assert!(error < 1e-5, "{error:e}");
        }
    }
}
