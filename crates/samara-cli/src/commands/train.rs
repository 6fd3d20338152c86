//! `samara train`.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use samara_train::step::StepMetrics;
use samara_train::{Recipe, StepReport, TrainError, Trainer, Watcher};

use crate::error::{CliError, Result};
use crate::flags::TrainFlags;
use crate::terminal;

/// Trains as a recipe says.
pub(crate) fn run(flags: &TrainFlags) -> Result<()> {
    let recipe = Recipe::read(&flags.recipe).map_err(CliError::failed)?;
    samara_kernels::denormals::flush_denormals_in_pool(None);
    let out = flags.out.clone().unwrap_or_else(|| {
        let stem = flags.recipe.file_stem().unwrap_or_default();
        PathBuf::from("runs").join(stem)
    });
    let device = flags.device.device.open()?;
    let trainer = Trainer::new(recipe, &out, &device);
    let mut trainer = trainer.map_err(|e| does_not_fit(&flags.recipe, &e))?;
    let stop = terminal::on_interrupt();
    let mut watcher = TerminalWatcher::new();
    let model = trainer.run(&mut watcher, &stop).map_err(CliError::failed);
    watcher.bar.finish_and_clear();
    if let Some(model) = model? {
        return terminal::print(&format!("{}\n", model.display()));
    }
    let (step, out) = (trainer.step(), out.display());
    let line = format!("stopped after step {step}; the same command goes on from there ({out})");
    terminal::tell("note", &line);
    Ok(())
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
    bar: ProgressBar,
}

impl TerminalWatcher {
    fn new() -> Self {
        let bar = ProgressBar::no_length();
        let template = "{bar:24} {pos}/{len} {eta} {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar }
    }
}

impl Watcher for TerminalWatcher {
    fn step(&mut self, report: &StepReport) {
        self.bar.set_length(report.steps);
        self.bar.set_position(report.step);
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
        self.bar.suspend(|| terminal::tell("note", text));
    }
}
