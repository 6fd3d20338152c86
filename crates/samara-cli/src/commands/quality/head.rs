//! The head of `--head`.

use std::path::Path;

use samara::Segmenter;
use samara_quality::QualityHead;

use crate::error::{CliError, Result};

/// The head that `--head` names.
pub(super) fn load_head(path: Option<&Path>) -> Result<Option<QualityHead>> {
    let head = path.map(QualityHead::load).transpose();
    head.map_err(|error| CliError::failed(format!("--head {error}")))
}

/// A head is for one model; better to say so before images are embedded.
pub(super) fn check_head(
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
