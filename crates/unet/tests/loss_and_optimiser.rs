//! Eq. 1 and the optimiser against their definitions.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/reference.rs"]
mod reference;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarMap;
use common::{bits, flat, generator, tensor};
use rand::RngExt;
use reference::Array;
use scribseg_unet::{Error, LinearSchedule, Sgd, UNKNOWN, partial_cross_entropy, soft_dice, softmax};

const SHAPE: (usize, usize, usize) = (2, 4, 5);

fn label_tensor(values: &[u8]) -> Tensor {
    Tensor::from_slice(values, SHAPE, &Device::Cpu).unwrap()
}

fn labels(seed: u64, known: f64) -> Vec<u8> {
    let rng = &mut generator(seed);
    (0..40).map(|_| if rng.random_bool(known) { rng.random_range(0..3) } else { UNKNOWN }).collect()
}

fn loss(logits: &Tensor, scribble: &[u8], weak: &[u8], lambda: f64) -> f32 {
    let loss = partial_cross_entropy(logits, &label_tensor(scribble), &label_tensor(weak), lambda).unwrap();
    loss.to_scalar().unwrap()
}

#[test]
fn value_follows_eq_1() {
    let logits = tensor(&mut generator(1), &[2, 3, 4, 5]);
    let values = flat(&logits).into_iter().map(f64::from).collect();
    let array = Array { shape: [2, 3, 4, 5], values };
    for (s, g, lambda) in
        [(0.3, 0.7, 0.8), (1.0, 1.0, 0.2), (0.0, 0.5, 0.8), (0.5, 0.0, 0.8), (0.0, 0.0, 1.0)]
    {
        let (s, g) = (labels(2, s), labels(3, g));
        let expected = reference::partial_cross_entropy(&array, &s, &g, lambda);
        assert!((f64::from(loss(&logits, &s, &g, lambda)) - expected).abs() <= 1e-6 * expected.max(1e-9));
    }
}

#[test]
fn unlabelled_pixels_count_for_exactly_nothing() {
    let x = Var::from_tensor(&tensor(&mut generator(4), &[2, 3, 4, 5])).unwrap();
    let (s, g) = (labels(5, 0.3), labels(6, 0.4));
    let value = partial_cross_entropy(x.as_tensor(), &label_tensor(&s), &label_tensor(&g), 0.8).unwrap();
    let gradient = flat(value.backward().unwrap().get(x.as_tensor()).unwrap());
    let mut moved = flat(x.as_tensor());
    let mut unlabelled = 0;
    for (i, slope) in gradient.iter().enumerate() {
        let pixel = i / 60 * 20 + i % 20;
        if s[pixel] == UNKNOWN && g[pixel] == UNKNOWN {
            assert_eq!(slope.to_bits(), 0);
            moved[i] += 1000.0;
            unlabelled += 1;
        } else {
            assert_ne!(*slope, 0.0);
        }
    }
    assert!(unlabelled > 10);
    let moved = Tensor::from_vec(moved, (2, 3, 4, 5), &Device::Cpu).unwrap();
    assert_eq!(loss(&moved, &s, &g, 0.8).to_bits(), value.to_scalar::<f32>().unwrap().to_bits());
}

/// The definition, over the pixels one by one.
fn dice_by_definition(p: &Tensor, mask: &[u8]) -> f64 {
    let p = flat(p);
    let class = |k: u8| {
        let known = || (0..40).filter(|&i| mask[i] != UNKNOWN);
        let at = |i: usize| f64::from(p[i / 20 * 60 + usize::from(k) * 20 + i % 20]);
        let shared: f64 = known().filter(|&i| mask[i] == k).map(at).sum();
        let total = known().map(at).sum::<f64>() + known().filter(|&i| mask[i] == k).count() as f64;
        if mask.contains(&k) { 1.0 - 2.0 * shared / total } else { 0.0 }
    };
    (class(1) + class(2)) / 2.0
}

