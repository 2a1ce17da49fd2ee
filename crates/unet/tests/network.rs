//! The network against its `f64` reference, its determinism, its files and its errors.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/reference.rs"]
mod reference;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use common::{bits, flat, generator, normal, tensor};
use rand::RngExt;
use reference::{Array, Parameters};
use scribseg_unet::{
    Config, CpuPath, Error, LinearSchedule, MOMENTUM, Precision, Sgd, UNet, init, ops, partial_cross_entropy,
    replace_head,
};

const CONFIG: Config = Config { in_channels: 2, out_channels: 3, width: 3, depth: 2 };

fn paths() -> Vec<CpuPath> {
    CpuPath::ALL.into_iter().filter(|p| p.is_available()).collect()
}

fn load(config: &Config, map: &VarMap) -> UNet {
    UNet::load(config, VarBuilder::from_varmap(map, DType::F32, &Device::Cpu)).unwrap()
}

fn get(map: &VarMap, name: &str) -> Var {
    map.data().lock().unwrap()[name].clone()
}

/// Fresh variables with batch norms that are not the identity.
fn variables(config: &Config, seed: u64) -> VarMap {
    let rng = &mut generator(seed);
    let map = init(config, rng, &Device::Cpu).unwrap();
    for parameter in config.parameters().iter().filter(|p| p.name.contains(".bn") || p.name == "head.bias") {
        let (var, count) = (get(&map, &parameter.name), parameter.shape[0]);
        let values: Vec<f32> = if parameter.name.ends_with("running_var") {
            (0..count).map(|_| rng.random_range(0.5..2.0)).collect()
        } else {
            let old = flat(&var);
            normal(rng, count).iter().zip(old).map(|(n, o)| o + 0.3 * n).collect()
        };
        var.set(&Tensor::from_vec(values, count, &Device::Cpu).unwrap()).unwrap();
    }
    map
}

fn parameters(config: &Config, map: &VarMap) -> Parameters {
    let read = |name: &str| flat(&get(map, name)).into_iter().map(f64::from).collect();
    config.parameters().into_iter().map(|p| (p.name.clone(), read(&p.name))).collect()
}

fn array(tensor: &Tensor) -> Array {
    let (n, c, h, w) = tensor.dims4().unwrap();
    Array { shape: [n, c, h, w], values: flat(tensor).into_iter().map(f64::from).collect() }
}

fn close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-6f64, |m, v| m.max(v.abs()));
    for (f, e) in found.iter().zip(expected) {
        assert!((f64::from(*f) - e).abs() <= tolerance * scale, "{what}: {f} instead of {e}");
    }
}

fn labels(seed: u64, count: usize, classes: u8, known: f64) -> Vec<u8> {
    let rng = &mut generator(seed);
    (0..count).map(|_| if rng.random_bool(known) { rng.random_range(0..classes) } else { 255 }).collect()
}

#[test]
fn logits_and_running_statistics_follow_the_reference() {
    for path in paths() {
        for (batch, h, w) in [(2, 12, 20), (3, 4, 4)] {
            let map = variables(&CONFIG, 1);
            let network = load(&CONFIG, &map).with_cpu_path(path).unwrap();
            let x = tensor(&mut generator(2), &[batch, 2, h, w]);
            let mut expected = parameters(&CONFIG, &map);
            for train in [true, false, true] {
                let logits = reference::forward(&CONFIG, &mut expected, &array(&x), train);
                close(&flat(&network.forward(&x, train).unwrap()), &logits.values, 2e-5, "logits");
                for (name, values) in &expected {
                    close(&flat(&get(&map, name)), values, 1e-6, name);
                }
            }
        }
    }
}

