//! Maps against the candidates of prompts.

use std::collections::HashMap;

use rayon::prelude::*;
use samara::{Candidates, Embedding, Granularity, Prompt};
use samara_image::Mask;
use serde::Serialize;

use crate::Result;
use crate::bins::{blur, correlation, coverage};
use crate::decision::{Undecided, decide};
use crate::duplicates::duplicates;
use crate::error::AttentionError;
use crate::map::AttentionMap;
use crate::measures::Scores;
use crate::options::{AttentionOptions, CandidateAttention};
use crate::resample::Resampling;

/// Longest side, in pixels, at which masks and maps are compared; larger images are compared at
/// this size. Masks come from logits of 256 cells a side, so nothing is lost but memory and time.
const COMPARED_SIDE: u32 = 1024;
/// Longest side of the grid on which the agreement is measured: those of a ViT have 14 to 64 cells,
/// and finer ones would only bring noise.
const GRID_SIDE: u32 = 64;
/// Blurs that the agreement tries: standard deviations as shares of the image's longest side.
/// Stronger ones make small masks fit any wide blob.
const BLURS: [f64; 5] = [0.0, 0.01, 0.02, 0.03, 0.04];

/// Which level a map looks at, of one prompt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AttentionLevel {
    /// The level of the best candidate; `None` when it cannot be told.
    pub level: Option<Granularity>,
    /// Why it cannot be told.
    pub undecided: Option<Undecided>,
    /// The candidate with the highest agreement, decided or not.
    pub best: usize,
    /// How far the best candidate leads over the best one of another level, 0 to 1:
    /// (a − b) / (1 − b) of their agreements a and b. 0 when there is no other level.
    pub margin: f64,
    /// How the map was brought to the size of the image.
    pub resampling: Resampling,
    /// The candidates, in the model's order.
    pub candidates: Vec<CandidateAttention>,
}

/// The candidates of prompts, ready to be compared with any number of attention maps.
///
/// ```no_run
/// use samara::Prompt;
/// use samara_attention::{AttentionMap, AttentionOptions, AttentionTargets};
/// # fn run(embedding: samara::Embedding, heads: Vec<AttentionMap>) -> samara_attention::Result<()> {
/// let targets = AttentionTargets::of(&embedding, &[Prompt::point(520.0, 360.0)])?;
/// for (head, found) in heads.iter().zip(targets.analyse_all(&heads, &AttentionOptions::default())?) {
///     println!("{}: {:?}, margin {:.2}", head.name(), found[0].level, found[0].margin);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct AttentionTargets {
    candidates: Vec<Candidates>,
    /// Of the image, in original pixels.
    size: (u32, u32),
    /// At which masks and maps are compared.
    compared: (u32, u32),
    prompts: Vec<Target>,
}

/// The candidates of one prompt.
#[derive(Debug, Clone)]
struct Target {
    masks: Vec<Mask>,
    levels: Vec<Granularity>,
    duplicate_of: Vec<Option<usize>>,
    stability: Vec<f64>,
}

/// Masks on the grid of a map: for every prompt and candidate, one for each blur.
type Templates = Vec<Vec<Vec<Vec<f32>>>>;

impl AttentionTargets {
    /// Asks the model about every prompt once, all prompts of one shape together.
    ///
    /// # Errors
    /// As [`Embedding::predict_batch`].
    pub fn of(embedding: &Embedding, prompts: &[Prompt]) -> Result<Self> {
        Self::new(embedding.predict_batch(prompts)?)
    }

    /// The answers to prompts for one image.
    ///
    /// # Errors
    /// [`AttentionError::NoCandidate`], or [`AttentionError::Sizes`]: their masks differ in size.
    pub fn new(candidates: Vec<Candidates>) -> Result<Self> {
        let mut masks = candidates.iter().flatten().map(|c| &c.mask);
        let sizes = |mask: &Mask| (mask.width(), mask.height());
        let size = masks.next().map(sizes).ok_or(AttentionError::NoCandidate)?;
        if masks.any(|mask| sizes(mask) != size) {
            return Err(AttentionError::Sizes);
        }
        let compared = at_most(size, COMPARED_SIDE);
        let target = |candidates: &Candidates| {
            let masks: Vec<&Mask> = candidates.iter().map(|c| &c.mask).collect();
            let stability = candidates.iter().map(|c| f64::from(c.stability_score.0));
            Target {
                levels: candidates.iter().map(|c| c.granularity).collect(),
                duplicate_of: duplicates(candidates),
                stability: stability.collect(),
                masks: masks
                    .into_iter()
                    .map(|mask| {
                        if compared == size {
                            mask.clone()
                        } else {
                            mask.resize_nearest(compared.0, compared.1)
                        }
                    })
                    .collect(),
            }
        };
        Ok(Self {
            prompts: candidates.iter().map(target).collect(),
            candidates,
            size,
            compared,
        })
    }

    /// The candidates of every prompt.
    pub fn candidates(&self) -> &[Candidates] {
        &self.candidates
    }

