//! The convolution in plain Rust: every inner loop runs along a row, which any compiler vectorises.

use super::Dims;
use super::conv::{TAPS, offset};
use super::norm::{Affine, affine_relu};
use crate::CpuPath;
use rayon::prelude::*;

/// Where a tap shifted by `d` reads inside a line of `len`: (first output index, first input index, length).
fn overlap(len: usize, d: isize) -> (usize, usize, usize) {
    let to = (-d).max(0) as usize;
    let from = d.max(0) as usize;
    (to, from, len.saturating_sub(d.unsigned_abs()))
}

pub(super) fn forward(
    input: &[f32],
    weight: &[f32],
    d: Dims,
    outputs: usize,
    affine: Option<&[Affine]>,
    out: &mut [f32],
) {
    let (plane, w) = (d.plane(), d.w);
    out.par_chunks_mut(plane).enumerate().for_each(|(index, out)| {
        let (image, o) = (index / outputs, index % outputs);
        let input = &input[image * d.c * plane..][..d.c * plane];
        let kernels = &weight[o * d.c * TAPS..][..d.c * TAPS];
        for (y, row) in out.chunks_exact_mut(w).enumerate() {
            row.fill(0.0);
            for (channel, kernel) in input.chunks_exact(plane).zip(kernels.chunks_exact(TAPS)) {
                for (k, &value) in kernel.iter().enumerate() {
                    let (dy, dx) = offset(k);
                    let Some(source) = y.checked_add_signed(dy).filter(|&s| s < d.h) else { continue };
                    let (to, from, len) = overlap(w, dx);
                    let source = &channel[source * w + from..][..len];
                    for (acc, &x) in row[to..to + len].iter_mut().zip(source) {
                        *acc += value * x;
                    }
                }
            }
        }
        if let Some(affine) = affine {
            affine_relu(CpuPath::Portable, out, affine[o]);
        }
    });
}

pub(super) fn weight_gradient(input: &[f32], d_out: &[f32], d: Dims, outputs: usize, d_weight: &mut [f32]) {
    let (plane, w) = (d.plane(), d.w);
    d_weight.par_chunks_mut(TAPS).enumerate().for_each(|(index, taps)| {
        let (o, i) = (index / d.c, index % d.c);
        let mut sums = [0f64; TAPS];
        for image in 0..d.n {
            let x = &input[(image * d.c + i) * plane..][..plane];
            let g = &d_out[(image * outputs + o) * plane..][..plane];
            for (y, g_row) in g.chunks_exact(w).enumerate() {
                for (k, sum) in sums.iter_mut().enumerate() {
                    let (dy, dx) = offset(k);
                    let Some(source) = y.checked_add_signed(dy).filter(|&s| s < d.h) else { continue };
                    let (to, from, len) = overlap(w, dx);
                    *sum += f64::from(dot(&g_row[to..to + len], &x[source * w + from..][..len]));
                }
            }
        }
        for (tap, sum) in taps.iter_mut().zip(sums) {
            *tap = sum as f32;
        }
    });
}

/// Σ a·b in eight interleaved partial sums.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a8.zip(b8) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += x * y;
        }
    }
    lanes.iter().sum::<f32>() + tail
}
