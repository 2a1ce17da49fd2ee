//! `cargo xtask bench`: every bench of the workspace, one table or one JSON line a case; with `--cuda` those for a device too.
//!
//! A bench is a plain program (`harness = false`) that prints one JSON line a case; see [`Case`].

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{metadata, peers, record, shell};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to measure: crf, unet, predict, io, graphcut, cluster, morphology, metrics, phantom, scribble…; all without it
    names: Vec<String>,
    /// Also measures peers from PyPI, in a pinned environment of their own below `target`
    #[arg(long)]
    peers: bool,
    /// Also measures on a CUDA device
    #[arg(long)]
    cuda: bool,
    /// One JSON line a case
    #[arg(long)]
    json: bool,
    /// Also puts what was measured into BENCHMARKS.md, under this machine
    #[arg(long, conflicts_with = "quick")]
    record: bool,
    /// Smaller inputs and fewer rounds
    #[arg(long)]
    quick: bool,
}

/// One measured case: medians in ms; ratio = peer_ms / ours_ms, above 1 we are faster.
#[derive(Debug, Deserialize)]
pub(crate) struct Case {
    pub(crate) bench: String,
    pub(crate) device: String,
    pub(crate) threads: usize,
    pub(crate) ours_ms: f64,
    pub(crate) peer: Option<String>,
    pub(crate) peer_ms: Option<f64>,
    pub(crate) ratio: Option<f64>,
}

/// A bench target and the names it answers to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bench {
    package: String,
    folder: String,
    name: String,
    /// Features that it needs.
    features: Vec<String>,
}

impl Bench {
    /// `crf` means the bench of that name or all of the crate `crf-kernels`.
    fn answers_to(&self, word: &str) -> bool {
        let crate_name = self.folder.split('-').next().unwrap_or_default();
        self.name == word || self.folder == word || self.package == word || crate_name == word
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut benches = discover()?;
    // Those that need a feature are the ones for a device.
    benches.retain(|bench| arguments.cuda || bench.features.is_empty());
    let chosen = choose(&benches, &arguments.names)?;
    let mut out = std::io::stdout().lock();
    if !arguments.json {
        writeln!(out, "{}", heading())?;
    }
    let mut cases = Vec::new();
    for bench in chosen {
        eprintln!("== {} of {}", bench.name, bench.package);
        let mut command = shell::cargo(["bench", "-p", &bench.package, "--bench", &bench.name]);
        if !bench.features.is_empty() {
            command.args(["--features", &bench.features.join(",")]);
        }
        if arguments.peers {
            let python = peers::python(&bench.folder)?;
            command.env("SCRIBSEG_BENCH_PEERS", "1").env("SCRIBSEG_PYTHON", python);
        }
        if arguments.quick {
            command.env("SCRIBSEG_BENCH_QUICK", "1");
        }
        let mut show = |case: &Case, line: &str| -> Result<()> {
            match arguments.json {
                true => writeln!(out, "{line}")?,
                false => writeln!(out, "{}", row(case))?,
            }
            Ok(out.flush()?)
        };
        cases.extend(
            self::cases(&mut command, &mut show)
                .with_context(|| format!("bench {} of {}", bench.name, bench.package))?,
        );
        if arguments.record {
            // After each bench: one that fails later loses nothing.
            let path = metadata::workspace()?.workspace_root.join(record::FILE);
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            std::fs::write(&path, record::record(&text, &record::machine(), &cases))
                .with_context(|| format!("{}: cannot be written", path.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a bench; `show` gets every case and its line as soon as it is measured.
pub(crate) fn cases(
    command: &mut Command,
    show: &mut dyn FnMut(&Case, &str) -> Result<()>,
) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let mut child = command.stdout(Stdio::piped()).spawn().context("the bench could not be started")?;
    if let Some(lines) = child.stdout.take() {
        for line in BufReader::new(lines).lines() {
            let line = line?;
            match serde_json::from_str::<Case>(&line) {
                Ok(case) => {
                    show(&case, &line)?;
                    cases.push(case);
                }
                // Talk, or a case that lacks something: seen, but never taken for data.
                Err(_) => eprintln!("{line}"),
            }
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("it failed: {status}");
    }
    Ok(cases)
}

fn discover() -> Result<Vec<Bench>> {
    let mut found = Vec::new();
    for package in &metadata::workspace()?.packages {
        for target in package.targets.iter().filter(|t| t.kind.iter().any(|k| k == "bench")) {
            found.push(Bench {
                package: package.name.clone(),
                folder: package.short_name().to_owned(),
                name: target.name.clone(),
                features: target.required_features.clone(),
            });
        }
    }
    Ok(found)
}

fn choose(benches: &[Bench], words: &[String]) -> Result<Vec<Bench>> {
    for word in words {
        if !benches.iter().any(|b| b.answers_to(word)) {
            let known: Vec<&str> = benches.iter().map(|b| b.name.as_str()).collect();
            bail!("expected benches of {}, found `{word}`", known.join(", "));
        }
    }
    let wanted = |b: &&Bench| words.is_empty() || words.iter().any(|w| b.answers_to(w));
    Ok(benches.iter().filter(wanted).cloned().collect())
}

fn heading() -> String {
    format!(
        "{:<44} {:<8} {:>7} {:>12} {:>12} {:>8}  peer",
        "bench", "device", "threads", "ours ms", "peer ms", "ratio"
    )
}

pub(crate) fn row(case: &Case) -> String {
    let number =
        |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |v| format!("{v:.digits$}"));
    format!(
        "{:<44} {:<8} {:>7} {:>12.3} {:>12} {:>8}  {}",
        case.bench,
        case.device,
        case.threads,
        case.ours_ms,
        number(case.peer_ms, 3),
        number(case.ratio, 2),
        case.peer.as_deref().unwrap_or("-")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn benches() -> Vec<Bench> {
        [("crf-kernels", "crf"), ("unet", "unet"), ("unet", "predict"), ("io", "io")]
            .map(|(folder, name)| Bench {
                package: format!("scribseg-{folder}"),
                folder: folder.into(),
                name: name.into(),
                features: Vec::new(),
            })
            .into()
    }

    #[test]
    fn words_name_benches_crates_or_all() {
        let names = |words: &[&str]| -> Vec<String> {
            let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            choose(&benches(), &words).unwrap().into_iter().map(|b| b.name).collect()
        };
        assert_eq!(names(&[]), ["crf", "unet", "predict", "io"]);
        assert_eq!(names(&["crf"]), ["crf"]);
        assert_eq!(names(&["predict", "scribseg-io"]), ["predict", "io"]);
        assert_eq!(names(&["unet"]), ["unet", "predict"]);
        let unknown = choose(&benches(), &["gpu".to_owned()]).unwrap_err().to_string();
        assert!(unknown.contains("gpu") && unknown.contains("predict"), "{unknown}");
    }

    #[test]
    fn a_case_with_and_without_a_peer_makes_a_row() {
        let case: Case = serde_json::from_str(
            r#"{"bench":"crf/loss/b32-k2-cached","device":"cpu","threads":2,"ours_ms":20.0,"peer":"pydensecrf 1.0","peer_ms":50.0,"ratio":2.5}"#,
        )
        .unwrap();
        assert!(row(&case).contains("2.50  pydensecrf 1.0"));
        let case: Case = serde_json::from_str(
            r#"{"bench":"io/read","device":"cpu","threads":2,"ours_ms":20.0,"peer":null,"peer_ms":null,"ratio":null}"#,
        )
        .unwrap();
        assert!(row(&case).ends_with("-        -  -"), "{}", row(&case));
    }
}
