//! Multi-head attention `softmax(scale · q kᵀ + bias) v`, tile by tile.
//!
//! Scores are never held as a whole: a block of queries walks over blocks of keys, keeps the
//! largest score and the sum of exponentials so far, and scales its result down when a larger
//! score turns up (Dao et al. 2022). Keys and values are packed once per head;
//! the tokens are read where the projection wrote them, also those of a window of an image.

mod block;
mod head;
mod layer;
mod sequences;

use rayon::prelude::*;

use crate::gemm::{Bf16, Float, Fp32, Matrix, Panels};
use crate::isa::Isa;
use crate::precision::Precision;
use block::{Block, QUERIES, Scratch};
use head::Head;
use sequences::Query;

pub use layer::{Attention, Bias};
pub use sequences::{Sequences, Tokens};

/// Sequences per thread from which on each is the work of one thread, in buffers that it uses again.
/// Fewer and longer ones are shared by the threads, block by block.
const MANY: usize = 4;

/// Keys and values of a sequence in the order in which they are read, for any number of queries.
#[derive(Debug)]
pub struct PackedKeys {
    isa: Isa,
    heads: PackedHeads,
}

#[derive(Debug)]
enum PackedHeads {
    Fp32(Vec<Head<Fp32>>),
    Bf16(Vec<Head<Bf16>>),
}

