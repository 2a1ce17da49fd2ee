//! The tape and every kernel on a device made of a CPU, against the CPU's own engine and operators.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

use super::emulated::{Emulated, Piece, Program, works};
use super::machine::{Kernel, View};
use super::memory::Pool;
use super::passes::Norm;
use super::tape::{self, Layer, Mode, Parameters};
use super::{SOURCE, losses, passes};
use crate::config::ParameterKind;
use crate::kernels::Dims;
use crate::{Config, CpuPath, Precision, UNet, init, partial_cross_entropy, soft_dice, softmax};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// How far off, of the size of what is expected.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v * v).sum::<f64>().sqrt();
    let off = square(&mut found.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    off / square(&mut expected.iter().map(|v| f64::from(*v))).max(1e-2)
}

#[track_caller]
fn close(found: &[f32], expected: &[f32], tolerance: f64, what: &str) {
    let distance = distance(found, expected);
    assert!(distance <= tolerance, "{what}: off by {distance}");
}

/// A network in the middle of its training: no parameter is what it starts as.
fn network(config: &Config) -> VarMap {
    let map = init(config, &mut ChaCha8Rng::seed_from_u64(3), &Device::Cpu).unwrap();
    for (seed, parameter) in config.parameters().into_iter().enumerate() {
        let values = random(parameter.shape.iter().product(), seed as u64 + 100);
        let around = match parameter.kind {
            ParameterKind::Scale | ParameterKind::RunningVariance => 1.0,
            ParameterKind::Bias | ParameterKind::RunningMean => 0.0,
            ParameterKind::Kernel | ParameterKind::HeadKernel => continue,
        };
        let values: Vec<f32> = values.iter().map(|v| around + 0.5 * v).collect();
        let tensor = Tensor::from_vec(values, parameter.shape, &Device::Cpu).unwrap();
        map.data().lock().unwrap()[&parameter.name].set(&tensor).unwrap();
    }
    map
}

/// Parameters on the device, in the order of [`Config::parameters`].
fn upload(device: &Emulated, config: &Config, map: &VarMap) -> Vec<Piece> {
    let data = map.data().lock().unwrap();
    let all = config.parameters().into_iter();
    all.map(|p| device.upload_f32(&flat(data[&p.name].as_tensor()))).collect()
}

fn parameters(pieces: &[Piece]) -> Parameters {
    let views: Vec<View> = pieces.iter().map(Piece::view).collect();
    let (layers, [weight, bias]) = views.split_last_chunk().unwrap();
    let layer = |&[weight, gamma, beta, mean, variance]: &[View; 5]| Layer {
        weight,
        norm: Norm { gamma, beta, mean, variance },
    };
    Parameters { layers: layers.as_chunks().0.iter().map(layer).collect(), weight: *weight, bias: *bias }
}

/// What a pass gives: logits; gradients of the trained parameters in their order and of the images; running statistics.
struct Outcome {
    logits: Vec<f32>,
    gradients: Vec<(String, Vec<f32>)>,
    running: Vec<(String, Vec<f32>)>,
}

/// The gradient of the logits in these tests.
fn outer(logits: usize) -> Vec<f32> {
    random(logits, 77)
}

fn on_the_cpu(config: &Config, map: &VarMap, images: &Var, train: bool) -> Outcome {
    let net = UNet::load(config, VarBuilder::from_varmap(map, DType::F32, &Device::Cpu)).unwrap();
    let net = net.with_cpu_path(CpuPath::Portable).unwrap();
    let logits = net.forward(images, train).unwrap();
    let g = Tensor::from_vec(outer(logits.elem_count()), logits.shape(), &Device::Cpu).unwrap();
    let grads = (&logits * g).unwrap().sum_all().unwrap().backward().unwrap();
    let data = map.data().lock().unwrap();
    let (trained, running): (Vec<_>, Vec<_>) =
        config.parameters().into_iter().partition(|p| p.kind.trainable());
    let mut gradients: Vec<_> =
        trained.into_iter().map(|p| (flat(grads.get(&data[&p.name]).unwrap()), p.name)).collect();
    gradients.push((flat(grads.get(images).unwrap()), "images".into()));
    Outcome {
        logits: flat(&logits),
        gradients: gradients.into_iter().map(|(values, name)| (name, values)).collect(),
        running: running.into_iter().map(|p| (p.name.clone(), flat(&data[&p.name]))).collect(),
    }
}

