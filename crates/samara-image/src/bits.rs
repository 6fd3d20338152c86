//! Rows of bits in 64-bit words, lowest bit leftmost.

/// Words for `width` bits.
pub(crate) fn words_for(width: u32) -> usize {
    width.div_ceil(64) as usize
}

/// The bits of a row's last word that belong to the row.
pub(crate) fn last_word(width: u32) -> u64 {
    match width % 64 {
        0 => u64::MAX,
        used => (1 << used) - 1,
    }
}

/// A word whose bits are these flags, each 0 or 1, the first one lowest.
pub(crate) fn pack(flags: &[u8; 64]) -> u64 {
    let (eights, _) = flags.as_chunks::<8>();
    eights.iter().rev().fold(0, |word, &eight| {
        // The product brings the lowest bit of byte i to bit 56 + i; nothing is carried there.
        let byte = u64::from_le_bytes(eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        word << 8 | byte
    })
}

/// `to[i] = from[i + by]`, with zeros from beyond the end.
pub(crate) fn shift_left_edge(from: &[u64], by: u32, to: &mut [u64]) {
    let (skip, bit) = ((by / 64) as usize, by % 64);
    let word = |i: usize| from.get(i).copied().unwrap_or(0);
    for (i, to) in to.iter_mut().enumerate() {
        let low = word(i + skip) >> bit;
        *to = if bit == 0 {
            low
        } else {
            low | word(i + skip + 1) << (64 - bit)
        };
    }
}

/// `to[i] = from[i - by]`, with zeros from before the start. Padding bits are the caller's matter.
pub(crate) fn shift_right_edge(from: &[u64], by: u32, to: &mut [u64]) {
    let (skip, bit) = ((by / 64) as usize, by % 64);
    let word = |i: Option<usize>| i.and_then(|i| from.get(i)).copied().unwrap_or(0);
    for (i, to) in to.iter_mut().enumerate() {
        let high = word(i.checked_sub(skip)) << bit;
        let carried = i.checked_sub(skip + 1);
        *to = if bit == 0 {
            high
        } else {
            high | word(carried) >> (64 - bit)
        };
    }
}

/// The positions of set bits.
pub(crate) fn ones(row: &[u64]) -> impl Iterator<Item = u32> + '_ {
    row.iter()
        .enumerate()
        .flat_map(|(i, &word)| Ones { word }.map(move |bit| i as u32 * 64 + bit))
}

struct Ones {
    word: u64,
}

impl Iterator for Ones {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.word == 0 {
            return None;
        }
        let bit = self.word.trailing_zeros();
        self.word &= self.word - 1;
        Some(bit)
    }
}

/// Sets the bits `start..end`.
pub(crate) fn set_range(row: &mut [u64], start: u32, end: u32) {
    if start >= end {
        return;
    }
    let (first, last) = ((start / 64) as usize, ((end - 1) / 64) as usize);
    let from = u64::MAX << (start % 64);
    let to = u64::MAX >> (63 - (end - 1) % 64);
    if first == last {
        row[first] |= from & to;
        return;
    }
    row[first] |= from;
    row[first + 1..last].fill(u64::MAX);
    row[last] |= to;
}

/// Maximal stretches of set bits as `start..end`, left to right.
pub(crate) fn runs(row: &[u64]) -> impl Iterator<Item = (u32, u32)> + '_ {
    let mut starts = edges(row, |word, carried| word & !(word << 1 | carried));
    let mut ends = edges(row, |word, carried| !word & (word << 1 | carried));
    let end = row.len() as u32 * 64;
    std::iter::from_fn(move || Some((starts.next()?, ends.next().unwrap_or(end))))
}

fn edges<'a>(
    row: &'a [u64],
    mut at: impl FnMut(u64, u64) -> u64 + 'a,
) -> impl Iterator<Item = u32> + 'a {
    let mut carried = 0;
    row.iter().enumerate().flat_map(move |(i, &word)| {
        let found = at(word, carried);
        carried = word >> 63;
        Ones { word: found }.map(move |bit| i as u32 * 64 + bit)
    })
}

