//! How far long work is: a bar on a terminal, elsewhere a line every ten seconds.

use std::borrow::Cow;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::terminal;

/// Time between two lines.
const EVERY: Duration = Duration::from_secs(10);

/// How far a piece of work is.
pub(crate) struct Bar {
    bar: ProgressBar,
    /// When the last line was written, where there is no terminal.
    told: Option<Mutex<Instant>>,
}

impl Bar {
    fn new(total: Option<u64>, template: &str) -> Self {
        let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let is_seen = std::io::stderr().is_terminal();
        let told = (!is_seen).then(|| Mutex::new(Instant::now()));
        Self { bar, told }
    }

    /// Of `total` steps, of which `done` are done.
    pub(crate) fn steps(total: u64, done: u64, what: &str) -> Self {
        Self::new(Some(total), "{msg} {bar:32} {pos}/{len} {per_sec} {eta}")
            .with_message(&terminal::shown(what))
            .with_position(done)
    }

    /// Of frames, whose number may be unknown.
    pub(crate) fn frames(total: Option<u64>) -> Self {
        let template = match total {
            Some(_) => "{msg} {bar:32} {pos}/{len} {per_sec} {eta}",
            None => "{msg} {spinner} {pos} {per_sec}",
        };
        Self::new(total, template).with_message("frames")
    }

    /// Of a transfer of `total` bytes.
    pub(crate) fn bytes(total: u64, what: &str) -> Self {
        let template = "{msg} {bar:32} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        Self::new(Some(total), template).with_message(what)
    }

    /// Of a training.
    pub(crate) fn training() -> Self {
        Self::new(None, "{bar:24} {pos}/{len} {eta} {msg}")
    }

    fn with_message(self, what: &str) -> Self {
        self.bar.set_message(what.to_owned());
        self
    }

    fn with_position(self, done: u64) -> Self {
        self.bar.set_position(done);
        self.bar.reset_eta();
        self
    }

    pub(crate) fn inc(&self, steps: u64) {
        self.bar.inc(steps);
        self.tell();
    }

    pub(crate) fn set_position(&self, done: u64) {
        self.bar.set_position(done);
        self.tell();
    }

    pub(crate) fn set_length(&self, total: u64) {
        self.bar.set_length(total);
    }

    pub(crate) fn set_message(&self, what: impl Into<Cow<'static, str>>) {
        self.bar.set_message(what);
    }

    /// Writes a line between two states of the bar.
    pub(crate) fn note(&self, text: &str) {
        self.bar.suspend(|| terminal::tell("notice", text));
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn tell(&self) {
        let Some(told) = &self.told else { return };
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() < EVERY {
            return;
        }
        *told = Instant::now();
        let done = self.bar.position();
        let of = self
            .bar
            .length()
            .map_or_else(String::new, |n| format!("/{n}"));
        terminal::tell("progress", &format!("{} {done}{of}", self.bar.message()));
    }
}

/// Shows on a terminal that something is being worked on, while `work` runs.
pub(crate) fn spin<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(100));
    let result = work();
    spinner.finish_and_clear();
    result
}
