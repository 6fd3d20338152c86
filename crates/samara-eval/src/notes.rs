//! What a report says beside its figures.

use super::options::EvalOptions;
use samara_data::prompts::Placement;

/// What notes depend on, beside the options.
#[expect(clippy::struct_excessive_bools, reason = "each is a note of its own")]
pub(super) struct Facts {
    /// Two models were compared.
    pub(super) compared: bool,
    /// Scores were calibrated on one half of the images and measured on the other.
    pub(super) cross_fitted: bool,
    /// A model brought a calibration.
    pub(super) calibrated: bool,
    /// A data set has so few images that intervals mean little.
    pub(super) few_images: bool,
}

/// What a reader of the report should know.
pub(super) fn notes(options: &EvalOptions, facts: &Facts) -> Vec<String> {
    let mut notes = vec!["Intervals: 95 %, bootstrap over images.".to_owned()];
    notes.push(clicks_in_words(options));
    notes.push(
        "Chosen: the mask that the model selects by itself. Best-matching: the one of the three \
         with the highest true IoU, whose true IoU the predicted one is meant to say."
            .into(),
    );
    if facts.compared {
        notes.push(
            "A − B: paired, on the same objects and first clicks and under the same resamples."
                .into(),
        );
    }
    if facts.cross_fitted {
        notes.push(
            "Calibration fitted here: to best-matching masks on one half of the images, measured on \
             the other."
                .into(),
        );
    }
    if facts.calibrated {
        notes.push(
            "Predicted IoU: by the calibration in the checkpoint; optimistic if it was fitted on \
             these images."
                .into(),
        );
    }
    if facts.few_images {
        notes.push("Fewer than 30 images: the intervals are too narrow.".into());
    }
    notes
}

/// Where clicks land.
fn clicks_in_words(options: &EvalOptions) -> String {
    let placements = options.placements();
    let words = placements.iter().map(|&placement| {
        let how = match placement {
            Placement::Center => return format!("{placement}: the deepest pixel of the object"),
            Placement::Uniform => "any pixel of the object alike",
            Placement::Human => "deeper pixels more often",
        };
        let draws = options.draws_of(placement);
        format!("{placement}: {how}, {draws} on every object")
    });
    let words: Vec<String> = words.collect();
    let begin = match placements.first().copied().unwrap_or_default() {
        Placement::Center => "the center click".to_owned(),
        first => format!("the first {first} click"),
    };
    let at = match options.further_clicks_at {
        Placement::Center => "on the deepest pixel of",
        Placement::Uniform => "anywhere in",
        Placement::Human => "rather in the middle of",
    };
    format!(
        "First clicks: {}. Further clicks begin with {begin} and land {at} the larger error.",
        words.join("; ")
    )
}
