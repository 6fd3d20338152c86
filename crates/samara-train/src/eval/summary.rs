//! From records of objects to figures.

use std::collections::BTreeMap;

use super::bootstrap::{Bootstrap, Estimate, Figure};
use super::metrics::{
    Bin, Spearman, expected_calibration_error, mean, mean_absolute_error, pearson, reliability,
};
use super::outcome::ObjectOutcome;

/// Bins of a reliability diagram.
pub const BINS: usize = 15;

/// How a figure is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A share, shown in percent.
    Percent,
    /// A correlation or an error, shown as it is.
    Plain,
    /// Clicks.
    Clicks,
}

impl Unit {
    /// The value as a table shows it.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Percent => format!("{:.1}", 100.0 * value),
            Self::Plain => format!("{value:.3}"),
            Self::Clicks => format!("{value:.2}"),
        }
    }
}

/// All figures: key, what a table calls it, unit; in the order of a table.
pub const METRICS: [(&str, &str, Unit); 29] = [
    ("miou_1", "mIoU, 1 click, automatic", Unit::Percent),
    ("miou_1_oracle", "mIoU, 1 click, oracle", Unit::Percent),
    ("oracle_gap", "oracle ahead of automatic", Unit::Percent),
    (
        "miou_1_any_annotator",
        "mIoU, 1 click, best annotator",
        Unit::Percent,
    ),
    (
        "miou_1_oracle_any_annotator",
        "the same, oracle",
        Unit::Percent,
    ),
    ("miou_2", "mIoU, 2 clicks", Unit::Percent),
    ("miou_3", "mIoU, 3 clicks", Unit::Percent),
    ("miou_5", "mIoU, 5 clicks", Unit::Percent),
    ("miou_9", "mIoU, 9 clicks", Unit::Percent),
    ("miou_box", "mIoU, box", Unit::Percent),
    ("boundary_iou_1", "boundary IoU, 1 click", Unit::Percent),
    ("boundary_iou_5", "boundary IoU, 5 clicks", Unit::Percent),
    ("noc_80", "NoC@80", Unit::Clicks),
    ("noc_85", "NoC@85", Unit::Clicks),
    ("noc_90", "NoC@90", Unit::Clicks),
    ("score_pearson", "score, Pearson", Unit::Plain),
    ("score_spearman", "score, Spearman", Unit::Plain),
    ("score_mae", "score, MAE", Unit::Plain),
    ("score_ece", "score, ECE", Unit::Plain),
    ("selection_accuracy", "best mask selected", Unit::Percent),
    ("calibrated_pearson", "calibrated, Pearson", Unit::Plain),
    ("calibrated_spearman", "calibrated, Spearman", Unit::Plain),
    ("calibrated_mae", "calibrated, MAE", Unit::Plain),
    ("calibrated_ece", "calibrated, ECE", Unit::Plain),
    (
        "calibrated_selection_accuracy",
        "calibrated, best mask selected",
        Unit::Percent,
    ),
    (
        "chosen_pearson",
        "score of the chosen mask, Pearson",
        Unit::Plain,
    ),
    ("chosen_mae", "score of the chosen mask, MAE", Unit::Plain),
    (
        "answers_pearson",
        "score of all answers, Pearson",
        Unit::Plain,
    ),
    ("answers_mae", "score of all answers, MAE", Unit::Plain),
];

/// Numbers of clicks after which the mIoU is a figure.
const CLICKS: [(&str, usize); 4] = [("miou_2", 2), ("miou_3", 3), ("miou_5", 5), ("miou_9", 9)];

/// Estimates by key; a figure that was not asked for or is undefined is absent.
pub type Estimates = BTreeMap<&'static str, Estimate>;
/// Figures by key of [`METRICS`].
pub type Figures = BTreeMap<&'static str, Figure>;

/// The objects of one or several data sets, and the resamples of their images.
pub struct Summary<'a> {
    objects: Vec<&'a ObjectOutcome>,
    /// Image of every object, counted through all data sets.
    image: Vec<usize>,
    bootstrap: Bootstrap,
}

