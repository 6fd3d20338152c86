//! Values that begin with a line of the cache.

use std::fmt;

use pulp::bytemuck::Pod;
use rayon::prelude::*;

/// Bytes of a line of the cache. A register of AVX-512 is as wide, and is loaded in one go where a
/// line begins.
const CACHE_LINE: usize = 64;

/// Values that begin with a line of the cache.
pub(super) struct Aligned<T> {
    values: Vec<T>,
    start: usize,
    length: usize,
}

impl<T: Pod + Send + Sync> Aligned<T> {
    /// Parts of `length` values one after the other, zeros that `fill` changes.
    pub(super) fn of_parts(
        count: usize,
        length: usize,
        fill: impl Fn(usize, &mut [T]) + Sync,
    ) -> Self {
        let all = count * length;
        let mut values = vec![T::zeroed(); all + CACHE_LINE / size_of::<T>()];
        let start = values.as_ptr().align_offset(CACHE_LINE);
        let start = start.min(values.len() - all);
        if length > 0 {
            let parts = values[start..start + all].par_chunks_mut(length);
            parts.enumerate().for_each(|(i, part)| fill(i, part));
        }
        Self {
            values,
            start,
            length: all,
        }
    }

    pub(super) fn as_slice(&self) -> &[T] {
        &self.values[self.start..][..self.length]
    }
}

impl<T> fmt::Debug for Aligned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} values", self.length)
    }
}
