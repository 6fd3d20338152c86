//! Label Studio's run lengths of brush masks, the format of `rle-pack`: bits, the highest first, of the values of all
//! four channels of every pixel.
//!
//! A header of 53 bits holds the number of values (32), the bits of a value less one (5), and four widths of run
//! lengths less one (4 each). Then blocks follow: whether it is a run (1), which width (2), its length less one, and
//! the value of the run, or all of its values (8 each).

use samara::Mask;

use crate::error::{Problem, Result};

/// Widths of run lengths in bits.
const WIDTHS: [u32; 4] = [3, 4, 8, 16];
const CHANNELS: usize = 4;

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    bits: u64,
    count: u32,
}

impl Writer {
    fn put(&mut self, value: u64, width: u32) {
        self.bits = self.bits << width | value;
        self.count += width;
        while self.count >= 8 {
            self.count -= 8;
            self.bytes.push((self.bits >> self.count) as u8);
        }
        self.bits &= (1 << self.count) - 1;
    }

    fn run(&mut self, value: u8, mut length: usize) {
        while length > 0 {
            let fitting = WIDTHS.iter().position(|&width| length <= 1 << width);
            let which = fitting.unwrap_or(WIDTHS.len() - 1);
            let part = length.min(1 << WIDTHS[which]);
            self.put(1, 1);
            self.put(which as u64, 2);
            self.put(part as u64 - 1, WIDTHS[which]);
            self.put(u64::from(value), 8);
            length -= part;
        }
    }

    fn end(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.put(0, 8 - self.count);
        }
        self.bytes
    }
}

/// The run lengths of a mask, row by row.
pub(super) fn encode(mask: &Mask) -> Vec<u8> {
    let pixels = mask.width() as usize * mask.height() as usize;
    let mut writer = Writer::default();
    writer.put((CHANNELS * pixels) as u64, 32);
    writer.put(8 - 1, 5);
    for width in WIDTHS {
        writer.put(u64::from(width) - 1, 4);
    }
    let (mut value, mut length) = (false, 0);
    for y in 0..mask.height() {
        for x in 0..mask.width() {
            if mask.get(x, y) != value {
                writer.run(if value { 255 } else { 0 }, CHANNELS * length);
                (value, length) = (!value, 0);
            }
            length += 1;
        }
    }
    writer.run(if value { 255 } else { 0 }, CHANNELS * length);
    writer.end()
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, width: usize) -> Option<usize> {
        let mut value = 0;
        for at in self.at..self.at + width {
            let byte = self.bytes.get(at / 8)?;
            value = value << 1 | usize::from(byte >> (7 - at % 8) & 1);
        }
        self.at += width;
        Some(value)
    }
}

/// The mask of run lengths of an image of this size: every pixel that is not transparent.
///
/// # Errors
/// They end early, or are of another size.
pub(super) fn decode(bytes: &[u8], width: u32, height: u32) -> Result<Mask> {
    let short = || Problem::field("rle", "ends early");
    let mut reader = Reader { bytes, at: 0 };
    let mut take = |width| reader.take(width).ok_or_else(short);
    let values = take(32)?;
    let expected = CHANNELS * width as usize * height as usize;
    if values != expected {
        let detail =
            format!("has {values} values, a mask of {width}×{height} pixels has {expected}");
        return Err(Problem::field("rle", detail));
    }
    let word = take(5)? + 1;
    if word != 8 {
        return Err(Problem::field(
            "rle",
            format!("has values of {word} bits, not 8"),
        ));
    }
    let mut widths = [0; 4];
    for width in &mut widths {
        *width = take(4)? + 1;
    }
    let mut mask = Mask::new(width, height);
    let mut at = 0;
    while at < values {
        let is_run = take(1)? == 1;
        let length = take(2)?;
        let length = take(widths[length])? + 1;
        let end = (at + length).min(values);
        if is_run {
            let value = take(8)?;
            // Alpha is the last channel of every pixel.
            let pixels = at / CHANNELS..(end + CHANNELS - 1 - (CHANNELS - 1)) / CHANNELS;
            for pixel in pixels.filter(|_| value != 0) {
                mask.set(pixel as u32 % width, pixel as u32 / width, true);
            }
        } else {
            for index in at..end {
                let value = take(8)?;
                if value != 0 && index % CHANNELS == CHANNELS - 1 {
                    let pixel = (index / CHANNELS) as u32;
                    mask.set(pixel % width, pixel / width, true);
                }
            }
        }
        at = end;
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_mask_bit_by_bit() {
        let mask = Mask::from_fn(2, 1, |x, _| x == 1);
        let bits = "00000000000000000000000000001000 00111 0010 0011 0111 1111 \
                    1 00 011 00000000 1 00 011 11111111";
        let bits: Vec<u8> = bits
            .bytes()
            .filter(|b| *b != b' ')
            .map(|b| b - b'0')
            .collect();
        let bytes: Vec<u8> = bits
            .chunks(8)
            .map(|byte| {
                byte.iter()
                    .enumerate()
                    .fold(0, |all, (i, bit)| all | bit << (7 - i))
            })
            .collect();
        assert_eq!(encode(&mask), bytes);
    }

    #[test]
    fn masks_come_back() {
        for (width, height, inside) in [
            (1, 1, 1),
            (7, 5, 3),
            (64, 48, 5),
            (300, 500, 90_000),
            (640, 480, 1000),
        ] {
            let mask = Mask::from_fn(width, height, |x, y| {
                (x * 31 + y * 17) % 97 < inside % 97 || x * y < inside
            });
            assert_eq!(
                decode(&encode(&mask), width, height).unwrap(),
                mask,
                "{width}×{height}"
            );
        }
    }

    #[test]
    fn values_without_runs_are_read() {
        let mut writer = Writer::default();
        writer.put(8, 32);
        writer.put(7, 5);
        for width in WIDTHS {
            writer.put(u64::from(width) - 1, 4);
        }
        writer.put(0, 1);
        writer.put(0, 2);
        writer.put(7, 3);
        for value in [1, 2, 3, 0, 9, 9, 9, 200] {
            writer.put(value, 8);
        }
        let mask = decode(&writer.end(), 2, 1).unwrap();
        assert_eq!((mask.get(0, 0), mask.get(1, 0)), (false, true));
    }

    #[test]
    fn damaged_ones_are_refused() {
        let bytes = encode(&Mask::from_fn(30, 20, |x, _| x % 3 == 0));
        decode(&bytes, 20, 20).unwrap_err();
        for end in 0..bytes.len() - 1 {
            decode(&bytes[..end], 30, 20).unwrap_err();
        }
    }
}
