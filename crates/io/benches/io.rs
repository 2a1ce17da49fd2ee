//! Reading one case (four modalities and the segmentation, 240 × 240 × 155) and writing its segmentation; one JSON line
//! a case.
//!
//! The peer is the `nifti` crate, which reads file by file into `f32` arrays in file order and checks nothing; with
//! `SCRIBSEG_BENCH_PEERS=1` nibabel (`benches/peer.py`), as it is used: file by file, in one process.
//! `SCRIBSEG_BENCH_QUICK=1` takes a quarter of the slices and fewer rounds.

use ndarray::{Array3, Array4, Ix3};
use nifti::{IntoNdArray, NiftiObject, ReaderOptions};
use scribseg_io::{Cohort, Geometry, write_case, write_labels};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

/// Something to be timed.
type Run<'a> = &'a mut dyn FnMut() -> Result<(), Failure>;

fn milliseconds(run: Run<'_>) -> Result<f64, Failure> {
    let start = Instant::now();
    run()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Prints medians of interleaved rounds.
fn compare(
    name: &str,
    rounds: usize,
    ours: Run<'_>,
    mut peer: Option<(&str, Run<'_>)>,
) -> Result<(), Failure> {
    let (mut our_times, mut peer_times) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        our_times.push(milliseconds(ours)?);
        if let Some((_, peer)) = &mut peer {
            peer_times.push(milliseconds(peer)?);
        }
    }
    let (ours, theirs) = (median(our_times), median(peer_times));
    let threads = rayon::current_num_threads();
    let line = serde_json::json!({
        "bench": name, "device": "cpu", "threads": threads, "ours_ms": ours,
        "peer": peer.as_ref().map(|(name, _)| *name),
        "peer_ms": peer.as_ref().map(|_| theirs),
        "ratio": peer.as_ref().map(|_| theirs / ours),
    });
    println!("{line}");
    Ok(())
}

fn main() -> Result<(), Failure> {
    let quick = std::env::var_os("SCRIBSEG_BENCH_QUICK").is_some();
    let (slices, rounds) = if quick { (39, 3) } else { (155, 9) };
    let folder = tempfile::tempdir()?;
    let grid = Geometry::from_spacing([slices, 240, 240], [1.0; 3]).ok_or("spacing")?;
    // A brain-like ellipsoid of noisy 12-bit intensities in zeros: compresses about as real scans do.
    let inside = |z: usize, y: usize, x: usize, radius: f64| {
        let unit = |v: usize, n: usize| (v as f64 + 0.5) / n as f64 * 2.0 - 1.0;
        (unit(z, slices) / 0.95).powi(2) + unit(y, 240).powi(2) / 0.5 + unit(x, 240).powi(2) / 0.36 < radius
    };
    let mut state = 1_u32;
    let images = Array4::from_shape_fn((4, slices, 240, 240), |(c, z, y, x)| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if inside(z, y, x, 1.0) { (600 + 100 * c + 3 * y) as f32 + (state >> 25) as f32 } else { 0.0 }
    });
    let labels = Array3::from_shape_fn((slices, 240, 240), |(z, y, x)| {
        if inside(z, y, x, 0.04) { 3 } else { u8::from(inside(z, y, x, 0.12)) * 2 }
    });
    write_case(folder.path(), "case", images.view(), Some(labels.view()), &grid)?;
    let cohort = Cohort::open(folder.path(), None)?;
    let case = cohort.cases.first().ok_or("no case")?;
    let paths: Vec<&Path> = case.paths.iter().chain(&case.reference).map(AsRef::as_ref).collect();

    let size = format!("240x240x{slices}");
    let read = |path: &Path| -> Result<f32, Failure> {
        let volume = ReaderOptions::new().read_file(path)?.into_volume().into_ndarray::<f32>()?;
        let volume = volume.into_dimensionality::<Ix3>()?;
        Ok(volume.first().copied().unwrap_or(0.0))
    };
    let read_all = |paths: &[&Path]| -> Result<(), Failure> {
        for path in paths {
            std::hint::black_box(read(path)?);
        }
        Ok(())
    };
    let mut nibabel = match std::env::var("SCRIBSEG_BENCH_PEERS") {
        Ok(value) if value == "1" => Some(Nibabel::start()?),
        _ => None,
    };
    let name = nibabel.as_ref().map_or("nifti 0.18, sequential, no checks".to_owned(), |n| n.name.clone());
    let mut peer = |paths: &[&Path]| match &mut nibabel {
        Some(nibabel) => nibabel.read(paths),
        None => read_all(paths),
    };
    compare(
        &format!("io/read-case/{size}"),
        rounds,
        &mut || {
            let loaded = case.load()?;
            std::hint::black_box(loaded.modalities.first());
            Ok(())
        },
        Some((&name, &mut || peer(&paths))),
    )?;
    compare(
        &format!("io/read-modality/{size}"),
        rounds,
        &mut || {
            std::hint::black_box(scribseg_io::Volume::read_modality(&case.paths[0])?);
            Ok(())
        },
        Some((&name, &mut || peer(&paths[..1]))),
    )?;
    let out = folder.path().join("out_seg.nii.gz");
    compare(
        &format!("io/write-labels/{size}"),
        rounds,
        &mut || Ok(write_labels(&out, labels.view(), &grid)?),
        None,
    )
}

/// The script with nibabel, which reads files when told to.
struct Nibabel {
    script: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    name: String,
}

impl Nibabel {
    fn start() -> Result<Self, Failure> {
        let python = std::env::var("SCRIBSEG_PYTHON").unwrap_or_else(|_| "python3".into());
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peer.py");
        let mut script =
            Command::new(python).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let ask = script.stdin.take().ok_or("nibabel takes no questions")?;
        let answers = BufReader::new(script.stdout.take().ok_or("nibabel gives no answers")?);
        let mut peer = Self { script, ask, answers, name: String::new() };
        peer.name = peer.answer()?;
        Ok(peer)
    }

    fn answer(&mut self) -> Result<String, Failure> {
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            return Err(format!("nibabel stopped: {}", self.script.wait()?).into());
        }
        Ok(answer.trim().to_owned())
    }

    /// Has the files read.
    fn read(&mut self, paths: &[&Path]) -> Result<(), Failure> {
        let paths: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
        writeln!(self.ask, "{}", paths.join("\t"))?;
        self.answer().map(drop)
    }
}

impl Drop for Nibabel {
    fn drop(&mut self) {
        // It ends by itself when its questions end; one that does not must not outlive the bench.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}
