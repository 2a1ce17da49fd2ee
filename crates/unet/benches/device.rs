//! A training step and a prediction on a CUDA device, timed by its own events, beside PyTorch's (`benches/peer_device.py`), interleaved in
//! one run: batch 32 of 192 × 192 and 64 channels, the paper's. One JSON line a case. Says so and ends where there is no device.
//!
//! The steps of a turn follow one another without waiting, as in training; the time of one is their mean.

#![allow(missing_docs)]

use candle_core::{CudaDevice, DType, Device, Tensor};
use candle_nn::{VarBuilder, VarMap};
use cudarc::driver::sys::CUevent_flags;
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use scribseg_unet::{Config, MOMENTUM, Precision, Sgd, UNet, check_device, init, partial_cross_entropy};
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Steps of a turn.
const STEPS: usize = 10;

/// PyTorch's settings of one precision, of which the fastest counts.
fn settings(precision: Precision) -> [&'static str; 3] {
    match precision {
        Precision::F32 => ["tf32", "tf32-last", "tf32-last-compiled"],
        Precision::Bf16 => ["bf16-last", "bf16-compiled", "bf16-last-compiled"],
    }
}

fn main() -> Outcome {
    let device = match Device::new_cuda_with_stream(0) {
        Ok(device) => device,
        Err(error) => {
            eprintln!("!! NOT MEASURED on a CUDA device: {error}");
            return Ok(());
        }
    };
    let cuda = device.as_cuda_device()?;
    eprintln!("device: {}", cuda.cuda_stream().context().name()?);
    let is_set = |name| std::env::var(name).is_ok_and(|value| value == "1");
    let (quick, peers) = (is_set("SCRIBSEG_BENCH_QUICK"), is_set("SCRIBSEG_BENCH_PEERS"));
    let (width, batch, side, rounds) = if quick { (16, 8, 96, 2) } else { (64, 32, 192, 7) };
    let config = Config { in_channels: 4, out_channels: 2, width, depth: 4 };
    let mut peer = if peers { PyTorch::start(&config, batch, side) } else { None };
    for precision in [Precision::Bf16, Precision::F32] {
        if let Err(error) = check_device(&device, precision) {
            eprintln!("!! NOT MEASURED in {precision}: {error}");
            continue;
        }
        let mut ours = Ours::new(&config, batch, side, precision, &device)?;
        for what in ["train-step", "predict"] {
            let (mut own, mut others) = (Vec::new(), vec![Vec::new(); 3]);
            ours.time(cuda, what)?;
            for _ in 0..rounds {
                own.push(ours.time(cuda, what)?);
                let Some(script) = &mut peer else { continue };
                for (setting, times) in settings(precision).into_iter().zip(&mut others) {
                    times.push(script.time(what, setting)?);
                }
            }
            let (own, name) = (median(own), format!("unet/{what}/w{width}-b{batch}-{side}-{precision}"));
            let fastest = peer.as_ref().and_then(|script| {
                let times = settings(precision).into_iter().zip(others.into_iter().map(median));
                let times: Vec<_> = times.collect();
                times.iter().for_each(|(s, ms)| eprintln!("{name}: {} {s} {ms:.2} ms", script.version));
                let (setting, ms) = times.into_iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
                Some((format!("{} {setting}", script.version), ms))
            });
            let line = serde_json::json!({
                "bench": name, "device": "cuda", "threads": 1, "ours_ms": own,
                "peer": fastest.as_ref().map(|f| &f.0), "peer_ms": fastest.as_ref().map(|f| f.1),
                "ratio": fastest.as_ref().map(|f| f.1 / own),
            });
            println!("{line}");
        }
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Our network, its optimiser and its input.
struct Ours {
    network: UNet,
    sgd: Sgd,
    images: Tensor,
    labels: [Tensor; 2],
    _variables: VarMap,
}

impl Ours {
    fn new(
        config: &Config,
        batch: usize,
        side: usize,
        precision: Precision,
        device: &Device,
    ) -> Outcome<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let variables = init(config, &mut rng, device)?;
        let vb = VarBuilder::from_varmap(&variables, DType::F32, device);
        let network = UNet::load(config, vb)?.with_precision(precision);
        let sgd = Sgd::new(&variables, MOMENTUM, 0.0)?;
        let images = Tensor::randn(0f32, 1.0, (batch, 4, side, side), device)?;
        let mut labels = |known: f64| {
            let label = |_| if rng.random_bool(known) { rng.random_range(0..2) } else { 255 };
            let values: Vec<u8> = (0..batch * side * side).map(label).collect();
            Tensor::from_vec(values, (batch, side, side), device)
        };
        let labels = [labels(0.02)?, labels(0.9)?];
        Ok(Self { network, sgd, images, labels, _variables: variables })
    }

    /// Mean time of a step in a turn, in ms, by the device's events.
    fn time(&mut self, device: &CudaDevice, what: &str) -> Outcome<f64> {
        let stream = device.cuda_stream();
        let start = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
        for _ in 0..STEPS {
            if what == "predict" {
                self.network.predict(&self.images)?;
                continue;
            }
            let pass = self.network.pass(&self.images)?;
            let loss = partial_cross_entropy(pass.logits(), &self.labels[0], &self.labels[1], 0.8)?;
            self.sgd.step(&pass.backward(&loss)?, 0.01)?;
        }
        let end = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
        Ok(f64::from(start.elapsed_ms(&end)?) / STEPS as f64)
    }
}

/// The script with the same network in PyTorch, which runs a setting when told to.
struct PyTorch {
    script: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    version: String,
}

impl PyTorch {
    /// Starts the script and holds its number of parameters against ours; nothing, and why, where it cannot run.
    fn start(config: &Config, batch: usize, side: usize) -> Option<Self> {
        let run = || -> Outcome<Self> {
            let python = std::env::var("SCRIBSEG_PYTHON").unwrap_or_else(|_| "python3".into());
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peer_device.py");
            let path = std::env::var("SCRIBSEG_PEER_DEVICE").unwrap_or_else(|_| path.into());
            let mut command = Command::new(python);
            let mut script = command.arg(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
            let ask = script.stdin.take().ok_or("the peer takes no questions")?;
            let answers = BufReader::new(script.stdout.take().ok_or("the peer gives no answers")?);
            let mut peer = Self { script, ask, answers, version: String::new() };
            let answer = peer.answer(&format!("{} {batch} {side} {STEPS}", config.width))?;
            let (count, version) = answer.split_once('\t').ok_or("the peer gave no version")?;
            if count.parse::<usize>()? != config.trainable_count() {
                return Err(format!("expected {} parameters, found {count}", config.trainable_count()).into());
            }
            peer.version = version.to_owned();
            Ok(peer)
        };
        run().inspect_err(|error| eprintln!("!! NOT MEASURED: PyTorch on the device: {error}")).ok()
    }

    fn answer(&mut self, question: &str) -> Outcome<String> {
        writeln!(self.ask, "{question}")?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            return Err(format!("PyTorch stopped at `{question}`").into());
        }
        Ok(answer.trim().to_owned())
    }

    fn time(&mut self, what: &str, setting: &str) -> Outcome<f64> {
        Ok(self.answer(&format!("{what} {setting}"))?.parse()?)
    }
}

impl Drop for PyTorch {
    fn drop(&mut self) {
        // It ends by itself when its questions end; one that does not must not outlive the bench.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}
