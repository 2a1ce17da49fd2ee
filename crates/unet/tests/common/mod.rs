//! What several test files share.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use candle_core::{Device, Tensor, Var};
use rand::{Rng, RngExt};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rand_distr::StandardNormal;

pub fn generator(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

pub fn normal(rng: &mut impl Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.sample::<f32, _>(StandardNormal)).collect()
}

pub fn tensor(rng: &mut impl Rng, shape: &[usize]) -> Tensor {
    Tensor::from_vec(normal(rng, shape.iter().product()), shape, &Device::Cpu).unwrap()
}

pub fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

pub fn bits(tensor: &Tensor) -> Vec<u32> {
    flat(tensor).into_iter().map(f32::to_bits).collect()
}

/// Compares the gradient of Σ cotangent·f(vars) with central differences along random directions.
///
/// The cotangent is random, the sums are `f64`. Along a standard normal direction the derivative has the size of the
/// gradient's norm, so that is what the error is measured against.
pub fn check_gradient(what: &str, vars: &[Var], step: f64, tolerance: f64, f: impl Fn() -> Tensor) {
    let rng = &mut generator(99);
    let out = f();
    let cotangent = tensor(rng, out.dims());
    let grads = (&out * &cotangent).unwrap().sum_all().unwrap().backward().unwrap();
    let weights = flat(&cotangent);
    let value = || flat(&f()).iter().zip(&weights).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    for (index, var) in vars.iter().enumerate() {
        let gradient =
            flat(grads.get(var.as_tensor()).unwrap_or_else(|| panic!("{what}: no gradient of {index}")));
        let norm = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        assert!(norm > 0.0, "{what}: the gradient of input {index} is zero");
        let start = flat(var.as_tensor());
        for _ in 0..3 {
            let direction = normal(rng, start.len());
            let moved = |sign: f64| {
                let values: Vec<f32> = (start.iter().zip(&direction))
                    .map(|(&x, &v)| (f64::from(x) + sign * step * f64::from(v)) as f32)
                    .collect();
                var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap()).unwrap();
                value()
            };
            let numeric = (moved(1.0) - moved(-1.0)) / (2.0 * step);
            let analytic: f64 =
                gradient.iter().zip(&direction).map(|(&g, &v)| f64::from(g) * f64::from(v)).sum();
            let error = (numeric - analytic).abs() / norm;
            assert!(
                error <= tolerance,
                "{what}, input {index}: {numeric} numerically, {analytic} by backward ({error})"
            );
        }
        var.set(&Tensor::from_vec(start, var.shape(), &Device::Cpu).unwrap()).unwrap();
    }
}
