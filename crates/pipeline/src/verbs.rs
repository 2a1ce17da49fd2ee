//! The single steps as commands on a cohort's folder: phantom, scribble, propagate, cluster, predict, evaluate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use candle_core::Device;
use ndarray::Array3;
use rayon::prelude::*;
use scribseg_io::{Cohort, Declared, Presence, PresenceTable};
use scribseg_metrics::Evaluation;
use serde::Serialize;

use crate::batches::derived_seed;
use crate::cohorts::{open_cohort, open_input};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::evaluation::{self, measure, policy};
pub use crate::evaluation::{Evaluated, evaluate};
use crate::methods::Methods;
use crate::models::{Model, Models};
use crate::presence::{note_unfound, presence_shown};
use crate::progress::Progress;
use crate::scan::Scan;
use crate::scribbles::{scribble_of, simulate};
use crate::segment::{Smoothing, merge, smoothed_classes};
use crate::study::{CRF_SUBSTRUCTURES, CRF_TUMOUR};

/// What a verb needs of every case, and how its scans are prepared.
struct Each<'a> {
    cohort: &'a Cohort,
    what: &'a str,
    config: &'a Config,
    stride: usize,
    /// Whether references are read; where they are not, nothing wrong with them can stop the work.
    references: bool,
}

/// Runs `work` on every case in parallel, with progress.
fn each_case<T: Send>(
    each: Each<'_>,
    progress: &dyn Progress,
    work: impl Fn(usize, Scan) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let Each { cohort, what, config, stride, references } = each;
    cohort.require_modalities()?;
    progress.begin(what, cohort.cases.len() as u64);
    let done = AtomicU64::new(0);
    // After a fault no later case is begun; earlier ones are, so that the fault told is the first in their order.
    let faulty = AtomicUsize::new(usize::MAX);
    let out: Vec<Option<Result<T>>> = cohort
        .cases
        .par_iter()
        .enumerate()
        .map(|(i, case)| {
            if i > faulty.load(Ordering::Relaxed) {
                return None;
            }
            let one = || {
                let loaded = if references { case.load() } else { case.load_images() }?;
                work(i, Scan::prepare(loaded, config, stride)?)
            };
            let value = one();
            match &value {
                Ok(_) => progress.advance(done.fetch_add(1, Ordering::Relaxed) + 1, &case.id),
                Err(_) => drop(faulty.fetch_min(i, Ordering::Relaxed)),
            }
            Some(value)
        })
        .collect();
    progress.end();
    out.into_iter().flatten().collect()
}

pub(crate) fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|e| Error::RunDirectory {
        path: path.to_owned(),
        problem: format!("cannot be made: {e}; choose a writable `--out`"),
    })?;
    crate::run::writable(path)
}

/// Where a case's result goes: `<out>/<case>_<kind>.nii.gz`.
fn result_path(out: &Path, id: &str, kind: &str) -> PathBuf {
    out.join(format!("{id}_{kind}.nii.gz"))
}

/// An error if writing the results of `cohort` to `out` would replace one of its own files, or any file that scribseg
/// did not write: nobody's masks are overwritten.
fn spare_foreign_files(cohort: &Cohort, out: &Path, kind: &str) -> Result<()> {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    for case in &cohort.cases {
        let path = result_path(out, &case.id, kind);
        let Some(target) = real(&path) else { continue };
        let problem =
            if case.paths.iter().chain(&case.reference).any(|own| real(own).as_ref() == Some(&target)) {
                "is part of the cohort"
            } else if !scribseg_io::written_by_scribseg(&path) {
                "was not written by scribseg"
            } else {
                continue;
            };
        return Err(Error::RunDirectory {
            path,
            problem: format!(
                "{problem} and would be replaced; choose another `--out`, or move the file away"
            ),
        });
    }
    Ok(())
}

/// `full` or `half`.
pub(crate) fn phantom_size(name: &str) -> Result<scribseg_phantom::Size> {
    match name {
        "full" => Ok(scribseg_phantom::Size::Full),
        "half" => Ok(scribseg_phantom::Size::Half),
        other => Err(Error::Config(format!("phantom size: expected full or half, found `{other}`"))),
    }
}

/// How the names of synthetic cases begin.
pub(crate) const PHANTOM: &str = "Phantom_";

/// Whether anything but hidden files is there.
fn holds_files(folder: &Path) -> bool {
    let shown = |entry: std::fs::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
    std::fs::read_dir(folder).is_ok_and(|entries| entries.flatten().any(shown))
}