impl Attention<'_> {
    /// Result `[query tokens, heads · value_dim]`.
    ///
    /// # Panics
    /// When sizes do not match.
    pub fn forward(
        &self,
        q: Tokens<'_>,
        queries: Sequences,
        kv: [Tokens<'_>; 2],
        keys: Sequences,
        out: &mut [f32],
    ) {
        self.forward_for(Isa::best(), q, queries, kv, keys, out);
    }

    fn forward_for(
        &self,
        isa: Isa,
        q: Tokens<'_>,
        queries: Sequences,
        kv: [Tokens<'_>; 2],
        keys: Sequences,
        out: &mut [f32],
    ) {
        match self.precision {
            Precision::Fp32 => self.forward_in::<Fp32>(isa, q, queries, kv, keys, out),
            Precision::Bf16 | Precision::Int8 => {
                self.forward_in::<Bf16>(isa, q, queries, kv, keys, out);
            }
        }
    }

    fn forward_in<F: Float>(
        &self,
        isa: Isa,
        q: Tokens<'_>,
        queries: Sequences,
        kv: [Tokens<'_>; 2],
        keys: Sequences,
        out: &mut [f32],
    ) {
        let (count, width) = (queries.count(), self.heads * self.value_dim);
        assert_eq!(count, keys.count(), "sequences of queries and keys");
        assert_eq!(out.len(), queries.tokens() * width);
        let full = keys.tokens() == count * keys.length();
        assert!(full || self.padding.is_some(), "windows over the edge");
        assert!(keys.length() > 0, "nothing to attend to");
        if out.is_empty() {
            return;
        }
        let position = self.position::<F>(isa);
        let attend =
            |index, head: &Head<F>, queries: &mut [Query<'_>], scratch: &mut Scratch<F>| {
                let block = Block {
                    isa,
                    attention: self,
                    position: position.as_ref(),
                    index,
                    head,
                    queries,
                };
                block.attend(q, scratch);
            };
        let many = count >= MANY * rayon::current_num_threads();
        let sequences = queries.queries(out, width).into_par_iter().enumerate();
        sequences.for_each_init(
            Default::default,
            |(head, scratch): &mut (Head<F>, Scratch<F>), (sequence, mut queries)| {
                let tokens = keys.tokens_of(sequence);
                let pack = |index, head: &mut Head<F>| head.pack(isa, self, index, &tokens, kv);
                if many {
                    for index in 0..self.heads {
                        pack(index, head);
                        for queries in queries.chunks_mut(QUERIES) {
                            attend(index, head, queries, scratch);
                        }
                    }
                } else {
                    let heads = self.pack_heads::<F>(isa, &tokens, kv);
                    let blocks = queries.par_chunks_mut(QUERIES);
                    blocks.for_each_init(Scratch::default, |scratch, queries| {
                        for (index, head) in heads.iter().enumerate() {
                            attend(index, head, queries, scratch);
                        }
                    });
                }
            },
        );
    }

    fn pack_heads<F: Float>(
        &self,
        isa: Isa,
        tokens: &[Option<usize>],
        kv: [Tokens<'_>; 2],
    ) -> Vec<Head<F>> {
        let mut heads: Vec<Head<F>> = Vec::new();
        heads.resize_with(self.heads, Head::default);
        let each = heads.par_iter_mut().enumerate();
        each.for_each(|(index, head)| head.pack(isa, self, index, tokens, kv));
        heads
    }

    /// Packs keys and values of `length` tokens for [`forward_packed`](Self::forward_packed).
    pub fn pack(&self, kv: [Tokens<'_>; 2], length: usize) -> PackedKeys {
        self.pack_for(Isa::best(), kv, length)
    }

    fn pack_for(&self, isa: Isa, kv: [Tokens<'_>; 2], length: usize) -> PackedKeys {
        assert!(length > 0, "nothing to attend to");
        let tokens = Sequences::Whole { count: 1, length }.tokens_of(0);
        let heads = match self.precision {
            Precision::Fp32 => PackedHeads::Fp32(self.pack_heads(isa, &tokens, kv)),
            Precision::Bf16 | Precision::Int8 => {
                PackedHeads::Bf16(self.pack_heads(isa, &tokens, kv))
            }
        };
        PackedKeys { isa, heads }
    }

    /// [`forward`](Self::forward) of one sequence of queries, `[queries, heads · value_dim]`, with keys
    /// and values that [`pack`](Self::pack) has packed with the same attention.
    ///
    /// # Panics
    /// When sizes do not match, or with relative positions.
    pub fn forward_packed(&self, q: Tokens<'_>, keys: &PackedKeys, out: &mut [f32]) {
        match &keys.heads {
            PackedHeads::Fp32(heads) => self.forward_heads(q, keys.isa, heads, out),
            PackedHeads::Bf16(heads) => self.forward_heads(q, keys.isa, heads, out),
        }
    }

    fn forward_heads<F: Float>(&self, q: Tokens<'_>, isa: Isa, heads: &[Head<F>], out: &mut [f32]) {
        let width = self.heads * self.value_dim;
        assert!(out.len().is_multiple_of(width) && heads.len() == self.heads);
        assert!(matches!(self.bias, Bias::None), "relative positions");
        let (count, length) = (1, out.len() / width);
        for queries in &mut (Sequences::Whole { count, length }).queries(out, width) {
            let blocks = queries.par_chunks_mut(QUERIES);
            blocks.for_each_init(Scratch::default, |scratch, queries| {
                for (index, head) in heads.iter().enumerate() {
                    let block = Block {
                        isa,
                        attention: self,
                        position: None,
                        index,
                        head,
                        queries,
                    };
                    block.attend(q, scratch);
                }
            });
        }
    }

    /// The relative positions as the right side of a product with scaled queries: both tables,
    /// last distance first, so that the biases of one query to a row of keys lie in order.
    fn position<F: Float>(&self, isa: Isa) -> Option<Panels<F>> {
        let Bias::Decomposed {
            rows,
            columns,
            h,
            w,
        } = self.bias
        else {
            return None;
        };
        assert_eq!(h.len(), (2 * rows - 1) * self.head_dim);
        assert_eq!(w.len(), (2 * columns - 1) * self.head_dim);
        let rows_of = |table: &[f32]| -> Vec<f32> {
            let rows = table.chunks_exact(self.head_dim).rev().flatten();
            rows.map(|x| x / self.scale).collect()
        };
        let table = [rows_of(h), rows_of(w)].concat();
        let table = Matrix::new(&table, table.len() / self.head_dim, self.head_dim);
        Some(Panels::new(isa, table.transposed()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{close, values};

    /// One query's result by the definition, in `f64`.
    fn oracle(
        q: &[f32],
        keys: &[&[f32]],
        values: &[&[f32]],
        scale: f32,
        bias: impl Fn(usize) -> f64,
    ) -> Vec<f32> {
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter()
                .zip(b)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum()
        };
        let scores = keys
            .iter()
            .enumerate()
            .map(|(i, k)| f64::from(scale) * dot(q, k) + bias(i));
        let scores: Vec<f64> = scores.collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
        let sum: f64 = weights.iter().sum();
        (0..values[0].len())
            .map(|c| {
                let weighted = weights.iter().zip(values).map(|(w, v)| w * f64::from(v[c]));
                (weighted.sum::<f64>() / sum) as f32
            })
            .collect()
    }

    /// All instruction sets and precisions, and how far their results may be off: the scores of bf16 are by some
    /// hundredths.
    fn all_ways() -> impl Iterator<Item = (Isa, (Precision, f32))> {
        let precisions = [(Precision::Fp32, 1e-5), (Precision::Bf16, 0.08)];
        Isa::available()
            .into_iter()
            .flat_map(move |isa| precisions.map(|precision| (isa, precision)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whole_sequences_with_a_table_follow_the_oracle(
            count in 1_usize..3, queries in 1_usize..60, keys in 1_usize..300, heads in 1_usize..3,
            head_dim in 1_usize..20, value_dim in 1_usize..20, table in any::<bool>(),
            seed in 0_usize..99,
        ) {
            let width = heads * head_dim;
            let scale = 3.0;
            let q = values(count * queries * width, seed);
            let k = values(count * keys * width, seed + 1);
            let v = values(count * keys * heads * value_dim, seed + 2);
            let bias: Vec<f32> = values(heads * queries * keys, seed + 3);
            let attention = Attention {
                heads, head_dim, value_dim, scale,
                bias: if table { Bias::Table(&bias) } else { Bias::None },
                precision: Precision::Fp32,
            padding: None,
            };
            let tokens = |values, width: usize| Tokens {
                values, token_stride: heads * width, head_stride: width,
            };
            let whole = |length| Sequences::Whole { count, length };
            for (isa, (precision, tolerance)) in all_ways() {
                let attention = Attention { precision, ..attention };
                let mut out = vec![f32::NAN; count * queries * heads * value_dim];
                attention.forward_for(
                    isa, tokens(&q, head_dim), whole(queries),
                    [tokens(&k, head_dim), tokens(&v, value_dim)], whole(keys), &mut out,
                );
                if count == 1 && !table {
                    let kv = [tokens(&k, head_dim), tokens(&v, value_dim)];
                    let packed = attention.pack_for(isa, kv, keys);
                    let mut again = vec![f32::NAN; out.len()];
                    attention.forward_packed(tokens(&q, head_dim), &packed, &mut again);
                    prop_assert_eq!(&again, &out);
                }
                for (i, out) in out.chunks_exact(value_dim).enumerate() {
                    let (token, head) = (i / heads, i % heads);
                    let sequence = token / queries;
                    let side = |x, width: usize| -> Vec<&[f32]> {
                        let t = tokens(x, width);
                        (0..keys).map(|key| t.get(sequence * keys + key, head, width)).collect()
                    };
                    let row = (head * queries + token % queries) * keys;
                    let expected = oracle(
                        tokens(&q, head_dim).get(token, head, head_dim),
                        &side(&k, head_dim), &side(&v, value_dim), scale,
                        |key| if table { f64::from(bias[row + key]) } else { 0.0 },
                    );
                    prop_assert!(close(out, &expected, tolerance), "{isa:?} {precision:?}");
                }
            }
        }

        #[test]
        fn windows_follow_the_oracle(
            height in 1_usize..12, width in 1_usize..12, window in 1_usize..8, heads in 1_usize..3,
            head_dim in 1_usize..9, table in any::<bool>(), by_head in any::<bool>(),
            seed in 0_usize..99,
        ) {
            Grid { count: 2, height, width, window, heads, head_dim, table, by_head }.check(seed);
        }
    }

    /// Windows of a grid whose tokens are projected to queries, keys and values at once.
    #[derive(Debug, Clone, Copy)]
    struct Grid {
        count: usize,
        height: usize,
        width: usize,
        window: usize,
        heads: usize,
        head_dim: usize,
        /// A table, or relative positions.
        table: bool,
        /// `[heads, 3, head_dim]`, or `[3, heads, head_dim]`.
        by_head: bool,
    }

    /// Few sequences for many threads, and many for one.
    fn few_and_many_threads() -> [rayon::ThreadPool; 2] {
        [16, 1].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap()
        })
    }

    impl Grid {
        /// Compares all results with those by the definition.
        fn check(self, seed: usize) {
            let Self {
                count,
                height,
                width,
                window,
                heads,
                head_dim,
                ..
            } = self;
            let (inner, length, scale) = (heads * head_dim, window * window, 0.5);
            let (part, head_stride) = if self.by_head {
                (head_dim, 3 * head_dim)
            } else {
                (inner, head_dim)
            };
            let qkv = values(count * height * width * 3 * inner, seed);
            let padding = values(3 * inner, seed + 1);
            let h = values((2 * window - 1) * head_dim, seed + 2);
            let w = values((2 * window - 1) * head_dim, seed + 3);
            let table = values(heads * length * length, seed + 4);
            let bias = if self.table {
                Bias::Table(&table)
            } else {
                Bias::Decomposed {
                    rows: window,
                    columns: window,
                    h: &h,
                    w: &w,
                }
            };
            let attention = Attention {
                heads,
                head_dim,
                value_dim: head_dim,
                scale,
                bias,
                precision: Precision::Fp32,
                padding: Some((&padding[part..], &padding[2 * part..])),
            };
            let [q, k, v] = [0, 1, 2].map(|i| Tokens {
                values: &qkv[i * part..],
                token_stride: 3 * inner,
                head_stride,
            });
            let windows = Sequences::Windows {
                count,
                height,
                width,
                window,
            };
            let mut expected = vec![f32::NAN; windows.tokens() * inner];
            for sequence in 0..windows.count() {
                let tokens = windows.tokens_of(sequence);
                for (head, query) in (0..heads * length).map(|i| (i / length, i % length)) {
                    let Some(token) = tokens[query] else { continue };
                    let all = |i: usize| -> Vec<&[f32]> {
                        let row = |token: &Option<usize>| match token {
                            Some(token) => [q, k, v][i].get(*token, head, head_dim),
                            None => &padding[i * part + head * head_stride..][..head_dim],
                        };
                        tokens.iter().map(row).collect()
                    };
                    let q = q.get(token, head, head_dim);
                    let along = |table: &[f32], query: usize, key: usize| -> f64 {
                        let row = (query + window - 1 - key) * head_dim;
                        let products = q.iter().zip(&table[row..]);
                        products.map(|(q, t)| f64::from(*q) * f64::from(*t)).sum()
                    };
                    let result = oracle(q, &all(1), &all(2), scale, |key| {
                        if self.table {
                            f64::from(table[(head * length + query) * length + key])
                        } else {
                            along(&h, query / window, key / window)
                                + along(&w, query % window, key % window)
                        }
                    });
                    expected[token * inner + head * head_dim..][..head_dim]
                        .copy_from_slice(&result);
                }
            }
            let pools = few_and_many_threads();
            for (isa, (precision, tolerance)) in all_ways() {
                let attention = Attention {
                    precision,
                    ..attention
                };
                let results = pools.each_ref().map(|pool| {
                    let mut out = vec![f32::NAN; expected.len()];
                    pool.install(|| {
                        attention.forward_for(isa, q, windows, [k, v], windows, &mut out);
                    });
                    out
                });
                assert!(
                    close(&results[0], &expected, tolerance),
                    "{isa:?}, {precision:?}, {self:?}"
                );
                assert_eq!(results[0], results[1], "{isa:?}, {self:?}");
            }
        }
    }

    /// 49, 64 and 196 tokens: the windows of TinyViT, Hiera and ViT.
    #[test]
    fn windows_of_the_models_follow_the_oracle() {
        for (window, head_dim, table) in [(7, 32, true), (8, 96, false), (14, 64, true)] {
            let grid = Grid {
                count: 1,
                height: 2 * window - 3,
                width: 3 * window - 5,
                window,
                heads: 2,
                head_dim,
                table,
                by_head: table,
            };
            grid.check(window);
        }
    }

    /// Queries that are pooled over squares of four tokens, as in Hiera.
    #[test]
    fn windows_of_queries_may_be_smaller() {
        let windows = |side, window| Sequences::Windows {
            count: 1,
            height: side,
            width: side,
            window,
        };
        let (queries, keys) = (windows(5, 2), windows(10, 4));
        let tokens = |values| Tokens {
            values,
            token_stride: 3,
            head_stride: 3,
        };
        let attention = Attention {
            heads: 1,
            head_dim: 3,
            value_dim: 3,
            scale: 2.0,
            bias: Bias::None,
            precision: Precision::Fp32,
            padding: Some((&[0.1, 0.2, 0.3], &[0.4, 0.5, 0.6])),
        };
        let [q, k, v] = [25, 100, 100].map(|count| values(3 * count, count));
        let mut out = vec![f32::NAN; q.len()];
        attention.forward(
            tokens(&q),
            queries,
            [tokens(&k), tokens(&v)],
            keys,
            &mut out,
        );
        for sequence in 0..queries.count() {
            let places = keys.tokens_of(sequence);
            let all = |x| -> Vec<&[f32]> {
                let row = |token: &Option<usize>| tokens(x).get((*token)?, 0, 3).into();
                places.iter().filter_map(row).collect()
            };
            let (mut k, mut v) = (all(&k), all(&v));
            k.resize(16, &[0.1, 0.2, 0.3]);
            v.resize(16, &[0.4, 0.5, 0.6]);
            for token in queries.tokens_of(sequence).into_iter().flatten() {
                let expected = oracle(&q[3 * token..][..3], &k, &v, 2.0, |_| 0.0);
                assert!(close(&out[3 * token..][..3], &expected, 1e-5));
            }
        }
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let q = [100.0_f32];
        let k: Vec<f32> = (0..600).map(|i| i as f32).collect();
        let v = k.clone();
        let tokens = |values| Tokens {
            values,
            token_stride: 1,
            head_stride: 1,
        };
        let attention = Attention {
            heads: 1,
            head_dim: 1,
            value_dim: 1,
            scale: 1.0,
            bias: Bias::None,
            precision: Precision::Fp32,
            padding: None,
        };
        let whole = |length| Sequences::Whole { count: 1, length };
        let mut out = [0.0];
        attention.forward(
            tokens(&q),
            whole(1),
            [tokens(&k), tokens(&v)],
            whole(600),
            &mut out,
        );
        assert_eq!(out, [599.0]);
    }
}
