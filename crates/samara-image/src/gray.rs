//! Grey images whose values count, such as attention maps.

use std::path::Path;

use image::DynamicImage;

use crate::decode::{decode_page, read_bytes};
use crate::decoded::Decoded;
use crate::error::Error;
use crate::limits::ImageLimits;

/// A grey image of floating-point values.
#[derive(Debug, Clone, PartialEq)]
pub struct GrayValues {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// One value a pixel, row by row: integers by the range of their type, so 0 to 1, floats as they are.
    pub values: Vec<f32>,
}

/// Reads a grey image without losing any of its 8, 16 or 32 bits a pixel. An image in colour
/// passes when red, green and blue are equal everywhere. Opacity is ignored.
///
/// # Errors
/// As [`read_image`](crate::read_image); [`Error::Unsupported`] also for an image in colour.
pub fn read_gray(path: impl AsRef<Path>, limits: &ImageLimits) -> Result<GrayValues, Error> {
    let path = path.as_ref();
    let name = path.display().to_string();
    let Decoded { image, range, .. } = decode_page(&read_bytes(path, limits)?, &name, limits, 0)?;
    let (width, height) = (image.width(), image.height());
    let values: Vec<f32> = match &image {
        DynamicImage::ImageLuma8(_) | DynamicImage::ImageLumaA8(_) => {
            let grey = image.into_luma8();
            grey.pixels().map(|p| f32::from(p[0]) / 255.0).collect()
        }
        DynamicImage::ImageLuma16(_) | DynamicImage::ImageLumaA16(_) => {
            let grey = image.into_luma16();
            grey.pixels().map(|p| f32::from(p[0]) / 65535.0).collect()
        }
        _ => {
            let rgb = image.into_rgb32f();
            if rgb.pixels().any(|p| p[0] != p[1] || p[0] != p[2]) {
                let what = "is an image in colour, and grey values are wanted";
                return Err(Error::unsupported(&name, what));
            }
            let [low, high] = range;
            rgb.pixels().map(|p| (p[0] - low) / (high - low)).collect()
        }
    };
    Ok(GrayValues {
        width,
        height,
        values,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::GrayImage16;
    use crate::save::save_png;
    use image::{GrayImage, Luma, Rgb, RgbImage};

    #[test]
    fn values_keep_their_bits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.png");
        let read = || read_gray(&path, &ImageLimits::default());
        save_png(
            &path,
            &GrayImage16::from_fn(3, 2, |x, y| Luma([(1000 + x + 3 * y) as u16])),
        )
        .unwrap();
        let sixteen = read().unwrap();
        assert_eq!((sixteen.width, sixteen.height), (3, 2));
        let levels: Vec<u32> = sixteen
            .values
            .iter()
            .map(|v| (v * 65535.0).round() as u32)
            .collect();
        assert_eq!(levels, [1000, 1001, 1002, 1003, 1004, 1005]);
        save_png(&path, &GrayImage::from_pixel(2, 2, Luma([51]))).unwrap();
        assert_eq!(read().unwrap().values, [0.2; 4]);
        save_png(&path, &RgbImage::from_pixel(2, 2, Rgb([51; 3]))).unwrap();
        assert_eq!(read().unwrap().values, [0.2; 4]);
        save_png(&path, &RgbImage::from_pixel(2, 2, Rgb([51, 51, 52]))).unwrap();
        assert!(read().unwrap_err().to_string().contains("colour"));
    }
}
