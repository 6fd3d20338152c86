//! Which tokens attend to each other, and where they lie.

/// Tokens in memory: the values of head `h` of token `t` begin at
/// `t · token_stride + h · head_stride`.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    /// The memory.
    pub values: &'a [f32],
    /// Distance between tokens.
    pub token_stride: usize,
    /// Distance between the heads of a token.
    pub head_stride: usize,
}

impl<'a> Tokens<'a> {
    #[inline]
    pub(super) fn get(self, token: usize, head: usize, length: usize) -> &'a [f32] {
        &self.values[token * self.token_stride + head * self.head_stride..][..length]
    }
}

/// Which tokens attend to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequences {
    /// `count` sequences of `length` tokens, one after the other.
    Whole {
        /// Sequences.
        count: usize,
        /// Tokens of each.
        length: usize,
    },
    /// The square windows of `count` grids of tokens. Windows that reach over the edge of the grid
    /// are filled up with padding tokens, all the same.
    Windows {
        /// Grids.
        count: usize,
        /// Rows of a grid.
        height: usize,
        /// Columns of a grid.
        width: usize,
        /// Side of a window.
        window: usize,
    },
}

/// A token that attends, and its row of the result.
pub(super) struct Query<'a> {
    /// Its place in its sequence.
    pub place: usize,
    pub token: usize,
    pub out: &'a mut [f32],
}

impl Sequences {
    /// Number of sequences.
    pub fn count(self) -> usize {
        match self {
            Self::Whole { count, .. } => count,
            Self::Windows {
                count,
                height,
                width,
                window,
            } => count * height.div_ceil(window) * width.div_ceil(window),
        }
    }

    /// Tokens of a sequence, with its padding.
    pub fn length(self) -> usize {
        match self {
            Self::Whole { length, .. } => length,
            Self::Windows { window, .. } => window * window,
        }
    }

    /// Tokens in memory.
    pub fn tokens(self) -> usize {
        match self {
            Self::Whole { count, length } => count * length,
            Self::Windows {
                count,
                height,
                width,
                ..
            } => count * height * width,
        }
    }

    /// The tokens of a sequence by their places; `None` is padding.
    pub(super) fn tokens_of(self, sequence: usize) -> Vec<Option<usize>> {
        let mut tokens = vec![None; self.length()];
        match self {
            Self::Whole { length, .. } => {
                let all = sequence * length..;
                tokens.iter_mut().zip(all).for_each(|(to, t)| *to = Some(t));
            }
            Self::Windows {
                height,
                width,
                window,
                ..
            } => {
                let (rows, columns) = (height.div_ceil(window), width.div_ceil(window));
                let (band, left) = (sequence / columns, sequence % columns * window);
                let (grid, top) = (band / rows, band % rows * window);
                for (y, line) in (top..height).zip(tokens.chunks_exact_mut(window)) {
                    let first = (grid * height + y) * width;
                    for (x, token) in (left..width).zip(line) {
                        *token = Some(first + x);
                    }
                }
            }
        }
        tokens
    }

    /// The queries of each sequence, without padding, with their rows of `out`
    /// `[tokens, out_width]`.
    pub(super) fn queries(self, out: &mut [f32], out_width: usize) -> Vec<Vec<Query<'_>>> {
        let mut sequences: Vec<Vec<Query<'_>>> = (0..self.count())
            .map(|_| Vec::with_capacity(self.length()))
            .collect();
        let (width, window) = match self {
            Self::Whole { length, .. } => (length, length),
            Self::Windows { width, window, .. } => (width, window),
        };
        // The lines of the grids, which for whole sequences are the sequences.
        for (line, out) in out.chunks_exact_mut(width * out_width).enumerate() {
            let (band, y) = match self {
                Self::Whole { .. } => (line, 0),
                Self::Windows { height, .. } => {
                    let (grid, y) = (line / height, line % height);
                    (grid * height.div_ceil(window) + y / window, y % window)
                }
            };
            let first = band * width.div_ceil(window);
            for (column, out) in out.chunks_mut(window * out_width).enumerate() {
                let (place, token) = (y * window, line * width + column * window);
                let queries = out.chunks_exact_mut(out_width).enumerate();
                sequences[first + column].extend(queries.map(|(x, out)| Query {
                    place: place + x,
                    token: token + x,
                    out,
                }));
            }
        }
        sequences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_find_their_windows() {
        // Two grids of 5 × 7 tokens, each of 2 × 3 windows.
        let windows = Sequences::Windows {
            count: 2,
            height: 5,
            width: 7,
            window: 3,
        };
        assert_eq!((windows.count(), windows.length()), (12, 9));
        let padding = None;
        let last = [
            Some(69),
            padding,
            padding, //
            padding,
            padding,
            padding, //
            padding,
            padding,
            padding,
        ];
        assert_eq!(windows.tokens_of(11)[3..], last[..6]);
        assert_eq!(windows.tokens_of(11)[0], Some(62));
        let second = [10, 11, 12].map(Some);
        assert_eq!(windows.tokens_of(1)[3..6], second);

        let mut out: Vec<f32> = (0..windows.tokens()).map(|i| i as f32).collect();
        let sequences = windows.queries(&mut out, 1);
        for (sequence, queries) in sequences.iter().enumerate() {
            let tokens = windows.tokens_of(sequence);
            assert_eq!(queries.len(), tokens.iter().flatten().count());
            for query in queries {
                assert_eq!(tokens[query.place], Some(query.token));
                assert_eq!(*query.out, [query.token as f32]);
            }
        }
    }

    #[test]
    fn whole_sequences_follow_each_other() {
        let whole = Sequences::Whole {
            count: 3,
            length: 2,
        };
        assert_eq!(whole.tokens_of(2), [Some(4), Some(5)]);
        let mut out: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let sequences = whole.queries(&mut out, 2);
        assert_eq!(sequences.len(), 3);
        let last = &sequences[2][1];
        assert_eq!(
            (last.place, last.token, &*last.out),
            (1, 5, &[10.0, 11.0][..])
        );
    }
}
