//! `samara train`.

use std::path::{Path, PathBuf};

use samara_train::candidate_head::{FitProgress, Head, HeadWatcher};
use samara_train::step::StepMetrics;
use samara_train::{Recipe, StepReport, TrainError, Watcher, train};

use crate::error::{CliError, Result};
use crate::files::{Files, Kind};
use crate::flags::TrainFlags;
use crate::interrupt::Interrupt;
use crate::progress::Bar;
use crate::terminal;

/// Trains as a recipe says.
pub(crate) fn run(flags: &TrainFlags) -> Result<()> {
    let recipe = Recipe::read(&flags.recipe).map_err(CliError::failed)?;
    samara_kernels::denormals::flush_denormals_in_pool(None);
    let out = flags.out.clone().unwrap_or_else(|| {
        let stem = flags.recipe.file_stem().unwrap_or_default();
        PathBuf::from("runs").join(stem)
    });
    Files::new()
        .read_all("named by the recipe", recipe.inputs())
        .write("--out", Kind::Folder, Some(&out))
        .write_inside("--out", [out.join("model.safetensors")])
        .check()?;
    let device = samara::tensors::open_device(flags.device.device)?;
    let interrupt = Interrupt::listen();
    let mut watcher = TerminalWatcher::new();
    let model = train(&recipe, &out, &device, &mut watcher, interrupt.asked());
    watcher.bar.finish();
    if let Some(model) = model.map_err(|e| does_not_fit(&flags.recipe, &e))? {
        return terminal::print(&format!("{}\n", terminal::name(&model)));
    }
    let (after, out) = (watcher.reached, out.display());
    let line = format!("stopped after {after}; the same command resumes there ({out})");
    Err(interrupt.ended(line))
}

/// Names the recipe where the error names a key of it.
fn does_not_fit(recipe: &Path, error: &TrainError) -> CliError {
    match error {
        TrainError::Setting { .. } | TrainError::Data(_) => {
            CliError::failed(format!("{}: {error}", recipe.display()))
        }
        _ => CliError::failed(error),
    }
}

/// Shows a run on a terminal; elsewhere, a line per validation.
struct TerminalWatcher {
    bar: Bar,
    /// How far the run is.
    reached: String,
}

impl TerminalWatcher {
    fn new() -> Self {
        Self {
            bar: Bar::training(),
            reached: "step 0".into(),
        }
    }
}

impl Watcher for TerminalWatcher {
    fn step(&mut self, report: &StepReport) {
        self.bar.set_length(report.steps);
        self.bar.set_position(report.step);
        self.reached = format!("step {}", report.step);
        let m = &report.metrics;
        self.bar.set_message(format!(
            "loss {:.3} oracle {:.3} auto {:.3} lr {:.1e} {:.1} s/step",
            m.loss, m.oracle, m.automatic, report.lr, report.seconds
        ));
    }

    fn validation(&mut self, step: u64, m: &StepMetrics) {
        self.note(&format!(
            "step {step}: validation loss {:.3}, first prompt oracle {:.3}, automatic {:.3}, IoU error {:.3}, second {:.3}",
            m.loss, m.oracle, m.automatic, m.iou_error, m.last
        ));
    }

    fn note(&mut self, text: &str) {
        self.bar.note(text);
    }
}

impl HeadWatcher for TerminalWatcher {
    fn collected(&mut self, done: u64, all: u64) {
        self.bar.set_length(all);
        self.bar.set_position(done);
        self.bar
            .set_message("images answered for the candidate head");
        self.reached = format!("{done} of {all} images for the candidate head");
    }

    fn unreadable(&mut self, line: &str) {
        self.note(&format!("skipped {line}"));
    }

    fn fitted(&mut self, progress: &FitProgress) {
        let head = match progress.head {
            Head::PredictedIou => "predicted IoU",
            Head::Match => "match probability",
        };
        self.bar.set_length(progress.steps);
        self.bar.set_position(progress.step);
        self.bar
            .set_message(format!("{head}: loss {:.4}", progress.loss));
    }
}
