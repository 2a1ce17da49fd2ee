//! `cargo xtask ci` and `test`.

use std::env::consts::EXE_EXTENSION;
use std::process::{Command, ExitCode, Stdio};

use anyhow::Result;

use crate::shell::{self, Steps};
use crate::{architecture, licences, metadata};

/// `cargo test`, of everything or of one crate alone.
pub(crate) fn test(package: Option<&str>) -> Result<ExitCode> {
    let mut command = match package {
        None => shell::cargo(["test", "--workspace"]),
        Some(name) => shell::cargo(["test", "-p", &metadata::find(&metadata::workspace()?, name)?]),
    };
    Ok(shell::pass_on(shell::status(&mut command)?))
}

/// Every check, cheap ones first.
pub(crate) fn workspace() -> Result<ExitCode> {
    let metadata = metadata::workspace()?;
    let mut steps = Steps::new();
    steps.command("format", &mut shell::cargo(["fmt", "--all", "--check"]));
    steps.check("architecture", || architecture::check(&metadata));
    steps.check("licences", || licences::check(&metadata::with_dependencies()?));
    if installed("cargo-deny") {
        steps.command("cargo deny", &mut shell::cargo(["deny", "--all-features", "check"]));
    } else {
        eprintln!("\n!! cargo deny is NOT INSTALLED: advisories, sources and duplicates were NOT checked");
        eprintln!("!! (licences and bans were, above); `cargo install cargo-deny --locked` mends that");
    }
    lints(&mut steps, &["--workspace"]);
    steps.command("test", &mut shell::cargo(["test", "--workspace"]));
    // With CUDA's kernels: they build without anything of CUDA, and what cannot be checked without it says so.
    let cuda = ["--features", "scribseg-crf-kernels/cuda"];
    let mut clippy = shell::cargo(["clippy", "-p", "scribseg-crf-kernels", "--all-targets"]);
    steps.command("clippy with cuda", clippy.args(["--features", "cuda", "--", "-D", "warnings"]));
    let mut test = shell::cargo(["test", "--workspace", "--lib", "--test", "cuda", "--test", "conformance"]);
    let names = ["--", "cuda::device", "cuda_", "every_kernel", "gradient"];
    steps.command("test with cuda", test.args(cuda).args(names));
    // Started from where the tests left it: `cargo run -p` would choose other features and build candle anew.
    let example = metadata.target_directory.join("debug/examples/swap_crate").with_extension(EXE_EXTENSION);
    steps.command("example swap_crate", Command::new(example).current_dir(shell::root()));
    Ok(steps.finish())
}

/// What concerns one crate, built by itself: what a sibling's features hide does not build here.
pub(crate) fn one_crate(name: &str) -> Result<ExitCode> {
    let metadata = metadata::workspace()?;
    let package = metadata::find(&metadata, name)?;
    let mut steps = Steps::new();
    steps.command("format", &mut shell::cargo(["fmt", "-p", &package, "--check"]));
    lints(&mut steps, &["-p", &package]);
    steps.command("test", &mut shell::cargo(["test", "-p", &package]));
    Ok(steps.finish())
}

/// Clippy and rustdoc share their compiled dependencies.
fn lints(steps: &mut Steps, selection: &[&str]) {
    let mut clippy = shell::cargo(["clippy"]);
    clippy.args(selection).args(["--all-targets", "--", "-D", "warnings"]);
    steps.command("clippy", &mut clippy);
    let mut doc = shell::cargo(["doc"]);
    doc.args(selection).args(["--no-deps", "--document-private-items"]).env("RUSTDOCFLAGS", "-D warnings");
    steps.command("documentation", &mut doc);
}

pub(crate) fn installed(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}
