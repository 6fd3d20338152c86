//! An object that SAM 2 follows by its memory (`sam2/sam2_video_predictor.py`).

use samara_image::{Mask, Region, Rgb, RgbImage, remove_small_regions, resize_bilinear_f32};
use samara_model::ImageFeatures;
use samara_model::burn::tensor::{Tensor, TensorData};
use samara_model::sam::PromptBatch;
use samara_model::sam2::{Sam2, best_of_many, dynamic_multimask};

use super::bank::{MemoryBank, Output};
use super::{Direction, VideoFrame, VideoOptions};
use crate::embedding::read;
use crate::prompt::{MaskPrompt, Prompt};
use crate::{Logits, ModelPrompt, Result};

/// Logits of a mask without the object.
const ABSENT: f32 = -1024.0;
/// Logits of a mask that is a prompt.
const CERTAIN: f32 = 10.0;
/// Logits given to small holes.
const FILLED: f32 = 0.1;
/// Prompts of this many points and corners, or fewer, may mean several things.
const AMBIGUOUS: usize = 1;
/// Logits that are fed back are limited to this.
const FED_BACK: f32 = 32.0;

/// What the decoder says of an object.
struct Heads {
    low_res: Vec<f32>,
    iou: f32,
    object_score: f32,
    pointer: Vec<f32>,
}

/// SAM 2 at work in a session.
pub(super) struct Remembering<'a> {
    pub(super) sam2: &'a Sam2,
    pub(super) options: &'a VideoOptions,
}

impl Remembering<'_> {
    /// Answers a prompt on a frame. A frame that was not tracked yet is seen alone, any other in the
    /// light of the object's memories: that is a correction.
    pub(super) fn answer(
        &self,
        bank: &MemoryBank,
        frame: &VideoFrame,
        prompt: &Prompt,
    ) -> Result<Output> {
        let (sam2, features) = (self.sam2, &frame.embedding.features);
        let heads = if let Some(mask) = certain_mask(prompt, frame)? {
            with_mask(sam2, features, &mask)?
        } else {
            let seen = match bank.visited(frame.index) {
                None => sam2.without_memory(features),
                Some(direction) => self.seen(bank, frame, direction),
            };
            let prompts = prompts(prompt, bank.latest(frame.index), frame);
            let points = prompt.clicks().len() + 2 * usize::from(prompt.box_prompt().is_some());
            decode(sam2, &seen, &prompts, points <= AMBIGUOUS)?
        };
        let mut output = output(heads);
        fill_holes(&mut output.low_res, self.options.fill_hole_area)?;
        remember(sam2, features, &mut output, true)?;
        Ok(output)
    }

    /// Finds the object in a frame by its memories.
    pub(super) fn find(
        &self,
        bank: &MemoryBank,
        frame: &VideoFrame,
        direction: Direction,
    ) -> Result<Output> {
        let seen = self.seen(bank, frame, direction);
        let nothing = PromptBatch {
            points: Some(no_point(&seen)),
            ..PromptBatch::default()
        };
        let mut output = output(decode(self.sam2, &seen, &nothing, true)?);
        // The memory is of the mask as the model gave it.
        remember(self.sam2, &frame.embedding.features, &mut output, false)?;
        fill_holes(&mut output.low_res, self.options.fill_hole_area)?;
        Ok(output)
    }

    /// A frame in the light of the object's memories.
    fn seen(&self, bank: &MemoryBank, frame: &VideoFrame, direction: Direction) -> ImageFeatures {
        let (sam2, index) = (self.sam2, frame.index);
        let spatial = bank.spatial(index, direction, sam2.num_maskmem());
        let pointers = bank.pointers(index, direction, self.options.num_frames);
        let memories = sam2.memories(&spatial, &pointers);
        sam2.with_memories(&frame.embedding.features, &memories)
    }
}

/// Clicks and a box, with the logits that the frame had before.
fn prompts(prompt: &Prompt, previous: Option<&Output>, frame: &VideoFrame) -> PromptBatch {
    let mut prompt = prompt.clone();
    if let (None, Some(previous)) = (&prompt.mask, previous) {
        let side = previous.low_res.len().isqrt();
        let logits = Logits::from_decoder(side, previous.low_res.clone());
        prompt = prompt.with_mask(logits.limited(Some(FED_BACK)));
    }
    let prompt = frame.embedding.to_model(&prompt);
    ModelPrompt::batch(&[&prompt], frame.embedding.segmenter().device())
}

fn output(heads: Heads) -> Output {
    Output {
        low_res: heads.low_res,
        iou: heads.iou,
        object_score: heads.object_score,
        memory: Vec::new(),
        pointer: heads.pointer,
    }
}

/// Stands for the prompt of a frame that has none.
fn no_point(features: &ImageFeatures) -> (Tensor<3>, Tensor<2>) {
    let device = features.image_embed.device();
    let labels = -Tensor::ones([1, 1], &device);
    (Tensor::zeros([1, 1, 2], &device), labels)
}

