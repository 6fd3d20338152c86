//! The report of an evaluation: as JSON, as text, and (in `html`) as a page.

use std::fmt::Write;

use serde::Serialize;

use super::bootstrap::Figure;
use super::evaluate::{EvalOptions, Evaluation, Timing};
use super::metrics::Bin;
use super::outcome::Case;
use super::summary::{Figures, METRICS, Summary, figures, mean_over_sets};

/// Seed of the resamples: the same evaluation gives the same intervals.
const SEED: u64 = 0x5A3A_7A00;

/// Where the calibrated scores come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CalibrationSource {
    /// The calibration in the checkpoint.
    Checkpoint,
    /// Two-fold cross-fitting over the evaluated images.
    CrossFit,
}

/// The model that was evaluated.
#[derive(Debug, Clone, Serialize)]
pub struct ModelDescription {
    /// Its name or file.
    pub model: String,
    /// Its architecture, such as `sam-vit-b`.
    pub architecture: String,
    /// SHA-256 over its weights.
    pub fingerprint: String,
    /// Where it ran.
    pub device: String,
}

/// The report of an evaluation.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The model.
    #[serde(flatten)]
    pub model: ModelDescription,
    /// The split of the data sets.
    pub split: String,
    /// What was evaluated.
    pub options: EvalOptions,
    /// Where the calibrated scores come from.
    pub calibration: CalibrationSource,
    /// Every data set.
    pub data_sets: Vec<DataSetReport>,
    /// All together.
    pub overall: Overall,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// Seconds that all data sets took.
    pub seconds: f64,
}

/// Figures over all data sets.
#[derive(Debug, Serialize)]
pub struct Overall {
    /// Images.
    pub images: usize,
    /// Objects.
    pub objects: usize,
    /// Every data set counts the same: what papers report.
    pub mean_over_data_sets: Figures,
    /// Every object counts the same.
    pub over_all_objects: Figures,
}

/// The report on one data set.
#[derive(Debug, Serialize)]
pub struct DataSetReport {
    /// Name of the data set.
    pub name: String,
    /// Its folder.
    pub path: String,
    /// Images with objects.
    pub images: usize,
    /// Objects.
    pub objects: usize,
    /// Objects that were too small.
    pub too_small: usize,
    /// Records that could not be used.
    pub skipped: usize,
    /// The same in words.
    pub skipped_because: String,
    /// Seconds by stage.
    pub seconds: Timing,
    /// Milliseconds per prompt and object, embedding left out.
    pub ms_per_prompt: f64,
    /// All figures.
    pub figures: Figures,
    /// mIoU after 1, 2, … clicks.
    pub miou_by_clicks: Vec<Figure>,
    /// Raw score against true IoU of the first click's candidates.
    pub reliability: Vec<Bin>,
    /// The same for the calibrated score.
    pub reliability_calibrated: Option<Vec<Bin>>,
    /// Objects by IoU after the first click, in twentieths.
    pub iou_histogram: [usize; 20],
    /// The worst cases.
    pub worst: Vec<Case>,
    /// The best cases.
    pub best: Vec<Case>,
}

impl Report {
    /// Makes figures of the evaluations, which must hold at least one object each.
    pub fn new(
        model: ModelDescription,
        split: &str,
        options: &EvalOptions,
        calibration: CalibrationSource,
        evaluations: &[Evaluation],
    ) -> Self {
        let mut data_sets = Vec::new();
        let mut estimates = Vec::new();
        for (evaluation, seed) in evaluations.iter().zip(SEED..) {
            let summary = Summary::new(&[(&evaluation.objects, evaluation.images)], seed);
            let of_set = summary.estimates(options.clicks, options.noc);
            data_sets.push(data_set(evaluation, &summary, figures(&of_set), options));
            estimates.push(of_set);
        }
        let sets: Vec<_> = evaluations
            .iter()
            .map(|e| (&e.objects[..], e.images))
            .collect();
        let mean_over_data_sets = mean_over_sets(&estimates);
        let over_all_objects = match data_sets.as_slice() {
            [only] => only.figures.clone(),
            _ => figures(&Summary::new(&sets, SEED).estimates(options.clicks, options.noc)),
        };
        Self {
            model,
            split: split.into(),
            options: options.clone(),
            calibration,
            overall: Overall {
                images: data_sets.iter().map(|d| d.images).sum(),
                objects: data_sets.iter().map(|d| d.objects).sum(),
                mean_over_data_sets,
                over_all_objects,
            },
            notes: notes(calibration, &data_sets),
            seconds: data_sets.iter().map(|d| d.seconds.total).sum(),
            data_sets,
        }
    }

    /// The report as JSON, ending with a line break.
    ///
    /// # Errors
    /// Never, as far as we know; what the serialiser says.
    pub fn to_json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Titles and figures of the table's columns: every data set, then their mean.
    pub(super) fn columns(&self) -> Vec<(String, &Figures)> {
        let sets = self.data_sets.iter();
        let mut columns: Vec<_> = sets.map(|d| (d.name.clone(), &d.figures)).collect();
        if columns.len() > 1 {
            columns.push(("mean of sets".into(), &self.overall.mean_over_data_sets));
            columns.push(("all objects".into(), &self.overall.over_all_objects));
        }
        columns
    }

