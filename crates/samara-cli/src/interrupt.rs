//! Signals that end a run: the first lets it save, the second ends it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::{consts, flag};

use crate::error::CliError;

/// Signals that ask a program to end.
#[cfg(unix)]
const SIGNALS: [i32; 3] = [consts::SIGINT, consts::SIGTERM, consts::SIGHUP];
#[cfg(not(unix))]
const SIGNALS: [i32; 2] = [consts::SIGINT, consts::SIGTERM];

/// Whether, and by which signal, a run was asked to end.
pub(crate) struct Interrupt {
    asked: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Listens from now on, but not to what the program was started to ignore, as by `nohup`. Where no
    /// handler can be set, a signal ends the process, which loses what was done since a run was last saved
    /// and nothing else.
    pub(crate) fn listen() -> Self {
        let asked = Arc::new(AtomicBool::new(false));
        let signal = Arc::new(AtomicUsize::new(0));
        for number in SIGNALS.into_iter().filter(|&number| !is_ignored(number)) {
            // In this order: the second signal finds what the first one has set.
            let _ = flag::register_conditional_shutdown(number, status(number), Arc::clone(&asked));
            let _ = flag::register(number, Arc::clone(&asked));
            let _ = flag::register_usize(number, Arc::clone(&signal), number as usize);
        }
        Self { asked, signal }
    }

    /// Set by the first signal.
    pub(crate) fn asked(&self) -> &AtomicBool {
        &self.asked
    }

    /// The end of a run whose journal has what is done.
    pub(crate) fn stopped_after(&self, done: &str) -> CliError {
        self.ended(format!(
            "stopped after {done}; --resume continues from there"
        ))
    }

    /// The end of a run that has saved; `line` says how it is resumed.
    pub(crate) fn ended(&self, line: String) -> CliError {
        CliError::Interrupted {
            line,
            status: status(self.signal.load(Ordering::Relaxed) as i32) as u8,
        }
    }
}

/// The exit status of a program that a signal ends, as shells count.
fn status(signal: i32) -> i32 {
    128 + signal
}

/// Whether this process was started with the signal ignored, which Linux tells.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
