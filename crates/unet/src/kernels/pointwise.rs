//! What happens at each pixel alone: the 1 × 1 convolution of the last layer.

use super::Dims;
use super::simd::multiversion;
use crate::CpuPath;
use rayon::prelude::*;

/// Pixels handled at once, few enough for the values of all channels to stay in the nearest caches.
const BLOCK: usize = 1024;

multiversion! {
    /// out += factor·x
    fn add_scaled(factor: f32, x: &[f32], out: &mut [f32]) {
        for (o, &x) in out.iter_mut().zip(x) {
            *o += factor * x;
        }
    }
}

multiversion! {
    /// Σ a·b in `f32` lanes over 2048 values at a time, then in `f64`.
    fn dot(a: &[f32], b: &[f32]) -> f64 {
        let mut total = 0f64;
        for (a, b) in a.chunks(2048).zip(b.chunks(2048)) {
            let mut lanes = [0f32; 32];
            let (mut xs, mut ys) = (a.chunks_exact(32), b.chunks_exact(32));
            for (x, y) in (&mut xs).zip(&mut ys) {
                for l in 0..32 {
                    lanes[l] += x[l] * y[l];
                }
            }
            for (l, (x, y)) in xs.remainder().iter().zip(ys.remainder()).enumerate() {
                lanes[l] += x * y;
            }
            total += f64::from(lanes.iter().sum::<f32>());
        }
        total
    }
}

multiversion! {
    /// Σ x in `f32` lanes over 2048 values at a time, then in `f64`.
    fn sum(x: &[f32]) -> f64 {
        let mut total = 0f64;
        for x in x.chunks(2048) {
            let mut lanes = [0f32; 32];
            let mut pieces = x.chunks_exact(32);
            for piece in &mut pieces {
                for l in 0..32 {
                    lanes[l] += piece[l];
                }
            }
            for (l, x) in pieces.remainder().iter().enumerate() {
                lanes[l] += x;
            }
            total += f64::from(lanes.iter().sum::<f32>());
        }
        total
    }
}

/// `out[n, o] = bias[o] + Σ_i weight[o, i]·x[n, i]` for every pixel; `d` is the shape of `x`.
pub(crate) fn conv1x1(path: CpuPath, x: &[f32], weight: &[f32], bias: &[f32], d: Dims, out: &mut [f32]) {
    let (plane, outputs) = (d.plane(), bias.len());
    assert!(x.len() == d.len() && weight.len() == outputs * d.c && out.len() == d.n * outputs * plane);
    (out.par_chunks_mut(outputs * plane).zip(x.par_chunks(d.c * plane))).for_each(|(out, x)| {
        for start in (0..plane).step_by(BLOCK) {
            let end = (start + BLOCK).min(plane);
            for o in 0..outputs {
                let out = &mut out[o * plane..][start..end];
                out.fill(bias[o]);
                for i in 0..d.c {
                    add_scaled(path, weight[o * d.c + i], &x[i * plane..][start..end], out);
                }
            }
        }
    });
}

/// `dx[n, i] = Σ_o weight[o, i]·g[n, o]`.
pub(crate) fn conv1x1_data_gradient(path: CpuPath, g: &[f32], weight: &[f32], d: Dims, dx: &mut [f32]) {
    let plane = d.plane();
    let outputs = weight.len() / d.c;
    assert!(g.len() == d.n * outputs * plane && dx.len() == d.len());
    (dx.par_chunks_mut(d.c * plane).zip(g.par_chunks(outputs * plane))).for_each(|(dx, g)| {
        for start in (0..plane).step_by(BLOCK) {
            let end = (start + BLOCK).min(plane);
            for i in 0..d.c {
                let dx = &mut dx[i * plane..][start..end];
                dx.fill(0.0);
                for o in 0..outputs {
                    add_scaled(path, weight[o * d.c + i], &g[o * plane..][start..end], dx);
                }
            }
        }
    });
}

/// The gradients of the weight `[outputs, d.c]` and of the bias.
pub(crate) fn conv1x1_weight_gradient(
    path: CpuPath,
    x: &[f32],
    g: &[f32],
    d: Dims,
    outputs: usize,
) -> (Vec<f32>, Vec<f32>) {
    let plane = d.plane();
    assert!(x.len() == d.len() && g.len() == d.n * outputs * plane);
    let row = d.c + 1;
    // One image at a time, each giving [outputs][d.c + 1] sums; added in the order of the images.
    let partial: Vec<Vec<f64>> = (x.par_chunks(d.c * plane).zip(g.par_chunks(outputs * plane)))
        .map(|(x, g)| {
            let mut sums = vec![0f64; outputs * row];
            for start in (0..plane).step_by(BLOCK) {
                let end = (start + BLOCK).min(plane);
                for o in 0..outputs {
                    let g = &g[o * plane..][start..end];
                    for i in 0..d.c {
                        sums[o * row + i] += dot(path, &x[i * plane..][start..end], g);
                    }
                    sums[o * row + d.c] += sum(path, g);
                }
            }
            sums
        })
        .collect();
    let total = |k: usize| partial.iter().map(|image| image[k]).sum::<f64>() as f32;
    let weight = (0..outputs * d.c).map(|k| total(k / d.c * row + k % d.c)).collect();
    (weight, (0..outputs).map(|o| total(o * row + d.c)).collect())
}