fn on_the_device(
    pool: &Arc<Pool<Emulated>>,
    config: &Config,
    map: &VarMap,
    images: &Var,
    train: bool,
) -> Outcome {
    let device = &pool.machine;
    let pieces = upload(device, config, map);
    let (n, _, rows, columns) = images.dims4().unwrap();
    let x = device.upload_f32(&flat(images));
    let count = n * config.out_channels * rows * columns;
    let logits = device.room(4 * count);
    let (mode, shape) = (Mode { train, keep: true }, [n, rows, columns]);
    let record =
        tape::forward(config, pool, &parameters(&pieces), x.view(), shape, mode, logits.view()).unwrap();
    let values = device.download_f32(logits.view());
    let g = device.upload_f32(&outer(count));
    let trained: Vec<_> = config.parameters().into_iter().filter(|p| p.kind.trainable()).collect();
    let rooms: Vec<Piece> =
        trained.iter().map(|p| device.room(4 * p.shape.iter().product::<usize>())).collect();
    let d_images = device.room(4 * images.elem_count());
    let views: Vec<View> = rooms.iter().map(Piece::view).collect();
    record.unwrap().backward(g.view(), &views, Some(d_images.view())).unwrap();
    let mut gradients: Vec<_> =
        trained.iter().zip(&views).map(|(p, view)| (p.name.clone(), device.download_f32(*view))).collect();
    gradients.push(("images".into(), device.download_f32(d_images.view())));
    let running = config.parameters().into_iter().zip(&pieces).filter(|(p, _)| !p.kind.trainable());
    let running = running.map(|(p, piece)| (p.name, device.download_f32(piece.view()))).collect();
    Outcome { logits: values, gradients, running }
}

fn images(config: &Config, [n, rows, columns]: [usize; 3]) -> Var {
    let values = random(n * config.in_channels * rows * columns, 5);
    Var::from_vec(values, (n, config.in_channels, rows, columns), &Device::Cpu).unwrap()
}

const fn config(in_channels: usize, out_channels: usize, width: usize, depth: usize) -> Config {
    Config { in_channels, out_channels, width, depth }
}

/// Channels that fill vectors and that do not, more classes than a thread holds, no pooling at all, more pixels than a block sums.
const CASES: [(Config, [usize; 3]); 4] = [
    (config(4, 2, 8, 2), [2, 8, 12]),
    (config(3, 5, 6, 1), [1, 6, 4]),
    (config(1, 1, 3, 0), [3, 5, 3]),
    (config(5, 2, 4, 1), [2, 22, 20]),
];

#[test]
fn a_pass_in_f32_and_all_its_gradients_are_those_of_the_cpu() {
    if !works(&[]) {
        return;
    }
    let device = Program::build(Precision::F32, &[]).start(1);
    for (config, shape) in CASES {
        let images = images(&config, shape);
        let pool = Pool::new(Arc::clone(&device));
        for train in [true, false] {
            let (map, same) = (network(&config), network(&config));
            let expected = on_the_cpu(&config, &map, &images, train);
            let found = on_the_device(&pool, &config, &same, &images, train);
            close(&found.logits, &expected.logits, 1e-5, "logits");
            for ((name, found), (_, expected)) in found.gradients.iter().zip(&expected.gradients) {
                close(found, expected, 1e-4, &format!("{config:?}, train {train}: gradient of {name}"));
            }
            for ((name, found), (_, expected)) in found.running.iter().zip(&expected.running) {
                close(found, expected, 1e-6, &format!("{config:?}, train {train}: {name}"));
            }
        }
    }
}

/// What rounds to 8 bits at every layer passes other ReLUs and wins other maxima, the more so the farther back; so a gradient is held to its
/// direction there. That every index is right shows in `f32`.
#[test]
fn a_pass_in_bf16_is_near_that_of_the_cpu() {
    if !works(&[]) {
        return;
    }
    let device = Program::build(Precision::Bf16, &[]).start(1);
    for (config, shape) in CASES {
        let images = images(&config, shape);
        let pool = Pool::new(Arc::clone(&device));
        let (map, same) = (network(&config), network(&config));
        let expected = on_the_cpu(&config, &map, &images, true);
        let found = on_the_device(&pool, &config, &same, &images, true);
        close(&found.logits, &expected.logits, 0.03, "logits");
        let near = [0.1, 0.5, 0.5][config.depth];
        for ((name, found), (_, expected)) in found.gradients.iter().zip(&expected.gradients) {
            close(found, expected, near, &format!("{config:?}: gradient of {name}"));
        }
        let last = |outcome: &Outcome| outcome.gradients[outcome.gradients.len() - 3].1.clone();
        close(&last(&found), &last(&expected), 0.02, "gradient of head.weight");
        for ((name, found), (_, expected)) in found.running.iter().zip(&expected.running) {
            close(found, expected, 0.01, &format!("{config:?}: {name}"));
        }
    }
}