    /// Compares one map with the candidates of every prompt.
    ///
    /// # Errors
    /// As [`analyse_all`](Self::analyse_all).
    pub fn analyse(
        &self,
        map: &AttentionMap,
        options: &AttentionOptions,
    ) -> Result<Vec<AttentionLevel>> {
        let mut all = self.analyse_all(std::slice::from_ref(map), options)?;
        Ok(all.pop().unwrap_or_default())
    }

    /// Compares many maps, such as those of all heads and layers, with the candidates of every
    /// prompt, on all threads: for every map the result of every prompt.
    ///
    /// # Errors
    /// [`AttentionError::Aspect`] for a map of another aspect ratio, unless `stretch` is set;
    /// [`AttentionError::Threshold`] for a threshold outside of −1 to 1. Nothing is computed then.
    pub fn analyse_all(
        &self,
        maps: &[AttentionMap],
        options: &AttentionOptions,
    ) -> Result<Vec<Vec<AttentionLevel>>> {
        options.check()?;
        for map in maps {
            map.check(self.size.0, self.size.1, options.stretch)?;
        }
        let mut grids: Vec<(u32, u32)> = maps.iter().map(grid).collect();
        grids.sort_unstable();
        grids.dedup();
        let templates: HashMap<(u32, u32), Templates> = grids
            .into_par_iter()
            .map(|grid| (grid, self.templates(grid)))
            .collect();
        let analysed = maps.par_iter().map(|map| {
            let templates = templates.get(&grid(map));
            self.compare(map, templates.map_or(&[], |t| &t[..]), options)
        });
        Ok(analysed.collect())
    }

    /// The candidates on a grid of `(columns, rows)`, blurred.
    fn templates(&self, (columns, rows): (u32, u32)) -> Templates {
        let longest = f64::from(self.compared.0.max(self.compared.1));
        let cells = |share: f64| {
            let along =
                |cells: u32, pixels: u32| share * longest * f64::from(cells) / f64::from(pixels);
            (
                along(columns, self.compared.0),
                along(rows, self.compared.1),
            )
        };
        let blurred = |mask: &Mask| {
            let covered = coverage(mask, columns, rows);
            BLURS
                .iter()
                .map(|&share| blur(&covered, columns, cells(share)))
                .collect()
        };
        self.prompts
            .par_iter()
            .map(|target| target.masks.iter().map(blurred).collect())
            .collect()
    }

    fn compare(
        &self,
        map: &AttentionMap,
        templates: &[Vec<Vec<Vec<f32>>>],
        options: &AttentionOptions,
    ) -> Vec<AttentionLevel> {
        let (width, height) = self.compared;
        let scores = Scores::new(
            width,
            height,
            map.resized(width, height, options.resampling),
        );
        let (columns, rows) = grid(map);
        let cells = map.resized(columns, rows, Resampling::Area);
        let resampling = options
            .resampling
            .resolved((map.width(), map.height()), self.compared);
        let prompts = self.prompts.iter().zip(templates);
        prompts
            .map(|(target, templates)| {
                let candidates = target.compare(&scores, &cells, templates);
                let decision = decide(&candidates, options);
                AttentionLevel {
                    level: decision.level.ok(),
                    undecided: decision.level.err(),
                    best: decision.best,
                    margin: decision.margin,
                    resampling,
                    candidates,
                }
            })
            .collect()
    }
}

impl Target {
    /// Every candidate against a map at the image's size and one on its grid.
    fn compare(
        &self,
        scores: &Scores,
        cells: &[f32],
        templates: &[Vec<Vec<f32>>],
    ) -> Vec<CandidateAttention> {
        let candidate = |(i, blurred): (usize, &Vec<Vec<f32>>)| {
            let measures = scores.measure(&self.masks[i]);
            let agreement = blurred
                .iter()
                .filter_map(|template| correlation(template, cells))
                .reduce(f64::max);
            let both = agreement.zip(measures.correlation);
            CandidateAttention {
                level: self.levels[i],
                duplicate_of: self.duplicate_of[i],
                measures,
                agreement,
                confidence: both.map(|(agreement, correlation)| {
                    (agreement + correlation + self.stability[i]) / 3.0
                }),
            }
        };
        templates.iter().enumerate().map(candidate).collect()
    }
}

/// The grid on which a map is compared, `(columns, rows)`: its own, or a smaller one.
fn grid(map: &AttentionMap) -> (u32, u32) {
    at_most((map.width(), map.height()), GRID_SIDE)
}

/// The size scaled so that no side is longer than `side`.
fn at_most((width, height): (u32, u32), side: u32) -> (u32, u32) {
    let longest = width.max(height);
    if longest <= side {
        return (width, height);
    }
    let scaled = |length: u32| {
        let exact = f64::from(length) * f64::from(side) / f64::from(longest);
        (exact.round() as u32).max(1)
    };
    (scaled(width), scaled(height))
}
