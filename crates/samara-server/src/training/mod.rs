//! A fine-tune of the model on what is drawn: one at a time, on a thread of its own, while requests are answered.

mod info;
mod job;
mod recipe;
mod told;
mod work;

pub(crate) use info::TrainingInfo;
pub(crate) use job::{Request, Training};
