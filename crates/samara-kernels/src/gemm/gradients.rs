//! Gradients of `y = x · weight`, with `x` `[rows, depth]` and `weight` `[depth, columns]`.

use rayon::prelude::*;

use super::{Dense, Epilogue, Matrix, Packed, Planes, Rows, Scratch, linear_of_packed, multiply};
use crate::add_in_order;

/// Rows of a part of a sum over all rows. A part's result is as large as the weight and is added up on
/// one thread, so there are few; they do not depend on the number of threads, nor does the sum.
const PART_ROWS: usize = 2048;

/// Gradient of `x`, `[rows, depth]`, given that of `y`.
///
/// # Panics
/// When lengths do not match.
pub fn backward_input(gradient: &[f32], weight: &[f32], [depth, columns]: [usize; 2]) -> Vec<f32> {
    let rows = Dense::new(gradient, columns);
    let weight = Matrix::new(weight, depth, columns).transposed();
    let mut out = vec![0.0; rows.count() * depth];
    linear_of_packed(&rows, &Packed::new(weight), &Epilogue::default(), &mut out);
    out
}

/// Gradient of `weight`, `[depth, columns]`, given that of `y`.
///
/// # Panics
/// When lengths do not match.
pub fn backward_weight(x: &[f32], gradient: &[f32], [depth, columns]: [usize; 2]) -> Vec<f32> {
    assert_eq!(x.len() * columns, gradient.len() * depth, "other rows");
    let parts = x
        .par_chunks(PART_ROWS * depth)
        .zip(gradient.par_chunks(PART_ROWS * columns));
    let parts = parts.map(|(x, gradient)| {
        let rows = Planes::new(x, depth);
        let right = Packed::new(Matrix::new(gradient, gradient.len() / columns, columns));
        let mut out = vec![0.0; depth * columns];
        let (plain, scratch) = (Epilogue::default(), &mut Scratch::default());
        multiply(&rows, 0, right.right(), &plain, scratch, &mut out);
        out
    });
    let sum = add_in_order(parts.collect());
    if sum.is_empty() {
        return vec![0.0; depth * columns];
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, values};

    #[test]
    fn gradients_follow_the_definition() {
        for [rows, depth, columns] in [[1, 3, 2], [70, 40, 33], [PART_ROWS + 5, 7, 20]] {
            let (x, weight) = (values(rows * depth, 1), values(depth * columns, 2));
            let gradient = values(rows * columns, 3);
            let (mut of_x, mut of_weight) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
            for row in 0..rows {
                for i in 0..depth {
                    for j in 0..columns {
                        let g = gradient[row * columns + j];
                        of_x[row * depth + i] += g * weight[i * columns + j];
                        of_weight[i * columns + j] += g * x[row * depth + i];
                    }
                }
            }
            let size = [depth, columns];
            assert!(close(
                &backward_input(&gradient, &weight, size),
                &of_x,
                1e-5
            ));
            assert!(close(
                &backward_weight(&x, &gradient, size),
                &of_weight,
                1e-4
            ));
        }
        assert_eq!(backward_weight(&[], &[], [2, 3]), [0.0; 6]);
    }
}
