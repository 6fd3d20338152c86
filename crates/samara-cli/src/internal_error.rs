//! Panics, which are our mistakes, as errors.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;

use crate::error::CliError;
use crate::terminal;

/// Where the first panic happened, and how the program got there if `RUST_BACKTRACE` asks for it.
static FIRST: OnceLock<(Option<String>, Backtrace)> = OnceLock::new();

/// The panic hook: keeps what is known only while the panic happens, and prints nothing.
pub(crate) fn note(info: &PanicHookInfo<'_>) {
    FIRST.get_or_init(|| {
        let place = info.location().map(ToString::to_string);
        (place, Backtrace::capture())
    });
}

/// The error of a panic with this payload. Prints the backtrace that was asked for.
pub(crate) fn of(payload: &(dyn Any + Send)) -> CliError {
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("unknown cause");
    let (place, backtrace) = FIRST
        .get()
        .map_or((None, None), |(p, b)| (p.as_deref(), Some(b)));
    if let Some(backtrace) = backtrace.filter(|b| b.status() == BacktraceStatus::Captured) {
        terminal::tell("backtrace", &format!("\n{backtrace}"));
    }
    let place = place.map_or(String::new(), |place| format!(" at {place}"));
    CliError::failed(format!(
        "internal error{place}, please report it (with RUST_BACKTRACE=1): {text}"
    ))
}
