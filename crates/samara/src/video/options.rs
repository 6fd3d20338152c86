//! What a session is asked to do.

use serde::{Deserialize, Serialize};

use crate::setters::setters;

/// Options of a [`VideoSession`](super::VideoSession); those of the official predictor under their names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
#[non_exhaustive]
pub struct VideoOptions {
    /// Frames of the video, if that is known: object pointers of a video of fewer than 16 frames are
    /// dated otherwise.
    pub num_frames: Option<usize>,
    /// A pixel belongs to one object at most, the one with the highest logit.
    pub non_overlap_masks: bool,
    /// Holes of at most so many cells of the mask logits are filled.
    pub fill_hole_area: u64,
    /// A correction on a frame that was tracked makes it a conditioning frame. The official code has
    /// this off, and loses the correction when tracking passes the frame again.
    pub add_all_frames_to_correct_as_cond: bool,
    /// A prompt drops what is remembered of the frames around it.
    pub clear_non_cond_mem_around_input: bool,
    /// Keeps what is remembered of all frames, some 800 kB for each and every object, so that frames
    /// long past can be corrected in the light of their neighbours. Otherwise 16 frames
    /// around the last one and around every prompt are kept.
    pub keep_all: bool,
}

impl VideoOptions {
    setters! {
        /// Sets [`num_frames`](Self::num_frames).
        with_num_frames(frames: usize) => num_frames = Some(frames);
        /// Sets [`non_overlap_masks`](Self::non_overlap_masks).
        with_non_overlap_masks(on: bool) => non_overlap_masks = on;
        /// Sets [`fill_hole_area`](Self::fill_hole_area).
        with_fill_hole_area(pixels: u64) => fill_hole_area = pixels;
        /// Sets [`add_all_frames_to_correct_as_cond`](Self::add_all_frames_to_correct_as_cond).
        with_all_corrections_as_cond(on: bool) => add_all_frames_to_correct_as_cond = on;
        /// Sets [`clear_non_cond_mem_around_input`](Self::clear_non_cond_mem_around_input).
        with_memory_cleared_around_input(on: bool) => clear_non_cond_mem_around_input = on;
        /// Sets [`keep_all`](Self::keep_all).
        with_all_kept(on: bool) => keep_all = on;
    }
}

impl Default for VideoOptions {
    fn default() -> Self {
        Self {
            num_frames: None,
            non_overlap_masks: false,
            fill_hole_area: 8,
            add_all_frames_to_correct_as_cond: true,
            clear_non_cond_mem_around_input: false,
            keep_all: false,
        }
    }
}
