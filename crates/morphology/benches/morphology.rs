//! Times on a volume of BraTS size, one JSON line per case. `SCRIBSEG_BENCH_QUICK=1` for a smaller volume;
//! `SCRIBSEG_BENCH_PEERS=1` lets SciPy and scikit-image (`benches/peer.py`) take turns with us on the same mask.

use ndarray::{Array3, Axis};
use scribseg_morphology::{
    Connectivity, dilate, distance_transform, erode, fill_holes, label_components, longest_path, skeletonize,
};
use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let is_set = |name| std::env::var(name).is_ok_and(|value| value == "1");
    let (dim, rounds) =
        if is_set("SCRIBSEG_BENCH_QUICK") { ((20, 120, 120), 3) } else { ((155, 240, 240), 5) };
    let mask = wavy(dim);
    let spacing = [1.0, 1.0, 1.0];
    let mut peer = if is_set("SCRIBSEG_BENCH_PEERS") { Some(Peer::start(&mask)?) } else { None };
    let mut case = |name: &str, work: &dyn Fn() -> Outcome| -> Outcome {
        let (mut ours, mut theirs, mut who) = (Vec::new(), Vec::new(), None);
        for _ in 0..rounds {
            let start = Instant::now();
            work()?;
            ours.push(start.elapsed().as_secs_f64() * 1e3);
            if let Some((milliseconds, name)) =
                peer.as_mut().map(|peer| peer.time(name)).transpose()?.flatten()
            {
                theirs.push(milliseconds);
                who = Some(name);
            }
        }
        let ours = median(ours).ok_or("no round was run")?;
        let or_null = |text: Option<String>| text.unwrap_or_else(|| "null".into());
        let theirs = median(theirs);
        println!(
            r#"{{"bench":"morphology/{name}/{}x{}x{}","device":"cpu","threads":{},"ours_ms":{ours:.3},"peer":{},"peer_ms":{},"ratio":{}}}"#,
            dim.2,
            dim.1,
            dim.0,
            rayon::current_num_threads(),
            or_null(who.map(|who| format!("\"{who}\""))),
            or_null(theirs.map(|theirs| format!("{theirs:.3}"))),
            or_null(theirs.map(|theirs| format!("{:.2}", theirs / ours))),
        );
        Ok(())
    };
    case("erode3", &|| done(erode(mask.view(), &[3, 3, 3])?))?;
    case("erode30", &|| done(erode(mask.view(), &[1, 30, 30])?))?;
    case("dilate3", &|| done(dilate(mask.view(), &[3, 3, 3])?))?;
    case("edt", &|| done(distance_transform(mask.view(), &spacing)?))?;
    case("label", &|| done(label_components(mask.view(), Connectivity::Full)))?;
    case("holes", &|| done(fill_holes(mask.view())))?;
    case("skeleton", &|| done(mask.axis_iter(Axis(0)).map(skeletonize).collect::<Vec<_>>()))?;
    case("skeleton+path", &|| {
        done(mask.axis_iter(Axis(0)).map(|slice| longest_path(skeletonize(slice).view())).collect::<Vec<_>>())
    })
}

/// The work's result is made, and dropped within the time measured.
fn done<T>(result: T) -> Outcome {
    drop(black_box(result));
    Ok(())
}

/// A blob with a wavy surface that fills about a fifth of the volume, like a brain.
fn wavy((depth, height, width): (usize, usize, usize)) -> Array3<bool> {
    Array3::from_shape_fn((depth, height, width), |(z, y, x)| {
        let along = |index: usize, length: usize| 2.0 * index as f64 / length as f64 - 1.0;
        let (w, v, u) = (along(z, depth), along(y, height), along(x, width));
        let radius = (w * w + v * v + u * u).sqrt();
        radius < 0.72 + 0.06 * (9.0 * v.atan2(u)).sin() + 0.05 * (7.0 * w).cos()
    })
}

fn median(mut times: Vec<f64>) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

/// The script with the peers, which runs a case when told to.
struct Peer {
    script: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start(mask: &Array3<bool>) -> Result<Self, Box<dyn Error>> {
        let python = std::env::var("SCRIBSEG_PYTHON").unwrap_or_else(|_| "python3".into());
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peer.py");
        let mut script =
            Command::new(&python).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut ask = script.stdin.take().ok_or("the peers take no questions")?;
        let answers = BufReader::new(script.stdout.take().ok_or("the peers give no answers")?);
        let (depth, height, width) = mask.dim();
        writeln!(ask, "{depth} {height} {width}")?;
        let (mut run, mut inside) = (0_usize, false);
        for &set in mask {
            if set != inside {
                write!(ask, "{run} ")?;
                (run, inside) = (0, set);
            }
            run += 1;
        }
        writeln!(ask, "{run}")?;
        Ok(Self { script, ask, answers })
    }

    /// The time in ms and the name of the peer, if the case has one.
    fn time(&mut self, case: &str) -> Result<Option<(f64, String)>, Box<dyn Error>> {
        writeln!(self.ask, "{case}")?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            return Err(format!("the peers stopped at case {case}: {}", self.script.wait()?).into());
        }
        match answer.trim().split_once('\t') {
            Some((milliseconds, name)) => Ok(Some((milliseconds.parse()?, name.into()))),
            None => Ok(None),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It ends by itself when its questions end; one that does not must not outlive the bench.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}
