//! A million calls leave no memory behind; alone in its process, whose pages it counts.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::sync::Arc;

use candle_core::{Device, Tensor};
use scribseg_crf_kernels::{Features, Lattice, LossForm, PairwiseKernel, crf_loss};

/// Pages of memory that the process holds.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_million_calls_leak_nothing() {
    let image: Vec<f32> = (0..9).map(|p| 20.0 * p as f32).collect();
    let features = Features::bilateral(&image, 3, 3, [1.0, 1.0], 10.0, 15.0).unwrap();
    let kernel: Arc<dyn PairwiseKernel> = Arc::new(Lattice::build(&features).unwrap());
    let y = Tensor::full(0.5f32, (1, 2, 3, 3), &Device::Cpu).unwrap();
    let mut out = [0.0; 9];
    let mut run = |calls: usize| {
        for call in 0..calls {
            match call % 4 {
                0 => drop(Lattice::build(&features).unwrap()),
                1 => drop(
                    crf_loss(&y, std::slice::from_ref(&kernel), LossForm::NonNegative, None, None).unwrap(),
                ),
                2 => drop(Lattice::build(&Features::new(vec![1e30, -1e30], 2).unwrap())),
                _ => kernel.filter(1, &image, &mut out).unwrap(),
            }
        }
    };
    run(50_000);
    let before = resident();
    run(1_000_000);
    let grown = resident().saturating_sub(before);
    // One byte a call would be 244 pages of 4 KiB.
    assert!(grown < 200, "{grown} pages more after a million calls");
}
