//! `cargo xtask cuda`: what only a machine with a CUDA device can check and measure. Without one it says so, loudly.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::shell::{self, Steps};
use crate::{bench, ci, metadata};

/// A crate with kernels of its own, and the file of its tests that needs a device.
struct Kernels {
    package: &'static str,
    test: &'static str,
    /// Whether it takes a CUDA toolkit to build, because candle does.
    toolkit: bool,
}

const KERNELS: [Kernels; 2] = [
    Kernels { package: "scribseg-crf-kernels", test: "cuda", toolkit: false },
    Kernels { package: "scribseg-unet", test: "device", toolkit: true },
];

/// Iterations of eq. 1 in each phase of the longer run that is measured, and of the shorter one; twice as many with the CRF, as in the paper.
const MEASURED: [usize; 2] = [520, 20];
/// Of the paper's whole schedule: two phases of 10k and 20k.
const PAPER: usize = 60_000;
/// Scans of the cohort that is measured on.
const CASES: &str = "8";

/// The part of cargo's messages that names a built program.
#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<String>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Tests, then NVIDIA's sanitizer over those of the device, then the benches, then a projection of the paper's training.
pub(crate) fn run(peers: bool) -> Result<ExitCode> {
    let device = ci::installed("nvidia-smi");
    if !device {
        warn("there is NO NVIDIA DRIVER here: nothing will run on a device, and every part below says so");
    }
    let toolkit = ci::installed("nvcc");
    if !toolkit {
        warn(
            "there is NO CUDA TOOLKIT (nvcc) here: the networks' kernels were NOT built, checked or measured",
        );
    }
    let mut steps = Steps::new();
    let here = || KERNELS.iter().filter(move |kernels| toolkit || !kernels.toolkit);
    for kernels in here() {
        let name = format!("test {}", kernels.package);
        steps.command(&name, test(kernels.package).args(["--", "--nocapture"]));
    }
    if device && ci::installed("compute-sanitizer") {
        for kernels in here() {
            let program = program(kernels)?;
            for tool in ["memcheck", "racecheck", "initcheck"] {
                let mut command = Command::new("compute-sanitizer");
                command.args(["--tool", tool, "--error-exitcode", "1"]).arg(&program);
                let name = format!("compute-sanitizer {tool} {}", kernels.package);
                steps.command(&name, command.current_dir(shell::root()));
            }
        }
    } else {
        warn(
            "compute-sanitizer is NOT INSTALLED or has no device: accesses and races there were NOT checked",
        );
    }
    steps.check("bench", || {
        let done = bench::on_cuda(peers, toolkit)?;
        Ok(if done == ExitCode::SUCCESS { Vec::new() } else { vec!["a bench failed".into()] })
    });
    if device && toolkit {
        steps.check("the paper's training", || project().map(|()| Vec::new()));
    } else {
        warn("training on a device was NOT MEASURED, the paper's schedule NOT PROJECTED");
    }
    Ok(steps.finish())
}

fn warn(what: &str) {
    eprintln!("\n!! {what}");
}

fn test(package: &str) -> Command {
    shell::cargo(["test", "-p", package, "--features", "cuda"])
}

/// The program that a crate's tests of the device were built to.
fn program(kernels: &Kernels) -> Result<String> {
    let mut command = test(kernels.package);
    command.args(["--test", kernels.test, "--no-run", "--message-format=json"]);
    let output = command.stderr(Stdio::inherit()).output().context("cargo could not be started")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let mut programs = messages.filter(|m| m.target.as_ref().is_some_and(|t| t.name == kernels.test));
    let program = programs.find_map(|message| message.executable);
    program.with_context(|| format!("expected cargo to name the program of tests/{}.rs", kernels.test))
}

/// Trains by the paper's preset on a synthetic cohort, a longer and a shorter run: what the longer one took more is projected onto the
/// whole schedule.
fn project() -> Result<()> {
    let status =
        shell::status(&mut shell::cargo(["build", "--release", "-p", "scribseg", "--features", "cuda"]))?;
    if !status.success() {
        bail!("the program was not built: {status}");
    }
    let target = metadata::workspace()?.target_directory;
    let (program, folder) = (target.join("release/scribseg"), target.join("cuda"));
    let cohort = folder.join("cohort");
    let mut phantom = Command::new(&program);
    phantom.args(["phantom", "--seed", "1", "--cases", CASES, "--out"]).arg(&cohort);
    finished(phantom.stdout(Stdio::null()))?;
    for precision in ["bf16", "f32"] {
        let mut seconds = Vec::new();
        for iterations in MEASURED {
            let run = folder.join(format!("run-{precision}-{iterations}"));
            seconds.push(fit(&program, &cohort, run, precision, iterations)?);
        }
        let (more, less) = (3 * 2 * MEASURED[0], 3 * 2 * MEASURED[1]);
        let each = (seconds[0] - seconds[1]) / (more - less) as f64;
        eprintln!(
            "{precision}: {more} iterations in {:.1} s, {less} in {:.1} s: {:.2} ms each; the paper's {PAPER} would take {:.1} h",
            seconds[0],
            seconds[1],
            1e3 * each,
            each * PAPER as f64 / 3600.0
        );
    }
    Ok(())
}

/// The seconds that a fresh run of both phases takes.
fn fit(program: &Path, cohort: &Path, run: PathBuf, precision: &str, iterations: usize) -> Result<f64> {
    if run.exists() {
        std::fs::remove_dir_all(&run).with_context(|| format!("{}: cannot be removed", run.display()))?;
    }
    let mut command = Command::new(program);
    command.arg("fit").arg(cohort).arg("--out").arg(run);
    command.args(["--preset", "paper", "--device", "cuda:0", "--precision", precision]);
    for phase in ["wt", "sub"] {
        command.args(["--set", &format!("{phase}.iterations={iterations}")]);
        command.args(["--set", &format!("{phase}.crf_iterations={}", 2 * iterations)]);
    }
    let begun = Instant::now();
    finished(command.stdout(Stdio::null()))?;
    Ok(begun.elapsed().as_secs_f64())
}

fn finished(command: &mut Command) -> Result<()> {
    let status = shell::status(command)?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}
