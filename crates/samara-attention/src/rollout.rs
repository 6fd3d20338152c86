//! Attention rollout: what the output of a stack of self-attention layers has seen of its input
//! (Abnar & Zuidema, "Quantifying Attention Flow in Transformers", 2020).

use rayon::prelude::*;

/// How the heads of a layer become one matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeadFusion {
    /// Their mean, as in the paper.
    #[default]
    Mean,
    /// The largest weight of any head: what one head sees counts.
    Max,
    /// The smallest: what all heads see counts.
    Min,
}

/// Attention matrices that are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RolloutError {
    /// No layers, heads or tokens.
    #[error("attention rollout needs at least one layer, head and token")]
    Empty,
    /// A layer of another size.
    #[error(
        "layer {layer} has {values} values; {heads} heads of {tokens} × {tokens} were expected"
    )]
    Size {
        /// Position of the layer.
        layer: usize,
        /// Values it has.
        values: usize,
        /// Heads that it should have.
        heads: usize,
        /// Tokens that it should have.
        tokens: usize,
    },
    /// A weight that is negative or not finite.
    #[error(
        "layer {layer} has the weight {value} at position {position}; softmax weights are finite and not negative"
    )]
    Weight {
        /// Position of the layer.
        layer: usize,
        /// Position of the value in the layer.
        position: usize,
        /// The value, as text.
        value: String,
    },
}

/// How much of each input token has come to each output token: rows that sum to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    tokens: usize,
    values: Vec<f32>,
}

impl Rollout {
    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// `[tokens, tokens]`, an output token a row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// What one output token has seen of every input token, such as the class token (0) of a ViT.
    pub fn row(&self, token: usize) -> Option<&[f32]> {
        self.values.chunks_exact(self.tokens).nth(token)
    }
}

/// Multiplies the attention of all layers, from the first to the last.
///
/// Every layer holds softmax weights `[heads, tokens, tokens]`, a query a row. The heads are fused to
/// one matrix `A`; the residual connection adds the identity, and the rows are made to sum to 1 again:
/// `Ã = rows((A + I) / 2)`. The rollout is `Ã_last · … · Ã_first`.
///
/// # Errors
/// A layer is missing or has another size, or a weight is negative or not finite.
///
/// ```
/// use samara_attention::{HeadFusion, rollout};
///
/// // One head, two tokens: the first one looks at the second, the second one at itself.
/// let layer = [0.0, 1.0, 0.0, 1.0];
/// let seen = rollout(&[&layer, &layer], 1, 2, HeadFusion::Mean)?;
/// assert_eq!(seen.values(), [0.25, 0.75, 0.0, 1.0]);
/// # Ok::<(), samara_attention::RolloutError>(())
/// ```
pub fn rollout(
    layers: &[&[f32]],
    heads: usize,
    tokens: usize,
    fusion: HeadFusion,
) -> Result<Rollout, RolloutError> {
    if layers.is_empty() || heads == 0 || tokens == 0 {
        return Err(RolloutError::Empty);
    }
    let expected = heads
        .checked_mul(tokens)
        .and_then(|n| n.checked_mul(tokens));
    for (i, layer) in layers.iter().enumerate() {
        if Some(layer.len()) != expected {
            return Err(RolloutError::Size {
                layer: i,
                values: layer.len(),
                heads,
                tokens,
            });
        }
        if let Some(position) = layer.iter().position(|&w| !(w >= 0.0 && w.is_finite())) {
            return Err(RolloutError::Weight {
                layer: i,
                position,
                value: layer[position].to_string(),
            });
        }
    }
    let steps: Vec<Vec<f32>> = layers
        .par_iter()
        .map(|layer| step(layer, tokens, fusion))
        .collect();
    let mut values = vec![0.0; tokens * tokens];
    values
        .par_chunks_exact_mut(tokens)
        .enumerate()
        .for_each(|(token, row)| {
            row[token] = 1.0;
            for step in steps.iter().rev() {
                let next = times(row, step);
                row.copy_from_slice(&next);
            }
        });
    Ok(Rollout { tokens, values })
}

