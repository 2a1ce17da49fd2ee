//! A training step and a prediction, beside the same network written with stock candle, interleaved in one run.
//!
//! One JSON line a case; `SCRIBSEG_BENCH_QUICK=1` for a smaller run.

#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::{BatchNorm, Conv2d, Conv2dConfig, Module, ModuleT, Optimizer, SGD, VarBuilder, VarMap};
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use scribseg_unet::{Config, MOMENTUM, Sgd, UNet, init, partial_cross_entropy};
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
    let quick = std::env::var("SCRIBSEG_BENCH_QUICK").is_ok_and(|v| v == "1");
    let cases: &[(usize, usize, usize)] =
        if quick { &[(8, 4, 96)] } else { &[(16, 8, 192), (8, 8, 96), (16, 16, 96)] };
    for &(width, batch, side) in cases {
        case(width, batch, side, quick);
    }
}

fn case(width: usize, batch: usize, side: usize, quick: bool) {
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

    let mut ours_step = || {
        let logits = ours.forward(&x, true).unwrap();
        let loss = partial_cross_entropy(&logits, &scribble, &weak, 0.8).unwrap();
        sgd.step(&loss.backward().unwrap(), 0.01).unwrap();
    };
    let mut stock_step = || {
        let logits = stock.forward(&x, true).unwrap();
        let loss = stock_loss(&logits, &scribble, &weak, 0.8).unwrap();
        stock_sgd.step(&loss.backward().unwrap()).unwrap();
    };
    let rounds = if quick { 2 } else { 3 };
    compare(&format!("unet/train-step/w{width}-b{batch}-{side}"), rounds, &mut ours_step, &mut stock_step);
    let mut ours_predict = || drop(ours.predict(&x).unwrap());
    let mut stock_predict =
        || drop(stock.forward(&x, false).unwrap().permute((0, 2, 3, 1)).unwrap().argmax(D::Minus1));
    compare(&format!("unet/predict/w{width}-b{batch}-{side}"), rounds, &mut ours_predict, &mut stock_predict);
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
    let ours_ms = median(&mut ours_ms);
    let (peer, peer_ms) = if with_peer {
        (serde_json::json!("candle 0.11.1 stock"), Some(median(&mut peer_ms)))
    } else {
        (serde_json::Value::Null, None)
    };
    println!(
        "{}",
        serde_json::json!({
            "bench": name, "device": "cpu", "threads": rayon::current_num_threads(), "ours_ms": ours_ms,
            "peer": peer, "peer_ms": peer_ms, "ratio": peer_ms.map(|p| p / ours_ms),
        })
    );
}
