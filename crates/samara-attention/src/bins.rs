//! Masks at the resolution of a map.

use samara_image::Mask;

/// Share of each cell that the mask covers, on a grid of `columns × rows` cells over the mask, row
/// by row.
pub(crate) fn coverage(mask: &Mask, columns: u32, rows: u32) -> Vec<f32> {
    let (columns, rows) = (columns as usize, rows as usize);
    let across = f64::from(mask.width()) / columns as f64;
    let down = f64::from(mask.height()) / rows as f64;
    let mut sums = vec![0.0_f64; columns * rows];
    let mut line = vec![0.0; columns];
    for y in 0..mask.height() {
        let words = mask.row(y);
        if words.iter().all(|&word| word == 0) {
            continue;
        }
        let mut before = 0.0;
        for (column, sum) in line.iter_mut().enumerate() {
            let upto = bits_before(words, (column + 1) as f64 * across);
            *sum = upto - before;
            before = upto;
        }
        // A row of pixels lies in one row of cells, or in several.
        let (top, bottom) = (f64::from(y), f64::from(y + 1));
        let first = ((top / down) as usize).min(rows - 1);
        let last = ((bottom / down).ceil() as usize).clamp(first + 1, rows);
        for row in first..last {
            let share = bottom.min((row + 1) as f64 * down) - top.max(row as f64 * down);
            let cells = &mut sums[row * columns..(row + 1) * columns];
            for (cell, sum) in cells.iter_mut().zip(&line) {
                *cell += sum * share.max(0.0);
            }
        }
    }
    let area = across * down;
    sums.into_iter().map(|sum| (sum / area) as f32).collect()
}

/// Set pixels left of `x`, a pixel that is cut counted in part.
fn bits_before(words: &[u64], x: f64) -> f64 {
    let whole = x as usize;
    let (full, bit) = (whole / 64, whole % 64);
    let count: u32 = words.iter().take(full).map(|word| word.count_ones()).sum();
    let Some(&word) = words.get(full) else {
        return f64::from(count);
    };
    let below = (word & ((1 << bit) - 1)).count_ones();
    let cut = if word >> bit & 1 == 1 {
        x - whole as f64
    } else {
        0.0
    };
    f64::from(count + below) + cut
}

/// Gaussian blur of rows of `columns` cells with standard deviations `(across, down)` in cells;
/// beyond the edge all is as at the edge.
pub(crate) fn blur(values: &[f32], columns: u32, (across, down): (f64, f64)) -> Vec<f32> {
    let columns = columns as usize;
    let rows = values.len() / columns.max(1);
    let wide = blur_lines(values, (columns, 1), (rows, columns), across);
    blur_lines(&wide, (rows, columns), (columns, 1), down)
}

/// Blurs lines of `count` values that are `step` apart; there are `lines`, `line_step` apart.
fn blur_lines(
    from: &[f32],
    (count, step): (usize, usize),
    (lines, line_step): (usize, usize),
    sigma: f64,
) -> Vec<f32> {
    if sigma <= 0.0 {
        return from.to_vec();
    }
    let reach = (3.0 * sigma).ceil() as i64;
    let weight = |d: i64| (-0.5 * (d as f64 / sigma).powi(2)).exp();
    let total: f64 = (-reach..=reach).map(weight).sum();
    let kernel: Vec<f32> = (-reach..=reach)
        .map(|d| (weight(d) / total) as f32)
        .collect();
    let mut to = vec![0.0; from.len()];
    for line in 0..lines {
        for i in 0..count {
            let taps = (-reach..=reach).zip(&kernel).map(|(d, weight)| {
                let at = (i as i64 + d).clamp(0, count as i64 - 1) as usize;
                weight * from[line * line_step + at * step]
            });
            to[line * line_step + i * step] = taps.sum();
        }
    }
    to
}

/// Pearson correlation; `None` where one side is constant.
pub(crate) fn correlation(a: &[f32], b: &[f32]) -> Option<f64> {
    let n = a.len() as f64;
    let mean = |v: &[f32]| v.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (&a, &b) in a.iter().zip(b) {
        let (a, b) = (f64::from(a) - mean_a, f64::from(b) - mean_b);
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    // Rounding leaves some spread in values that are all the same.
    let varies = |spread: f64, mean: f64| spread > 1e-12 * n * mean * mean;
    (varies(aa, mean_a) && varies(bb, mean_b)).then(|| (ab / (aa * bb).sqrt()).clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_is_the_mean_of_the_pixels() {
        let mask = Mask::from_fn(150, 70, |x, y| (x * 7 + y * y) % 11 < 5);
        for (columns, rows) in [(14, 14), (150, 70), (1, 1), (64, 33)] {
            let found = coverage(&mask, columns, rows);
            let pixels: Vec<f32> = mask
                .to_bools()
                .iter()
                .map(|&b| f32::from(u8::from(b)))
                .collect();
            let how = super::super::Resampling::Area;
            let expected =
                super::super::resample::resample(&pixels, (150, 70), (columns, rows), how);
            for (a, b) in found.iter().zip(&expected) {
                assert!((a - b).abs() < 1e-5, "{columns}×{rows}: {a} and {b}");
            }
        }
    }

    #[test]
    fn blur_keeps_the_sum_and_what_is_flat() {
        let mut values = vec![0.0; 31 * 21];
        values[10 * 31 + 15] = 1.0;
        let blurred = blur(&values, 31, (2.0, 1.0));
        assert!((blurred.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        let ratio = blurred[10 * 31 + 17] / blurred[10 * 31 + 15];
        assert!((ratio - (-0.5_f32).exp()).abs() < 1e-4);
        let flat = blur(&[0.3; 12], 4, (3.0, 3.0));
        assert!(flat.iter().all(|v| (v - 0.3).abs() < 1e-6));
    }

    #[test]
    fn correlation_of_what_is_constant_is_none() {
        assert_eq!(correlation(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]), Some(1.0));
        assert_eq!(correlation(&[1.0, 2.0, 3.0], &[0.1, 0.1, 0.1]), None);
    }
}
