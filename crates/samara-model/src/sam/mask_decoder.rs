//! SAM's mask decoder: four mask tokens, their hyper-networks and the IoU head
//! (`segment_anything/modeling/mask_decoder.py`).

use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::{ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Device, Tensor};

use super::image_tokens::ImageTokens;
use super::prompt_encoder::PromptEmbeddings;
use super::transformer::{TwoWayTransformer, TwoWayTransformerConfig};
use crate::common::LayerNorm2d;
use crate::ops::{self, Activation, Linear, Precision, Upscaling};

/// Configuration of [`MaskDecoder`].
#[derive(Config, Debug)]
pub struct MaskDecoderConfig {
    /// The transformer; its width is the decoder's.
    pub transformer: TwoWayTransformerConfig,
    /// Number of mask tokens: one for the single mask, the others for the candidates.
    #[config(default = 4)]
    pub num_mask_tokens: usize,
    /// Layers of the IoU head.
    #[config(default = 3)]
    pub iou_head_depth: usize,
    /// Hidden width of the IoU head.
    #[config(default = 256)]
    pub iou_head_hidden_dim: usize,
}

impl MaskDecoderConfig {
    /// A decoder with random weights.
    pub fn init(&self, device: &Device) -> MaskDecoder {
        let dim = self.transformer.embedding_dim;
        let hyper = MlpConfig::new(dim, dim, dim / 8, 3);
        let iou = MlpConfig::new(
            dim,
            self.iou_head_hidden_dim,
            self.num_mask_tokens,
            self.iou_head_depth,
        );
        MaskDecoder {
            transformer: self.transformer.init(device),
            iou_token: EmbeddingConfig::new(1, dim).init(device),
            mask_tokens: EmbeddingConfig::new(self.num_mask_tokens, dim).init(device),
            output_upscaling: OutputUpscaling::new(dim, device),
            output_hypernetworks_mlps: (0..self.num_mask_tokens)
                .map(|_| hyper.init(device))
                .collect(),
            iou_prediction_head: iou.init(device),
        }
    }
}

/// Every mask token's answer to a batch of prompts.
#[derive(Debug, Clone)]
pub struct DecodedMasks {
    /// Mask logits `[batch, tokens, 4 · grid, 4 · grid]`: token 0 is the single mask, tokens 1 to
    /// 3 are the candidates of an ambiguous prompt.
    pub low_res_logits: Tensor<4>,
    /// Predicted IoU `[batch, tokens]`, as the head gives it (SAM 1 has no sigmoid there, so a
    /// score can exceed 1).
    pub iou: Tensor<2>,
}

/// Predicts masks from an image embedding and embedded prompts.
#[derive(Module, Debug)]
pub struct MaskDecoder {
    transformer: TwoWayTransformer,
    iou_token: Embedding,
    mask_tokens: Embedding,
    output_upscaling: OutputUpscaling,
    output_hypernetworks_mlps: Vec<Mlp>,
    iou_prediction_head: Mlp,
}

/// Prompts after the transformer: the scores are there, the masks are still to be decoded. Drawing
/// them is a third of the work, and in vain for those that a caller drops for their scores.
#[derive(Debug, Clone)]
pub struct ScoredPrompts {
    /// Predicted IoU `[batch, tokens]`; see [`DecodedMasks::iou`].
    pub iou: Tensor<2>,
    /// The image cells that the masks are decoded from, `[batch, grid², dim]`.
    pub(crate) cells: Tensor<3>,
    /// Height and width of the grid.
    pub(crate) grid: [usize; 2],
    /// Outputs of the hyper-networks, `[batch, tokens, dim / 8]`.
    pub(crate) hyper: Tensor<3>,
}

impl MaskDecoder {
    /// Decodes a batch of `prompts` on one image as far as the tokens' scores; [`draw`](Self::decode_masks) makes
    /// masks of it. Answers for all mask tokens; which of them to show is the caller's choice.
    pub fn score(
        &self,
        cells: &ImageTokens,
        prompts: &PromptEmbeddings,
        batch: usize,
    ) -> ScoredPrompts {
        let grid = cells.grid;
        let (tokens, cells) = self.transformer.forward(
            cells.values.clone(),
            &cells.position,
            &self.tokens(prompts, batch),
            cells.projected.as_deref(),
        );

        let token = |index: usize| tokens.clone().slice([0..batch, index..index + 1]);
        let hyper = self.output_hypernetworks_mlps.iter().enumerate();
        let hyper = Tensor::cat(hyper.map(|(i, mlp)| mlp.forward(token(1 + i))).collect(), 1);
        let iou = self.iou_prediction_head.forward(token(0));
        ScoredPrompts {
            iou: iou.squeeze_dim(1),
            cells,
            grid,
            hyper,
        }
    }

