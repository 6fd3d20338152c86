//! The model that is compiled in: `lite`, see `models/lite/README.md`.

use samara_model::checkpoint::Checkpoint;

use crate::{DeviceKind, QualityHead, Result, Segmenter};

/// The name of the embedded model.
pub const EMBEDDED_MODEL: &str = "lite";
/// Its architecture.
pub(crate) const ARCHITECTURE: &str = "mobile-sam";

static WEIGHTS: &[u8] = include_bytes!("../../../models/lite/lite.safetensors");
static QUALITY_HEAD: &[u8] = include_bytes!("../../../models/lite/quality.safetensors");

/// The checkpoint of the embedded model.
///
/// # Errors
/// Never, unless the build was tampered with.
pub fn embedded_checkpoint() -> Result<Checkpoint> {
    Ok(Checkpoint::embedded(EMBEDDED_MODEL, WEIGHTS)?)
}

/// The head by which the embedded model judges masks that it did not make.
///
/// # Errors
/// Never, unless the build was tampered with.
pub fn embedded_quality_head() -> Result<QualityHead> {
    QualityHead::from_bytes(QUALITY_HEAD)
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
    pub fn embedded(device: DeviceKind) -> Result<Self> {
        Self::from_checkpoint(&embedded_checkpoint()?, &device.open()?)
    }
}
