//! One scan through `predict`: reading and normalising it, then both networks, then all of it from files to a file; one JSON line a case.
//!
//! With `SCRIBSEG_BENCH_PEERS=1` beside nibabel, NumPy and PyTorch doing the same (`benches/peer.py`), in each setting a user would try, the fastest of which
//! is the peer, and does all of it; the labels of both are held against each other. `SCRIBSEG_BENCH_QUICK=1` takes a scan of half the size, without a peer.

use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use candle_core::Device;
use scribseg_io::{Cohort, Declared, LabelVolume};
use scribseg_phantom::Size;
use scribseg_pipeline::methods::Methods;
use scribseg_pipeline::{Card, Config, Scan, Silent, classes, merge, save_model, verbs};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn Error>;

/// Something to be timed.
type Run<'a> = &'a mut dyn FnMut() -> Result<(), Failure>;

/// PyTorch's settings in `f32`; `bf16` has a case of its own in the bench of `unet`.
const SETTINGS: [&str; 4] = ["f32", "f32-last", "f32-compiled", "f32-last-compiled"];

fn milliseconds(run: Run<'_>) -> Result<f64, Failure> {
    let start = Instant::now();
    run()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Times ours, turn by turn with the peer's `tasks`, of which the fastest counts, after one of each to warm up (two of the peer's: the first compiles). Gives the number
/// of the fastest.
fn case(
    name: &str,
    rounds: usize,
    ours: Run<'_>,
    mut peer: Option<&mut PyTorch>,
    tasks: &[String],
) -> Result<usize, Failure> {
    ours()?;
    let (mut our_times, mut peer_times) = (Vec::new(), vec![Vec::new(); tasks.len()]);
    if let Some(peer) = &mut peer {
        for task in tasks.iter().chain(tasks) {
            peer.run(task)?;
        }
    }
    for _ in 0..rounds {
        our_times.push(milliseconds(ours)?);
        if let Some(peer) = &mut peer {
            for (task, times) in tasks.iter().zip(&mut peer_times) {
                times.push(peer.run(task)?);
            }
        }
    }
    let ours = median(&mut our_times);
    let medians = peer_times.iter_mut().map(|times| median(times));
    let fastest = peer.and_then(|peer| {
        let (number, ms) = medians.enumerate().min_by(|a, b| a.1.total_cmp(&b.1))?;
        let setting = tasks[number].split('\t').nth(1).unwrap_or_default();
        Some((number, format!("{}, nibabel {setting}", peer.name).trim_end().to_owned(), ms))
    });
    let line = serde_json::json!({
        "bench": format!("predict/{name}"), "device": "cpu", "threads": rayon::current_num_threads(), "ours_ms": ours,
        "peer": fastest.as_ref().map(|(_, name, _)| name), "peer_ms": fastest.as_ref().map(|(_, _, ms)| ms),
        "ratio": fastest.as_ref().map(|(_, _, ms)| ms / ours),
    });
    println!("{line}");
    Ok(fastest.map_or(0, |(number, _, _)| number))
}

