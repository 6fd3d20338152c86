//! What SAM 2 remembers of an object, and how a frame is seen in its light
//! (`_prepare_memory_conditioned_features` and `_encode_new_memory` of `sam2/modeling/sam2_base.py`).

use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Tensor, TensorData, activation};
use half::bf16;

use super::position::{sine_grid, sine_line};
use super::{LOGITS_STRIDE, Memories, Sam2};
use crate::ImageFeatures;
use crate::ops::{self, Activation};

/// Share of the mask in its memory: inside is +10, outside −10.
const MASK_SCALE: f64 = 20.0;
const MASK_BIAS: f64 = -10.0;

/// The memory of an object in one frame.
#[derive(Debug, Clone, Copy)]
pub struct SpatialMemory<'a> {
    /// Features of the grid's cells, `grid² · memory_dim` values. The official code also keeps them in
    /// this precision.
    pub features: &'a [bf16],
    /// How many frames ago it was; `None` for a frame with a prompt, whose age does not matter.
    pub age: Option<usize>,
}

/// A pointer to an object in another frame.
#[derive(Debug, Clone, Copy)]
pub struct ObjectPointer<'a> {
    /// What [`Sam2::object_pointer`] gave, `dim` values.
    pub values: &'a [f32],
    /// How far away that frame is, as a share of the farthest; negative if it is still to come.
    pub distance: f32,
}

impl Sam2 {
    /// How many memories a frame looks at, with that of the prompted frame.
    pub fn num_maskmem(&self) -> usize {
        self.maskmem_tpos_enc.dims()[0]
    }

    /// Memories as a frame looks at them; at least one.
    pub fn memories(
        &self,
        spatial: &[SpatialMemory<'_>],
        pointers: &[ObjectPointer<'_>],
    ) -> Memories {
        let ages = self.maskmem_tpos_enc.val();
        let device = ages.device();
        let [num_maskmem, _, _, width] = ages.dims();
        let cells: usize = spatial
            .first()
            .map_or(0, |memory| memory.features.len() / width);
        let place = sine_grid(cells.isqrt(), width, &device);
        let mut values: Vec<f32> = Vec::new();
        let mut positions = Vec::new();
        for memory in spatial {
            values.extend(memory.features.iter().map(|v| v.to_f32()));
            let row = memory.age.unwrap_or(num_maskmem) - 1;
            let age = ages.clone().narrow(0, row, 1).reshape([1, 1, width]);
            positions.push(place.clone() + age);
        }
        values.extend(pointers.iter().flat_map(|pointer| pointer.values));
        let tokens = values.len() / width;
        if !pointers.is_empty() {
            positions.push(self.pointer_positions(pointers, width));
        }
        Memories {
            tokens: Tensor::from_data(TensorData::new(values, [1, tokens, width]), &device),
            positions: Tensor::cat(positions, 1),
            pointers: tokens - spatial.len() * cells,
        }
    }

    /// A pointer is cut into tokens of a memory's width, which share one position: that in time.
    fn pointer_positions(&self, pointers: &[ObjectPointer<'_>], width: usize) -> Tensor<3> {
        let no_pointer = self.no_obj_ptr.val();
        let (dim, device) = (no_pointer.dims()[1], no_pointer.device());
        let (count, pieces) = (pointers.len(), dim / width);
        let Some(projection) = &self.obj_ptr_tpos_proj else {
            return Tensor::zeros([1, count * pieces, width], &device);
        };
        let distances: Vec<f32> = pointers.iter().map(|pointer| pointer.distance).collect();
        let position = sine_line(&distances, dim, &device);
        let position = ops::linear(position, projection, Activation::Identity);
        let position = position.reshape([count, 1, width]);
        position
            .repeat_dim(1, pieces)
            .reshape([1, count * pieces, width])
    }

    /// Features of a frame in the light of memories.
    pub fn with_memories(&self, frame: &ImageFeatures, memories: &Memories) -> ImageFeatures {
        let [_, height, width, dim] = frame.image_embed.dims();
        let cells = frame.image_embed.clone();
        let cells = cells.reshape([1, height * width, dim]);
        let position = sine_grid(height, dim, &cells.device());
        let seen = self.memory_attention.forward(cells, position, memories);
        ImageFeatures {
            image_embed: seen.reshape([1, height, width, dim]),
            high_res_feats: frame.high_res_feats.clone(),
        }
    }

    /// The memory `[1, grid², memory_dim]` of a frame and an object's mask in it: logits
    /// `[1, 1, 4 · grid, 4 · grid]`. `prompted` masks are taken for certain, and count as they are
    /// inside or outside; `present` tells whether the object is in the frame.
    pub fn encode_memory(
        &self,
        frame: &ImageFeatures,
        logits: Tensor<4>,
        prompted: bool,
        present: bool,
    ) -> Tensor<3> {
        let side = LOGITS_STRIDE * logits.dims()[2];
        let bilinear = InterpolateOptions::new(InterpolateMode::Bilinear).with_align_corners(false);
        let logits = interpolate(logits, bilinear.with_output_size([side, side]));
        let mask = if prompted {
            logits.greater_scalar(0.0).float()
        } else {
            activation::sigmoid(logits)
        };
        let mask = mask.permute([0, 2, 3, 1]) * MASK_SCALE + MASK_BIAS;
        let memory = self.memory_encoder.forward(frame.image_embed.clone(), mask);
        let [_, height, width, dim] = memory.dims();
        let memory = memory.reshape([1, height * width, dim]);
        match &self.no_obj_embed_spatial {
            Some(absent) if !present => memory + absent.val().unsqueeze::<3>(),
            _ => memory,
        }
    }

    /// The pointer `[1, dim]` that a mask token `[1, 1, dim]` becomes.
    pub fn object_pointer(&self, token: Tensor<3>, present: bool) -> Tensor<2> {
        if present {
            self.obj_ptr_proj.forward(token).squeeze_dim(1)
        } else {
            self.no_obj_ptr.val()
        }
    }

    /// A mask `[1, 1, side, side]` of zeros and ones in model pixels as the decoder takes it for a
    /// prompt, `[1, 1, 4 · grid, 4 · grid]`, to find the pointer of an object whose mask is known.
    pub fn mask_prompt(&self, mask: Tensor<4>) -> Tensor<4> {
        let mask = mask.permute([0, 2, 3, 1]);
        let window = [LOGITS_STRIDE, 0];
        let prompt = ops::conv2d(mask, &self.mask_downsample, window, Activation::Identity);
        prompt.permute([0, 3, 1, 2])
    }
}
