//! What happens to the classes of each pixel: the softmax, and the partial cross-entropy with its gradient.

use super::Dims;
use super::simd::multiversion;
use crate::CpuPath;
use crate::loss::UNKNOWN;
use rayon::prelude::*;

/// Pixels handled at once.
const LANES: usize = 32;
/// Blocks of so many pixels whose sums of exponentials are multiplied before a logarithm is taken: 8 · 8 factors of at most 2⁸, a class being a
/// byte, stay finite.
const BLOCKS: usize = 8;
const FACTORS: usize = 8;

/// One value for each pixel of a block.
type Block = [f32; LANES];

/// eˣ for x ≤ 0, relative error below 2⁻²², exactly 1 at 0, 0 from e⁻⁸⁷ down; NaN stays NaN. The coefficients are those of `expf` in the Cephes library (Moshier,
/// 1992).
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding and taking away 1.5 · 2²³ rounds to a whole number, which the sum's lowest bits hold.
    const SHIFT: f32 = 12_582_912.0;
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let shifted = x * std::f32::consts::LOG2_E + SHIFT;
    let whole = shifted - SHIFT;
    let r = (x - whole * LN_2[0]) - whole * LN_2[1];
    let mut sum = 1.987_569_1e-4;
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        sum = sum * r + c;
    }
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x < -87.0 { 0.0 } else { ((sum * r) * r + r + 1.0) * power }
}

/// The values of a plane from `at` on; what is beyond its end repeats the last one.
#[inline(always)]
fn block(plane: &[f32], at: usize) -> Block {
    match plane.get(at..at + LANES).and_then(|all| all.try_into().ok()) {
        Some(all) => all,
        None => std::array::from_fn(|l| plane[(at + l).min(plane.len() - 1)]),
    }
}

/// The largest logit of each pixel.
#[inline(always)]
fn largest(x: &[f32], plane: usize, at: usize) -> Block {
    let mut largest = [f32::NEG_INFINITY; LANES];
    for x in x.chunks_exact(plane) {
        let x = block(x, at);
        for l in 0..LANES {
            largest[l] = if x[l] > largest[l] { x[l] } else { largest[l] };
        }
    }
    largest
}

multiversion! {
    /// Softmax of one image, `[class][pixel]`.
    fn softmax_image(x: &[f32], plane: usize, out: &mut [f32]) {
        for at in (0..plane).step_by(LANES) {
            let count = LANES.min(plane - at);
            let largest = largest(x, plane, at);
            let mut total = [0f32; LANES];
            for (x, out) in x.chunks_exact(plane).zip(out.chunks_exact_mut(plane)) {
                let mut e = block(x, at);
                for l in 0..LANES {
                    e[l] = exp(e[l] - largest[l]);
                    total[l] += e[l];
                }
                out[at..at + count].copy_from_slice(&e[..count]);
            }
            for out in out.chunks_exact_mut(plane) {
                for (out, total) in out[at..at + count].iter_mut().zip(&total) {
                    *out /= total;
                }
            }
        }
    }
}

/// Softmax over the channels at every pixel.
pub(crate) fn softmax(path: CpuPath, x: &[f32], d: Dims, out: &mut [f32]) {
    assert!(x.len() == d.len() && out.len() == d.len());
    let image = d.c * d.plane();
    out.par_chunks_mut(image)
        .zip(x.par_chunks(image))
        .for_each(|(out, x)| softmax_image(path, x, d.plane(), out));
}

/// Gradient of the softmax from its result `y`: dx_k = y_k·(g_k − Σ_j g_j·y_j).
pub(crate) fn softmax_backward(path: CpuPath, y: &[f32], g: &[f32], d: Dims, dx: &mut [f32]) {
    assert!(y.len() == d.len() && g.len() == d.len() && dx.len() == d.len());
    let image = d.c * d.plane();
    (dx.par_chunks_mut(image).zip(y.par_chunks(image)).zip(g.par_chunks(image)))
        .for_each(|((dx, y), g)| softmax_backward_image(path, y, g, d.plane(), dx));
}

multiversion! {
    fn softmax_backward_image(y: &[f32], g: &[f32], plane: usize, dx: &mut [f32]) {
        for at in (0..plane).step_by(LANES) {
            let count = LANES.min(plane - at);
            let mut mean = [0f32; LANES];
            for (y, g) in y.chunks_exact(plane).zip(g.chunks_exact(plane)) {
                let (y, g) = (block(y, at), block(g, at));
                for l in 0..LANES {
                    mean[l] += y[l] * g[l];
                }
            }
            for ((dx, y), g) in dx.chunks_exact_mut(plane).zip(y.chunks_exact(plane)).zip(g.chunks_exact(plane)) {
                let (y, g) = (&y[at..at + count], &g[at..at + count]);
                for (((dx, y), g), mean) in dx[at..at + count].iter_mut().zip(y).zip(g).zip(&mean) {
                    *dx = y * (g - mean);
                }
            }
        }
    }
}

