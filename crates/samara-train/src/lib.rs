//! Training and evaluation of promptable segmentation models.

pub mod data;
pub mod eval;
pub mod prompts;
