//! Any model of the family, behind one face.

use std::ops::ControlFlow;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::Serialize;

use crate::common::never;
use crate::ops::select_rows;
use crate::sam::{
    DecodedMasks, ImageEncoderConfig, ImageTokens, PromptBatch, Sam, SamConfig, ScoredPrompts,
};
use crate::sam2::{self, Sam2, Sam2Config};
use crate::{ImageFeatures, TokenAttention};

/// A configuration that no model can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("impossible configuration: {0}")]
pub struct InvalidConfig(String);

impl InvalidConfig {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// Configuration of a [`Model`].
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum ModelConfig {
    /// SAM 1, MobileSAM, MedSAM.
    Sam(SamConfig),
    /// SAM 2 and 2.1.
    Sam2(Sam2Config),
}

impl From<SamConfig> for ModelConfig {
    fn from(config: SamConfig) -> Self {
        Self::Sam(config)
    }
}

impl From<Sam2Config> for ModelConfig {
    fn from(config: Sam2Config) -> Self {
        Self::Sam2(config)
    }
}

impl ModelConfig {
    /// Reads what [`serde_json`] wrote: a configuration with a memory is that of SAM 2.
    pub(crate) fn from_json(json: &str) -> serde_json::Result<Self> {
        let value: serde_json::Value = serde_json::from_str(json)?;
        if value.get("memory_encoder").is_some() {
            serde_json::from_value(value).map(Self::Sam2)
        } else {
            serde_json::from_str(json).map(Self::Sam)
        }
    }

    /// A short name of the architecture, such as `sam-vit-b`.
    pub fn architecture(&self) -> String {
        match self {
            Self::Sam(config) => config.architecture(),
            Self::Sam2(config) => config.architecture(),
        }
    }

    /// The configuration of the SAM, if it is one.
    pub fn into_sam(self) -> Option<SamConfig> {
        match self {
            Self::Sam(config) => Some(config),
            Self::Sam2(_) => None,
        }
    }

    /// Side of the model's square input, in model pixels.
    pub fn input_side(&self) -> usize {
        match self {
            Self::Sam(config) => config.prompt_encoder.img_size,
            Self::Sam2(config) => config.prompt_encoder.img_size,
        }
    }

    /// The configuration of the same weights for images of `side` pixels. MobileSAM takes any side
    /// that is a multiple of its coarsest cell; other encoders have learnt positions for the side they
    /// were trained with.
    ///
    /// # Errors
    /// [`InvalidConfig`]: the model takes no other side, or not this one.
    pub fn with_input_side(mut self, side: usize) -> Result<Self, InvalidConfig> {
        let own = self.input_side();
        match &mut self {
            Self::Sam(SamConfig {
                image_encoder: ImageEncoderConfig::TinyViT(_),
                prompt_encoder,
                ..
            }) => {
                prompt_encoder.grid = side / (own / prompt_encoder.grid);
                prompt_encoder.img_size = side;
            }
            Self::Sam(_) | Self::Sam2(_) => {
                let why = format!("the encoder has learnt positions for {own} pixels, not {side}");
                return Err(InvalidConfig::new(why));
            }
        }
        self.validate().map(|()| self)
    }

    /// Side of the grid of mask logits: four cells for every cell of the image embedding.
    pub fn logits_side(&self) -> usize {
        4 * match self {
            Self::Sam(config) => config.prompt_encoder.grid,
            Self::Sam2(config) => config.prompt_encoder.grid,
        }
    }

    /// Mask tokens of the decoder: one for the single mask, the others for the candidates.
    pub fn mask_tokens(&self) -> usize {
        match self {
            Self::Sam(config) => config.mask_decoder.num_mask_tokens,
            Self::Sam2(config) => config.mask_decoder.num_mask_tokens,
        }
    }

    /// Mask logits are handed out within this, both ways, if they are limited.
    pub fn logits_limit(&self) -> Option<f32> {
        match self {
            Self::Sam2(_) => Some(sam2::LOGITS_LIMIT),
            Self::Sam(_) => None,
        }
    }

    /// Which mask token answers a prompt that asks for one mask: the first, or with SAM 2 the one that
    /// [`sam2::dynamic_multimask`] finds. `first` are the logits of the first token, `iou` the scores
    /// of all.
    pub fn single_token(&self, first: &[f32], iou: &[f32]) -> usize {
        match self {
            Self::Sam2(_) => sam2::dynamic_multimask(first, iou),
            Self::Sam(_) => 0,
        }
    }

    /// Shapes of the [`ImageFeatures`] of one image, the embedding first.
    pub fn feature_shapes(&self) -> Vec<[usize; 4]> {
        match self {
            Self::Sam(config) => {
                let prompts = &config.prompt_encoder;
                vec![[1, prompts.grid, prompts.grid, prompts.embed_dim]]
            }
            Self::Sam2(config) => config.feature_shapes(),
        }
    }

    /// Refuses what no model can be built from or run with.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first field that is wrong.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        match self {
            Self::Sam(config) => config.validate(),
            Self::Sam2(config) => config.validate(),
        }
    }

    /// A model with random weights.
    ///
    /// # Panics
    /// May panic on a configuration that [`validate`](Self::validate) refuses.
    pub fn init(&self, device: &Device) -> Model {
        match self {
            Self::Sam(config) => Model::Sam(config.init(device)),
            Self::Sam2(config) => Model::Sam2(config.init(device)),
        }
    }
}

