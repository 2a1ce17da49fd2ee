//! `cargo xtask onnx`: what `scribseg export --onnx` writes, in onnxruntime, beside our own prediction.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::{metadata, peers, shell};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Scans named as BraTS 2017 names them [default: a small synthetic cohort]
    scans: Option<PathBuf>,
    /// The run whose networks are exported [default: one is trained on the scans for a moment; they need references then]
    #[arg(long, value_name = "RUN")]
    model: Option<PathBuf>,
}

/// Enough for labels that are not all background.
const BRIEF: &str = "--preset smoke --set wt.iterations=60 --set wt.crf_iterations=20 --set sub.iterations=60 --set sub.crf_iterations=20";

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let python = peers::environment("python-onnx")?;
    // A development build: it is optimised, and there already where tests ran.
    let build = "build -p scribseg --bin scribseg -p scribseg-pipeline --example probabilities";
    step(&mut shell::cargo(build.split(' ')))?;
    let target = metadata::workspace()?.target_directory;
    let built = |name: &str| target.join("debug").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let work = target.join("onnx");
    if work.exists() {
        std::fs::remove_dir_all(&work).with_context(|| format!("{}: cannot be removed", work.display()))?;
    }
    std::fs::create_dir_all(&work).with_context(|| format!("{}: cannot be made", work.display()))?;
    // Each `{}` stands for the next of the paths, which may have spaces in them.
    let verb = |words: &str, paths: &[&Path]| {
        let mut paths = paths.iter();
        let mut command = Command::new(built("scribseg"));
        for word in words.split(' ') {
            match if word == "{}" { paths.next() } else { None } {
                Some(path) => command.arg(path),
                None => command.arg(word),
            };
        }
        step(&mut command)
    };
    let scans = match &arguments.scans {
        Some(scans) => scans.clone(),
        None => {
            let cohort = work.join("cohort");
            verb("phantom --cases 5 --seed 5 --size half --out {}", &[&cohort])?;
            cohort
        }
    };
    let model = match &arguments.model {
        Some(model) => model.clone(),
        None => {
            let model = work.join("run");
            verb(&format!("fit {{}} --out {{}} {BRIEF}"), &[&scans, &model])?;
            model
        }
    };
    let [export, predictions, probabilities] =
        ["export", "predictions", "probabilities"].map(|name| work.join(name));
    verb("export {} --onnx --out {}", &[&model, &export])?;
    verb("predict --model {} {} --out {}", &[&model, &scans, &predictions])?;
    step(Command::new(built("examples/probabilities")).args([&model, &scans, &probabilities]))?;
    let script = shell::root().join("crates/pipeline/tests/in_onnxruntime.py");
    let mut check = Command::new(python);
    Ok(shell::pass_on(shell::status(check.arg(script).args([
        &export,
        &scans,
        &predictions,
        &probabilities,
    ]))?))
}

/// Runs a command that has to succeed; what it prints is talk.
fn step(command: &mut Command) -> Result<()> {
    let status = shell::status(command.stdout(std::process::Stdio::null()))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}
