//! Training and evaluation of promptable segmentation models.

pub mod candidate_head;
mod curves;
pub mod data;
mod dense;
mod error;
pub mod eval;
pub mod features;
pub mod groups;
pub mod losses;
pub mod optimizer;
pub mod parameters;
mod plot;
mod prepare;
pub mod prompts;
pub mod quality;
mod random;
pub mod recipe;
mod run_folder;
pub mod schedule;
pub mod step;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod testing;
mod train;
pub mod trainer;

pub use error::TrainError;
pub use recipe::Recipe;
pub use train::{TrainWatcher, train};
pub use trainer::{StepReport, Trainer, Watcher};
