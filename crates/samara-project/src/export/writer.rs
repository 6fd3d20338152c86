//! What a format has to do.

use crate::Result;
use crate::export::page::Page;

/// Writes a format, picture by picture.
pub(super) trait Writer {
    /// Where the copy of a picture goes, below the folder; `None` if the format has none.
    fn copy_of(&self, page: &Page<'_>) -> Option<String>;

    /// Whether the pixels of pictures are needed.
    fn needs_pixels(&self) -> bool {
        false
    }

    /// Writes the objects of a picture.
    fn write(&mut self, page: &Page<'_>) -> Result<()>;

    /// Writes what is about all pictures, and tells what was lost. `labels` are the names of the classes by their
    /// numbers.
    fn finish(self: Box<Self>, labels: &[String]) -> Result<Vec<String>>;
}
