//! An object that a model without memory follows: the last mask is carried to the next frame as a
//! prompt.
//!
//! Of what the model answers, that mask is kept which it trusts, which looks like the object did when
//! it was prompted, and which lies near the last one. When none does, the object counts as hidden; it
//! is then looked for where the frame resembles it most.

use half::bf16;
use samara_image::{BBox, ModelPx, OriginalBox};
use samara_model::burn::tensor::Tensor;

use super::bank::{MemoryBank, Output};
use super::{Direction, VideoFrame};
use crate::embedding::read;
use crate::prompt::{MaskPrompt, Prompt};
use crate::token_score::TokenScores;
use crate::{Logits, OriginalPx, Result, Select};

/// Logits of a mask without the object.
const ABSENT: f32 = -1024.0;
/// Score of an object that a prompt has shown.
const CERTAIN: f32 = 10.0;
/// By how much of its sides a box is widened in front of the next frame: objects move.
const WIDENED: f64 = 0.1;
/// Below this quality, from 0 to 1, the object counts as hidden.
const HIDDEN: f32 = 0.6;
/// The quality's distance from that limit becomes a score: 0.1 above is a probability of 0.88.
const SCORE_SCALE: f32 = 20.0;
/// How much a mask far from the last one counts against one at the same place.
const FAR: f32 = 0.2;
/// How much a mask of another size than the prompted one counts against one of the same.
const SIZE: f32 = 0.25;
/// Cells of an object that are compared with the next frame, at most.
const COMPARED: usize = 200;
/// An object moves by a share of the frame between two frames, at most: one over this.
const REACH: usize = 4;
/// By how much a likeness, from −1 to 1, has to be larger for each cell that it is further away.
const STILL: f32 = 0.004;
/// Clicks where a hidden object is looked for.
const CLICKS: usize = 3;
/// An object that was hidden has to look this much like itself to be taken for it.
const ALIKE: f32 = 0.7;

/// Answers a prompt on a frame.
pub(super) fn answer(bank: &MemoryBank, frame: &VideoFrame, prompt: &Prompt) -> Result<Output> {
    let embedding = &frame.embedding;
    let side = embedding.segmenter().logits_side();
    let only_mask = prompt.clicks().is_empty() && prompt.box_prompt().is_none();
    let (logits, iou) = match &prompt.mask {
        Some(MaskPrompt::Mask(mask)) if only_mask => {
            (Logits::from_mask(mask, embedding.frame(), side), 1.0)
        }
        Some(MaskPrompt::Logits(logits)) if only_mask => (logits.clone(), 1.0),
        _ => {
            let mut prompt = prompt.clone();
            if let (None, Some(previous)) = (&prompt.mask, bank.latest(frame.index)) {
                prompt = prompt.with_mask(logits_of(previous).clone());
            }
            let ambiguous = prompt.clicks().len() == 1 && prompt.box_prompt().is_none();
            prompt.single = !ambiguous;
            let candidates = embedding.predict(&prompt)?;
            let chosen = candidates.select(&Select::Best)?.index.unwrap_or(0);
            let chosen = &candidates.as_slice()[chosen];
            (chosen.low_res_logits.clone(), chosen.predicted_iou.0)
        }
    };
    let looks = Looks::of(frame)?;
    Ok(Output {
        iou,
        object_score: CERTAIN,
        pointer: looks.inside(&logits),
        memory: looks.saved(),
        low_res: logits.values().to_vec(),
    })
}

/// Finds the object in a frame.
pub(super) fn find(bank: &MemoryBank, frame: &VideoFrame, direction: Direction) -> Result<Output> {
    let looks = Looks::of(frame)?;
    let known = mean(bank.conditioning.values().map(|output| &output.pointer[..]));
    let side = frame.embedding.segmenter().logits_side();
    let sizes = bank.conditioning.values().map(|o| area(&logits_of(o)));
    let size = sizes.sum::<f32>() / bank.conditioning.len().max(1) as f32;
    let mut best: Option<(f32, Output)> = None;
    let last = last_seen(bank, frame.index, direction);
    if let Some((age, last)) = last {
        // Carried to where the object seems to have gone.
        let (last, likeness) = looks.carried(last);
        let mut prompts = Vec::new();
        if let Some(bbox) = widened_box(&last, frame)? {
            prompts.push(bbox.clone().with_mask(last.clone()));
            prompts.push(bbox);
        }
        let lost = age > 1;
        if lost {
            prompts.extend(looks.clicks(&known, frame));
        }
        let answers = frame.embedding.decode(&prompts)?;
        for (tokens, prompt) in answers.into_iter().zip(&prompts) {
            let segmenter = frame.embedding.segmenter();
            let token_scores =
                TokenScores::new(segmenter, &tokens, prompt, frame.embedding.frame());
            let scores = token_scores.of(0..tokens.iou.len());
            for (logits, score) in tokens.low_res_logits.into_iter().zip(scores) {
                let iou = score.predicted_iou.0;
                let pointer = looks.inside(&logits);
                let alike = similarity(&pointer, &known);
                let near = overlap(&logits, &last);
                if lost && alike < ALIKE {
                    continue;
                }
                let quality = (iou * alike.max(0.0) * likeness).max(0.0).cbrt();
                let place = if lost { 1.0 } else { FAR + (1.0 - FAR) * near };
                let rank = quality * place * like_size(area(&logits), size);
                if best.as_ref().is_none_or(|(other, _)| rank > *other) {
                    let output = Output {
                        iou,
                        object_score: (quality - HIDDEN) * SCORE_SCALE,
                        memory: Vec::new(),
                        pointer,
                        low_res: logits.values().to_vec(),
                    };
                    best = Some((rank, output));
                }
            }
        }
    }
    let mut output = best.map_or_else(
        || Output {
            iou: 0.0,
            object_score: -CERTAIN,
            memory: Vec::new(),
            pointer: known,
            low_res: Vec::new(),
        },
        |(_, output)| Output {
            memory: looks.saved(),
            ..output
        },
    );
    if output.object_score <= 0.0 {
        output.low_res = vec![ABSENT; side * side];
    }
    Ok(output)
}

