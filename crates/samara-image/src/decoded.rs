//! An image as its decoder gives it.

use image::DynamicImage;

use crate::warning::ImageWarning;

/// An image in its own colour type, upright.
pub(crate) struct Decoded {
    pub(crate) image: DynamicImage,
    /// The range of the samples' type, of `f32` samples that came from integers; 0 to 1 of floats.
    pub(crate) range: [f32; 2],
    pub(crate) warnings: Vec<ImageWarning>,
}

impl From<DynamicImage> for Decoded {
    fn from(image: DynamicImage) -> Self {
        Self {
            image,
            range: [0.0, 1.0],
            warnings: Vec::new(),
        }
    }
}
