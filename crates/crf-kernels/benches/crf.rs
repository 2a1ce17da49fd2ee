//! Construction and filtering of a slice, and the loss of a cached batch; one JSON line a case.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{Device, Tensor, Var};
use scribseg_crf_kernels::{Features, Lattice, LossForm, PairwiseKernel, crf_loss};

const SIDE: usize = 192;

fn median(mut f: impl FnMut(), runs: usize) -> f64 {
    f();
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let begun = Instant::now();
            f();
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[runs / 2]
}

fn report(name: &str, ms: f64) {
    let threads = rayon::current_num_threads();
    println!(
        "{{\"bench\":\"{name}\",\"device\":\"cpu\",\"threads\":{threads},\"ours_ms\":{ms:.3},\"peer\":null,\"peer_ms\":null,\"ratio\":null}}"
    );
}

/// Tissue, a lesion and a little noise, three channels on a 0–255 scale.
fn image(seed: usize) -> Vec<f32> {
    (0..3 * SIDE * SIDE)
        .map(|i| {
            let (c, p) = (i / (SIDE * SIDE), i % (SIDE * SIDE));
            let (y, x) = ((p / SIDE) as f32 - 96.0, (p % SIDE) as f32 - 96.0);
            let tissue = if (x / 13.0 + seed as f32).sin() + (y / 17.0).cos() > 0.2 {
                150.0
            } else {
                110.0 - 20.0 * c as f32
            };
            let lesion = if y.hypot(x - 30.0) < 25.0 { 60.0 } else { 0.0 };
            let noise = ((i * 2_654_435_761) >> 7 & 15) as f32 - 7.5;
            if y.hypot(x) < 85.0 { tissue + lesion + noise } else { 0.0 }
        })
        .collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let quick = std::env::var_os("SCRIBSEG_BENCH_QUICK").is_some();
    let (runs, batch) = if quick { (3, 4) } else { (15, 32) };
    let features = (0..batch)
        .map(|s| Features::bilateral(&image(s), SIDE, SIDE, [1.0, 1.0], 100.0, 15.0))
        .collect::<Result<Vec<_>, _>>()?;
    report("crf/build/192", median(|| drop(black_box(Lattice::build(&features[0]))), runs));
    let kernels = features
        .iter()
        .map(|f| Ok(Arc::new(Lattice::build(f)?) as Arc<dyn PairwiseKernel>))
        .collect::<Result<Vec<_>, scribseg_crf_kernels::Error>>()?;
    let values = vec![0.5; 2 * SIDE * SIDE];
    let mut out = values.clone();
    report("crf/filter/192-k2", median(|| drop(black_box(kernels[0].filter(2, &values, &mut out))), runs));
    let y = Var::from_tensor(&Tensor::full(0.5f32, (batch, 2, SIDE, SIDE), &Device::Cpu)?)?;
    let step = || -> candle_core::Result<()> {
        let loss = crf_loss(&y, &kernels, LossForm::NonNegative, None, None)?;
        black_box(loss.backward()?);
        Ok(())
    };
    step()?;
    report(&format!("crf/loss/b{batch}-k2-cached"), median(|| drop(step()), runs));
    Ok(())
}
