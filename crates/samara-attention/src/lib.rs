//! Attention maps and promptable segmentation: which level of an object a map looks at, and where the mask
//! decoder looks itself.
//!
//! - [`AttentionTargets`] compares maps of any resolution with the candidates of prompts: the whole, a
//!   part or a subpart; `docs/attention.md` explains the measures and says how often the answer is right,
//! - [`TokenAttention`]: where the tokens of the mask decoder look while they answer a prompt,
//! - [`rollout()`] of the self-attention of a transformer.
#![forbid(unsafe_code)]

mod analysis;
mod bins;
mod decision;
mod duplicates;
mod error;
mod map;
mod measures;
mod options;
mod peaks;
mod resample;
mod rollout;
mod token_attention;

pub use analysis::{AttentionLevel, AttentionTargets};
pub use decision::Undecided;
pub use error::{AttentionError, Result};
pub use map::AttentionMap;
pub use measures::Measures;
pub use options::{AttentionOptions, CandidateAttention};
pub use resample::Resampling;
pub use rollout::{HeadFusion, Rollout, RolloutError, rollout};
pub use token_attention::TokenAttention;
