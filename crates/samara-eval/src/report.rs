//! The report of an evaluation: as JSON, as text (in `text`), and as a page (in `html`).

use serde::Serialize;

use super::bootstrap::Figure;
use super::evaluate::Evaluation;
use super::figures::{PromptEstimates, PromptFigures};
use super::notes::{Facts, notes};
use super::options::EvalOptions;
use super::outcome::Case;
use super::summary::{Reliability, Summary};
use super::timing::Timing;

/// Seed of the resamples: the same evaluation gives the same intervals.
const SEED: u64 = 0x5A3A_7A00;

/// Intervals of fewer images are too narrow.
const FEW_IMAGES: usize = 30;

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
    /// The numbers that it multiplied, such as `fp32`.
    pub precision: &'static str,
    /// Where it ran.
    pub device: String,
}

/// The evaluations of one model.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The model.
    pub model: ModelDescription,
    /// Where the calibrated scores come from.
    pub calibration: CalibrationSource,
    /// Every data set, with at least one object each.
    pub evaluations: &'a [Evaluation],
}

/// The report of an evaluation.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The model and its figures.
    #[serde(flatten)]
    pub subject: ModelReport,
    /// The split of the data sets.
    pub split: String,
    /// What was evaluated.
    pub options: EvalOptions,
    /// Another model on the same objects and first clicks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared_with: Option<ModelReport>,
    /// How much higher the figures of the first model are than those of the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// The figures of one model.
#[derive(Debug, Serialize)]
pub struct ModelReport {
    /// The model.
    #[serde(flatten)]
    pub model: ModelDescription,
    /// Where the calibrated scores come from.
    pub calibration: CalibrationSource,
    /// Every data set.
    pub data_sets: Vec<DataSetReport>,
    /// All together.
    pub overall: Overall,
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
    pub mean_over_data_sets: PromptFigures,
    /// Every object counts the same.
    pub over_all_objects: PromptFigures,
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
    /// Objects that were too large.
    pub too_large: usize,
    /// Records that could not be used.
    pub skipped: usize,
    /// The same in words.
    pub skipped_because: String,
    /// Files that could not be read, and why.
    pub failed: Vec<String>,
    /// Seconds by stage.
    pub seconds: Timing,
    /// Milliseconds per prompt and object, without the embedding.
    pub ms_per_prompt: f64,
    /// All figures.
    #[serde(flatten)]
    pub figures: PromptFigures,
    /// mIoU after 1, 2, … clicks.
    pub miou_by_clicks: Vec<Figure>,
    /// Scores against true IoU of the best-matching candidates of first clicks.
    pub reliability: Reliability,
    /// Objects by IoU after the first click, in twentieths.
    pub iou_histogram: [usize; 20],
    /// The worst cases.
    pub worst: Vec<Case>,
    /// The best cases.
    pub best: Vec<Case>,
}

/// Figures of one model minus those of another, under the same resamples of the same images.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// Every data set.
    pub data_sets: Vec<DataSetDifference>,
    /// Every data set counts the same.
    pub mean_over_data_sets: PromptFigures,
    /// Every object counts the same.
    pub over_all_objects: PromptFigures,
}

/// The difference on one data set.
#[derive(Debug, Serialize)]
pub struct DataSetDifference {
    /// Name of the data set.
    pub name: String,
    /// All figures that both models have.
    #[serde(flatten)]
    pub figures: PromptFigures,
}

/// What figures and differences are made of.
struct AllEstimates {
    sets: Vec<PromptEstimates>,
    mean: PromptEstimates,
    pooled: PromptEstimates,
}

impl Report {
    /// Makes figures of the evaluations. Those of `other` must come of
    /// [`evaluate_together`](super::evaluate_together) with those of `subject`.
    pub fn new(
        split: &str,
        options: &EvalOptions,
        subject: Subject<'_>,
        other: Option<Subject<'_>>,
    ) -> Self {
        let estimates = AllEstimates::of(subject.evaluations, options);
        let subject = ModelReport::new(subject, options, &estimates);
        let (mut compared_with, mut difference) = (None, None);
        if let Some(other) = other {
            let of_other = AllEstimates::of(other.evaluations, options);
            let names = subject.data_sets.iter().map(|set| set.name.clone());
            difference = Some(estimates.minus(&of_other, names));
            compared_with = Some(ModelReport::new(other, options, &of_other));
        }
        let models = || {
            [Some(&subject), compared_with.as_ref()]
                .into_iter()
                .flatten()
        };
        let any_set = |holds: fn(&DataSetReport) -> bool| {
            models().flat_map(|model| &model.data_sets).any(holds)
        };
        let facts = Facts {
            compared: compared_with.is_some(),
            cross_fitted: any_set(|set| set.reliability.calibrated.is_some()),
            calibrated: models().any(|m| m.calibration == CalibrationSource::Checkpoint),
            few_images: any_set(|set| set.images < FEW_IMAGES),
        };
        Self {
            notes: notes(options, &facts),
            split: split.into(),
            options: options.clone(),
            subject,
            compared_with,
            difference,
        }
    }

