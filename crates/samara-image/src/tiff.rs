//! TIFF: its pages, its kinds of samples and its colours.

use std::borrow::Cow;
use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageBuffer, Pixel};
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::{PhotometricInterpretation, Tag};
use tiff::{ColorType, TiffError, TiffUnsupportedError};

use crate::decoded::Decoded;
use crate::error::Error;
use crate::limits::ImageLimits;
use crate::warning::ImageWarning;

/// Most directories that are followed.
const MOST_PAGES: usize = 4096;
const NEW_SUBFILE_TYPE: u64 = 254;
const PHOTOMETRIC: u64 = 262;
const PALETTE: u64 = 3;
const BLACK_IS_ZERO: u8 = 1;
/// The value of `ExtraSamples` for an opacity that colours are multiplied with.
const ASSOCIATED: u16 = 1;

/// A field of a directory.
struct Field {
    /// Which directory of the file it is in.
    directory: usize,
    tag: u64,
    /// Bytes of all its values.
    size: u64,
    /// The value, if it is one small number, and where it stands.
    value: Option<u64>,
    at: usize,
}

/// Walks the fields of all directories until `take` breaks off. What is out of reach ends the walk: the decoder
/// will complain about it.
fn walk(bytes: &[u8], mut take: impl FnMut(Field) -> Option<()>) -> Option<()> {
    let number = |at: usize, size: usize| -> Option<u64> {
        let field = bytes.get(at..at.checked_add(size)?)?;
        let add = |all: u64, &byte: &u8| all << 8 | u64::from(byte);
        Some(match bytes[0] {
            b'I' => field.iter().rev().fold(0, add),
            _ => field.iter().fold(0, add),
        })
    };
    // Offsets and counts of a BigTIFF have eight bytes.
    let (offset, head, entry) = match number(2, 2)? {
        43 => (8, 8, 20),
        _ => (4, 2, 12),
    };
    let mut start = number(offset, offset)? as usize;
    // Directories that are followed by themselves have more fields than the file has room for.
    let mut room = bytes.len() as u64 / entry as u64;
    for directory in 0..MOST_PAGES {
        let fields = number(start, head)?;
        room = room.checked_sub(fields)?;
        let fields = fields as usize;
        for i in 0..fields {
            let field = start.checked_add(head + i.checked_mul(entry)?)?;
            let size = match number(field + 2, 2)? {
                3 | 8 => 2,
                4 | 9 | 11 | 13 => 4,
                5 | 10 | 12 | 16..=18 => 8,
                _ => 1,
            };
            let (count, at) = (number(field + 4, offset)?, field + 4 + offset);
            let is_one = count == 1 && size <= 4;
            take(Field {
                directory,
                tag: number(field, 2)?,
                size: count.saturating_mul(size),
                value: is_one.then(|| number(at, size as usize)).flatten(),
                at,
            })?;
        }
        let end = fields.checked_mul(entry)?.checked_add(start + head)?;
        start = number(end, offset)? as usize;
        if start == 0 {
            break;
        }
    }
    Some(())
}

/// Whether no value in the directories is longer than the file.
pub(crate) fn holds_its_values(bytes: &[u8]) -> bool {
    let mut holds = true;
    walk(bytes, |field| {
        holds &= field.size <= bytes.len() as u64;
        holds.then_some(())
    });
    holds
}

/// The directories that hold an image of their own, and those whose pixels are indices into a palette.
struct Directories {
    pages: Vec<usize>,
    palettes: Vec<usize>,
    /// The file; its palette images call themselves grey, as the decoder reads no palettes.
    bytes: Vec<u8>,
}

impl Directories {
    fn of(bytes: &[u8]) -> Self {
        let mut found = Self {
            pages: Vec::new(),
            palettes: Vec::new(),
            bytes: bytes.to_vec(),
        };
        let little = bytes.first() == Some(&b'I');
        let mut last = None;
        walk(bytes, |field| {
            let directory = field.directory;
            if last != Some(directory) {
                found.pages.push(directory);
                last = Some(directory);
            }
            // A smaller copy of another image is no page.
            if field.tag == NEW_SUBFILE_TYPE && field.value.is_some_and(|value| value & 1 == 1) {
                found.pages.retain(|&page| page != directory);
            }
            if field.tag == PHOTOMETRIC && field.value == Some(PALETTE) {
                found.palettes.push(field.directory);
                let low = field.at + usize::from(!little);
                *found.bytes.get_mut(low)? = BLACK_IS_ZERO;
            }
            Some(())
        });
        found
    }
}

