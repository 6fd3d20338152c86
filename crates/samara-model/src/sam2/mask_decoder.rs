//! SAM 2's mask decoder (`sam2/modeling/sam/mask_decoder.py`): that of SAM with finer features in the
//! upscaling, a sigmoid on the scores, and a token that says whether the object is there at all.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Device, Tensor, activation};

use crate::ops::{self, Activation};
use crate::sam::{
    JudgedPrompts, MaskDecoderConfig, Mlp, MlpConfig, OutputUpscaling, PromptEmbeddings,
    TwoWayTransformer,
};

/// A batch of prompts after the transformer, with the masks still to be drawn.
#[derive(Debug, Clone)]
pub struct JudgedObjects {
    /// Predicted IoU, from 0 to 1, and what the masks are drawn from.
    pub masks: JudgedPrompts,
    /// The mask tokens after the transformer, `[batch, tokens, dim]`: one of them becomes the object's
    /// pointer in memory.
    pub mask_tokens: Tensor<3>,
    /// Logits of the object being in the picture, `[batch, 1]`.
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

    /// What the upscaling adds: the pyramid's levels at strides 8 and 4, `[1, height, width, dim]`,
    /// with a quarter and an eighth of the channels. Computed once for an image.
    pub fn high_res_features(&self, [stride8, stride4]: [Tensor<4>; 2]) -> [Tensor<4>; 2] {
        let narrow = |x, conv: &Conv2d| {
            let bias = conv.bias.as_ref().map(Param::val);
            ops::conv2d(x, conv.weight.val(), bias, [1, 0], Activation::Identity)
        };
        [
            narrow(stride8, &self.conv_s1),
            narrow(stride4, &self.conv_s0),
        ]
    }

    /// Decodes a batch of prompts on one image: all but the masks. `image_embedding` is
    /// `[1, grid, grid, dim]`, `image_pe` `[1, grid², dim]`.
    pub fn judge(
        &self,
        image_embedding: Tensor<4>,
        image_pe: &Tensor<3>,
        prompts: PromptEmbeddings,
        batch: usize,
    ) -> JudgedObjects {
        let [_, height, width, _] = image_embedding.dims();
        let (tokens, cells) = self.begin(image_embedding, prompts, batch);
        let (tokens, cells) = self.transformer.forward(cells, image_pe, &tokens);

        let token = |index: usize| tokens.clone().narrow(1, index, 1);
        let hyper = self.output_hypernetworks_mlps.iter().enumerate();
        let hyper: Vec<Tensor<3>> = hyper.map(|(i, mlp)| mlp.forward(token(2 + i))).collect();
        let mask_tokens = tokens.clone().narrow(1, 2, hyper.len());
        let iou = self.iou_prediction_head.forward(token(1)).squeeze_dim(1);
        JudgedObjects {
            masks: JudgedPrompts {
                iou: activation::sigmoid(iou),
                summary: None,
                cells,
                grid: [height, width],
                hyper: Tensor::cat(hyper, 1),
            },
            mask_tokens,
            object_score: self.pred_obj_score_head.forward(token(0)).squeeze_dim(1),
        }
    }

    /// How the tokens (object score, IoU, masks, prompt) look at the image; see
    /// [`TwoWayTransformer::token_attention`].
    pub fn token_attention(
        &self,
        image_embedding: Tensor<4>,
        image_pe: &Tensor<3>,
        prompts: PromptEmbeddings,
        batch: usize,
    ) -> Tensor<5> {
        let (tokens, cells) = self.begin(image_embedding, prompts, batch);
        self.transformer.token_attention(cells, image_pe, &tokens)
    }

    /// Tokens and image cells before the transformer.
    fn begin(
        &self,
        image_embedding: Tensor<4>,
        prompts: PromptEmbeddings,
        batch: usize,
    ) -> (Tensor<3>, Tensor<3>) {
        let own = [&self.obj_score_token, &self.iou_token, &self.mask_tokens];
        let own = own.map(|token| token.weight.val()).to_vec();
        prompts.join(own, image_embedding, batch)
    }

    /// The masks of the prompts at these positions of the batch: logits
    /// `[prompts, tokens, 4 · grid, 4 · grid]`. `high_res` is what
    /// [`high_res_features`](Self::high_res_features) gave.
    pub fn draw(
        &self,
        judged: &JudgedPrompts,
        high_res: [Tensor<4>; 2],
        prompts: &[usize],
    ) -> Tensor<4> {
        let (cells, hyper) = (judged.cells.clone(), judged.hyper.clone());
        self.output_upscaling
            .forward(cells, judged.grid, hyper, prompts, Some(high_res))
    }
}
