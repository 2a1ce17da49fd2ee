//! What cargo cannot say: `cargo xtask reproduce | test | ci | guide | bench | cuda | onnx | mixed | browser | prior`.

mod architecture;
mod bench;
mod browser;
mod ci;
mod cuda;
mod guide;
mod licences;
mod metadata;
mod mixed;
mod onnx;
mod peers;
mod prior;
mod record;
mod reproduce;
mod shell;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What cargo cannot say
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Builds the release binary and runs Table 1 with it; without arguments on a synthetic cohort
    Reproduce(reproduce::Arguments),
    /// Runs the tests of the workspace, or of one crate
    Test {
        /// A crate by package (`scribseg-io`) or folder (`io`) name
        #[arg(long = "crate", value_name = "NAME")]
        package: Option<String>,
    },
    /// Runs every check a change has to pass: the whole workspace, or one crate alone
    Ci {
        /// A crate by package (`scribseg-io`) or folder (`io`) name
        #[arg(long = "crate", value_name = "NAME")]
        package: Option<String>,
    },
    /// Runs every command of the user guide as printed, and builds the book
    Guide(guide::Arguments),
    /// Measures our speed beside our peers'
    Bench(bench::Arguments),
    /// Fits scans that bring masks, scribbles or presence labels beside the ones with scribbles alone
    Mixed(mixed::Arguments),
    /// Uses a report in a headless browser as a reader would
    Browser(browser::Arguments),
    /// Holds exported networks against our own prediction, in onnxruntime
    Onnx(onnx::Arguments),
    /// Learns the prior of the clustering `mixture` on phantoms, and writes it into the crate
    Prior(prior::Arguments),
    /// Checks and measures on a CUDA device
    Cuda(cuda::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Reproduce(arguments) => reproduce::run(&arguments),
        Task::Test { package } => ci::test(package.as_deref()),
        Task::Ci { package: None } => ci::workspace(),
        Task::Ci { package: Some(name) } => ci::one_crate(&name),
        Task::Guide(arguments) => guide::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Mixed(arguments) => mixed::run(&arguments),
        Task::Browser(arguments) => browser::run(&arguments),
        Task::Onnx(arguments) => onnx::run(&arguments),
        Task::Prior(arguments) => prior::run(&arguments),
        Task::Cuda(arguments) => cuda::run(&arguments),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
