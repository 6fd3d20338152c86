//! Images and masks as arrays of the crate `ndarray` (feature `ndarray`).

use image::{Rgb, RgbImage};
use ndarray::{Array2, ArrayView2, ArrayView3};

use crate::error::Error;
use crate::input::InputImage;
use crate::mask::Mask;

impl TryFrom<ArrayView3<'_, u8>> for InputImage<'_> {
    type Error = Error;

    /// An array `[height, width, 3]` in any memory order.
    ///
    /// # Errors
    /// [`Error::Parameter`]: it has another shape, or no pixels.
    fn try_from(array: ArrayView3<'_, u8>) -> Result<Self, Error> {
        let (height, width, channels) = array.dim();
        let size = u32::try_from(width).ok().zip(u32::try_from(height).ok());
        let (Some((width, height)), 3) = (size.filter(|&(w, h)| w > 0 && h > 0), channels) else {
            let what = format!(
                "shape {:?}, expected [height, width, 3] with pixels",
                array.shape()
            );
            return Err(Error::parameter("image array", what));
        };
        let pixel = |x: u32, y: u32| {
            let at = |channel| array[[y as usize, x as usize, channel]];
            Rgb([at(0), at(1), at(2)])
        };
        Ok(RgbImage::from_fn(width, height, pixel).into())
    }
}

impl TryFrom<ArrayView2<'_, bool>> for Mask {
    type Error = Error;

    /// An array `[height, width]` in any memory order.
    ///
    /// # Errors
    /// [`Error::Parameter`]: a side is too long for an image.
    fn try_from(array: ArrayView2<'_, bool>) -> Result<Self, Error> {
        let (height, width) = array.dim();
        let (Ok(width), Ok(height)) = (u32::try_from(width), u32::try_from(height)) else {
            let what = format!("shape {:?} is too large", array.shape());
            return Err(Error::parameter("mask array", what));
        };
        let inside = |x: u32, y: u32| array[[y as usize, x as usize]];
        Ok(Self::from_fn(width, height, inside))
    }
}

impl From<&Mask> for Array2<bool> {
    /// `[height, width]`.
    fn from(mask: &Mask) -> Self {
        let size = (mask.height() as usize, mask.width() as usize);
        Self::from_shape_fn(size, |(y, x)| mask.get(x as u32, y as u32))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, Axis};

    use super::*;

    #[test]
    fn arrays_become_images_and_masks_and_masks_arrays() {
        let array = Array3::from_shape_fn((2, 4, 3), |(y, x, c)| (100 * y + 10 * x + c) as u8);
        let image = InputImage::try_from(array.view()).unwrap();
        assert_eq!((image.width(), image.height()), (4, 2));
        assert_eq!(image.get_pixel(2, 1).0, [120, 121, 122]);
        let mut mirrored = array.view();
        mirrored.invert_axis(Axis(1));
        let mirrored = InputImage::try_from(mirrored).unwrap();
        assert_eq!(mirrored.get_pixel(1, 1).0, [120, 121, 122]);
        let planes = array.view().permuted_axes([2, 0, 1]);
        let error = InputImage::try_from(planes).unwrap_err().to_string();
        assert!(
            error.contains("[3, 2, 3]") || error.contains("3"),
            "{error}"
        );
        assert!(InputImage::try_from(Array3::zeros((0, 3, 3)).view()).is_err());

        let mask = Mask::from_fn(70, 3, |x, y| x > 60 && y == 1);
        let array = Array2::from(&mask);
        assert_eq!(array.dim(), (3, 70));
        assert!(array[[1, 61]] && !array[[1, 60]]);
        assert_eq!(Mask::try_from(array.view()).unwrap(), mask);
    }
}