#[test]
fn bf16_is_the_nearest_and_padding_is_zero() {
    if !works(&[]) {
        return;
    }
    let device = Program::build(Precision::Bf16, &[]).start(1);
    let shape = passes::Shape { images: 2, rows: 3, columns: 5, channels: 5, padded: 8 };
    let mut values = random(2 * 15 * 5, 9);
    values[..4].copy_from_slice(&[1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -0.0, 3e38]);
    let (images, x) = (device.upload_f32(&values), device.room(2 * shape.values()));
    passes::images_in(&*device, images.view(), x.view(), shape).unwrap();
    let held = device.download(x.view());
    let held: Vec<u16> = held.as_chunks().0.iter().map(|b| u16::from_ne_bytes(*b)).collect();
    let nearest = |v: f32| ((v.to_bits() + 0x7fff + (v.to_bits() >> 16 & 1)) >> 16) as u16;
    for (i, found) in held.iter().enumerate() {
        let (pixel, c) = (i / 8, i % 8);
        let from = (pixel / 15 * 5 + c) * 15 + pixel % 15;
        assert_eq!(*found, if c < 5 { nearest(values[from]) } else { 0 });
    }
    let back = device.room(images.view().bytes);
    passes::images_out(&*device, x.view(), back.view(), shape).unwrap();
    let wide = |v: &f32| f32::from_bits(u32::from(nearest(*v)) << 16);
    assert_eq!(device.download_f32(back.view()), values.iter().map(wide).collect::<Vec<_>>());
}

#[test]
fn steps_after_the_first_allocate_nothing_and_repeat_to_the_bit() {
    if !works(&[]) {
        return;
    }
    let program = Program::build(Precision::Bf16, &[]);
    let (config, shape) = CASES[0];
    let images = images(&config, shape);
    let run = |device: &Arc<Emulated>, pool: &Arc<Pool<Emulated>>| {
        let before = device.allocated.load(Ordering::Relaxed);
        let outcome = on_the_device(pool, &config, &network(&config), &images, true);
        let bits: Vec<u32> = (outcome.gradients.iter().flat_map(|(_, values)| values))
            .chain(&outcome.logits)
            .map(|v| v.to_bits())
            .collect();
        (bits, device.allocated.load(Ordering::Relaxed) - before)
    };
    let device = program.start(1);
    let pool = Pool::new(Arc::clone(&device));
    let (first, _) = run(&device, &pool);
    let (second, allocated) = run(&device, &pool);
    assert_eq!(first, second);
    // What this test itself asks for: parameters, images, logits, their gradient, and the gradients.
    let own = config.parameters().len() + 3 + second_gradients(&config);
    assert_eq!(allocated, own);
    let other = program.start(3);
    assert_eq!(run(&other, &Pool::new(Arc::clone(&other))).0, first, "other threads, other bytes");
}

fn second_gradients(config: &Config) -> usize {
    config.parameters().iter().filter(|p| p.kind.trainable()).count() + 1
}

/// Labels: some unknown.
fn labels(count: usize, classes: u8, known: f64, seed: u64) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| if rng.random_bool(known) { rng.random_range(0..classes) } else { 255 }).collect()
}

fn dims(n: usize, c: usize, h: usize, w: usize) -> Dims {
    Dims { n, c, h, w }
}