    /// The report as JSON, ending with a line break.
    ///
    /// # Errors
    /// Never, as far as we know; what the serialiser says.
    pub fn to_json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

impl AllEstimates {
    fn of(evaluations: &[Evaluation], options: &EvalOptions) -> Self {
        let sets: Vec<(&[_], usize)> = evaluations
            .iter()
            .map(|e| (&e.objects[..], e.images))
            .collect();
        let numbered = sets.iter().zip(SEED..);
        let each: Vec<PromptEstimates> = numbered
            .map(|(&set, seed)| Summary::new(&[set], seed).estimates(options))
            .collect();
        let pooled = match each.as_slice() {
            [only] => only.clone(),
            _ => Summary::new(&sets, SEED).estimates(options),
        };
        Self {
            mean: PromptEstimates::mean(&each),
            sets: each,
            pooled,
        }
    }

    fn minus(&self, other: &Self, names: impl Iterator<Item = String>) -> Difference {
        let sets = self.sets.iter().zip(&other.sets).zip(names);
        let data_sets = sets.map(|((a, b), name)| DataSetDifference {
            name,
            figures: a.minus(b).figures(),
        });
        Difference {
            data_sets: data_sets.collect(),
            mean_over_data_sets: self.mean.minus(&other.mean).figures(),
            over_all_objects: self.pooled.minus(&other.pooled).figures(),
        }
    }
}

impl ModelReport {
    fn new(subject: Subject<'_>, options: &EvalOptions, estimates: &AllEstimates) -> Self {
        let sets = subject.evaluations.iter().zip(&estimates.sets).zip(SEED..);
        let data_sets: Vec<DataSetReport> = sets
            .map(|((e, estimates), seed)| data_set(e, estimates.figures(), options, seed))
            .collect();
        Self {
            model: subject.model,
            calibration: subject.calibration,
            overall: Overall {
                images: data_sets.iter().map(|d| d.images).sum(),
                objects: data_sets.iter().map(|d| d.objects).sum(),
                mean_over_data_sets: estimates.mean.figures(),
                over_all_objects: estimates.pooled.figures(),
            },
            seconds: data_sets.iter().map(|d| d.seconds.total).sum(),
            data_sets,
        }
    }
}

fn data_set(
    evaluation: &Evaluation,
    figures: PromptFigures,
    options: &EvalOptions,
    seed: u64,
) -> DataSetReport {
    let summary = Summary::new(&[(&evaluation.objects, evaluation.images)], seed);
    DataSetReport {
        name: evaluation.name.clone(),
        path: evaluation.root.display().to_string(),
        images: evaluation.images,
        objects: evaluation.objects.len(),
        too_small: evaluation.too_small,
        too_large: evaluation.too_large,
        skipped: evaluation.skipped.total(),
        skipped_because: evaluation.skipped.to_string(),
        failed: evaluation.skipped.unreadable(),
        seconds: evaluation.timing,
        ms_per_prompt: evaluation.timing.ms_per_prompt(),
        figures,
        miou_by_clicks: summary.miou_by_clicks(options.clicks),
        reliability: summary.reliability(),
        iou_histogram: summary.histogram(),
        worst: evaluation.gallery.worst.clone(),
        best: evaluation.gallery.best.clone(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::calibrate::tests::evaluation;
    use super::super::outcome::tests::{click, outcome};
    use super::*;
    use samara_data::prompts::Placement;

    fn model(name: &str) -> ModelDescription {
        ModelDescription {
            model: name.into(),
            architecture: "sam-vit-b".into(),
            fingerprint: "00ff".into(),
            precision: "fp32",
            device: "cpu".into(),
        }
    }

    /// Two data sets. A model that is `better` has three masks that are all right.
    fn evaluations(better: bool) -> [Evaluation; 2] {
        let mut one = outcome(0, [(0.9, 0.8), (0.5, 0.6), (0.1, 0.2)]);
        let mut two = outcome(1, [(0.7, 0.6), (0.4, 0.3), (0.3, 0.9)]);
        if better {
            for object in [&mut one, &mut two] {
                let candidates = &mut object.first[0].candidates;
                candidates.iter_mut().for_each(|c| c.iou = 1.0);
            }
        }
        for object in [&mut one, &mut two] {
            let pairs = [(0.9, 0.5), (0.5, 0.6), (0.1, 0.2)];
            object.first.push(click(Placement::Human, pairs));
        }
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
        [first, evaluation(1, vec![one])]
    }

    fn options() -> EvalOptions {
        EvalOptions {
            clicks_at: vec![Placement::Center, Placement::Human],
            draws: 1,
            clicks: 2,
            ..EvalOptions::default()
        }
    }

    fn subject<'a>(name: &str, evaluations: &'a [Evaluation]) -> Subject<'a> {
        Subject {
            model: model(name),
            calibration: CalibrationSource::CrossFit,
            evaluations,
        }
    }

    pub(crate) fn report() -> Report {
        let evaluations = evaluations(false);
        Report::new("val", &options(), subject("m.pth", &evaluations), None)
    }

    pub(crate) fn comparison() -> Report {
        let [better, worse] = [evaluations(true), evaluations(false)];
        let other = Some(subject("b<c.pth", &worse));
        Report::new("val", &options(), subject("m.pth", &better), other)
    }

    #[test]
    fn the_json_has_every_figure_with_its_interval() {
        let json = report().to_json().unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["architecture"], "sam-vit-b");
        assert_eq!(json["calibration"], "cross-fit");
        assert_eq!(json["options"]["clicks"], 2);
        assert_eq!(json["options"]["clicks_at"][1], "human");
        assert_eq!(json["options"]["intent"], "balanced");
        let set = &json["data_sets"][0];
        let chosen = &set["first_click"]["center"]["miou_chosen"];
        assert_eq!(chosen["value"], 0.7);
        for end in ["low", "high"] {
            assert!(chosen[end].is_f64(), "{set:#}");
        }
        assert_eq!(
            set["first_click"]["human"]["miou_best_of_three"]["value"],
            0.6
        );
        assert!(set["further_prompts"]["miou_box"]["value"].is_f64());
        assert!(set["worst"][0].get("jpeg").is_none());
        let overall = &json["overall"];
        assert_eq!(overall["objects"], 3);
        let miou = |of: &str| {
            let figure = &overall[of]["first_click"]["center"]["miou_chosen"];
            figure["value"].as_f64().unwrap()
        };
        assert_eq!(miou("mean_over_data_sets"), 0.75);
        assert!((miou("over_all_objects") - 2.2 / 3.0).abs() < 1e-9);
        assert!(json.get("difference").is_none() && json.get("compared_with").is_none());
    }

