//! The main job on one's own data: both phases, SC+GC+CRF then KM+SC+CRF, or MX+SC+CRF where `cluster.method` is `mixture`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::Device;
use rayon::prelude::*;
use scribseg_io::{Cohort, Presence, PresenceTable};
use scribseg_metrics::Evaluation;
use serde::Serialize;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::evaluation::{self, Pair, measure, policy};
use crate::evidence::{Labels, Used};
use crate::inputs::Inputs;
use crate::methods::Methods;
use crate::presence::table_of;
use crate::progress::Progress;
use crate::run::RunDir;
use crate::segment::{classes, merge};
use crate::split::{Split, Stratum};
use crate::study::{Fold, Part, Scribbles, Study};
use crate::train::Start;

/// What `fit` is asked for.
pub struct FitOptions {
    /// The cohort's folder.
    pub cohort: PathBuf,
    /// The run directory.
    pub out: PathBuf,
    /// Where the labels are.
    pub labels: Labels,
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
    /// The folds of a cross-validation, each fitted in `fold-<number>` of the run directory.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub folds: Vec<Split>,
    /// Figures on the held-out cases, where there are any.
    pub metrics: Option<Evaluation>,
    /// Of a mixed fit, what trained of each scan.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub supervision: Vec<Used>,
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

/// Masks train in a mixed fit alone.
pub(crate) fn check_masks(labels: &Labels, config: &Config) -> Result<()> {
    if labels.masks.is_some() && !config.input.mixed {
        return Err(Error::Config(
            "key `input.mixed`: expected true, since masks are given to train on, found false".into(),
        ));
    }
    Ok(())
}

/// Trains both phases and, where references allow, measures the held-out scans; with `input.folds`, once a fold.
///
/// A run that was cut short goes on where it was; one that is done says so.
///
/// # Errors
/// What the cohort, the configuration, the disk or the training refuse.
pub fn fit(options: &FitOptions, progress: &dyn Progress) -> Result<FitSummary> {
    let FitOptions { cohort, out, labels, config, device } = options;
    fit_with(&Methods::paper(config), cohort, out, labels, config, device, progress)
}

/// [`fit()`] with methods of one's own.
///
/// # Errors
/// As [`fit()`].
pub fn fit_with(
    methods: &Methods,
    cohort: &Path,
    out: &Path,
    labels: &Labels,
    config: &Config,
    device: &Device,
    progress: &dyn Progress,
) -> Result<FitSummary> {
    config.validate()?;
    check_masks(labels, config)?;
    let cohort = crate::cohorts::open_cohort(cohort, config)?;
    let config = &crate::cohorts::settled(config, &cohort);
    check_trainable(&cohort)?;
    let source = match (&labels.scribbles, config.input.mixed) {
        (_, true) => Scribbles::Mixed(labels.clone()),
        (Some(folder), false) => Scribbles::Folder(folder.clone()),
        (None, false) => Scribbles::Simulated,
    };
    let presence = labels.presence.as_deref();
    if config.input.folds > 0 {
        return cross_validate(methods, &cohort, out, &source, presence, config, device, progress);
    }
    let study = Study::open(out, None, &cohort, &source, presence, config, methods, device, progress)?;
    let metrics = train_and_measure(&study)?;
    let ids = |scans: &[std::sync::Arc<crate::scan::Scan>]| scans.iter().map(|s| s.id.clone()).collect();
    let (run, train, test) = (study.run.root().to_owned(), ids(&study.train), ids(&study.test));
    let supervision = study.used.clone();
    Ok(FitSummary { run, train, test, folds: Vec::new(), metrics, supervision })
}

/// The stage of phase 2 that comes before the dense CRF, named after the clustering.
pub(crate) fn first_of_phase2(config: &Config) -> &'static str {
    if config.cluster.method == "mixture" { "sub-mx-sc" } else { "sub-km-sc" }
}

