//! The two-way transformer: prompt tokens and image cells attend to each other
//! (`segment_anything/modeling/transformer.py`).

use burn::config::Config;
use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Tensor};

use crate::common::{MlpBlock, MlpBlockConfig};
use crate::ops::{
    self, Activation, CrossAttention, LAYER_NORM_EPSILON, Linear, Precision, ProjectedImage,
};

/// Configuration of [`TwoWayTransformer`].
#[derive(Config, Debug)]
pub struct TwoWayTransformerConfig {
    /// Number of layers.
    #[config(default = 2)]
    pub depth: usize,
    /// Width of tokens and image cells.
    #[config(default = 256)]
    pub embedding_dim: usize,
    /// Attention heads of every layer.
    #[config(default = 8)]
    pub num_heads: usize,
    /// Hidden width of the feed-forward blocks.
    #[config(default = 2048)]
    pub mlp_dim: usize,
    /// Factor by which cross attention narrows its inner width.
    #[config(default = 2)]
    pub attention_downsample_rate: usize,
}

impl TwoWayTransformerConfig {
    /// A transformer with random weights.
    pub fn init(&self, device: &Device) -> TwoWayTransformer {
        let layers = (0..self.depth).map(|index| self.layer(index == 0, device));
        TwoWayTransformer {
            layers: layers.collect(),
            final_attn_token_to_image: self.attention(self.attention_downsample_rate, device),
            norm_final_attn: LayerNormConfig::new(self.embedding_dim).init(device),
        }
    }

    fn attention(&self, downsample_rate: usize, device: &Device) -> Attention {
        let (outer, inner) = (self.embedding_dim, self.embedding_dim / downsample_rate);
        let project_in = || Linear::new(outer, inner, device);
        Attention {
            q_proj: project_in(),
            k_proj: project_in(),
            v_proj: project_in(),
            out_proj: Linear::new(inner, outer, device),
            num_heads: self.num_heads,
        }
    }

    fn layer(&self, first: bool, device: &Device) -> TwoWayAttentionBlock {
        let norm = || LayerNormConfig::new(self.embedding_dim).init(device);
        let mlp = MlpBlockConfig::new(self.embedding_dim, self.mlp_dim);
        TwoWayAttentionBlock {
            self_attn: self.attention(1, device),
            norm1: norm(),
            cross_attn_token_to_image: self.attention(self.attention_downsample_rate, device),
            norm2: norm(),
            mlp: mlp.init(Activation::Relu, device),
            norm3: norm(),
            norm4: norm(),
            cross_attn_image_to_token: self.attention(self.attention_downsample_rate, device),
            first,
        }
    }
}

/// Transformer in which tokens and image cells update each other.
#[derive(Module, Debug)]
pub struct TwoWayTransformer {
    layers: Vec<TwoWayAttentionBlock>,
    final_attn_token_to_image: Attention,
    norm_final_attn: LayerNorm,
}

impl TwoWayTransformer {
    /// The numbers in which it multiplies.
    pub(crate) fn precision(&self) -> Precision {
        self.final_attn_token_to_image.q_proj.precision()
    }

    /// Runs the transformer.
    ///
    /// `image` is `[batch, cells, dim]`, or `[1, cells, dim]` when all prompts begin with the same;
    /// `image_pe` `[1, cells, dim]`, `tokens` `[batch, tokens, dim]` (they serve as their own
    /// positional encoding); `projected` is what [`project`](Self::project) made of them, if it did. Gives
    /// the updated tokens and image cells, `[batch, ..]`.
    pub fn forward(
        &self,
        image: Tensor<3>,
        image_pe: &Tensor<3>,
        tokens: &Tensor<3>,
        projected: Option<&ProjectedImage>,
    ) -> (Tensor<3>, Tensor<3>) {
        self.observed(image, image_pe, tokens, projected, &mut |_, _, _| ())
    }

    /// What [`forward`](Self::forward) computes of the image alone; see [`ProjectedImage`].
    pub fn project(&self, image: &Tensor<3>, image_pe: &Tensor<3>) -> Option<ProjectedImage> {
        let first = self.layers.first()?;
        let look = &first.cross_attn_token_to_image;
        let layers = [look, &first.cross_attn_image_to_token].map(Attention::layers);
        ProjectedImage::new(image, image_pe, layers)
    }

    /// The softmax weights with which the tokens look at the image cells in every layer and, last, in
    /// the final attention, `[depth + 1, batch, heads, tokens, cells]`. Takes what
    /// [`forward`](Self::forward) takes, and goes its way.
    pub fn token_attention(
        &self,
        image: Tensor<3>,
        image_pe: &Tensor<3>,
        tokens: &Tensor<3>,
    ) -> Tensor<5> {
        let mut weights = Vec::with_capacity(self.layers.len() + 1);
        self.observed(
            image,
            image_pe,
            tokens,
            None,
            &mut |queries, cells, layers| {
                let seen = ops::token_weights(queries.clone(), cells, image_pe, layers);
                weights.push(seen.unsqueeze::<5>());
            },
        );
        Tensor::cat(weights, 0)
    }