/// Backward of loss and network against central differences of the reference: steps so small that no ReLU or maximum
/// changes sides, sums so exact that they still resolve.
#[test]
fn gradients_of_the_whole_network_follow_the_reference() {
    for path in paths() {
        for train in [true, false] {
            let map = variables(&CONFIG, 3);
            let network = load(&CONFIG, &map).with_cpu_path(path).unwrap();
            let start = parameters(&CONFIG, &map);
            let x = Var::from_tensor(&tensor(&mut generator(4), &[3, 2, 12, 8])).unwrap();
            let (scribble, weak) = (labels(5, 3 * 96, 3, 0.2), labels(6, 3 * 96, 3, 0.6));
            let image = |v: &[u8]| Tensor::from_slice(v, (3, 12, 8), &Device::Cpu).unwrap();
            let logits = network.forward(x.as_tensor(), train).unwrap();
            let loss = partial_cross_entropy(&logits, &image(&scribble), &image(&weak), 0.8).unwrap();
            let grads = loss.backward().unwrap();
            let value = |parameters: &Parameters, x: &Array| {
                let logits = reference::forward(&CONFIG, &mut parameters.clone(), x, train);
                reference::partial_cross_entropy(&logits, &scribble, &weak, 0.8)
            };
            let pixels = array(x.as_tensor());
            let exact = value(&start, &pixels);
            assert!((f64::from(loss.to_scalar::<f32>().unwrap()) - exact).abs() < 1e-5 * exact);

            let rng = &mut generator(7);
            let trained = CONFIG.parameters().into_iter().filter(|p| p.kind.trainable()).map(|p| p.name);
            for name in trained.chain(["input".to_string()]) {
                let var = if name == "input" { x.clone() } else { get(&map, &name) };
                let gradient = flat(grads.get(var.as_tensor()).unwrap());
                let norm = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
                assert!(norm > 1e-4, "{name}: the gradient is as good as zero");
                for _ in 0..2 {
                    let direction = normal(rng, gradient.len());
                    let moved = |step: f64| {
                        let (mut p, mut pixels) = (start.clone(), pixels.clone());
                        let target =
                            if name == "input" { &mut pixels.values } else { p.get_mut(&name).unwrap() };
                        target.iter_mut().zip(&direction).for_each(|(v, &d)| *v += step * f64::from(d));
                        value(&p, &pixels)
                    };
                    let numeric = (moved(1e-7) - moved(-1e-7)) / 2e-7;
                    let analytic: f64 =
                        gradient.iter().zip(&direction).map(|(&g, &d)| f64::from(g) * f64::from(d)).sum();
                    let error = (numeric - analytic).abs() / norm;
                    assert!(error < 1e-3, "{name} {path:?} train {train}: {numeric}, {analytic} ({error})");
                }
            }
        }
    }
}

/// The network written with the public operators, whose gradients candle's record adds up.
fn composed(config: &Config, map: &VarMap, x: &Tensor) -> Tensor {
    let layer = |x: &Tensor, block: &str, i: usize| {
        let p = |name: &str| get(map, &format!("{block}.{name}"));
        let y = ops::conv3x3(x, &p(&format!("conv{i}.weight"))).unwrap();
        let (gamma, beta) = (p(&format!("bn{i}.weight")), p(&format!("bn{i}.bias")));
        ops::batch_norm_relu(&y, &gamma, &beta, ops::NormMode::Batch).unwrap().0
    };
    let block = |x: &Tensor, name: String| layer(&layer(x, &name, 1), &name, 2);
    let (mut x, mut skips) = (x.clone(), Vec::new());
    for level in 0..=config.depth {
        if level > 0 {
            x = ops::max_pool2(&x).unwrap();
        }
        x = block(&x, format!("enc{level}"));
        skips.push(x.clone());
    }
    skips.pop();
    for level in (0..config.depth).rev() {
        x = block(&ops::upsample_concat(&x, &skips.pop().unwrap()).unwrap(), format!("dec{level}"));
    }
    ops::conv1x1(&x, &get(map, "head.weight"), &get(map, "head.bias")).unwrap()
}

#[test]
fn the_network_is_what_its_operators_compose() {
    for depth in 0..3 {
        let config = Config { depth, ..CONFIG };
        let map = variables(&config, 21);
        let x = Var::from_tensor(&tensor(&mut generator(22), &[2, 2, 12, 8])).unwrap();
        let cotangent = tensor(&mut generator(23), &[2, 3, 12, 8]);
        let backward = |y: &Tensor| (y * &cotangent).unwrap().sum_all().unwrap().backward().unwrap();
        let fused = load(&config, &map).forward(&x, true).unwrap();
        let plain = composed(&config, &map, &x);
        assert_eq!(bits(&fused), bits(&plain));
        let (first, expected) = (backward(&fused), backward(&plain));
        // A graph can be walked again.
        for grads in [first, backward(&fused)] {
            let of = |name: &str| if name == "input" { x.clone() } else { get(&map, name) };
            let trained = config.parameters().into_iter().filter(|p| p.kind.trainable()).map(|p| p.name);
            for name in trained.chain(["input".into()]) {
                let var = of(&name);
                let expected: Vec<f64> =
                    flat(expected.get(var.as_tensor()).unwrap()).into_iter().map(f64::from).collect();
                close(&flat(grads.get(var.as_tensor()).unwrap()), &expected, 1e-5, &name);
            }
        }
    }
}

