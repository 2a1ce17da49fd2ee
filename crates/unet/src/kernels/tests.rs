//! Each path against loops that follow the definitions, in `f64`.

use super::conv::{How, Input};
use super::*;
use crate::{CpuPath, Precision};
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

fn paths() -> Vec<CpuPath> {
    CpuPath::ALL.into_iter().filter(|p| p.is_available()).collect()
}

pub(super) fn noise(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.random_range(-1.0f32..1.0)).collect()
}

pub(super) fn close(what: &str, found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
    for (i, (&f, &e)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(f) - e).abs() <= 2e-6 * scale * 4.0, "{what} at {i}: {f} instead of {e}");
    }
}

/// (dims of the input, output channels): odd sizes, single pixels, channel counts off every block size.
pub(super) const SHAPES: [(usize, usize, usize, usize, usize); 13] = [
    (1, 1, 1, 1, 1),
    (2, 3, 5, 6, 6),
    (1, 4, 8, 5, 7),
    (2, 9, 17, 12, 12),
    (3, 16, 8, 3, 33),
    (2, 8, 16, 24, 20),
    (1, 20, 10, 16, 48),
    (9, 18, 9, 6, 6),
    (2, 2, 3, 1, 40),
    (2, 2, 3, 40, 1),
    (1, 5, 8, 49, 51),
    // Several images in one line, and a row longer than a line.
    (24, 2, 5, 20, 20),
    (1, 2, 3, 3, 1100),
];

fn naive_conv(x: &[f32], weight: &[f32], d: Dims, outputs: usize) -> Vec<f64> {
    let mut out = vec![0f64; d.channels(outputs).len()];
    visit(d, outputs, |at_x, at_w, at_y| out[at_y] += f64::from(x[at_x]) * f64::from(weight[at_w]));
    out
}

