//! Values that begin with a line of the cache.

use std::fmt;
use std::ops::{Deref, DerefMut};

use pulp::bytemuck::Pod;
use rayon::prelude::*;

/// Bytes of a line of the cache. A register of AVX-512 is as wide, as is a row of one of AMX, and is loaded in one
/// go where a line begins.
const CACHE_LINE: usize = 64;

/// Values that begin with a line of the cache.
pub(crate) struct Aligned<T> {
    values: Vec<T>,
    start: usize,
    length: usize,
}

impl<T: Pod + Send + Sync> Aligned<T> {
    /// No values.
    pub(crate) fn new() -> Self {
        Self {
            values: Vec::new(),
            start: 0,
            length: 0,
        }
    }

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

    /// Makes place for as many values, which hold anything.
    pub(crate) fn resize(&mut self, length: usize) {
        if self.values.len() < length + CACHE_LINE / size_of::<T>() {
            *self = Self::of_parts(1, length, |_, _| ());
        }
        self.length = length;
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[self.start..][..self.length]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[self.start..][..self.length]
    }
}

impl<T: Pod + Send + Sync> Default for Aligned<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Aligned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} values", self.length)
    }
}