fn logits_of(output: &Output) -> Logits {
    Logits::from_decoder(output.low_res.len().isqrt(), output.low_res.clone())
}

/// The frame nearest before this one in which the object was seen, and how long ago that was. A
/// prompt may lie on either side.
fn last_seen(bank: &MemoryBank, frame: usize, direction: Direction) -> Option<(usize, &Output)> {
    let tracked = bank.tracked.iter().filter_map(|(&at, output)| {
        let age = direction.distance(at, frame)?;
        (age > 0 && output.object_score > 0.0).then_some((age, output))
    });
    let prompted = bank.conditioning.iter();
    let prompted = prompted.map(|(&at, output)| (at.abs_diff(frame), output));
    tracked.chain(prompted).min_by_key(|&(age, _)| age)
}

/// The box of a mask, a little wider.
fn widened_box(logits: &Logits, frame: &VideoFrame) -> Result<Option<Prompt>> {
    let geometry = frame.embedding.frame();
    let (mask, _) = logits.upsample(geometry, 0.0)?;
    let Some(BBox {
        x,
        y,
        width,
        height,
    }) = mask.bbox()
    else {
        return Ok(None);
    };
    let (w, h) = geometry.original_size();
    let wider = |start: u32, length: u32, end: u32| {
        let by = f64::from(length) * WIDENED;
        let (from, to) = (f64::from(start) - by, f64::from(start + length) + by);
        (from.max(0.0), to.min(f64::from(end)))
    };
    let ((x0, x1), (y0, y1)) = (wider(x, width, w), wider(y, height, h));
    Ok(Some(
        Prompt::new().with_box(OriginalBox::new(x0, y0, x1, y1)?),
    ))
}

/// Logits moved by so many cells; what comes from beyond the edge is outside.
fn shifted(logits: &Logits, dy: isize, dx: isize) -> Logits {
    let side = logits.side() as isize;
    let value = |i: isize| {
        let (y, x) = (i / side - dy, i % side - dx);
        if (0..side).contains(&y) && (0..side).contains(&x) {
            logits.values()[(y * side + x) as usize]
        } else {
            -CERTAIN
        }
    };
    Logits::from_decoder(logits.side(), (0..side * side).map(value).collect())
}

/// Cells of a mask.
fn area(logits: &Logits) -> f32 {
    logits.values().iter().filter(|&&v| v > 0.0).count() as f32
}

/// How much a size speaks for the object, from 0 to 1.
fn like_size(size: f32, known: f32) -> f32 {
    (size.min(known) / size.max(known).max(1.0)).powf(SIZE)
}

/// IoU of two masks of logits.
fn overlap(a: &Logits, b: &Logits) -> f32 {
    let pairs = a.values().iter().zip(b.values());
    let (mut both, mut either) = (0_u32, 0_u32);
    for (&a, &b) in pairs {
        both += u32::from(a > 0.0 && b > 0.0);
        either += u32::from(a > 0.0 || b > 0.0);
    }
    both as f32 / either.max(1) as f32
}

/// What the places of a frame look like to the model: one vector for each cell of a square grid.
struct Looks {
    side: usize,
    width: usize,
    values: Vec<f32>,
}

