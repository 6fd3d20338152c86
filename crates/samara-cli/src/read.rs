//! Reading images, and telling what is worth knowing about them.

use std::path::Path;

use samara_image::{ImageWarning, ReadImage, ReadOptions, read_image_with};

use crate::error::Result;
use crate::terminal;

/// Reads an image, and tells on the terminal how it may not be what its author sees.
pub(crate) fn read(path: &Path, options: &ReadOptions) -> Result<ReadImage> {
    let read = read_image_with(path, options)?;
    tell(path, &read.warnings);
    Ok(read)
}

/// Tells warnings of an image on the terminal.
pub(crate) fn tell(path: &Path, warnings: &[ImageWarning]) {
    for warning in warnings {
        terminal::tell("notice", &format!("{}: {warning}", path.display()));
    }
}
