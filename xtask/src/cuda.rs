//! `cargo xtask cuda`: what only a machine with a CUDA device can check. Without one it says so.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::shell::{self, Steps};
use crate::{bench, ci};

const TESTS: [&str; 5] = ["test", "-p", "scribseg-crf-kernels", "--features", "cuda"];

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

/// Tests, then NVIDIA's sanitizer over those of the device, then the bench.
pub(crate) fn run(peers: bool) -> Result<ExitCode> {
    let mut steps = Steps::new();
    steps.command("test", shell::cargo(TESTS).args(["--", "--nocapture"]));
    if ci::installed("compute-sanitizer") {
        let program = tests_of_the_device()?;
        for tool in ["memcheck", "racecheck", "initcheck"] {
            let mut command = Command::new("compute-sanitizer");
            command.args(["--tool", tool, "--error-exitcode", "1"]).arg(&program).current_dir(shell::root());
            steps.command(&format!("compute-sanitizer {tool}"), &mut command);
        }
    } else {
        eprintln!(
            "\n!! compute-sanitizer is NOT INSTALLED: accesses and races on the device were NOT checked"
        );
    }
    steps.check("bench", || {
        let done = bench::on_cuda(peers)?;
        Ok(if done == ExitCode::SUCCESS { Vec::new() } else { vec!["the bench failed".into()] })
    });
    Ok(steps.finish())
}

/// The program that `tests/cuda.rs` was built to.
fn tests_of_the_device() -> Result<String> {
    let mut command = shell::cargo(TESTS);
    command.args(["--test", "cuda", "--no-run", "--message-format=json"]);
    let output = command.stderr(Stdio::inherit()).output().context("cargo could not be started")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let mut programs = messages.filter(|m| m.target.as_ref().is_some_and(|t| t.name == "cuda"));
    let program = programs.find_map(|message| message.executable);
    program.context("expected cargo to name the program of tests/cuda.rs, found no name")
}