impl Looks {
    /// The image embedding.
    fn of(frame: &VideoFrame) -> Result<Self> {
        let map: &Tensor<4> = &frame.embedding.features.image_embed;
        let [_, side, _, width] = map.dims();
        let mut values = read(map.clone())?;
        for cell in values.chunks_exact_mut(width) {
            let length = cell.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-6);
            cell.iter_mut().for_each(|v| *v /= length);
        }
        Ok(Self {
            side,
            width,
            values,
        })
    }

    /// The mean inside of a mask, of unit length; zeros for a mask without a cell.
    fn inside(&self, logits: &Logits) -> Vec<f32> {
        let cells = self.cells_inside(logits).into_iter();
        mean(cells.map(|cell| self.cell(cell)))
    }

    /// Cells whose centres lie inside of a mask.
    fn cells_inside(&self, logits: &Logits) -> Vec<usize> {
        let from = logits.side();
        let at = |cell: usize| ((2 * cell + 1) * from / (2 * self.side)).min(from - 1);
        let cells = 0..self.side * self.side;
        let inside = cells.filter(|cell| {
            let (y, x) = (cell / self.side, cell % self.side);
            logits.values()[at(y) * from + at(x)] > 0.0
        });
        inside.collect()
    }

    /// To be compared with those of later frames.
    fn saved(&self) -> Vec<bf16> {
        self.values.iter().map(|&v| bf16::from_f32(v)).collect()
    }

    /// The mask of an earlier frame, moved to where this frame looks most as that one did inside of it.
    fn carried(&self, last: &Output) -> (Logits, f32) {
        let logits = logits_of(last);
        let cells = self.cells_inside(&logits);
        let step = cells.len().div_ceil(COMPARED).max(1);
        let cells: Vec<usize> = cells.into_iter().step_by(step).collect();
        if cells.is_empty() || last.memory.len() != self.values.len() {
            return (logits, 1.0);
        }
        let before: Vec<f32> = cells
            .iter()
            .flat_map(|cell| &last.memory[cell * self.width..][..self.width])
            .map(|v| v.to_f32())
            .collect();
        let side = self.side as isize;
        let reach = (self.side / REACH) as isize;
        let likeness = |dy: isize, dx: isize| {
            let pairs = cells.iter().zip(before.chunks_exact(self.width));
            let alike = pairs.filter_map(|(&cell, before)| {
                let (y, x) = (cell as isize / side + dy, cell as isize % side + dx);
                let inside = (0..side).contains(&y) && (0..side).contains(&x);
                let now = inside.then(|| self.cell((y * side + x) as usize))?;
                Some(before.iter().zip(now).map(|(a, b)| a * b).sum::<f32>())
            });
            alike.sum::<f32>() / cells.len() as f32
        };
        let all = (-reach..=reach).flat_map(|dy| (-reach..=reach).map(move |dx| (dy, dx)));
        let moved = all.map(|(dy, dx)| {
            let likeness = likeness(dy, dx);
            let rank = likeness - STILL * (dx as f32).hypot(dy as f32);
            (rank, likeness, dy, dx)
        });
        let best = moved.max_by(|a, b| a.0.total_cmp(&b.0));
        let (_, likeness, dy, dx) = best.unwrap_or_default();
        let scale = (logits.side() / self.side).max(1) as isize;
        (shifted(&logits, dy * scale, dx * scale), likeness.max(0.0))
    }

    fn cell(&self, cell: usize) -> &[f32] {
        &self.values[cell * self.width..][..self.width]
    }

    /// Clicks on the cells that look most like the object, apart from each other.
    fn clicks(&self, known: &[f32], frame: &VideoFrame) -> Vec<Prompt> {
        let geometry = frame.embedding.frame();
        let (width, height) = geometry.original_size();
        let mut cells: Vec<(f32, usize)> = (0..self.side * self.side)
            .map(|cell| (similarity(self.cell(cell), known), cell))
            .collect();
        cells.sort_by(|a, b| b.0.total_cmp(&a.0));
        let scale = f64::from(geometry.side()) / self.side as f64;
        let place = |cell: usize| {
            let (y, x) = (cell / self.side, cell % self.side);
            geometry.to_original(ModelPx {
                x: (x as f64 + 0.5) * scale,
                y: (y as f64 + 0.5) * scale,
            })
        };
        let apart = f64::from(width.min(height)) / 8.0;
        let mut chosen: Vec<OriginalPx> = Vec::new();
        for (_, cell) in cells {
            let at = place(cell);
            let far = |other: &OriginalPx| (other.x - at.x).hypot(other.y - at.y) > apart;
            if at.is_inside(width, height) && chosen.iter().all(far) {
                chosen.push(at);
                if chosen.len() == CLICKS {
                    break;
                }
            }
        }
        chosen.iter().map(|at| Prompt::point(at.x, at.y)).collect()
    }
}

/// The mean of vectors, at unit length.
fn mean<'a>(vectors: impl Iterator<Item = &'a [f32]>) -> Vec<f32> {
    let mut sum: Vec<f32> = Vec::new();
    for vector in vectors {
        sum.resize(vector.len().max(sum.len()), 0.0);
        sum.iter_mut().zip(vector).for_each(|(s, v)| *s += v);
    }
    let length = sum.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-6);
    sum.iter_mut().for_each(|v| *v /= length);
    sum
}

/// The cosine between two vectors, from −1 to 1.
fn similarity(a: &[f32], b: &[f32]) -> f32 {
    let length = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-6);
    let dot: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    dot / (length(a) * length(b))
}
