//! Annotated images for training and evaluation: data sets on disk, augmentation, the choice of
//! examples, and threads that make them ahead of time.
//!
//! [`prompts`] is a simulated user.
//!
//! The way of the data: [`DataSet::open`] lists records without decoding anything, a [`Sampler`]
//! draws one example from a random generator, a [`Loader`] draws them in order on several threads.

#![forbid(unsafe_code)]

mod augment;
mod coco;
mod coco_id;
mod damage;
mod dataset;
mod error;
mod label_folder;
mod loader;
mod open;
pub mod prompts;
mod sampler;
#[cfg(any(test, feature = "testing"))]
#[allow(
    clippy::missing_panics_doc,
    clippy::new_without_default,
    clippy::unwrap_used,
    missing_docs,
    reason = "for tests, which fail by panicking"
)]
pub mod testing;

pub use augment::{Augmentation, View};
pub use coco_id::CocoId;
pub use damage::Damage;
pub use dataset::{
    Category, DataOptions, DataSet, ImageRecord, ObjectRecord, Sample, SampleObject, Segmentation,
};
pub use error::{BadRecord, DataError, Fault, Skipped};
pub use loader::Loader;
pub use sampler::{DataSpec, Example, ExampleObject, ExampleSpec, Sampler};
