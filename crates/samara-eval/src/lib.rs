//! Evaluation of a model: clicks as SAM's protocol gives them and as users do, figures with confidence
//! intervals, calibration of the predicted IoU, reports.
//!
//! The way of one evaluation: [`evaluate()`], or [`evaluate_together`] for models side by side, notes
//! an [`ObjectOutcome`] for every object, [`cross_fit`] calibrates their scores, a [`Summary`] makes
//! figures of them, a [`Report`] shows the figures as JSON, text or a page. [`evaluate_everything`]
//! does without prompts, [`evaluate_video`] follows objects through annotated videos.

#![forbid(unsafe_code)]

mod base64;
mod bootstrap;
mod calibrate;
mod chart;
mod clicks;
mod error;
mod evaluate;
mod everything;
mod figures;
mod gallery;
mod html;
mod isotonic;
pub mod metrics;
mod notes;
mod options;
mod outcome;
pub mod plot;
mod protocol;
mod report;
mod summary;
mod table;
mod temperature;
mod text;
mod timing;
mod video;

pub use bootstrap::{Bootstrap, Estimate, Figure};
pub use calibrate::{CalibrationKind, cross_fit, fit_calibration};
pub use error::EvalError;
pub use evaluate::{Evaluation, evaluate, evaluate_together, spread};
pub use everything::{EverythingReport, TreeAgreement, evaluate_everything};
pub use figures::{
    Estimates, FIRST_CLICK, FURTHER_PROMPTS, Figures, Group, Metric, PromptEstimates,
    PromptFigures, Unit,
};
pub use gallery::Gallery;
pub use isotonic::{Block, fit_curve, pool_adjacent_violators};
pub use options::EvalOptions;
pub use outcome::{BestAnnotator, Case, FirstClick, ObjectOutcome, Scored};
pub use report::{
    CalibrationSource, DataSetDifference, DataSetReport, Difference, ModelDescription, ModelReport,
    Overall, Report, Subject,
};
pub use summary::{BINS, Reliability, Summary};
pub use temperature::fit_temperature;
pub use timing::Timing;
pub use video::{
    FailedSequence, Measure, ObjectFigures, Presence, SequenceFigures, VideoDataSet,
    VideoEvalOptions, VideoFigures, VideoProtocol, VideoReport, VideoSequence, VideoSubject,
    evaluate_video,
};

/// What pages of reports are made of.
pub mod page {
    pub use crate::base64::encode as encode_base64;
    pub use crate::chart::histogram;
    pub use crate::gallery::mask_pair;
    pub use crate::html::{STYLE, escape};
}
