//! What each command does.

pub(crate) mod attention;
pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod eval;
pub(crate) mod everything;
mod journal;
pub(crate) mod models;
pub(crate) mod segment;
pub(crate) mod train;
pub(crate) mod video;
