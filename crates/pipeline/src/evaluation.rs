//! Figures: of a scan in memory, of folders of segmentations, and of two predictions of the same scans.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ndarray::Array3;
use rayon::prelude::*;
use scribseg_io::LabelScheme;
use scribseg_metrics::{CaseMetrics, EmptyPolicy, Evaluation};

use crate::batches::generator;
use crate::cohorts::{declared, references};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::scan::Scan;

/// The figures of one scan on its whole grid.
pub(crate) fn measure(scan: &Scan, prediction: &Array3<u8>) -> Result<CaseMetrics> {
    let reference = scan.reference.as_ref().ok_or_else(|| {
        Error::case(
            &scan.id,
            "needs a reference segmentation (`_seg`), found none; add it or leave the case out",
        )
    })?;
    scribseg_metrics::evaluate_case(reference.view(), prediction.view(), scan.spacing)
        .map(|m| m.named(&scan.id))
        .map_err(|e| Error::case(&scan.id, e))
}

pub(crate) fn policy(config: &Config) -> EmptyPolicy {
    if config.evaluate.empty == "skip" { EmptyPolicy::Skip } else { EmptyPolicy::Brats }
}

/// The figures of many scans, with intervals that the run's seed decides.
pub(crate) fn of(
    cases: &[CaseMetrics],
    policy: EmptyPolicy,
    scheme: LabelScheme,
    config: &Config,
) -> Evaluation {
    scribseg_metrics::summarise(cases, policy, &scheme.describe())
        .with_intervals(config.seed, &mut generator(config.seed, "intervals", 0))
}

/// Two files of one scan.
pub(crate) struct Pair {
    pub(crate) id: String,
    pub(crate) reference: PathBuf,
    pub(crate) prediction: PathBuf,
}

/// The figures of each pair, on the reference's grid.
pub(crate) fn measure_files(
    what: &str,
    pairs: &[Pair],
    scheme: LabelScheme,
    progress: &dyn Progress,
) -> Result<Vec<CaseMetrics>> {
    progress.begin(what, pairs.len() as u64);
    let done = AtomicU64::new(0);
    let cases = pairs
        .par_iter()
        .map(|Pair { id, reference, prediction }| {
            let geometry = scribseg_io::read_geometry(reference)?;
            let truth = scribseg_io::read_segmentation(reference, &geometry, scheme)?;
            let found = scribseg_io::read_segmentation(prediction, &geometry, scheme)?;
            let metrics = scribseg_metrics::evaluate_case(truth.view(), found.view(), geometry.spacing())
                .map(|m| m.named(id.as_str()))
                .map_err(|e| Error::case(id, e))?;
            progress.advance(done.fetch_add(1, Ordering::Relaxed) + 1, id);
            Ok(metrics)
        })
        .collect();
    progress.end();
    cases
}

/// `<case>_seg.nii[.gz]` files in a folder and one or two folders down (`<case>/`, `HGG/<case>/`), by case.
fn find_segmentations(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    fn walk(folder: &Path, depth: usize, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
        let fault = |source| Error::Read { path: folder.to_owned(), source };
        for entry in std::fs::read_dir(folder).map_err(fault)? {
            let path = entry.map_err(fault)?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if path.is_dir() && depth > 0 {
                walk(&path, depth - 1, found)?;
            } else if let Some(id) =
                name.strip_suffix("_seg.nii.gz").or_else(|| name.strip_suffix("_seg.nii"))
                && let Some(other) = found.insert(id.to_owned(), path.clone())
            {
                let problem =
                    format!("expected one segmentation of case {id}, found also {}", other.display());
                return Err(Error::Cohort { path, problem });
            }
        }
        Ok(())
    }
    let mut found = BTreeMap::new();
    walk(folder, 2, &mut found)?;
    Ok(found)
}

/// The predictions of a folder beside their references, in name order.
fn pairs(
    references: &BTreeMap<String, PathBuf>,
    folders: [&Path; 2],
    progress: &dyn Progress,
) -> Result<Vec<Pair>> {
    let [reference, prediction] = folders;
    let predictions = find_segmentations(prediction)?;
    if let Some(id) = predictions.keys().find(|id| !references.contains_key(*id)) {
        return Err(Error::Cohort {
            path: reference.to_owned(),
            problem: format!(
                "expected a reference (in BraTS's naming `{id}_seg.nii.gz`) for the prediction of case {id} in {}, found none; add it, or take the prediction out",
                prediction.display()
            ),
        });
    }
    if predictions.is_empty() {
        return Err(Error::Cohort {
            path: prediction.to_owned(),
            problem: "expected `<case>_seg.nii[.gz]` files, found none; give the folder that `predict --out` was given".into(),
        });
    }
    if predictions.len() < references.len() {
        progress.log(&format!(
            "{} of {} references have a prediction in {}; the others are left out",
            predictions.len(),
            references.len(),
            prediction.display()
        ));
    }
    let pair = |(id, prediction)| {
        let reference = references.get(&id)?.clone();
        Some(Pair { id, reference, prediction })
    };
    Ok(predictions.into_iter().filter_map(pair).collect())
}

/// What [`evaluate`] found.
pub struct Evaluated {
    /// `metrics.json`, with the comparison if one was asked for.
    pub evaluation: Evaluation,
    /// `comparison.csv`, likewise.
    pub comparison_csv: Option<String>,
}

/// Measures `<case>_seg.nii.gz` files of one folder against a cohort's references or another folder of such files.
///
/// With `compare`, a second folder of predictions of the same scans is measured too, and the two compared: differences by
/// scan, their bootstrap intervals and Wilcoxon's signed-rank test.
///
/// # Errors
/// When a prediction is missing, lies on another grid or has undeclared labels.
pub fn evaluate(
    reference: &Path,
    prediction: &Path,
    compare: Option<&Path>,
    policy_override: Option<EmptyPolicy>,
    config: &Config,
    progress: &dyn Progress,
) -> Result<Evaluated> {
    let (references, scheme) = match references(reference, config)? {
        Some(found) => found,
        // A folder of such files alone is named as BraTS 2017 names them.
        None => {
            let scheme = declared(config)?.scheme;
            (find_segmentations(reference)?, scheme.unwrap_or(LabelScheme::Brats2017))
        }
    };
    let policy = policy_override.unwrap_or_else(|| policy(config));
    let first = pairs(&references, [reference, prediction], progress)?;
    let second = compare.map(|folder| pairs(&references, [reference, folder], progress)).transpose()?;
    let cases = measure_files("evaluate", &first, scheme, progress)?;
    let mut evaluation = of(&cases, policy, scheme, config);
    evaluation.missing =
        references.keys().filter(|id| !first.iter().any(|pair| pair.id == **id)).cloned().collect();
    let mut comparison_csv = None;
    if let (Some(folder), Some(second)) = (compare, second) {
        let cases = measure_files("evaluate the other", &second, scheme, progress)?;
        let other = scribseg_metrics::summarise(&cases, policy, &scheme.describe());
        let mut generator = generator(config.seed, "comparison", 0);
        let found = evaluation.compared_with(&other, &folder.display().to_string(), &mut generator);
        if found.scans.is_empty() {
            return Err(Error::Cohort {
                path: folder.to_owned(),
                problem: format!(
                    "expected predictions of the scans in {}, found none of them; a comparison needs the same scans in both",
                    prediction.display()
                ),
            });
        }
        comparison_csv = Some(evaluation.comparison_csv(&other));
        evaluation.comparison = Some(found);
    }
    Ok(Evaluated { evaluation, comparison_csv })
}
