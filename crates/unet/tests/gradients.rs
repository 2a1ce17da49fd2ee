//! Every operator's backward pass, and the whole network's, against central differences.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{Device, Tensor, Var};
use common::{check_gradient, generator, tensor};
use scribseg_unet::ops::{self, BatchMoments, NormMode};
use scribseg_unet::{partial_cross_entropy, soft_dice, softmax};

fn var(seed: u64, shape: &[usize]) -> Var {
    Var::from_tensor(&tensor(&mut generator(seed), shape)).unwrap()
}

#[test]
fn conv3x3() {
    for (n, c, o, h, w) in [(2, 3, 5, 6, 6), (2, 4, 8, 7, 9), (1, 17, 9, 12, 20)] {
        let (x, k) = (var(1, &[n, c, h, w]), var(2, &[o, c, 3, 3]));
        check_gradient("conv3x3", &[x.clone(), k.clone()], 1e-2, 1e-3, || ops::conv3x3(&x, &k).unwrap());
    }
}

#[test]
fn conv1x1() {
    let (x, k, b) = (var(1, &[2, 5, 6, 7]), var(2, &[3, 5, 1, 1]), var(3, &[3]));
    check_gradient("conv1x1", &[x.clone(), k.clone(), b.clone()], 1e-2, 1e-3, || {
        ops::conv1x1(&x, &k, &b).unwrap()
    });
}

#[test]
fn batch_norm_relu() {
    let (x, gamma, beta) = (var(1, &[3, 4, 6, 7]), var(2, &[4]), var(3, &[4]));
    let fixed = BatchMoments { mean: vec![0.1, -0.2, 0.3, 0.0], variance: vec![1.0, 2.0, 0.5, 1.5] };
    for mode in [NormMode::Batch, NormMode::Fixed(fixed)] {
        check_gradient("batch norm", &[x.clone(), gamma.clone(), beta.clone()], 2e-4, 1e-3, || {
            ops::batch_norm_relu(&x, &gamma, &beta, mode.clone()).unwrap().0
        });
    }
}

#[test]
fn max_pool2() {
    let x = var(1, &[2, 3, 6, 10]);
    check_gradient("max pool", std::slice::from_ref(&x), 1e-4, 1e-3, || ops::max_pool2(&x).unwrap());
}

#[test]
fn upsample_concat() {
    let (low, skip) = (var(1, &[2, 3, 3, 5]), var(2, &[2, 2, 6, 10]));
    check_gradient("upsample and concat", &[low.clone(), skip.clone()], 1e-2, 1e-3, || {
        ops::upsample_concat(&low, &skip).unwrap()
    });
}

#[test]
fn an_input_with_two_consumers_gets_the_sum_of_both_gradients() {
    let x = var(1, &[1, 2, 4, 4]);
    check_gradient("two consumers", std::slice::from_ref(&x), 1e-4, 1e-3, || {
        ops::upsample_concat(&ops::max_pool2(&x).unwrap(), &x).unwrap()
    });
}

#[test]
fn channel_softmax() {
    let x = var(1, &[2, 4, 3, 5]);
    check_gradient("softmax", std::slice::from_ref(&x), 1e-3, 1e-3, || softmax(&x).unwrap());
}

fn labels(seed: u64, shape: (usize, usize, usize), classes: u8) -> Tensor {
    use rand::RngExt;
    let mut rng = generator(seed);
    let count = shape.0 * shape.1 * shape.2;
    let values: Vec<u8> =
        (0..count).map(|_| if rng.random_bool(0.5) { 255 } else { rng.random_range(0..classes) }).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

#[test]
fn soft_dice_gradient() {
    let x = var(1, &[2, 4, 4, 5]);
    let mask = labels(2, (2, 4, 5), 3); // class 3 is absent
    check_gradient("soft Dice", std::slice::from_ref(&x), 1e-2, 1e-3, || {
        soft_dice(&softmax(&x).unwrap(), &mask).unwrap()
    });
}

#[test]
fn partial_cross_entropy_gradient() {
    let x = var(1, &[2, 3, 4, 5]);
    let (scribble, weak) = (labels(2, (2, 4, 5), 3), labels(3, (2, 4, 5), 3));
    // Small steps would drown in the rounding of the scalar to f32.
    check_gradient("partial cross-entropy", std::slice::from_ref(&x), 5e-3, 1e-3, || {
        partial_cross_entropy(&x, &scribble, &weak, 0.8).unwrap()
    });
}
