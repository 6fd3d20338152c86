//! Segment Anything (SAM 1): ViT-B, ViT-L, ViT-H, and every model with its graph (MedSAM,
//! MobileSAM with another image encoder).

mod image_encoder;
mod image_tokens;
mod mask_decoder;
mod neck;
mod prompt_encoder;
mod transformer;
mod validate;

use std::ops::ControlFlow;

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

pub use image_encoder::{ImageEncoderViT, ImageEncoderViTConfig};
pub use image_tokens::ImageTokens;
pub use mask_decoder::{DecodedMasks, MaskDecoder, MaskDecoderConfig, ScoredPrompts};
pub(crate) use mask_decoder::{Mlp, MlpConfig, OutputUpscaling};
pub use neck::{Neck, NeckConfig};
pub use prompt_encoder::{PromptBatch, PromptEmbeddings, PromptEncoder, PromptEncoderConfig};
pub use transformer::{TwoWayTransformer, TwoWayTransformerConfig};
pub(crate) use validate::{validate_mask_decoder, validate_prompt_encoder};

use crate::common::never;
use crate::mobile_sam::{TinyViT, TinyViTConfig};
use crate::token_attention::{DecoderToken, TokenAttention, sam_tokens};

/// Mean of the training pixels per channel (RGB, 0..255).
pub const PIXEL_MEAN: [f32; 3] = [123.675, 116.28, 103.53];
/// Standard deviation of the training pixels per channel (RGB, 0..255).
pub const PIXEL_STD: [f32; 3] = [58.395, 57.12, 57.375];

/// Which image encoder a model has.
#[derive(Config, Debug)]
pub enum ImageEncoderConfig {
    /// The ViT of SAM.
    ViT(ImageEncoderViTConfig),
    /// The TinyViT of MobileSAM.
    TinyViT(TinyViTConfig),
}

/// Configuration of [`Sam`].
#[derive(Config, Debug)]
pub struct SamConfig {
    /// The image encoder.
    pub image_encoder: ImageEncoderConfig,
    /// The prompt encoder.
    pub prompt_encoder: PromptEncoderConfig,
    /// The mask decoder.
    pub mask_decoder: MaskDecoderConfig,
}

impl SamConfig {
    /// SAM with the ViT-B encoder.
    pub fn vit_b() -> Self {
        Self::with_encoder(ImageEncoderConfig::ViT(ImageEncoderViTConfig::vit_b()))
    }

    /// SAM with the ViT-L encoder.
    pub fn vit_l() -> Self {
        Self::with_encoder(ImageEncoderConfig::ViT(ImageEncoderViTConfig::vit_l()))
    }

    /// SAM with the ViT-H encoder.
    pub fn vit_h() -> Self {
        Self::with_encoder(ImageEncoderConfig::ViT(ImageEncoderViTConfig::vit_h()))
    }

    /// MobileSAM.
    pub fn mobile_sam() -> Self {
        Self::with_encoder(ImageEncoderConfig::TinyViT(TinyViTConfig::mobile_sam()))
    }

    fn with_encoder(image_encoder: ImageEncoderConfig) -> Self {
        let decoder = MaskDecoderConfig::new(TwoWayTransformerConfig::new());
        Self::new(image_encoder, PromptEncoderConfig::new(), decoder)
    }

    /// A short name of the architecture, such as `sam-vit-b`; other sizes are described.
    pub fn architecture(&self) -> String {
        match &self.image_encoder {
            ImageEncoderConfig::ViT(vit) => match (vit.embed_dim, vit.windows.len()) {
                (768, 12) => "sam-vit-b".into(),
                (1024, 24) => "sam-vit-l".into(),
                (1280, 32) => "sam-vit-h".into(),
                (width, depth) => format!("sam-vit (width {width}, {depth} blocks)"),
            },
            ImageEncoderConfig::TinyViT(tiny) if tiny.is_mobile_sam() => "mobile-sam".into(),
            ImageEncoderConfig::TinyViT(tiny) => {
                format!("sam-tinyvit (widths {:?})", tiny.embed_dims)
            }
        }
    }

    /// A model with random weights.
    ///
    /// # Panics
    /// May panic on a configuration that [`validate`](Self::validate) refuses.
    pub fn init(&self, device: &Device) -> Sam {
        Sam {
            image_encoder: match &self.image_encoder {
                ImageEncoderConfig::ViT(config) => ImageEncoder::ViT(config.init(device)),
                ImageEncoderConfig::TinyViT(config) => ImageEncoder::TinyViT(config.init(device)),
            },
            prompt_encoder: self.prompt_encoder.init(device),
            mask_decoder: self.mask_decoder.init(device),
        }
    }
}

