//! A growing list that never moves its elements, so that growing costs no copy and no second room.
//!
//! Invariant: every chunk but the last one is full.

use std::ops::{Index, IndexMut};

/// How many elements a chunk has.
const CHUNK: usize = 1 << 12;

/// Elements by number.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<T>>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        match self.chunks.last() {
            Some(last) => (self.chunks.len() - 1) * CHUNK + last.len(),
            None => 0,
        }
    }

    pub(crate) fn push(&mut self, element: T) {
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(element),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(element);
                self.chunks.push(chunk);
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }
}

impl<T> Index<usize> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, i: usize) -> &T {
        &self.chunks[i / CHUNK][i % CHUNK]
    }
}

impl<T> IndexMut<usize> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, i: usize) -> &mut T {
        &mut self.chunks[i / CHUNK][i % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_their_numbers() {
        let mut slab = Slab::new();
        for i in 0..3 * CHUNK + 1 {
            assert_eq!(slab.len(), i);
            slab.push(i);
        }
        slab[CHUNK] = 7;
        let expected = |i| if i == CHUNK { 7 } else { i };
        assert!((0..slab.len()).all(|i| slab[i] == expected(i)));
        assert!(slab.iter().copied().eq((0..slab.len()).map(expected)));
    }
}