/// The losses and their gradients on the device against the CPU's.
fn check_losses(device: &Emulated, d: Dims, known: [f64; 2]) {
    let pixels = d.n * d.plane();
    let x: Vec<f32> = random(d.len(), 21).iter().map(|v| 4.0 * v).collect();
    let marks = [0, 1].map(|i| labels(pixels, d.c as u8, known[i], 30 + i as u64));
    let tensor = |marks: &[u8]| Tensor::from_slice(marks, (d.n, d.h, d.w), &Device::Cpu).unwrap();
    let var = Var::from_vec(x.clone(), (d.n, d.c, d.h, d.w), &Device::Cpu).unwrap();
    let logits = device.upload_f32(&x);
    let uploaded = marks.clone().map(|marks| device.upload(&marks));
    let views = [uploaded[0].view(), uploaded[1].view()];
    let (loss, outer) = (device.room(4), device.upload_f32(&[0.7]));
    let gradient = device.room(4 * d.len());

    let expected = partial_cross_entropy(&var, &tensor(&marks[0]), &tensor(&marks[1]), 0.8).unwrap();
    let slope = flat((&expected * 0.7).unwrap().backward().unwrap().get(&var).unwrap());
    let (partial, weights) = (device.room(losses::cross_entropy_bytes(d)), device.room(16));
    let (partial, weights) = (partial.view(), weights.view());
    losses::cross_entropy(device, logits.view(), views, d, 0.8, partial, loss.view(), weights).unwrap();
    close(&device.download_f32(loss.view()), &[flat(&expected)[0]], 1e-5, "cross-entropy");
    let (at, to) = (logits.view(), gradient.view());
    losses::cross_entropy_gradient(device, at, views, d, weights, outer.view(), to).unwrap();
    close(&device.download_f32(to), &slope, 1e-5, "gradient of the cross-entropy");

    let probabilities = softmax(&var).unwrap();
    let y = device.room(4 * d.len());
    losses::softmax(device, logits.view(), d, y.view()).unwrap();
    close(&device.download_f32(y.view()), &flat(&probabilities), 1e-6, "softmax");
    let g = random(d.len(), 40);
    let outer_g = Tensor::from_slice(&g, var.shape(), &Device::Cpu).unwrap();
    let slope = (&probabilities * outer_g).unwrap().sum_all().unwrap().backward().unwrap();
    let g = device.upload_f32(&g);
    losses::softmax_gradient(device, y.view(), g.view(), d, to).unwrap();
    close(&device.download_f32(to), &flat(slope.get(&var).unwrap()), 1e-5, "gradient of the softmax");

    if d.c >= 2 {
        let p = Var::from_tensor(&probabilities.detach()).unwrap();
        let expected = soft_dice(&p, &tensor(&marks[0])).unwrap();
        let slope = flat((&expected * 0.7).unwrap().backward().unwrap().get(&p).unwrap());
        let (partial, slopes) = (device.room(losses::overlap_bytes(d)), device.room(8 * (d.c - 1)));
        let (partial, slopes) = (partial.view(), slopes.view());
        losses::overlap(device, y.view(), views[0], d, partial, loss.view(), slopes).unwrap();
        close(&device.download_f32(loss.view()), &flat(&expected), 1e-5, "soft Dice");
        losses::overlap_gradient(device, views[0], d, slopes, outer.view(), to).unwrap();
        close(&device.download_f32(to), &slope, 1e-5, "gradient of the soft Dice");
    }

    let most = device.room(pixels);
    losses::most_probable(device, logits.view(), d, most.view()).unwrap();
    let expected: Vec<u8> = (0..pixels)
        .map(|i| {
            let value = |k: usize| x[(i / d.plane() * d.c + k) * d.plane() + i % d.plane()];
            (1..d.c).fold(0, |best, k| if value(k) > value(best) { k } else { best }) as u8
        })
        .collect();
    assert_eq!(device.download(most.view()), expected);
}

#[test]
fn losses_and_their_gradients_are_those_of_the_cpu() {
    if !works(&[]) {
        return;
    }
    let device = Program::build(Precision::F32, &[]).start(1);
    for d in [dims(2, 2, 9, 14), dims(1, 5, 30, 40), dims(3, 1, 2, 2)] {
        for known in [[0.1, 0.9], [0.0, 0.5], [1.0, 0.0], [0.0, 0.0]] {
            check_losses(&device, d, known);
        }
    }
}

