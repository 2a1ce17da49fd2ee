//! What `fit` would do, and an estimate of what that would take. Nothing is written.

use std::path::{Path, PathBuf};

use scribseg_io::{Cohort, PresenceTable, companion};
use serde::Serialize;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::evidence::{Masks, Sources};
use crate::fit::first_of_phase2;
use crate::fit::{FitOptions, check_masks, check_trainable, strata};
use crate::inputs::Inputs;
use crate::methods::Methods;
use crate::model;
use crate::presence::table_of;
use crate::progress::Progress;
use crate::run::RunDir;
use crate::split::Split;
use crate::study::{Fold, Part};

mod estimate;
mod sample;

pub use estimate::Estimate;

/// The stages of `fit`: name, outputs, part, and what they train.
fn stages_of(config: &Config) -> [(&'static str, usize, Part, &'static str); 4] {
    let clustered = match config.cluster.method.as_str() {
        "mixture" => "phase 2: sub-structures, eq. 1 on the mixture and its scribbles",
        _ => "phase 2: sub-structures, eq. 1 on k-means and its scribbles",
    };
    [
        ("wt-sc-gc", 2, Part::Supervised, "phase 1: whole tumour, eq. 1 on scribbles and graph cut"),
        ("wt", 2, Part::Crf, "phase 1: the same with the dense CRF"),
        (first_of_phase2(config), 4, Part::Supervised, clustered),
        ("sub", 4, Part::Crf, "phase 2: the same with the dense CRF"),
    ]
}

/// What `fit` would do.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// The run directory.
    pub run: PathBuf,
    /// The cohort's folder.
    pub cohort: PathBuf,
    /// Layout, and why.
    pub layout: [String; 2],
    /// What label values mean, and why.
    pub label_scheme: [String; 2],
    /// Every scan of the cohort in name order.
    pub scans: Vec<PlannedScan>,
    /// One, or one a fold.
    pub runs: Vec<PlannedRun>,
    /// What will lie in the run directory (each fold's, if there are any).
    pub files: Vec<String>,
    /// What it would take on this machine.
    pub estimate: Estimate,
}

/// What is used of a scan.
#[derive(Debug, Serialize)]
pub struct PlannedScan {
    /// The case.
    pub id: String,
    /// `train`, `held out`, or the fold that holds it out.
    pub role: String,
    /// Where its scribbles come from.
    pub scribbles: String,
    /// In a mixed fit, where its mask comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// Where its presence labels come from.
    pub presence: String,
    /// Whether there is a reference.
    pub reference: bool,
}

/// One training, from the first stage to the figures.
#[derive(Debug, Serialize)]
pub struct PlannedRun {
    /// Its folder.
    pub folder: PathBuf,
    /// Scans that train.
    pub train: usize,
    /// Scans held out.
    pub test: usize,
    /// Its stages in order.
    pub stages: Vec<PlannedStage>,
}

/// One stage of training.
#[derive(Debug, Serialize)]
pub struct PlannedStage {
    /// Its name: the model is `models/<name>.safetensors`.
    pub name: &'static str,
    /// What it trains.
    pub trains: &'static str,
    /// Iterations in all.
    pub iterations: usize,
    /// Iterations that an earlier start has done.
    pub done: usize,
}

/// Of a mixed fit alone.
const MIXED: &str = "supervision.json";
const FILES: [&str; 13] = [
    "config.toml, split.json, inputs.json, program.txt",
    "prepared/<case>.safetensors (until the run is done)",
    MIXED,
    "slices/<rank>-<case>.safetensors (of up to six held-out scans)",
    "weak/<case>/{scribble,graphcut,wt,<clustering>}.nii.gz (of training scans)",
    "checkpoints/<stage>.safetensors (while it trains)",
    "models/<stage>.safetensors",
    "curves/<stage>.json",
    "events/<stage>/ (TensorBoard)",
    "predictions/<case>_seg.nii.gz (of held-out scans)",
    "metrics.json",
    "metrics.csv",
    "report.html",
];

