//! From records of objects to figures.

use serde::Serialize;

use super::bootstrap::{Bootstrap, Estimate, Figure};
use super::figures::{Estimates, PromptEstimates};
use super::metrics::{
    Bin, Spearman, expected_calibration_error, mean, mean_absolute_error, pearson, reliability,
};
use super::options::EvalOptions;
use super::outcome::{FirstClick, ObjectOutcome, Scored, indicator};
use samara_data::prompts::Placement;

/// Bins of a reliability diagram.
pub const BINS: usize = 15;

/// Numbers of clicks after which the mIoU is a figure.
const CLICKS: [(&str, usize); 4] = [("miou_2", 2), ("miou_3", 3), ("miou_5", 5), ("miou_9", 9)];

/// A mask that is nearly right …
const RIGHT: f64 = 0.9;
/// … and a score that says that it is not.
const DOUBTFUL: f64 = 0.6;

/// A probability of 0 would make the log loss infinite.
const LEAST_PROBABILITY: f64 = 1e-6;

/// A figure with its key.
type Keyed = (&'static str, Option<Estimate>);

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

    /// All estimates of what the options asked for.
    pub fn estimates(&self, options: &EvalOptions) -> PromptEstimates {
        let first = options.placements().into_iter();
        PromptEstimates {
            first_click: first
                .map(|place| (place, self.first_click(place)))
                .collect(),
            further_prompts: self.further_prompts(options.clicks, options.noc),
        }
    }

    fn objects(&self) -> Samples<'_, ObjectOutcome> {
        Samples {
            items: self.objects.clone(),
            image: self.image.clone(),
            bootstrap: &self.bootstrap,
        }
    }

    /// The first clicks that `wanted` holds of.
    fn clicks(&self, wanted: impl Fn(&FirstClick) -> bool) -> Samples<'_, FirstClick> {
        let objects = self.objects.iter().zip(&self.image);
        let clicks = objects.flat_map(|(o, &image)| o.first.iter().map(move |c| (c, image)));
        let (items, image) = clicks.filter(|(click, _)| wanted(click)).unzip();
        Samples {
            items,
            image,
            bootstrap: &self.bootstrap,
        }
    }

    fn first_click(&self, placement: Placement) -> Estimates {
        let clicks = self.clicks(|click| click.placement == placement);
        let underrated = |score: fn(&Scored) -> Option<f64>| {
            clicks.mean_of(|c| {
                let score = score(c.best()).filter(|_| c.best().iou >= RIGHT)?;
                Some(indicator(score < DOUBTFUL))
            })
        };
        let gap = |c: &FirstClick| c.best().iou - c.chosen().iou;
        let matched = |c: &FirstClick| c.best().match_probability;
        let log_loss = |p: f64| -p.max(LEAST_PROBABILITY).ln();
        let annotators = |c: &FirstClick| c.best_annotator;
        let mut all: Vec<Keyed> = vec![
            ("miou_chosen", clicks.mean_of(|c| Some(c.chosen().iou))),
            ("miou_best_of_three", clicks.mean_of(|c| Some(c.best().iou))),
            ("oracle_gap", clicks.mean_of(|c| Some(gap(c)))),
            (
                "selection_accuracy",
                clicks.mean_of(|c| Some(c.chose_best())),
            ),
            ("boundary_iou", clicks.mean_of(|c| Some(c.boundary))),
            (
                "miou_chosen_any_annotator",
                clicks.mean_of(|c| Some(annotators(c)?.chosen)),
            ),
            (
                "miou_best_any_annotator",
                clicks.mean_of(|c| Some(annotators(c)?.any)),
            ),
            ("best_underrated", underrated(|s| Some(s.predicted))),
            ("raw_underrated", underrated(|s| Some(s.raw))),
            ("calibrated_underrated", underrated(|s| s.calibrated)),
            ("match_probability", clicks.mean_of(matched)),
            (
                "match_log_loss",
                clicks.mean_of(|c| matched(c).map(log_loss)),
            ),
        ];
        all.extend(first_click_scores(&clicks));
        defined(all)
    }

    fn further_prompts(&self, clicks: usize, noc: bool) -> Estimates {
        let objects = self.objects();
        let mut all: Vec<Keyed> = vec![("miou_box", objects.mean_of(|o| Some(o.boxed.iou)))];
        for (key, after) in CLICKS.into_iter().filter(|&(_, after)| after <= clicks) {
            all.push((key, objects.mean_of(|o| Some(o.iou_after(after)))));
        }
        if clicks >= 5 {
            all.push(("boundary_iou_5", objects.mean_of(|o| o.boundary_fifth)));
        }
        if noc {
            for (key, quality) in [("noc_80", 0.80), ("noc_85", 0.85), ("noc_90", 0.90)] {
                all.push((key, objects.mean_of(|o| Some(o.clicks_to(quality)))));
            }
        }
        let answers = objects.pairs(ObjectOutcome::answers);
        all.push(("answers_pearson", answers.pearson()));
        all.push(("answers_mae", answers.mean_absolute_error()));
        defined(all)
    }

    /// mIoU after 1, 2, … `clicks` clicks.
    pub fn miou_by_clicks(&self, clicks: usize) -> Vec<Figure> {
        let objects = self.objects();
        let after = |clicks: usize| objects.mean_of(|o| Some(o.iou_after(clicks)));
        (1..=clicks)
            .filter_map(|clicks| Some(after(clicks)?.figure()))
            .collect()
    }

    /// Reliability diagrams of the best-matching candidates of all first clicks.
    pub fn reliability(&self) -> Reliability {
        let clicks = self.clicks(|_| true);
        let diagram = |score: fn(&Scored) -> Option<f64>| {
            let pairs = clicks.pairs(|c| best(c, score));
            (!pairs.score.is_empty()).then(|| pairs.reliability(&vec![1.0; pairs.score.len()]))
        };
        Reliability {
            predicted: diagram(|s| Some(s.predicted)).unwrap_or_default(),
            raw: diagram(|s| Some(s.raw)).unwrap_or_default(),
            calibrated: diagram(|s| s.calibrated),
        }
    }

    /// How many objects have an IoU of 0 to 0.05, … 0.95 to 1 after the first click that goes on.
    pub fn histogram(&self) -> [usize; 20] {
        let mut counts = [0; 20];
        for object in &self.objects {
            let iou = object.leading().chosen().iou;
            counts[((iou * 20.0) as usize).min(19)] += 1;
        }
        counts
    }
}

