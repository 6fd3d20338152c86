//! Errors of the engine as Python exceptions, which `samara/errors.py` declares.

use pyo3::exceptions::PyFileNotFoundError;
use pyo3::prelude::*;
use samara::Error;

pyo3::import_exception!(samara.errors, CancelledError);
pyo3::import_exception!(samara.errors, CheckpointError);
pyo3::import_exception!(samara.errors, DeviceError);
pyo3::import_exception!(samara.errors, ImageError);
pyo3::import_exception!(samara.errors, OptionError);
pyo3::import_exception!(samara.errors, PromptError);
pyo3::import_exception!(samara.errors, SavedError);
pyo3::import_exception!(samara.errors, VideoError);

/// The exception of an error, with its one line.
pub(crate) fn raise(error: impl Into<Error>) -> PyErr {
    let error = error.into();
    let line = error.to_string();
    match &error {
        Error::Prompt(_) | Error::Select(_) | Error::Parameter(_) => PromptError::new_err(line),
        Error::Option(_) | Error::Parse(_) => OptionError::new_err(line),
        Error::Video(_) => VideoError::new_err(line),
        Error::Image(error) if is_missing(error) => PyFileNotFoundError::new_err(line),
        Error::Image(_) => ImageError::new_err(line),
        Error::Checkpoint(_) | Error::Head(_) | Error::Calibration(_) => {
            CheckpointError::new_err(line)
        }
        Error::Saved { .. } => SavedError::new_err(line),
        Error::Cancelled => CancelledError::new_err(line),
        _ => DeviceError::new_err(line),
    }
}

fn is_missing(error: &samara_image::Error) -> bool {
    matches!(error, samara_image::Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}