/// What [`fit`](crate::fit()) would do with the same options, and what that would take: part of the scans are read and
/// a few steps of each stage are trained to tell. Nothing is written.
///
/// # Errors
/// What `fit` would refuse before it trains, as far as this looks.
pub fn plan(options: &FitOptions, progress: &dyn Progress) -> Result<Plan> {
    let FitOptions { cohort, out, labels, config, device } = options;
    config.validate()?;
    let cohort = crate::cohorts::open_cohort(cohort, config)?;
    let config = &crate::cohorts::settled(config, &cohort);
    check_trainable(&cohort)?;
    cohort.require_modalities()?;
    check_masks(labels, config)?;
    let (scribbles, presence) = (labels.scribbles.as_deref(), labels.presence.as_deref());
    let sources = match config.input.mixed {
        true => Some(Sources::open(&cohort, labels, config)?),
        false => None,
    };
    if RunDir::holds_run_of(out, config)? {
        let mut inputs = Inputs::of(&cohort, scribbles, presence)?;
        if let Some(Masks::Folder(masks)) = &labels.masks {
            inputs = inputs.with_masks(&cohort, Some(masks))?;
        }
        RunDir::same_inputs(out, &inputs)?;
    }
    let whole = match config.input.folds {
        0 => Split::of(&cohort, config)?,
        folds => Split::stratified(&strata(&cohort, presence)?, folds, config.seed)?,
    };
    let scans = match &sources {
        Some(sources) => mixed_scans(&cohort, &whole, sources)?,
        None => scans(&cohort, &whole, scribbles, presence)?,
    };
    let runs: Vec<PlannedRun> = match whole.folds.as_slice() {
        [] => vec![run(out, &whole, config)],
        folds => (1..).zip(folds).map(|(n, split)| run(&Fold::folder(out, n), split, config)).collect(),
    };
    let methods = Methods::paper(config);
    let trained = whole.folds.first().unwrap_or(&whole);
    let sample =
        sample::take(&cohort, trained, labels, sources.as_ref(), config, &methods, device, progress)?;
    let estimate = estimate::of(&runs, &sample, config, device.is_cpu());
    let [layout, scheme, _] = cohort.why.clone();
    Ok(Plan {
        run: out.clone(),
        cohort: cohort.root.clone(),
        layout: [cohort.layout.name().to_owned(), layout],
        label_scheme: [cohort.scheme.describe(), scheme],
        scans,
        runs,
        files: (FILES.into_iter().filter(|file| config.input.mixed || !file.starts_with(MIXED)))
            .map(|file| file.replace("<clustering>", &config.cluster.method))
            .collect(),
        estimate,
    })
}

fn run(folder: &Path, split: &Split, config: &Config) -> PlannedRun {
    let there = RunDir::unopened(folder);
    let stage = |&(name, outputs, part, trains): &(&'static str, usize, Part, &'static str)| {
        let iterations = part.iterations(if outputs == 2 { &config.wt } else { &config.sub });
        let done = match there.has(&format!("models/{name}.safetensors")) {
            true => iterations,
            false => checkpointed(&there.path(&format!("checkpoints/{name}.safetensors"))).min(iterations),
        };
        PlannedStage { name, trains, iterations, done }
    };
    let stages = stages_of(config).iter().map(stage).collect();
    PlannedRun { folder: folder.to_owned(), train: split.train.len(), test: split.test.len(), stages }
}

/// Iterations behind a checkpoint; 0 where there is none that can be read.
fn checkpointed(path: &Path) -> usize {
    #[derive(serde::Deserialize)]
    struct Reached {
        iteration: usize,
    }
    let read = model::read::<Reached>(path, &candle_core::Device::Cpu);
    read.map_or(0, |(_, Reached { iteration })| iteration)
}

