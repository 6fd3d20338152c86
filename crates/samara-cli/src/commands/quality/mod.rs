//! `samara quality`: of masks of an image, or of the annotations of a data set.

mod data;
mod head;
mod single_image;

use crate::error::{CliError, Result};
use crate::flags::QualityFlags;

pub(crate) fn run(flags: &QualityFlags) -> Result<()> {
    let input = flags.input.as_path();
    let is_data = input.is_dir() || input.extension().is_some_and(|e| e == "json");
    match (is_data, flags.masks.is_empty()) {
        (true, true) => data::run(flags),
        (true, false) => Err(CliError::usage(format!(
            "--mask goes with an image, and {} is a data set",
            input.display()
        ))),
        (false, false) => single_image::run(flags),
        (false, true) => Err(CliError::usage(format!(
            "{}: an image needs --mask FILE; a data set is a folder or a .json of annotations",
            input.display()
        ))),
    }
}
