//! What the figures of an evaluation are called, and how they are joined and compared.

use std::collections::BTreeMap;

use serde::Serialize;

use super::bootstrap::{Estimate, Figure};
use samara_data::prompts::Placement;

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

    /// A difference of such values, with its sign; of shares in percentage points.
    pub fn show_difference(self, value: f64) -> String {
        match self {
            Self::Percent => format!("{:+.1}", 100.0 * value),
            Self::Plain => format!("{value:+.3}"),
            Self::Clicks => format!("{value:+.2}"),
        }
    }
}

/// A figure: its key, what a table calls it, its unit.
pub type Metric = (&'static str, &'static str, Unit);

/// Figures that belong together, in the order of a table.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// What they are figures of; empty where their labels say it.
    pub title: &'static str,
    /// The figures.
    pub metrics: &'static [Metric],
}

/// The figures of first clicks, of one placement.
pub const FIRST_CLICK: &[Group] = &[
    Group {
        title: "",
        metrics: &[
            ("miou_chosen", "mIoU, chosen mask", Unit::Percent),
            ("miou_best_of_three", "mIoU, best of three", Unit::Percent),
            ("oracle_gap", "best of three ahead of chosen", Unit::Percent),
            ("selection_accuracy", "best of three chosen", Unit::Percent),
            ("boundary_iou", "boundary IoU, chosen mask", Unit::Percent),
            (
                "miou_chosen_any_annotator",
                "mIoU, chosen, best annotator",
                Unit::Percent,
            ),
            (
                "miou_best_any_annotator",
                "mIoU, best of three, the same",
                Unit::Percent,
            ),
        ],
    },
    Group {
        title: "predicted IoU of the best-matching mask",
        metrics: &[
            ("best_pearson", "Pearson", Unit::Plain),
            ("best_spearman", "Spearman", Unit::Plain),
            ("best_mae", "mean absolute error", Unit::Plain),
            ("best_ece", "calibration error", Unit::Plain),
            (
                "best_underrated",
                "below 0.6, IoU 0.9 or more",
                Unit::Percent,
            ),
        ],
    },
    Group {
        title: "raw score of the best-matching mask",
        metrics: &[
            ("raw_pearson", "Pearson", Unit::Plain),
            ("raw_spearman", "Spearman", Unit::Plain),
            ("raw_mae", "mean absolute error", Unit::Plain),
            ("raw_ece", "calibration error", Unit::Plain),
            (
                "raw_underrated",
                "below 0.6, IoU 0.9 or more",
                Unit::Percent,
            ),
        ],
    },
    Group {
        title: "the same score with a calibration fitted here",
        metrics: &[
            ("calibrated_pearson", "Pearson", Unit::Plain),
            ("calibrated_spearman", "Spearman", Unit::Plain),
            ("calibrated_mae", "mean absolute error", Unit::Plain),
            ("calibrated_ece", "calibration error", Unit::Plain),
            (
                "calibrated_underrated",
                "below 0.6, IoU 0.9 or more",
                Unit::Percent,
            ),
        ],
    },
    Group {
        title: "predicted IoU of the chosen mask",
        metrics: &[
            ("chosen_pearson", "Pearson", Unit::Plain),
            ("chosen_spearman", "Spearman", Unit::Plain),
            ("chosen_mae", "mean absolute error", Unit::Plain),
            ("chosen_ece", "calibration error", Unit::Plain),
        ],
    },
    Group {
        title: "predicted IoU of all three masks",
        metrics: &[
            ("all_pearson", "Pearson", Unit::Plain),
            ("all_spearman", "Spearman", Unit::Plain),
            ("all_mae", "mean absolute error", Unit::Plain),
            ("all_ece", "calibration error", Unit::Plain),
        ],
    },
    Group {
        title: "match probability of the best-matching mask",
        metrics: &[
            ("match_probability", "mean", Unit::Plain),
            ("match_log_loss", "log loss", Unit::Plain),
        ],
    },
];