/// Notes in `phantom.json` what a synthetic cohort was made with; refuses a folder that holds another.
fn claim_phantom(out: &Path, seed: u64, size: scribseg_phantom::Size) -> Result<()> {
    let path = out.join("phantom.json");
    let size = match size {
        scribseg_phantom::Size::Full => "full",
        scribseg_phantom::Size::Half => "half",
    };
    let mine = format!("{{\"seed\": {seed}, \"size\": \"{size}\"}}\n");
    let refuse = |problem: String| Err(Error::RunDirectory { path: out.to_owned(), problem });
    match std::fs::read_to_string(&path) {
        Ok(theirs) if theirs == mine => Ok(()),
        Ok(theirs) => refuse(format!(
            "expected a cohort of {}, found one of {}; choose another `--out` or remove it",
            mine.trim(),
            theirs.trim()
        )),
        Err(_) if holds_files(out) => refuse(
            "is not empty and holds no synthetic cohort of ours (no phantom.json); choose another `--out`"
                .into(),
        ),
        Err(_) => Ok(scribseg_io::write_atomic(&path, mine.as_bytes())?),
    }
}

/// Writes a synthetic cohort in BraTS 2017 layout; cases that are there already are left alone.
///
/// # Errors
/// When the folder cannot be written.
pub fn write_phantom(
    out: &Path,
    cases: usize,
    seed: u64,
    size: scribseg_phantom::Size,
    progress: &dyn Progress,
) -> Result<()> {
    if cases == 0 {
        return Err(Error::Config("--cases: expected at least 1, found 0".into()));
    }
    make_folder(out)?;
    claim_phantom(out, seed, size)?;
    progress.stage("phantom", &format!("{cases} cases"));
    progress.begin("phantom", cases as u64);
    let done = AtomicU64::new(0);
    (0..cases).into_par_iter().try_for_each(|index| -> Result<()> {
        let id = format!("{PHANTOM}{index:04}");
        let folder = out.join(&id);
        // The reference is written last: a case that has it is whole.
        let last = folder.join(format!("{id}_seg.nii.gz"));
        if !last.is_file() {
            let case = scribseg_phantom::generate_case(index, seed, size);
            let geometry = scribseg_io::Geometry::from_spacing(case.labels.dim().into(), case.spacing)
                .ok_or_else(|| Error::case(&id, "its voxel size is not positive"))?;
            scribseg_io::write_case(out, &id, case.modalities.view(), Some(case.labels.view()), &geometry)?;
        }
        progress.advance(done.fetch_add(1, Ordering::Relaxed) + 1, &id);
        Ok(())
    })?;
    progress.end();
    Ok(())
}

/// Simulates both scribbles of every case from its reference: `<case>_scribble.nii.gz`.
///
/// # Errors
/// When a case has no reference or the disk refuses.
pub fn scribble_cohort(
    cohort: &Path,
    out: &Path,
    config: &Config,
    progress: &dyn Progress,
) -> Result<Vec<PathBuf>> {
    let cohort = open_cohort(cohort, config)?;
    references_there(&cohort, "to simulate scribbles from")?;
    spare_foreign_files(&cohort, out, "scribble")?;
    make_folder(out)?;
    let each = Each { cohort: &cohort, what: "scribble", config, stride: 1, references: true };
    each_case(each, progress, |i, scan| {
        let scribble = simulate(&scan, config, derived_seed(config.seed, "scribble", i as u64))?;
        let path = result_path(out, &scan.id, "scribble");
        scribseg_io::write_labels(&path, scan.uncrop(scribble.view(), 0).view(), &scan.geometry)?;
        Ok(path)
    })
}

/// Graph cut of every case from its scribbles: `<case>_weak.nii.gz`, 0 unknown, 1 tumour, 2 healthy.
///
/// # Errors
/// When scribbles are missing or unusable, or the disk refuses.
pub fn propagate_cohort(
    cohort: &Path,
    scribbles: &Path,
    out: &Path,
    config: &Config,
    progress: &dyn Progress,
) -> Result<Vec<PathBuf>> {
    let cohort = open_cohort(cohort, config)?;
    all_there(&cohort, scribbles, "scribble")?;
    spare_foreign_files(&cohort, out, "weak")?;
    make_folder(out)?;
    let methods = Methods::paper(config);
    let values = config.input.scribble_values.mapping()?;
    let each = Each { cohort: &cohort, what: "propagate", config, stride: 1, references: false };
    each_case(each, progress, |_, scan| {
        let weak = methods.seeds.expand(&scan, scribble_of(scribbles, &scan, &values)?.view())?;
        let path = result_path(out, &scan.id, "weak");
        scribseg_io::write_labels(&path, scan.uncrop(weak.view(), 0).view(), &scan.geometry)?;
        Ok(path)
    })
}

