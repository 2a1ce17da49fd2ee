//! Construction and filtering of a slice, and the loss of a batch with lattices cached and rebuilt; one JSON line a
//! case. With `SCRIBSEG_BENCH_PEERS=1` pydensecrf (`benches/peer.py`) takes turns with us on the same images, on its one
//! thread: it offers no loss, so construction and one step over the batch stand beside our loss with its gradient.

mod image;

use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use candle_core::{Device, Tensor, Var};
use image::{SIDE, image};
use scribseg_crf_kernels::{Features, Lattice, LossForm, PairwiseKernel, crf_loss};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Outcome {
    let is_set = |name| std::env::var(name).is_ok_and(|value| value == "1");
    let (rounds, batch) = if is_set("SCRIBSEG_BENCH_QUICK") { (3, 4) } else { (11, 32) };
    let images: Vec<Vec<f32>> = (0..batch).map(image).collect();
    let features = images
        .iter()
        .map(|image| Features::bilateral(image, SIDE, SIDE, [1.0, 1.0], 100.0, 15.0))
        .collect::<Result<Vec<_>, _>>()?;
    let build = |f: &Features| -> Outcome<Arc<dyn PairwiseKernel>> { Ok(Arc::new(Lattice::build(f)?)) };
    let kernels = features.iter().map(build).collect::<Outcome<Vec<_>>>()?;
    let values = vec![0.5; 2 * SIDE * SIDE];
    let y = Var::from_tensor(&Tensor::full(0.5f32, (batch, 2, SIDE, SIDE), &Device::Cpu)?)?;
    let loss = |kernels: &[Arc<dyn PairwiseKernel>]| -> Outcome {
        let loss = crf_loss(&y, kernels, LossForm::NonNegative, None, None)?;
        black_box(loss.backward()?);
        Ok(())
    };
    let mut peer = if is_set("SCRIBSEG_BENCH_PEERS") { Some(Peer::start(&images)?) } else { None };
    let mut case = |name: &str, question: &str, work: &mut dyn FnMut() -> Outcome| -> Outcome {
        work()?;
        let (mut ours, mut theirs, mut who) = (Vec::new(), Vec::new(), None);
        for _ in 0..rounds {
            let start = Instant::now();
            work()?;
            ours.push(start.elapsed().as_secs_f64() * 1e3);
            if let Some(peer) = &mut peer {
                let (milliseconds, name) = peer.time(question)?;
                theirs.push(milliseconds);
                who = Some(name);
            }
        }
        let (ours, theirs) = (median(ours).ok_or("no round was run")?, median(theirs));
        let line = serde_json::json!({
            "bench": format!("crf/{name}"), "device": "cpu", "threads": rayon::current_num_threads(),
            "ours_ms": ours, "peer": who, "peer_ms": theirs, "ratio": theirs.map(|theirs| theirs / ours),
        });
        println!("{line}");
        Ok(())
    };
    case("build/192", "build 1", &mut || build(&features[0]).map(|kernel| drop(black_box(kernel))))?;
    let mut out = values.clone();
    case("filter/192-k2", "filter", &mut || Ok(kernels[0].filter(2, &values, &mut out)?))?;
    let question = format!("loss {batch}");
    case(&format!("loss/b{batch}-k2-cached"), &question, &mut || loss(&kernels))?;
    case(&format!("loss/b{batch}-k2-rebuilt"), &question, &mut || {
        use rayon::prelude::*;
        let kernels = features
            .par_iter()
            .map(|f| Ok(Arc::new(Lattice::build(f)?) as Arc<dyn PairwiseKernel>))
            .collect::<Result<Vec<_>, scribseg_crf_kernels::Error>>()?;
        loss(&kernels)
    })
}

fn median(mut times: Vec<f64>) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

/// The script with the peer, which runs a case when told to.
struct Peer {
    script: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start(images: &[Vec<f32>]) -> Outcome<Self> {
        let python = std::env::var("SCRIBSEG_PYTHON").unwrap_or_else(|_| "python3".into());
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peer.py");
        let mut script =
            Command::new(&python).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut ask = script.stdin.take().ok_or("the peer takes no questions")?;
        let answers = BufReader::new(script.stdout.take().ok_or("the peer gives no answers")?);
        writeln!(ask, "{} 3 {SIDE}", images.len())?;
        for image in images {
            ask.write_all(&image.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())?;
        }
        Ok(Self { script, ask, answers })
    }

    /// The time in ms and the name of the peer.
    fn time(&mut self, question: &str) -> Outcome<(f64, String)> {
        writeln!(self.ask, "{question}")?;
        self.ask.flush()?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            return Err(format!("the peer stopped at `{question}`: {}", self.script.wait()?).into());
        }
        let (milliseconds, name) = answer.trim().split_once('\t').ok_or("the peer's answer has no name")?;
        Ok((milliseconds.parse()?, name.into()))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It ends by itself when its questions end; one that does not must not outlive the bench.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}
