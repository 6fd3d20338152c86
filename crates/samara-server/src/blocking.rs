//! Work that must not keep the threads that serve.

use crate::error::{Problem, Result};

/// Runs work that waits for a disk or decodes, off the threads that serve.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| {
        Problem::internal("the work ended without an answer; the log of the server may say why")
    })
}