    #[test]
    fn a_comparison_has_both_models_and_their_difference() {
        let json = comparison().to_json().unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["model"], "m.pth");
        assert_eq!(json["compared_with"]["model"], "b<c.pth");
        let difference = &json["difference"];
        let of_first = &difference["data_sets"][0];
        assert_eq!(of_first["name"], json["data_sets"][0]["name"]);
        let value = |of: &serde_json::Value, key: &str| {
            let figure = &of["first_click"]["center"][key];
            ["value", "low", "high"].map(|end| figure[end].as_f64().unwrap())
        };
        let close = |actual: [f64; 3], expected: [f64; 3]| {
            let mut pairs = actual.iter().zip(expected);
            assert!(
                pairs.all(|(a, b)| (a - b).abs() < 1e-9),
                "{actual:?} {expected:?}"
            );
        };
        // The images of the first set: 0.8 and 0.6 became 1.
        close(value(of_first, "miou_chosen"), [0.3, 0.2, 0.4]);
        close(
            value(&difference["mean_over_data_sets"], "oracle_gap"),
            [-0.075, -0.15, 0.0],
        );
        // The other clicks are the same.
        let human = &of_first["first_click"]["human"]["miou_chosen"];
        assert_eq!(human["value"], 0.0);
        let pooled = &difference["over_all_objects"]["further_prompts"]["miou_2"];
        assert_eq!(
            (&pooled["low"], &pooled["high"]),
            (&0.0.into(), &0.0.into())
        );
    }
}
