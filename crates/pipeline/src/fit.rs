//! The main job on one's own data: both phases, SC+GC+CRF then KM+SC+CRF.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::Device;
use rayon::prelude::*;
use scribseg_io::Cohort;
use scribseg_metrics::Evaluation;
use serde::Serialize;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::experiments::{measure, policy};
use crate::methods::Methods;
use crate::progress::Progress;
use crate::segment::{classes, merge};
use crate::study::{Part, Scribbles, Study};
use crate::train::Start;

/// What `fit` is asked for.
pub struct FitOptions {
    /// The cohort's folder.
    pub cohort: PathBuf,
    /// The run directory.
    pub out: PathBuf,
    /// Folder of `<case>_scribble.nii.gz`; without it scribbles are simulated from the references.
    pub scribbles: Option<PathBuf>,
    /// `participants.tsv`; without it the cohort's own, else derived from the references.
    pub presence: Option<PathBuf>,
    /// Every value in force.
    pub config: Config,
    /// Where tensors live.
    pub device: Device,
}

/// What `fit` did.
#[derive(Debug, Serialize)]
pub struct FitSummary {
    /// The run directory.
    pub run: PathBuf,
    /// Training cases.
    pub train: Vec<String>,
    /// Held-out cases.
    pub test: Vec<String>,
    /// Figures on the held-out cases, where there are any.
    pub metrics: Option<Evaluation>,
}

/// A cohort that can be split.
pub(crate) fn check_trainable(cohort: &Cohort) -> Result<()> {
    if cohort.cases.len() < 2 {
        return Err(Error::Cohort {
            path: cohort.root.to_owned(),
            problem: format!(
                "expected at least 2 cases to train on, found {}; add scans or point at the folder above",
                cohort.cases.len()
            ),
        });
    }
    Ok(())
}

/// Trains both phases and, where references allow, measures the held-out scans.
///
/// A run that was cut short goes on where it was; one that is done says so.
///
/// # Errors
/// What the cohort, the configuration, the disk or the training refuse.
pub fn fit(options: &FitOptions, progress: &dyn Progress) -> Result<FitSummary> {
    let FitOptions { cohort, out, scribbles, presence, config, device } = options;
    fit_with(
        &Methods::paper(config),
        cohort,
        out,
        scribbles.clone(),
        presence.clone(),
        config,
        device,
        progress,
    )
}

/// [`fit()`] with methods of one's own.
///
/// # Errors
/// As [`fit()`].
pub fn fit_with(
    methods: &Methods,
    cohort: &std::path::Path,
    out: &std::path::Path,
    scribbles: Option<PathBuf>,
    presence: Option<PathBuf>,
    config: &Config,
    device: &Device,
    progress: &dyn Progress,
) -> Result<FitSummary> {
    config.validate()?;
    let cohort = crate::verbs::open_cohort(cohort, config)?;
    check_trainable(&cohort)?;
    let source = scribbles.map_or(Scribbles::Simulated, Scribbles::Folder);
    let study = Study::open(out, &cohort, &source, presence.as_deref(), config, methods, device, progress)?;
    let run = &study.run;
    let scribbles = study.scribbles()?;
    let weak = study.weak_masks(&scribbles)?;
    let phase1 = Study::tumour_supervision(&scribbles, Some(&weak));
    let wt = study.train("wt-sc-gc", 2, Start::Random, &phase1, Part::Supervised)?;
    let wt = study.train("wt", 2, Start::From(&wt), &phase1, Part::Crf)?;
    let tumours = study.tumour_masks(&wt, &scribbles, &weak)?;
    let masks = study.substructures(&tumours)?;
    let phase2 = study.substructure_supervision(&masks, &scribbles, &weak)?;
    let sub = study.train("sub-km-sc", 4, Start::NewHead(&wt), &phase2, Part::Supervised)?;
    let sub = study.train("sub", 4, Start::From(&sub), &phase2, Part::Crf)?;

    progress.stage("predict", "held-out scans");
    progress.begin("predict", study.test.len() as u64);
    let done = AtomicU64::new(0);
    let cases = study
        .test
        .par_iter()
        .map(|scan| {
            let tumour = classes(&*methods.network.load(2, &wt, device)?, scan, device)?;
            let own = classes(&*methods.network.load(4, &sub, device)?, scan, device)?;
            let whole = scan.uncrop(merge(&tumour.mapv(|v| v != 0), &own).view(), 0);
            let path = run.path(&format!("predictions/{}_seg.nii.gz", scan.id));
            run.make_parent(&path)?;
            scribseg_io::write_labels(
                &path,
                study.scheme.from_internal(whole.view())?.view(),
                &scan.geometry,
            )?;
            progress.advance(done.fetch_add(1, Ordering::Relaxed) + 1, &scan.id);
            measure(scan, &whole)
        })
        .collect::<Result<Vec<_>>>()?;
    progress.end();
    let metrics = (!cases.is_empty())
        .then(|| scribseg_metrics::summarise(&cases, policy(config), &study.scheme.describe()));
    if let Some(metrics) = &metrics {
        run.write_json("metrics.json", metrics)?;
        run.write("metrics.csv", metrics.to_csv().as_bytes())?;
    }
    study.close();
    let ids = |scans: &[std::sync::Arc<crate::scan::Scan>]| scans.iter().map(|s| s.id.clone()).collect();
    Ok(FitSummary { run: run.root().to_owned(), train: ids(&study.train), test: ids(&study.test), metrics })
}