/// Both phases on a study's training scans, then predictions and figures of its held-out ones.
fn train_and_measure(study: &Study<'_>) -> Result<Option<Evaluation>> {
    let Study { run, methods, config, device, progress, .. } = study;
    let scribbles = study.scribbles()?;
    let weak = study.weak_masks(&scribbles)?;
    let mut phase1 = study.tumours_supervised(&scribbles, &weak);
    let wt = study.train("wt-sc-gc", 2, Start::Random, &phase1, Part::Supervised, None)?;
    study.add_predictions(&mut phase1, &wt)?;
    let wt = study.train("wt", 2, Start::From(&wt), &phase1, Part::Crf, None)?;
    let tumours = study.tumour_masks(&wt, &scribbles, &weak)?;
    let masks = study.substructures(&config.cluster.method, &*methods.substructures, &tumours)?;
    let phase2 = study.substructures_supervised(&tumours, &masks, &scribbles, &weak)?;
    let sub =
        study.train(first_of_phase2(config), 4, Start::NewHead(&wt), &phase2, Part::Supervised, None)?;
    let sub = study.train("sub", 4, Start::From(&sub), &phase2, Part::Crf, None)?;

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
    let metrics = (!cases.is_empty()).then(|| evaluation::of(&cases, policy(config), study.scheme, config));
    if let Some(metrics) = &metrics {
        run.write_json("metrics.json", metrics)?;
        run.write("metrics.csv", metrics.to_csv().as_bytes())?;
        crate::slices::write(run, &study.test, metrics, |scan| study.read_prediction("predictions", scan))?;
    }
    study.close();
    Ok(metrics)
}

/// `fit` once a fold, each in a run directory of its own inside `out`; then the figures of all held-out scans together,
/// every one predicted by networks that have not seen it. A fold that is done is left alone.
fn cross_validate(
    methods: &Methods,
    cohort: &Cohort,
    out: &Path,
    scribbles: &Scribbles,
    presence: Option<&Path>,
    config: &Config,
    device: &Device,
    progress: &dyn Progress,
) -> Result<FitSummary> {
    let folder = scribbles.folder();
    let inputs = Inputs::of(cohort, folder, presence)?;
    RunDir::examine(out, config, &inputs)?;
    let whole = Split::stratified(&strata(cohort, presence)?, config.input.folds, config.seed)?;
    for number in 1..=whole.folds.len() {
        let run = Fold::folder(out, number);
        progress.stage("fold", &format!("{number} of {}", whole.folds.len()));
        RunDir::examine(&run, config, &inputs)?;
        // Its figures are the last that a fold writes.
        if run.join("metrics.csv").is_file() {
            progress.log(&format!("fold {number} is done"));
            crate::prepared::forget(&run);
            continue;
        }
        let fold = Some(Fold { whole: &whole, number });
        let study = Study::open(out, fold, cohort, scribbles, presence, config, methods, device, progress)?;
        train_and_measure(&study)?;
    }
    let mut pairs = Vec::new();
    for (number, fold) in (1..).zip(&whole.folds) {
        let predictions = Fold::folder(out, number).join("predictions");
        for case in cohort.cases.iter().filter(|case| fold.test.contains(&case.id)) {
            let Some(reference) = case.reference.clone() else { continue };
            let prediction = predictions.join(format!("{}_seg.nii.gz", case.id));
            pairs.push(Pair { id: case.id.clone(), reference, prediction });
        }
    }
    pairs.sort_by(|a, b| a.id.cmp(&b.id));
    let cases = evaluation::measure_files("all folds", &pairs, cohort.scheme, progress)?;
    let metrics = evaluation::of(&cases, policy(config), cohort.scheme, config);
    let run = RunDir::open(out, config, &inputs)?;
    run.write_json("metrics.json", &metrics)?;
    run.write("metrics.csv", metrics.to_csv().as_bytes())?;
    let Split { train, test, folds } = whole;
    Ok(FitSummary {
        run: run.root().to_owned(),
        train,
        test,
        folds,
        metrics: Some(metrics),
        supervision: Vec::new(),
    })
}

/// What folds are balanced by: presence from the table, else from the reference, and the reference's volume.
pub(crate) fn strata(cohort: &Cohort, presence: Option<&Path>) -> Result<Vec<Stratum>> {
    let table = table_of(cohort, presence).map(PresenceTable::read).transpose()?;
    (cohort.cases.par_iter())
        .map(|case| {
            let labels = case.reference.as_ref().map(|path| -> Result<_> {
                let grid = scribseg_io::read_geometry(path)?;
                Ok((scribseg_io::read_segmentation(path, &grid, cohort.scheme)?, grid.spacing()))
            });
            let labels = labels.transpose()?;
            let presence = match (&table, &labels) {
                (Some(table), _) => table.for_cases([case.id.as_str()])?[0],
                (None, Some((labels, _))) => Presence::from_labels(labels.view()),
                (None, None) => Presence::default(),
            };
            let tumour_ml = labels.map(|(labels, spacing)| {
                labels.iter().filter(|&&v| v != 0).count() as f64 * spacing.iter().product::<f64>() / 1000.0
            });
            Ok(Stratum { id: case.id.clone(), presence, tumour_ml })
        })
        .collect()
}
