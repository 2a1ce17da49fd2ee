//! Batch normalisation fused with ReLU: y = max(0, γ·(x − μ)/√(σ² + ε) + β), per channel over images and pixels.
//!
//! The variance that normalises is the biased one (divided by the number of values), as is usual.

use super::Dims;
use super::simd::multiversion;
use crate::CpuPath;
use rayon::prelude::*;

/// ε of every batch norm: what is added to the variance.
pub const EPSILON: f64 = 1e-5;

/// (scale, shift) of one channel, such that its normalisation is scale·x + shift.
pub(crate) type Affine = (f32, f32);

/// Mean and biased variance of one channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Moments {
    pub(crate) mean: f64,
    pub(crate) variance: f64,
}

impl Moments {
    fn inverse_deviation(&self) -> f64 {
        1.0 / (self.variance + EPSILON).sqrt()
    }

    fn affine(&self, gamma: f32, beta: f32) -> Affine {
        let scale = f64::from(gamma) * self.inverse_deviation();
        (scale as f32, (f64::from(beta) - self.mean * scale) as f32)
    }
}

/// Values summed in `f32` lanes before they are added up in `f64`.
const CHUNK: usize = 2048;
const LANES: usize = 32;

multiversion! {
    /// (Σ (x − shift), Σ (x − shift)²) over a plane.
    fn plane_sums(x: &[f32], shift: f32) -> (f64, f64) {
        let (mut total, mut total_squares) = (0f64, 0f64);
        for chunk in x.chunks(CHUNK) {
            let (mut sums, mut squares) = ([0f32; LANES], [0f32; LANES]);
            let mut pieces = chunk.chunks_exact(LANES);
            for piece in &mut pieces {
                for l in 0..LANES {
                    let v = piece[l] - shift;
                    sums[l] += v;
                    squares[l] += v * v;
                }
            }
            for (l, &x) in pieces.remainder().iter().enumerate() {
                let v = x - shift;
                sums[l] += v;
                squares[l] += v * v;
            }
            total += f64::from(sums.iter().sum::<f32>());
            total_squares += f64::from(squares.iter().sum::<f32>());
        }
        (total, total_squares)
    }
}

multiversion! {
    /// out = max(0, scale·x + shift)
    fn plane_affine_relu(x: &[f32], scale: f32, shift: f32, out: &mut [f32]) {
        for (o, &x) in out.iter_mut().zip(x) {
            *o = (x * scale + shift).max(0.0);
        }
    }
}

multiversion! {
    /// x ← max(0, scale·x + shift)
    fn affine_relu(x: &mut [f32], affine: Affine) {
        let (scale, shift) = affine;
        for x in x {
            *x = (*x * scale + shift).max(0.0);
        }
    }
}

multiversion! {
    /// (Σ g', Σ g'·(x − mean)) over a plane, where g' is `g` at the pixels that passed the ReLU.
    fn plane_gradient_sums(x: &[f32], g: &[f32], scale: f32, shift: f32, mean: f32) -> (f64, f64) {
        let (mut total, mut total_products) = (0f64, 0f64);
        for (x, g) in x.chunks(CHUNK).zip(g.chunks(CHUNK)) {
            let (mut sums, mut products) = ([0f32; LANES], [0f32; LANES]);
            let (mut xs, mut gs) = (x.chunks_exact(LANES), g.chunks_exact(LANES));
            for (x, g) in (&mut xs).zip(&mut gs) {
                for l in 0..LANES {
                    let g = if x[l] * scale + shift > 0.0 { g[l] } else { 0.0 };
                    sums[l] += g;
                    products[l] += g * (x[l] - mean);
                }
            }
            for (l, (&x, &g)) in xs.remainder().iter().zip(gs.remainder()).enumerate() {
                let g = if x * scale + shift > 0.0 { g } else { 0.0 };
                sums[l] += g;
                products[l] += g * (x - mean);
            }
            total += f64::from(sums.iter().sum::<f32>());
            total_products += f64::from(products.iter().sum::<f32>());
        }
        (total, total_products)
    }
}

multiversion! {
    /// g ← scale·g' + a·x + b, g' as above: the gradient of the normalisation's input, in place.
    fn plane_gradient(x: &[f32], g: &mut [f32], scale: f32, shift: f32, a: f32, b: f32) {
        for (g, &x) in g.iter_mut().zip(x) {
            let passed = if x * scale + shift > 0.0 { *g } else { 0.0 };
            *g = scale * passed + (a * x + b);
        }
    }
}

