//! Networks on a CUDA device against the CPU, where there is a device; where there is none, the tests say so and check nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

mod common;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use common::{bits, flat, generator, normal};
use rand::RngExt;
use scribseg_unet::{
    Config, MOMENTUM, Precision, Sgd, UNet, check_device, init, partial_cross_entropy, soft_dice, softmax,
};
use std::io::Write;

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

/// Not `eprintln!`, which a test keeps to itself when it passes.
fn not_checked(why: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "!! NOT CHECKED on a CUDA device: {why}");
}

/// The first device, if networks run on it in this precision.
fn device(precision: Precision) -> Option<Device> {
    let device = Device::new_cuda_with_stream(0).inspect_err(|e| not_checked(e)).ok()?;
    check_device(&device, precision).inspect_err(|e| not_checked(format!("{precision}: {e}"))).ok()?;
    Some(device)
}

/// Whether cuDNN multiplies f32 as such: NVIDIA's libraries then use no TF32 in this process.
fn exact() -> bool {
    std::env::var("NVIDIA_TF32_OVERRIDE").is_ok_and(|value| value == "0")
}

fn load(config: &Config, map: &VarMap, device: &Device, precision: Precision) -> UNet {
    let vb = VarBuilder::from_varmap(map, DType::F32, device);
    UNet::load(config, vb).unwrap().with_precision(precision)
}

/// The same network on every device.
fn variables(config: &Config, device: &Device) -> VarMap {
    init(config, &mut generator(4), device).unwrap()
}

/// How far off, of the size of what is expected.
fn distance(found: &Tensor, expected: &Tensor) -> f64 {
    let square = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v * v).sum::<f64>().sqrt();
    let (found, expected) = (flat(found), flat(expected));
    let off = square(&mut found.iter().zip(&expected).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    off / square(&mut expected.iter().map(|v| f64::from(*v))).max(1e-9)
}

struct Data {
    images: Tensor,
    scribble: Tensor,
    weak: Tensor,
}

fn data(config: &Config, n: usize, side: usize, device: &Device) -> Data {
    let rng = &mut generator(8);
    let images = normal(rng, n * config.in_channels * side * side);
    let mut labels = |known: f64| {
        let label = |_| {
            if rng.random_bool(known) { rng.random_range(0..config.out_channels as u8) } else { 255 }
        };
        let values: Vec<u8> = (0..n * side * side).map(label).collect();
        Tensor::from_vec(values, (n, side, side), device).unwrap()
    };
    let (scribble, weak) = (labels(0.1), labels(0.8));
    let images = Tensor::from_vec(images, (n, config.in_channels, side, side), device).unwrap();
    Data { images, scribble, weak }
}

/// All three losses of the pipeline but for the CRF.
fn loss(logits: &Tensor, data: &Data) -> Tensor {
    let dice = soft_dice(&softmax(logits).unwrap(), &data.weak).unwrap();
    (partial_cross_entropy(logits, &data.scribble, &data.weak, 0.8).unwrap() + dice).unwrap()
}

fn names(config: &Config) -> Vec<String> {
    config.parameters().into_iter().filter(|p| p.kind.trainable()).map(|p| p.name).collect()
}

#[test]
fn a_pass_and_its_gradients_are_near_those_of_the_cpu() {
    // As in the paper, and with channels that fill no vectors.
    for (config, n, side) in [
        (Config { in_channels: 4, out_channels: 2, width: 16, depth: 3 }, 4, 64),
        (Config { in_channels: 3, out_channels: 4, width: 6, depth: 1 }, 2, 24),
    ] {
        let cpu = data(&config, n, side, &Device::Cpu);
        let map = variables(&config, &Device::Cpu);
        let net = load(&config, &map, &Device::Cpu, Precision::F32);
        let images = Var::from_tensor(&cpu.images).unwrap();
        let logits = net.forward(&images, true).unwrap();
        let expected_loss = loss(&logits, &cpu);
        let expected = expected_loss.backward().unwrap();
        // A gradient differs by more than a logit: where rounding moves a value across zero or past its neighbour, a ReLU or a maximum takes
        // the other side. Without TF32 next to nothing is rounded. In bf16 a batch norm's weights may have most of their small gradient from
        // such places (0.76 of it was measured), so all parameters are taken as one vector.
        let f32 = if exact() { (Precision::F32, 0.01, 1e-4) } else { (Precision::F32, 0.3, 0.005) };
        for (precision, near, nearer) in [f32, (Precision::Bf16, 0.7, 0.1)] {
            let Some(gpu) = device(precision) else { continue };
            let (mut worst, mut all) = (0.0f64, [Vec::new(), Vec::new()]);
            let there = data(&config, n, side, &gpu);
            let copy = variables(&config, &gpu);
            let net = load(&config, &copy, &gpu, precision);
            let moved = Var::from_tensor(&there.images).unwrap();
            let found_logits = net.forward(&moved, true).unwrap();
            let off = distance(&found_logits, &logits);
            assert!(off < nearer, "{precision}: logits off by {off}");
            let found_loss = loss(&found_logits, &there);
            let off = distance(&found_loss, &expected_loss);
            assert!(off < nearer, "{precision}: loss off by {off}");
            let found = found_loss.backward().unwrap();
            let off = distance(found.get(&moved).unwrap(), expected.get(&images).unwrap());
            let _ =
                writeln!(std::io::stderr(), "{precision}, {config:?}: gradient of the images off by {off}");
            assert!(off < near, "{precision}: gradient of the images off by {off}");
            for name in names(&config) {
                let var = |map: &VarMap| map.data().lock().unwrap()[&name].clone();
                let both = [found.get(&var(&copy)).unwrap(), expected.get(&var(&map)).unwrap()];
                let off = distance(both[0], both[1]);
                assert!(
                    precision == Precision::Bf16 || off < near,
                    "{precision}: gradient of {name} off by {off}"
                );
                worst = worst.max(off);
                all.iter_mut().zip(both).for_each(|(all, gradient)| all.extend(flat(gradient)));
            }
            let [found, expected] = all.map(|values| Tensor::new(values, &Device::Cpu).unwrap());
            let off = distance(&found, &expected);
            let _ = writeln!(
                std::io::stderr(),
                "{precision}, {config:?}: gradients of parameters off by {off}, of one by {worst} at most"
            );
            assert!(off < near, "{precision}: gradients of parameters off by {off}");
            for parameter in config.parameters().iter().filter(|p| !p.kind.trainable()) {
                let var = |map: &VarMap| map.data().lock().unwrap()[&parameter.name].clone();
                let off = distance(&var(&copy), &var(&map));
                assert!(off < nearer, "{precision}: {} off by {off}", parameter.name);
            }
        }
    }
}

