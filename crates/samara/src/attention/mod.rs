//! Which level of an object an attention map looks at: the whole, a part or a subpart.
//!
//! The three candidates of a prompt are compared with maps of any resolution. `docs/attention.md`
//! explains the measures and says how often the answer is right.

mod analysis;
mod cells;
mod decision;
mod levels;
mod map;
mod measures;
mod peaks;
mod resample;

pub use analysis::{AttentionLevel, AttentionOptions, AttentionTargets, CandidateAttention};
pub use decision::Undecided;
pub use levels::SUBPART_SHARE;
pub use map::AttentionMap;
pub use measures::Measures;
pub use resample::Resampling;
