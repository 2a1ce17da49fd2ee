//! The direct convolution on emulated tiles, and on real ones where there are some, against its definition in `f64` with factors rounded to `bf16`.

use super::super::conv::{self, How, Input};
use super::super::lanes::to_bf16;
use super::super::tests::{SHAPES, close, noise, visit};
use super::super::{Dims, resample};
use crate::{CpuPath, Precision};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

/// Emulated tiles beside the vectors of each path, and the processor's own tiles.
fn ways() -> Vec<How> {
    let there = CpuPath::ALL.into_iter().filter(|path| path.is_available());
    let new = |path| How::new(path, Precision::Bf16);
    let emulated = there.clone().map(|path| How { emulated: true, ..new(path) });
    emulated.chain(there.filter(|&path| path == CpuPath::Amx).map(new)).collect()
}

fn rounded(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(to_bf16(v))).collect()
}

/// A convolution with noise for operands, and what it and its gradients should be.
struct Case {
    d: Dims,
    up: usize,
    outputs: usize,
    low: Vec<f32>,
    same: Vec<f32>,
    weight: Vec<f32>,
    g: Vec<f32>,
}

impl Case {
    fn new(rng: &mut ChaCha8Rng, d: Dims, up: usize, outputs: usize) -> Self {
        Self {
            d,
            up,
            outputs,
            low: noise(rng, d.channels(up).len() / 4),
            same: noise(rng, d.channels(d.c - up).len()),
            weight: noise(rng, outputs * d.c * 9),
            g: noise(rng, d.channels(outputs).len()),
        }
    }

    fn input(&self) -> Input<'_> {
        Input { d: self.d, up: self.up, low: &self.low, same: &self.same }
    }

    /// The result, the gradients of both parts of the input, and that of the kernels. Buffers start as NaN: every value must be written.
    fn run(&self, how: How) -> [Vec<f32>; 4] {
        let nan = |len: usize| vec![f32::NAN; len];
        let (mut out, mut d_weight) = (nan(self.g.len()), nan(self.weight.len()));
        let (mut d_low, mut d_same) = (nan(self.low.len()), nan(self.same.len()));
        conv::forward(how, self.input(), &self.weight, self.outputs, &mut out);
        let targets = [&mut d_low[..], &mut d_same];
        conv::data_gradient(how, &self.g, &self.weight, self.d, self.outputs, targets);
        conv::weight_gradient(how, self.input(), &self.g, self.outputs, &mut d_weight);
        [out, d_low, d_same, d_weight]
    }

    /// The same by definition.
    fn expected(&self) -> [Vec<f64>; 4] {
        let (d, same) = (self.d, self.d.c - self.up);
        let mut joined = vec![0f32; d.len()];
        let small = Dims { c: self.up, h: d.h / 2, w: d.w / 2, ..d };
        match self.up {
            0 => joined.copy_from_slice(&self.same),
            _ => {
                resample::upsample_concat(CpuPath::Portable, &self.low, &self.same, small, same, &mut joined)
            }
        }
        let (x, weight, g) = (rounded(&joined), rounded(&self.weight), rounded(&self.g));
        let (mut out, mut dx, mut dw) = (vec![0f64; g.len()], vec![0f64; x.len()], vec![0f64; weight.len()]);
        visit(d, self.outputs, |at_x, at_w, at_y| {
            out[at_y] += x[at_x] * weight[at_w];
            dx[at_x] += weight[at_w] * g[at_y];
            dw[at_w] += x[at_x] * g[at_y];
        });
        let (mut d_low, mut d_same) = (vec![0f64; self.low.len()], Vec::new());
        for (n, values) in dx.chunks_exact(d.plane()).enumerate() {
            let (image, c) = (n / d.c, n % d.c);
            if c >= self.up {
                d_same.extend_from_slice(values);
                continue;
            }
            for (p, v) in values.iter().enumerate() {
                d_low[(image * self.up + c) * small.plane() + p / d.w / 2 * small.w + p % d.w / 2] += v;
            }
        }
        [out, d_low, d_same, dw]
    }

    fn check(&self) {
        let expected = self.expected();
        for how in ways() {
            let names = [
                "result",
                "gradient of the small planes",
                "gradient of the others",
                "gradient of the kernels",
            ];
            for ((found, expected), name) in self.run(how).iter().zip(&expected).zip(names) {
                close(
                    &format!("{name}, {how:?}, {:?}, {} -> {}", self.d, self.up, self.outputs),
                    found,
                    expected,
                );
            }
        }
    }
}

