//! Panics, which are our mistakes, as errors.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::error::CliError;
use crate::terminal;

/// Where the last panic happened, and how the program got there if `RUST_BACKTRACE` asks for it.
static LAST: Mutex<Option<(Option<String>, Backtrace)>> = Mutex::new(None);

/// The panic hook: keeps what is known only while the panic happens, and prints nothing.
pub(crate) fn note(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string);
    let panic = (place, Backtrace::capture());
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
}

/// The error of a panic with this payload. Prints the backtrace that was asked for.
pub(crate) fn of(payload: &(dyn Any + Send)) -> CliError {
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("unknown cause");
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (place, backtrace) =
        last.map_or((None, None), |(place, backtrace)| (place, Some(backtrace)));
    if let Some(backtrace) = backtrace.filter(|b| b.status() == BacktraceStatus::Captured) {
        terminal::tell_lines("backtrace", &format!("\n{backtrace}"));
    }
    let place = place.map_or(String::new(), |place| format!(" at {place}"));
    CliError::failed(format!(
        "internal error{place}, please report it (with RUST_BACKTRACE=1): {text}"
    ))
}

/// The work on one file of many. What goes wrong with it, a panic too, is told in a line with the file's name, and
/// ends nothing else.
pub(crate) fn caught<T, E: Into<CliError>>(
    path: &Path,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, String> {
    let error = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) => error.into(),
        Err(panic) => of(panic.as_ref()),
    };
    let (name, line) = (terminal::name(path), error.line());
    Err(if line.contains(&name) {
        line
    } else {
        format!("{name}: {line}")
    })
}
