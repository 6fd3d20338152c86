//! Segment Anything 2 and 2.1: the image encoder (a Hiera trunk with a feature pyramid), SAM's prompt
//! encoder, the mask decoder, and the memory of video: its encoder, and the attention to it.

mod hiera;
mod mask_decoder;
mod memory;
mod memory_attention;
mod memory_encoder;
mod neck;
mod position;
mod validate;

use std::ops::ControlFlow;

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::nn::conv::Conv2dConfig;
use burn::tensor::{Device, Tensor};

pub(crate) use hiera::STAGES;
pub use hiera::{Hiera, HieraConfig};
pub use mask_decoder::{JudgedObjects, MaskDecoder};
pub use memory::{ObjectPointer, SpatialMemory};
pub use memory_attention::{Memories, MemoryAttention, MemoryAttentionConfig};
pub use memory_encoder::{MemoryEncoder, MemoryEncoderConfig};
pub use neck::{FpnNeck, FpnNeckConfig};

use crate::ImageFeatures;
use crate::common::never;
use crate::ops::{Conv2d, Linear};
use crate::sam::{
    ImageTokens, MaskDecoderConfig, Mlp, MlpConfig, PromptBatch, PromptEncoder,
    PromptEncoderConfig, ScoredPrompts, TwoWayTransformerConfig,
};
use crate::token_attention::{DecoderToken, TokenAttention, sam2_tokens};

/// Pixels per cell of the image embedding.
const STRIDE: usize = 16;
/// Model pixels per value of the mask logits.
const LOGITS_STRIDE: usize = 4;
/// Logits that are handed out are limited to this, both ways (`sam2_image_predictor.py`).
pub const LOGITS_LIMIT: f32 = 32.0;
/// Which logits count as undecided when the single mask's stability is scored: ± this.
const STABILITY_DELTA: f32 = 0.05;
/// A single mask below this stability gives way to the best of the others.
const STABILITY_THRESHOLD: f64 = 0.98;

/// Configuration of [`Sam2`].
#[derive(Config, Debug)]
pub struct Sam2Config {
    /// The trunk of the image encoder.
    pub trunk: HieraConfig,
    /// The prompt encoder; its size of image and grid is the model's.
    pub prompt_encoder: PromptEncoderConfig,
    /// The mask decoder.
    pub mask_decoder: MaskDecoderConfig,
    /// How a frame looks at its memories.
    pub memory_attention: MemoryAttentionConfig,
    /// How a frame becomes a memory.
    pub memory_encoder: MemoryEncoderConfig,
    /// How many memories a frame looks at, with that of the prompted frame.
    #[config(default = 7)]
    pub num_maskmem: usize,
    /// Memories of frames without the object are marked (2.1).
    #[config(default = true)]
    pub no_obj_embed_spatial: bool,
    /// Object pointers say how old they are (2.1).
    #[config(default = true)]
    pub proj_tpos_enc_in_obj_ptrs: bool,
}

impl Sam2Config {
    /// SAM 2.1 with this trunk, in the released sizes.
    pub fn released(trunk: HieraConfig) -> Self {
        Self::new(
            trunk,
            PromptEncoderConfig::new(),
            MaskDecoderConfig::new(TwoWayTransformerConfig::new()),
            MemoryAttentionConfig::new(),
            MemoryEncoderConfig::new(),
        )
    }

    /// A short name of the architecture, such as `sam2.1-tiny`; other sizes are described.
    pub fn architecture(&self) -> String {
        let version = if self.no_obj_embed_spatial {
            "sam2.1"
        } else {
            "sam2"
        };
        match self.trunk.released_name() {
            Some(size) => format!("{version}-{size}"),
            None => format!(
                "{version} (width {}, {:?} blocks)",
                self.trunk.embed_dim, self.trunk.stages
            ),
        }
    }

    /// Shapes of [`ImageFeatures`], the embedding first.
    pub fn feature_shapes(&self) -> Vec<[usize; 4]> {
        let PromptEncoderConfig {
            grid, embed_dim, ..
        } = self.prompt_encoder;
        [(1, 1), (2, 4), (4, 8)]
            .map(|(finer, narrower)| [1, finer * grid, finer * grid, embed_dim / narrower])
            .to_vec()
    }

