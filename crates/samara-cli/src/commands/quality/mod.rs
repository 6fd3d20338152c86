//! `samara quality`: of masks of an image, or of the annotations of a data set.

mod data;
mod picture;

use std::path::Path;

use samara::Segmenter;
use samara_quality::QualityHead;

use crate::error::{CliError, Result};
use crate::flags::QualityFlags;

pub(crate) fn run(flags: &QualityFlags) -> Result<()> {
    let input = flags.input.as_path();
    let is_data = input.is_dir() || input.extension().is_some_and(|e| e == "json");
    match (is_data, flags.masks.is_empty()) {
        (true, true) => data::run(flags),
        (true, false) => Err(CliError::usage(format!(
            "--mask goes with a picture, and {} is a data set",
            input.display()
        ))),
        (false, false) => picture::run(flags),
        (false, true) => Err(CliError::usage(format!(
            "{}: a picture needs --mask FILE; a data set is a folder or a .json of annotations",
            input.display()
        ))),
    }
}

/// The head that `--head` names.
fn load_head(path: Option<&Path>) -> Result<Option<QualityHead>> {
    let head = path.map(QualityHead::load).transpose();
    head.map_err(|error| CliError::failed(format!("--head {error}")))
}

/// A head is for one model; better to say so before images are embedded.
fn check_head(
    path: Option<&Path>,
    head: Option<&QualityHead>,
    segmenter: &Segmenter,
) -> Result<()> {
    let (Some(path), Some(head)) = (path, head) else {
        return Ok(());
    };
    let own = segmenter.fingerprint()?;
    if head.fingerprint() == own {
        return Ok(());
    }
    Err(CliError::failed(format!(
        "--head {}: it belongs to the model {:.12}… and not to this one, {own:.12}…",
        path.display(),
        head.fingerprint()
    )))
}
