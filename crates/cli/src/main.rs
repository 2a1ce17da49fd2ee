//! The scribseg command: arguments, progress and exit codes around `scribseg-pipeline`.
//!
//! Exit status 0: done; 1: the input or a check is at fault; 2: bad usage.

mod arguments;
mod device;
mod given;
mod outcome;
mod page;
mod plan;
mod restart;
mod settings;
mod tables;
mod terminal;
mod verbs;

use std::process::ExitCode;

use clap::Parser;
use scribseg_pipeline::Progress;

use arguments::{Arguments, ConfigAction, Verb};
use outcome::{Outcome, Usage};
use terminal::Terminal;

/// Training allocates and frees the same large buffers over and over: this one keeps them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if matches!(arguments.verb, Verb::Reproduce(_)) {
        restart::without_candle_threads();
    }
    match run(arguments) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::AtFault) => ExitCode::from(1),
        Err(error) if outcome::reader_left(&error) => ExitCode::SUCCESS,
        Err(error) => {
            outcome::complain(&error);
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    let common = arguments.common;
    if let Some(threads) = common.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    let networks = matches!(arguments.verb, Verb::Fit(_) | Verb::Predict(_) | Verb::Reproduce(_));
    let device = device::choose(&common.device, networks)?;
    let progress = Terminal::new(common.quiet, common.verbose);
    progress.detail(&format!(
        "scribseg {}, networks on {}, {} threads",
        env!("CARGO_PKG_VERSION"),
        if device.is_cpu() { "the CPU" } else { "a CUDA device" },
        rayon::current_num_threads()
    ));
    match arguments.verb {
        Verb::Phantom(a) => verbs::steps::phantom(&a, &progress),
        Verb::Check(a) => verbs::check::run(&a, &progress),
        Verb::Scribble(a) => verbs::steps::scribble(&a, &progress),
        Verb::Propagate(a) => verbs::steps::propagate(&a, &progress),
        Verb::Cluster(a) => verbs::steps::cluster(&a, &progress),
        Verb::Fit(a) => verbs::train::fit(a, device, &progress),
        Verb::Predict(a) => verbs::train::predict(&a, &device, &progress),
        Verb::Evaluate(a) => verbs::evaluate::run(&a, &progress),
        Verb::Report(a) => verbs::report::run(&a),
        Verb::Export(a) => verbs::export::run(&a, &progress),
        Verb::Reproduce(a) => verbs::train::reproduce(a, device, &progress),
        Verb::Config { action: ConfigAction::Show(a) } => verbs::config::show(&a),
        Verb::Completions(a) => verbs::shell::completions(&a),
        Verb::Man(a) => verbs::shell::man(&a),
    }
}
