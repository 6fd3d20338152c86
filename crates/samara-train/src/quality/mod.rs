//! Teaching a model to judge masks that it did not make: masks with a known truth are damaged on
//! purpose, and a [`QualityHead`](samara::QualityHead) learns their IoU from what the model, which
//! stays as it is, says about them.

mod damaged;
mod fit;
mod measure;

pub use damaged::{DamageOptions, DamagedMask, damaged_masks};
pub use fit::{FitOptions, fit_quality_head};
pub use measure::{QualityFigures, measure};