/// Runs the decoder (`_forward_sam_heads`). Ambiguous prompts are answered by the best scored of
/// three masks, others by the single one if it is stable.
fn decode(
    sam2: &Sam2,
    features: &ImageFeatures,
    prompts: &PromptBatch,
    ambiguous: bool,
) -> Result<Heads> {
    let scored = sam2.score(features, prompts, None);
    let iou = read(scored.masks.iou.clone())?;
    let object_score = read(scored.object_score)?[0];
    let present = object_score > 0.0;
    let side = LOGITS_PER_CELL * features.image_embed.dims()[1];
    // Without the object there is nothing to draw.
    let logits = present
        .then(|| read(sam2.decode_masks(&scored.masks, features, &[0])))
        .transpose()?;
    let of_token = |token: usize| match &logits {
        Some(logits) => &logits[token * side * side..][..side * side],
        None => &[],
    };
    let (token, pointing) = if ambiguous {
        let best = best_of_many(&iou);
        (best, best)
    } else {
        (dynamic_multimask(of_token(0), &iou), 0)
    };
    let low_res = if present {
        of_token(token).to_vec()
    } else {
        vec![ABSENT; side * side]
    };
    let pointing = scored.mask_tokens.narrow(1, pointing, 1);
    Ok(Heads {
        low_res,
        iou: iou[token],
        object_score,
        pointer: read(sam2.object_pointer(pointing, present))?,
    })
}

/// Values of the mask logits per cell of the image embedding, along a side.
const LOGITS_PER_CELL: usize = 4;

/// The mask of a prompt that is nothing but a mask, at the size of the model's input: it needs no
/// answer.
fn certain_mask(prompt: &Prompt, frame: &VideoFrame) -> Result<Option<RgbImage>> {
    if !prompt.clicks().is_empty() || prompt.box_prompt().is_some() {
        return Ok(None);
    }
    let geometry = frame.embedding.frame();
    let mask = match &prompt.mask {
        Some(MaskPrompt::Mask(mask)) => mask.clone(),
        Some(MaskPrompt::Logits(logits)) => logits.upsample(geometry, 1.0)?.0,
        None => return Ok(None),
    };
    let image = RgbImage::from_fn(mask.width(), mask.height(), |x, y| {
        image_pixel(mask.get(x, y))
    });
    let side = geometry.side();
    let shares = resize_bilinear_f32(&image, side, side);
    let inside = |x: u32, y: u32| shares[(y * side + x) as usize] >= 0.5;
    Ok(Some(RgbImage::from_fn(side, side, |x, y| {
        image_pixel(inside(x, y))
    })))
}

fn image_pixel(inside: bool) -> Rgb<u8> {
    Rgb([if inside { 255 } else { 0 }; 3])
}

/// A mask that is certain (`_use_mask_as_output`): it is its own answer, and the decoder only finds
/// its pointer.
fn with_mask(sam2: &Sam2, features: &ImageFeatures, mask: &RgbImage) -> Result<Heads> {
    let side = mask.width() as usize;
    let inside: Vec<f32> = mask.pixels().map(|p| f32::from(p.0[0]) / 255.0).collect();
    let present = inside.contains(&1.0);
    let device = features.image_embed.device();
    let pixels = Tensor::from_data(TensorData::new(inside, [1, 1, side, side]), &device);
    let prompts = PromptBatch {
        points: Some(no_point(features)),
        masks: Some(sam2.mask_prompt(pixels)),
        ..PromptBatch::default()
    };
    let scored = sam2.score(features, &prompts, None);
    let seen = read(scored.object_score)?[0] > 0.0;
    let pointing = scored.mask_tokens.narrow(1, 0, 1);
    let low_side = LOGITS_PER_CELL * features.image_embed.dims()[1];
    let mut low_res = resize_bilinear_f32(mask, low_side as u32, low_side as u32);
    low_res.truncate(low_side * low_side);
    let values = low_res.iter_mut();
    values.for_each(|share| *share = (2.0 * *share - 1.0) * CERTAIN);
    Ok(Heads {
        low_res,
        iou: 1.0,
        object_score: if present { CERTAIN } else { -CERTAIN },
        pointer: read(sam2.object_pointer(pointing, present && seen))?,
    })
}

/// Encodes the memory of an output's mask as it is now.
fn remember(
    sam2: &Sam2,
    features: &ImageFeatures,
    output: &mut Output,
    prompted: bool,
) -> Result<()> {
    let side = output.low_res.len().isqrt();
    let logits = TensorData::new(output.low_res.clone(), [1, 1, side, side]);
    let logits = Tensor::from_data(logits, &features.image_embed.device());
    let present = output.object_score > 0.0;
    let memory = read(sam2.encode_memory(features, logits, prompted, present))?;
    output.memory = memory.into_iter().map(half::bf16::from_f32).collect();
    Ok(())
}

/// Fills holes of at most `area` cells (`fill_holes_in_mask_scores`).
fn fill_holes(logits: &mut [f32], area: u64) -> Result<()> {
    let side = logits.len().isqrt() as u32;
    let mask = Mask::from_logits(logits, side, side, 0.0)?;
    let (filled, changed) = remove_small_regions(&mask, area + 1, Region::Holes);
    if changed {
        let holes = filled.and_not(&mask)?;
        for (i, value) in logits.iter_mut().enumerate() {
            let i = i as u32;
            if holes.get(i % side, i / side) {
                *value = FILLED;
            }
        }
    }
    Ok(())
}
