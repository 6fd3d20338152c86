//! How good a mask is that someone else made: another model, an annotator, a thresholded attention map.
//!
//! - [`QualityEstimator`] estimates the IoU of such masks with their unknown truth, with a
//!   [`QualityHead`] if the model has one,
//! - [`audit()`] does so with all annotations of a data set and names the suspects, [`keep_others`] writes
//!   the annotations without them,
//! - [`propose_levels`] clicks on every annotated object and writes whole, part and subpart as
//!   annotations,
//! - [`damaged_masks`] damages masks of a known truth on purpose, for a head to learn from, and
//!   [`measure()`] says how well estimates follow the truth.
#![forbid(unsafe_code)]

mod audit;
mod contrast;
mod damaged;
mod error;
mod estimator;
mod evidence;
mod external;
mod head;
mod measure;
mod outline;
mod shape;

pub use audit::{
    AnnotationQuality, Audit, AuditOptions, Filter, Levels, LevelsOptions, Suspect, audit,
    keep_others, propose_levels,
};
pub use damaged::{DamageOptions, DamagedMask, damaged_masks};
pub use error::{QualityError, Result};
pub use estimator::{EstimateSource, MaskQuality, QualityEstimator};
pub use evidence::Evidence;
pub use external::{ExternalMask, SoftMask};
pub use head::QualityHead;
#[cfg(feature = "embedded")]
pub use head::embedded_quality_head;
pub use measure::{QualityFigures, measure};
