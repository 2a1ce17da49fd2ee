//! Whatever the shapes, bandwidths and images: a result or a typed error, never a panic.

#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use scribseg_crf_kernels::{
    CpuPath, Exact, Features, Lattice, LossForm, Normalisation, PairwiseKernel, Quality, Result, Term, View,
    crf_loss, mean_field,
};

const ODD: [f64; 12] =
    [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-300, 1e-38, 1e-20, 1e20, 1e38, 1e300];

/// Mostly a number one would use, now and then one that nobody should.
fn number(rng: &mut impl Rng, usual: std::ops::Range<f64>) -> f64 {
    if rng.random_bool(0.1) { *ODD.choose(rng).unwrap() } else { rng.random_range(usual) }
}

fn side(rng: &mut impl Rng) -> usize {
    match rng.random_range(0..10) {
        0 => 0,
        1 | 2 => 1,
        _ => rng.random_range(2..12),
    }
}

/// An image on the 0–255 scale, constant, random, huge, or with a value that is not a number.
fn image(rng: &mut impl Rng, length: usize) -> Vec<f32> {
    let kind = rng.random_range(0..6);
    let level = rng.random_range(0.0f32..255.0);
    let mut values: Vec<f32> = (0..length)
        .map(|_| match kind {
            0 => level,
            1 => 0.0,
            2 => rng.random_range(-1e30f32..1e30),
            _ => rng.random_range(0.0..255.0),
        })
        .collect();
    if kind == 5 && !values.is_empty() {
        let at = rng.random_range(0..length);
        values[at] = *ODD.choose(rng).unwrap() as f32;
    }
    values
}

/// Features of a slice or a volume, whose length now and then is not the shape's.
fn features(rng: &mut impl Rng) -> ([usize; 3], Result<Features>) {
    let volume = rng.random_bool(0.3);
    let shape = [if volume { side(rng).min(4) } else { 1 }, side(rng), side(rng)];
    let pixels: usize = shape.iter().product();
    let count = rng.random_range(0..7);
    let channels = if rng.random_bool(0.05) { 16 } else { count };
    let length = (pixels * channels + usize::from(rng.random_bool(0.05)))
        .saturating_sub(usize::from(rng.random_bool(0.05)));
    let values = image(rng, length);
    let mm = [number(rng, 0.3..6.0), number(rng, 0.3..6.0), number(rng, 0.3..6.0)];
    let (sigma, intensity) = (number(rng, 1.0..200.0), number(rng, 1.0..60.0));
    let features = if volume {
        Features::bilateral_volume(&values, shape, mm, sigma, intensity)
    } else {
        Features::bilateral(&values, shape[1], shape[2], [mm[1], mm[2]], sigma, intensity)
    };
    (shape, features)
}

fn kernel(rng: &mut impl Rng, features: &Features) -> Result<Arc<dyn PairwiseKernel>> {
    let there: Vec<CpuPath> = CpuPath::ALL.into_iter().filter(|p| p.is_available()).collect();
    let path = *there.choose(rng).unwrap();
    Ok(match rng.random_range(0..3) {
        0 => Arc::new(Lattice::build_with(features, Quality::Standard, path)?),
        1 => Arc::new(Lattice::build_with(features, Quality::High, path)?),
        _ => Arc::new(Exact::build(features.clone())?),
    })
}

fn weights(rng: &mut impl Rng, batch: usize, shape: [usize; 3]) -> Option<Tensor> {
    let rows = shape[0] * shape[1] + usize::from(rng.random_bool(0.05));
    let range = if rng.random_bool(0.05) { -1.0..2.0 } else { 0.0..1.0f32 };
    let values: Vec<f32> = (0..batch * rows * shape[2]).map(|_| rng.random_range(range.clone())).collect();
    rng.random_bool(0.5).then(|| Tensor::from_vec(values, (batch, rows, shape[2]), &Device::Cpu).unwrap())
}

/// One random case; says whether it came to a loss.
fn case(rng: &mut impl Rng) -> bool {
    let (shape, features) = features(rng);
    let Ok(features) = features else { return false };
    let Ok(kernel) = kernel(rng, &features) else { return false };
    let pixels = kernel.pixels();
    assert_eq!(kernel.mass().len(), pixels);
    assert!(kernel.mass().iter().all(|m| m.is_finite() && *m >= 0.0));
    let classes = rng.random_range(1..6);
    // A volume is filtered as its slices one below the other.
    let (batch, rows, columns) = (rng.random_range(0..3usize), shape[0] * shape[1], shape[2]);
    let y: Vec<f32> = (0..batch * classes * pixels).map(|_| rng.random_range(0.0..1.0)).collect();
    let y = Var::from_vec(y, (batch, classes, rows, columns), &Device::Cpu).unwrap();
    let kernels = vec![kernel.clone(); batch + usize::from(rng.random_bool(0.05))];
    let form = if rng.random_bool(0.5) { LossForm::NonNegative } else { LossForm::ConstantFree };
    let (roi, gate) = (weights(rng, batch, shape), weights(rng, batch, shape));
    let Ok(loss) = crf_loss(&y, &kernels, form, roi.as_ref(), gate.as_ref()) else { return false };
    let value: f32 = loss.to_scalar().unwrap();
    assert!(value.is_finite());
    let gradients = loss.backward().unwrap();
    let gradient: Vec<f32> = gradients.get(&y).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    assert!(gradient.iter().all(|g| g.is_finite()));
    if batch > 0 && rng.random_bool(0.3) {
        let probabilities: Vec<f32> = y.get(0).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let terms = [Term {
            kernel: kernel.clone(),
            weight: number(rng, 0.0..10.0) as f32,
            normalisation: Normalisation::Symmetric,
        }];
        if let Ok(q) = mean_field(&probabilities, &terms, 2) {
            assert!(q.iter().all(|q| q.is_finite()));
        }
    }
    true
}

#[test]
fn ten_thousand_random_cases_give_a_result_or_a_typed_error() {
    let results = (0..10_000u64)
        .into_par_iter()
        .filter(|&seed| {
            let outcome = std::panic::catch_unwind(|| case(&mut ChaCha8Rng::seed_from_u64(seed)));
            outcome.unwrap_or_else(|_| panic!("case {seed} panicked"))
        })
        .count();
    // Both ends are met often: else the cases would prove nothing.
    assert!((2000..8000).contains(&results), "{results} of 10,000 came to a loss");
}

#[test]
fn shapes_beyond_memory_are_refused() {
    let huge = usize::MAX / 2;
    assert!(Features::bilateral(&[], huge, 3, [1.0, 1.0], 10.0, 15.0).is_err());
    assert!(Features::bilateral(&[1.0; 4], huge, 1, [1.0, 1.0], 10.0, 15.0).is_err());
    let one = Arc::new(Exact::build(Features::new(vec![1.0, 2.0], 1).unwrap()).unwrap());
    assert!(one.filter(huge + 2, &[], &mut []).is_err());
    assert!(View::default().apply(&[1u8], huge, 3).is_empty());
    assert!(Features::bilateral_volume(&[], [huge, huge, huge], [1.0; 3], 10.0, 15.0).is_err());
}
