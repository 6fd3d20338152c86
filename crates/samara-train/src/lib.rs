//! Training and evaluation of promptable segmentation models.

pub mod data;
pub mod losses;
pub mod prompts;
