//! Released models, fetched when that is asked for.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use samara::checkpoint::download::{DownloadError, DownloadOptions, Stage};
use samara::checkpoint::registry;

use crate::error::{CheckpointError, OptionError};
use crate::progress::Progress;

/// Downloads the checkpoint of a released model to this machine, verified, and resumed where an earlier call ended.
///
/// Parameters
/// ----------
/// model : str
///     Its name, such as ``"sam-vit-b"`` or ``"sam2.1-tiny"``.
/// force : bool, default False
///     Anew, even if it is there.
/// progress : callable or tqdm bar, optional
///     Hears the share that is done, 0 to 1; a bar is moved on by its own total.
///
/// Returns
/// -------
/// pathlib.Path
///     The file, in ``$SAMARA_HOME/models`` or the user's cache; :class:`Segmenter` finds it by the model's name.
///
/// Raises
/// ------
/// OptionError
///     There is no such model.
/// CheckpointError
///     It cannot be fetched, or a file in its place is another one.
#[pyfunction]
#[pyo3(signature = (model, *, force = false, progress = None))]
pub(crate) fn download(
    py: Python<'_>,
    model: &str,
    force: bool,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<PathBuf> {
    let release = registry::find(model).map_err(|e| OptionError::new_err(e.to_string()))?;
    let options = DownloadOptions {
        force,
        ..DownloadOptions::default()
    };
    let mut progress = Progress::new(progress)?;
    let mut told = 0.0_f64;
    let path = py.detach(|| {
        samara::checkpoint::download::download(release, &options, &mut |step| {
            let share = match (step.stage, step.total) {
                (Stage::Verified | Stage::Unverified, _) => 1.0,
                (Stage::Fetching, Some(total)) => step.done as f64 / total.max(1) as f64,
                _ => told,
            };
            // A bar does not go back when the server sends everything again.
            told = told.max(share);
            if progress.tell(told).is_break() {
                options.cancelled.store(true, Ordering::Relaxed);
            }
        })
    });
    progress.finish_with(path, |error: DownloadError| {
        CheckpointError::new_err(error.to_string())
    })
}