/// An error unless `folder` has a file of `kind` for every case: to be told before the first is worked on.
fn all_there(cohort: &Cohort, folder: &Path, kind: &str) -> Result<()> {
    let path = |id: &str| scribseg_io::companion(folder, id, kind);
    let missing: Vec<&str> =
        cohort.cases.iter().map(|c| c.id.as_str()).filter(|id| !path(id).is_file()).collect();
    match missing.first() {
        None => {
            cohort.cases.iter().try_for_each(|case| Ok(scribseg_io::one_companion(folder, &case.id, kind)?))
        }
        Some(first) => Err(Error::Cohort {
            path: path(first),
            problem: format!(
                "expected a file `<case>_{kind}.nii.gz` for every case, found none for {} of {} ({}); add them, or leave the cases out",
                missing.len(),
                cohort.cases.len(),
                named(&missing)
            ),
        }),
    }
}

/// An error unless every case has a reference: to be told before the first is worked on.
fn references_there(cohort: &Cohort, why: &str) -> Result<()> {
    let missing: Vec<&str> =
        cohort.cases.iter().filter(|c| c.reference.is_none()).map(|c| c.id.as_str()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Cohort {
        path: cohort.root.clone(),
        problem: format!(
            "expected a reference (in BraTS's naming `<case>_seg.nii.gz`) for every case {why}, found none for {} of {} ({}); add them, or leave the cases out",
            missing.len(),
            cohort.cases.len(),
            named(&missing)
        ),
    })
}

/// The first names of a list.
fn named(names: &[&str]) -> String {
    format!("{}{}", names[..names.len().min(8)].join(", "), if names.len() > 8 { ", …" } else { "" })
}

/// Where `cluster` takes the whole tumours from.
pub enum Masks {
    /// `<case>_wt.nii.gz`, 0 outside, 1 inside.
    Folder(PathBuf),
    /// The reference.
    Reference,
}

/// What `cluster` did.
#[derive(Debug, Clone, Serialize)]
pub struct Clustered {
    /// What was written.
    pub files: Vec<PathBuf>,
    /// Figures over the cases with a reference, where there are any.
    pub metrics: Option<Evaluation>,
}

/// Sub-structures inside given whole tumours: `<case>_seg.nii.gz` in the cohort's label scheme.
///
/// `presence`: a table; without it the cohort's own, else derived from the references.
///
/// # Errors
/// When masks or presence labels are missing or the disk refuses.
pub fn cluster_cohort(
    cohort: &Path,
    masks: &Masks,
    presence: Option<&Path>,
    out: &Path,
    config: &Config,
    progress: &dyn Progress,
) -> Result<Clustered> {
    let cohort = open_cohort(cohort, config)?;
    match masks {
        Masks::Folder(folder) => all_there(&cohort, folder, "wt")?,
        Masks::Reference => references_there(&cohort, "for `--masks reference`")?,
    }
    spare_foreign_files(&cohort, out, "seg")?;
    let own = cohort.root.join("participants.tsv");
    let table = match presence.or_else(|| own.is_file().then_some(own.as_path())) {
        Some(path) => {
            let table = PresenceTable::read(path)?;
            table.for_cases(cohort.cases.iter().map(|c| c.id.as_str()))?;
            Some(table)
        }
        None => {
            references_there(&cohort, "or a presence table (`--presence TSV`)")?;
            progress.log("no presence table: presence labels derived from the reference segmentations");
            None
        }
    };
    let (methods, scheme) = (Methods::paper(config), cohort.scheme);
    make_folder(out)?;
    let each = Each { cohort: &cohort, what: "cluster", config, stride: 1, references: true };
    let done = each_case(each, progress, |i, scan| {
        let tumour = match masks {
            Masks::Reference => scan.reference_crop()?.mapv(|v| v != 0),
            Masks::Folder(folder) => {
                let path = scribseg_io::companion(folder, &scan.id, "wt");
                scan.crop(scribseg_io::read_whole_tumour(&path, &scan.geometry)?.view(), false)
            }
        };
        if !tumour.iter().any(|&t| t) {
            progress.log(&format!("{}: its whole tumour is empty, and so are its sub-structures", scan.id));
        }
        let presence = match &table {
            Some(table) => table.for_cases([scan.id.as_str()])?[0],
            // Without a tumour there is nothing to be present.
            None if !tumour.iter().any(|&t| t) => Presence { ncr: None, ed: None, et: None },
            None => presence_shown(&scan)?,
        };
        let seed = derived_seed(config.seed, "cluster", i as u64);
        let labels = methods.substructures.label(&scan, tumour.view(), presence, seed)?;
        if tumour.iter().any(|&t| t) {
            note_unfound(progress, &scan.id, presence, labels.view());
        }
        let whole = scan.uncrop(labels.view(), 0);
        let file = result_path(out, &scan.id, "seg");
        scribseg_io::write_labels(&file, scheme.from_internal(whole.view())?.view(), &scan.geometry)?;
        let metrics = scan.reference.is_some().then(|| measure(&scan, &whole)).transpose()?;
        Ok((file, metrics))
    })?;
    let (files, metrics): (Vec<_>, Vec<_>) = done.into_iter().unzip();
    let metrics: Vec<_> = metrics.into_iter().flatten().collect();
    let metrics = (!metrics.is_empty()).then(|| evaluation::of(&metrics, policy(config), scheme, config));
    Ok(Clustered { files, metrics })
}

