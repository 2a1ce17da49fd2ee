//! Planes that the tasks of a parallel loop write, each its own rows.

use std::marker::PhantomData;

/// Planes of one length, lent for as long as the parallel loop runs that writes them.
#[derive(Clone, Copy)]
pub(super) struct Planes<'a> {
    start: *mut f32,
    plane: usize,
    count: usize,
    lent: PhantomData<&'a mut [f32]>,
}

// SAFETY: whoever takes a part promises that nobody else has it.
unsafe impl Send for Planes<'_> {}
// SAFETY: as above.
unsafe impl Sync for Planes<'_> {}

impl<'a> Planes<'a> {
    /// `values` as planes of `plane` > 0 values.
    pub(super) fn new(values: &'a mut [f32], plane: usize) -> Self {
        Self { start: values.as_mut_ptr(), plane, count: values.len() / plane, lent: PhantomData }
    }

    /// Values of plane `index`.
    ///
    /// # Safety
    /// Nobody else uses these values while the result lives.
    pub(super) unsafe fn part(&self, index: usize, first: usize, len: usize) -> &'a mut [f32] {
        assert!(index < self.count && first <= self.plane && len <= self.plane - first);
        // SAFETY: inside the values by the assertion; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(index * self.plane + first), len) }
    }
}
