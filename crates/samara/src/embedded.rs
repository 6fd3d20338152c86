//! The model that is compiled in: `lite`, whose weights are the crate `samara-lite`.

use samara_model::checkpoint::Checkpoint;

use crate::{Result, Segmenter, SegmenterOptions};

/// The name of the embedded model.
pub const EMBEDDED_MODEL: &str = "lite";

/// The checkpoint of the embedded model.
///
/// # Errors
/// Never, unless the build was tampered with.
pub fn embedded_checkpoint() -> Result<Checkpoint> {
    Ok(Checkpoint::embedded(
        EMBEDDED_MODEL,
        samara_lite::CHECKPOINT,
    )?)
}

impl Segmenter {
    /// The embedded model `lite`: no file, no download.
    ///
    /// ```
    /// use samara::{DeviceKind, Segmenter};
    ///
    /// let segmenter = Segmenter::embedded(DeviceKind::Cpu)?;
    /// assert_eq!(segmenter.architecture(), "mobile-sam");
    /// # Ok::<(), samara::Error>(())
    /// ```
    ///
    /// # Errors
    /// The device is not available in this build.
    pub fn embedded(options: impl Into<SegmenterOptions>) -> Result<Self> {
        Self::from_checkpoint(&embedded_checkpoint()?, options)
    }
}
