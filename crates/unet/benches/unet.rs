//! A training step and a prediction, beside the same network written with stock candle, interleaved in one run.
//!
//! With `SCRIBSEG_BENCH_PEERS=1` beside PyTorch instead (`benches/peer.py`) in every setting a user would try: the fastest of
//! those in `f32` is the peer of one case, the fastest in `bf16` that of another, where ours multiplies `bf16` too if the processor has AMX. One JSON line a case;
//! `SCRIBSEG_BENCH_QUICK=1` for a smaller run.

#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::{BatchNorm, Conv2d, Conv2dConfig, Module, ModuleT, Optimizer, SGD, VarBuilder, VarMap};
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use scribseg_unet::{Config, CpuPath, MOMENTUM, Precision, Sgd, UNet, init, partial_cross_entropy};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The same network from candle_nn's layers.
struct Stock {
    depth: usize,
    blocks: Vec<[(Conv2d, BatchNorm); 2]>,
    head: Conv2d,
}

impl Stock {
    fn new(config: &Config, vb: VarBuilder) -> Result<Self> {
        let conv = |i, o, vb: VarBuilder| {
            candle_nn::conv2d_no_bias(i, o, 3, Conv2dConfig { padding: 1, ..Default::default() }, vb)
        };
        let block = |name: String, i, o| -> Result<[(Conv2d, BatchNorm); 2]> {
            let vb = vb.pp(name);
            Ok([
                (conv(i, o, vb.pp("conv1"))?, candle_nn::batch_norm(o, 1e-5, vb.pp("bn1"))?),
                (conv(o, o, vb.pp("conv2"))?, candle_nn::batch_norm(o, 1e-5, vb.pp("bn2"))?),
            ])
        };
        let mut blocks = Vec::new();
        let mut inputs = config.in_channels;
        for level in 0..=config.depth {
            blocks.push(block(format!("enc{level}"), inputs, config.width << level)?);
            inputs = config.width << level;
        }
        for level in (0..config.depth).rev() {
            let outputs = config.width << level;
            blocks.push(block(format!("dec{level}"), 3 * outputs, outputs)?);
        }
        let head =
            candle_nn::conv2d(config.width, config.out_channels, 1, Default::default(), vb.pp("head"))?;
        Ok(Self { depth: config.depth, blocks, head })
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let apply = |block: &[(Conv2d, BatchNorm); 2], x: Tensor| -> Result<Tensor> {
            block.iter().try_fold(x, |x, (conv, norm)| norm.forward_t(&conv.forward(&x)?, train)?.relu())
        };
        let (mut x, mut skips) = (x.clone(), Vec::new());
        for (level, block) in self.blocks[..=self.depth].iter().enumerate() {
            if level > 0 {
                x = x.max_pool2d(2)?;
            }
            x = apply(block, x)?;
            skips.push(x.clone());
        }
        skips.pop();
        for block in &self.blocks[self.depth + 1..] {
            let skip = skips.pop().unwrap();
            let (_, _, h, w) = skip.dims4()?;
            x = apply(block, Tensor::cat(&[&x.upsample_nearest2d(h, w)?, &skip], 1)?)?;
        }
        self.head.forward(&x)
    }
}

/// The same loss from candle's operators; every pixel has a weak label, some a scribble.
fn stock_loss(logits: &Tensor, scribble: &Tensor, weak: &Tensor, lambda: f64) -> Result<Tensor> {
    let largest = logits.max_keepdim(1)?.detach();
    let shifted = logits.broadcast_sub(&largest)?;
    let log_p = shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(1)?.log()?)?;
    let term = |labels: &Tensor| -> Result<Tensor> {
        let known = labels.ne(255u8)?;
        let index = known.where_cond(labels, &labels.zeros_like()?)?.to_dtype(DType::U32)?.unsqueeze(1)?;
        let mask = known.to_dtype(DType::F32)?;
        let picked = (log_p.gather(&index.contiguous()?, 1)?.squeeze(1)? * &mask)?;
        picked.sum_all()?.neg()?.div(&mask.sum_all()?)
    };
    term(scribble)? + (term(weak)? * lambda)?
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn timed(f: impl FnOnce()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_secs_f64() * 1e3
}

