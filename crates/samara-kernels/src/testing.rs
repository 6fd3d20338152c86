//! What the tests of the kernels share.

/// Numbers in −1..1 that repeat late.
pub(crate) fn values(count: usize, seed: usize) -> Vec<f32> {
    let value = |i: usize| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0;
    (0..count).map(value).collect()
}

/// Whether all numbers agree within `tolerance · (1 + |expected|)`.
pub(crate) fn close(actual: &[f32], expected: &[f32], tolerance: f32) -> bool {
    actual.len() == expected.len()
        && actual
            .iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() <= tolerance * (1.0 + b.abs()))
}
