//! Reading images within limits.

use std::fs;
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::error::{ImageError as CodecError, LimitErrorKind};
use image::metadata::Orientation;
use image::{DynamicImage, ImageBuffer, ImageDecoder, ImageFormat, ImageReader, Luma, RgbImage};

use crate::complete::is_complete;
use crate::error::Error;
use crate::input::flatten;
use crate::limits::ImageLimits;

/// Reads an image file as 8-bit RGB.
///
/// JPEG, PNG, WebP, TIFF, BMP and GIF (its first frame), recognised by content and not by
/// extension. The EXIF orientation is applied. Transparent pixels are laid over white. 16-bit
/// samples become 8-bit as `round(v / 257)`, 32-bit floats as `round(255 · clamp(v, 0, 1))`; grey
/// is repeated into the three channels. CMYK and YCCK JPEGs are converted without a colour
/// profile; colour profiles are ignored everywhere, as Pillow does.
///
/// # Errors
/// One line naming the file: [`Error::Io`] (missing, a folder, not readable),
/// [`Error::Decoding`] (empty, truncated, not an image, damaged), [`Error::Limits`]
/// (too large, decided from the header), [`Error::Unsupported`] (another format).
pub fn read_image(path: impl AsRef<Path>, limits: &ImageLimits) -> Result<RgbImage, Error> {
    let path = path.as_ref();
    let bytes = read_bytes(path, limits)?;
    decode_image(&bytes, &path.display().to_string(), limits)
}

/// Decodes an image from memory; `name` stands for the file in error messages.
///
/// See [`read_image`] for formats and conversions.
///
/// # Errors
/// As [`read_image`], without [`Error::Io`].
pub fn decode_image(bytes: &[u8], name: &str, limits: &ImageLimits) -> Result<RgbImage, Error> {
    decode_dynamic(bytes, name, limits).map(flatten)
}

/// An image of 16-bit grey levels.
pub type GrayImage16 = ImageBuffer<Luma<u16>, Vec<u16>>;

/// Reads an image file as 16-bit grey: 8-bit samples become 16-bit as `257 · v`, colours their luma;
/// transparency is ignored.
///
/// # Errors
/// As [`read_image`].
pub fn read_gray16(path: impl AsRef<Path>, limits: &ImageLimits) -> Result<GrayImage16, Error> {
    let path = path.as_ref();
    let bytes = read_bytes(path, limits)?;
    Ok(decode_dynamic(&bytes, &path.display().to_string(), limits)?.into_luma16())
}

/// The whole file, if it is a regular one within [`ImageLimits::max_bytes`].
pub(crate) fn read_bytes(path: &Path, limits: &ImageLimits) -> Result<Vec<u8>, Error> {
    let fail = |source| Error::io(path, "cannot be read", source);
    let name = path.display().to_string();
    let meta = fs::metadata(path).map_err(fail)?;
    if meta.is_dir() {
        return Err(fail(std::io::ErrorKind::IsADirectory.into()));
    }
    limits.check_bytes(meta.len(), "the file", &name)?;
    let mut bytes = Vec::new();
    // A pipe has no length, so the bound also holds while reading.
    let file = fs::File::open(path).map_err(fail)?;
    file.take(limits.max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    limits.check_bytes(bytes.len() as u64, "the file", &name)?;
    Ok(bytes)
}

/// Decodes with the orientation applied, in the image's own colour type.
pub(crate) fn decode_dynamic(
    bytes: &[u8],
    name: &str,
    limits: &ImageLimits,
) -> Result<DynamicImage, Error> {
    // A codec that panics over a damaged file does not take the program with it.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(bytes, name, limits)));
    let gave_up = |_| {
        Err(Error::decoding(
            name,
            "the image is damaged: the decoder gave up",
        ))
    };
    decoded.unwrap_or_else(gave_up)
}

fn decode(bytes: &[u8], name: &str, limits: &ImageLimits) -> Result<DynamicImage, Error> {
    limits.check_bytes(bytes.len() as u64, "the file", name)?;
    if bytes.is_empty() {
        return Err(Error::decoding(name, "the file is empty"));
    }
    let format = recognise(bytes, name)?;
    let complete = is_complete(bytes, format);
    // These decoders believe what a file says of its length. The limits of a JPEG come first.
    if !complete && format != ImageFormat::Jpeg {
        return Err(truncated(name));
    }
    let failed = |error| match translate(error, name, limits) {
        Error::Decoding { .. } if !complete => truncated(name),
        other => other,
    };
    let reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    limits.check_pixels(width, height, name)?;
    limits.check_bytes(decoder.total_bytes(), "the decoded image", name)?;
    if width == 0 || height == 0 {
        return Err(Error::decoding(
            name,
            format!("the image has no pixels: {width}x{height}"),
        ));
    }
    if !complete {
        return Err(truncated(name));
    }
    let mut codec_limits = image::Limits::no_limits();
    codec_limits.max_alloc = Some(limits.max_bytes);
    decoder.set_limits(codec_limits).map_err(failed)?;
    // Unreadable metadata does not make the pixels wrong.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    image.apply_orientation(orientation);
    Ok(image)
}

fn recognise(bytes: &[u8], name: &str) -> Result<ImageFormat, Error> {
    const READ: &str = "JPEG, PNG, WebP, TIFF, BMP and GIF are read";
    match image::guess_format(bytes) {
        Ok(
            format @ (ImageFormat::Jpeg
            | ImageFormat::Png
            | ImageFormat::WebP
            | ImageFormat::Tiff
            | ImageFormat::Bmp
            | ImageFormat::Gif),
        ) => Ok(format),
        Ok(other) => Err(Error::unsupported(
            name,
            format!("is {}; {READ}", format!("{other:?}").to_uppercase()),
        )),
        Err(_) => Err(Error::decoding(name, format!("is not an image; {READ}"))),
    }
}

fn truncated(name: &str) -> Error {
    Error::decoding(name, "the file is truncated: the image ends too early")
}

/// Puts a codec's error into one line of ours.
fn translate(error: CodecError, name: &str, limits: &ImageLimits) -> Error {
    let text = error.to_string();
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match error {
        CodecError::Limits(limit) => match limit.kind() {
            LimitErrorKind::DimensionError => {
                Error::limits(name, "the image's sides are too large to decode")
            }
            _ => Error::limits(
                name,
                format!(
                    "decoding needs more than the limit of {} bytes (raise max_bytes to read it)",
                    limits.max_bytes
                ),
            ),
        },
        CodecError::Unsupported(_) => Error::unsupported(name, line),
        CodecError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => truncated(name),
        _ if says_truncated(&line) => truncated(name),
        _ => Error::decoding(name, format!("the image is damaged: {line}")),
    }
}

/// The codecs have no common kind for an early end, only their own words for it.
fn says_truncated(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    [
        "unexpected end",
        "unexpected eof",
        "failed to fill whole buffer",
        "no more bytes",
        "exhausted data",
        "failed to read",
        "premature",
    ]
    .iter()
    .any(|words| line.contains(words))
}
