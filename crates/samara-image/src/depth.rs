//! From samples of more than 8 bits to 8.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use image::{DynamicImage, ImageBuffer, Rgb, RgbImage, Rgba, RgbaImage};

use crate::decoded::Decoded;
use crate::error::Error;
use crate::input::flatten;
use crate::warning::ImageWarning;

/// Which values of samples of more than 8 bits become black and white. Images of 8 bits stay as they are.
///
/// The text form is `off`, `min-max`, or two percentiles such as `1,99`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Stretch {
    /// The ends of the type: 0 and 65535 of 16-bit samples, 0 and 1 of floats.
    #[default]
    Off,
    /// The smallest and the largest value of the image, over all its colours.
    MinMax,
    /// Two percentiles of the image's values, over all its colours; what lies outside is clipped.
    Percentiles(f32, f32),
}

impl Display for Stretch {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::MinMax => f.write_str("min-max"),
            Self::Percentiles(low, high) => write!(f, "{low},{high}"),
        }
    }
}

impl Serialize for Stretch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Stretch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for Stretch {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let percentiles = || -> Option<Self> {
            let (low, high) = text.split_once(',')?;
            let (low, high) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
            (0.0 <= low && low < high && high <= 100.0).then_some(Self::Percentiles(low, high))
        };
        match text {
            "off" => Ok(Self::Off),
            "min-max" => Ok(Self::MinMax),
            _ => percentiles().ok_or_else(|| {
                let expected = "expected off, min-max, or two percentiles such as 1,99";
                Error::parameter("stretch", format!("{text:?}: {expected}"))
            }),
        }
    }
}

/// Below this share of their range the values of an image are worth a warning.
const LOW_RANGE: f32 = 0.3;
/// Above this share of clipped values they are, too.
const CLIPPED: f32 = 0.001;
/// Values looked at for percentiles.
const LOOKED_AT: usize = 1 << 17;

impl Decoded {
    /// The image as 8-bit RGB, and what to know about it.
    pub(crate) fn into_rgb(mut self, stretch: Stretch) -> (RgbImage, Vec<ImageWarning>) {
        const WORDS: [f32; 2] = [0.0, 65535.0];
        let word = f32::from as fn(u16) -> f32;
        let same = (|v| v) as fn(f32) -> f32;
        let (image, warning) = match self.image {
            DynamicImage::ImageLuma16(image) => {
                let (bytes, warning) = to_bytes(image.as_raw(), 1, word, WORDS, stretch);
                let grey = ImageBuffer::from_raw(image.width(), image.height(), bytes);
                (grey.map(DynamicImage::ImageLuma8), warning)
            }
            DynamicImage::ImageLumaA16(image) => {
                let (bytes, warning) = to_bytes(image.as_raw(), 2, word, WORDS, stretch);
                let grey = ImageBuffer::from_raw(image.width(), image.height(), bytes);
                (grey.map(DynamicImage::ImageLumaA8), warning)
            }
            DynamicImage::ImageRgb16(image) => rgb(
                image.dimensions(),
                to_bytes(image.as_raw(), 3, word, WORDS, stretch),
            ),
            DynamicImage::ImageRgba16(image) => rgba(
                image.dimensions(),
                to_bytes(image.as_raw(), 4, word, WORDS, stretch),
            ),
            DynamicImage::ImageRgb32F(image) => rgb(
                image.dimensions(),
                to_bytes(image.as_raw(), 3, same, self.range, stretch),
            ),
            DynamicImage::ImageRgba32F(image) => rgba(
                image.dimensions(),
                to_bytes(image.as_raw(), 4, same, self.range, stretch),
            ),
            image => (Some(image), None),
        };
        self.warnings.extend(warning);
        // The buffers have the size that they were made from.
        (image.map(flatten).unwrap_or_default(), self.warnings)
    }
}

type Bytes = (Vec<u8>, Option<ImageWarning>);

fn rgb(
    (width, height): (u32, u32),
    (bytes, warning): Bytes,
) -> (Option<DynamicImage>, Option<ImageWarning>) {
    let image: Option<ImageBuffer<Rgb<u8>, _>> = ImageBuffer::from_raw(width, height, bytes);
    (image.map(DynamicImage::ImageRgb8), warning)
}