/// Decodes a page, counted from 0.
pub(crate) fn decode(
    bytes: &[u8],
    name: &str,
    limits: &ImageLimits,
    page: usize,
) -> Result<Decoded, Error> {
    let failed = |error| translate(error, name, limits);
    let directories = Directories::of(bytes);
    let pages = directories.pages.len().max(1);
    let Some(&directory) = directories.pages.get(page).or((page == 0).then_some(&0)) else {
        let what = format!("has {pages} pages, counted from 0: there is no page {page}");
        return Err(Error::parameter(name, what));
    };
    let mut decoder = Decoder::new(Cursor::new(&directories.bytes)).map_err(failed)?;
    let most = usize::try_from(limits.max_bytes).unwrap_or(usize::MAX);
    let mut bounds = Limits::default();
    bounds.decoding_buffer_size = most;
    bounds.intermediate_buffer_size = most;
    decoder = decoder.with_limits(bounds);
    if directory > 0 {
        decoder.seek_to_image(directory).map_err(failed)?;
    }
    let (width, height) = decoder.dimensions().map_err(failed)?;
    limits.check_pixels(width, height, name)?;
    if width == 0 || height == 0 {
        let what = format!("the image has no pixels: {width}x{height}");
        return Err(Error::decoding(name, what));
    }
    let is_palette = directories.palettes.contains(&directory);
    let palette = is_palette.then(|| decoder.get_tag_u16_vec(Tag::ColorMap));
    let palette = palette.transpose().map_err(failed)?;
    let color = decoder.colortype().map_err(failed)?;
    let layout = decoder.image_buffer_layout().map_err(failed)?;
    limits.check_bytes(layout.complete_len as u64, "the decoded image", name)?;
    let orientation = decoder.find_tag_unsigned::<u8>(Tag::Orientation);
    let orientation = orientation.ok().flatten().and_then(Orientation::from_exif);
    let is_tiled = decoder.find_tag(Tag::TileWidth).map_err(failed)?.is_some();
    if layout.planes > 1 && is_tiled {
        return Err(Error::unsupported(
            name,
            "has each colour in tiles of its own, which are not read",
        ));
    }
    let is_premultiplied = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples);
    let is_premultiplied = is_premultiplied
        .map_err(failed)?
        .is_some_and(|kinds| kinds.first() == Some(&ASSOCIATED));
    let mut samples = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut samples).map_err(failed)?;

    let raster = Raster {
        width,
        height,
        planes: layout.planes.max(1),
        samples: usize::from(color.num_samples()),
    };
    let mut warnings = Vec::new();
    if page == 0 && pages > 1 {
        warnings.push(ImageWarning::Pages { pages: Some(pages) });
    }
    let (mut image, range) = raster
        .image(color, samples, palette.as_deref())
        .ok_or_else(|| {
            let kind = if is_palette {
                format!("a palette of {} bits", color.bit_depth())
            } else {
                words(color)
            };
            Error::unsupported(name, format!("has {kind}, which is not read"))
        })?;
    if let ColorType::Multiband { num_samples, .. } = color
        && num_samples > 2
    {
        warnings.push(ImageWarning::Bands {
            bands: num_samples.into(),
        });
    }
    if is_premultiplied {
        divide_by_alpha(&mut image);
    }
    image.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    Ok(Decoded {
        image,
        range,
        warnings,
    })
}

/// Pixels as the decoder gives them.
struct Raster {
    width: u32,
    height: u32,
    /// More than one: the samples of a pixel lie in planes.
    planes: usize,
    samples: usize,
}

