//! The arithmetic on plain slices: `[image, channel, y, x]`, C order, `f32`.
//!
//! Every function takes the [`CpuPath`](crate::CpuPath) to use. Slices must have the lengths that the shape implies; the callers in
//! [`ops`](crate::ops) have checked shapes, so a wrong length is a bug of this crate and asserted. Sums are
//! split by the shape and the path alone and partial sums are added in index order, so the result does not depend on the number
//! of threads.

mod aligned;
pub(crate) mod classes;
pub(crate) mod conv;
pub(crate) mod direct;
mod gemm;
#[cfg(target_arch = "x86_64")]
mod gemm_avx2;
#[cfg(target_arch = "x86_64")]
mod gemm_avx512;
mod lanes;
pub(crate) mod norm;
mod packing;
mod planes;
pub(crate) mod pointwise;
pub(crate) mod resample;
pub(crate) mod simd;
mod winograd;

pub(crate) use aligned::Aligned;
use planes::Planes;

/// Images, channels, rows and columns of an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dims {
    pub(crate) n: usize,
    pub(crate) c: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
}

impl Dims {
    /// Pixels of a plane.
    pub(crate) fn plane(&self) -> usize {
        self.h * self.w
    }

    /// Values in total.
    pub(crate) fn len(&self) -> usize {
        self.n * self.c * self.plane()
    }

    /// The same grid with other channels.
    pub(crate) fn channels(&self, c: usize) -> Self {
        Self { c, ..*self }
    }
}

#[cfg(test)]
mod tests;
