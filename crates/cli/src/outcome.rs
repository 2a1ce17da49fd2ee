//! How a verb ends, and what is said about it.

use std::fmt;
use std::io::Write;

use crate::terminal::{self, Look};

/// A verb that could do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing to complain about.
    Done,
    /// The work was to find faults, and there are some.
    AtFault,
}

/// An error of the command line, not of what it points at.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Whether the error is that whoever read our output has left, as `head` does.
pub(crate) fn reader_left(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Prints an error to stderr.
pub(crate) fn complain(error: &anyhow::Error) {
    // If stderr is closed there is no one to tell.
    let word = Look::Error.of("error:", terminal::colours());
    let _ = writeln!(std::io::stderr(), "{word} {}", describe(error));
}

/// The chain of causes; a cause that is already quoted is not said twice.
fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Writes data to stdout.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Writes a value to stdout as JSON.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&serde_json::to_string_pretty(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_cause_is_not_said_twice() {
        let error = anyhow::anyhow!("no such file").context("scan.nii: no such file").context("cohort c");
        assert_eq!(describe(&error), "cohort c: scan.nii: no such file");
    }
}