impl Raster {
    /// The image in its own type, and the range of its samples if they are wider than 16 bits.
    fn image(
        &self,
        color: ColorType,
        samples: DecodingResult,
        palette: Option<&[u16]>,
    ) -> Option<(DynamicImage, [f32; 2])> {
        const SHARE: [f32; 2] = [0.0, 1.0];
        let (values, range): (Vec<f32>, _) = match samples {
            DecodingResult::U8(values) => {
                let bits = color.bit_depth();
                if 8 % bits > 0 {
                    return None;
                }
                let values = if bits < 8 {
                    self.unpacked(&values, bits, palette.is_some())
                } else {
                    values
                };
                let image = match palette {
                    Some(palette) => self.looked_up(&values, palette),
                    None => self.bytes(color, values),
                };
                return Some((image?, SHARE));
            }
            DecodingResult::U16(values) => {
                let image = match color {
                    _ if palette.is_some() => None,
                    ColorType::CMYK(_) | ColorType::YCbCr(_) => {
                        let byte = |v| ((u32::from(v) + 128) / 257) as u8;
                        self.bytes(color, values.into_iter().map(byte).collect())
                    }
                    _ => self.words(color, values),
                };
                return Some((image?, SHARE));
            }
            DecodingResult::I8(v) => (v.into_iter().map(f32::from).collect(), [-128.0, 127.0]),
            DecodingResult::I16(v) => (v.into_iter().map(f32::from).collect(), [-32768.0, 32767.0]),
            DecodingResult::U32(v) => (
                v.into_iter().map(|v| v as f32).collect(),
                [0.0, u32::MAX as f32],
            ),
            DecodingResult::I32(v) => (
                v.into_iter().map(|v| v as f32).collect(),
                [i32::MIN as f32, i32::MAX as f32],
            ),
            DecodingResult::U64(v) => (
                v.into_iter().map(|v| v as f32).collect(),
                [0.0, u64::MAX as f32],
            ),
            DecodingResult::I64(v) => (
                v.into_iter().map(|v| v as f32).collect(),
                [i64::MIN as f32, i64::MAX as f32],
            ),
            DecodingResult::F16(v) => (v.into_iter().map(f32::from).collect(), SHARE),
            DecodingResult::F32(v) => (v, SHARE),
            DecodingResult::F64(v) => (v.into_iter().map(|v| v as f32).collect(), SHARE),
        };
        Some((self.wide(color, values)?, range))
    }

    /// An image of `N` samples a pixel, the first `N` of those in the file.
    fn buffer<P: Pixel, const N: usize>(
        &self,
        values: Vec<P::Subpixel>,
    ) -> Option<ImageBuffer<P, Vec<P::Subpixel>>> {
        let pixels = self.width as usize * self.height as usize;
        let values = if self.planes > 1 {
            let plane = values.len() / self.planes;
            let pixel = |i| (0..N).map(move |sample| sample * plane + i);
            let indices = (0..pixels).flat_map(pixel);
            indices
                .map(|i| values.get(i).copied())
                .collect::<Option<_>>()?
        } else if self.samples == N {
            values
        } else {
            let pixels = values.chunks_exact(self.samples);
            pixels
                .flat_map(|pixel| pixel[..N].iter().copied())
                .collect()
        };
        ImageBuffer::from_raw(self.width, self.height, values)
    }

    fn bytes(&self, color: ColorType, values: Vec<u8>) -> Option<DynamicImage> {
        Some(match color {
            ColorType::Gray(_) => DynamicImage::ImageLuma8(self.buffer::<_, 1>(values)?),
            ColorType::Multiband { num_samples: 2, .. } | ColorType::GrayA(_) => {
                DynamicImage::ImageLumaA8(self.buffer::<_, 2>(values)?)
            }
            ColorType::RGB(_) | ColorType::Multiband { .. } => {
                DynamicImage::ImageRgb8(self.buffer::<_, 3>(values)?)
            }
            ColorType::RGBA(_) => DynamicImage::ImageRgba8(self.buffer::<_, 4>(values)?),
            ColorType::CMYK(_) | ColorType::CMYKA(_) => {
                let image = self.buffer::<image::Rgba<u8>, 4>(values)?;
                self.converted(image.pixels().map(|p| cmyk_to_rgb(p.0)))?
            }
            ColorType::YCbCr(_) => {
                let image = self.buffer::<image::Rgb<u8>, 3>(values)?;
                self.converted(image.pixels().map(|p| ycbcr_to_rgb(p.0)))?
            }
            _ => return None,
        })
    }

