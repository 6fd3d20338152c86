//! The native API, under `/v1`.
#![allow(
    unused_qualifications,
    reason = "the macro that describes routes writes them"
)]

pub(crate) mod edits;
pub(crate) mod embeddings;
pub(crate) mod formats;
pub(crate) mod images;
pub(crate) mod jobs;
pub(crate) mod models;
pub(crate) mod pictures;
pub(crate) mod predict;
pub(crate) mod project;
pub(crate) mod quality;
pub(crate) mod tracks;
pub(crate) mod training;
pub(crate) mod videos;