fn main() {
    let is_set = |name| std::env::var(name).is_ok_and(|v| v == "1");
    let (quick, pytorch) = (is_set("SCRIBSEG_BENCH_QUICK"), is_set("SCRIBSEG_BENCH_PEERS"));
    let cases: &[(usize, usize, usize)] = match (quick, pytorch) {
        (true, _) => &[(8, 4, 96)],
        (false, false) => &[(16, 8, 192), (8, 8, 96), (16, 16, 96)],
        (false, true) => &[(16, 8, 192), (32, 8, 192), (8, 8, 96)],
    };
    for &(width, batch, side) in cases {
        case(width, batch, side, quick, pytorch);
    }
}

fn case(width: usize, batch: usize, side: usize, quick: bool, pytorch: bool) {
    let device = Device::Cpu;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let config = Config { in_channels: 4, out_channels: 2, width, depth: 4 };
    let map = init(&config, &mut rng, &device).unwrap();
    let ours = UNet::load(&config, VarBuilder::from_varmap(&map, DType::F32, &device)).unwrap();
    let mut sgd = Sgd::new(&map, MOMENTUM, 0.0).unwrap();

    let stock_map = VarMap::new();
    let stock = Stock::new(&config, VarBuilder::from_varmap(&stock_map, DType::F32, &device)).unwrap();
    let mut stock_sgd = SGD::new(stock_map.all_vars(), 0.01).unwrap();

    let x = Tensor::randn(0f32, 1.0, (batch, 4, side, side), &device).unwrap();
    let count = batch * side * side;
    let mut labels = |known: f64| {
        let values = (0..count).map(|_| if rng.random_bool(known) { rng.random_range(0..2) } else { 255 });
        Tensor::from_vec(values.collect::<Vec<u8>>(), (batch, side, side), &device).unwrap()
    };
    let (scribble, weak) = (labels(0.02), labels(0.9));

    // Without AMX `f32` is the faster one.
    let amx = CpuPath::detect().unwrap() == CpuPath::Amx;
    let ours = [Precision::F32, if amx { Precision::Bf16 } else { Precision::F32 }]
        .map(|precision| ours.clone().with_precision(precision));
    let mut ours_step = |which: usize| {
        let pass = ours[which].pass(&x).unwrap();
        let loss = partial_cross_entropy(pass.logits(), &scribble, &weak, 0.8).unwrap();
        sgd.step(&pass.backward(&loss).unwrap(), 0.01).unwrap();
    };
    let mut stock_step = || {
        let logits = stock.forward(&x, true).unwrap();
        let loss = stock_loss(&logits, &scribble, &weak, 0.8).unwrap();
        stock_sgd.step(&loss.backward().unwrap()).unwrap();
    };
    let rounds = if quick { 2 } else { 3 };
    let mut ours_predict = |which: usize| drop(ours[which].predict(&x).unwrap());
    let name = |what: &str| format!("unet/{what}/w{width}-b{batch}-{side}");
    if pytorch {
        let mut peer = PyTorch::start(&config, batch, side);
        peer.beside(&name("train-step"), "step", rounds, &mut ours_step);
        peer.beside(&name("predict"), "predict", rounds, &mut ours_predict);
        return;
    }
    compare(&name("train-step"), rounds, &mut || ours_step(0), &mut stock_step);
    let mut stock_predict =
        || drop(stock.forward(&x, false).unwrap().permute((0, 2, 3, 1)).unwrap().argmax(D::Minus1));
    compare(&name("predict"), rounds, &mut || ours_predict(0), &mut stock_predict);
}

/// Several of ours to one of the peer's, turn by turn, after one of each to warm up.
fn compare(name: &str, rounds: usize, ours: &mut dyn FnMut(), peer: &mut dyn FnMut()) {
    ours();
    let with_peer = std::env::var("SCRIBSEG_BENCH_NO_PEER").is_err();
    if with_peer {
        peer();
    }
    let (mut ours_ms, mut peer_ms) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for _ in 0..4 {
            ours_ms.push(timed(&mut *ours));
        }
        if with_peer {
            peer_ms.push(timed(&mut *peer));
        }
    }
    let peer = with_peer.then(|| ("candle 0.11.1 stock", median(&mut peer_ms)));
    report(name, median(&mut ours_ms), peer);
}