    fn words(&self, color: ColorType, values: Vec<u16>) -> Option<DynamicImage> {
        Some(match color {
            ColorType::Gray(_) => DynamicImage::ImageLuma16(self.buffer::<_, 1>(values)?),
            ColorType::Multiband { num_samples: 2, .. } | ColorType::GrayA(_) => {
                DynamicImage::ImageLumaA16(self.buffer::<_, 2>(values)?)
            }
            ColorType::RGB(_) | ColorType::Multiband { .. } => {
                DynamicImage::ImageRgb16(self.buffer::<_, 3>(values)?)
            }
            ColorType::RGBA(_) => DynamicImage::ImageRgba16(self.buffer::<_, 4>(values)?),
            _ => return None,
        })
    }

    fn wide(&self, color: ColorType, values: Vec<f32>) -> Option<DynamicImage> {
        Some(match color {
            ColorType::Gray(_)
            | ColorType::GrayA(_)
            | ColorType::Multiband { num_samples: 2, .. } => {
                let grey = self.buffer::<image::Luma<f32>, 1>(values)?;
                let values = grey.iter().flat_map(|&v| [v; 3]).collect();
                DynamicImage::ImageRgb32F(ImageBuffer::from_raw(self.width, self.height, values)?)
            }
            ColorType::RGB(_) | ColorType::Multiband { .. } => {
                DynamicImage::ImageRgb32F(self.buffer::<_, 3>(values)?)
            }
            ColorType::RGBA(_) => DynamicImage::ImageRgba32F(self.buffer::<_, 4>(values)?),
            _ => return None,
        })
    }

    /// One byte for each sample of fewer bits; numbers of a palette stay as they are, grey levels get the range
    /// of a byte. Rows begin at whole bytes.
    fn unpacked(&self, packed: &[u8], bits: u8, numbers: bool) -> Vec<u8> {
        let (bits, most) = (usize::from(bits), (1_u16 << bits) - 1);
        let row = (self.width as usize * self.samples * bits).div_ceil(8);
        let value = |row: &[u8], i: usize| {
            let shift = 8 - bits - i * bits % 8;
            let value = u16::from(row[i * bits / 8] >> shift) & most;
            (if numbers { value } else { value * 255 / most }) as u8
        };
        let rows = packed.chunks_exact(row);
        let samples = self.width as usize * self.samples;
        rows.flat_map(|row| (0..samples).map(move |i| value(row, i)))
            .collect()
    }

    /// The colours of a palette, which has all reds before all greens before all blues.
    fn looked_up(&self, numbers: &[u8], palette: &[u16]) -> Option<DynamicImage> {
        let colors = palette.len() / 3;
        let color = |&number: &u8| {
            let channel = |c: usize| {
                palette
                    .get(c * colors + usize::from(number))
                    .map(|v| (v >> 8) as u8)
            };
            let inside = usize::from(number) < colors;
            inside
                .then(|| Some([channel(0)?, channel(1)?, channel(2)?]))
                .flatten()
                .unwrap_or_default()
        };
        self.converted(numbers.iter().map(color))
    }

    fn converted(&self, colors: impl Iterator<Item = [u8; 3]>) -> Option<DynamicImage> {
        let values = colors.flatten().collect();
        let image = ImageBuffer::from_raw(self.width, self.height, values)?;
        Some(DynamicImage::ImageRgb8(image))
    }
}

/// Colours that are multiplied with their opacity, as they are without.
fn divide_by_alpha(image: &mut DynamicImage) {
    match image {
        DynamicImage::ImageRgba8(image) => {
            for p in image.pixels_mut() {
                let alpha = u32::from(p[3]).max(1);
                for v in &mut p.0[..3] {
                    *v = ((u32::from(*v) * 255 + alpha / 2) / alpha).min(255) as u8;
                }
            }
        }
        DynamicImage::ImageRgba16(image) => {
            for p in image.pixels_mut() {
                let alpha = u64::from(p[3]).max(1);
                for v in &mut p.0[..3] {
                    *v = ((u64::from(*v) * 65535 + alpha / 2) / alpha).min(65535) as u16;
                }
            }
        }
        _ => {}
    }
}