/// Scores against true IoU, bin by bin, of the best-matching candidates of first clicks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reliability {
    /// Of the predicted IoU.
    pub predicted: Vec<Bin>,
    /// Of the raw score.
    pub raw: Vec<Bin>,
    /// Of the raw score with a calibration that was fitted in the evaluation.
    pub calibrated: Option<Vec<Bin>>,
}

fn defined(all: Vec<Keyed>) -> Estimates {
    let defined = all.into_iter().filter_map(|(key, e)| Some((key, e?)));
    defined.collect()
}

/// How good the scores of first clicks are.
fn first_click_scores(clicks: &Samples<'_, FirstClick>) -> Vec<Keyed> {
    let pair = |s: &Scored| (s.predicted, s.iou);
    let scores = [
        (
            ["best_pearson", "best_spearman", "best_mae", "best_ece"],
            clicks.pairs(|c| vec![pair(c.best())]),
        ),
        (
            ["raw_pearson", "raw_spearman", "raw_mae", "raw_ece"],
            clicks.pairs(|c| best(c, |s| Some(s.raw))),
        ),
        (
            [
                "calibrated_pearson",
                "calibrated_spearman",
                "calibrated_mae",
                "calibrated_ece",
            ],
            clicks.pairs(|c| best(c, |s| s.calibrated)),
        ),
        (
            [
                "chosen_pearson",
                "chosen_spearman",
                "chosen_mae",
                "chosen_ece",
            ],
            clicks.pairs(|c| vec![pair(c.chosen())]),
        ),
        (
            ["all_pearson", "all_spearman", "all_mae", "all_ece"],
            clicks.pairs(|c| c.candidates.iter().map(pair).collect()),
        ),
    ];
    let figures = scores.into_iter().flat_map(|([a, b, c, d], pairs)| {
        [
            (a, pairs.pearson()),
            (b, pairs.spearman()),
            (c, pairs.mean_absolute_error()),
            (d, pairs.calibration_error()),
        ]
    });
    figures.collect()
}

/// A score of the best-matching candidate, where it has one, and its true IoU.
fn best(click: &FirstClick, score: fn(&Scored) -> Option<f64>) -> Vec<(f64, f64)> {
    let best = click.best();
    score(best).map(|s| (s, best.iou)).into_iter().collect()
}

/// Things of which figures are made, and the image of each.
struct Samples<'a, T> {
    items: Vec<&'a T>,
    image: Vec<usize>,
    bootstrap: &'a Bootstrap,
}

impl<'a, T> Samples<'a, T> {
    /// The mean of a value over those that have it.
    fn mean_of(&self, value: impl Fn(&T) -> Option<f64>) -> Option<Estimate> {
        let pairs = self.items.iter().zip(&self.image);
        let (values, image): (Vec<f64>, Vec<usize>) =
            pairs.filter_map(|(o, &i)| Some((value(o)?, i))).unzip();
        self.bootstrap.estimate(&image, |w| mean(&values, w))
    }

