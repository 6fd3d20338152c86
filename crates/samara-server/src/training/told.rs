//! How a fine-tune is followed.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use samara_train::candidate_head::{FitProgress, Head, HeadWatcher};
use samara_train::step::StepMetrics;
use samara_train::{StepReport, Watcher};
use serde_json::Value;

use crate::project::{Change, OpenProject};
use crate::training::info::{Point, TrainingInfo, TrainingState};

/// Between two events.
const OFTEN: Duration = Duration::from_millis(500);
/// Lines that are kept, at most.
const MOST_NOTES: usize = 20;
/// How much the last piece of work counts in the time that one takes.
const LAST_COUNTS: f64 = 0.2;

struct Now {
    info: TrainingInfo,
    told: Option<Instant>,
}

/// What is known, and who hears of it.
pub(super) struct Told {
    now: Mutex<Now>,
    open: Arc<OpenProject>,
}

impl Told {
    pub(super) fn new(open: Arc<OpenProject>, info: TrainingInfo) -> Self {
        let told = Self {
            now: Mutex::new(Now { info, told: None }),
            open,
        };
        told.update(|_| ());
        told
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn info(&self) -> TrainingInfo {
        self.now().info.clone()
    }

    /// Changes what is known. All windows hear of another state at once, and of the rest now and then.
    pub(super) fn update(&self, change: impl FnOnce(&mut TrainingInfo)) {
        let mut now = self.now();
        let before = (now.info.state, now.info.stopping);
        change(&mut now.info);
        let is_new = before != (now.info.state, now.info.stopping);
        if is_new || now.told.is_none_or(|told| told.elapsed() >= OFTEN) {
            now.told = Some(Instant::now());
            let info = Box::new(now.info.clone());
            self.open.tell(Change::Training(info));
        }
    }

    /// Begins with something else.
    pub(super) fn begin(&self, state: TrainingState) {
        self.update(|info| {
            info.state = state;
            info.progress = 0.0;
            info.seconds_left = None;
        });
    }

    /// A share of what it does is done.
    pub(super) fn set_progress(&self, progress: f64) {
        self.update(|info| info.progress = progress);
    }

    pub(super) fn note(&self, line: &str) {
        self.update(|info| {
            if info.notes.len() == MOST_NOTES {
                info.notes.remove(0);
            }
            info.notes.push(line.to_owned());
        });
    }
}

/// How long a piece of work takes.
#[derive(Default)]
struct Pace {
    last: Option<Instant>,
    seconds: Option<f64>,
}

impl Pace {
    /// Seconds for so many more pieces, after one is done.
    fn left(&mut self, pieces: u64) -> Option<f64> {
        let now = Instant::now();
        let last = self.last.replace(now)?;
        let took = now.duration_since(last).as_secs_f64();
        let seconds = self
            .seconds
            .map_or(took, |before| before + LAST_COUNTS * (took - before));
        self.seconds = Some(seconds);
        Some(seconds * pieces as f64)
    }
}

/// Tells of a run.
pub(super) struct Watch<'a> {
    told: &'a Told,
    points: Vec<Point>,
    pace: Pace,
    is_ranking: bool,
}

impl<'a> Watch<'a> {
    /// Follows the run in a folder, which may have begun before.
    pub(super) fn new(told: &'a Told, run: &Path) -> Self {
        let log = fs::read_to_string(run.join("log.jsonl")).unwrap_or_default();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let (validation, steps): (Vec<Value>, Vec<Value>) =
            lines.partition(|line: &Value| line.get("validation").is_some());
        let of_step = |line: &Value| logged(line, line);
        let of_validation = |line: &Value| logged(line, &line["validation"]);
        let points: Vec<Point> = steps.iter().filter_map(of_step).collect();
        told.update(|info| {
            info.set_curve(&points);
            info.step = points.last().map_or(0, |point| point.step);
            info.validation = validation.iter().filter_map(of_validation).collect();
        });
        Self {
            told,
            points,
            pace: Pace::default(),
            is_ranking: false,
        }
    }
}

/// The point of a line of the log.
fn logged(line: &Value, metrics: &Value) -> Option<Point> {
    Some(Point {
        step: line["step"].as_u64()?,
        loss: metrics["loss"].as_f64()?,
        oracle: metrics["oracle"].as_f64()?,
        automatic: metrics["automatic"].as_f64()?,
    })
}

/// The point of a step, unless its loss is none.
fn point(step: u64, metrics: &StepMetrics) -> Option<Point> {
    metrics.loss.is_finite().then_some(Point {
        step,
        loss: metrics.loss,
        oracle: metrics.oracle,
        automatic: metrics.automatic,
    })
}

/// Steps from which a run that goes on makes them once more are forgotten.
fn add(points: &mut Vec<Point>, new: Option<Point>) {
    if let Some(new) = new {
        points.retain(|point| point.step < new.step);
        points.push(new);
    }
}

impl Watcher for Watch<'_> {
    fn step(&mut self, report: &StepReport) {
        add(&mut self.points, point(report.step, &report.metrics));
        let left = self.pace.left(report.steps - report.step);
        self.told.update(|info| {
            info.step = report.step;
            info.steps = report.steps;
            info.progress = report.step as f64 / report.steps.max(1) as f64;
            info.seconds_left = left;
            info.set_curve(&self.points);
        });
    }

    fn validation(&mut self, step: u64, metrics: &StepMetrics) {
        self.told
            .update(|info| add(&mut info.validation, point(step, metrics)));
    }

    fn note(&mut self, text: &str) {
        self.told.note(text);
    }
}

/// The share of the work on the head that is answering prompts.
const COLLECTING: f64 = 0.8;

impl HeadWatcher for Watch<'_> {
    fn collected(&mut self, done: u64, all: u64) {
        if !self.is_ranking {
            self.is_ranking = true;
            self.pace = Pace::default();
            self.told.begin(TrainingState::Ranking);
        }
        let left = self.pace.left(all.saturating_sub(done));
        self.told.update(|info| {
            info.progress = COLLECTING * done as f64 / all.max(1) as f64;
            info.seconds_left = left;
        });
    }

    fn unreadable(&mut self, line: &str) {
        self.told.note(&format!("skipped {line}"));
    }

    fn fitted(&mut self, progress: &FitProgress) {
        let first = match progress.head {
            Head::PredictedIou => 0.0,
            Head::Match => 0.5,
        };
        let share = first + 0.5 * progress.step as f64 / progress.steps.max(1) as f64;
        self.told.update(|info| {
            info.progress = COLLECTING + (1.0 - COLLECTING) * share;
            info.seconds_left = None;
        });
    }
}
