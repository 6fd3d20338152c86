//! What each command does.

pub(crate) mod attention;
pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod eval;
pub(crate) mod everything;
pub(crate) mod journal;
pub(crate) mod levels;
pub(crate) mod models;
pub(crate) mod quality;
pub(crate) mod segment;
pub(crate) mod train;
pub(crate) mod video;

use std::path::Path;

use samara::{Intent, Segmenter};
use samara_data::DataSet;

use crate::terminal;

/// An intent means something to models with a candidate head alone.
fn tell_unused_intent(intent: Intent, segmenter: &Segmenter) {
    if intent != Intent::default() && segmenter.candidate_head().is_none() {
        let name = segmenter.name();
        let line =
            format!("--intent {intent}: {name} has no candidate head, so it changes nothing");
        terminal::tell("note", &line);
    }
}

/// Annotations name images relative to their own folder.
fn tell_elsewhere(flag: &str, out: &Path, data: &DataSet) {
    let folder = match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if folder.canonicalize().ok() != data.root.canonicalize().ok() {
        let notice = format!(
            "{flag} {}: to be read, it needs the images of {} in an images/ folder beside it",
            out.display(),
            data.image_dir.display()
        );
        terminal::tell("notice", &notice);
    }
}
