//! The training of a [`CandidateHead`](samara::CandidateHead): what the heads see of a model's answers is
//! collected first, then two small networks are fitted to it. The model itself does not change.
//!
//! The prompts are those of people: first clicks in the middle, rather toward the middle, anywhere and near
//! the outline of the object, second to fifth clicks into what is wrong, boxes drawn tightly and loosely.

mod collect;
mod fit;
mod observations;
mod prompts;
mod run;
mod spec;

pub use fit::{FitProgress, Head, HeadWatcher};
pub use prompts::ClickWeights;
pub use run::train_candidate_head;
pub use spec::CandidateHeadSpec;
