//! What the first bytes of a picture say of it.

use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{ImageDecoder, ImageFormat, ImageReader};
use samara_image::{ImageLimits, decode_image, one_line, read_file};
use sha2::{Digest, Sha256};

/// A picture without its pixels.
pub(crate) struct Header {
    /// Of the file, in hexadecimal.
    pub(crate) sha256: String,
    /// In pixels, after EXIF orientation.
    pub(crate) width: u32,
    /// In pixels, after EXIF orientation.
    pub(crate) height: u32,
}

/// Reads the header of a picture, or says why it cannot be read.
pub(crate) fn read(path: &Path) -> Result<Header, String> {
    let limits = ImageLimits::default();
    let reason = |error: samara_image::Error| error.reason().to_owned();
    let bytes = read_file(path, &limits).map_err(reason)?;
    let (width, height) = match image::guess_format(&bytes) {
        Ok(format) if format != ImageFormat::Tiff => {
            upright(&bytes, format).map_err(|error| one_line(&error.to_string()))?
        }
        // Its pages are looked through, and what is wrong with any file is found out there.
        _ => decode_image(&bytes, "", &limits)
            .map_err(reason)?
            .dimensions(),
    };
    limits.check_pixels(width, height, "").map_err(reason)?;
    Ok(Header {
        sha256: hex::encode(Sha256::digest(&bytes)),
        width,
        height,
    })
}

fn upright(bytes: &[u8], format: ImageFormat) -> image::ImageResult<(u32, u32)> {
    let mut decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder()?;
    let (width, height) = decoder.dimensions();
    // Unreadable metadata does not make the pixels wrong.
    Ok(match decoder.orientation() {
        Ok(
            Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH,
        ) => (height, width),
        _ => (width, height),
    })
}

#[cfg(test)]
mod tests {
    use image::codecs::jpeg::JpegEncoder;
    use image::{ExtendedColorType, ImageEncoder};

    use super::*;

    #[test]
    fn a_header_says_what_the_pixels_say() {
        let folder = tempfile::tempdir().unwrap();
        let limits = ImageLimits::default();
        for orientation in 1..=8 {
            let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
            exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
            let mut bytes = Vec::new();
            let mut encoder = JpegEncoder::new(&mut bytes);
            encoder.set_exif_metadata(exif).unwrap();
            encoder
                .write_image(&[7; 3 * 5], 3, 5, ExtendedColorType::L8)
                .unwrap();
            let path = folder.path().join("a.jpg");
            std::fs::write(&path, &bytes).unwrap();
            let header = read(&path).unwrap();
            let pixels = decode_image(&bytes, "", &limits).unwrap().dimensions();
            assert_eq!((header.width, header.height), pixels, "{orientation}");
            assert_eq!(pixels, if orientation < 5 { (3, 5) } else { (5, 3) });
            assert_eq!(header.sha256, hex::encode(Sha256::digest(&bytes)));
        }
        for format in [
            ImageFormat::Tiff,
            ImageFormat::Bmp,
            ImageFormat::Gif,
            ImageFormat::WebP,
        ] {
            let path = folder.path().join("a");
            image::RgbImage::new(6, 4)
                .save_with_format(&path, format)
                .unwrap();
            let header = read(&path).unwrap();
            assert_eq!((header.width, header.height), (6, 4));
            std::fs::write(&path, &std::fs::read(&path).unwrap()[..9]).unwrap();
            let why = read(&path).map(|_| ()).unwrap_err();
            assert!(!why.is_empty() && !why.contains('\n'), "{why}");
        }
        assert!(read(&folder.path().join("none")).is_err());
    }
}
