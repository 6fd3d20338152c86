//! The mask decoder of `compact`.

use burn::module::{Module, Param};
use burn::nn::{Initializer, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::conv_block::ConvBlock;
use super::iou_head::IouHead;
use super::prompt_maps::{ALL_MAPS, PLAIN_MAPS, PromptMaps};
use super::{CompactConfig, DIM4, DIM8};
use crate::ImageFeatures;
use crate::ops::{self, Activation, LAYER_NORM_EPSILON};
use crate::sam::{DecodedMasks, TwoWayTransformer, TwoWayTransformerConfig};

/// Predicts masks from image features, prompt maps and prompt tokens.
#[derive(Module, Debug)]
pub struct MaskDecoder {
    /// `[1 + masks, dim]`: the IoU token, then the mask tokens.
    output_tokens: Param<Tensor<2>>,
    maps8: Linear,
    maps8_block: ConvBlock,
    maps8_to_cells: Linear,
    maps4: Linear,
    cells_block1: ConvBlock,
    transformer: TwoWayTransformer,
    cells_block2: ConvBlock,
    up8: Linear,
    up8_block: ConvBlock,
    up4: Linear,
    up4_block: ConvBlock,
    pixel_norm: LayerNorm,
    /// One per mask token.
    hyper1: Vec<Linear>,
    hyper2: Vec<Linear>,
    iou_head: IouHead,
}

impl MaskDecoder {
    pub(super) fn new(config: &CompactConfig, device: &Device) -> Self {
        let (dim, masks) = (config.embed_dim, config.num_mask_tokens);
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let normal = Initializer::Normal {
            mean: 0.0,
            std: 1.0,
        };
        let transformer = TwoWayTransformerConfig::new()
            .with_depth(config.depth)
            .with_embedding_dim(dim)
            .with_num_heads(config.num_heads)
            .with_mlp_dim(4 * dim);
        Self {
            output_tokens: normal.init([1 + masks, dim], device),
            maps8: linear(ALL_MAPS, DIM8),
            maps8_block: ConvBlock::new(DIM8, 5, DIM8 * 3 / 2, device),
            maps8_to_cells: linear(4 * DIM8, dim),
            maps4: linear(PLAIN_MAPS, DIM4),
            cells_block1: ConvBlock::new(dim, 7, 2 * dim, device),
            transformer: transformer.init(device),
            cells_block2: ConvBlock::new(dim, 7, 2 * dim, device),
            up8: linear(dim, 4 * DIM8),
            up8_block: ConvBlock::new(DIM8, 5, DIM8 * 3 / 2, device),
            up4: linear(DIM8, 4 * DIM4),
            up4_block: ConvBlock::new(DIM4, 3, DIM4, device),
            pixel_norm: LayerNormConfig::new(DIM4).init(device),
            hyper1: (0..masks).map(|_| linear(dim, dim)).collect(),
            hyper2: (0..masks).map(|_| linear(dim, DIM4)).collect(),
            iou_head: IouHead::new(dim, device),
        }
    }

    /// Decodes a batch of prompts on one image: prompt maps, prompt tokens
    /// `[batch, points, dim]`, and the positions of the cells `[1, cells, dim]`.
    pub(super) fn forward(
        &self,
        features: &ImageFeatures,
        maps: PromptMaps,
        tokens: Tensor<3>,
        pe: &Tensor<3>,
    ) -> DecodedMasks {
        let [_, grid, _, dim] = features.image_embed.dims();
        let batch = tokens.dims()[0];
        let side4 = 4 * grid;
        let f4 = &features.high_res_feats[1];
        let PromptMaps { stride8, stride4 } = maps;
        let (tokens, cells, m8) = self.begin(features, stride8, tokens);
        let (tokens, cells) = self.transformer.forward(cells, pe, &tokens, None);
        let cells = self
            .cells_block2
            .forward(cells.reshape([batch, grid, grid, dim]));

        let up = ops::linear(cells.clone(), &self.up8, Activation::Identity);
        let up = self.up8_block.forward(ops::add_squares(up, m8));
        let up = ops::linear(up, &self.up4, Activation::Identity);
        let flat4 = f4.clone().reshape([1, side4 * side4, DIM4]);
        let m4 = ops::linear_of_planes(stride4, &self.maps4, Activation::Identity, flat4);
        let m4 = m4.reshape([batch, side4, side4, DIM4]);
        let pixels = self.up4_block.forward(ops::add_squares(up, m4));
        let pixels = ops::layer_norm(pixels, &self.pixel_norm, LAYER_NORM_EPSILON);

        self.read_masks(&tokens, cells, pixels)
    }

    /// How the tokens (IoU, masks, prompt) look at the image; see
    /// [`TwoWayTransformer::token_attention`].
    pub(super) fn token_attention(
        &self,
        features: &ImageFeatures,
        maps: PromptMaps,
        tokens: Tensor<3>,
        pe: &Tensor<3>,
    ) -> Tensor<5> {
        let (tokens, cells, _) = self.begin(features, maps.stride8, tokens);
        self.transformer.token_attention(cells, pe, &tokens)
    }

    /// Tokens and image cells before the transformer, and the maps at stride 8 that the cells have
    /// seen, `[batch, 2g, 2g, DIM8]`.
    fn begin(
        &self,
        features: &ImageFeatures,
        stride8: Tensor<3>,
        tokens: Tensor<3>,
    ) -> (Tensor<3>, Tensor<3>, Tensor<4>) {
        let [_, grid, _, dim] = features.image_embed.dims();
        let batch = tokens.dims()[0];
        let (f8, side8) = (&features.high_res_feats[0], 2 * grid);
        let flat8 = f8.clone().reshape([1, side8 * side8, DIM8]);
        let m8 = ops::linear_of_planes(stride8, &self.maps8, Activation::Relu, flat8);
        let m8 = self
            .maps8_block
            .forward(m8.reshape([batch, side8, side8, DIM8]));
        let cells = features.image_embed.clone();
        let cells = ops::linear_of_squares(m8.clone(), &self.maps8_to_cells, cells);
        let cells = self.cells_block1.forward(cells);

        let own = self.output_tokens.val().unsqueeze::<3>();
        let tokens = Tensor::cat(vec![own.repeat_dim(0, batch), tokens], 1);
        let cells = cells.reshape([batch, grid * grid, dim]);
        (tokens, cells, m8)
    }

    /// Masks and scores from the transformed tokens, cells and pixels.
    fn read_masks(&self, tokens: &Tensor<3>, cells: Tensor<4>, pixels: Tensor<4>) -> DecodedMasks {
        let [batch, side, _, channels] = pixels.dims();
        let masks = self.hyper1.len();
        let token = |index: usize| tokens.clone().slice([0..batch, index..index + 1]);
        let layers = self.hyper1.iter().zip(&self.hyper2).enumerate();
        let hyper = layers.map(|(i, (layer1, layer2))| {
            let hidden = ops::linear(token(1 + i), layer1, Activation::Relu);
            ops::linear(hidden, layer2, Activation::Identity)
        });
        let hyper = Tensor::cat(hyper.collect(), 1);
        let flat = pixels.clone().reshape([batch, side * side, channels]);
        // Scaled so that logits begin around 0, whatever the width.
        let scale = (channels as f64).powf(-0.5);
        let logits = hyper.mul_scalar(scale).matmul(flat.swap_dims(1, 2));
        let logits = logits.reshape([batch, masks, side, side]);
        let mask_tokens = tokens.clone().slice([0..batch, 1..1 + masks]);
        let iou = self
            .iou_head
            .forward(token(0), mask_tokens, logits.clone(), cells, pixels);
        DecodedMasks {
            low_res_logits: logits,
            iou,
        }
    }
}
