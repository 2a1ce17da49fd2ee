//! Training on a device: Table 1 twice to the same bytes, and the paper's schedule projected from a measured run.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::programs::{Programs, SCRIBSEG};
use crate::shell;

/// Of the paper's whole schedule: two phases of 10k and 20k.
const PAPER: usize = 60_000;
/// Scans of the cohort that is measured on.
const CASES: &str = "8";
/// Iterations of eq. 1 in each phase of the shorter run, whose time is taken off the longer one's.
const SHORT: usize = 20;

/// Runs the preset `smoke` on the device twice, in a precision, and says what differs of Table 1 and the metrics.
pub(super) fn table(programs: &Programs, folder: &Path, precision: &str) -> Result<Vec<String>> {
    let runs = ["first", "second"].map(|name| folder.join(format!("smoke-{precision}-{name}")));
    for run in &runs {
        fresh(run)?;
        let mut command = scribseg(programs)?;
        command.args(["reproduce", "--preset", "smoke", "--device", "cuda:0", "--precision", precision]);
        finished(command.arg("--out").arg(run).stdout(Stdio::null()))?;
    }
    let mut faults = Vec::new();
    // Seconds differ, so not table1.json.
    for file in ["metrics.csv", "metrics.json"] {
        let read = |run: &Path| {
            let path = run.join(file);
            std::fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))
        };
        if read(&runs[0])? != read(&runs[1])? {
            faults.push(format!("{precision}: expected the same {file} of two runs, found another"));
        }
    }
    let path = runs[0].join("table1.md");
    eprintln!(
        "{}",
        std::fs::read_to_string(&path).with_context(|| format!("{}: cannot be read", path.display()))?
    );
    Ok(faults)
}

/// Trains by the paper's preset on a synthetic cohort, a longer and a shorter run: what the longer one took more is projected onto the
/// whole schedule. `iterations` of eq. 1 in each phase, twice as many with the CRF, as in the paper.
pub(super) fn project(programs: &Programs, folder: &Path, iterations: usize, precision: &str) -> Result<()> {
    if iterations <= SHORT {
        bail!("--iterations: expected more than {SHORT}, found {iterations}");
    }
    let cohort = folder.join("cohort");
    fresh(&cohort)?;
    let mut phantom = scribseg(programs)?;
    phantom.args(["phantom", "--seed", "1", "--cases", CASES, "--out"]).arg(&cohort);
    finished(phantom.stdout(Stdio::null()))?;
    let seconds = [iterations, SHORT].map(|iterations| {
        let run = folder.join(format!("fit-{precision}-{iterations}"));
        fit(programs, &cohort, &run, precision, iterations)
    });
    let [more_seconds, less_seconds] = seconds;
    let (more_seconds, less_seconds) = (more_seconds?, less_seconds?);
    let (more, less) = (3 * 2 * iterations, 3 * 2 * SHORT);
    let each = (more_seconds - less_seconds) / (more - less) as f64;
    eprintln!(
        "{precision}: {more} iterations in {more_seconds:.1} s, {less} in {less_seconds:.1} s: {:.2} ms each; the paper's {PAPER} would take {:.2} h",
        1e3 * each,
        each * PAPER as f64 / 3600.0
    );
    Ok(())
}

/// The seconds that a fresh run of both phases takes.
fn fit(programs: &Programs, cohort: &Path, run: &Path, precision: &str, iterations: usize) -> Result<f64> {
    fresh(run)?;
    let mut command = scribseg(programs)?;
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

fn scribseg(programs: &Programs) -> Result<Command> {
    programs
        .command(SCRIBSEG)
        .context("expected the program built with CUDA, found none: it takes a CUDA toolkit")
}

/// Makes way for a folder.
fn fresh(folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)
            .with_context(|| format!("{}: cannot be removed", folder.display()))?;
    }
    Ok(())
}

fn finished(command: &mut Command) -> Result<()> {
    let status = shell::status(command)?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}
