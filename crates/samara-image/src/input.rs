//! Images as they come from elsewhere, as 8-bit RGB.

use std::borrow::Cow;
use std::ops::Deref;

use image::{DynamicImage, GrayImage, Rgb, RgbImage, RgbaImage};

use crate::error::Error;

/// An image as models take it: upright 8-bit RGB, borrowed where it is that already.
///
/// It is made from
/// - `RgbImage` as it is; [`read_image`](crate::read_image) gives one,
/// - `DynamicImage`, `RgbaImage` and `GrayImage`, converted as [`read_image`](crate::read_image) does:
///   transparent pixels over white, 16-bit samples as `round(v / 257)`, grey repeated. The EXIF orientation
///   is no part of these types: a file that `image::open` read lies as the camera held it,
/// - [`Pixels`]: bytes in memory,
/// - arrays of the crate `ndarray`, `[height, width, 3]` of `u8` (feature `ndarray`).
#[derive(Debug, Clone)]
pub struct InputImage<'a>(Cow<'a, RgbImage>);

impl Deref for InputImage<'_> {
    type Target = RgbImage;

    fn deref(&self) -> &RgbImage {
        &self.0
    }
}

impl InputImage<'_> {
    /// The image, copied if it is borrowed.
    pub fn into_owned(self) -> RgbImage {
        self.0.into_owned()
    }
}

impl<'a> From<&'a RgbImage> for InputImage<'a> {
    fn from(image: &'a RgbImage) -> Self {
        Self(Cow::Borrowed(image))
    }
}

impl From<RgbImage> for InputImage<'_> {
    fn from(image: RgbImage) -> Self {
        Self(Cow::Owned(image))
    }
}

impl<'a> From<&'a DynamicImage> for InputImage<'a> {
    fn from(image: &'a DynamicImage) -> Self {
        match image.as_rgb8() {
            Some(rgb) => rgb.into(),
            None => image.clone().into(),
        }
    }
}

impl From<DynamicImage> for InputImage<'_> {
    fn from(image: DynamicImage) -> Self {
        flatten(image).into()
    }
}

impl From<&RgbaImage> for InputImage<'_> {
    fn from(image: &RgbaImage) -> Self {
        over_white(image).into()
    }
}

impl From<&GrayImage> for InputImage<'_> {
    fn from(image: &GrayImage) -> Self {
        let rgb = |x, y| Rgb([image.get_pixel(x, y)[0]; 3]);
        RgbImage::from_fn(image.width(), image.height(), rgb).into()
    }
}

/// 8-bit RGB, with transparent pixels over white.
pub(crate) fn flatten(image: DynamicImage) -> RgbImage {
    if image.color().has_alpha() {
        over_white(&image.into_rgba8())
    } else {
        image.into_rgb8()
    }
}

fn over_white(rgba: &RgbaImage) -> RgbImage {
    let mut rgb = RgbImage::new(rgba.width(), rgba.height());
    for (to, from) in rgb.pixels_mut().zip(rgba.pixels()) {
        let [red, green, blue, alpha] = from.0;
        *to = Rgb([red, green, blue].map(|value| blended(value, alpha)));
    }
    rgb
}

/// A value over white.
fn blended(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

/// The order of the bytes of a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PixelFormat {
    /// Red, green, blue.
    Rgb8,
    /// Red, green, blue, alpha; transparent pixels are laid over white.
    Rgba8,
    /// Blue, green, red, as OpenCV has it.
    Bgr8,
    /// Blue, green, red, alpha; transparent pixels are laid over white.
    Bgra8,
    /// One grey value.
    Gray8,
}

impl PixelFormat {
    /// Bytes of a pixel.
    pub fn bytes(self) -> usize {
        match self {
            Self::Gray8 => 1,
            Self::Rgb8 | Self::Bgr8 => 3,
            Self::Rgba8 | Self::Bgra8 => 4,
        }
    }

    fn rgb(self, pixel: &[u8]) -> Rgb<u8> {
        let blended = |v: [u8; 3], a| v.map(|v| blended(v, a));
        Rgb(match *pixel {
            [b, g, r] if self == Self::Bgr8 => [r, g, b],
            [r, g, b] => [r, g, b],
            [b, g, r, a] if self == Self::Bgra8 => blended([r, g, b], a),
            [r, g, b, a] => blended([r, g, b], a),
            _ => [pixel[0]; 3],
        })
    }
}

/// Pixels in memory, row by row from the top.
///
/// ```
/// use samara_image::{InputImage, PixelFormat, Pixels};
///
/// // Two rows of two pixels, each row padded to eight bytes.
/// let bytes = [0_u8, 0, 255, 0, 255, 0, 9, 9, 255, 0, 0, 255, 255, 255, 9, 9];
/// let pixels = Pixels::new(&bytes, 2, 2, PixelFormat::Bgr8).with_stride(8);
/// let image = InputImage::try_from(pixels)?;
/// assert_eq!(image.get_pixel(0, 0).0, [255, 0, 0]);
/// # Ok::<(), samara_image::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Pixels<'a> {
    bytes: &'a [u8],
    width: u32,
    height: u32,
    format: PixelFormat,
    stride: usize,
}

impl<'a> Pixels<'a> {
    /// Rows of `width` pixels that follow on each other.
    pub fn new(bytes: &'a [u8], width: u32, height: u32, format: PixelFormat) -> Self {
        let stride = (width as usize).saturating_mul(format.bytes());
        Self {
            bytes,
            width,
            height,
            format,
            stride,
        }
    }

