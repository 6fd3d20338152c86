//! What is told of a fine-tune.

use serde::Serialize;
use utoipa::ToSchema;

/// Points of a curve that is told, at most: more are not seen.
const MOST_POINTS: usize = 100;
/// Steps whose mean is the figure of now.
const RECENT: usize = 10;

/// What a fine-tune does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TrainingState {
    /// None was started.
    #[default]
    Idle,
    /// It writes the data set.
    Preparing,
    /// It makes steps.
    Training,
    /// It fits the head that ranks the candidates to the new masks.
    Ranking,
    /// It compares the new model with the one that it began with.
    Measuring,
    /// The model is there.
    Done,
    /// It was stopped; the same name goes on.
    Stopped,
    /// It went wrong.
    Failed,
}

/// Steps at a place of the curve, means over its steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub(crate) struct Point {
    /// The last of them, counted from 1.
    pub(crate) step: u64,
    /// The loss.
    pub(crate) loss: f64,
    /// IoU of the best mask after the first prompt.
    pub(crate) oracle: f64,
    /// IoU of the mask that the IoU head rates highest after the first prompt.
    pub(crate) automatic: f64,
}

/// What a model does on the pictures for validation, with one click on each object.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub(crate) struct Measured {
    /// Mean IoU of the mask that the model proposes.
    pub(crate) chosen: f64,
    /// Mean IoU of the best of the three masks.
    pub(crate) best: f64,
    /// Objects that were clicked on.
    pub(crate) objects: usize,
}

/// The fine-tune that is at work, or was last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct TrainingInfo {
    pub(crate) state: TrainingState,
    /// Whether it was asked to stop, which it does at the next chance.
    pub(crate) stopping: bool,
    /// Its name, which is that of its folder and of the model.
    pub(crate) name: Option<String>,
    /// Its folder on the server: `data`, `recipe.toml`, and the run in `runs/recipe`.
    pub(crate) folder: Option<String>,
    /// Steps that are made.
    pub(crate) step: u64,
    /// Steps of all of it.
    pub(crate) steps: u64,
    /// How much of what `state` says is done, from 0 to 1.
    pub(crate) progress: f64,
    /// Seconds until that is done, as fast as it goes now; null where that is not known.
    pub(crate) seconds_left: Option<f64>,
    /// The last steps.
    pub(crate) now: Option<Point>,
    /// All steps, from the first, in at most 100 places.
    pub(crate) curve: Vec<Point>,
    /// The same figures on the pictures for validation, from which nothing is learnt.
    pub(crate) validation: Vec<Point>,
    /// What the model did before, on the pictures for validation; null without such, and until it is measured.
    pub(crate) before: Option<Measured>,
    /// What it does now.
    pub(crate) after: Option<Measured>,
    /// The file of the finished model on the server.
    pub(crate) checkpoint: Option<String>,
    /// What is worth knowing, a line each.
    pub(crate) notes: Vec<String>,
    /// Why it failed, in one line.
    pub(crate) error: Option<String>,
}

fn mean(points: &[Point]) -> Option<Point> {
    let last = points.last()?;
    let share = 1.0 / points.len() as f64;
    let mean = |of: fn(&Point) -> f64| points.iter().map(|point| share * of(point)).sum();
    Some(Point {
        step: last.step,
        loss: mean(|point| point.loss),
        oracle: mean(|point| point.oracle),
        automatic: mean(|point| point.automatic),
    })
}

impl TrainingInfo {
    /// Takes the curve of these steps.
    pub(crate) fn set_curve(&mut self, points: &[Point]) {
        let chunk = points.len().div_ceil(MOST_POINTS).max(1);
        self.curve = points.chunks(chunk).filter_map(mean).collect();
        self.now = mean(&points[points.len().saturating_sub(RECENT)..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_has_few_points_and_ends_with_the_last_step() {
        let point = |step: u64| Point {
            step,
            loss: step as f64,
            oracle: 0.5,
            automatic: 0.25,
        };
        let mut info = TrainingInfo::default();
        info.set_curve(&[]);
        assert_eq!((info.curve.len(), info.now), (0, None));
        for steps in [1, 100, 101, 1234] {
            let points: Vec<Point> = (1..=steps).map(point).collect();
            info.set_curve(&points);
            assert!((1..=MOST_POINTS).contains(&info.curve.len()), "{steps}");
            assert_eq!(info.curve.last().map(|point| point.step), Some(steps));
            assert_eq!(info.now.map(|point| point.step), Some(steps));
        }
        assert_eq!(info.curve[0].loss, 7.0);
        assert!((info.now.unwrap().loss - 1229.5).abs() < 1e-9);
    }
}
