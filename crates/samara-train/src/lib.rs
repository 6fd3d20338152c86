//! Training of promptable segmentation models: a recipe, data and a simulated user in, a checkpoint out.
//!
//! [`train()`] runs a whole [`Recipe`]: the stages of a [`Trainer`], then the [`candidate_head`].
//! [`fit_quality_head`] fits the head for external masks.
#![forbid(unsafe_code)]

pub mod candidate_head;
mod checkpoints;
mod curves;
mod dense;
mod error;
pub mod features;
pub mod groups;
pub mod losses;
pub mod optimizer;
pub mod parameters;
mod prepare;
mod quality_head;
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
pub use quality_head::{FitOptions, fit_quality_head};
pub use recipe::Recipe;
pub use step::StepReport;
pub use train::{TrainWatcher, train};
pub use trainer::{Trainer, Watcher};
