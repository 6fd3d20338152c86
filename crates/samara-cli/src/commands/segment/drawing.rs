//! The photo with masks, prompts and scores.

use std::cmp::Reverse;
use std::fmt::Write;

use samara::Candidate;
use samara_image::{Overlay, RgbImage, palette};

use super::object::Object;

/// The photo with masks, prompts and scores.
pub(super) fn overlay(image: &RgbImage, objects: &[Object], all: bool) -> RgbImage {
    let mut overlay = Overlay::new(image);
    let mut color = 0;
    for object in objects {
        if all {
            // Small masks over large ones.
            let mut candidates: Vec<_> = object.candidates.iter().collect();
            candidates.sort_by_key(|c| Reverse(c.mask.area()));
            for c in candidates {
                overlay = overlay.mask(&c.mask, palette(color)).label(label(c));
                color += 1;
            }
        } else {
            overlay = overlay.mask(&object.selection.mask, palette(color));
            if let Some(index) = object.selection.index {
                let c = &object.candidates.as_slice()[index];
                overlay = overlay.label(label(c));
            }
            color += 1;
        }
        for click in object.prompt.clicks() {
            overlay = overlay.point(click.at, click.positive);
        }
        if let Some(b) = object.prompt.box_prompt() {
            overlay = overlay.prompt_box(b);
        }
    }
    overlay.render()
}

/// Level, predicted IoU and, where there is one, match probability of a candidate.
fn label(candidate: &Candidate) -> String {
    let mut label = format!(
        "{} IoU {:.2}",
        candidate.granularity, candidate.predicted_iou
    );
    if let Some(probability) = candidate.match_probability {
        let _ = write!(label, " match {:.0}%", 100.0 * probability.0);
    }
    label
}