/// The image encoder of a [`Sam`].
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one encoder per model")]
pub enum ImageEncoder {
    /// The ViT of SAM.
    ViT(ImageEncoderViT),
    /// The TinyViT of MobileSAM.
    TinyViT(TinyViT),
}

impl ImageEncoder {
    /// Normalised and padded pixels `[batch, 3, side, side]` → `[batch, grid, grid, dim]`.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        let ControlFlow::Continue(embedding) = self.try_forward(pixels, never);
        embedding
    }

    /// The same, which `between` hears of before every block, and can stop.
    pub fn try_forward<B>(
        &self,
        pixels: Tensor<4>,
        between: impl FnMut() -> ControlFlow<B>,
    ) -> ControlFlow<B, Tensor<4>> {
        match self {
            Self::ViT(encoder) => encoder.try_forward(pixels, between),
            Self::TinyViT(encoder) => encoder.try_forward(pixels, between),
        }
    }
}

/// A promptable segmentation model.
#[derive(Module, Debug)]
pub struct Sam {
    image_encoder: ImageEncoder,
    prompt_encoder: PromptEncoder,
    mask_decoder: MaskDecoder,
}

impl Sam {
    /// The image encoder.
    pub fn image_encoder(&self) -> &ImageEncoder {
        &self.image_encoder
    }

    /// Image embedding `[batch, 64, 64, 256]` of normalised and padded pixels
    /// `[batch, 3, 1024, 1024]`. Its channels come last, other than in the official code.
    pub fn encode_image(&self, pixels: Tensor<4>) -> Tensor<4> {
        self.image_encoder.forward(pixels)
    }

    /// Embeds prompts; see [`PromptEncoder::forward`].
    pub fn encode_prompts(&self, prompts: &PromptBatch) -> PromptEmbeddings {
        self.prompt_encoder.forward(prompts)
    }

    /// Positional encoding of the image embedding's cells, `[1, 64 · 64, 256]`.
    pub fn image_pe(&self) -> Tensor<3> {
        self.prompt_encoder.dense_pe()
    }

    /// Answers of all mask tokens to a batch of prompts on one image embedding
    /// `[1, 64, 64, 256]`.
    pub fn decode(&self, image_embedding: Tensor<4>, prompts: &PromptBatch) -> DecodedMasks {
        let scored = self.score(image_embedding, prompts, None);
        let all: Vec<usize> = (0..prompts.len()).collect();
        self.decode_masks(&scored, &all)
    }

    /// As [`decode`](Self::decode), with the masks left to be decoded. `shared` is what
    /// [`image_tokens`](Self::image_tokens) gave for the same image.
    pub fn score(
        &self,
        image_embedding: Tensor<4>,
        prompts: &PromptBatch,
        shared: Option<&ImageTokens>,
    ) -> ScoredPrompts {
        let embedded = self.encode_prompts(prompts);
        let shared = shared.filter(|_| prompts.masks.is_none()).cloned();
        let own = || self.prompt_encoder.image_tokens(image_embedding, &embedded);
        let cells = shared.unwrap_or_else(own);
        self.mask_decoder.score(&cells, &embedded, prompts.len())
    }

    /// What prompts without a mask share.
    pub fn image_tokens(&self, image_embedding: Tensor<4>) -> ImageTokens {
        let none = self.encode_prompts(&PromptBatch::default());
        let cells = self.prompt_encoder.image_tokens(image_embedding, &none);
        self.mask_decoder.project(cells)
    }

    /// How the decoder's tokens look at the image embedding `[1, 64, 64, 256]`.
    pub fn token_attention(
        &self,
        image_embedding: Tensor<4>,
        prompts: &PromptBatch,
    ) -> TokenAttention {
        let embedded = self.encode_prompts(prompts);
        let cells = self.prompt_encoder.image_tokens(image_embedding, &embedded);
        let weights = self
            .mask_decoder
            .token_attention(cells, &embedded, prompts.len());
        TokenAttention::new(weights, &[DecoderToken::Iou], &sam_tokens(prompts))
    }

    /// Masks of some prompts that were scored; see [`MaskDecoder::decode_masks`].
    pub fn decode_masks(&self, scored: &ScoredPrompts, prompts: &[usize]) -> DecodedMasks {
        self.mask_decoder.decode_masks(scored, prompts)
    }
}
