//! Loss and gradient of a batch on a CUDA device: first against the CPU, then timed by the device's own events; one JSON line a
//! case. With `SCRIBSEG_BENCH_PEERS=1` MONAI's filter alone (`benches/peer_cuda.py`) on the same images, where the Python at
//! hand has a MONAI that was built with it. Says so and ends where there is no device.

mod image;

use std::error::Error;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use image::{SIDE, image};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scribseg_crf_kernels::cudarc::driver::sys::CUevent_flags;
use scribseg_crf_kernels::{Batch, Cuda, Features, Lattice, LossForm, PairwiseKernel, Resident, crf_loss};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const FORM: LossForm = LossForm::NonNegative;

fn main() -> Outcome {
    let cuda = match Cuda::new(0) {
        Ok(cuda) => cuda,
        Err(error) => {
            eprintln!("!! NOT MEASURED on a CUDA device: {error}");
            return Ok(());
        }
    };
    eprintln!("device: {}", cuda.stream().context().name()?);
    let is_set = |name| std::env::var(name).is_ok_and(|value| value == "1");
    let (rounds, batch) = if is_set("SCRIBSEG_BENCH_QUICK") { (5, 4) } else { (101, 32) };
    let images: Vec<Vec<f32>> = (0..batch).map(image).collect();
    let features = images
        .iter()
        .map(|image| Features::bilateral(image, SIDE, SIDE, [1.0, 1.0], 100.0, 15.0))
        .collect::<Result<Vec<_>, _>>()?;
    let lattices = features.iter().map(Lattice::build).collect::<Result<Vec<_>, _>>()?;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let tumour: Vec<f32> = (0..batch * SIDE * SIDE).map(|_| rng.random_range(0.0..1.0)).collect();
    let values: Vec<f32> = tumour
        .chunks(SIDE * SIDE)
        .flat_map(|t| t.iter().copied().chain(t.iter().map(|v| 1.0 - v)).collect::<Vec<_>>())
        .collect();
    let resident = lattices.iter().map(|l| Resident::lattice(&cuda, l)).collect::<Result<Vec<_>, _>>()?;
    let kernels: Vec<_> = lattices.into_iter().map(|l| Arc::new(l) as Arc<dyn PairwiseKernel>).collect();
    let exact = features.iter().map(|f| Resident::exact(&cuda, f)).collect::<Result<Vec<_>, _>>()?;

    let on_cpu = |values: &[f32]| -> Outcome<(f32, Vec<f32>)> {
        let y = Var::from_tensor(&Tensor::from_slice(values, (batch, 2, SIDE, SIDE), &Device::Cpu)?)?;
        let loss = crf_loss(&y, &kernels, FORM, None, None)?;
        let gradient = loss.backward()?.get(&y).ok_or("no gradient")?.flatten_all()?.to_vec1::<f32>()?;
        Ok((loss.to_scalar::<f32>()?, gradient))
    };
    let expected = on_cpu(&values)?;
    // A gradient is what a pixel's neighbours give it less its own part of that: of random values near a half little is left, and the
    // sums' rounding beside it is large. At 0 nothing is taken off, so that is what rounding is measured by.
    let size = norm(&on_cpu(&vec![0.0; values.len()])?.1);

    let stream = cuda.stream();
    let values = stream.clone_htod(&values)?;
    let peer = if is_set("SCRIBSEG_BENCH_PEERS") { monai(&images) } else { None };
    for (name, kernels, rounds) in [("loss", &resident, rounds), ("exact", &exact, rounds.min(11))] {
        let batched = Batch::new(kernels.iter().map(Into::into).collect(), SIDE, SIDE)?;
        let run = || batched.loss(&values.as_view(), 2, FORM, None, None);
        let read = || -> Outcome<(f32, Vec<f32>)> {
            let result = run()?;
            Ok((stream.clone_dtoh(&result.loss)?[0], stream.clone_dtoh(&result.gradient)?))
        };
        let found = read()?;
        if found != read()? {
            return Err(format!("{name}: two runs differ").into());
        }
        if name == "loss" {
            let difference: Vec<f32> = found.1.iter().zip(&expected.1).map(|(a, b)| a - b).collect();
            let (off, loss) =
                (norm(&difference) / size, f64::from((found.0 - expected.0) / expected.0).abs());
            eprintln!("against the CPU: gradient off by {off:.2e}, loss by {loss:.2e}");
            if off.max(loss) > 2e-5 {
                return Err("the device and the CPU disagree".into());
            }
        }
        let mut times = Vec::new();
        for _ in 0..rounds {
            let start = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
            run()?;
            let end = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
            times.push(f64::from(start.elapsed_ms(&end)?));
        }
        times.sort_by(f64::total_cmp);
        let ours = times[times.len() / 2];
        let line = serde_json::json!({
            "bench": format!("crf/{name}/b{batch}-k2-cached"), "device": "cuda", "threads": 1, "ours_ms": ours,
            "peer": peer.as_ref().map(|p| &p.1), "peer_ms": peer.as_ref().map(|p| p.0),
            "ratio": peer.as_ref().map(|p| p.0 / ours),
        });
        println!("{line}");
    }
    Ok(())
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

/// The time of MONAI's filter in ms, and its name; nothing, and why, where it cannot run.
fn monai(images: &[Vec<f32>]) -> Option<(f64, String)> {
    let run = || -> Outcome<(f64, String)> {
        let python = std::env::var("SCRIBSEG_PYTHON").unwrap_or_else(|_| "python3".into());
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peer_cuda.py");
        let path = std::env::var("SCRIBSEG_PEER_CUDA").unwrap_or_else(|_| path.into());
        let mut script =
            Command::new(python).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut ask = script.stdin.take().ok_or("the peer takes no images")?;
        writeln!(ask, "{} 3 {SIDE}", images.len())?;
        for image in images {
            ask.write_all(&image.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())?;
        }
        drop(ask);
        let output = script.wait_with_output()?;
        let answer = String::from_utf8(output.stdout)?;
        let (milliseconds, name) = answer.trim().split_once('\t').ok_or("the peer gave no time")?;
        Ok((milliseconds.parse()?, name.into()))
    };
    run().inspect_err(|error| eprintln!("!! NOT MEASURED: MONAI's filter: {error}")).ok()
}
