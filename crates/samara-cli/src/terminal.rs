//! Talking to the terminal. Bars and spinners show on a terminal only; results go to stdout,
//! everything else to stderr.

use std::io::{ErrorKind, Write, stderr, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::{CliError, Result};

/// A flag that an interrupt sets. Where no handler can be set, an interrupt ends the process, which
/// loses what was done since a run was last saved and nothing else.
pub(crate) fn on_interrupt() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let handler = Arc::clone(&stop);
    let _ = ctrlc::set_handler(move || handler.store(true, Ordering::Relaxed));
    stop
}

/// Writes to stdout. A reader that went away (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(CliError::failed(format!("standard output: {e}")))
        }
        _ => Ok(()),
    }
}

/// Writes one line to stderr.
pub(crate) fn tell(kind: &str, line: &str) {
    // Nothing can be done when stderr is gone.
    let _ = writeln!(stderr().lock(), "{kind}: {line}");
}

/// Shows that something is being worked on, while `work` runs.
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

/// A bar for `total` steps.
pub(crate) fn steps_bar(total: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(total).with_message(what.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:32} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar
}

/// A bar for `total` images, of which some are done.
pub(crate) fn images_bar(total: u64, done: u64) -> ProgressBar {
    let bar = ProgressBar::new(total).with_position(done);
    bar.reset_eta();
    if let Ok(style) = ProgressStyle::with_template("images {bar:32} {pos}/{len} {per_sec} {eta}") {
        bar.set_style(style);
    }
    bar
}

/// A bar for the frames of a video, whose number may be unknown.
pub(crate) fn frames_bar(total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "frames {bar:32} {pos}/{len} {per_sec} {eta}",
        ),
        None => (ProgressBar::no_length(), "frames {spinner} {pos} {per_sec}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// A bar for a transfer of `total` bytes.
pub(crate) fn bytes_bar(total: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(total).with_message(what.to_owned());
    let template = "{msg} {bar:32} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