fn rgba(
    (width, height): (u32, u32),
    (bytes, warning): Bytes,
) -> (Option<DynamicImage>, Option<ImageWarning>) {
    let image: Option<RgbaImage> = ImageBuffer::<Rgba<u8>, _>::from_raw(width, height, bytes);
    (image.map(DynamicImage::ImageRgba8), warning)
}

/// Samples as bytes. Of two or four samples a pixel the last one is opacity, which is not stretched.
fn to_bytes<T: Copy>(
    samples: &[T],
    channels: usize,
    value: fn(T) -> f32,
    range: [f32; 2],
    stretch: Stretch,
) -> Bytes {
    let is_alpha = |i: usize| channels.is_multiple_of(2) && i % channels == channels - 1;
    let colors = samples.iter().enumerate().filter(|&(i, _)| !is_alpha(i));
    let colors = colors.map(|(_, &v)| value(v)).filter(|v| v.is_finite());
    // Two and three samples a pixel are seen alike.
    let step = (samples.len() / LOOKED_AT).max(1);
    let step = step + [1, 0, 3, 2, 1, 0][step % 6];
    let mut some: Vec<f32> = colors.clone().step_by(step).collect();
    some.sort_unstable_by(f32::total_cmp);
    let percentile = |percent: f32| {
        let last = some.len().saturating_sub(1);
        let at = (percent / 100.0 * last as f32).round() as usize;
        some.get(at).copied().unwrap_or(range[0])
    };
    let ends = || {
        let ends = colors.clone().fold([f32::MAX, f32::MIN], |[low, high], v| {
            [low.min(v), high.max(v)]
        });
        if ends[0] <= ends[1] { ends } else { range }
    };
    let (shown, warning) = match stretch {
        Stretch::Off => (range, warning(&colors, &ends, percentile, range)),
        Stretch::MinMax => {
            // One hot pixel leaves nothing to the others.
            let ends = ends();
            (ends, low_range(percentile, ends))
        }
        Stretch::Percentiles(low, high) => ([percentile(low), percentile(high)], None),
    };
    let byte = |v: f32, [low, high]: [f32; 2]| {
        // In 64 bits: the span of the largest floats is none of 32.
        let (v, low, high) = (f64::from(v), f64::from(low), f64::from(high));
        let span = (high - low).max(f64::MIN_POSITIVE);
        (255.0 * ((v - low) / span).clamp(0.0, 1.0)).round() as u8
    };
    let bytes = samples.iter().enumerate().map(|(i, &v)| {
        let ends = if is_alpha(i) { range } else { shown };
        byte(value(v), ends)
    });
    let bytes: Vec<u8> = bytes.collect();
    let all = samples.len() - samples.len() / channels * usize::from(channels.is_multiple_of(2));
    let share = (all - colors.count()) as f32 / all.max(1) as f32;
    let not_finite = (share > CLIPPED).then_some(ImageWarning::NotFinite { share });
    (bytes, not_finite.or(warning))
}

/// What to say of values that are shown by the range of their type.
fn warning(
    colors: &(impl Iterator<Item = f32> + Clone),
    ends: &impl Fn() -> [f32; 2],
    percentile: impl Fn(f32) -> f32,
    range: [f32; 2],
) -> Option<ImageWarning> {
    let (mut outside, mut all) = (0_u64, 0_u64);
    for v in colors.clone() {
        outside += u64::from(v < range[0] || v > range[1]);
        all += 1;
    }
    let share = outside as f32 / all.max(1) as f32;
    if share > CLIPPED {
        let used = ends();
        return Some(ImageWarning::Clipped { used, range, share });
    }
    low_range(percentile, range)
}

/// What to say of values that use little of the range that is shown.
fn low_range(percentile: impl Fn(f32) -> f32, range: [f32; 2]) -> Option<ImageWarning> {
    let used = [percentile(0.1), percentile(99.9)];
    let low = used[1] - used[0] < LOW_RANGE * (range[1] - range[0]);
    // One flat colour is no use of a range, but neither is it one that stretching would help.
    (low && used[0] < used[1]).then_some(ImageWarning::LowRange { used, range })
}
