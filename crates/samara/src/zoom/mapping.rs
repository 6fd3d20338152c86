//! Prompts into a part of an image, and its answers back into the whole.

use samara_image::{Frame, Mask, OriginalBox, OriginalPx};

use super::region::PixelRect;
use crate::logits::Logits;
use crate::prompt::{Click, MaskPrompt, Prompt};

/// What lies outside of the part, as logits: odds of 1 : 999, as [`Logits::from_mask`] says it.
const OUTSIDE: f32 = -6.9;

/// A part of an image with the frame in which a model saw it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) rect: PixelRect,
    pub(super) frame: &'a Frame,
}

impl<'a> Part<'a> {
    /// The image that the frame is of.
    pub(super) fn whole(frame: &'a Frame) -> Self {
        let rect = PixelRect::whole(frame.original_size());
        Self { rect, frame }
    }
}

/// The prompt as it is to the part. Clicks outside of it are left out: they say nothing about what
/// is seen there.
pub(super) fn prompt_into(prompt: &Prompt, whole: Part<'_>, part: Part<'_>, side: usize) -> Prompt {
    let (x, y) = (f64::from(part.rect.x), f64::from(part.rect.y));
    let moved = |at: OriginalPx| OriginalPx::new(at.x - x, at.y - y);
    let clicks = prompt.clicks.iter();
    let clicks = clicks.filter(|click| part.rect.contains(click.at.x, click.at.y));
    let clicks = clicks.map(|click| Click {
        at: moved(click.at),
        ..*click
    });
    Prompt {
        clicks: clicks.collect(),
        bbox: prompt.bbox.map(|b| OriginalBox {
            min: moved(b.min),
            max: moved(b.max),
        }),
        mask: prompt.mask.as_ref().map(|mask| {
            MaskPrompt::Logits(match mask {
                MaskPrompt::Logits(logits) => resample(logits, whole, part),
                MaskPrompt::Mask(mask) => mask_into(mask, whole, part, side),
            })
        }),
        single: prompt.single,
        intent: prompt.intent,
    }
}

/// A mask of the image as logits of the part.
fn mask_into(mask: &Mask, whole: Part<'_>, part: Part<'_>, side: usize) -> Logits {
    let (width, height) = whole.frame.original_size();
    let PixelRect {
        x,
        y,
        width: columns,
        height: rows,
    } = part.rect;
    let cut = if (mask.width(), mask.height()) == (width, height) {
        mask.crop(x, y, columns, rows)
    } else {
        let stretched = mask.resize_nearest(width, height);
        stretched.crop(x, y, columns, rows)
    };
    Logits::from_mask(&cut, part.frame, side)
}

/// Logits of one part of an image on the grid of another; clearly outside where the first does not
/// reach. Bilinear, and where the new grid is coarser a mean of as many cells as one of its cells
/// covers (Pillow's triangle), so that a small mask does not fall between cells.
pub(super) fn resample(logits: &Logits, from: Part<'_>, to: Part<'_>) -> Logits {
    let side = logits.side();
    let columns = taps(&Axis::across(from, side), &Axis::across(to, side), side);
    let rows = taps(&Axis::down(from, side), &Axis::down(to, side), side);
    // Only the rows that something reads.
    let read = |row: usize| rows.iter().flatten().any(|taps| taps.reads(row));
    let stretched: Vec<Vec<f32>> = logits
        .values()
        .chunks_exact(side)
        .enumerate()
        .map(|(row, line)| {
            let across =
                |taps: &Option<Taps>| taps.as_ref().map_or(OUTSIDE, |t| t.sum(|i| line[i]));
            if read(row) {
                columns.iter().map(across).collect()
            } else {
                Vec::new()
            }
        })
        .collect();
    let mut values = Vec::with_capacity(side * side);
    for taps in &rows {
        match taps {
            None => values.extend(std::iter::repeat_n(OUTSIDE, side)),
            Some(taps) => values.extend((0..side).map(|x| taps.sum(|row| stretched[row][x]))),
        }
    }
    Logits::from_decoder(side, values)
}

/// How pixels of the original image lie along one axis of a grid of logits.
struct Axis {
    /// The first pixel, and how many there are.
    start: f64,
    length: f64,
    /// Cells per pixel.
    scale: f64,
}

impl Axis {
    fn across(part: Part<'_>, side: usize) -> Self {
        let content = part.frame.content_size().0;
        Self::new(part.rect.x, part.rect.width, content, part.frame, side)
    }

    fn down(part: Part<'_>, side: usize) -> Self {
        let content = part.frame.content_size().1;
        Self::new(part.rect.y, part.rect.height, content, part.frame, side)
    }

    fn new(start: u32, length: u32, content: u32, frame: &Frame, side: usize) -> Self {
        let cells = f64::from(content) * side as f64 / f64::from(frame.side());
        Self {
            start: f64::from(start),
            length: f64::from(length),
            scale: cells / f64::from(length),
        }
    }

    /// The centre of a cell in pixels of the image. The first cell of the padding, which bilinear
    /// steps look at, goes on with what is at the edge; the others have none.
    fn near_centre(&self, cell: usize) -> Option<f64> {
        let centre = self.start + (cell as f64 + 0.5) / self.scale;
        let end = self.start + self.length;
        (centre < end + 1.0 / self.scale).then_some(centre.min(end))
    }

    fn holds(&self, at: f64) -> bool {
        (self.start..=self.start + self.length).contains(&at)
    }
}

/// Weights of neighbouring cells, with a sum of 1.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

impl Taps {
    fn sum(&self, value: impl Fn(usize) -> f32) -> f32 {
        let cells = (self.first..).zip(&self.weights);
        cells.map(|(cell, weight)| weight * value(cell)).sum()
    }

    fn reads(&self, cell: usize) -> bool {
        (self.first..self.first + self.weights.len()).contains(&cell)
    }
}

/// For every cell along the new axis what it takes of the old one; `None` in the padding and where
/// the old axis does not reach.
fn taps(from: &Axis, to: &Axis, side: usize) -> Vec<Option<Taps>> {
    // The last cell that shows some of the image.
    let cells = from.length * from.scale;
    let last = ((cells - 1e-6).ceil() as usize).clamp(1, side) - 1;
    let reach = (from.scale / to.scale).max(1.0);
    let of_cell = |cell: usize| {
        let at = to.near_centre(cell)?;
        if !from.holds(at) {
            return None;
        }
        let exact = (at - from.start) * from.scale - 0.5;
        // Equal grids give equal logits, whatever was rounded on the way.
        let rounded = exact.round();
        let at = if (exact - rounded).abs() < 1e-6 {
            rounded
        } else {
            exact
        };
        let (low, high) = ((at - reach).ceil() as i64, (at + reach).floor() as i64);
        let within = |i: i64| i.clamp(0, last as i64) as usize;
        let first = within(low);
        let mut weights = vec![0.0_f64; within(high) - first + 1];
        for i in low..=high {
            weights[within(i) - first] += (1.0 - (i as f64 - at).abs() / reach).max(0.0);
        }
        let total: f64 = weights.iter().sum();
        let weights = weights.into_iter().map(|w| (w / total) as f32).collect();
        Some(Taps { first, weights })
    };
    (0..side).map(of_cell).collect()
}
