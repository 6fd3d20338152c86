//! Everything in an image: masks from a grid of points, without a prompt.
//!
//! The result is that of the official `SamAutomaticMaskGenerator`, step by step; what differs is
//! what is not computed in vain. Scores come before masks, so a mask that its score drops is never
//! drawn; one that stays is thresholded, measured and packed while it is drawn, and no image of
//! logits is kept.

mod adaptive;
#[cfg(test)]
mod amg_tests;
mod answers;
mod crop;
mod found;
mod generator;
mod grid;
mod hierarchy;
mod nms;
mod options;
mod record;
mod small_regions;
mod thresholds;

pub use generator::MaskGenerator;
pub use grid::PointGrid;
pub use hierarchy::{Hierarchy, Node};
pub use options::{MaskGeneratorOptions, OutputMode};
pub use record::{MaskRecord, Segmentation};
pub use thresholds::MaskThresholds;
