//! How well estimates of quality follow the truth.

use serde::Serialize;

use super::damaged::DamagedMask;
use samara_data::Damage;
use samara_eval::metrics::{Spearman, mean_absolute_error};

/// Share of wrong objects among the masks that are ranked.
const WRONG: f64 = 0.05;
/// A mask is a suspect when it is among the worst tenth.
const DECILE: f64 = 0.1;

/// How well estimates agree with the true IoU.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QualityFigures {
    /// Masks.
    pub masks: usize,
    /// Spearman's rank correlation of estimate and IoU; none when one of them does not vary.
    pub spearman: Option<f64>,
    /// Mean absolute error of the estimate.
    pub mae: f64,
    /// Of the wrong objects, when they are one in twenty and all other masks are undamaged: the share
    /// that is in the worst tenth of the ranking. None without both kinds.
    pub wrong_in_worst_decile: Option<f64>,
}

/// Compares estimates, one for each mask, with the truth.
pub fn measure(masks: &[DamagedMask], estimates: &[f64]) -> QualityFigures {
    let truth: Vec<f64> = masks.iter().map(|m| m.iou).collect();
    let weights = vec![1.0; masks.len()];
    QualityFigures {
        masks: masks.len(),
        spearman: Spearman::new(estimates, &truth).correlation(&weights),
        mae: mean_absolute_error(estimates, &truth, &weights).unwrap_or(0.0),
        wrong_in_worst_decile: wrong_in_worst_decile(masks, estimates),
    }
}

/// All wrong objects are ranked among the undamaged masks, with the weight that makes them
/// [`WRONG`] of all.
fn wrong_in_worst_decile(masks: &[DamagedMask], estimates: &[f64]) -> Option<f64> {
    let of = |damage: Option<Damage>| {
        let of = masks
            .iter()
            .zip(estimates)
            .filter(move |(m, _)| m.damage == damage);
        of.map(|(_, &estimate)| estimate).collect::<Vec<f64>>()
    };
    let (whole, wrong) = (of(None), of(Some(Damage::WrongObject)));
    if whole.is_empty() || wrong.is_empty() {
        return None;
    }
    let weight = |share: f64, count: usize| share / count as f64;
    let (each_whole, each_wrong) = (weight(1.0 - WRONG, whole.len()), weight(WRONG, wrong.len()));
    let whole = whole.into_iter().map(|e| (e, each_whole, 0.0));
    let wrong = wrong.into_iter().map(|e| (e, each_wrong, each_wrong));
    let mut ranked: Vec<(f64, f64, f64)> = whole.chain(wrong).collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut seen, mut found) = (0.0, 0.0);
    for (_, weight, of_wrong) in ranked {
        seen += weight;
        if seen > DECILE {
            break;
        }
        found += of_wrong;
    }
    Some(found / WRONG)
}

#[cfg(test)]
mod tests {
    use crate::Evidence;

    use super::*;

    #[test]
    fn wrong_objects_are_looked_for_in_the_worst_tenth() {
        let mask = |damage, iou| DamagedMask {
            image: 0,
            damage,
            iou,
            evidence: Evidence(Vec::new()),
            predicted_iou: iou,
        };
        let mut masks = vec![mask(None, 1.0); 19];
        masks.extend(vec![mask(Some(Damage::WrongObject), 0.0); 2]);
        masks.push(mask(Some(Damage::Shift), 0.1));
        let share = |found: f64, missed: f64| {
            let mut estimates = vec![0.6; 19];
            estimates.extend([found, missed, 0.0]);
            measure(&masks, &estimates).wrong_in_worst_decile.unwrap()
        };
        assert!((share(0.1, 0.2) - 1.0).abs() < 1e-9);
        assert!((share(0.1, 0.9) - 0.5).abs() < 1e-9);
        assert!(share(0.7, 0.9).abs() < 1e-9);
        let truth: Vec<f64> = masks.iter().map(|m| m.iou).collect();
        let perfect = measure(&masks, &truth);
        assert!((perfect.spearman.unwrap() - 1.0).abs() < 1e-9 && perfect.mae == 0.0);
        assert_eq!(
            measure(&masks[..3], &truth[..3]).wrong_in_worst_decile,
            None
        );
    }
}