    /// [`forward`](Self::forward), with someone who is shown every attention of tokens to the image.
    fn observed(
        &self,
        image: Tensor<3>,
        image_pe: &Tensor<3>,
        tokens: &Tensor<3>,
        projected: Option<&ProjectedImage>,
        observe: Observer<'_>,
    ) -> (Tensor<3>, Tensor<3>) {
        let (mut queries, mut keys) = (tokens.clone(), image);
        for layer in &self.layers {
            let projected = projected.filter(|_| layer.first);
            let pe = [tokens, image_pe];
            (queries, keys) = layer.forward(queries, keys, pe, projected, observe);
        }
        let q = queries.clone() + tokens.clone();
        let last = self.final_attn_token_to_image.layers();
        observe(&q, &keys, last);
        let attended = ops::tokens_to_image(q, [&keys, image_pe], last, None);
        (
            ops::layer_norm(
                queries + attended,
                &self.norm_final_attn,
                LAYER_NORM_EPSILON,
            ),
            keys,
        )
    }
}

/// Is shown the tokens before they ask, the image cells, and the layers between them.
type Observer<'a> = &'a mut dyn FnMut(&Tensor<3>, &Tensor<3>, CrossAttention<'_>);

/// One layer: self-attention of the tokens, tokens to image, feed-forward, image to tokens.
#[derive(Module, Debug)]
struct TwoWayAttentionBlock {
    self_attn: Attention,
    norm1: LayerNorm,
    cross_attn_token_to_image: Attention,
    norm2: LayerNorm,
    mlp: MlpBlock,
    norm3: LayerNorm,
    norm4: LayerNorm,
    cross_attn_image_to_token: Attention,
    #[module(skip)]
    first: bool,
}

impl TwoWayAttentionBlock {
    fn forward(
        &self,
        queries: Tensor<3>,
        keys: Tensor<3>,
        [query_pe, key_pe]: [&Tensor<3>; 2],
        projected: Option<&ProjectedImage>,
        observe: Observer<'_>,
    ) -> (Tensor<3>, Tensor<3>) {
        // In the first layer the queries still are their own positional encoding: the official
        // code leaves out both the encoding and the residual there.
        let queries = if self.first {
            self.self_attn
                .forward(queries.clone(), queries.clone(), queries)
        } else {
            let q = queries.clone() + query_pe.clone();
            queries.clone() + self.self_attn.forward(q.clone(), q, queries)
        };
        let queries = ops::layer_norm(queries, &self.norm1, LAYER_NORM_EPSILON);

        let q = queries.clone() + query_pe.clone();
        let look = self.cross_attn_token_to_image.layers();
        observe(&q, &keys, look);
        let attended = ops::tokens_to_image(q, [&keys, key_pe], look, projected);
        let queries = ops::layer_norm(queries + attended, &self.norm2, LAYER_NORM_EPSILON);

        let queries = ops::layer_norm(
            queries.clone() + self.mlp.forward(queries),
            &self.norm3,
            LAYER_NORM_EPSILON,
        );

        let keys = ops::image_to_tokens(
            keys,
            key_pe,
            [queries.clone() + query_pe.clone(), queries.clone()],
            self.cross_attn_image_to_token.layers(),
            (&self.norm4, LAYER_NORM_EPSILON),
            projected,
        );
        (queries, keys)
    }
}

/// Multi-head attention whose inner width may be narrower than its input.
#[derive(Module, Debug)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    #[module(skip)]
    num_heads: usize,
}

impl Attention {
    fn layers(&self) -> CrossAttention<'_> {
        CrossAttention {
            q_proj: &self.q_proj,
            k_proj: &self.k_proj,
            v_proj: &self.v_proj,
            out_proj: &self.out_proj,
            heads: self.num_heads,
        }
    }

    /// `q` `[batch, n, dim]`, `k` and `v` `[batch, m, dim]` → `[batch, n, dim]`.
    fn forward(&self, q: Tensor<3>, k: Tensor<3>, v: Tensor<3>) -> Tensor<3> {
        let project = |x, layer| ops::linear(x, layer, Activation::Identity);
        let (q, k) = (project(q, &self.q_proj), project(k, &self.k_proj));
        let v = project(v, &self.v_proj);
        let precision = self.q_proj.precision();
        let attended = ops::attention(q, k, v, self.num_heads, precision);
        project(attended, &self.out_proj)
    }
}
