//! What a run has done, as it is told at the end.

use std::path::Path;

use samara_image::number::counted;

use super::manifest::Outcome;
use crate::error::{CliError, Result};
use crate::terminal;

#[derive(Default)]
pub(super) struct Tally {
    pub(super) images: usize,
    masks: usize,
    failures: Vec<String>,
}

impl Tally {
    pub(super) fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Done { masks, .. } => {
                self.images += 1;
                self.masks += masks;
            }
            Outcome::Failed { error } => self.failures.push(error.clone()),
        }
    }

    /// Tells it; `before` images were done before. An error if some failed.
    pub(super) fn tell(&self, before: usize, out: &Path) -> Result<()> {
        let told = match before {
            0 => String::new(),
            n => format!(", {n} done before"),
        };
        terminal::print(&format!(
            "{}, {}{told}\nwrote {}\n",
            counted(self.images, "image"),
            counted(self.masks, "mask"),
            terminal::name(out)
        ))?;
        if self.failures.is_empty() {
            return Ok(());
        }
        for failure in &self.failures {
            terminal::tell("failed", failure);
        }
        let failed = self.failures.len();
        let total = counted(before + self.images + failed, "image");
        Err(CliError::failed(format!("{failed} of {total} failed")))
    }
}
