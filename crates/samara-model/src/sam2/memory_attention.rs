//! How SAM 2 looks at a frame in the light of its memories (`sam2/modeling/memory_attention.py`).

use burn::config::Config;
use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Tensor};

use crate::ops::{self, Activation, LAYER_NORM_EPSILON, Linear, Rope};

/// Share of the frame's position encoding that is added to its features.
const POSITION_AT_INPUT: f64 = 0.1;

/// Configuration of [`MemoryAttention`].
#[derive(Config, Debug)]
pub struct MemoryAttentionConfig {
    /// Channels of the image embedding.
    #[config(default = 256)]
    pub d_model: usize,
    /// Channels of a memory.
    #[config(default = 64)]
    pub kv_in_dim: usize,
    /// Hidden width of the feed-forward.
    #[config(default = 2048)]
    pub dim_feedforward: usize,
    /// Layers.
    #[config(default = 4)]
    pub num_layers: usize,
}

impl MemoryAttentionConfig {
    /// Layers with random weights.
    pub fn init(&self, device: &Device) -> MemoryAttention {
        let norm = || LayerNormConfig::new(self.d_model).init(device);
        let linear = |from, to| Linear::new(from, to, device);
        let attention = |kv_in| RopeAttention {
            q_proj: linear(self.d_model, self.d_model),
            k_proj: linear(kv_in, self.d_model),
            v_proj: linear(kv_in, self.d_model),
            out_proj: linear(self.d_model, self.d_model),
        };
        let layers = (0..self.num_layers).map(|_| MemoryAttentionLayer {
            self_attn: attention(self.d_model),
            cross_attn_image: attention(self.kv_in_dim),
            linear1: linear(self.d_model, self.dim_feedforward),
            linear2: linear(self.dim_feedforward, self.d_model),
            norm1: norm(),
            norm2: norm(),
            norm3: norm(),
        });
        MemoryAttention {
            layers: layers.collect(),
            norm: norm(),
        }
    }
}

/// What a frame can look back at.
#[derive(Debug, Clone)]
pub struct Memories {
    /// Spatial memories, one grid after the other, then the tokens of object pointers:
    /// `[batch, tokens, kv_in_dim]`.
    pub tokens: Tensor<3>,
    /// Their positions in space and time, the same shape.
    pub positions: Tensor<3>,
    /// How many tokens at the end are object pointers, which have no place on the grid.
    pub pointers: usize,
}

/// Conditions a frame's features on memories.
#[derive(Module, Debug)]
pub struct MemoryAttention {
    layers: Vec<MemoryAttentionLayer>,
    norm: LayerNorm,
}

impl MemoryAttention {
    /// Features of the frame and their position encoding `[batch, grid², d_model]`, conditioned on
    /// `memories`; the same shape.
    pub fn forward(&self, frame: Tensor<3>, position: Tensor<3>, memories: &Memories) -> Tensor<3> {
        let [_, cells, dim] = frame.dims();
        let rope = Rope::new(cells.isqrt(), dim);
        let x = frame + position * POSITION_AT_INPUT;
        let layers = self.layers.iter();
        let x = layers.fold(x, |x, layer| layer.forward(x, memories, &rope));
        ops::layer_norm(x, &self.norm, LAYER_NORM_EPSILON)
    }
}

/// Self-attention of the frame, attention to the memories, feed-forward.
#[derive(Module, Debug)]
struct MemoryAttentionLayer {
    self_attn: RopeAttention,
    cross_attn_image: RopeAttention,
    linear1: Linear,
    linear2: Linear,
    norm1: LayerNorm,
    norm2: LayerNorm,
    norm3: LayerNorm,
}

impl MemoryAttentionLayer {
    fn forward(&self, x: Tensor<3>, memories: &Memories, rope: &Rope) -> Tensor<3> {
        let norm = |x: &Tensor<3>, norm| ops::layer_norm(x.clone(), norm, LAYER_NORM_EPSILON);
        let own = norm(&x, &self.norm1);
        let x = x + self.self_attn.to_itself(&own, rope);
        let queries = norm(&x, &self.norm2);
        let attention = &self.cross_attn_image;
        let x = x + attention.to_memories(queries, memories, rope);
        let (norm, layers) = (
            (&self.norm3, LAYER_NORM_EPSILON),
            [&self.linear1, &self.linear2],
        );
        ops::feed_forward(x.clone(), norm, layers, Activation::Relu, x)
    }
}

/// Attention with one head, whose queries and keys are rotated by their places.
#[derive(Module, Debug)]
#[expect(clippy::struct_field_names, reason = "the official names")]
struct RopeAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
}

impl RopeAttention {
    /// Self-attention of `[1, grid², d]`.
    fn to_itself(&self, x: &Tensor<3>, rope: &Rope) -> Tensor<3> {
        let rotated = |layer| rope.rotate(project(x.clone(), layer));
        let (q, k) = (rotated(&self.q_proj), rotated(&self.k_proj));
        let attended = ops::attention(q, k, x.clone(), 1, self.q_proj.precision());
        self.output(attended)
    }

    /// Attention of `[1, grid², d]` to memories.
    fn to_memories(&self, x: Tensor<3>, memories: &Memories, rope: &Rope) -> Tensor<3> {
        let q = rope.rotate(project(x, &self.q_proj));
        let (tokens, positions) = (&memories.tokens, &memories.positions);
        let (unplaced, k_proj) = (memories.pointers, &self.k_proj);
        let attended = ops::attention_to_memories(q, [tokens, positions], unplaced, k_proj, rope);
        self.output(attended)
    }

    /// P (V W + b) = (P V) W + b, as the rows of P sum to 1: the values are projected afterwards.
    /// Memories have a quarter of the features' channels, so their product with the probabilities
    /// costs a quarter.
    fn output(&self, attended: Tensor<3>) -> Tensor<3> {
        project(project(attended, &self.v_proj), &self.out_proj)
    }
}

fn project(x: Tensor<3>, layer: &Linear) -> Tensor<3> {
    ops::linear(x, layer, Activation::Identity)
}
