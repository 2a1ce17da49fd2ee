//! Running other programs.

use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Instant;

use anyhow::{Context, Result};

/// The workspace's folder.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The cargo that runs us, in the workspace's folder.
pub(crate) fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Runs a command to its end; what it prints goes where ours does.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().with_context(|| format!("{} could not be started", command.get_program().display()))
}

/// A command's exit status as our own; a signal counts as 1.
pub(crate) fn pass_on(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Steps that all run, whichever of them fail, so that one run tells everything.
pub(crate) struct Steps {
    failed: Vec<String>,
    count: usize,
    begun: Instant,
}

impl Steps {
    pub(crate) fn new() -> Self {
        Self { failed: Vec::new(), count: 0, begun: Instant::now() }
    }

    /// Runs a command as a step.
    pub(crate) fn command(&mut self, name: &str, command: &mut Command) {
        self.check(name, || {
            let status = status(command)?;
            Ok(if status.success() { Vec::new() } else { vec![format!("{command:?}: {status}")] })
        });
    }

    /// Runs a check that returns what it found wrong.
    pub(crate) fn check(&mut self, name: &str, check: impl FnOnce() -> Result<Vec<String>>) {
        eprintln!("\n== {name}");
        let begun = Instant::now();
        self.count += 1;
        let faults = check().unwrap_or_else(|error| vec![format!("{error:#}")]);
        for fault in &faults {
            eprintln!("{fault}");
        }
        let outcome = if faults.is_empty() { "passed" } else { "FAILED" };
        eprintln!("== {name}: {outcome} in {:.1} s", begun.elapsed().as_secs_f64());
        if !faults.is_empty() {
            self.failed.push(name.to_owned());
        }
    }

    /// Says how it went.
    pub(crate) fn finish(self) -> ExitCode {
        let seconds = self.begun.elapsed().as_secs_f64();
        if self.failed.is_empty() {
            eprintln!("\nall {} steps passed in {seconds:.0} s", self.count);
            return ExitCode::SUCCESS;
        }
        eprintln!("\n{} of {} steps failed: {}", self.failed.len(), self.count, self.failed.join(", "));
        ExitCode::FAILURE
    }
}