    /// A model with random weights.
    ///
    /// # Panics
    /// May panic on a configuration that [`validate`](Self::validate) refuses.
    pub fn init(&self, device: &Device) -> Sam2 {
        let (dim, memory_dim) = (self.prompt_encoder.embed_dim, self.memory_encoder.out_dim);
        let normal = Initializer::Normal {
            mean: 0.0,
            std: 0.02,
        };
        Sam2 {
            image_encoder: ImageEncoder {
                trunk: self.trunk.init(device),
                neck: FpnNeckConfig::new(self.trunk.channels())
                    .with_d_model(dim)
                    .init(device),
            },
            sam_prompt_encoder: self.prompt_encoder.init(device),
            sam_mask_decoder: MaskDecoder::new(&self.mask_decoder, device),
            memory_attention: self.memory_attention.init(device),
            memory_encoder: self.memory_encoder.init(device),
            maskmem_tpos_enc: normal.init([self.num_maskmem, 1, 1, memory_dim], device),
            no_mem_embed: normal.init([1, 1, dim], device),
            no_mem_pos_enc: normal.init([1, 1, dim], device),
            no_obj_ptr: normal.init([1, dim], device),
            no_obj_embed_spatial: self
                .no_obj_embed_spatial
                .then(|| normal.init([1, memory_dim], device)),
            mask_downsample: Conv2dConfig::new([1, 1], [LOGITS_STRIDE; 2])
                .with_stride([LOGITS_STRIDE; 2])
                .init(device)
                .into(),
            obj_ptr_proj: MlpConfig::new(dim, dim, dim, 3).init(device),
            obj_ptr_tpos_proj: self
                .proj_tpos_enc_in_obj_ptrs
                .then(|| Linear::new(dim, memory_dim, device)),
        }
    }
}

/// Images become features at three scales.
#[derive(Module, Debug)]
struct ImageEncoder {
    trunk: Hiera,
    neck: FpnNeck,
}

/// A promptable segmentation model of images and video.
#[derive(Module, Debug)]
pub struct Sam2 {
    image_encoder: ImageEncoder,
    sam_prompt_encoder: PromptEncoder,
    sam_mask_decoder: MaskDecoder,
    memory_attention: MemoryAttention,
    memory_encoder: MemoryEncoder,
    /// What tells memories of different age apart, `[num_maskmem, 1, 1, memory_dim]`.
    maskmem_tpos_enc: Param<Tensor<4>>,
    /// Stands for the memories of a frame that has none, `[1, 1, dim]`.
    no_mem_embed: Param<Tensor<3>>,
    /// Part of every checkpoint; no released configuration uses it.
    no_mem_pos_enc: Param<Tensor<3>>,
    /// The pointer of an object that is not in the frame, `[1, dim]`.
    no_obj_ptr: Param<Tensor<2>>,
    /// Added to the memory of a frame without the object, `[1, memory_dim]` (2.1).
    no_obj_embed_spatial: Option<Param<Tensor<2>>>,
    mask_downsample: Conv2d,
    obj_ptr_proj: Mlp,
    obj_ptr_tpos_proj: Option<Linear>,
}

impl Sam2 {
    /// Features of normalised pixels `[1, 3, side, side]`, as the decoder takes them for an image
    /// that has no memories.
    pub fn encode_image(&self, pixels: Tensor<4>) -> ImageFeatures {
        let ControlFlow::Continue(features) = self.try_encode_image(pixels, never);
        features
    }

    /// The same, which `between` hears of before every block, and can stop.
    pub fn try_encode_image<B>(
        &self,
        pixels: Tensor<4>,
        between: impl FnMut() -> ControlFlow<B>,
    ) -> ControlFlow<B, ImageFeatures> {
        let frame = self.try_encode_frame(pixels, between)?;
        ControlFlow::Continue(self.without_memory(&frame))
    }

