//! The log of the server.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};
use crate::error::ConfigError;

/// Logs to standard error from now on, for the whole process.
///
/// # Errors
/// The filter makes no sense, or the process logs already.
pub fn start_log(log: &Log) -> Result<(), ConfigError> {
    let refuse = |why: &dyn std::fmt::Display| ConfigError(format!("log.filter: {why}"));
    let filter =
        EnvFilter::try_new(log.filter.as_deref().unwrap_or("info")).map_err(|e| refuse(&e))?;
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false);
    let started = match log.format {
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            registry.with(lines.with_ansi(colours)).try_init()
        }
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    started.map_err(|e| ConfigError(format!("log: {e}")))
}