impl<'a> Summary<'a> {
    /// Objects of data sets with the given numbers of images.
    pub fn new(sets: &[(&'a [ObjectOutcome], usize)], seed: u64) -> Self {
        let (mut objects, mut image, mut images) = (Vec::new(), Vec::new(), 0);
        for &(of_set, count) in sets {
            objects.extend(of_set);
            image.extend(of_set.iter().map(|o| images + o.image));
            images += count;
        }
        Self {
            objects,
            image,
            bootstrap: Bootstrap::new(images, Bootstrap::RESAMPLES, seed),
        }
    }

    /// The mean of a value over the objects that have it.
    fn mean_of(&self, value: impl Fn(&ObjectOutcome) -> Option<f64>) -> Option<Estimate> {
        let pairs = self.objects.iter().zip(&self.image);
        let (values, image): (Vec<f64>, Vec<usize>) =
            pairs.filter_map(|(o, &i)| Some((value(o)?, i))).unzip();
        self.bootstrap.estimate(&image, |w| mean(&values, w))
    }

    /// All estimates; `clicks` were given to every object, `noc` says that there were up to 20.
    pub fn estimates(&self, clicks: usize, noc: bool) -> Estimates {
        let gap = |o: &ObjectOutcome| o.oracle_iou() - o.automatic_iou();
        let mut all = vec![
            ("miou_1", self.mean_of(|o| Some(o.automatic_iou()))),
            ("miou_1_oracle", self.mean_of(|o| Some(o.oracle_iou()))),
            ("oracle_gap", self.mean_of(|o| Some(gap(o)))),
            ("miou_box", self.mean_of(|o| Some(o.boxed.iou))),
            ("boundary_iou_1", self.mean_of(|o| Some(o.boundary_first))),
            ("selection_accuracy", self.mean_of(|o| Some(o.chose_best()))),
            (
                "calibrated_selection_accuracy",
                self.mean_of(ObjectOutcome::chose_best_calibrated),
            ),
            (
                "miou_1_any_annotator",
                self.mean_of(|o| o.best_annotator.map(|b| b.automatic)),
            ),
            (
                "miou_1_oracle_any_annotator",
                self.mean_of(|o| o.best_annotator.map(|b| b.oracle)),
            ),
        ];
        for (key, after) in CLICKS.into_iter().filter(|&(_, after)| after <= clicks) {
            all.push((key, self.mean_of(|o| Some(o.iou_after(after)))));
        }
        if clicks >= 5 {
            all.push(("boundary_iou_5", self.mean_of(|o| o.boundary_fifth)));
        }
        if noc {
            for (key, quality) in [("noc_80", 0.80), ("noc_85", 0.85), ("noc_90", 0.90)] {
                all.push((key, self.mean_of(|o| Some(o.clicks_to(quality)))));
            }
        }
        all.extend(self.score_figures(&self.raw_scores(), RAW_KEYS));
        if let Some(calibrated) = self.calibrated_scores() {
            all.extend(self.score_figures(&calibrated, CALIBRATED_KEYS));
        }
        let chosen = |o: &ObjectOutcome| vec![o.chosen()];
        all.extend(self.shown_figures(chosen, ["chosen_pearson", "chosen_mae"]));
        let keys = ["answers_pearson", "answers_mae"];
        all.extend(self.shown_figures(ObjectOutcome::answers, keys));
        let defined = all.into_iter().filter_map(|(key, e)| Some((key, e?)));
        defined.collect()
    }

    fn score_figures(
        &self,
        scores: &[f64],
        keys: [&'static str; 4],
    ) -> [(&'static str, Option<Estimate>); 4] {
        let (truth, image) = self.candidates();
        let estimate = |figure: &(dyn Fn(&[f64]) -> Option<f64> + Sync)| {
            self.bootstrap.estimate(&image, figure)
        };
        let spearman = Spearman::new(scores, &truth);
        let figures = [
            estimate(&|w| pearson(scores, &truth, w)),
            estimate(&|w| spearman.correlation(w)),
            estimate(&|w| mean_absolute_error(scores, &truth, w)),
            estimate(&|w| expected_calibration_error(&reliability(scores, &truth, w, BINS))),
        ];
        let mut keys = keys.into_iter();
        figures.map(|figure| (keys.next().unwrap_or_default(), figure))
    }

    /// Figures of the scores and true IoU of what a user sees.
    fn shown_figures(
        &self,
        shown: impl Fn(&ObjectOutcome) -> Vec<(f64, f64)>,
        [correlation, error]: [&'static str; 2],
    ) -> [(&'static str, Option<Estimate>); 2] {
        let (mut scores, mut truth, mut images) = (Vec::new(), Vec::new(), Vec::new());
        for (object, &image) in self.objects.iter().zip(&self.image) {
            for (score, iou) in shown(object) {
                scores.push(score);
                truth.push(iou);
                images.push(image);
            }
        }
        let estimate = |figure: &(dyn Fn(&[f64]) -> Option<f64> + Sync)| {
            self.bootstrap.estimate(&images, figure)
        };
        [
            (correlation, estimate(&|w| pearson(&scores, &truth, w))),
            (
                error,
                estimate(&|w| mean_absolute_error(&scores, &truth, w)),
            ),
        ]
    }

    /// True IoU and image of every candidate of a first click.
    fn candidates(&self) -> (Vec<f64>, Vec<usize>) {
        let pairs = self.objects.iter().zip(&self.image);
        pairs
            .flat_map(|(o, &image)| o.candidates.iter().map(move |c| (c.iou, image)))
            .unzip()
    }

    fn raw_scores(&self) -> Vec<f64> {
        let candidates = self.objects.iter().flat_map(|o| &o.candidates);
        candidates.map(|c| c.raw).collect()
    }

    fn calibrated_scores(&self) -> Option<Vec<f64>> {
        let scores = self.objects.iter().map(|o| o.calibrated.as_deref());
        let scores: Option<Vec<&[f64]>> = scores.collect();
        Some(scores?.concat())
    }

    /// mIoU after 1, 2, … `clicks` clicks.
    pub fn miou_by_clicks(&self, clicks: usize) -> Vec<Figure> {
        let after = |clicks: usize| self.mean_of(|o| Some(o.iou_after(clicks)));
        (1..=clicks)
            .filter_map(|clicks| Some(after(clicks)?.figure()))
            .collect()
    }

    /// Reliability diagram of the raw scores, and of the calibrated ones.
    pub fn reliability(&self) -> (Vec<Bin>, Option<Vec<Bin>>) {
        let (truth, _) = self.candidates();
        let ones = vec![1.0; truth.len()];
        let diagram = |scores: &[f64]| reliability(scores, &truth, &ones, BINS);
        let calibrated = self.calibrated_scores();
        (
            diagram(&self.raw_scores()),
            calibrated.as_deref().map(diagram),
        )
    }

    /// How many objects have an IoU of 0 to 0.05, … 0.95 to 1 after the first click.
    pub fn histogram(&self) -> [usize; 20] {
        let mut counts = [0; 20];
        for object in &self.objects {
            counts[((object.automatic_iou() * 20.0) as usize).min(19)] += 1;
        }
        counts
    }
}

const RAW_KEYS: [&str; 4] = ["score_pearson", "score_spearman", "score_mae", "score_ece"];
const CALIBRATED_KEYS: [&str; 4] = [
    "calibrated_pearson",
    "calibrated_spearman",
    "calibrated_mae",
    "calibrated_ece",
];

/// The figures of estimates.
pub fn figures(estimates: &Estimates) -> Figures {
    let figures = estimates.iter();
    figures.map(|(&key, e)| (key, e.figure())).collect()
}

/// The mean over data sets of every figure that all of them have.
pub fn mean_over_sets(sets: &[Estimates]) -> Figures {
    let mean = |key: &'static str| {
        let of_all: Option<Vec<&Estimate>> = sets.iter().map(|set| set.get(key)).collect();
        Some((key, Estimate::mean(&of_all?)?.figure()))
    };
    METRICS.iter().filter_map(|&(key, ..)| mean(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::outcome;
    use super::*;

    fn objects() -> Vec<ObjectOutcome> {
        vec![
            outcome(0, [(0.9, 0.8), (0.5, 0.6), (0.1, 0.2)]),
            outcome(0, [(0.9, 0.4), (0.5, 0.7), (0.2, 0.1)]),
            outcome(1, [(0.7, 0.6), (0.4, 0.3), (0.3, 0.9)]),
        ]
    }

    #[test]
    fn figures_are_means_over_objects() {
        let objects = objects();
        let summary = Summary::new(&[(&objects, 2)], 0);
        let figures = figures(&summary.estimates(3, true));
        let value = |key: &str| (figures[key].value * 1e6).round() / 1e6;
        assert_eq!(value("miou_1"), 0.6);
        assert_eq!(value("miou_1_oracle"), 0.8);
        assert_eq!(value("oracle_gap"), 0.2);
        assert_eq!(value("miou_3"), 0.9);
        assert_eq!(value("noc_80"), 1.666_667);
        assert_eq!(value("noc_90"), 2.0);
        assert_eq!(value("selection_accuracy"), 0.333_333);
        assert_eq!(value("score_mae"), 0.211_111);
        // Chosen: 0.9, 0.9 and 0.7 for 0.8, 0.4 and 0.6; then 0.8 for 0.9 and, in a box, 0.7 for 0.75.
        assert_eq!(value("chosen_mae"), 0.233_333);
        assert_eq!(value("answers_mae"), 0.127_778);
        assert_eq!(value("answers_pearson"), -0.137_249);
        assert!(!figures.contains_key("miou_5") && !figures.contains_key("calibrated_mae"));
        assert!(!figures.contains_key("miou_1_any_annotator"));
        let keys: Vec<&str> = METRICS.iter().map(|m| m.0).collect();
        assert!(figures.keys().all(|key| keys.contains(key)));
        // Two images: the mean lies between those of the images.
        let automatic = figures["miou_1"];
        assert!((automatic.low - 0.6).abs() < 1e-9 && (automatic.high - 0.6).abs() < 1e-9);
        let oracle = figures["miou_1_oracle"];
        assert!((oracle.low - 0.75).abs() < 1e-9 && (oracle.high - 0.9).abs() < 1e-9);
    }

    #[test]
    fn sets_count_equally_in_their_mean_and_objects_in_theirs() {
        let many = objects();
        let one = [outcome(0, [(0.9, 0.2), (0.1, 0.1), (0.0, 0.0)])];
        let sets = [(&many[..], 2), (&one[..], 1)];
        let estimates = sets.map(|set| Summary::new(&[set], 0).estimates(1, false));
        let mean = mean_over_sets(&estimates)["miou_1"].value;
        assert!((mean - 0.4).abs() < 1e-9, "{mean}");
        let pooled = Summary::new(&sets, 0);
        let pooled = pooled.estimates(1, false)["miou_1"].figure().value;
        assert!((pooled - 0.5).abs() < 1e-9, "{pooled}");
        assert_eq!(Summary::new(&sets, 0).image, [0, 0, 1, 2]);
    }

    #[test]
    fn the_histogram_counts_every_object() {
        let objects = objects();
        let summary = Summary::new(&[(&objects, 2)], 0);
        let counts = summary.histogram();
        assert_eq!(counts.iter().sum::<usize>(), 3);
        assert_eq!(summary.reliability().0.len(), BINS);
        assert_eq!(summary.miou_by_clicks(2).len(), 2);
    }
}