/// Mean and biased variance of every channel.
pub(crate) fn moments(path: CpuPath, x: &[f32], d: Dims) -> Vec<Moments> {
    assert_eq!(x.len(), d.len());
    let plane = d.plane();
    let count = (d.n * plane) as f64;
    // Sums about a value of the channel itself: no cancellation when the mean is far from zero.
    let shift_of = |c: usize| x[c * plane];
    let sums: Vec<(f64, f64)> =
        x.par_chunks(plane).enumerate().map(|(i, x)| plane_sums(path, x, shift_of(i % d.c))).collect();
    (0..d.c)
        .map(|c| {
            let (mut sum, mut squares) = (0.0, 0.0);
            for image in 0..d.n {
                sum += sums[image * d.c + c].0;
                squares += sums[image * d.c + c].1;
            }
            let offset = sum / count;
            Moments {
                mean: f64::from(shift_of(c)) + offset,
                variance: (squares / count - offset * offset).max(0.0),
            }
        })
        .collect()
}

/// The normalisation of every channel.
pub(crate) fn affine(moments: &[Moments], gamma: &[f32], beta: &[f32]) -> Vec<Affine> {
    assert!(moments.len() == gamma.len() && moments.len() == beta.len());
    moments.iter().zip(gamma.iter().zip(beta)).map(|(m, (&gamma, &beta))| m.affine(gamma, beta)).collect()
}

/// `out` = ReLU(batch norm(`x`)) with the given moments.
pub(crate) fn forward(
    path: CpuPath,
    x: &[f32],
    d: Dims,
    moments: &[Moments],
    gamma: &[f32],
    beta: &[f32],
    out: &mut [f32],
) {
    assert!(x.len() == d.len() && out.len() == d.len());
    assert!(moments.len() == d.c && gamma.len() == d.c && beta.len() == d.c);
    out.par_chunks_mut(d.plane()).zip(x.par_chunks(d.plane())).enumerate().for_each(|(i, (out, x))| {
        let c = i % d.c;
        let (scale, shift) = moments[c].affine(gamma[c], beta[c]);
        plane_affine_relu(path, x, scale, shift, out);
    });
}

/// Turns `g`, the gradient of the output, into the gradient of `x`, in place, and returns those of γ and β.
///
/// With `batch` the moments came from `x` itself and take part in the gradient; without, they were constants.
pub(crate) fn backward(
    path: CpuPath,
    x: &[f32],
    d: Dims,
    moments: &[Moments],
    gamma: &[f32],
    beta: &[f32],
    batch: bool,
    g: &mut [f32],
) -> (Vec<f32>, Vec<f32>) {
    assert!(x.len() == d.len() && g.len() == d.len());
    assert!(moments.len() == d.c && gamma.len() == d.c && beta.len() == d.c);
    let (plane, count) = (d.plane(), (d.n * d.plane()) as f64);
    let sums: Vec<(f64, f64)> = (x.par_chunks(plane).zip(g.par_chunks(plane)).enumerate())
        .map(|(i, (x, g))| {
            let c = i % d.c;
            let (scale, shift) = moments[c].affine(gamma[c], beta[c]);
            plane_gradient_sums(path, x, g, scale, shift, moments[c].mean as f32)
        })
        .collect();
    let (mut d_gamma, mut d_beta) = (vec![0f32; d.c], vec![0f32; d.c]);
    // The input's gradient is scale·(g' − mean(g') − x̂·mean(g'·x̂)) = scale·g' + a·x + b.
    let mut line = vec![(0f32, 0f32); d.c];
    for c in 0..d.c {
        let (mut sum, mut products) = (0.0, 0.0);
        for image in 0..d.n {
            sum += sums[image * d.c + c].0;
            products += sums[image * d.c + c].1;
        }
        let inverse = moments[c].inverse_deviation();
        d_beta[c] = sum as f32;
        d_gamma[c] = (products * inverse) as f32;
        if batch {
            let scale = f64::from(gamma[c]) * inverse;
            let a = -scale * products * inverse * inverse / count;
            line[c] = (a as f32, (-scale * sum / count - a * moments[c].mean) as f32);
        }
    }
    g.par_chunks_mut(plane).zip(x.par_chunks(plane)).enumerate().for_each(|(i, (g, x))| {
        let c = i % d.c;
        let (scale, shift) = moments[c].affine(gamma[c], beta[c]);
        plane_gradient(path, x, g, scale, shift, line[c].0, line[c].1);
    });
    (d_gamma, d_beta)
}
