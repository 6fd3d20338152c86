//! `compact`: a small promptable model that runs anywhere, trained by this project.
//!
//! An EfficientNet-Lite0 trunk with ImageNet weights, a small feature pyramid, and SAM's decoder
//! design: prompt tokens and four mask tokens in a two-way transformer, hyper-networks, an IoU
//! head, and SAM 2's high-resolution features in the upscaling. Three things differ, because the
//! model learns from two thousand images and not from eleven million:
//!
//! - **dense prompt maps** beside the tokens (`prompt_maps.rs`),
//! - convolution blocks between the transformer's layers and in the upscaling,
//! - an IoU head that looks at the mask it judges, with a sigmoid.
//!
//! Images are channels-last inside, so every 1×1 convolution is one matrix product.

mod conv_block;
mod imagenet;
mod iou_head;
mod mask_decoder;
mod neck;
mod prompt_encoder;
mod prompt_maps;
mod trunk;

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

pub use mask_decoder::MaskDecoder;
pub use neck::Neck;
pub use prompt_encoder::PromptEncoder;
pub use trunk::EfficientNetLite0;

use crate::sam::{DecodedMasks, PromptBatch};
use crate::token_attention::{DecoderToken, TokenAttention, compact_tokens};
use crate::{ImageFeatures, InvalidConfig};
use prompt_maps::{Points, PromptMaps};

/// Pixels per cell of the image embedding.
pub(crate) const STRIDE: usize = 16;
/// Levels of features that are compared with those under the clicks.
const SIMILARITIES: usize = 3;
/// Channels of the features at stride 8 and 4, and of the learned similarity.
const DIM8: usize = 64;
const DIM4: usize = 32;
const DIM_SIMILARITY: usize = 32;

/// Configuration of [`Compact`].
#[derive(Config, Debug)]
pub struct CompactConfig {
    /// Side of the model's input in model pixels, a multiple of 32.
    #[config(default = 512)]
    pub img_size: usize,
    /// Width of the decoder.
    #[config(default = 160)]
    pub embed_dim: usize,
    /// Attention heads.
    #[config(default = 5)]
    pub num_heads: usize,
    /// Layers of the transformer.
    #[config(default = 2)]
    pub depth: usize,
    /// Mask tokens: one for the single mask, the others for the candidates.
    #[config(default = 4)]
    pub num_mask_tokens: usize,
}

impl CompactConfig {
    /// Refuses what no model can be built from.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first field that is wrong.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let check = |holds: bool, what: String| {
            if holds {
                Ok(())
            } else {
                Err(InvalidConfig::new(what))
            }
        };
        let side = self.img_size;
        check(
            (64..=2048).contains(&side) && side.is_multiple_of(32),
            format!("img_size {side} is no multiple of 32 between 64 and 2048"),
        )?;
        let (dim, heads) = (self.embed_dim, self.num_heads);
        check(
            (16..=1024).contains(&dim) && heads > 0 && dim.is_multiple_of(2 * heads),
            format!("embed_dim {dim} is no multiple of twice {heads} heads, or not in 16..=1024"),
        )?;
        let (depth, tokens) = (self.depth, self.num_mask_tokens);
        check(
            (1..=8).contains(&depth),
            format!("depth {depth} is not in 1..=8"),
        )?;
        check(
            (2..=16).contains(&tokens),
            format!("num_mask_tokens {tokens} is not in 2..=16"),
        )
    }

    /// Side of the image embedding in cells.
    pub fn grid(&self) -> usize {
        self.img_size / STRIDE
    }

    /// Shapes of [`ImageFeatures`], the embedding first.
    pub fn feature_shapes(&self) -> Vec<[usize; 4]> {
        let g = self.grid();
        vec![
            [1, g, g, self.embed_dim],
            [1, 2 * g, 2 * g, DIM8],
            [1, 4 * g, 4 * g, DIM4],
            [1, g, g, trunk::CHANNELS[2]],
            [1, 2 * g, 2 * g, trunk::CHANNELS[1]],
            [1, 2 * g, 2 * g, DIM_SIMILARITY],
        ]
    }

    /// A model with random weights.
    pub fn init(&self, device: &Device) -> Compact {
        Compact {
            trunk: EfficientNetLite0::new(device),
            neck: Neck::new(self.embed_dim, device),
            prompt_encoder: PromptEncoder::new(self.embed_dim, device),
            mask_decoder: MaskDecoder::new(self, device),
        }
    }
}

/// The small promptable model.
#[derive(Module, Debug)]
pub struct Compact {
    /// The trunk.
    pub trunk: EfficientNetLite0,
    neck: Neck,
    prompt_encoder: PromptEncoder,
    mask_decoder: MaskDecoder,
}

impl Compact {
    /// Features of normalised and padded pixels `[1, 3, side, side]`; the side may be any multiple
    /// of 32.
    pub fn encode_image(&self, pixels: Tensor<4>) -> ImageFeatures {
        self.neck.forward(self.trunk.forward(pixels))
    }

    /// Answers of all mask tokens to a batch of prompts on one image.
    pub fn decode(&self, features: &ImageFeatures, prompts: &PromptBatch) -> DecodedMasks {
        let (maps, tokens, pe) = self.encode_prompts(features, prompts);
        self.mask_decoder.forward(features, maps, tokens, &pe)
    }

    /// How the decoder's tokens look at the image embedding.
    pub fn token_attention(
        &self,
        features: &ImageFeatures,
        prompts: &PromptBatch,
    ) -> TokenAttention {
        let (maps, tokens, pe) = self.encode_prompts(features, prompts);
        let decoder = &self.mask_decoder;
        let weights = decoder.token_attention(features, maps, tokens, &pe);
        TokenAttention::new(weights, &[DecoderToken::Iou], &compact_tokens(prompts))
    }

    /// Maps and tokens `[batch, points, dim]` of the prompts, and positions of the cells
    /// `[1, grid², dim]`.
    fn encode_prompts(
        &self,
        features: &ImageFeatures,
        prompts: &PromptBatch,
    ) -> (PromptMaps, Tensor<3>, Tensor<3>) {
        let [_, grid, _, _] = features.image_embed.dims();
        let points = Points::of(prompts, &features.image_embed);
        let similarity = &features.high_res_feats[2..];
        let maps = PromptMaps::new(prompts, &points, similarity, grid);
        let tokens = self.prompt_encoder.forward(&points, grid * STRIDE);
        (maps, tokens, self.prompt_encoder.dense_pe(grid))
    }
}

/// Rows of unit length; a zero row stays zero.
fn normalise<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let norm = (x.clone() * x.clone()).sum_dim(D - 1) + 1e-8;
    x / norm.sqrt()
}
