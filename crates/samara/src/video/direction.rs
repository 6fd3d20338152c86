//! The way through the frames of a video.

use serde::{Deserialize, Serialize};

/// The caller's name of an object, the same in all frames; a palette image holds it as it is.
pub type ObjectId = u32;

/// The way through the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To frames of higher numbers.
    Forward,
    /// To frames of lower numbers.
    Backward,
}

impl Direction {
    /// The frame that came `steps` before `frame`, if there is one.
    pub(super) fn before(self, frame: usize, steps: usize) -> Option<usize> {
        match self {
            Self::Forward => frame.checked_sub(steps),
            Self::Backward => Some(frame + steps),
        }
    }

    /// How many steps it is from a frame that came before, or 0.
    pub(super) fn distance(self, from: usize, to: usize) -> Option<usize> {
        match self {
            Self::Forward => to.checked_sub(from),
            Self::Backward => from.checked_sub(to),
        }
    }
}

/// Where tracking is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Number of the frame, from 0.
    pub frame: usize,
    /// The way through the frames.
    pub direction: Direction,
}