/// A promptable segmentation model.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one model per program")]
pub enum Model {
    /// SAM 1, MobileSAM, MedSAM.
    Sam(Sam),
    /// SAM 2 and 2.1.
    Sam2(Sam2),
}

impl Model {
    /// Features of normalised and padded pixels `[1, 3, side, side]`.
    pub fn encode_image(&self, pixels: Tensor<4>) -> ImageFeatures {
        let ControlFlow::Continue(features) = self.try_encode_image(pixels, never);
        features
    }

    /// The same, which `between` hears of before every block of the encoder, and can stop.
    pub fn try_encode_image<B>(
        &self,
        pixels: Tensor<4>,
        between: impl FnMut() -> ControlFlow<B>,
    ) -> ControlFlow<B, ImageFeatures> {
        match self {
            Self::Sam(sam) => ControlFlow::Continue(ImageFeatures {
                image_embed: sam.image_encoder().try_forward(pixels, between)?,
                high_res_feats: Vec::new(),
            }),
            Self::Sam2(sam2) => sam2.try_encode_image(pixels, between),
        }
    }

    /// The SAM inside, if it is one.
    pub fn into_sam(self) -> Option<Sam> {
        match self {
            Self::Sam(sam) => Some(sam),
            Self::Sam2(_) => None,
        }
    }

    /// The SAM 2 inside, if it is one.
    pub fn as_sam2(&self) -> Option<&Sam2> {
        match self {
            Self::Sam2(sam2) => Some(sam2),
            Self::Sam(_) => None,
        }
    }

    /// Answers of all mask tokens to a batch of prompts on one image.
    pub fn decode(&self, features: &ImageFeatures, prompts: &PromptBatch) -> DecodedMasks {
        match self {
            Self::Sam(sam) => sam.decode(features.image_embed.clone(), prompts),
            Self::Sam2(_) => {
                let all: Vec<usize> = (0..prompts.len()).collect();
                self.score(features, prompts, None).decode_masks(&all)
            }
        }
    }

    /// How the tokens of the mask decoder look at the cells of the image embedding while they answer
    /// these prompts: the IoU token, the mask tokens and those of the prompt, in every layer. The
    /// weights are computed beside the fused attention, at the same inputs.
    pub fn token_attention(
        &self,
        features: &ImageFeatures,
        prompts: &PromptBatch,
    ) -> TokenAttention {
        match self {
            Self::Sam(sam) => sam.token_attention(features.image_embed.clone(), prompts),
            Self::Sam2(sam2) => sam2.token_attention(features, prompts),
        }
    }

    /// Scores first, and the masks of [`decode`](Self::decode) on request: for callers that drop most
    /// masks for their scores.
    ///
    /// `shared` is what [`image_tokens`](Self::image_tokens) gave for the same features.
    pub fn score<'a>(
        &'a self,
        features: &'a ImageFeatures,
        prompts: &PromptBatch,
        shared: Option<&ImageTokens>,
    ) -> Scored<'a> {
        match self {
            Self::Sam(sam) => {
                let scored = sam.score(features.image_embed.clone(), prompts, shared);
                Scored::Sam { sam, scored }
            }
            Self::Sam2(sam2) => Scored::Sam2 {
                scored: sam2.score(features, prompts, shared).masks,
                sam2,
                features,
            },
        }
    }

    /// What prompts without a mask share, for [`score`](Self::score) of them: as much work as it spares
    /// three.
    pub fn image_tokens(&self, features: &ImageFeatures) -> ImageTokens {
        match self {
            Self::Sam(sam) => sam.image_tokens(features.image_embed.clone()),
            Self::Sam2(sam2) => sam2.image_tokens(features),
        }
    }
}

/// A batch of prompts with scores; see [`Model::score`].
#[derive(Debug)]
pub enum Scored<'a> {
    /// The masks are still to be decoded.
    Sam {
        /// By this model.
        sam: &'a Sam,
        /// From this.
        scored: ScoredPrompts,
    },
    /// The masks are still to be decoded, with the help of finer features.
    Sam2 {
        /// By this model.
        sam2: &'a Sam2,
        /// From this.
        scored: ScoredPrompts,
        /// And these.
        features: &'a ImageFeatures,
    },
}

impl Scored<'_> {
    /// Predicted IoU `[batch, tokens]`; see [`DecodedMasks::iou`].
    pub fn iou(&self) -> Tensor<2> {
        match self {
            Self::Sam { scored, .. } | Self::Sam2 { scored, .. } => scored.iou.clone(),
        }
    }

    /// Mask logits `[prompts, tokens, 4 · grid, 4 · grid]` and scores of the prompts at these positions
    /// of the batch.
    pub fn decode_masks(&self, prompts: &[usize]) -> DecodedMasks {
        match self {
            Self::Sam { sam, scored } => sam.decode_masks(scored, prompts),
            Self::Sam2 {
                sam2,
                scored,
                features,
            } => DecodedMasks {
                low_res_logits: sam2.decode_masks(scored, features, prompts),
                iou: select_rows(scored.iou.clone(), prompts),
            },
        }
    }
}
