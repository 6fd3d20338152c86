//! What is worth knowing about how a file was read.

use std::fmt::{self, Display, Formatter};

use crate::number::{percent, short};

/// How pixels that were read may not be what the file's author sees. [`Display`] says it in one line, without
/// the name of the file.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ImageWarning {
    /// Samples of more than 8 bits that use a small part of their range: little of them is left in 8 bits.
    LowRange {
        /// Between which values nearly all lie: the 0.1th and 99.9th percentile.
        used: [f32; 2],
        /// The range of the samples' type; 0 to 1 of floats.
        range: [f32; 2],
    },
    /// Samples outside of the range that is shown are clipped to it.
    Clipped {
        /// The smallest and the largest value.
        used: [f32; 2],
        /// The range that is shown.
        range: [f32; 2],
        /// The share of samples outside, from 0 to 1.
        share: f32,
    },
    /// Samples that are no numbers, or infinite: they are shown as the darkest or the brightest.
    NotFinite {
        /// Their share, from 0 to 1.
        share: f32,
    },
    /// The file holds more images than the one that was read.
    Pages {
        /// How many, where the format tells.
        pages: Option<usize>,
    },
    /// More than three bands, of which the first three are taken as red, green and blue.
    Bands {
        /// How many.
        bands: usize,
    },
}

impl Display for ImageWarning {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::LowRange { used, range } => {
                let [[from, to], [low, high]] = [used, range].map(|ends| ends.map(short));
                let share = percent((used[1] - used[0]) / (range[1] - range[0]));
                write!(
                    f,
                    "values from {from} to {to} use {share} of their range, {low} to {high}: as 8 bits they are \
                     nearly one grey; stretching them (--stretch min-max, or percentiles such as 1,99) uses them",
                )
            }
            Self::Clipped { used, range, share } => {
                let [[from, to], [low, high]] = [used, range].map(|ends| ends.map(short));
                let share = percent(*share);
                write!(
                    f,
                    "values from {from} to {to}, of which {share} lie outside of {low} to {high} and are clipped; \
                     stretching them (--stretch min-max, or percentiles such as 1,99) uses them",
                )
            }
            Self::NotFinite { share } => {
                let share = percent(*share);
                write!(f, "{share} of its values are NaN or infinite in 32 bits")
            }
            Self::Pages { pages: Some(pages) } => {
                write!(
                    f,
                    "holds {pages} pages, counted from 0; page 0 is read (--page chooses another)"
                )
            }
            Self::Pages { pages: None } => {
                write!(f, "is animated; frame 0 is read (--page chooses another)")
            }
            Self::Bands { bands } => write!(
                f,
                "has {bands} bands; the first three are taken as red, green and blue"
            ),
        }
    }
}
