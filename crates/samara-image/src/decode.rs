//! Reading images within limits.

use std::fs;
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::error::{ImageError as CodecError, LimitErrorKind};
use image::metadata::Orientation;
use image::{DynamicImage, ImageBuffer, ImageDecoder, ImageFormat, ImageReader, Luma, RgbImage};

use crate::complete::is_complete;
use crate::decoded::Decoded;
use crate::depth::Stretch;
use crate::error::Error;
use crate::limits::ImageLimits;
#[cfg(feature = "image")]
use crate::tiff;
use crate::tones::refuse_colours;
use crate::warning::ImageWarning;

/// Whether a file's name ends as that of an image that is read, in any case: what programs look for in folders. Images
/// are read by their content, whatever their name.
pub fn has_image_extension(path: impl AsRef<Path>) -> bool {
    const EXTENSIONS: [&str; 9] = [
        "jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "gif", "jfif",
    ];
    let extension = path.as_ref().extension();
    let extension = extension.map(|e| e.to_string_lossy().to_lowercase());
    extension.is_some_and(|e| EXTENSIONS.contains(&&*e))
}

/// Reads an image file as 8-bit RGB.
///
/// JPEG, PNG, WebP, TIFF, BMP and GIF (its first frame), recognised by content and not by
/// extension. The EXIF orientation is applied. Transparent pixels are laid over white. 16-bit
/// samples become 8-bit as `round(v / 257)`, floats as `round(255 · clamp(v, 0, 1))`, other integers by
/// the range of their type; grey is repeated into the three channels. CMYK and YCCK are converted without a
/// colour profile; colour profiles are ignored everywhere, as Pillow does.
///
/// [`read_image_with`] also reads other pages, stretches values, and says what is worth knowing.
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

/// How an image file is read.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ReadOptions {
    /// How large it may be.
    pub limits: ImageLimits,
    /// Which page of a TIFF, or frame of an animated GIF or WebP, counted from 0.
    pub page: usize,
    /// Which values of samples of more than 8 bits become black and white.
    pub stretch: Stretch,
}

impl From<ImageLimits> for ReadOptions {
    /// The first page, values as they are.
    fn from(limits: ImageLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }
}

/// An image as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadImage {
    /// 8-bit RGB, upright.
    pub image: RgbImage,
    /// How it may not be what its author sees.
    pub warnings: Vec<ImageWarning>,
}

/// As [`read_image`], with further options and warnings.
///
/// # Errors
/// As [`read_image`]; [`Error::Parameter`] when there is no such page.
pub fn read_image_with(path: impl AsRef<Path>, options: &ReadOptions) -> Result<ReadImage, Error> {
    let path = path.as_ref();
    let bytes = read_bytes(path, &options.limits)?;
    decode_image_with(&bytes, &path.display().to_string(), options)
}

/// As [`decode_image`], with further options and warnings.
///
/// # Errors
/// As [`read_image_with`], without [`Error::Io`].
pub fn decode_image_with(
    bytes: &[u8],
    name: &str,
    options: &ReadOptions,
) -> Result<ReadImage, Error> {
    let decoded = decode_page(bytes, name, &options.limits, options.page)?;
    let (image, warnings) = decoded.into_rgb(options.stretch);
    Ok(ReadImage { image, warnings })
}

/// As [`decode_image_with`], with the samples of an image that is one channel of 16-bit grey as they are.
///
/// # Errors
/// As [`decode_image_with`].
pub fn decode_image_and_gray16(
    bytes: &[u8],
    name: &str,
    options: &ReadOptions,
) -> Result<(ReadImage, Option<GrayImage16>), Error> {
    let decoded = decode_page(bytes, name, &options.limits, options.page)?;
    let gray = decoded.image.as_luma16().cloned();
    let (image, warnings) = decoded.into_rgb(options.stretch);
    Ok((ReadImage { image, warnings }, gray))
}

/// Decodes an image from memory; `name` stands for the file in error messages.
///
/// See [`read_image`] for formats and conversions.
///
/// # Errors
/// As [`read_image`], without [`Error::Io`].
pub fn decode_image(bytes: &[u8], name: &str, limits: &ImageLimits) -> Result<RgbImage, Error> {
    decode_image_with(bytes, name, &(*limits).into()).map(|read| read.image)
}

/// An image of 16-bit grey levels.
pub type GrayImage16 = ImageBuffer<Luma<u16>, Vec<u16>>;

/// Reads the grey levels of a mask in 16 bits: 8-bit samples become 16-bit as `257 · v`, two colours their luma;
/// transparency is ignored.
///
/// # Errors
/// As [`read_image`]; [`Error::Unsupported`] also for a picture in colours, such as a photo.
pub fn read_gray16(path: impl AsRef<Path>, limits: &ImageLimits) -> Result<GrayImage16, Error> {
    let path = path.as_ref();
    let bytes = read_bytes(path, limits)?;
    let name = path.display().to_string();
    let image = decode_dynamic(&bytes, &name, limits)?;
    refuse_colours(&image, &name)?;
    Ok(image.into_luma16())
}

/// Reads a whole file, which must be a regular one within [`ImageLimits::max_bytes`]: a pipe would be waited for,
/// a device has no end.
///
/// # Errors
/// [`Error::Io`] and [`Error::Limits`].
pub fn read_file(path: impl AsRef<Path>, limits: &ImageLimits) -> Result<Vec<u8>, Error> {
    read_bytes(path.as_ref(), limits)
}