fn main() -> Result<(), Failure> {
    let is_set = |name| std::env::var(name).is_ok_and(|v| v == "1");
    let quick = is_set("SCRIBSEG_BENCH_QUICK");
    let (size, name, rounds) = if quick { (Size::Half, "half", 1) } else { (Size::Full, "full", 3) };
    let folder = tempfile::tempdir()?;
    let (scans, models) = (folder.path().join("scans"), folder.path().join("models"));
    verbs::write_phantom(&scans, 1, 1, size, &Silent)?;
    let cohort = Cohort::open(&scans, None)?;
    let first = &cohort.cases[0];
    let mut config = Config::default();
    config.set("network.width=16")?;
    let methods = Methods::paper(&config);
    let prepare = || Scan::prepare(first.load_images()?, &config, methods.network.stride());
    let scan = prepare()?;
    let [tumour, sub] = [2, 4].map(|outputs| methods.network.init(outputs, 1, &Device::Cpu));
    let (tumour, sub) = (tumour?, sub?);
    std::fs::create_dir(&models)?;
    for (stage, outputs, weights) in [("wt", 2, &tumour), ("sub", 4, &sub)] {
        let card = Card::new(stage, outputs, scan.spacing, &config);
        save_model(&models.join(format!("{stage}.safetensors")), weights, &card)?;
    }
    let mut peer = match is_set("SCRIBSEG_BENCH_PEERS") && !quick {
        true => Some(PyTorch::start(&models, &scans.join(&first.id), config.network.width)?),
        false => None,
    };

    let mut read = || {
        black_box(prepare()?);
        Ok(())
    };
    case(&format!("read-{name}"), rounds, &mut read, peer.as_mut(), &["read".to_owned()])?;
    let mut networks = || {
        let wt = classes(&*methods.network.load(2, &tumour, &Device::Cpu)?, &scan, &Device::Cpu)?;
        let own = classes(&*methods.network.load(4, &sub, &Device::Cpu)?, &scan, &Device::Cpu)?;
        black_box(merge(&wt.mapv(|v| v != 0), &own));
        Ok(())
    };
    let tasks = SETTINGS.map(|setting| format!("networks\t{setting}"));
    let fastest = case(&format!("networks-{name}-w16"), rounds, &mut networks, peer.as_mut(), &tasks)?;
    let out = folder.path().join("out");
    let mut whole = || {
        verbs::predict(
            std::slice::from_ref(&models),
            std::slice::from_ref(&scans),
            &out,
            false,
            &Declared::default(),
            &Device::Cpu,
            &Silent,
        )?;
        Ok(())
    };
    let theirs = folder.path().join("peer_seg.nii.gz");
    let task = format!("whole\t{}\t{}", SETTINGS[fastest], theirs.display());
    case(&format!("whole-{name}-w16"), rounds, &mut whole, peer.as_mut(), &[task])?;
    if peer.is_some() {
        let ours = LabelVolume::read(out.join(format!("{}_seg.nii.gz", first.id)))?;
        agree(&ours, &LabelVolume::read(&theirs)?)?;
    }
    Ok(())
}

/// The same labels, but for voxels where two classes are as probable up to rounding.
fn agree(ours: &LabelVolume, theirs: &LabelVolume) -> Result<(), Failure> {
    // Ours has the scheme's own value for ET, 4.
    let code = |v: i32| if v == 4 { 3 } else { v };
    let differing = ours.data.iter().zip(&theirs.data).filter(|&(&a, &b)| code(a) != b).count();
    let labelled = ours.data.iter().filter(|&&v| v != 0).count();
    eprintln!("predict: {differing} voxels differ from PyTorch's, {labelled} are labelled");
    match ours.data.dim() == theirs.data.dim() && labelled > 0 && differing * 1000 <= labelled {
        true => Ok(()),
        false => Err("the peer does something else".into()),
    }
}

/// The script with PyTorch, which does a task when told to.
struct PyTorch {
    script: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    name: String,
}

impl PyTorch {
    fn start(models: &Path, case: &Path, width: usize) -> Result<Self, Failure> {
        let python = std::env::var("SCRIBSEG_PYTHON").unwrap_or_else(|_| "python3".into());
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peer.py");
        let mut script =
            Command::new(python).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let ask = script.stdin.take().ok_or("PyTorch takes no questions")?;
        let answers = BufReader::new(script.stdout.take().ok_or("PyTorch gives no answers")?);
        let mut peer = Self { script, ask, answers, name: String::new() };
        let threads = rayon::current_num_threads();
        peer.name = peer.answer(&format!("{}\t{}\t{width}\t{threads}", models.display(), case.display()))?;
        Ok(peer)
    }

    fn answer(&mut self, question: &str) -> Result<String, Failure> {
        writeln!(self.ask, "{question}")?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            return Err(format!("PyTorch stopped at `{question}`: {}", self.script.wait()?).into());
        }
        Ok(answer.trim().to_owned())
    }

    /// Does a task and tells its time in ms.
    fn run(&mut self, task: &str) -> Result<f64, Failure> {
        Ok(self.answer(task)?.parse()?)
    }
}

impl Drop for PyTorch {
    fn drop(&mut self) {
        // It ends by itself when its questions end; one that does not must not outlive the bench.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}