    /// The report as a table for a terminal; intervals in brackets.
    pub fn to_text(&self) -> String {
        let columns = self.columns();
        let mut text = format!("{}, split {}\n", self.model.architecture, self.split);
        for set in &self.data_sets {
            let _ = writeln!(
                text,
                "{}: {} images, {} objects, {:.1} s ({:.0} ms to embed an image, {:.1} ms a prompt); \
                 left out: {}{}",
                set.name,
                set.images,
                set.objects,
                set.seconds.total,
                1000.0 * set.seconds.embed / set.images as f64,
                set.ms_per_prompt,
                set.skipped_because,
                match set.too_small {
                    0 => String::new(),
                    count => format!(", {count} too small"),
                }
            );
        }
        let _ = write!(text, "\n{:<32}", "");
        for (title, _) in &columns {
            let _ = write!(text, "  {:>22}", shortened(title));
        }
        text.push('\n');
        for (key, label, unit) in METRICS {
            if columns
                .iter()
                .all(|(_, figures)| !figures.contains_key(key))
            {
                continue;
            }
            let _ = write!(text, "{label:<32}");
            for (_, figures) in &columns {
                let cell = figures.get(key).map_or_else(String::new, |f| {
                    let [value, low, high] = [f.value, f.low, f.high].map(|v| unit.show(v));
                    format!("{value} [{low}, {high}]")
                });
                let _ = write!(text, "  {cell:>22}");
            }
            text.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(text, "{note}");
        }
        text
    }
}

/// A title that fits a column.
fn shortened(title: &str) -> String {
    match title.char_indices().nth(22) {
        Some(_) => title.chars().take(21).chain(['…']).collect(),
        None => title.into(),
    }
}

fn data_set(
    evaluation: &Evaluation,
    summary: &Summary<'_>,
    figures: Figures,
    options: &EvalOptions,
) -> DataSetReport {
    let (reliability, reliability_calibrated) = summary.reliability();
    DataSetReport {
        name: evaluation.name.clone(),
        path: evaluation.root.display().to_string(),
        images: evaluation.images,
        objects: evaluation.objects.len(),
        too_small: evaluation.too_small,
        skipped: evaluation.skipped.total(),
        skipped_because: evaluation.skipped.to_string(),
        seconds: evaluation.timing,
        ms_per_prompt: evaluation.timing.ms_per_prompt(),
        figures,
        miou_by_clicks: summary.miou_by_clicks(options.clicks),
        reliability,
        reliability_calibrated,
        iou_histogram: summary.histogram(),
        worst: evaluation.gallery.worst.clone(),
        best: evaluation.gallery.best.clone(),
    }
}

fn notes(calibration: CalibrationSource, data_sets: &[DataSetReport]) -> Vec<String> {
    let mut notes = vec!["Intervals: 95 %, bootstrap over images.".to_owned()];
    if data_sets
        .iter()
        .any(|set| set.reliability_calibrated.is_some())
    {
        notes.push(match calibration {
            CalibrationSource::Checkpoint => {
                "Calibrated: by the calibration in the checkpoint; optimistic if it was fitted on \
                 these images."
                    .to_owned()
            }
            CalibrationSource::CrossFit => {
                "Calibrated: fitted on one half of the images, measured on the other.".to_owned()
            }
        });
    }
    if data_sets.iter().any(|set| set.images < 30) {
        notes.push("Fewer than 30 images: the intervals are too narrow.".to_owned());
    }
    notes
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::calibrate::tests::evaluation;
    use super::super::outcome::tests::outcome;
    use super::*;

    pub(crate) fn report() -> Report {
        let one = outcome(0, [(0.9, 0.8), (0.5, 0.6), (0.1, 0.2)]);
        let two = outcome(1, [(0.7, 0.6), (0.4, 0.3), (0.3, 0.9)]);
        let mut first = evaluation(2, vec![one.clone(), two]);
        first.name = "<first> & more than fits a column".into();
        first.gallery.worst.push(Case {
            image: "a<b.jpg".into(),
            object: 7,
            click: [1.5, 2.5],
            iou: 0.25,
            predicted_iou: 0.5,
            jpeg: b"foobar".to_vec(),
        });
        let evaluations = [first, evaluation(1, vec![one])];
        let model = ModelDescription {
            model: "m.pth".into(),
            architecture: "sam-vit-b".into(),
            fingerprint: "00ff".into(),
            device: "cpu".into(),
        };
        let options = EvalOptions {
            clicks: 2,
            ..EvalOptions::default()
        };
        Report::new(
            model,
            "val",
            &options,
            CalibrationSource::CrossFit,
            &evaluations,
        )
    }

    #[test]
    fn the_json_has_every_figure_with_its_interval() {
        let json = report().to_json().unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["architecture"], "sam-vit-b");
        assert_eq!(json["calibration"], "cross-fit");
        assert_eq!(json["options"]["clicks"], 2);
        let set = &json["data_sets"][0];
        assert_eq!(set["figures"]["miou_1"]["value"], 0.7);
        for end in ["low", "high"] {
            assert!(set["figures"]["miou_1"][end].is_f64(), "{set:#}");
        }
        assert!(set["worst"][0].get("jpeg").is_none());
        let overall = &json["overall"];
        assert_eq!(overall["objects"], 3);
        assert_eq!(overall["mean_over_data_sets"]["miou_1"]["value"], 0.75);
        let pooled = overall["over_all_objects"]["miou_1"]["value"]
            .as_f64()
            .unwrap();
        assert!((pooled - 2.2 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn the_table_has_a_column_per_set_and_two_for_all() {
        let text = report().to_text();
        let line = |begin: &str| text.lines().find(|l| l.starts_with(begin)).unwrap();
        let row = line("mIoU, 1 click, automatic");
        assert_eq!(row.matches('[').count(), 4, "{row}");
        assert!(
            row.contains("70.0 [60.0, 80.0]") && row.contains("75.0 ["),
            "{row}"
        );
        assert!(text.contains("<first> & more than f…"), "{text}");
        assert!(
            !text.contains("NoC") && !text.contains("9 clicks"),
            "{text}"
        );
        assert!(text.contains("Fewer than 30 images"), "{text}");
    }
}