fn scans(
    cohort: &Cohort,
    whole: &Split,
    scribbles: Option<&Path>,
    presence: Option<&Path>,
) -> Result<Vec<PlannedScan>> {
    let table = match table_of(cohort, presence) {
        Some(path) => {
            let table = PresenceTable::read(&path)?;
            table.for_cases(cohort.cases.iter().map(|c| c.id.as_str()))?;
            Some((path, table))
        }
        None => None,
    };
    let mut planned = Vec::new();
    for case in &cohort.cases {
        let fold = whole.folds.iter().position(|fold| fold.test.contains(&case.id));
        let role = match fold {
            Some(n) => format!("held out in fold {}", n + 1),
            None if whole.folds.is_empty() && whole.test.contains(&case.id) => "held out".to_owned(),
            None => "train".to_owned(),
        };
        let trains = role != "held out";
        let scribbles = match scribbles {
            _ if !trains => "not used".to_owned(),
            None if case.reference.is_some() => "simulated from its reference".to_owned(),
            None => {
                return Err(Error::case(
                    &case.id,
                    "expected a scribble, or a reference (`_seg`) to simulate one from, found neither; give `--scribbles DIR`, add the reference, or leave the case out",
                ));
            }
            Some(folder) => {
                let path = companion(folder, &case.id, "scribble");
                if !path.is_file() {
                    let problem = format!(
                        "expected the scribble of case {}, found no such file; draw it, or leave the case out",
                        case.id
                    );
                    return Err(Error::Cohort { path, problem });
                }
                path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
            }
        };
        let presence = match &table {
            _ if !trains => "not used".to_owned(),
            Some((path, table)) => match table.rows.get(&case.id) {
                Some(row) => words(row),
                None => format!("no row in {}", path.display()),
            },
            None if case.reference.is_some() => "from its reference".to_owned(),
            None => {
                let problem = "expected presence labels, found neither participants.tsv nor a reference; give `--presence TSV`";
                return Err(Error::case(&case.id, problem));
            }
        };
        let reference = case.reference.is_some();
        planned.push(PlannedScan { id: case.id.clone(), role, scribbles, mask: None, presence, reference });
    }
    Ok(planned)
}

/// The scans of a mixed fit, as far as files tell; what they say of each other is seen when they are read.
fn mixed_scans(cohort: &Cohort, whole: &Split, sources: &Sources) -> Result<Vec<PlannedScan>> {
    let none = || "none".to_owned();
    let name = |path: PathBuf| path.file_name().map_or_else(none, |name| name.to_string_lossy().into_owned());
    let planned = |case: &scribseg_io::Case| {
        let trains = !whole.test.contains(&case.id);
        let (mask, scribble) = (sources.mask_of(case)?, sources.scribble_file(&case.id));
        let presence = match sources.row(&case.id) {
            Some(row) => words(&row),
            None if mask.is_some() => "from its mask".to_owned(),
            None => none(),
        };
        let [scribbles, mask] = [scribble, mask].map(|path| path.map_or_else(none, name));
        let not = |what: String| if trains { what } else { "not used".to_owned() };
        Ok(PlannedScan {
            id: case.id.clone(),
            role: if trains { "train" } else { "held out" }.to_owned(),
            scribbles: not(scribbles),
            mask: Some(not(mask)),
            presence: not(presence),
            reference: case.reference.is_some(),
        })
    };
    let told = |case: &scribseg_io::Case| {
        let row = sources.row(&case.id).is_some_and(|row| row != scribseg_io::Presence::default());
        !whole.test.contains(&case.id) && (row || !matches!(sources.mask_of(case), Ok(None)))
    };
    if !cohort.cases.iter().any(told) {
        return Err(crate::evidence::lacks(
            cohort,
            "a mask of sub-structures or presence labels",
            "`--masks` or `--presence`",
        ));
    }
    cohort.cases.iter().map(planned).collect()
}

/// A row of the presence table.
fn words(row: &scribseg_io::Presence) -> String {
    let value = |value: Option<bool>| value.map_or("n/a", |there| if there { "1" } else { "0" });
    format!("ED {}, ET {}, NCR {}", value(row.ed), value(row.et), value(row.ncr))
}
