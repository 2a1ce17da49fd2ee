//! The two matrix products of the convolution, on each path.
//!
//! `V` and `Y` are *lines* of [`pitch`](Lines::pitch) values of which the first [`columns`](Lines::columns) count. Sums run over
//! lines, or over columns, in an order that depends on the path and the shape alone.

use crate::CpuPath;

#[cfg(target_arch = "x86_64")]
use super::{gemm_avx2, gemm_avx512};

/// The shape of lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines {
    /// Columns that count: a multiple of [`columns_multiple`] for [`product`], of [`sum_multiple`] for [`gram`].
    pub(super) columns: usize,
    /// Values from a line to the next, at least `columns`.
    pub(super) pitch: usize,
}

/// Rows of a product that are computed together.
pub(super) fn rows_together(path: CpuPath) -> usize {
    match path {
        CpuPath::Avx512 | CpuPath::Amx => 8,
        CpuPath::Portable | CpuPath::Avx2 => 4,
    }
}

/// What the number of columns of a [`product`] has to be a multiple of.
pub(super) fn columns_multiple(path: CpuPath) -> usize {
    match path {
        CpuPath::Avx512 | CpuPath::Amx => 48,
        CpuPath::Avx2 => 24,
        CpuPath::Portable => 8,
    }
}

/// What the number of columns that [`gram`] sums over has to be a multiple of.
pub(super) fn sum_multiple(path: CpuPath) -> usize {
    match path {
        CpuPath::Avx512 | CpuPath::Amx => 16,
        CpuPath::Avx2 | CpuPath::Portable => 8,
    }
}

/// `out[r][t] = Σ_l weight[l][r] · v[l][t]` for [`rows_together`] rows r and all columns t; `weight` has as many rows as `v` lines.
pub(super) fn product(path: CpuPath, weight: &[f32], v: &[f32], shape: Lines, out: &mut [f32]) {
    let rows = rows_together(path);
    let depth = weight.len() / rows;
    assert!(shape.columns.is_multiple_of(columns_multiple(path)) && shape.columns <= shape.pitch);
    assert!(depth > 0 && weight.len() == depth * rows);
    assert!(v.len() >= depth * shape.pitch && out.len() >= rows * shape.pitch);
    match path {
        #[cfg(target_arch = "x86_64")]
        CpuPath::Avx512 | CpuPath::Amx => gemm_avx512::product(weight, v, shape, out),
        #[cfg(target_arch = "x86_64")]
        CpuPath::Avx2 => gemm_avx2::product(weight, v, shape, out),
        _ => product_portable(weight, v, shape, out),
    }
}

/// `sums[l][r] += Σ_t y[r][t] · v[l][t]` for [`rows_together`] lines r of `y` and as many of `v` as `sums` has; `v` may be read up to
/// [`SPARE_LINES`] further.
pub(super) fn gram(path: CpuPath, y: &[f32], v: &[f32], shape: Lines, sums: &mut [f32]) {
    let rows = rows_together(path);
    let lines = sums.len() / rows;
    assert!(shape.columns.is_multiple_of(sum_multiple(path)) && shape.columns <= shape.pitch);
    assert!(sums.len() == lines * rows && y.len() >= rows * shape.pitch);
    assert!(v.len() >= (lines + SPARE_LINES) * shape.pitch);
    match path {
        #[cfg(target_arch = "x86_64")]
        CpuPath::Avx512 | CpuPath::Amx => gemm_avx512::gram(y, v, shape, sums),
        #[cfg(target_arch = "x86_64")]
        CpuPath::Avx2 => gemm_avx2::gram(y, v, shape, sums),
        _ => gram_portable(y, v, shape, sums),
    }
}

/// Lines that must follow those of an operand whose lines are taken in blocks, which drop what they find there.
pub(super) const SPARE_LINES: usize = 7;

fn product_portable(weight: &[f32], v: &[f32], shape: Lines, out: &mut [f32]) {
    const ROWS: usize = 4;
    const WIDE: usize = 8;
    for t in (0..shape.columns).step_by(WIDE) {
        let mut acc = [[0f32; WIDE]; ROWS];
        for (weight, line) in weight.as_chunks::<ROWS>().0.iter().zip(v.chunks(shape.pitch)) {
            let x = &line[t..t + WIDE];
            for (acc, &w) in acc.iter_mut().zip(weight) {
                for (acc, &x) in acc.iter_mut().zip(x) {
                    *acc += w * x;
                }
            }
        }
        for (out, acc) in out.chunks_mut(shape.pitch).zip(acc) {
            out[t..t + WIDE].copy_from_slice(&acc);
        }
    }
}

fn gram_portable(y: &[f32], v: &[f32], shape: Lines, sums: &mut [f32]) {
    const ROWS: usize = 4;
    for (v, sums) in v.chunks(shape.pitch).zip(sums.as_chunks_mut::<ROWS>().0) {
        for (y, sum) in y.chunks(shape.pitch).zip(sums) {
            let mut lanes = [0f32; 8];
            let pairs =
                y[..shape.columns].as_chunks::<8>().0.iter().zip(v[..shape.columns].as_chunks::<8>().0);
            for (y, v) in pairs {
                for ((lane, y), v) in lanes.iter_mut().zip(y).zip(v) {
                    *lane += y * v;
                }
            }
            *sum += lanes.iter().sum::<f32>();
        }
    }
}