#[test]
fn a_pass_has_the_gradients_of_candles_own_way_back() {
    for precision in PRECISIONS {
        let Some(gpu) = device(precision) else { continue };
        let config = Config { in_channels: 4, out_channels: 2, width: 8, depth: 2 };
        let data = data(&config, 2, 32, &gpu);
        let gradients = |own: bool| {
            let map = variables(&config, &gpu);
            let net = load(&config, &map, &gpu, precision);
            let (loss, found) = if own {
                let pass = net.pass(&data.images).unwrap();
                let loss = loss(pass.logits(), &data);
                let found = pass.backward(&loss).unwrap();
                (loss, found)
            } else {
                let loss = loss(&net.forward(&data.images, true).unwrap(), &data);
                let found = loss.backward().unwrap();
                (loss, found)
            };
            let of = |name: &String| bits(found.get(&map.data().lock().unwrap()[name]).unwrap());
            (bits(&loss), names(&config).iter().map(of).collect::<Vec<_>>())
        };
        assert!(gradients(true) == gradients(false), "{precision}");
    }
}

#[test]
fn training_repeats_itself_to_the_bit_and_learns() {
    for precision in PRECISIONS {
        let Some(gpu) = device(precision) else { continue };
        let config = Config { in_channels: 4, out_channels: 2, width: 16, depth: 2 };
        let train = || {
            let data = data(&config, 4, 32, &gpu);
            let map = variables(&config, &gpu);
            let net = load(&config, &map, &gpu, precision);
            let mut sgd = Sgd::new(&map, MOMENTUM, 1e-4).unwrap();
            let mut losses = Vec::new();
            for _ in 0..20 {
                let loss = loss(&net.forward(&data.images, true).unwrap(), &data);
                sgd.step(&loss.backward().unwrap(), 0.05).unwrap();
                losses.push(loss);
            }
            let all: Vec<Vec<u32>> =
                names(&config).iter().map(|name| bits(&map.data().lock().unwrap()[name])).collect();
            (flat(&Tensor::stack(&losses, 0).unwrap()), all)
        };
        let (losses, weights) = train();
        assert!(losses[19] < 0.9 * losses[0], "{precision}: {losses:?}");
        let again = train();
        assert_eq!(losses, again.0);
        assert!(weights == again.1, "{precision}: two runs differ");
    }
}

#[test]
fn prediction_takes_the_most_probable_class() {
    for precision in PRECISIONS {
        let Some(gpu) = device(precision) else { continue };
        let config = Config { in_channels: 4, out_channels: 3, width: 8, depth: 2 };
        let images = data(&config, 3, 16, &gpu).images;
        let net = load(&config, &variables(&config, &gpu), &gpu, precision);
        let logits = net.forward(&images, false).unwrap().to_device(&Device::Cpu).unwrap();
        let expected = logits.argmax(1).unwrap().flatten_all().unwrap().to_vec1::<u32>().unwrap();
        let found = net.predict(&images).unwrap().flatten_all().unwrap().to_vec1::<u8>().unwrap();
        assert!(found.iter().zip(&expected).all(|(a, b)| u32::from(*a) == *b));
    }
}

#[test]
fn a_label_that_is_no_class_makes_the_loss_not_a_number() {
    let Some(gpu) = device(Precision::F32) else { return };
    let logits = Tensor::zeros((1, 2, 2, 2), DType::F32, &gpu).unwrap();
    let bad = Tensor::from_vec(vec![0u8, 1, 2, 255], (1, 2, 2), &gpu).unwrap();
    let loss = partial_cross_entropy(&logits, &bad, &bad, 1.0).unwrap();
    assert!(loss.to_scalar::<f32>().unwrap().is_nan());
}