#[test]
fn soft_dice_follows_its_definition() {
    let y = softmax(&tensor(&mut generator(41), &[2, 3, 4, 5])).unwrap();
    let without_2: Vec<u8> = labels(42, 0.8).into_iter().map(|l| if l == 2 { 0 } else { l }).collect();
    for mask in [labels(43, 1.0), labels(44, 0.4), without_2, vec![0; 40], vec![UNKNOWN; 40]] {
        let value: f32 = soft_dice(&y, &label_tensor(&mask)).unwrap().to_scalar().unwrap();
        let expected = dice_by_definition(&y, &mask);
        assert!((f64::from(value) - expected).abs() <= 1e-6, "{value} against {expected}");
    }
    // A prediction that is the mask has no loss.
    let mask = labels(45, 1.0);
    let sure: Vec<f32> = (0..120)
        .map(|i| f32::from(u8::from(usize::from(mask[i / 60 * 20 + i % 20]) == i / 20 % 3)))
        .collect();
    let sure = Tensor::from_vec(sure, (2, 3, 4, 5), &Device::Cpu).unwrap();
    assert_eq!(soft_dice(&sure, &label_tensor(&mask)).unwrap().to_scalar::<f32>().unwrap(), 0.0);
}

#[test]
fn soft_dice_refuses_what_it_cannot_use() {
    let one = tensor(&mut generator(46), &[2, 1, 4, 5]);
    let mask = label_tensor(&labels(47, 1.0));
    assert!(matches!(soft_dice(&one, &mask), Err(Error::Value { .. })));
    let two = tensor(&mut generator(46), &[2, 2, 4, 5]);
    assert!(matches!(soft_dice(&two, &label_tensor(&[2; 40])), Err(Error::Label { label: 2, .. })));
    let other = Tensor::zeros((2, 4, 4), DType::U8, &Device::Cpu).unwrap();
    assert!(matches!(soft_dice(&two, &other), Err(Error::Shape { .. })));
}

#[test]
fn huge_logits_stay_finite() {
    let x = Var::from_tensor(&(tensor(&mut generator(7), &[2, 3, 4, 5]) * 1e30).unwrap()).unwrap();
    let (s, g) = (label_tensor(&labels(8, 0.5)), label_tensor(&labels(9, 0.5)));
    let value = partial_cross_entropy(x.as_tensor(), &s, &g, 0.8).unwrap();
    assert!(value.to_scalar::<f32>().unwrap().is_finite());
    let gradient = flat(value.backward().unwrap().get(x.as_tensor()).unwrap());
    assert!(gradient.iter().all(|g| g.is_finite()));
    let y = softmax(x.as_tensor()).unwrap();
    assert!(flat(&y).iter().all(|p| (0.0..=1.0).contains(p)));
    let sums = flat(&y.sum(1).unwrap());
    assert!(sums.iter().all(|s| (s - 1.0).abs() < 1e-6));
}

#[test]
fn bad_labels_and_shapes_are_refused() {
    let logits = tensor(&mut generator(10), &[2, 3, 4, 5]);
    let good = label_tensor(&[UNKNOWN; 40]);
    let mut bad = [UNKNOWN; 40];
    bad[7] = 3;
    let error = partial_cross_entropy(&logits, &good, &label_tensor(&bad), 1.0).unwrap_err();
    assert!(matches!(error, Error::Label { what: "weak", label: 3, index: 7, classes: 3 }), "{error}");
    assert!(matches!(partial_cross_entropy(&logits, &good, &good, -1.0), Err(Error::Value { .. })));
    assert!(matches!(partial_cross_entropy(&logits, &good, &good, f64::NAN), Err(Error::Value { .. })));
    let other = good.narrow(0, 0, 1).unwrap();
    assert!(matches!(partial_cross_entropy(&logits, &other, &good, 1.0), Err(Error::Shape { .. })));
    let wide = good.to_dtype(DType::U32).unwrap();
    assert!(matches!(partial_cross_entropy(&logits, &wide, &good, 1.0), Err(Error::DType { .. })));
}

