//! SAM 2's mask decoder (`sam2/modeling/sam/mask_decoder.py`): that of SAM with finer features in the
//! upscaling, a sigmoid on the scores, and a token that says whether the object is there at all.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Device, Tensor, activation};

use crate::ops::{self, Activation, Convolution};
use crate::sam::{
    ImageTokens, MaskDecoderConfig, Mlp, MlpConfig, OutputUpscaling, PromptEmbeddings,
    ScoredPrompts, TwoWayTransformer,
};

/// A batch of prompts after the transformer, with the masks still to be decoded.
#[derive(Debug, Clone)]
pub struct JudgedObjects {
    /// Predicted IoU, from 0 to 1, and what the masks are decoded from.
    pub masks: ScoredPrompts,
    /// The mask tokens after the transformer, `[batch, tokens, dim]`: one of them becomes the object's
    /// pointer in memory.
    pub mask_tokens: Tensor<3>,
    /// Logits of the object being in the image, `[batch, 1]`.
    pub object_score: Tensor<2>,
}

/// Predicts masks from an image embedding, finer features and embedded prompts.
#[derive(Module, Debug)]
pub struct MaskDecoder {
    transformer: TwoWayTransformer,
    iou_token: Embedding,
    mask_tokens: Embedding,
    obj_score_token: Embedding,
    output_upscaling: OutputUpscaling,
    conv_s0: Conv2d,
    conv_s1: Conv2d,
    output_hypernetworks_mlps: Vec<Mlp>,
    iou_prediction_head: Mlp,
    pred_obj_score_head: Mlp,
}

impl MaskDecoder {
    /// A decoder with random weights.
    pub fn new(config: &MaskDecoderConfig, device: &Device) -> Self {
        let dim = config.transformer.embedding_dim;
        let tokens = config.num_mask_tokens;
        let token = |count| EmbeddingConfig::new(count, dim).init(device);
        let mlp = |hidden, out, depth| MlpConfig::new(dim, hidden, out, depth).init(device);
        let conv = |out| Conv2dConfig::new([dim, out], [1, 1]).init(device);
        Self {
            transformer: config.transformer.init(device),
            iou_token: token(1),
            mask_tokens: token(tokens),
            obj_score_token: token(1),
            output_upscaling: OutputUpscaling::new(dim, device),
            conv_s0: conv(dim / 8),
            conv_s1: conv(dim / 4),
            output_hypernetworks_mlps: (0..tokens).map(|_| mlp(dim, dim / 8, 3)).collect(),
            iou_prediction_head: mlp(config.iou_head_hidden_dim, tokens, config.iou_head_depth),
            pred_obj_score_head: mlp(dim, 1, 3),
        }
    }

    /// What the upscaling adds: the pyramid's levels at strides 8 and 4 with a quarter and an eighth of
    /// its channels. Computed once for an image, from the trunk's stages at these strides,
    /// `[1, height, width, channels]`, and the convolutions that make levels of them: two linear maps
    /// in a row are one, and nobody else looks at the pyramid's 256 channels there.
    pub fn high_res_features(&self, [s8, s4]: [(Tensor<4>, Convolution); 2]) -> [Tensor<4>; 2] {
        [narrow(s8, &self.conv_s1), narrow(s4, &self.conv_s0)]
    }

    /// Decodes a batch of prompts on one image: all but the masks.
    pub fn score(
        &self,
        cells: &ImageTokens,
        prompts: &PromptEmbeddings,
        batch: usize,
    ) -> JudgedObjects {
        let grid = cells.grid;
        let (tokens, cells) = self.transformer.forward(
            cells.values.clone(),
            &cells.position,
            &self.tokens(prompts, batch),
            cells.projected.as_deref(),
        );

        let token = |index: usize| tokens.clone().narrow(1, index, 1);
        let hyper = self.output_hypernetworks_mlps.iter().enumerate();
        let hyper: Vec<Tensor<3>> = hyper.map(|(i, mlp)| mlp.forward(token(2 + i))).collect();
        let mask_tokens = tokens.clone().narrow(1, 2, hyper.len());
        let iou = self.iou_prediction_head.forward(token(1)).squeeze_dim(1);
        JudgedObjects {
            masks: ScoredPrompts {
                iou: activation::sigmoid(iou),
                cells,
                grid,
                hyper: Tensor::cat(hyper, 1),
            },
            mask_tokens,
            object_score: self.pred_obj_score_head.forward(token(0)).squeeze_dim(1),
        }
    }

    /// The same cells with what the first layer makes of them for all prompts: as much work as it spares
    /// three.
    pub fn project(&self, cells: ImageTokens) -> ImageTokens {
        cells.projected(&self.transformer)
    }

    /// How the tokens (object score, IoU, masks, prompt) look at the image; see
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
        let own = [&self.obj_score_token, &self.iou_token, &self.mask_tokens];
        let own = own.map(|token| token.weight.val()).to_vec();
        prompts.tokens(own, batch)
    }

    /// The masks of the prompts at these positions of the batch: logits
    /// `[prompts, tokens, 4 · grid, 4 · grid]`. `high_res` is what
    /// [`high_res_features`](Self::high_res_features) gave.
    pub fn decode_masks(
        &self,
        scored: &ScoredPrompts,
        high_res: [Tensor<4>; 2],
        prompts: &[usize],
    ) -> Tensor<4> {
        let (cells, hyper) = (scored.cells.clone(), scored.hyper.clone());
        let features = (Some(high_res), self.transformer.precision());
        self.output_upscaling
            .forward(cells, scored.grid, hyper, prompts, features)
    }
}

/// `conv` after a `lateral` convolution, both 1×1.
fn narrow((x, lateral): (Tensor<4>, Convolution), conv: &Conv2d) -> Tensor<4> {
    let (weight, bias) = lateral;
    let ([middle, inputs, ..], [outputs, ..]) = (weight.dims(), conv.weight.dims());
    let second = conv.weight.val().reshape([outputs, middle]);
    let weight = second.clone().matmul(weight.reshape([middle, inputs]));
    let bias = second.matmul(bias.reshape([middle, 1])).reshape([outputs]);
    let bias = match &conv.bias {
        Some(own) => bias + own.val(),
        None => bias,
    };
    let narrow = (weight.reshape([outputs, inputs, 1, 1]), bias).into();
    ops::conv2d(x, &narrow, [1, 0], Activation::Identity)
}
