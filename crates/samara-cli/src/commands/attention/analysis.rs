//! What was asked and what was found.

use std::cmp::Reverse;

use samara::{Candidates, Prompt};
use samara_attention::{AttentionLevel, AttentionMap, AttentionOptions, AttentionTargets};
use samara_image::{ImageWarning, RgbImage};

use crate::error::Result;
use crate::map_file::FileMap;

/// A prompt and what it is called in tables.
pub(super) struct Asked {
    pub(super) name: String,
    pub(super) prompt: Prompt,
    pub(super) peak: bool,
}

/// Maps, prompts and what was found: for every map the result of every prompt.
pub(super) struct Analysis {
    pub(super) image: RgbImage,
    /// How it may not be what its author sees.
    pub(super) warnings: Vec<ImageWarning>,
    pub(super) maps: Vec<FileMap>,
    pub(super) asked: Vec<Asked>,
    pub(super) targets: AttentionTargets,
    pub(super) options: AttentionOptions,
    pub(super) found: Vec<Vec<AttentionLevel>>,
    pub(super) model: String,
    pub(super) precision: &'static str,
    pub(super) timing: Timing,
}

/// Milliseconds that each stage took.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(super) struct Timing {
    pub(super) load: f64,
    pub(super) embed: f64,
    pub(super) decode: f64,
    pub(super) analyse: f64,
}

/// The mean map; the only one as it is.
pub(super) fn mean(maps: &[FileMap]) -> Result<AttentionMap> {
    if let [only] = maps {
        return Ok(only.map.clone());
    }
    let maps: Vec<AttentionMap> = maps.iter().map(|file| file.map.clone()).collect();
    Ok(AttentionMap::mean("the mean map", &maps)?)
}

/// The candidates from large to small, as everything shows them.
pub(super) fn largest_first(candidates: &Candidates) -> Vec<usize> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|&i| Reverse(candidates.as_slice()[i].mask.area()));
    order
}
