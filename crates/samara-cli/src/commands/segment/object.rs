//! An object that was asked for, with its answer.

use samara::{Candidates, Mask, Prompt, Selection};
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
    /// The name of its class, for formats that need one.
    pub(super) fn label(&self) -> &str {
        self.label.as_deref().unwrap_or(LABEL)
    }

    /// The predicted IoU of the selected candidate, if one is selected.
    pub(super) fn score(&self) -> Option<f32> {
        let best = self.selection.index.map(|i| &self.candidates.as_slice()[i]);
        best.map(|candidate| candidate.predicted_iou.0)
    }

    /// For annotation tools.
    pub(super) fn annotation(&self) -> Annotation<'_> {
        Annotation {
            label: self.label(),
            mask: self.mask(),
        }
    }

    /// The selected mask.
    pub(super) fn mask(&self) -> &Mask {
        &self.selection.mask
    }

    /// Its part of the report.
    pub(super) fn record(&self) -> ObjectRecord {
        ObjectRecord::new(self.label.clone(), &self.candidates, &self.selection)
    }
}