#[test]
fn convolution_and_its_gradients_follow_the_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    // Those of a U-Net's first and middle levels too; a sum in several even steps, and in steps that do not come out even; 16, 32 and more rows.
    let more =
        [(1, 4, 16, 20, 36), (2, 16, 16, 10, 70), (1, 48, 17, 6, 18), (2, 33, 40, 5, 9), (3, 64, 64, 8, 8)];
    for (n, c, outputs, h, w) in SHAPES.into_iter().chain(more) {
        Case::new(&mut rng, Dims { n, c, h, w }, 0, outputs).check();
    }
}

#[test]
fn upsampled_channels_are_read_at_half_their_size() {
    let mut rng = ChaCha8Rng::seed_from_u64(22);
    for (n, up, same, outputs, h, w) in [
        (1, 1, 1, 1, 2, 2),
        (2, 3, 2, 5, 6, 10),
        (3, 16, 8, 8, 12, 24),
        (1, 9, 0, 3, 4, 36),
        (2, 5, 17, 35, 8, 14),
        (1, 32, 16, 16, 16, 32),
    ] {
        Case::new(&mut rng, Dims { n, c: up + same, h, w }, up, outputs).check();
    }
}

#[test]
fn any_width_of_a_network_and_many_segments() {
    let mut rng = ChaCha8Rng::seed_from_u64(23);
    for width in [4, 8, 32, 64] {
        let d = Dims { n: 2, c: width, h: 6, w: 12 };
        Case::new(&mut rng, d, 0, width).check();
        Case::new(&mut rng, d.channels(3 * width), 2 * width, width).check();
    }
    // Rows of an image in two segments, the second with fewer.
    Case::new(&mut rng, Dims { n: 2, c: 96, h: 101, w: 20 }, 0, 16).check();
    // More images in a part than are added up at once.
    Case::new(&mut rng, Dims { n: 50, c: 130, h: 2, w: 2 }, 0, 130).check();
}

#[test]
fn nothing_leaks_in_from_other_images_or_earlier_passes() {
    let mut rng = ChaCha8Rng::seed_from_u64(24);
    let d = Dims { n: 3, c: 3, h: 5, w: 7 };
    let mut case = Case::new(&mut rng, d, 0, 2);
    let poison = Case {
        same: vec![f32::NAN; 8 * 3 * 400],
        ..Case::new(&mut rng, Dims { n: 8, h: 20, w: 20, ..d }, 0, 2)
    };
    let expected = case.expected();
    for how in ways() {
        assert!(poison.run(how)[0].iter().all(|v| v.is_nan()));
        for (found, expected) in case.run(how).iter().zip(&expected) {
            close("after a pass over NaN", found, expected);
        }
    }
    for image in [0, 2] {
        case.same[image * 3 * d.plane()..(image + 1) * 3 * d.plane()].fill(f32::NAN);
    }
    let middle = 2 * d.plane()..4 * d.plane();
    for how in ways() {
        close("between images of NaN", &case.run(how)[0][middle.clone()], &expected[0][middle.clone()]);
    }
}

#[test]
fn the_same_bytes_at_any_number_of_threads() {
    let mut rng = ChaCha8Rng::seed_from_u64(25);
    for (d, up, outputs) in
        [(Dims { n: 2, c: 70, h: 6, w: 6 }, 0, 133), (Dims { n: 2, c: 23, h: 34, w: 18 }, 6, 3)]
    {
        let case = Case::new(&mut rng, d, up, outputs);
        for how in ways() {
            let with = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| case.run(how))
            };
            let one = with(1);
            for threads in [3, 16] {
                assert!(with(threads) == one, "{how:?} at {threads} threads");
            }
        }
    }
}

#[test]
fn batch_norm_and_relu_are_applied_on_the_way() {
    let mut rng = ChaCha8Rng::seed_from_u64(26);
    let case = Case::new(&mut rng, Dims { n: 2, c: 5, h: 7, w: 19 }, 0, 18);
    let affine: Vec<(f32, f32)> = (0..18).map(|o| (o as f32 - 8.5, 0.1 * o as f32)).collect();
    for how in ways() {
        let [apart, ..] = case.run(how);
        let planes = apart.chunks_exact(case.d.plane()).enumerate();
        let apart: Vec<f32> = planes
            .flat_map(|(i, plane)| {
                let (scale, shift) = affine[i % 18];
                plane.iter().map(move |&y| (y * scale + shift).max(0.0))
            })
            .collect();
        let mut out = vec![f32::NAN; case.g.len()];
        conv::forward_affine_relu(how, case.input(), &case.weight, &affine, &mut out);
        assert_eq!(out, apart, "{how:?}");
    }
}