#[test]
fn a_label_that_is_no_class_makes_the_loss_not_a_number() {
    if !works(&[]) {
        return;
    }
    let device = Program::build(Precision::F32, &[]).start(1);
    let d = dims(1, 2, 2, 2);
    let logits = device.upload_f32(&random(8, 1));
    let (good, bad) = (device.upload(&[0, 1, 255, 255]), device.upload(&[0, 1, 2, 255]));
    let (partial, loss) = (device.room(losses::cross_entropy_bytes(d)), device.room(4));
    let weights = device.room(16);
    for (labels, finite) in [([&good, &good], true), ([&good, &bad], false), ([&bad, &good], false)] {
        let (views, partial) = (labels.map(Piece::view), partial.view());
        losses::cross_entropy(&*device, logits.view(), views, d, 1.0, partial, loss.view(), weights.view())
            .unwrap();
        assert_eq!(device.download_f32(loss.view())[0].is_finite(), finite);
    }
    let (partial, slopes) = (device.room(losses::overlap_bytes(d)), device.room(8));
    let (partial, slopes) = (partial.view(), slopes.view());
    losses::overlap(&*device, logits.view(), bad.view(), d, partial, loss.view(), slopes).unwrap();
    assert!(device.download_f32(loss.view())[0].is_nan());
}

#[test]
fn a_step_of_the_optimiser_is_that_of_the_cpu() {
    if !works(&[]) {
        return;
    }
    let device = Program::build(Precision::F32, &[]).start(1);
    let [p, v, g] = [1, 2, 3].map(|seed| random(1000, seed));
    let pieces = [&p, &v, &g].map(|values| device.upload_f32(values));
    let [pv, vv, gv] = pieces.each_ref().map(Piece::view);
    losses::velocity(&*device, vv, gv, pv, 0.9, 0.01).unwrap();
    losses::descend(&*device, pv, vv, 0.1).unwrap();
    let expected_v: Vec<f32> = p.iter().zip(&v).zip(&g).map(|((p, v), g)| 0.9 * v + (g + 0.01 * p)).collect();
    let expected_p: Vec<f32> = p.iter().zip(&expected_v).map(|(p, v)| p - 0.1 * v).collect();
    close(&device.download_f32(vv), &expected_v, 1e-6, "velocity");
    close(&device.download_f32(pv), &expected_p, 1e-6, "parameter");
}

#[test]
fn a_mean_far_from_zero_leaves_the_variance_its_digits() {
    if !works(&[]) {
        return;
    }
    let device = Program::build(Precision::F32, &[]).start(1);
    let (n, c) = (5000, 4);
    let values: Vec<f32> = random(n * c, 8).iter().map(|v| 1e4 + v).collect();
    let shape = passes::Shape { images: 1, rows: n, columns: 1, channels: c, padded: c };
    let y = device.upload_f32(&values);
    let [gamma, beta, mean, variance] = [1.0, 0.0, 0.0, 0.0].map(|v| device.upload_f32(&[v; 4]));
    let [gamma, beta, mean, variance] = [&gamma, &beta, &mean, &variance].map(Piece::view);
    let norm = Norm { gamma, beta, mean, variance };
    let partial = device.room(passes::norm_sums_bytes(shape));
    let (moments, affine) = (device.room(16 * c), device.room(8 * c));
    let statistics = passes::Statistics { moments: moments.view(), affine: affine.view() };
    passes::norm_batch(&*device, y.view(), shape, norm, Some(1.0), partial.view(), statistics).unwrap();
    for channel in 0..c {
        let own = || values.iter().skip(channel).step_by(c).map(|v| f64::from(*v));
        let mean = own().sum::<f64>() / n as f64;
        let unbiased = own().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
        let found = device.download_f32(norm.variance)[channel];
        assert!((f64::from(found) - unbiased).abs() < 1e-5 * unbiased, "{found} of {unbiased}");
    }
}

/// An index that is off, a barrier that is missing, two threads that write to one place.
#[test]
fn sanitizers_find_nothing() {
    for flags in [&["-fsanitize=thread"][..], &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]]
    {
        if !works(flags) {
            continue;
        }
        let device = Program::build(Precision::Bf16, flags).start(4);
        let (config, shape) = (config(3, 2, 6, 1), [1, 4, 4]);
        let pool = Pool::new(Arc::clone(&device));
        let outcome = on_the_device(&pool, &config, &network(&config), &images(&config, shape), true);
        assert!(outcome.logits.iter().all(|v| v.is_finite()));
        check_losses(&device, dims(1, 3, 5, 4), [0.5, 0.5]);
    }
}

#[test]
fn every_kernel_is_in_the_source() {
    for kernel in Kernel::ALL {
        let name = format!(" {}(", kernel.name());
        assert!(SOURCE.contains(&name), "{name}");
    }
    assert_eq!(SOURCE.matches("extern \"C\" __global__").count(), Kernel::ALL.len());
}