    /// The same cells with what the first layer makes of them for all prompts: as much work as it spares
    /// three.
    pub fn project(&self, cells: ImageTokens) -> ImageTokens {
        cells.projected(&self.transformer)
    }

    /// How the tokens (IoU, masks, prompt) look at the image; see
    /// [`TwoWayTransformer::token_attention`].
    pub fn token_attention(
        &self,
        cells: ImageTokens,
        prompts: &PromptEmbeddings,
        batch: usize,
    ) -> Tensor<5> {
        let tokens = self.tokens(prompts, batch);
        self.transformer
            .token_attention(cells.values, &cells.position, &tokens)
    }

    /// The tokens before the transformer.
    fn tokens(&self, prompts: &PromptEmbeddings, batch: usize) -> Tensor<3> {
        let own = vec![self.iou_token.weight.val(), self.mask_tokens.weight.val()];
        prompts.tokens(own, batch)
    }

    /// The masks of the prompts at these positions of the batch, with their scores.
    pub fn decode_masks(&self, scored: &ScoredPrompts, prompts: &[usize]) -> DecodedMasks {
        let (cells, hyper) = (scored.cells.clone(), scored.hyper.clone());
        let upscaling = &self.output_upscaling;
        let precision = self.transformer.precision();
        let low_res_logits =
            upscaling.forward(cells, scored.grid, hyper, prompts, (None, precision));
        DecodedMasks {
            low_res_logits,
            iou: ops::select_rows(scored.iou.clone(), prompts),
        }
    }
}

/// Upscales the image cells four times by two transposed convolutions.
#[derive(Module, Debug)]
pub(crate) struct OutputUpscaling {
    conv1: ConvTranspose2d,
    norm: LayerNorm2d,
    conv2: ConvTranspose2d,
}

impl OutputUpscaling {
    pub(crate) fn new(dim: usize, device: &Device) -> Self {
        let doubling = |channels| {
            ConvTranspose2dConfig::new(channels, [2, 2])
                .with_stride([2, 2])
                .init(device)
        };
        Self {
            conv1: doubling([dim, dim / 4]),
            norm: LayerNorm2d::new(dim / 4, device),
            conv2: doubling([dim / 4, dim / 8]),
        }
    }

    /// Logits `[prompts, masks, 4 · grid, 4 · grid]` of the cells `[batch, grid², dim]`, given the
    /// hyper-networks' `[batch, masks, dim / 8]`, for some `prompts` of the batch; `features` as
    /// [`Upscaling`] has them.
    pub(crate) fn forward(
        &self,
        cells: Tensor<3>,
        grid: [usize; 2],
        hyper: Tensor<3>,
        prompts: &[usize],
        (features, precision): (Option<[Tensor<4>; 2]>, Precision),
    ) -> Tensor<4> {
        let layers = Upscaling {
            first: &self.conv1,
            norm: &self.norm,
            second: &self.conv2,
            features,
            precision,
        };
        ops::upscale_masks(cells, grid, &layers, hyper, prompts)
    }
}

/// Configuration of [`Mlp`].
#[derive(Config, Debug)]
pub(crate) struct MlpConfig {
    input_dim: usize,
    hidden_dim: usize,
    output_dim: usize,
    num_layers: usize,
}

impl MlpConfig {
    pub(crate) fn init(&self, device: &Device) -> Mlp {
        let width = |layer| match layer {
            0 => self.input_dim,
            n if n == self.num_layers => self.output_dim,
            _ => self.hidden_dim,
        };
        let layer = |i| Linear::new(width(i), width(i + 1), device);
        Mlp {
            layers: (0..self.num_layers).map(layer).collect(),
        }
    }
}

/// Linear layers with ReLU between them.
#[derive(Module, Debug)]
pub(crate) struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    /// `[.., input_dim]` → `[.., output_dim]`.
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let last = self.layers.len() - 1;
        self.layers.iter().enumerate().fold(x, |x, (i, layer)| {
            let activation = if i < last {
                Activation::Relu
            } else {
                Activation::Identity
            };
            ops::linear(x, layer, activation)
        })
    }
}
