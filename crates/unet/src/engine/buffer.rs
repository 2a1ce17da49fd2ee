//! Buffers that are used again at the next step.
//!
//! A training step needs hundreds of megabytes of activations. Asking the system for them anew every time costs as much as
//! the arithmetic, since each fresh page has to be cleared.

use crate::init::lock;
use crate::kernels::Aligned;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

/// Buffers waiting for their next use, all of them for one shape of input.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    key: [usize; 3],
    free: Vec<Aligned>,
}

impl Pool {
    /// Prepares for inputs of `key` = (images, rows, columns). Buffers of another shape are given back to the system.
    pub(crate) fn prepare(&self, key: [usize; 3]) {
        let mut shelf = lock(&self.0);
        if shelf.key != key {
            *shelf = Shelf { key, free: Vec::new() };
        }
    }

    /// A buffer of `len` values with arbitrary contents.
    pub(crate) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let (kept, key) = {
            let mut shelf = lock(&self.0);
            let found = shelf.free.iter().rposition(|b| b.len() == len);
            (found.map(|i| shelf.free.swap_remove(i)), shelf.key)
        };
        Buffer { values: kept.unwrap_or_else(|| Aligned::zeros(len)), pool: Arc::clone(self), key }
    }

    /// A buffer with the given contents.
    pub(crate) fn copy(self: &Arc<Self>, values: &[f32]) -> Buffer {
        let mut buffer = self.take(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

/// Values on loan from a [`Pool`], returned when dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    values: Aligned,
    pool: Arc<Pool>,
    key: [usize; 3],
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.values
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut shelf = lock(&self.pool.0);
        if shelf.key == self.key {
            shelf.free.push(std::mem::take(&mut self.values));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_until_the_shape_changes() {
        let pool = Arc::new(Pool::default());
        pool.prepare([1, 2, 3]);
        let address = {
            let mut buffer = pool.copy(&[1.0, 2.0]);
            buffer[0] = 3.0;
            buffer.as_ptr()
        };
        let again = pool.take(2);
        assert_eq!((again.as_ptr(), &*again), (address, &[3.0, 2.0][..]));
        pool.prepare([1, 2, 4]);
        drop(again);
        assert!(lock(&pool.0).free.is_empty(), "a buffer of the old shape must not pile up");
    }
}