/// One layer as a step of the flow: heads fused, residual added, rows normalised.
fn step(layer: &[f32], tokens: usize, fusion: HeadFusion) -> Vec<f32> {
    let mut heads = layer.chunks_exact(tokens * tokens);
    let mut fused = heads.next().unwrap_or_default().to_vec();
    let mut count = 1.0;
    for head in heads {
        count += 1.0;
        for (fused, &weight) in fused.iter_mut().zip(head) {
            *fused = match fusion {
                HeadFusion::Mean => *fused + weight,
                HeadFusion::Max => fused.max(weight),
                HeadFusion::Min => fused.min(weight),
            };
        }
    }
    let scale = if fusion == HeadFusion::Mean {
        1.0 / count
    } else {
        1.0
    };
    for (token, row) in fused.chunks_exact_mut(tokens).enumerate() {
        row.iter_mut().for_each(|weight| *weight *= scale);
        row[token] += 1.0;
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|weight| *weight /= sum);
    }
    fused
}

/// A row `[tokens]` times a matrix `[tokens, tokens]`.
fn times(row: &[f32], matrix: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; row.len()];
    for (&weight, line) in row.iter().zip(matrix.chunks_exact(row.len())) {
        if weight > 0.0 {
            for (out, &value) in out.iter_mut().zip(line) {
                *out += weight * value;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: [f32; 18] = [
        0.5, 0.25, 0.25, 0.1, 0.6, 0.3, 0.2, 0.2, 0.6, // one head
        0.1, 0.8, 0.1, 0.3, 0.4, 0.3, 0.7, 0.1, 0.2, // the other
    ];
    const SECOND: [f32; 18] = [
        0.3, 0.3, 0.4, 0.25, 0.5, 0.25, 0.05, 0.05, 0.9, // one head
        0.6, 0.2, 0.2, 0.9, 0.05, 0.05, 0.1, 0.4, 0.5, // the other
    ];

    fn rolled(fusion: HeadFusion) -> Vec<f32> {
        let rollout = rollout(&[&FIRST, &SECOND], 2, 3, fusion).unwrap();
        rollout.values().to_vec()
    }

    #[track_caller]
    fn assert_close(actual: &[f32], expected: &[f32]) {
        assert_eq!(actual.len(), expected.len());
        for (actual, expected) in actual.iter().zip(expected) {
            assert!(
                (actual - expected).abs() < 1e-6,
                "{actual} instead of {expected}"
            );
        }
    }

    /// Computed with NumPy: `A = fuse(W, 0) + I; A /= A.sum(-1, keepdims=True); A2 @ A1`.
    #[test]
    fn the_flow_is_that_of_numpy() {
        let mean = [
            0.517_5,
            0.295_312_5,
            0.187_187_5,
            0.267_5,
            0.559_218_8,
            0.173_281_2,
            0.226_875,
            0.157_968_8,
            0.615_156_2,
        ];
        assert_close(&rolled(HeadFusion::Mean), &mean);
        let max = [
            0.475_689_4,
            0.327_018_5,
            0.197_292_1,
            0.303_380_1,
            0.525_759_3,
            0.170_860_7,
            0.268_903_7,
            0.197_617_3,
            0.533_478_9,
        ];
        assert_close(&rolled(HeadFusion::Max), &max);
        let min = [
            0.602_343_9,
            0.231_192_2,
            0.166_463_8,
            0.188_633_5,
            0.639_335_9,
            0.172_030_7,
            0.150_443,
            0.092_193_5,
            0.757_363_5,
        ];
        assert_close(&rolled(HeadFusion::Min), &min);
    }

    #[test]
    fn rows_sum_to_one() {
        for fusion in [HeadFusion::Mean, HeadFusion::Max, HeadFusion::Min] {
            for row in rolled(fusion).chunks_exact(3) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn the_row_of_a_token_is_what_it_has_seen() {
        let seen = rollout(&[&FIRST], 2, 3, HeadFusion::Mean).unwrap();
        assert_close(seen.row(0).unwrap(), &[0.65, 0.2625, 0.0875]);
        assert_eq!((seen.tokens(), seen.row(3)), (3, None));
    }

    #[test]
    fn what_is_no_attention_is_refused() {
        let refused = |layers: &[&[f32]], heads, tokens| {
            rollout(layers, heads, tokens, HeadFusion::Mean)
                .unwrap_err()
                .to_string()
        };
        assert!(refused(&[], 1, 1).contains("at least one layer"));
        assert!(refused(&[&[]], 0, 0).contains("at least one layer"));
        assert!(refused(&[&FIRST, &[1.0]], 2, 3).starts_with("layer 1 has 1 values; 2 heads of 3"));
        assert!(refused(&[&[1.0]], usize::MAX, 2).starts_with("layer 0 has 1 values"));
        assert!(refused(&[&[1.0, f32::NAN, 0.0, 1.0]], 1, 2).contains("weight NaN at position 1"));
        assert!(refused(&[&[-0.5]], 1, 1).contains("weight -0.5"));
    }
}