/// Calls `f` with the indices of input, weight and output of every product of the convolution.
pub(super) fn visit(d: Dims, outputs: usize, mut f: impl FnMut(usize, usize, usize)) {
    for n in 0..d.n {
        for o in 0..outputs {
            for i in 0..d.c {
                for y in 0..d.h {
                    for x in 0..d.w {
                        for (ky, kx) in (0..3).flat_map(|ky| (0..3).map(move |kx| (ky, kx))) {
                            let (sy, sx) = ((y + ky).wrapping_sub(1), (x + kx).wrapping_sub(1));
                            if sy < d.h && sx < d.w {
                                f(
                                    ((n * d.c + i) * d.h + sy) * d.w + sx,
                                    ((o * d.c + i) * 3 + ky) * 3 + kx,
                                    ((n * outputs + o) * d.h + y) * d.w + x,
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn convolution_and_its_gradients_follow_the_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (n, c, outputs, h, w) in SHAPES {
        let d = Dims { n, c, h, w };
        let (x, g) = (noise(&mut rng, d.len()), noise(&mut rng, d.channels(outputs).len()));
        let weight = noise(&mut rng, outputs * c * 9);
        let expected = naive_conv(&x, &weight, d, outputs);
        let (mut dx, mut dw) = (vec![0f64; x.len()], vec![0f64; weight.len()]);
        visit(d, outputs, |at_x, at_w, at_y| {
            dx[at_x] += f64::from(weight[at_w]) * f64::from(g[at_y]);
            dw[at_w] += f64::from(x[at_x]) * f64::from(g[at_y]);
        });
        for path in paths() {
            let name = |part: &str| format!("{part} {path:?} {d:?} -> {outputs}");
            // Buffers start as NaN: every value must be written.
            let mut out = vec![f32::NAN; g.len()];
            conv::forward(path.into(), Input::plain(&x, d), &weight, outputs, &mut out);
            close(&name("forward"), &out, &expected);
            let affine: Vec<(f32, f32)> = (0..outputs).map(|o| (o as f32 - 1.5, 0.1 * o as f32)).collect();
            let planes = out.chunks_exact(d.plane()).enumerate();
            let apart: Vec<f32> = planes
                .flat_map(|(i, plane)| {
                    let (scale, shift) = affine[i % outputs];
                    plane.iter().map(move |&y| (y * scale + shift).max(0.0))
                })
                .collect();
            out.fill(f32::NAN);
            conv::forward_affine_relu(path.into(), Input::plain(&x, d), &weight, &affine, &mut out);
            assert_eq!(out, apart, "{}", name("forward with batch norm and ReLU"));
            let mut found = vec![f32::NAN; x.len()];
            conv::data_gradient(path.into(), &g, &weight, d, outputs, [&mut [], &mut found]);
            close(&name("data gradient"), &found, &dx);
            let mut found = vec![f32::NAN; weight.len()];
            conv::weight_gradient(path.into(), Input::plain(&x, d), &g, outputs, &mut found);
            close(&name("weight gradient"), &found, &dw);
        }
    }
}

#[test]
fn upsampled_channels_are_read_at_half_their_size() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    // Counts of upsampled and other channels off every block size, none of the others, and whole blocks.
    for (n, up, same, outputs, h, w) in [
        (1, 1, 1, 1, 2, 2),
        (2, 3, 2, 5, 6, 10),
        (3, 16, 8, 8, 12, 24),
        (1, 9, 0, 3, 4, 36),
        (2, 5, 17, 35, 8, 14),
    ] {
        let d = Dims { n, c: up + same, h, w };
        let low_d = Dims { n, c: up, h: h / 2, w: w / 2 };
        let (low, skip) = (noise(&mut rng, low_d.len()), noise(&mut rng, d.channels(same).len()));
        let (weight, g) = (noise(&mut rng, outputs * d.c * 9), noise(&mut rng, d.channels(outputs).len()));
        for path in paths() {
            let name = |part: &str| format!("{part} {path:?} {d:?}, {up} upsampled -> {outputs}");
            let mut joined = vec![f32::NAN; d.len()];
            resample::upsample_concat(path, &low, &skip, low_d, same, &mut joined);
            let (input, plain) = (Input { d, up, low: &low, same: &skip }, Input::plain(&joined, d));

            let (mut out, mut expected) = (vec![f32::NAN; g.len()], vec![f32::NAN; g.len()]);
            conv::forward(path.into(), input, &weight, outputs, &mut out);
            conv::forward(path.into(), plain, &weight, outputs, &mut expected);
            assert_eq!(out, expected, "{}", name("forward"));

            let (mut d_low, mut d_skip) = (vec![f32::NAN; low.len()], vec![f32::NAN; skip.len()]);
            conv::data_gradient(path.into(), &g, &weight, d, outputs, [&mut d_low, &mut d_skip]);
            let mut dx = vec![0f64; d.len()];
            visit(d, outputs, |x, w, y| dx[x] += f64::from(weight[w]) * f64::from(g[y]));
            let (mut low_sums, mut rest) = (vec![0f64; low.len()], Vec::new());
            for (plane, values) in dx.chunks_exact(d.plane()).enumerate() {
                let (image, c) = (plane / d.c, plane % d.c);
                if c >= up {
                    rest.extend_from_slice(values);
                    continue;
                }
                for (p, v) in values.iter().enumerate() {
                    low_sums[(image * up + c) * low_d.plane() + p / w / 2 * low_d.w + p % w / 2] += v;
                }
            }
            close(&name("gradient of the small planes"), &d_low, &low_sums);
            if same > 0 {
                close(&name("gradient of the others"), &d_skip, &rest);
            }

            let (mut dw, mut expected) = (vec![f32::NAN; weight.len()], vec![f32::NAN; weight.len()]);
            conv::weight_gradient(path.into(), input, &g, outputs, &mut dw);
            conv::weight_gradient(path.into(), plain, &g, outputs, &mut expected);
            let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
            close(&name("weight gradient"), &dw, &expected);
        }
    }
}

#[test]
fn transforms_give_the_same_bits_on_every_path() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for tiles in [1, 3, 8, 9, 16, 21, 40] {
        // Rows of an even and of an odd number of values, an even and an odd number of rows.
        for (w, h) in [(2 * tiles, 10), (2 * tiles - 1, 9)] {
            let plane = noise(&mut rng, w * h);
            let small = noise(&mut rng, tiles * 5);
            // What is asked for ahead changes nothing.
            let other = [f32::NAN; 3];
            let stride = 3 * tiles + 16;
            let m = noise(&mut rng, 16 * stride);
            // The first rows of tiles, those in the middle and the last one.
            for rows in [0..2, 1..4, 4..5] {
                let all = |path: CpuPath, round: bool| {
                    let mut out = vec![vec![0f32; 16 * stride]; 3];
                    winograd::input_rows(path, round, [&plane, &other], w, rows.clone(), &mut out[0], stride);
                    winograd::upsampled_rows(
                        path,
                        round,
                        [&small, &[]],
                        tiles,
                        rows.clone(),
                        &mut out[1],
                        stride,
                    );
                    winograd::gradient_rows(
                        path,
                        round,
                        [&plane, &other],
                        w,
                        rows.clone(),
                        &mut out[2],
                        stride,
                    );
                    let pixels = w * (h.min(2 * rows.end) - 2 * rows.start);
                    let mut results = [pixels, tiles * rows.len()].map(|len| vec![f32::NAN; len]);
                    let [pixels, sums] = &mut results;
                    winograd::output_rows(path, &m, stride, w, pixels);
                    winograd::sum_rows(path, &m, stride, sums);
                    // What is written too much after the last tile is nobody's business.
                    let kept = |values: &[f32], each: usize, pitch: usize| -> Vec<u32> {
                        values
                            .chunks(pitch)
                            .flat_map(|line| line[..each].iter().map(|v| v.to_bits()))
                            .collect()
                    };
                    let mut bits: Vec<Vec<u32>> =
                        out.iter().map(|v| kept(v, tiles * rows.len(), stride)).collect();
                    bits.extend(results.iter().map(|v| kept(v, v.len(), v.len())));
                    bits
                };
                for round in [false, true] {
                    let expected = all(CpuPath::Portable, round);
                    for path in paths() {
                        assert!(
                            all(path, round) == expected,
                            "{path:?}, {tiles} tiles, {w} values, rows {rows:?}, {round}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn bf16_rounds_the_factors_and_nothing_else() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let d = Dims { n: 2, c: 19, h: 10, w: 14 };
    let (outputs, up) = (6, 7);
    let how = How::new;
    // Small integers stay exact through every transform, so that there is nothing to round.
    let small = |rng: &mut ChaCha8Rng, count: usize, factor: f32| -> Vec<f32> {
        (0..count).map(|_| factor * rng.random_range(-3..=3) as f32).collect()
    };
    let noise = |rng: &mut ChaCha8Rng, count: usize, _: f32| noise(rng, count);
    for exact in [true, false] {
        let mut draw = |count, factor| match exact {
            true => small(&mut rng, count, factor),
            false => noise(&mut rng, count, factor),
        };
        // G halves twice.
        let (x, g, weight) =
            (draw(d.len(), 1.0), draw(d.channels(outputs).len(), 1.0), draw(outputs * d.c * 9, 4.0));
        for path in paths() {
            let all = |precision| {
                let how = how(path, precision);
                let low = &x[..d.channels(up).len() / 4];
                let same = &x[x.len() - d.channels(d.c - up).len()..];
                let input = Input { d, up, low, same };
                let (mut out, mut dw) = (vec![f32::NAN; g.len()], vec![f32::NAN; weight.len()]);
                let (mut d_low, mut d_same) = (vec![f32::NAN; low.len()], vec![f32::NAN; same.len()]);
                conv::forward(how, input, &weight, outputs, &mut out);
                conv::data_gradient(how, &g, &weight, d, outputs, [&mut d_low, &mut d_same]);
                conv::weight_gradient(how, input, &g, outputs, &mut dw);
                [out, d_low, d_same, dw]
            };
            for (rounded, full) in all(Precision::Bf16).iter().zip(&all(Precision::F32)) {
                if exact {
                    assert_eq!(rounded, full, "{path:?}");
                    continue;
                }
                let norm = |v: &[f32]| v.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
                let difference: Vec<f32> = rounded.iter().zip(full).map(|(a, b)| a - b).collect();
                let error = norm(&difference) / norm(full);
                // Two factors, each off by at most 2⁻⁸ and by less than half of that in the mean, and the transforms' gain.
                assert!((5e-4..6e-3).contains(&error), "{path:?}: {error}");
            }
        }
    }
}

#[test]
fn many_channels_are_shared_out_without_a_trace() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let (d, outputs) = (Dims { n: 2, c: 70, h: 6, w: 6 }, 133);
    let (x, g) = (noise(&mut rng, d.len()), noise(&mut rng, d.channels(outputs).len()));
    for path in paths() {
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut dw = vec![f32::NAN; outputs * d.c * 9];
            pool.install(|| conv::weight_gradient(path.into(), Input::plain(&x, d), &g, outputs, &mut dw));
            dw
        };
        let one = with(1);
        let mut expected = vec![0f64; one.len()];
        visit(d, outputs, |x_at, w, y| expected[w] += f64::from(x[x_at]) * f64::from(g[y]));
        close("weight gradient", &one, &expected);
        for threads in [3, 16] {
            assert!(with(threads) == one, "{path:?} at {threads} threads");
        }
    }
}

#[test]
fn values_outside_the_image_never_leak_in() {
    // A plane of NaN beside the one that is used would poison the result if a tap crossed over.
    let d = Dims { n: 3, c: 1, h: 5, w: 7 };
    let mut x = vec![f32::NAN; d.len()];
    x[d.plane()..2 * d.plane()].fill(1.0);
    for path in paths() {
        let mut out = vec![0f32; d.len()];
        conv::forward(path.into(), Input::plain(&x, d), &[1.0; 9], 1, &mut out);
        let middle = &out[d.plane()..2 * d.plane()];
        assert!(middle.iter().all(|v| v.is_finite()), "{path:?}");
        assert_eq!((middle[0], middle[1], middle[8]), (4.0, 6.0, 9.0), "{path:?}");
    }
}

#[test]
fn elementwise_kernels_give_the_same_bits_on_every_path() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for (n, c, _, h, w) in SHAPES {
        let d = Dims { n, c, h: 2 * h, w: 2 * w };
        let (x, g) = (noise(&mut rng, d.len()), noise(&mut rng, d.len()));
        let (gamma, beta) = (noise(&mut rng, c), noise(&mut rng, c));
        let small = Dims { n, c, h, w };
        let low = noise(&mut rng, small.len());
        let results: Vec<Vec<f32>> = paths()
            .into_iter()
            .map(|path| {
                let moments = norm::moments(path, &x, d);
                let (mut y, mut dx) = (vec![0f32; x.len()], g.clone());
                norm::forward(path, &x, d, &moments, &gamma, &beta, &mut y);
                let (dg, db) = norm::backward(path, &x, d, &moments, &gamma, &beta, true, &mut dx);
                let mut pooled = vec![0f32; low.len()];
                resample::pool(path, &x, d, &mut pooled);
                resample::pool_backward_add(path, &x, d, &low, &mut dx);
                let mut joined = vec![0f32; 2 * x.len()];
                resample::upsample_concat(path, &low, &x, small, c, &mut joined);
                let (mut d_low, mut d_skip) = (vec![0f32; low.len()], vec![0f32; x.len()]);
                resample::upsample_concat_backward(path, &joined, small, c, &mut d_low, &mut d_skip);
                let (hw, hb) = pointwise::conv1x1_weight_gradient(path, &x, &g, d, c);
                [y, dx, dg, db, pooled, joined, d_low, d_skip, hw, hb].concat()
            })
            .collect();
        for other in &results[1..] {
            assert!(results[0].iter().zip(other).all(|(a, b)| a.to_bits() == b.to_bits()), "{d:?}");
        }
    }
}

#[test]
fn moments_survive_a_mean_far_from_zero() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let d = Dims { n: 4, c: 2, h: 37, w: 41 };
    let x: Vec<f32> = noise(&mut rng, d.len()).into_iter().map(|v| 1000.0 + v).collect();
    for path in paths() {
        for (c, found) in norm::moments(path, &x, d).into_iter().enumerate() {
            let channel =
                || (0..d.n).flat_map(|n| &x[(n * 2 + c) * d.plane()..][..d.plane()]).map(|&v| f64::from(v));
            let count = (d.n * d.plane()) as f64;
            let mean = channel().sum::<f64>() / count;
            let variance = channel().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
            assert!((found.mean - mean).abs() < 1e-6 * mean, "{path:?}");
            assert!((found.variance - variance).abs() < 1e-5 * variance, "{path:?}");
        }
    }
}

#[test]
fn pooling_sends_the_gradient_to_the_first_maximum() {
    let d = Dims { n: 1, c: 1, h: 2, w: 8 };
    let x = [1.0, 1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 0.0, 4.0];
    for path in paths() {
        let mut pooled = [0f32; 4];
        resample::pool(path, &x, d, &mut pooled);
        assert_eq!(pooled, [1.0, 2.0, 3.0, 4.0]);
        let mut dx = [0f32; 16];
        resample::pool_backward_add(path, &x, d, &[1.0, 2.0, 3.0, 4.0], &mut dx);
        let expected = [1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 4.0];
        assert_eq!(dx, expected, "{path:?}");
    }
}
