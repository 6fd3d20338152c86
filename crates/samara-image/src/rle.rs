//! COCO run lengths.

use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bits;
use crate::error::Error;
use crate::limits::ImageLimits;
use crate::mask::{BBox, Mask};

/// A mask as COCO run lengths: down the columns from left to right, beginning with a (possibly
/// empty) run of unset pixels, then set and unset in turn.
///
/// In JSON this is COCO's `segmentation` object, `{"size": [h, w], "counts": …}`: written with
/// `counts` as the compressed string, read with either a string or a list of numbers. Reading
/// checks that the runs add up to the size.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "CocoRle", into = "CocoRle")]
pub struct Rle {
    /// Height, then width, in pixels.
    pub size: [u32; 2],
    /// Lengths of the runs.
    pub counts: Vec<u32>,
}

/// The JSON form of an [`Rle`], with `counts` in either coding and not checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CocoRle {
    /// Height, then width, in pixels.
    pub size: [u32; 2],
    /// The runs.
    pub counts: RleCounts,
}

/// Runs as COCO files hold them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum RleCounts {
    /// The string of `pycocotools`.
    Compressed(String),
    /// Plain run lengths, as in the `iscrowd` annotations of COCO.
    Uncompressed(Vec<u32>),
}

impl<'de> Deserialize<'de> for RleCounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = RleCounts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a compressed string or a list of run lengths")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RleCounts, E> {
                Ok(RleCounts::Compressed(text.to_owned()))
            }

            fn visit_string<E: serde::de::Error>(self, text: String) -> Result<RleCounts, E> {
                Ok(RleCounts::Compressed(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, runs: A) -> Result<RleCounts, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(runs)).map(RleCounts::Uncompressed)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl TryFrom<CocoRle> for Rle {
    type Error = Error;

    fn try_from(coco: CocoRle) -> Result<Self, Error> {
        match coco.counts {
            RleCounts::Compressed(text) => Self::from_compressed_string(coco.size, &text),
            RleCounts::Uncompressed(counts) => {
                let rle = Self {
                    size: coco.size,
                    counts,
                };
                rle.check_sum()?;
                Ok(rle)
            }
        }
    }
}

/// As COCO's run lengths, `{"size": [h, w], "counts": …}`.
impl Serialize for Mask {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_rle().serialize(serializer)
    }
}

/// From COCO's run lengths, of a size within the default [`ImageLimits`].
impl<'de> Deserialize<'de> for Mask {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rle = Rle::deserialize(deserializer)?;
        rle.to_mask().map_err(serde::de::Error::custom)
    }
}

impl From<&Mask> for Rle {
    fn from(mask: &Mask) -> Self {
        mask.to_rle()
    }
}

impl From<Rle> for CocoRle {
    fn from(rle: Rle) -> Self {
        Self {
            size: rle.size,
            counts: RleCounts::Compressed(rle.to_compressed_string()),
        }
    }
}

impl Rle {
    /// The JSON form with `counts` as a list of numbers.
    pub fn to_uncompressed(&self) -> CocoRle {
        CocoRle {
            size: self.size,
            counts: RleCounts::Uncompressed(self.counts.clone()),
        }
    }

    /// The runs as the string of `pycocotools`: from the fourth on, each as the difference to the
    /// one two before; five bits a character from the lowest, the sixth bit says that more follow,
    /// and 48 is added to make it printable.
    pub fn to_compressed_string(&self) -> String {
        let mut text = String::with_capacity(self.counts.len() * 2);
        for (i, &count) in self.counts.iter().enumerate() {
            let before = if i > 2 {
                i64::from(self.counts[i - 2])
            } else {
                0
            };
            let mut rest = i64::from(count) - before;
            loop {
                let low = (rest & 0x1F) as u8;
                rest >>= 5;
                let sign_only = if low & 0x10 == 0 { 0 } else { -1 };
                if rest == sign_only {
                    text.push(char::from(low + 48));
                    break;
                }
                text.push(char::from((low | 0x20) + 48));
            }
        }
        text
    }

    /// Reads the string of `pycocotools` for a mask of `size` (height, width).
    ///
    /// # Errors
    /// [`Error::Parameter`] for a character outside of the code, a number cut short, a run
    /// that is negative or too long, and runs that do not add up to the size.
    pub fn from_compressed_string(size: [u32; 2], text: &str) -> Result<Self, Error> {
        let mut counts: Vec<u32> = Vec::new();
        let mut bytes = text.bytes().enumerate().peekable();
        while bytes.peek().is_some() {
            let difference = read_number(&mut bytes)?;
            let before = match counts.len() {
                n @ 3.. => i64::from(counts[n - 2]),
                _ => 0,
            };
            let count = u32::try_from(before + difference).map_err(|_| {
                let what = format!(
                    "run {} has the length {}",
                    counts.len(),
                    before + difference
                );
                Error::parameter("RLE counts", what)
            })?;
            counts.push(count);
        }
        let rle = Self { size, counts };
        rle.check_sum()?;
        Ok(rle)
    }

    /// The mask, if it has no more pixels than the [`ImageLimits`] by default allow.
    ///
    /// # Errors
    /// As [`to_mask_within`](Self::to_mask_within).
    pub fn to_mask(&self) -> Result<Mask, Error> {
        self.to_mask_within(&ImageLimits::default())
    }

