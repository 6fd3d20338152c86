//! Whether the model's features differ inside and outside of a mask.

use std::collections::BTreeMap;

use samara::Embedding;
use samara::tensors::{features_of, read};
use samara_image::coverage::covered_cells;
use samara_image::{Frame, Mask};

use crate::Result;

/// Regions along the outline are as wide as this share of the square root of the mask's area.
const RING: f64 = 0.12;
/// Measures per level of features.
const PER_LEVEL: usize = 4;

/// The features of an image, level by level, with their mean removed.
pub(super) struct Features {
    levels: Vec<Level>,
}

struct Level {
    side: usize,
    channels: usize,
    values: Vec<f32>,
}

impl Features {
    pub(super) fn new(embedding: &Embedding) -> Result<Self> {
        let levels = features_of(embedding).tensors().into_iter().map(|tensor| {
            let [_, side, _, channels] = tensor.dims();
            let mut values = read(tensor)?;
            let cells = (side * side).max(1) as f32;
            let mut mean = vec![0.0; channels];
            for cell in values.chunks_exact(channels) {
                mean.iter_mut().zip(cell).for_each(|(m, v)| *m += v / cells);
            }
            for cell in values.chunks_exact_mut(channels) {
                cell.iter_mut().zip(&mean).for_each(|(v, m)| *v -= m);
            }
            Ok(Level {
                side,
                channels,
                values,
            })
        });
        Ok(Self {
            levels: levels.collect::<Result<_>>()?,
        })
    }

    /// Number of measures.
    pub(super) fn count(&self) -> usize {
        PER_LEVEL * self.levels.len()
    }

    /// Cosines between the mean features of the mask, of its rim inside, of the rim around it and
    /// of the next one around that.
    pub(super) fn measures(&self, mask: &Mask, frame: &Frame) -> Vec<f32> {
        let width = (RING * (mask.area() as f64).sqrt()).ceil().max(1.0) as u32;
        let grown = mask.dilate(width);
        let rings = [
            mask.clone(),
            minus(mask, &mask.erode(width)),
            minus(&grown, mask),
            minus(&grown.dilate(width), &grown),
        ];
        // Levels share their sides.
        let mut cells = BTreeMap::new();
        let mut measures = Vec::with_capacity(self.count());
        for level in &self.levels {
            let of_ring = |ring| covered_cells(ring, frame, level.side);
            let cells = cells
                .entry(level.side)
                .or_insert_with(|| rings.each_ref().map(of_ring));
            let [whole, inner, outer, far] = cells.each_ref().map(|ring| level.sum(ring));
            measures.extend([
                cosine(&inner, &outer),
                cosine(&whole, &outer),
                cosine(&whole, &inner),
                cosine(&outer, &far),
            ]);
        }
        measures
    }
}

impl Level {
    /// Sum of the features of cells, each with its share.
    fn sum(&self, cells: &[(usize, f32)]) -> Vec<f32> {
        let mut sum = vec![0.0; self.channels];
        for &(cell, share) in cells {
            let values = &self.values[cell * self.channels..][..self.channels];
            sum.iter_mut()
                .zip(values)
                .for_each(|(s, v)| *s += share * v);
        }
        sum
    }
}

fn minus(mask: &Mask, other: &Mask) -> Mask {
    mask.and_not(other).unwrap_or_else(|_| mask.clone())
}

/// 0 where one of them is nothing.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-12)
}