    /// Rows that begin every `bytes` bytes.
    pub fn with_stride(mut self, bytes: usize) -> Self {
        self.stride = bytes;
        self
    }

    /// Refuses sizes that the bytes do not hold.
    fn check(&self) -> Result<(), Error> {
        let refuse = |what: String| Err(Error::parameter("pixels", what));
        let (width, height) = (self.width, self.height);
        if width == 0 || height == 0 {
            return refuse(format!("an image of {width}×{height} pixels has none"));
        }
        let row = (width as usize).checked_mul(self.format.bytes());
        if row.is_none_or(|row| self.stride < row) {
            return refuse(format!(
                "rows of {width} pixels do not fit into a stride of {} bytes",
                self.stride
            ));
        }
        let rows = (height as usize - 1).checked_mul(self.stride);
        let needed = rows.zip(row).and_then(|(rows, row)| rows.checked_add(row));
        if needed.is_none_or(|needed| self.bytes.len() < needed) {
            return refuse(format!(
                "{} bytes are too few for {width}×{height} pixels of {} bytes in rows of {}",
                self.bytes.len(),
                self.format.bytes(),
                self.stride
            ));
        }
        Ok(())
    }
}

impl TryFrom<Pixels<'_>> for InputImage<'_> {
    type Error = Error;

    /// # Errors
    /// [`Error::Parameter`]: there are no pixels, fewer bytes than the size needs, or the stride is shorter
    /// than a row.
    fn try_from(pixels: Pixels<'_>) -> Result<Self, Error> {
        pixels.check()?;
        let (step, format) = (pixels.format.bytes(), pixels.format);
        let mut rgb = RgbImage::new(pixels.width, pixels.height);
        let rows = rgb.rows_mut().zip(pixels.bytes.chunks(pixels.stride));
        for (to, from) in rows {
            for (to, from) in to.zip(from.chunks_exact(step)) {
                *to = format.rgb(from);
            }
        }
        Ok(rgb.into())
    }
}

#[cfg(test)]
mod tests {
    use image::{ImageBuffer, Luma, Rgba};

    use super::*;

    #[test]
    fn images_of_any_kind_become_rgb_as_files_do() {
        let rgb = RgbImage::from_fn(3, 2, |x, y| Rgb([x as u8 * 40, y as u8 * 90, 7]));
        let dynamic = DynamicImage::ImageRgb8(rgb.clone());
        let borrowed = InputImage::from(&dynamic);
        assert!(matches!(borrowed.0, Cow::Borrowed(_)));
        assert_eq!(*borrowed, rgb);
        let rgba = RgbaImage::from_pixel(1, 1, Rgba([200, 100, 0, 51]));
        let over_white = [244, 224, 204];
        assert_eq!(InputImage::from(&rgba).get_pixel(0, 0).0, over_white);
        let dynamic = InputImage::from(DynamicImage::ImageRgba8(rgba));
        assert_eq!(dynamic.get_pixel(0, 0).0, over_white);
        let deep: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_pixel(1, 1, Luma([0x8181]));
        let dynamic = InputImage::from(DynamicImage::ImageLuma16(deep));
        assert_eq!(dynamic.get_pixel(0, 0).0, [0x81; 3]);
        let gray = GrayImage::from_pixel(1, 1, Luma([9]));
        assert_eq!(InputImage::from(&gray).get_pixel(0, 0).0, [9; 3]);
    }

    #[test]
    fn bytes_are_read_in_their_order_and_stride() {
        let first = |bytes: &[u8], format| {
            let image = InputImage::try_from(Pixels::new(bytes, 1, 1, format)).unwrap();
            image.get_pixel(0, 0).0
        };
        assert_eq!(first(&[1, 2, 3], PixelFormat::Rgb8), [1, 2, 3]);
        assert_eq!(first(&[1, 2, 3], PixelFormat::Bgr8), [3, 2, 1]);
        assert_eq!(
            first(&[200, 100, 0, 51], PixelFormat::Rgba8),
            [244, 224, 204]
        );
        assert_eq!(
            first(&[0, 100, 200, 51], PixelFormat::Bgra8),
            [244, 224, 204]
        );
        assert_eq!(first(&[8], PixelFormat::Gray8), [8; 3]);
        // The last row needs no padding.
        let padded = [1, 2, 0, 0, 3, 4];
        let pixels = Pixels::new(&padded, 2, 2, PixelFormat::Gray8).with_stride(4);
        let image = InputImage::try_from(pixels).unwrap();
        assert_eq!(image.as_raw()[6..], [3, 3, 3, 4, 4, 4]);
    }

    #[test]
    fn sizes_that_the_bytes_do_not_hold_are_refused() {
        let bytes = [0; 11];
        for (width, height, stride, word) in [
            (0, 2, 6, "none"),
            (2, 2, 5, "stride of 5"),
            (2, 2, 6, "11 bytes are too few"),
            (u32::MAX, u32::MAX, usize::MAX, "too few"),
        ] {
            let pixels = Pixels::new(&bytes, width, height, PixelFormat::Rgb8);
            let error = InputImage::try_from(pixels.with_stride(stride)).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(word) && text.contains("pixels"), "{text}");
        }
    }
}
