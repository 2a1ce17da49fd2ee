//! `cargo xtask mixed`: whether masks and presence labels of a few more scans help beside scribbles.
//!
//! Of a cohort's cases in name order the first two bring a mask, the next three scribbles and presence labels, the last three are held out, and
//! those between bring presence labels alone. Each seed is fitted on all of that, and on the three with scribbles alone.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::{metadata, shell};

/// Of both fits.
const SETTINGS: [&str; 7] = [
    "input.crop_mm=176",
    "network.width=8",
    "train.batch=4",
    "wt.iterations=300",
    "wt.crf_iterations=50",
    "sub.iterations=2000",
    "sub.crf_iterations=200",
];
const MASKS: usize = 2;
const SCRIBBLES: usize = 3;
const HELD_OUT: usize = 3;
const REGIONS: [&str; 3] = ["WT", "TC", "ET"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Scans with references in the layout of BraTS 2017 to 2021, eight at least
    #[arg(long, value_name = "DIR")]
    cohort: PathBuf,
    /// Their presence labels
    #[arg(long, value_name = "TSV")]
    presence: PathBuf,
    /// Where folders, runs and figures go
    #[arg(long, value_name = "DIR", default_value = "runs/mixed")]
    out: PathBuf,
    /// Seeds, each fitted both ways
    #[arg(long, value_name = "SEEDS", value_delimiter = ',', default_value = "1,2,3")]
    seeds: Vec<u64>,
    /// Changes one value of both fits; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let built = shell::status(shell::cargo(["build", "--release", "-p", "scribseg"]).stdout(Stdio::null()))?;
    if !built.success() {
        return Ok(shell::pass_on(built));
    }
    let name = format!("scribseg{}", std::env::consts::EXE_SUFFIX);
    let binary = metadata::workspace()?.target_directory.join("release").join(name);
    let scribseg = |words: &[&str]| -> Result<()> {
        let status = shell::status(Command::new(&binary).args(words).stdout(Stdio::null()))?;
        if status.success() { Ok(()) } else { bail!("scribseg {}: {status}", words.join(" ")) }
    };
    let folders = Folders::lay_out(arguments)?;
    let text = |path: &Path| path.display().to_string();
    let (presence, scribbles) = (text(&arguments.presence), text(&folders.scribbles));
    scribseg(&["scribble", &text(&folders.drawn), "--out", &scribbles])?;
    let mut lines =
        vec!["| seed | labels | WT | TC | ET | mean |".to_owned(), "|---|---|---|---|---|---|".to_owned()];
    for seed in &arguments.seeds {
        for (name, cohort, mixed) in
            [("scribbles", &folders.alone, false), ("mixed", &folders.together, true)]
        {
            let at = |what: &str| arguments.out.join(format!("{what}-{name}-{seed}"));
            let (run, predictions) = (at("run"), at("predictions"));
            let mut words = vec!["fit".to_owned(), text(cohort), "--out".to_owned(), text(&run)];
            words.extend(["--preset", "phantom", "--scribbles", &scribbles].map(str::to_owned));
            words.extend(["--presence".to_owned(), presence.clone()]);
            let settings = SETTINGS.iter().map(|s| (*s).to_owned()).chain(arguments.set.iter().cloned());
            let settings = settings.chain([format!("seed={seed}")]);
            words.extend(settings.flat_map(|setting| ["--set".to_owned(), setting]));
            if mixed {
                words.extend(["--masks".to_owned(), text(&folders.masks)]);
            }
            scribseg(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
            let (run, predictions, held_out) = (text(&run), text(&predictions), text(&folders.held_out));
            scribseg(&["predict", "--model", &run, &held_out, "--out", &predictions])?;
            scribseg(&["evaluate", "--reference", &held_out, "--prediction", &predictions])?;
            lines.push(format!("| {seed} | {name} | {} |", figures(Path::new(&predictions))?.join(" | ")));
        }
    }
    println!("{}", lines.join("\n"));
    Ok(ExitCode::SUCCESS)
}

/// Mean Dice of the three regions, and of them all.
fn figures(predictions: &Path) -> Result<Vec<String>> {
    let path = predictions.join("metrics.json");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let metrics: serde_json::Value = serde_json::from_str(&text)?;
    let mut dice = Vec::new();
    for region in REGIONS {
        let found = metrics["regions"][region]["dice"]["mean"].as_f64();
        dice.push(found.with_context(|| format!("{}: expected a mean Dice of {region}", path.display()))?);
    }
    dice.push(dice.iter().sum::<f64>() / dice.len() as f64);
    Ok(dice.into_iter().map(|d| format!("{d:.3}")).collect())
}

/// The cohort, laid out by what each scan brings.
struct Folders {
    /// The scans with scribbles, without references.
    alone: PathBuf,
    /// All that train, without references.
    together: PathBuf,
    /// The scans with scribbles, with the references they are drawn from.
    drawn: PathBuf,
    held_out: PathBuf,
    masks: PathBuf,
    scribbles: PathBuf,
}

impl Folders {
    fn lay_out(arguments: &Arguments) -> Result<Self> {
        let at = |name: &str| arguments.out.join(name);
        let folders = Self {
            alone: at("alone"),
            together: at("together"),
            drawn: at("drawn"),
            held_out: at("held-out"),
            masks: at("masks"),
            scribbles: at("scribbles-drawn"),
        };
        let cannot = |path: &Path| format!("{} cannot be read", path.display());
        let entries = std::fs::read_dir(&arguments.cohort).with_context(|| cannot(&arguments.cohort))?;
        let mut cases: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
        cases.sort();
        let least = MASKS + SCRIBBLES + HELD_OUT;
        if cases.len() < least {
            bail!("{}: expected at least {least} cases, found {}", arguments.cohort.display(), cases.len());
        }
        let trained = cases.len() - HELD_OUT;
        std::fs::create_dir_all(&folders.masks)?;
        for (i, case) in cases.iter().enumerate() {
            let scribbled = (MASKS..MASKS + SCRIBBLES).contains(&i);
            for entry in std::fs::read_dir(case).with_context(|| cannot(case))? {
                let file = entry?.path();
                let is_reference = file.to_string_lossy().contains("_seg.nii");
                let wanted = [
                    (&folders.alone, scribbled && !is_reference),
                    (&folders.together, i < trained && !is_reference),
                    (&folders.drawn, scribbled),
                    (&folders.held_out, i >= trained),
                ];
                for (folder, _) in wanted.into_iter().filter(|(_, wanted)| *wanted) {
                    copy(&file, &folder.join(case.file_name().unwrap_or_default()))?;
                }
                if i < MASKS && is_reference {
                    copy(&file, &folders.masks)?;
                }
            }
        }
        Ok(folders)
    }
}

fn copy(file: &Path, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let to = folder.join(file.file_name().unwrap_or_default());
    std::fs::copy(file, &to)
        .with_context(|| format!("{} cannot be copied to {}", file.display(), to.display()))?;
    Ok(())
}
