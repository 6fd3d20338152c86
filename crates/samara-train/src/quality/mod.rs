//! Masks that a model did not make: [`audit`] finds the suspects among annotations, [`keep_others`]
//! leaves them out, [`propose_levels`] makes annotations of three granularities.
//!
//! Teaching a model to judge such masks: masks with a known truth are damaged on
//! purpose, and a [`QualityHead`](samara::QualityHead) learns their IoU from what the model, which
//! stays as it is, says about them.

mod audit;
mod damaged;
mod fit;
mod measure;

pub use audit::{
    AnnotationQuality, Audit, AuditOptions, Filter, Levels, LevelsOptions, Suspect, audit,
    keep_others, propose_levels,
};
pub use damaged::{DamageOptions, DamagedMask, damaged_masks};
pub use fit::{FitOptions, fit_quality_head};
pub use measure::{QualityFigures, measure};