/// Transposes a matrix of bits: `rows` of `width` bits become `width` rows of `height` bits.
pub(crate) fn transpose(words: &[u64], width: u32, height: u32) -> Vec<u64> {
    let (from_n, to_n) = (words_for(width), words_for(height));
    let mut out = vec![0; to_n * width as usize];
    let mut block = [0; 64];
    for by in 0..to_n {
        let rows = (height as usize - by * 64).min(64);
        for bx in 0..from_n {
            let columns = (width as usize - bx * 64).min(64);
            block.fill(0);
            for (r, word) in block[..rows].iter_mut().enumerate() {
                *word = words[(by * 64 + r) * from_n + bx];
            }
            transpose_block(&mut block);
            for (c, word) in block[..columns].iter().enumerate() {
                out[(bx * 64 + c) * to_n + by] = *word;
            }
        }
    }
    out
}

/// Transposes 64×64 bits in place by swapping off-diagonal squares of halving size
/// (Warren, *Hacker's Delight*, 7–3).
fn transpose_block(block: &mut [u64; 64]) {
    let mut size = 32;
    let mut low: u64 = 0xFFFF_FFFF;
    while size > 0 {
        let mut row = 0;
        while row < 64 {
            let swap = (block[row] >> size ^ block[row + size]) & low;
            block[row] ^= swap << size;
            block[row + size] ^= swap;
            row = (row + size + 1) & !size;
        }
        size /= 2;
        low ^= low << size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bit(row: &[u64], i: usize) -> bool {
        row.get(i / 64).is_some_and(|w| w >> (i % 64) & 1 == 1)
    }

    fn pattern(n: usize, seed: u64) -> Vec<u64> {
        let mut state = seed;
        std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state ^ state >> 29
        })
        .take(n)
        .collect()
    }

    #[test]
    fn flags_become_bits() {
        for word in pattern(200, 5).into_iter().chain([0, 1, u64::MAX, 1 << 63]) {
            let flags = std::array::from_fn(|i| (word >> i & 1) as u8);
            assert_eq!(pack(&flags), word);
        }
    }

    #[test]
    fn shifts_move_bits_across_words() {
        let row = pattern(3, 7);
        for by in [0, 1, 5, 63, 64, 65, 130, 191, 192, 500] {
            let (mut left, mut right) = (vec![0; 3], vec![0; 3]);
            shift_left_edge(&row, by, &mut left);
            shift_right_edge(&row, by, &mut right);
            for i in 0..192 {
                assert_eq!(bit(&left, i), bit(&row, i + by as usize));
                let from = i.checked_sub(by as usize);
                assert_eq!(bit(&right, i), from.is_some_and(|j| bit(&row, j)));
            }
        }
    }

    #[test]
    fn transposing_swaps_coordinates() {
        for (width, height) in [(1, 1), (64, 64), (65, 3), (130, 200), (7, 129)] {
            let n = words_for(width);
            let mut words = pattern(n * height as usize, 3);
            words
                .iter_mut()
                .skip(n - 1)
                .step_by(n)
                .for_each(|w| *w &= last_word(width));
            let out = transpose(&words, width, height);
            let m = words_for(height);
            for y in 0..height as usize {
                for x in 0..width as usize {
                    assert_eq!(bit(&out[x * m..], y), bit(&words[y * n..], x));
                }
            }
        }
    }

    #[test]
    fn runs_cover_exactly_the_set_bits() {
        for row in [
            vec![],
            vec![0, 0],
            vec![u64::MAX; 2],
            pattern(3, 11),
            vec![1 << 63, 1, 0],
        ] {
            let mut again = vec![0; row.len()];
            let mut previous = None;
            for (start, end) in runs(&row) {
                assert!(previous.is_none_or(|p| p < start) && start < end);
                previous = Some(end);
                set_range(&mut again, start, end);
            }
            assert_eq!(again, row);
        }
    }
}
