//! Room that starts where a line of the cache does.

use std::ops::{Deref, DerefMut};

/// Values of a line of the cache, 64 bytes.
const LINE: usize = 16;

/// Values of which the first lies at the start of a cache's line: vectors that cross from a line to the next take twice as long to read and write, and what an
/// allocator gives is odd by 16 bytes more often than not.
#[derive(Debug, Default)]
pub(crate) struct Aligned {
    values: Vec<f32>,
    start: usize,
    len: usize,
}

impl Aligned {
    pub(crate) fn zeros(len: usize) -> Self {
        let values = vec![0.0f32; len + LINE - 1];
        // The standard library does not promise to find the place; nothing but time depends on it.
        let start = values.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE - 1);
        Self { values, start, len }
    }

    /// Makes room for at least `len` values, of arbitrary contents.
    pub(crate) fn reserve(&mut self, len: usize) {
        if self.len < len {
            *self = Self::zeros(len);
        }
    }
}

impl Deref for Aligned {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.values[self.start..][..self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[self.start..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_start_at_a_line_and_room_grows_alone() {
        for len in [0, 1, 100, 70_000] {
            let mut room = Aligned::zeros(len);
            assert!(room.len() == len && room.iter().all(|&v| v == 0.0));
            assert!(room.as_ptr().addr().is_multiple_of(64));
            room.reserve(len / 2);
            assert_eq!(room.len(), len);
            room.reserve(len + 5);
            assert!(room.len() == len + 5 && room.as_ptr().addr().is_multiple_of(64));
        }
    }
}
