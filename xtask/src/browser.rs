//! `cargo xtask browser`: a report in headless Chromium, used as a reader would.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::{metadata, shell};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A run's page, with slices and figures [default: that of a small run, made first]
    report: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let work = metadata::workspace()?.target_directory.join("browser");
    let report = match &arguments.report {
        Some(report) => report.clone(),
        None => {
            let run = work.join("run");
            if run.exists() {
                std::fs::remove_dir_all(&run)
                    .with_context(|| format!("{}: cannot be removed", run.display()))?;
            }
            let mut small =
                shell::cargo(["run", "-p", "scribseg", "--", "reproduce", "--preset", "smoke", "--out"]);
            let status = shell::status(small.arg(&run).stdout(Stdio::null()))?;
            if !status.success() {
                return Ok(shell::pass_on(status));
            }
            run.join("report.html")
        }
    };
    let script = shell::root().join("xtask/src/browser.py");
    let status = shell::status(Command::new("python3").arg(script).arg(report).arg(&work))?;
    eprintln!("pictures in {}", work.display());
    Ok(shell::pass_on(status))
}
