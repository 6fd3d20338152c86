//! Pooling of channels-last images.

use rayon::prelude::*;

use crate::isa::Isa;

/// Halves both sides of images with lines of `width` pixels: of every four pixels the largest value,
/// channel by channel. The first `channels` of every `stride` values are a pixel's; lines of all
/// images follow one another. A NaN stays one, as in PyTorch.
///
/// # Panics
/// When sizes do not match: an even width, an even number of lines.
pub fn max_pool(pixels: &[f32], width: usize, stride: usize, channels: usize, out: &mut [f32]) {
    assert!(width.is_multiple_of(2) && channels <= stride);
    assert_eq!(
        pixels.len() * channels,
        4 * out.len() * stride,
        "the result"
    );
    if out.is_empty() {
        return;
    }
    let lines = out.par_chunks_mut(width / 2 * channels);
    lines
        .zip(pixels.par_chunks_exact(2 * width * stride))
        .for_each(|(out, lines)| {
            let (upper, lower) = lines.split_at(width * stride);
            Isa::best().run(
                #[inline(always)]
                |_| {
                    let pairs = upper.chunks_exact(2 * stride);
                    let pairs = pairs.zip(lower.chunks_exact(2 * stride));
                    for (out, (upper, lower)) in out.chunks_exact_mut(channels).zip(pairs) {
                        let pixels = [upper, &upper[stride..], lower, &lower[stride..]];
                        let [a, b, c, d] = pixels.map(|pixel| &pixel[..channels]);
                        for (i, out) in out.iter_mut().enumerate() {
                            *out = larger(larger(a[i], b[i]), larger(c[i], d[i]));
                        }
                    }
                },
            );
        });
}

/// The larger number; what is no number wins.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::values;

    #[test]
    fn squares_give_their_largest_values() {
        let (lines, width, stride, channels) = (4, 6, 5, 3);
        let mut pixels = values(lines * width * stride, 7);
        pixels[2 * stride + 1] = f32::NAN;
        let mut out = vec![0.0; lines * width / 4 * channels];
        max_pool(&pixels, width, stride, channels, &mut out);
        for (i, &found) in out.iter().enumerate() {
            let (cell, channel) = (i / channels, i % channels);
            let (y, x) = (cell / (width / 2) * 2, cell % (width / 2) * 2);
            let square = [(0, 0), (0, 1), (1, 0), (1, 1)];
            let square =
                square.map(|(dy, dx)| pixels[((y + dy) * width + x + dx) * stride + channel]);
            if square.iter().any(|v| v.is_nan()) {
                assert!(found.is_nan());
            } else {
                assert_eq!(found, square.into_iter().fold(f32::MIN, f32::max));
            }
        }
        assert_eq!(out.iter().filter(|v| v.is_nan()).count(), 1);
    }
}