    /// Features of a frame of a video, to be conditioned on memories, or not:
    /// [`without_memory`](Self::without_memory). `between` hears of it before every block, and can stop it.
    pub fn try_encode_frame<B>(
        &self,
        pixels: Tensor<4>,
        between: impl FnMut() -> ControlFlow<B>,
    ) -> ControlFlow<B, ImageFeatures> {
        let stages = self.image_encoder.trunk.try_forward(pixels, between)?;
        let neck = &self.image_encoder.neck;
        let levels = [1, 0].map(|stage| (stages[stage].clone(), neck.lateral(stage)));
        ControlFlow::Continue(ImageFeatures {
            image_embed: neck.image_embed(&stages),
            high_res_feats: self.sam_mask_decoder.high_res_features(levels).to_vec(),
        })
    }

    /// Features of a frame that looks at no memories: an image, or the first prompted frame.
    pub fn without_memory(&self, frame: &ImageFeatures) -> ImageFeatures {
        let none = self.no_mem_embed.val().unsqueeze::<4>();
        ImageFeatures {
            image_embed: frame.image_embed.clone() + none,
            high_res_feats: frame.high_res_feats.clone(),
        }
    }

    /// Scores of a batch of prompts. Other than in SAM, a box is two points, which come first, and a
    /// padding point always follows.
    /// `shared` is what [`image_tokens`](Self::image_tokens) gave for the same features.
    pub fn score(
        &self,
        features: &ImageFeatures,
        prompts: &PromptBatch,
        shared: Option<&ImageTokens>,
    ) -> JudgedObjects {
        let encoder = &self.sam_prompt_encoder;
        let embedded = encoder.forward(&prompts.clone().with_boxes_as_points());
        let shared = shared.filter(|_| prompts.masks.is_none()).cloned();
        let own = || encoder.image_tokens(features.image_embed.clone(), &embedded);
        let cells = shared.unwrap_or_else(own);
        self.sam_mask_decoder
            .score(&cells, &embedded, prompts.len())
    }

    /// What prompts without a mask share.
    pub fn image_tokens(&self, features: &ImageFeatures) -> ImageTokens {
        let encoder = &self.sam_prompt_encoder;
        let none = encoder.forward(&PromptBatch::default());
        let cells = encoder.image_tokens(features.image_embed.clone(), &none);
        self.sam_mask_decoder.project(cells)
    }

    /// How the decoder's tokens look at the image embedding.
    pub fn token_attention(
        &self,
        features: &ImageFeatures,
        prompts: &PromptBatch,
    ) -> TokenAttention {
        let encoder = &self.sam_prompt_encoder;
        let embedded = encoder.forward(&prompts.clone().with_boxes_as_points());
        let cells = encoder.image_tokens(features.image_embed.clone(), &embedded);
        let weights = self
            .sam_mask_decoder
            .token_attention(cells, &embedded, prompts.len());
        let own = [DecoderToken::ObjectScore, DecoderToken::Iou];
        TokenAttention::new(weights, &own, &sam2_tokens(prompts))
    }

    /// Masks of some prompts that were scored; see [`MaskDecoder::decode_masks`].
    pub fn decode_masks(
        &self,
        scored: &ScoredPrompts,
        features: &ImageFeatures,
        prompts: &[usize],
    ) -> Tensor<4> {
        let [stride8, stride4] = [0, 1].map(|i| features.high_res_feats[i].clone());
        self.sam_mask_decoder
            .decode_masks(scored, [stride8, stride4], prompts)
    }
}

/// Which mask token answers when one mask is asked for: the first one if its mask is stable, otherwise
/// the best scored of the others (`_dynamic_multimask_via_stability` of the official decoder).
/// `single` are the logits of the first token, `iou` the scores of all.
pub fn dynamic_multimask(single: &[f32], iou: &[f32]) -> usize {
    let above = |threshold: f32| single.iter().filter(|&&v| v > threshold).count();
    let (inner, outer) = (above(STABILITY_DELTA), above(-STABILITY_DELTA));
    let stable = outer == 0 || inner as f64 / outer as f64 >= STABILITY_THRESHOLD;
    if stable { 0 } else { best_of_many(iou) }
}

/// The best scored token of those for ambiguous prompts.
pub fn best_of_many(iou: &[f32]) -> usize {
    let score = |i: usize| {
        if iou[i].is_nan() {
            f32::NEG_INFINITY
        } else {
            iou[i]
        }
    };
    let later = (1..iou.len()).rev();
    later
        .max_by(|&a, &b| score(a).total_cmp(&score(b)))
        .unwrap_or(0)
}