#[test]
fn passes_that_overlap_keep_their_own_records() {
    let map = variables(&CONFIG, 24);
    let network = load(&CONFIG, &map);
    let inputs = [tensor(&mut generator(25), &[2, 2, 8, 8]), tensor(&mut generator(26), &[1, 2, 16, 8])];
    let gradient = |y: &Tensor| {
        let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        bits(grads.get(get(&map, "enc0.conv1.weight").as_tensor()).unwrap())
    };
    let alone = inputs.each_ref().map(|x| gradient(&network.forward(x, false).unwrap()));
    let both = inputs.each_ref().map(|x| network.forward(x, false).unwrap());
    network.predict(&inputs[0]).unwrap();
    assert_eq!(both.each_ref().map(gradient), alone);
}

/// Some training steps from a fixed start; everything that came out.
fn train(path: CpuPath, threads: usize, steps: usize) -> (Vec<f32>, Vec<Vec<u32>>) {
    train_in(Precision::F32, path, threads, steps)
}

fn train_in(precision: Precision, path: CpuPath, threads: usize, steps: usize) -> (Vec<f32>, Vec<Vec<u32>>) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let config = Config { in_channels: 3, out_channels: 2, width: 5, depth: 2 };
        let map = init(&config, &mut generator(8), &Device::Cpu).unwrap();
        let network = load(&config, &map).with_cpu_path(path).unwrap().with_precision(precision);
        let mut sgd = Sgd::new(&map, MOMENTUM, 1e-4).unwrap();
        let x = tensor(&mut generator(9), &[5, 3, 20, 28]);
        // The sign of a channel: something that can be learnt.
        let target: Vec<u8> = flat(&x.narrow(1, 1, 1).unwrap()).iter().map(|&v| u8::from(v > 0.0)).collect();
        let target = Tensor::from_vec(target, (5, 20, 28), &Device::Cpu).unwrap();
        let scribble = Tensor::from_vec(labels(10, 5 * 560, 2, 0.0), (5, 20, 28), &Device::Cpu).unwrap();
        let schedule = LinearSchedule { start: 0.05, end: 0.0, iterations: steps };
        let losses = (0..steps)
            .map(|i| {
                let logits = network.forward(&x, true).unwrap();
                let loss = partial_cross_entropy(&logits, &scribble, &target, 1.0).unwrap();
                sgd.step(&loss.backward().unwrap(), schedule.rate(i)).unwrap();
                loss.to_scalar::<f32>().unwrap()
            })
            .collect();
        let mut state: Vec<Vec<u32>> =
            config.parameters().iter().map(|p| bits(&get(&map, &p.name))).collect();
        state.extend(sgd.state().unwrap().iter().map(|(_, t)| bits(t)));
        (losses, state)
    })
}

#[test]
fn the_same_bytes_at_any_number_of_threads() {
    for path in paths() {
        let one = train(path, 1, 4);
        for threads in [2, 3] {
            assert!(train(path, threads, 4) == one, "{path:?} at {threads} threads");
        }
    }
}

#[test]
fn bf16_learns_like_f32_and_gives_the_same_bytes_at_any_number_of_threads() {
    for path in paths() {
        let (f32, _) = train(path, 2, 30);
        let bf16 = train_in(Precision::Bf16, path, 2, 30);
        assert!(train_in(Precision::Bf16, path, 1, 30) == bf16, "{path:?}");
        assert_ne!(bf16.0, f32, "{path:?}: nothing was rounded");
        let (found, expected) = (bf16.0[29], f32[29]);
        assert!((found - expected).abs() < 0.02 * expected, "{path:?}: {found} instead of {expected}");
    }
}

#[test]
fn precisions_have_names() {
    for (name, precision) in [("f32", Precision::F32), ("bf16", Precision::Bf16)] {
        assert_eq!(name.parse::<Precision>().unwrap(), precision);
        assert_eq!(precision.to_string(), name);
    }
    // What bf16 gains on AMX nobody has measured yet.
    assert_eq!("auto".parse::<Precision>().unwrap(), Precision::F32);
    let error = "half".parse::<Precision>().unwrap_err().to_string();
    assert!(error.contains("half") && error.contains("f32, bf16 or auto"), "{error}");
}