fn cmyk_to_rgb([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let rest = 1.0 - f32::from(k) / 255.0;
    [c, m, y].map(|ink| ((255.0 - f32::from(ink)) * rest) as u8)
}

/// ITU-R BT.601 in the full range, as JPEG has it; other coefficients are not looked at.
fn ycbcr_to_rgb([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    let rgb = [
        y + 1.402 * cr,
        y - 0.344_136 * cb - 0.714_136 * cr,
        y + 1.772 * cb,
    ];
    rgb.map(|v| v.round() as u8)
}

/// A kind of pixels in words.
fn words(color: ColorType) -> String {
    let name: Cow<'_, str> = match color {
        ColorType::Gray(_) => "grey pixels".into(),
        ColorType::GrayA(_) => "grey pixels with opacity".into(),
        ColorType::RGB(_) => "RGB pixels".into(),
        ColorType::RGBA(_) => "RGBA pixels".into(),
        ColorType::Palette(_) => "palette pixels".into(),
        ColorType::CMYK(_) | ColorType::CMYKA(_) => "CMYK pixels".into(),
        ColorType::YCbCr(_) => "YCbCr pixels".into(),
        ColorType::Lab(_) => "CIE Lab pixels".into(),
        ColorType::Multiband { num_samples, .. } => format!("pixels of {num_samples} bands").into(),
        _ => "pixels of an unknown kind".into(),
    };
    format!("{name} of {} bits a sample", color.bit_depth())
}

/// Puts the decoder's error into one line of ours.
fn translate(error: TiffError, name: &str, limits: &ImageLimits) -> Error {
    let line = error
        .to_string()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    match error {
        TiffError::LimitsExceeded | TiffError::IntSizeError => Error::limits(
            name,
            format!(
                "decoding needs more than the limit of {} bytes (raise max_bytes to read it)",
                limits.max_bytes
            ),
        ),
        TiffError::UnsupportedError(kind) => Error::unsupported(name, unsupported(&kind)),
        TiffError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            Error::decoding(name, "the file is truncated: the image ends too early")
        }
        _ => Error::decoding(name, format!("the image is damaged: {line}")),
    }
}

/// The decoder names its own types; what matters of them in plain words.
fn unsupported(error: &TiffUnsupportedError) -> String {
    use TiffUnsupportedError as E;

    match error {
        E::ChromaSubsampling => {
            "has YCbCr pixels with subsampled colour, which are read only if they are compressed as JPEG".into()
        }
        E::UnknownCompressionMethod | E::UnsupportedCompressionMethod(_) => {
            "has a compression method that is not read; LZW, Deflate, PackBits, JPEG, CCITT group 4, WebP and \
             Zstandard are"
                .into()
        }
        E::FloatingPointPredictor(color)
        | E::HorizontalPredictor(color)
        | E::UnsupportedColorType(color) => format!("has {}, stored in a way that is not read", words(*color)),
        E::InterpretationWithBits(PhotometricInterpretation::CIELab, _) => {
            "has CIE Lab pixels, which are not read".into()
        }
        E::InconsistentBitsPerSample(_) => "has samples of different sizes, which are not read".into(),
        _ => "has a kind of pixels that is not read; grey, RGB, palette, CMYK and YCbCr pixels are".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tiff_cannot_promise_more_than_it_holds() {
        let entry = |count: u32| {
            let mut file = b"II\x2a\0\x08\0\0\0\x01\0\x0e\x01\x02\0".to_vec();
            file.extend(count.to_le_bytes());
            file.extend([0; 8]);
            file
        };
        assert!(holds_its_values(&entry(20)));
        assert!(!holds_its_values(&entry(60)));
        assert!(!holds_its_values(&entry(u32::MAX)));
        // A shorter file is left to the decoder, or short of its value.
        for cut in 0..entry(20).len() {
            let short = (18..20).contains(&cut);
            assert_eq!(holds_its_values(&entry(20)[..cut]), !short, "{cut}");
        }
    }

    #[test]
    fn a_tiff_that_goes_round_in_circles_takes_no_time() {
        const ENTRIES: u64 = 1_000_000;
        let mut file = b"II\x2b\0\x08\0\0\0".to_vec();
        file.extend(16_u64.to_le_bytes());
        file.extend(ENTRIES.to_le_bytes());
        file.resize(file.len() + 20 * ENTRIES as usize, 0);
        file.extend(16_u64.to_le_bytes());
        let start = std::time::Instant::now();
        assert!(holds_its_values(&file));
        assert!(start.elapsed().as_millis() < 1000, "{:?}", start.elapsed());
    }
}