/// The figures of further prompts.
pub const FURTHER_PROMPTS: &[Group] = &[
    Group {
        title: "",
        metrics: &[
            ("miou_2", "mIoU, 2 clicks", Unit::Percent),
            ("miou_3", "mIoU, 3 clicks", Unit::Percent),
            ("miou_5", "mIoU, 5 clicks", Unit::Percent),
            ("miou_9", "mIoU, 9 clicks", Unit::Percent),
            ("miou_box", "mIoU, box", Unit::Percent),
            ("boundary_iou_5", "boundary IoU, 5 clicks", Unit::Percent),
            ("noc_80", "NoC@80", Unit::Clicks),
            ("noc_85", "NoC@85", Unit::Clicks),
            ("noc_90", "NoC@90", Unit::Clicks),
        ],
    },
    Group {
        title: "predicted IoU of all answers",
        metrics: &[
            ("answers_pearson", "Pearson", Unit::Plain),
            ("answers_mae", "mean absolute error", Unit::Plain),
        ],
    },
];

/// Estimates by key; a figure that was not asked for or is undefined is absent.
pub type Estimates = BTreeMap<&'static str, Estimate>;
/// Figures by key.
pub type Figures = BTreeMap<&'static str, Figure>;

/// The estimates of everything that was asked of a data set.
#[derive(Debug, Clone, Default)]
pub struct PromptEstimates {
    /// Of first clicks, by placement: keys of [`FIRST_CLICK`].
    pub first_click: BTreeMap<Placement, Estimates>,
    /// Of what follows: keys of [`FURTHER_PROMPTS`].
    pub further_prompts: Estimates,
}

/// The figures of the same.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PromptFigures {
    /// Of first clicks, by placement: keys of [`FIRST_CLICK`].
    pub first_click: BTreeMap<Placement, Figures>,
    /// Of what follows: keys of [`FURTHER_PROMPTS`].
    pub further_prompts: Figures,
}

impl PromptEstimates {
    /// The figures with their intervals.
    pub fn figures(&self) -> PromptFigures {
        let figures = |estimates: &Estimates| -> Figures {
            let all = estimates.iter();
            all.map(|(&key, e)| (key, e.figure())).collect()
        };
        let first = self.first_click.iter();
        PromptFigures {
            first_click: first.map(|(&place, e)| (place, figures(e))).collect(),
            further_prompts: figures(&self.further_prompts),
        }
    }

    /// The mean over data sets of every figure that all of them have.
    pub fn mean(sets: &[Self]) -> Self {
        let first = sets.first().into_iter().flat_map(|s| s.first_click.keys());
        let of_placement = |&placement: &Placement| {
            let of_all = sets.iter().map(|set| set.first_click.get(&placement));
            let of_all: Option<Vec<&Estimates>> = of_all.collect();
            Some((placement, mean(&of_all?)))
        };
        let further: Vec<&Estimates> = sets.iter().map(|s| &s.further_prompts).collect();
        Self {
            first_click: first.filter_map(of_placement).collect(),
            further_prompts: mean(&further),
        }
    }

    /// The difference of every figure that both have. Both must come of the same images, so that a
    /// resample draws the same images of both: the differences are paired.
    pub fn minus(&self, other: &Self) -> Self {
        let difference = |a: &Estimates, b: &Estimates| -> Estimates {
            let both = a.iter().filter_map(|(key, a)| Some((key, a, b.get(key)?)));
            both.map(|(&key, a, b)| (key, a.minus(b))).collect()
        };
        let first = self.first_click.iter().filter_map(|(placement, a)| {
            let b = other.first_click.get(placement)?;
            Some((*placement, difference(a, b)))
        });
        Self {
            first_click: first.collect(),
            further_prompts: difference(&self.further_prompts, &other.further_prompts),
        }
    }
}

fn mean(sets: &[&Estimates]) -> Estimates {
    let keys = sets.first().into_iter().flat_map(|set| set.keys());
    let mean = |&key: &&'static str| {
        let of_all: Option<Vec<&Estimate>> = sets.iter().map(|set| set.get(key)).collect();
        Some((key, Estimate::mean(&of_all?)?))
    };
    keys.filter_map(mean).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_are_unique_and_labels_fit_a_column() {
        for table in [FIRST_CLICK, FURTHER_PROMPTS] {
            let metrics: Vec<&Metric> = table.iter().flat_map(|group| group.metrics).collect();
            let keys: HashSet<&str> = metrics.iter().map(|metric| metric.0).collect();
            assert_eq!(keys.len(), metrics.len());
            assert!(metrics.iter().all(|metric| metric.1.len() <= 30));
        }
    }

    #[test]
    fn differences_have_a_sign() {
        assert_eq!(Unit::Percent.show_difference(0.0123), "+1.2");
        assert_eq!(Unit::Plain.show_difference(-0.5), "-0.500");
        assert_eq!(Unit::Clicks.show_difference(0.0), "+0.00");
    }
}
