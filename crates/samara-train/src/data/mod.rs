//! Annotated images for training and evaluation: data sets on disk, augmentation, the choice of
//! examples, and threads that make them ahead of time.
//!
//! The way of the data: [`DataSet::open`] lists records without decoding anything, a [`Sampler`]
//! draws one example from a random generator, a [`Loader`] draws them in order on several threads.

mod augment;
mod coco;
mod damage;
mod dataset;
mod error;
mod label_folder;
mod loader;
mod sampler;
#[cfg(test)]
pub(crate) mod testing;

pub use augment::{Augmentation, View};
pub use damage::Damage;
pub use dataset::{DataSet, ImageRecord, ObjectRecord, Sample, SampleObject, Segmentation};
pub use error::{BadRecord, DataError, Fault, Skipped};
pub use loader::Loader;
pub use sampler::{DataSpec, Example, ExampleObject, ExampleSpec, Sampler};