/// One variable `w` of a map, and a statistic that must never be trained.
fn map() -> (VarMap, Var) {
    let map = VarMap::new();
    let w = Var::new(&[1.0f32, -2.0, 3.0], &Device::Cpu).unwrap();
    let statistic = Var::new(&[5.0f32, 6.0, 7.0], &Device::Cpu).unwrap();
    let mut data = map.data().lock().unwrap();
    data.insert("a.weight".into(), w.clone());
    data.insert("a.running_mean".into(), statistic);
    drop(data);
    (map, w)
}

#[test]
fn momentum_and_decay_follow_pytorch() {
    let (map, w) = map();
    let mut sgd = Sgd::new(&map, 0.9, 0.01).unwrap();
    let (mut p, mut v) = ([1.0f64, -2.0, 3.0], [0f64; 3]);
    for step in 0..5 {
        let rate = 0.1 / (step + 1) as f64;
        // The gradient of Σ w³ is 3 w².
        let objective = w.as_tensor().powf(3.0).unwrap().sum_all().unwrap();
        sgd.step(&objective.backward().unwrap(), rate).unwrap();
        for i in 0..3 {
            v[i] = 0.9 * v[i] + 3.0 * p[i] * p[i] + 0.01 * p[i];
            p[i] -= rate * v[i];
        }
        for (found, expected) in flat(w.as_tensor()).iter().zip(p) {
            assert!((f64::from(*found) - expected).abs() <= 1e-5 * expected.abs(), "step {step}");
        }
    }
    assert_eq!(flat(map.data().lock().unwrap()["a.running_mean"].as_tensor()), [5.0, 6.0, 7.0]);
}

#[test]
fn a_saved_state_resumes_to_the_same_bits() {
    let step = |sgd: &mut Sgd, w: &Var| {
        let objective = w.as_tensor().sqr().unwrap().sum_all().unwrap();
        sgd.step(&objective.backward().unwrap(), 0.05).unwrap();
    };
    let (full_map, full) = map();
    let mut sgd = Sgd::new(&full_map, 0.9, 0.0).unwrap();
    step(&mut sgd, &full);
    step(&mut sgd, &full);
    let (state, weights) = (sgd.state().unwrap(), full.as_tensor().copy().unwrap());
    assert_eq!(state.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["a.weight"]);
    let saved = bits(&state[0].1);
    step(&mut sgd, &full);
    assert_eq!(saved, bits(&state[0].1), "the state is a copy");

    let (resumed_map, resumed) = map();
    resumed.set(&weights).unwrap();
    let mut sgd = Sgd::new(&resumed_map, 0.9, 0.0).unwrap();
    sgd.load_state(&state).unwrap();
    step(&mut sgd, &resumed);
    assert_eq!(bits(full.as_tensor()), bits(resumed.as_tensor()));

    assert!(matches!(sgd.load_state(&[]), Err(Error::Missing { .. })));
    let wrong = [("a.weight".to_string(), Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap())];
    assert!(matches!(sgd.load_state(&wrong), Err(Error::Shape { .. })));
}

#[test]
fn optimiser_settings_are_checked() {
    let (map, w) = map();
    assert!(Sgd::new(&map, 1.0, 0.0).is_err());
    assert!(Sgd::new(&map, f64::NAN, 0.0).is_err());
    assert!(Sgd::new(&map, 0.9, -1.0).is_err());
    let grads = w.as_tensor().sum_all().unwrap().backward().unwrap();
    assert!(Sgd::new(&map, 0.9, 0.0).unwrap().step(&grads, f64::NAN).is_err());
}

#[test]
fn the_rate_falls_linearly() {
    let schedule = LinearSchedule::paper(10);
    assert_eq!(schedule.rate(0), 0.011);
    assert!((schedule.rate(5) - 0.0055).abs() < 1e-15);
    assert!(schedule.rate(9) > 0.0);
    assert_eq!((schedule.rate(10), schedule.rate(usize::MAX)), (0.0, 0.0));
    assert_eq!(LinearSchedule { start: 1.0, end: 2.0, iterations: 0 }.rate(0), 2.0);
}
