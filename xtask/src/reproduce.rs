//! `cargo xtask reproduce`: a release build, then the binary's own verb of that name.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::Result;

use crate::{metadata, shell};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Size of the run: smoke (minutes, proves nothing about figures), phantom or paper
    #[arg(long, default_value = "phantom", value_parser = ["smoke", "phantom", "paper"])]
    preset: String,
    /// A cohort of one's own with reference masks, instead of the synthetic one
    #[arg(long, value_name = "DIR")]
    cohort: Option<PathBuf>,
    /// The rows of Table 1 to run, as in `SC,2:KM`; all without it
    #[arg(long, value_name = "ROWS", value_delimiter = ',', num_args = 1..)]
    rows: Vec<String>,
    /// Rows that train at once [default: as many as keep the threads busy, 4 at most]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// The run directory; without it `runs/<preset>`
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: String,
    /// Threads of the CPU [default: all]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// What the convolutions multiply: f32, bf16 or auto [default: as the preset says]
    #[arg(long, value_name = "PRECISION")]
    precision: Option<String>,
    /// Changes one value of the preset; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Prints the table as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut build = shell::cargo(["build", "--release", "-p", "scribseg"]);
    if arguments.device.starts_with("cuda") {
        build.args(["--features", "cuda"]);
    }
    // What the binary prints is data; what cargo prints is not.
    let built = shell::status(build.stdout(Stdio::null()))?;
    if !built.success() {
        return Ok(shell::pass_on(built));
    }
    let binary = metadata::workspace()?
        .target_directory
        .join("release")
        .join(format!("scribseg{}", std::env::consts::EXE_SUFFIX));
    // The caller's own folder, so that relative paths mean what they say.
    let mut command = Command::new(binary);
    command.args(verb(arguments));
    Ok(shell::pass_on(shell::status(&mut command)?))
}

/// The arguments of the binary's verb.
fn verb(arguments: &Arguments) -> Vec<String> {
    let Arguments { preset, cohort, rows, jobs, out, device, threads, precision, set, json } = arguments;
    let out = out.clone().unwrap_or_else(|| ["runs", preset].iter().collect());
    let mut words = vec!["reproduce".to_owned()];
    let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
    option("--preset", preset.clone());
    option("--out", out.display().to_string());
    option("--device", device.clone());
    if let Some(cohort) = cohort {
        option("--cohort", cohort.display().to_string());
    }
    if !rows.is_empty() {
        option("--rows", rows.join(","));
    }
    if let Some(jobs) = jobs {
        option("--jobs", jobs.to_string());
    }
    if let Some(threads) = threads {
        option("--threads", threads.to_string());
    }
    if let Some(precision) = precision {
        option("--precision", precision.clone());
    }
    for assignment in set {
        option("--set", assignment.clone());
    }
    if *json {
        words.push("--json".to_owned());
    }
    words
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: super::Arguments,
    }

    fn words(line: &str) -> String {
        super::verb(&Line::parse_from(line.split(' ')).arguments).join(" ")
    }

    #[test]
    fn every_argument_is_passed_on() {
        assert_eq!(words("x"), "reproduce --preset phantom --out runs/phantom --device auto");
        assert_eq!(
            words(
                "x --preset smoke --cohort c --rows SC,2:KM --rows Full --jobs 3 --out o --device cpu --threads 2 --precision bf16 --set a.b=1 --set c=2 --json"
            ),
            "reproduce --preset smoke --out o --device cpu --cohort c --rows SC,2:KM,Full --jobs 3 --threads 2 --precision bf16 --set a.b=1 --set c=2 --json"
        );
    }
}
