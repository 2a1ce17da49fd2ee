//! `cargo xtask cuda`: what only a machine with a CUDA device can check and measure. Without one it says so, loudly.
//!
//! Programs are built where cargo and a toolkit are and can be packed for a machine that has neither: `--pack DIR` there, `DIR/xtask cuda
//! --packed DIR` here.

mod programs;
mod training;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::ValueEnum;
use programs::{KERNELS, Programs};

use crate::shell::Steps;
use crate::{bench, ci, metadata, record};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Also measures peers
    #[arg(long)]
    peers: bool,
    /// Builds the programs into a folder for a machine without cargo, and stops
    #[arg(long, value_name = "DIR")]
    pack: Option<PathBuf>,
    /// Runs the programs of such a folder; the machine's `python3` has the PyTorch of the peers
    #[arg(long, value_name = "DIR", conflicts_with = "pack")]
    packed: Option<PathBuf>,
    /// These parts alone
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    only: Vec<Part>,
    /// Iterations of eq. 1 in each phase of the run that the paper's schedule is projected from
    #[arg(long, value_name = "N", default_value_t = 520)]
    iterations: usize,
    /// Smaller benches
    #[arg(long)]
    quick: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The device against the CPU
    Check,
    /// NVIDIA's sanitizer over that
    Sanitize,
    /// Speed
    Bench,
    /// Table 1, small, twice
    Table,
    /// The paper's schedule, projected
    Train,
}

/// Tests, then NVIDIA's sanitizer over those of the device, then the benches, then training.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let toolkit = arguments.packed.is_some() || ci::installed("nvcc");
    if !toolkit {
        warn(
            "there is NO CUDA TOOLKIT (nvcc) here: the networks' kernels were NOT built, checked or measured",
        );
    }
    let programs = match &arguments.packed {
        Some(folder) => Programs::packed(folder)?,
        None => Programs::build(toolkit)?,
    };
    if let Some(folder) = &arguments.pack {
        programs.pack(folder)?;
        eprintln!("packed: on a machine with a device run {}/xtask cuda --packed {0}", folder.display());
        return Ok(ExitCode::SUCCESS);
    }
    let device = ci::installed("nvidia-smi");
    if !device {
        warn("there is NO NVIDIA DRIVER here: nothing will run on a device, and every part below says so");
    }
    let wanted = |part: Part| arguments.only.is_empty() || arguments.only.contains(&part);
    let mut steps = Steps::new();
    if wanted(Part::Check) {
        for kernels in &KERNELS {
            // With TF32, as it is used, and without, when the device has to agree with the CPU far more closely.
            for (name, tf32) in [("test", None), ("test without TF32", Some("0"))] {
                if let Some(mut command) = programs.command(kernels.test) {
                    command.arg("--nocapture").envs(tf32.map(|value| ("NVIDIA_TF32_OVERRIDE", value)));
                    steps.command(&format!("{name} {}", kernels.folder), &mut command);
                }
            }
        }
    }
    if wanted(Part::Sanitize) {
        sanitize(&programs, device, &mut steps);
    }
    if wanted(Part::Bench) {
        steps.check("bench", || measure(&programs, arguments).map(|()| Vec::new()));
    }
    let training = device && toolkit;
    if !training {
        warn("training on a device was NOT MEASURED, the paper's schedule NOT PROJECTED");
    }
    let out = folder(arguments)?;
    for precision in ["bf16", "f32"] {
        if training && wanted(Part::Table) {
            let name = format!("Table 1 twice in {precision}");
            steps.check(&name, || training::table(&programs, &out, precision));
        }
        if training && wanted(Part::Train) {
            let project = || training::project(&programs, &out, arguments.iterations, precision);
            steps.check(&format!("the paper's training in {precision}"), || project().map(|()| Vec::new()));
        }
    }
    Ok(steps.finish())
}

fn warn(what: &str) {
    eprintln!("\n!! {what}");
}

/// Where runs are put.
fn folder(arguments: &Arguments) -> Result<PathBuf> {
    Ok(match &arguments.packed {
        Some(folder) => folder.join("runs"),
        None => metadata::workspace()?.target_directory.join("cuda"),
    })
}

fn sanitize(programs: &Programs, device: bool, steps: &mut Steps) {
    if !device || !ci::installed("compute-sanitizer") {
        return warn(
            "compute-sanitizer is NOT INSTALLED or has no device: accesses and races there were NOT checked",
        );
    }
    for kernels in &KERNELS {
        for tool in ["memcheck", "racecheck", "initcheck"] {
            let words = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "1"];
            if let Some(mut command) = programs.under(&words, kernels.test) {
                steps.command(&format!("compute-sanitizer {tool} {}", kernels.folder), &mut command);
            }
        }
    }
}

/// The benches on a device; what they measure goes into BENCHMARKS.md of the workspace or of the packed folder.
fn measure(programs: &Programs, arguments: &Arguments) -> Result<()> {
    let folder = arguments.packed.as_deref().map_or_else(|| crate::shell::root(), Path::new);
    let path = folder.join(record::FILE);
    for kernels in &KERNELS {
        let Some(mut command) = programs.command(kernels.bench) else { continue };
        if arguments.peers {
            command.env("SCRIBSEG_BENCH_PEERS", "1").env("SCRIBSEG_PYTHON", programs.python(kernels.folder)?);
        }
        if arguments.quick {
            command.env("SCRIBSEG_BENCH_QUICK", "1");
        }
        let mut print = |case: &bench::Case, _: &str| {
            eprintln!("{}", bench::row(case));
            Ok(())
        };
        let cases = bench::cases(&mut command, &mut print)?;
        if !arguments.quick && cases.iter().any(|case| case.device == "cuda") {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            std::fs::write(&path, record::record(&text, &record::gpu_machine(), &cases))
                .with_context(|| format!("{}: cannot be written", path.display()))?;
        }
    }
    Ok(())
}
