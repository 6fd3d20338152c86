//! Training and evaluation of promptable segmentation models.

pub mod prompts;