/// Segments scans with the models of a run: `<case>_seg.nii.gz` in each scan's own grid and label scheme. With a model file of Unet-WT alone
/// `<case>_wt.nii.gz`, 0 outside, 1 inside; of Unet-sub alone what is a sub-structure by its own account.
///
/// `models`: a run, a folder with wt.safetensors and sub.safetensors, or model files. Their own cards say how to normalise and crop, and what scans fit.
/// `declared`: what is known of the inputs beside what their names say.
/// `smooth`: class probabilities go through mean-field inference with the dense CRF of the training (`predict --crf`).
///
/// # Errors
/// When the models or the scans cannot be read or do not fit.
pub fn predict(
    models: &[PathBuf],
    inputs: &[PathBuf],
    out: &Path,
    smooth: bool,
    declared: &Declared,
    device: &Device,
    progress: &dyn Progress,
) -> Result<Vec<PathBuf>> {
    let models = Models::read(models, device)?;
    for line in models.expectations()? {
        progress.log(&line);
    }
    let card = models.card()?;
    let kind = if models.sub.is_some() { "seg" } else { "wt" };
    let methods = Methods::paper(&card.config);
    let cohorts = inputs.iter().map(|i| open_input(i, declared, &card.config)).collect::<Result<Vec<_>>>()?;
    for cohort in &cohorts {
        progress.log(&format!(
            "{}: layout {}, labels {}, channels {}",
            cohort.root.display(),
            cohort.layout,
            cohort.scheme.describe(),
            cohort.describe_channels()
        ));
    }
    let mut seen: BTreeMap<&str, &Path> = BTreeMap::new();
    for cohort in &cohorts {
        models.fit(cohort)?;
        spare_foreign_files(cohort, out, kind)?;
        for case in &cohort.cases {
            if let Some(other) = seen.insert(&case.id, &case.paths[0]) {
                return Err(Error::Cohort {
                    path: case.paths[0].clone(),
                    problem: format!(
                        "expected every case once, found {} also as {}; predict them to two folders",
                        case.id,
                        other.display()
                    ),
                });
            }
        }
    }
    make_folder(out)?;
    let mut written = Vec::new();
    for cohort in &cohorts {
        let scheme = cohort.scheme;
        let (config, stride) = (&card.config, methods.network.stride());
        let each = Each { cohort, what: "predict", config, stride, references: false };
        written.extend(each_case(each, progress, |_, scan| {
            let smoothing = |channels| Smoothing {
                pairwise: &*methods.pairwise,
                channels,
                weight: config.crf.mean_field_weight,
                iterations: config.crf.mean_field_iterations,
            };
            models.fits_voxels(&scan)?;
            let segment = |model: &Model, channels| {
                let smoothing = smooth.then(|| smoothing(channels));
                let network = methods.network.load(model.card.classes.len(), &model.weights, device)?;
                smoothed_classes(&*network, &scan, device, smoothing.as_ref())
            };
            let tumour = models.tumour.as_ref().map(|model| segment(model, CRF_TUMOUR)).transpose()?;
            let own = models.sub.as_ref().map(|model| segment(model, CRF_SUBSTRUCTURES)).transpose()?;
            let labels = match (tumour, own) {
                (Some(tumour), Some(own)) => merge(&tumour.mapv(|v| v != 0), &own),
                (Some(only), None) | (None, Some(only)) => only,
                (None, None) => return Err(Error::Config("expected a model, found none".into())),
            };
            let whole: Array3<u8> = scan.uncrop(labels.view(), 0);
            let path = result_path(out, &scan.id, kind);
            let values = if models.sub.is_some() { scheme.from_internal(whole.view())? } else { whole };
            scribseg_io::write_labels(&path, values.view(), &scan.geometry)?;
            Ok(path)
        })?);
    }
    Ok(written)
}