    /// The mask, within `limits`.
    ///
    /// # Errors
    /// [`Error::Parameter`] when the runs do not add up to the size, [`Error::Limits`]
    /// when the mask has too many pixels.
    pub fn to_mask_within(&self, limits: &ImageLimits) -> Result<Mask, Error> {
        let [height, width] = self.size;
        limits.check_pixels(width, height, "RLE size")?;
        self.check_sum()?;
        let n = bits::words_for(height);
        let mut columns = vec![0; n * width as usize];
        let h = u64::from(height);
        for (mut start, end) in self.set_runs() {
            while start < end {
                let (column, top) = ((start / h) as usize, (start % h) as u32);
                let bottom = (u64::from(top) + end - start).min(h) as u32;
                bits::set_range(&mut columns[column * n..][..n], top, bottom);
                start += u64::from(bottom - top);
            }
        }
        Ok(Mask::from_words(
            width,
            height,
            bits::transpose(&columns, height, width),
        ))
    }

    /// Number of set pixels.
    pub fn area(&self) -> u64 {
        self.counts
            .iter()
            .skip(1)
            .step_by(2)
            .map(|&n| u64::from(n))
            .sum()
    }

    /// The tight box of the set pixels, without decoding; `None` when there is none.
    pub fn bbox(&self) -> Option<BBox> {
        let h = u64::from(self.size[0]);
        let (mut left, mut right, mut top, mut bottom) = (u64::MAX, 0, u64::MAX, 0);
        for (start, end) in self.set_runs().filter(|(start, end)| start < end && h > 0) {
            let last = end - 1;
            left = left.min(start / h);
            right = right.max(last / h);
            // A run that goes on in the next column holds the bottom of one and the top of the other.
            let one_column = start / h == last / h;
            top = top.min(if one_column { start % h } else { 0 });
            bottom = bottom.max(if one_column { last % h } else { h - 1 });
        }
        (left <= right).then(|| BBox {
            x: left as u32,
            y: top as u32,
            width: (right - left + 1) as u32,
            height: (bottom - top + 1) as u32,
        })
    }

    /// Set runs as `start..end` in column order.
    fn set_runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut at = 0;
        self.counts.chunks(2).filter_map(move |pair| {
            let start = at + u64::from(pair[0]);
            at = start + u64::from(*pair.get(1)?);
            Some((start, at))
        })
    }

    /// Number of pixels set in both, without decoding. Both masks have the same size; nothing is
    /// said of others.
    pub fn intersection_area(&self, other: &Self) -> u64 {
        let (mut ours, mut theirs) = (self.set_runs(), other.set_runs());
        let (mut a, mut b) = (ours.next(), theirs.next());
        let mut area = 0;
        while let (Some((a0, a1)), Some((b0, b1))) = (a, b) {
            area += a1.min(b1).saturating_sub(a0.max(b0));
            if a1 <= b1 {
                a = ours.next();
            } else {
                b = theirs.next();
            }
        }
        area
    }

    fn check_sum(&self) -> Result<(), Error> {
        let [height, width] = self.size;
        let pixels = u64::from(height) * u64::from(width);
        let sum: u64 = self.counts.iter().map(|&n| u64::from(n)).sum();
        if sum == pixels {
            return Ok(());
        }
        let what = format!("the runs add up to {sum}, but {height}x{width} has {pixels} pixels");
        Err(Error::parameter("RLE counts", what))
    }
}

fn read_number(bytes: &mut impl Iterator<Item = (usize, u8)>) -> Result<i64, Error> {
    let refuse = |what: String| Err(Error::parameter("RLE counts", what));
    let mut value = 0;
    // A difference of 32-bit numbers has 33 bits with its sign: seven groups of five.
    for shift in (0..35).step_by(5) {
        let Some((at, byte)) = bytes.next() else {
            return refuse("the string ends inside a number".to_owned());
        };
        let Some(group @ 0..0x40) = byte.checked_sub(48) else {
            let shown = char::from(byte).escape_default();
            return refuse(format!(
                "'{shown}' at position {at} is not part of the code"
            ));
        };
        value |= i64::from(group & 0x1F) << shift;
        if group & 0x20 == 0 {
            let negative = group & 0x10 != 0;
            return Ok(if negative {
                value - (1 << (shift + 5))
            } else {
                value
            });
        }
    }
    refuse("a number has too many digits".to_owned())
}

impl Mask {
    /// The mask as COCO run lengths, the same as `pycocotools.mask.encode` gives.
    pub fn to_rle(&self) -> Rle {
        let (width, height) = (self.width(), self.height());
        let columns = bits::transpose(self.words(), width, height);
        let n = bits::words_for(height);
        let mut counts = Vec::new();
        let (mut offset, mut set_until) = (0, 0);
        for column in columns.chunks_exact(n.max(1)) {
            for (start, end) in bits::runs(column) {
                let start = offset + u64::from(start);
                let end = offset + u64::from(end.min(height));
                match counts.last_mut() {
                    Some(last) if start == set_until => *last += end - start,
                    _ => counts.extend([start - set_until, end - start]),
                }
                set_until = end;
            }
            offset += u64::from(height);
        }
        let pixels = u64::from(width) * u64::from(height);
        if set_until < pixels || counts.is_empty() {
            counts.push(pixels - set_until);
        }
        Rle {
            size: [height, width],
            counts: counts.into_iter().flat_map(split_run).collect(),
        }
    }
}

/// A run as counts of 32 bits; one that is longer continues after an empty run of the other kind.
fn split_run(length: u64) -> impl Iterator<Item = u32> {
    let most = u64::from(u32::MAX);
    let full = length.saturating_sub(1) / most;
    let rest = (length - full * most) as u32;
    (0..full).flat_map(|_| [u32::MAX, 0]).chain([rest])
}
