//! Training and evaluation of promptable segmentation models.

pub mod losses;
pub mod prompts;