/// Prints one case.
fn report(name: &str, ours_ms: f64, peer: Option<(&str, f64)>) {
    println!(
        "{}",
        serde_json::json!({
            "bench": name, "device": "cpu", "threads": rayon::current_num_threads(), "ours_ms": ours_ms,
            "peer": peer.map(|(name, _)| name), "peer_ms": peer.map(|(_, ms)| ms),
            "ratio": peer.map(|(_, ms)| ms / ours_ms),
        })
    );
}

/// PyTorch's settings, those of each precision together: plain, channels-last, compiled.
const SETTINGS: [&str; 6] =
    ["f32", "f32-last", "f32-compiled", "f32-last-compiled", "bf16-last", "bf16-last-compiled"];

/// A setting that takes this many times as long as the fastest in the warm-up is not run again: it cannot be the fastest.
const HOPELESS: f64 = 2.0;

/// The script with the same network in PyTorch, which runs a setting when told to.
struct PyTorch {
    script: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    version: String,
}

impl PyTorch {
    /// Starts the script and holds its number of parameters against ours.
    fn start(config: &Config, batch: usize, side: usize) -> Self {
        let python = std::env::var("SCRIBSEG_PYTHON").unwrap_or_else(|_| "python3".into());
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peer.py");
        let mut command = Command::new(python);
        let mut script = command.arg(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (ask, answers) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        let mut peer = Self { script, ask, answers: BufReader::new(answers), version: String::new() };
        let threads = rayon::current_num_threads();
        let answer = peer.answer(&format!("{} {batch} {side} {threads}", config.width));
        let (count, version) = answer.split_once('\t').unwrap();
        assert_eq!(
            count.parse::<usize>().unwrap(),
            config.trainable_count(),
            "PyTorch's network is another one"
        );
        peer.version = version.to_owned();
        peer
    }

    fn answer(&mut self, question: &str) -> String {
        writeln!(self.ask, "{question}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert!(!answer.is_empty(), "PyTorch stopped at `{question}`");
        answer.trim().to_owned()
    }

    /// Times `what` in every setting, turn by turn with ours, and prints a case a precision, each beside its fastest setting. Ours
    /// takes 0 for `f32` and 1 for `bf16`.
    fn beside(&mut self, name: &str, what: &str, rounds: usize, ours: &mut dyn FnMut(usize)) {
        let mut run = |setting: &str| self.answer(&format!("{what} {setting}")).parse::<f64>().unwrap();
        // The first round compiles, the second is warm.
        let mut times = SETTINGS.map(|setting| {
            run(setting);
            vec![run(setting)]
        });
        ours(0);
        ours(1);
        let fastest = times.iter().map(|t| t[0]).fold(f64::INFINITY, f64::min);
        let mut ours_ms = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (setting, times) in SETTINGS.iter().zip(&mut times) {
                if times[0] < HOPELESS * fastest {
                    times.push(run(setting));
                    let precision = usize::from(setting.starts_with("bf16"));
                    ours_ms[precision].push(timed(|| ours(precision)));
                }
            }
        }
        let times = times.map(|mut times| median(&mut times));
        for (setting, ms) in SETTINGS.iter().zip(&times) {
            eprintln!("{name}: {} {setting} {ms:.1} ms", self.version);
        }
        for ((precision, suffix), mut ours_ms) in [("f32", ""), ("bf16", "-bf16")].into_iter().zip(ours_ms) {
            let settings = SETTINGS.iter().zip(times).filter(|(setting, _)| setting.starts_with(precision));
            let (setting, ms) = settings.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
            // None if every setting of the precision was hopeless.
            if ours_ms.is_empty() {
                ours_ms.push(timed(|| ours(usize::from(precision == "bf16"))));
            }
            report(
                &format!("{name}{suffix}"),
                median(&mut ours_ms),
                Some((&format!("{} {setting}", self.version), ms)),
            );
        }
    }
}

impl Drop for PyTorch {
    fn drop(&mut self) {
        // It ends by itself when its questions end; one that does not must not outlive the bench.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}