    /// Scores and true IoU, any number of each.
    fn pairs(&self, of: impl Fn(&T) -> Vec<(f64, f64)>) -> Pairs<'a> {
        let mut pairs = Pairs {
            score: Vec::new(),
            truth: Vec::new(),
            image: Vec::new(),
            bootstrap: self.bootstrap,
        };
        for (item, &image) in self.items.iter().zip(&self.image) {
            for (score, iou) in of(item) {
                pairs.score.push(score);
                pairs.truth.push(iou);
                pairs.image.push(image);
            }
        }
        pairs
    }
}

/// Scores with their true IoU and image.
struct Pairs<'a> {
    score: Vec<f64>,
    truth: Vec<f64>,
    image: Vec<usize>,
    bootstrap: &'a Bootstrap,
}

impl Pairs<'_> {
    fn estimate(&self, figure: impl Fn(&[f64]) -> Option<f64> + Sync) -> Option<Estimate> {
        self.bootstrap.estimate(&self.image, figure)
    }

    fn pearson(&self) -> Option<Estimate> {
        self.estimate(|w| pearson(&self.score, &self.truth, w))
    }

    fn spearman(&self) -> Option<Estimate> {
        let spearman = Spearman::new(&self.score, &self.truth);
        self.estimate(|w| spearman.correlation(w))
    }

    fn mean_absolute_error(&self) -> Option<Estimate> {
        self.estimate(|w| mean_absolute_error(&self.score, &self.truth, w))
    }

    fn calibration_error(&self) -> Option<Estimate> {
        self.estimate(|w| expected_calibration_error(&self.reliability(w)))
    }

    fn reliability(&self, weights: &[f64]) -> Vec<Bin> {
        reliability(&self.score, &self.truth, weights, BINS)
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::{click, outcome};
    use super::*;

    fn objects() -> Vec<ObjectOutcome> {
        vec![
            outcome(0, [(0.9, 0.8), (0.5, 0.6), (0.1, 0.2)]),
            outcome(0, [(0.9, 0.4), (0.5, 0.7), (0.2, 0.1)]),
            outcome(1, [(0.7, 0.6), (0.4, 0.3), (0.3, 0.9)]),
        ]
    }

    fn options(clicks: usize, noc: bool) -> EvalOptions {
        EvalOptions {
            clicks_at: vec![Placement::Center],
            clicks,
            noc,
            ..EvalOptions::default()
        }
    }

    fn rounded(figure: Figure) -> f64 {
        (figure.value * 1e6).round() / 1e6
    }

    #[test]
    fn figures_are_means_over_objects() {
        let objects = objects();
        let summary = Summary::new(&[(&objects, 2)], 0);
        let figures = summary.estimates(&options(3, true)).figures();
        let (first, further) = (
            &figures.first_click[&Placement::Center],
            &figures.further_prompts,
        );
        let value = |key: &str| rounded(*first.get(key).unwrap_or_else(|| &further[key]));
        assert_eq!(value("miou_chosen"), 0.6);
        assert_eq!(value("miou_best_of_three"), 0.8);
        assert_eq!(value("oracle_gap"), 0.2);
        assert_eq!(value("miou_3"), 0.9);
        assert_eq!(value("noc_80"), 1.666_667);
        assert_eq!(value("noc_90"), 2.0);
        assert_eq!(value("selection_accuracy"), 0.333_333);
        assert_eq!(value("all_mae"), 0.211_111);
        // Chosen: 0.9, 0.9 and 0.7 for 0.8, 0.4 and 0.6; then 0.8 for 0.9 and, in a box, 0.7 for 0.75.
        assert_eq!(value("chosen_mae"), 0.233_333);
        assert_eq!(value("answers_mae"), 0.127_778);
        assert_eq!(value("answers_pearson"), -0.137_249);
        // Best-matching: 0.9, 0.5 and 0.3 for 0.8, 0.7 and 0.9.
        assert_eq!(value("best_mae"), 0.3);
        assert_eq!(value("best_ece"), 0.3);
        assert_eq!(value("best_pearson"), -0.327_327);
        assert_eq!(value("best_spearman"), -0.5);
        assert_eq!(value("best_underrated"), 1.0);
        assert_eq!(value("raw_mae"), 0.3);
        for absent in [
            "miou_5",
            "calibrated_mae",
            "match_log_loss",
            "miou_chosen_any_annotator",
        ] {
            assert!(
                !first.contains_key(absent) && !further.contains_key(absent),
                "{absent}"
            );
        }
        // Two images: the mean lies between those of the images.
        let chosen = first["miou_chosen"];
        assert!((chosen.low - 0.6).abs() < 1e-9 && (chosen.high - 0.6).abs() < 1e-9);
        let oracle = first["miou_best_of_three"];
        assert!((oracle.low - 0.75).abs() < 1e-9 && (oracle.high - 0.9).abs() < 1e-9);
    }

    #[test]
    fn every_figure_is_in_its_table() {
        use super::super::figures::{FIRST_CLICK, FURTHER_PROMPTS, Group};
        let mut objects = objects();
        for candidate in objects.iter_mut().flat_map(|o| &mut o.first[0].candidates) {
            candidate.calibrated = Some(0.5 * candidate.raw);
            candidate.match_probability = Some(candidate.raw);
        }
        let summary = Summary::new(&[(&objects, 2)], 0);
        let figures = summary.estimates(&options(9, true)).figures();
        let known = |table: &[Group], key: &str| {
            let mut metrics = table.iter().flat_map(|group| group.metrics);
            metrics.any(|metric| metric.0 == key)
        };
        let first = &figures.first_click[&Placement::Center];
        assert!(first.keys().all(|key| known(FIRST_CLICK, key)));
        assert!(first.contains_key("calibrated_underrated"));
        let mut further = figures.further_prompts.keys();
        assert!(further.all(|key| known(FURTHER_PROMPTS, key)));
        // 0.9, 0.5 and 0.3 are the probabilities of the best-matching ones.
        assert_eq!(rounded(first["match_probability"]), 0.566_667);
        assert_eq!(rounded(first["match_log_loss"]), 0.667_494);
    }

    #[test]
    fn placements_have_figures_of_their_own_over_all_their_draws() {
        let mut objects = objects();
        for (object, iou) in objects.iter_mut().zip([0.1, 0.2, 0.9]) {
            for iou in [iou, iou + 0.1] {
                let pairs = [(0.9, iou), (0.5, 0.0), (0.1, 0.0)];
                object.first.push(click(Placement::Human, pairs));
            }
        }
        let summary = Summary::new(&[(&objects, 2)], 0);
        let all = EvalOptions {
            clicks_at: vec![Placement::Human, Placement::Center],
            ..options(1, false)
        };
        let figures = summary.estimates(&all).figures();
        assert_eq!(figures.first_click.len(), 2);
        let value = |placement, key: &str| rounded(figures.first_click[&placement][key]);
        assert_eq!(value(Placement::Center, "miou_chosen"), 0.6);
        assert_eq!(value(Placement::Human, "miou_chosen"), 0.45);
        assert_eq!(value(Placement::Human, "selection_accuracy"), 1.0);
        // 0.9 and 1.0 were rated 0.9.
        assert_eq!(value(Placement::Human, "best_underrated"), 0.0);
        // An image is drawn with all clicks on its objects.
        let human = figures.first_click[&Placement::Human]["miou_chosen"];
        assert!((human.low - 0.2).abs() < 1e-9 && (human.high - 0.95).abs() < 1e-9);
    }

    #[test]
    fn sets_count_equally_in_their_mean_and_objects_in_theirs() {
        let many = objects();
        let one = [outcome(0, [(0.9, 0.2), (0.1, 0.1), (0.0, 0.0)])];
        let sets = [(&many[..], 2), (&one[..], 1)];
        let options = options(1, false);
        let estimates = sets.map(|set| Summary::new(&[set], 0).estimates(&options));
        let miou =
            |e: &PromptEstimates| e.figures().first_click[&Placement::Center]["miou_chosen"].value;
        let mean = miou(&PromptEstimates::mean(&estimates));
        assert!((mean - 0.4).abs() < 1e-9, "{mean}");
        let pooled = miou(&Summary::new(&sets, 0).estimates(&options));
        assert!((pooled - 0.5).abs() < 1e-9, "{pooled}");
        assert_eq!(Summary::new(&sets, 0).image, [0, 0, 1, 2]);
        let none = PromptEstimates::mean(&[]).figures();
        assert!(none.first_click.is_empty() && none.further_prompts.is_empty());
    }

    #[test]
    fn a_model_does_not_differ_from_itself() {
        let objects = objects();
        let estimates = || Summary::new(&[(&objects, 2)], 5).estimates(&options(3, true));
        let difference = estimates().minus(&estimates()).figures();
        let figures = difference.first_click[&Placement::Center].iter();
        let figures: Vec<_> = figures.chain(&difference.further_prompts).collect();
        assert!(figures.len() > 25);
        for (key, figure) in figures {
            assert_eq!(
                (figure.value, figure.low, figure.high),
                (0.0, 0.0, 0.0),
                "{key}"
            );
        }
    }

    #[test]
    fn the_histogram_counts_every_object() {
        let objects = objects();
        let summary = Summary::new(&[(&objects, 2)], 0);
        let counts = summary.histogram();
        assert_eq!(counts.iter().sum::<usize>(), 3);
        let reliability = summary.reliability();
        assert_eq!(
            (reliability.raw.len(), reliability.calibrated),
            (BINS, None)
        );
        assert_eq!(summary.miou_by_clicks(2).len(), 2);
    }
}