pub(crate) fn read_bytes(path: &Path, limits: &ImageLimits) -> Result<Vec<u8>, Error> {
    let fail = |source| Error::io(path, "cannot be read", source);
    let name = path.display().to_string();
    let meta = fs::metadata(path).map_err(fail)?;
    if meta.is_dir() {
        return Err(fail(std::io::ErrorKind::IsADirectory.into()));
    }
    if !meta.is_file() {
        return Err(fail(std::io::Error::other("is not a regular file")));
    }
    limits.check_bytes(meta.len(), "the file", &name)?;
    let mut bytes = Vec::new();
    // It may grow meanwhile.
    let file = fs::File::open(path).map_err(fail)?;
    file.take(limits.max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    limits.check_bytes(bytes.len() as u64, "the file", &name)?;
    Ok(bytes)
}

/// Decodes the first page in its own colour type.
pub(crate) fn decode_dynamic(
    bytes: &[u8],
    name: &str,
    limits: &ImageLimits,
) -> Result<DynamicImage, Error> {
    Ok(decode_page(bytes, name, limits, 0)?.image)
}

/// Decodes a page.
pub(crate) fn decode_page(
    bytes: &[u8],
    name: &str,
    limits: &ImageLimits,
    page: usize,
) -> Result<Decoded, Error> {
    // A codec that panics over a damaged file does not take the program with it.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(bytes, name, limits, page)));
    let gave_up = |_| {
        Err(Error::decoding(
            name,
            "the image is damaged: the decoder gave up",
        ))
    };
    decoded.unwrap_or_else(gave_up)
}

fn decode(bytes: &[u8], name: &str, limits: &ImageLimits, page: usize) -> Result<Decoded, Error> {
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
    #[cfg(feature = "image")]
    if format == ImageFormat::Tiff {
        return tiff::decode(bytes, name, limits, page);
    }
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
    let frames = frames(bytes, format, page, limits).map_err(failed)?;
    if let Some(frame) = frames.chosen {
        image = frame;
    } else if page > 0 {
        let count = frames.count;
        let what = format!("has {count} pages, counted from 0: there is no page {page}");
        return Err(Error::parameter(name, what));
    }
    image.apply_orientation(orientation);
    let mut decoded = Decoded::from(image);
    if page == 0 && frames.count > 1 {
        decoded.warnings.push(ImageWarning::Pages { pages: None });
    }
    Ok(decoded)
}

/// The frames of an animation as far as they were looked at.
struct Frames {
    count: usize,
    /// The frame that was asked for, if that is not the first one.
    chosen: Option<DynamicImage>,
}

/// This build reads neither GIF nor WebP.
#[cfg(not(feature = "image"))]
#[expect(clippy::unnecessary_wraps, reason = "as with the feature")]
fn frames(_: &[u8], _: ImageFormat, _: usize, _: &ImageLimits) -> Result<Frames, CodecError> {
    Ok(Frames {
        count: 1,
        chosen: None,
    })
}

/// Goes through the frames of a GIF, WebP or PNG to the one that is wanted, at least to the second one.
#[cfg(feature = "image")]
fn frames(
    bytes: &[u8],
    format: ImageFormat,
    wanted: usize,
    limits: &ImageLimits,
) -> Result<Frames, CodecError> {
    use image::AnimationDecoder;
    use image::codecs::gif::GifDecoder;
    use image::codecs::png::PngDecoder;
    use image::codecs::webp::WebPDecoder;

    let mut most = image::Limits::no_limits();
    most.max_alloc = Some(limits.max_bytes);
    let mut frames = match format {
        ImageFormat::Gif => {
            let mut decoder = GifDecoder::new(Cursor::new(bytes))?;
            decoder.set_limits(most)?;
            decoder.into_frames()
        }
        ImageFormat::WebP => {
            let mut decoder = WebPDecoder::new(Cursor::new(bytes))?;
            decoder.set_limits(most)?;
            if !decoder.has_animation() {
                return Ok(Frames {
                    count: 1,
                    chosen: None,
                });
            }
            decoder.into_frames()
        }
        ImageFormat::Png => {
            let decoder = PngDecoder::with_limits(Cursor::new(bytes), most)?;
            if !decoder.is_apng()? {
                return Ok(Frames {
                    count: 1,
                    chosen: None,
                });
            }
            decoder.apng()?.into_frames()
        }
        _ => {
            return Ok(Frames {
                count: 1,
                chosen: None,
            });
        }
    };
    let mut found = Frames {
        count: 0,
        chosen: None,
    };
    while found.count <= wanted.max(1) {
        // A damaged frame that nobody asked for is as good as none.
        let frame = match frames.next() {
            Some(Err(error)) if found.count <= wanted => return Err(error),
            Some(Ok(frame)) => frame,
            _ => break,
        };
        if found.count == wanted && wanted > 0 {
            found.chosen = Some(frame.into_buffer().into());
        }
        found.count += 1;
    }
    found.count = found.count.max(1);
    Ok(found)
}

fn recognise(bytes: &[u8], name: &str) -> Result<ImageFormat, Error> {
    const READ: &str = "JPEG, PNG, WebP, TIFF, BMP and GIF are read";
    const BIG_TIFF: [&[u8]; 2] = [b"II\x2b\0", b"MM\0\x2b"];
    if BIG_TIFF.iter().any(|magic| bytes.starts_with(magic)) {
        return Ok(ImageFormat::Tiff);
    }
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

/// Whether values of pixels are not those that were saved.
pub(crate) fn is_lossy(bytes: &[u8]) -> bool {
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => true,
        // A simple file begins with its bitstream; of an extended one the chunks are looked through.
        Ok(ImageFormat::WebP) => bytes.windows(4).any(|chunk| chunk == b"VP8 "),
        _ => false,
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