/// Labels of one image, one a pixel, and what a labelled pixel weighs.
#[derive(Clone, Copy)]
pub(crate) struct Term<'a> {
    pub(crate) weight: f64,
    pub(crate) labels: &'a [u8],
}

multiversion! {
    /// Σ over two terms of weight · Σ −log p(label) over the labelled pixels of an image with logits `x`, `[class][pixel]`; its gradient goes to `dx`, exactly 0 at
    /// pixels without a label. Exponentials are in `f32`, all sums and differences of them in `f64`.
    fn cross_entropy(x: &[f32], plane: usize, terms: [Term<'_>; 2], dx: &mut [f32]) -> f64 {
        let mut sums = [[0f64; LANES]; 2];
        let mut logarithms = [0f64; 2];
        for blocks in (0..plane).step_by(BLOCKS * LANES) {
            // Σ log t = log Π t
            let mut products = [[1f64; LANES]; 2];
            for at in (blocks..plane.min(blocks + BLOCKS * LANES)).step_by(LANES) {
                let count = LANES.min(plane - at);
                let mut labels = [[UNKNOWN; LANES]; 2];
                for (labels, term) in labels.iter_mut().zip(&terms) {
                    labels[..count].copy_from_slice(&term.labels[at..at + count]);
                }
                if labels == [[UNKNOWN; LANES]; 2] {
                    dx.chunks_exact_mut(plane).for_each(|dx| dx[at..at + count].fill(0.0));
                    continue;
                }
                let largest = largest(x, plane, at);
                let mut total = [0f64; LANES];
                for (k, x) in x.chunks_exact(plane).enumerate() {
                    let x = block(x, at);
                    for l in 0..LANES {
                        let below = x[l] - largest[l];
                        total[l] += f64::from(exp(below));
                        for (sums, labels) in sums.iter_mut().zip(&labels) {
                            sums[l] -= if usize::from(labels[l]) == k { f64::from(below) } else { 0.0 };
                        }
                    }
                }
                // What a pixel's two labels weigh together, over the sum of its exponentials.
                let mut share = [0f64; LANES];
                for ((products, labels), term) in products.iter_mut().zip(&labels).zip(&terms) {
                    for l in 0..LANES {
                        let known = labels[l] != UNKNOWN;
                        products[l] *= if known { total[l] } else { 1.0 };
                        share[l] += if known { term.weight } else { 0.0 };
                    }
                }
                for l in 0..LANES {
                    share[l] /= total[l];
                }
                let planes = x.chunks_exact(plane).zip(dx.chunks_exact_mut(plane)).enumerate();
                for (k, (x, dx)) in planes {
                    let x = block(x, at);
                    let mut slope = [0f32; LANES];
                    for l in 0..LANES {
                        let of = |n: usize| if usize::from(labels[n][l]) == k { terms[n].weight } else { 0.0 };
                        let (first, second) = (of(0), of(1));
                        let known = labels[0][l] != UNKNOWN || labels[1][l] != UNKNOWN;
                        let value = share[l] * f64::from(exp(x[l] - largest[l])) - first - second;
                        slope[l] = if known { value as f32 } else { 0.0 };
                    }
                    dx[at..at + count].copy_from_slice(&slope[..count]);
                }
            }
            for (logarithm, products) in logarithms.iter_mut().zip(&products) {
                for factors in products.as_chunks::<FACTORS>().0 {
                    *logarithm += factors.iter().product::<f64>().ln();
                }
            }
        }
        let parts = terms.iter().zip(sums).zip(logarithms);
        parts.map(|((term, sums), logarithm)| term.weight * (sums.iter().sum::<f64>() + logarithm)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    multiversion! {
        fn exponentials(x: &[f32], out: &mut [f32]) {
            for (out, x) in out.iter_mut().zip(x) {
                *out = exp(*x);
            }
        }
    }

    #[test]
    fn the_exponential_is_near_the_exact_one_everywhere() {
        let x: Vec<f32> = (0..2_000_000).map(|i| -87.0 * i as f32 / 2e6).collect();
        let mut found = vec![0.0; x.len()];
        let mut before: Option<Vec<f32>> = None;
        for path in CpuPath::ALL.into_iter().filter(|path| path.is_available()) {
            exponentials(path, &x, &mut found);
            for (&x, &e) in x.iter().zip(&found) {
                let exact = f64::from(x).exp();
                assert!(
                    (f64::from(e) / exact - 1.0).abs() < 2f64.powi(-22),
                    "{path:?}: {x} gives {e}, not {exact}"
                );
            }
            assert!(before.is_none_or(|before| before == found), "{path:?}");
            before = Some(found.clone());
        }
        assert_eq!([exp(0.0), exp(-88.0), exp(f32::NEG_INFINITY)], [1.0, 0.0, 0.0]);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn softmax_and_cross_entropy_are_their_definition_and_the_same_bits_on_every_path() {
        let mut rng = ChaCha8Rng::seed_from_u64(12);
        // Less than a block of pixels, whole blocks, more than are multiplied before a logarithm.
        for (plane, classes) in [(1, 2), (37, 3), (64, 4), (1000, 2), (613, 7)] {
            // Some pixels are all but sure: a loss and a slope of 1e-13.
            let spread = |i: usize| if (i % plane).is_multiple_of(5) { 30.0 } else { 3.0 };
            let x: Vec<f32> =
                (0..classes * plane).map(|i| spread(i) * rng.random_range(-1f32..1.0)).collect();
            let labels: Vec<Vec<u8>> = (0..2)
                .map(|n| {
                    let label = |p: usize| {
                        if (p / 40 + p * n).is_multiple_of(3) {
                            UNKNOWN
                        } else {
                            rng.random_range(0..classes as u8)
                        }
                    };
                    (0..plane).map(label).collect()
                })
                .collect();
            let terms = [0, 1].map(|n| Term { weight: [0.3, 0.07][n], labels: &labels[n] });
            let d = Dims { n: 1, c: classes, h: 1, w: plane };
            let (mut expected, mut expected_y) = (0.0, vec![0f64; x.len()]);
            // Slopes, and the sizes of what adds up to them: two labels may pull against each other.
            let (mut expected_dx, mut sizes) = (vec![0f64; x.len()], vec![0f64; x.len()]);
            for p in 0..plane {
                let logit = |k: usize| f64::from(x[k * plane + p]);
                let largest = (0..classes).map(logit).fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = (0..classes).map(|k| (logit(k) - largest).exp()).sum();
                for k in 0..classes {
                    expected_y[k * plane + p] = (logit(k) - largest).exp() / total;
                }
                for term in terms.iter().filter(|term| term.labels[p] != UNKNOWN) {
                    let label = usize::from(term.labels[p]);
                    // −log p, without the digits that 1 − p loses where p is nearly 1.
                    let others: f64 =
                        (0..classes).filter(|&k| k != label).map(|k| (logit(k) - logit(label)).exp()).sum();
                    expected += term.weight * others.ln_1p();
                    for k in 0..classes {
                        let y = expected_y[k * plane + p];
                        let slope = if k == label { -others / (1.0 + others) } else { y };
                        expected_dx[k * plane + p] += term.weight * slope;
                        sizes[k * plane + p] += term.weight * slope.abs();
                    }
                }
            }
            let mut before = None;
            for path in CpuPath::ALL.into_iter().filter(|path| path.is_available()) {
                let (mut dx, mut y) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
                let loss = cross_entropy(path, &x, plane, terms, &mut dx);
                softmax(path, &x, d, &mut y);
                assert!((loss - expected).abs() <= 1e-6 * expected + 1e-9, "{loss}, not {expected}");
                // The difference of two logits of 30 is rounded by 2e-6, and by as much the exponential.
                for p in 0..dx.len() {
                    let (found, exact) = (f64::from(dx[p]), expected_dx[p]);
                    assert!((found - exact).abs() <= 4e-6 * sizes[p] + 1e-15, "{p}: {found}, not {exact}");
                    assert!((f64::from(y[p]) - expected_y[p]).abs() <= 4e-6 * expected_y[p], "{p}");
                    let unknown = labels.iter().all(|labels| labels[p % plane] == UNKNOWN);
                    assert!(!unknown || dx[p].to_bits() == 0);
                }
                let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
                let all = (loss.to_bits(), bits(&dx), bits(&y));
                assert!(before.is_none_or(|before| before == all), "{path:?}");
                before = Some(all);
            }
        }
    }

    #[test]
    fn what_is_no_number_is_seen_where_there_is_a_label_alone() {
        let x = [f32::NAN, 1.0, 2.0, 0.5];
        let mut dx = [1.0; 4];
        let loss = |labels: [u8; 2], dx: &mut [f32]| {
            let terms = [Term { weight: 1.0, labels: &labels }, Term { weight: 1.0, labels: &[UNKNOWN; 2] }];
            cross_entropy(CpuPath::Portable, &x, 2, terms, dx)
        };
        assert!(loss([0, 0], &mut dx).is_nan());
        assert!(loss([UNKNOWN, 1], &mut dx).is_finite() && dx[0] == 0.0 && dx[1] != 0.0);
    }
}