#[test]
fn paths_agree_and_the_loss_falls() {
    let runs: Vec<Vec<f32>> = paths().into_iter().map(|path| train(path, 2, 30).0).collect();
    for losses in &runs {
        assert!(losses[29] < 0.75 * losses[0], "{losses:?}");
        // Rounding differs between the paths and grows with the steps; the first ones must agree closely.
        for (a, b) in losses.iter().zip(&runs[0]).take(3) {
            assert!((a - b).abs() < 1e-3 * b, "{a} and {b}");
        }
    }
}

#[test]
fn a_file_gives_the_same_network_back() {
    let map = variables(&CONFIG, 11);
    let x = tensor(&mut generator(12), &[1, 2, 8, 8]);
    let expected = load(&CONFIG, &map).forward(&x, false).unwrap();
    let path = std::env::temp_dir().join(format!("scribseg-unet-{}.safetensors", std::process::id()));
    map.save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let vb = VarBuilder::from_buffered_safetensors(bytes, DType::F32, &Device::Cpu).unwrap();
    let again = UNet::load(&CONFIG, vb).unwrap();
    assert_eq!(bits(&expected), bits(&again.forward(&x, false).unwrap()));
    // Batches are independent of each other when the running statistics normalise.
    let two = Tensor::cat(&[&x, &(&x * 2.0).unwrap()], 0).unwrap();
    assert_eq!(bits(&again.forward(&two, false).unwrap().narrow(0, 0, 1).unwrap()), bits(&expected));
}

#[test]
fn predictions_are_the_largest_logits() {
    let network = load(&CONFIG, &variables(&CONFIG, 13));
    let x = tensor(&mut generator(14), &[2, 2, 8, 12]);
    let expected = network.forward(&x, false).unwrap().argmax(1).unwrap().to_dtype(DType::U8).unwrap();
    let found = network.predict(&x).unwrap();
    assert_eq!(found.dims(), [2, 8, 12]);
    assert_eq!(
        found.flatten_all().unwrap().to_vec1::<u8>().unwrap(),
        expected.flatten_all().unwrap().to_vec1::<u8>().unwrap()
    );
}

#[test]
fn starting_values_come_from_the_generator_alone() {
    let config = Config { in_channels: 4, out_channels: 2, width: 16, depth: 2 };
    let first = init(&config, &mut generator(15), &Device::Cpu).unwrap();
    let second = init(&config, &mut generator(15), &Device::Cpu).unwrap();
    let other = init(&config, &mut generator(16), &Device::Cpu).unwrap();
    let names: Vec<String> = config.parameters().into_iter().map(|p| p.name).collect();
    assert_eq!(names.len(), first.data().lock().unwrap().len());
    for name in &names {
        assert_eq!(bits(&get(&first, name)), bits(&get(&second, name)), "{name}");
    }
    let kernel = flat(&get(&first, "enc1.conv2.weight"));
    assert_ne!(kernel, flat(&get(&other, "enc1.conv2.weight")));
    // He: variance 2 / fan-in.
    let variance = kernel.iter().map(|v| f64::from(v * v)).sum::<f64>() / kernel.len() as f64;
    assert!((variance / (2.0 / 288.0) - 1.0).abs() < 0.05, "{variance}");
}

#[test]
fn a_new_head_on_an_old_body() {
    let map = variables(&CONFIG, 17);
    let (config, new) = replace_head(&map, &CONFIG, 4, &mut generator(18)).unwrap();
    assert_eq!(config, Config { out_channels: 4, ..CONFIG });
    assert_eq!(get(&new, "head.weight").dims(), [4, 3, 1, 1]);
    let body = || CONFIG.parameters().into_iter().map(|p| p.name).filter(|n| !n.starts_with("head."));
    for name in body() {
        assert_eq!(bits(&get(&map, &name)), bits(&get(&new, &name)), "{name}");
    }
    // Nothing is shared: a training pass of the new one leaves the old one alone.
    let before = bits(&get(&map, "enc0.bn1.running_mean"));
    load(&config, &new).forward(&tensor(&mut generator(19), &[1, 2, 8, 8]), true).unwrap();
    assert_eq!(before, bits(&get(&map, "enc0.bn1.running_mean")));
    assert_ne!(before, bits(&get(&new, "enc0.bn1.running_mean")));
    assert!(matches!(
        replace_head(&map, &Config { width: 4, ..CONFIG }, 4, &mut generator(1)),
        Err(Error::Shape { .. })
    ));
    assert!(matches!(
        replace_head(&map, &Config { depth: 3, ..CONFIG }, 4, &mut generator(1)),
        Err(Error::Missing { .. })
    ));
}

