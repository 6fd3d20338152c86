//! An object that was asked for, with its answer.

use samara::{Candidates, Prompt, Selection};
use samara_image::Annotation;

use crate::report::ObjectRecord;

/// What an object without a name is called where a format needs a name.
const LABEL: &str = "object";

/// One object: what was asked, what was answered, what was selected.
pub(super) struct Object {
    pub(super) label: Option<String>,
    pub(super) prompt: Prompt,
    pub(super) candidates: Candidates,
    pub(super) selection: Selection,
}

impl Object {
    /// The selected mask, for annotation tools.
    pub(super) fn annotation(&self) -> Annotation {
        let best = self.selection.index.map(|i| &self.candidates.as_slice()[i]);
        Annotation {
            label: self.label.clone().unwrap_or_else(|| LABEL.into()),
            score: best.map(|candidate| candidate.predicted_iou.0),
            mask: self.selection.mask.clone(),
        }
    }

    /// Its part of the report.
    pub(super) fn record(&self) -> ObjectRecord {
        ObjectRecord::new(self.label.clone(), &self.candidates, &self.selection)
    }
}