#[test]
fn what_does_not_fit_is_refused() {
    let network = load(&CONFIG, &variables(&CONFIG, 20));
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    for (h, w) in [(6, 8), (8, 6), (0, 8)] {
        let error = network.forward(&zeros(&[1, 2, h, w]), true).unwrap_err();
        assert!(matches!(error, Error::InputSize { multiple: 4, .. } | Error::Shape { .. }), "{error}");
    }
    let error = network.forward(&zeros(&[1, 2, 6, 8]), true).unwrap_err().to_string();
    assert!(error.contains("6 x 8") && error.contains("multiples of 4"), "{error}");
    assert!(matches!(network.forward(&zeros(&[1, 3, 8, 8]), true), Err(Error::Shape { .. })));
    assert!(matches!(network.forward(&zeros(&[2, 8, 8]), true), Err(Error::Shape { .. })));
    let double = Tensor::zeros((1, 2, 8, 8), DType::F64, &Device::Cpu).unwrap();
    assert!(matches!(network.forward(&double, true), Err(Error::DType { .. })));
    for config in [
        Config { width: 0, ..CONFIG },
        Config { in_channels: 0, ..CONFIG },
        Config { out_channels: 256, ..CONFIG },
        Config { depth: 9, ..CONFIG },
        Config { width: 1 << 13, ..CONFIG },
    ] {
        assert!(
            matches!(init(&config, &mut generator(1), &Device::Cpu), Err(Error::Config { .. })),
            "{config:?}"
        );
    }
}

#[test]
fn a_pass_gives_the_bits_of_candles_own_record() {
    let (map, other) = (variables(&CONFIG, 7), variables(&CONFIG, 7));
    let x = tensor(&mut generator(8), &[2, 2, 8, 12]);
    let scribble = Tensor::from_vec(labels(9, 2 * 96, 3, 0.3), (2, 8, 12), &Device::Cpu).unwrap();
    let weak = Tensor::from_vec(labels(10, 2 * 96, 3, 0.8), (2, 8, 12), &Device::Cpu).unwrap();
    let loss = |logits: &Tensor| partial_cross_entropy(logits, &scribble, &weak, 0.8).unwrap();
    let network = load(&CONFIG, &map);
    let pass = network.pass(&x).unwrap();
    let found = pass.backward(&loss(pass.logits())).unwrap();
    let logits = load(&CONFIG, &other).forward(&x, true).unwrap();
    assert_eq!(bits(pass.logits()), bits(&logits));
    let expected = loss(&logits).backward().unwrap();
    for parameter in CONFIG.parameters() {
        let (mine, theirs) = (get(&map, &parameter.name), get(&other, &parameter.name));
        // Running statistics, too, moved alike.
        assert_eq!(bits(&mine), bits(&theirs), "{}", parameter.name);
        match (found.get(&mine), expected.get(&theirs)) {
            (None, None) => assert!(parameter.name.contains(".running_"), "{}", parameter.name),
            (mine, theirs) => assert_eq!(mine.map(flat), theirs.map(flat), "{}", parameter.name),
        }
    }
    // What a loss takes from a parameter directly is added.
    let name = "enc0.conv1.weight";
    let (mine, theirs) = (get(&map, name), get(&other, name));
    let pull = |weight: &Var| (weight.sqr().unwrap().sum_all().unwrap() * 0.5).unwrap();
    let both = pass.backward(&(loss(pass.logits()) + pull(&mine)).unwrap()).unwrap();
    let sum: Vec<f32> =
        flat(expected.get(&theirs).unwrap()).iter().zip(flat(&mine)).map(|(g, w)| w + g).collect();
    assert_eq!(flat(both.get(&mine).unwrap()), sum);
    let unrelated = Var::new(1f32, &Device::Cpu).unwrap();
    let error = pass.backward(&unrelated.sqr().unwrap()).err().unwrap();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
}
