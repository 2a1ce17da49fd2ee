//! The rows of Table 1 over one cohort, the paper's ten and ours; rows share what they have in common.

use std::path::{Path, PathBuf};

use candle_core::Device;
use ndarray::{Array2, Axis};
use scribseg_metrics::Evaluation;
use serde::{Deserialize, Serialize};

use crate::cohorts::{open_cohort, settled, settled_for_phantom};
use crate::config::{Config, Preset};
use crate::error::{Error, Result};
use crate::evaluation::measure;
use crate::methods::Methods;
use crate::progress::Progress;
use crate::rows;
use crate::run::RunDir;
use crate::study::{Scribbles, Study};

/// A row of Table 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowId {
    /// 1: whole tumour; 2: sub-structures.
    pub phase: u8,
    /// The paper's name of the method; MX where the mixture stands for its k-means.
    pub method: &'static str,
    /// The name of its model file.
    pub stage: &'static str,
}

/// All rows. The paper's last is the last: it is the system itself, whose figures and model stand for the run.
pub const ROWS: [RowId; 12] = [
    RowId { phase: 1, method: "Full", stage: "wt-full" },
    RowId { phase: 1, method: "SC", stage: "wt-sc" },
    RowId { phase: 1, method: "SC+CRF", stage: "wt-sc-crf" },
    RowId { phase: 1, method: "SC+GC", stage: "wt-sc-gc" },
    RowId { phase: 1, method: "SC+GC+CRF", stage: "wt" },
    RowId { phase: 2, method: "Full", stage: "sub-full" },
    RowId { phase: 2, method: "TrueSC+CRF", stage: "sub-truesc-crf" },
    RowId { phase: 2, method: "MX+SC", stage: "sub-mx-sc" },
    RowId { phase: 2, method: "MX+SC+CRF", stage: "sub-mx-sc-crf" },
    RowId { phase: 2, method: "KM", stage: "sub-km" },
    RowId { phase: 2, method: "KM+SC", stage: "sub-km-sc" },
    RowId { phase: 2, method: "KM+SC+CRF", stage: "sub" },
];

/// Figures of one region in one row; phase 2 has Dice alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RegionFigures {
    /// Mean Dice over the held-out scans; null where the empty policy leaves none to average.
    pub dice: Option<f64>,
    /// Pooled over the pixels of all held-out scans.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub recall: Option<f64>,
    /// Pooled over the pixels of all held-out scans.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub precision: Option<f64>,
}

/// One row as in `table1.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// 1 or 2.
    pub phase: u8,
    /// The paper's name of the method.
    pub method: String,
    /// Whole tumour; in phase 2 Unet-sub's own, before the merge.
    #[serde(rename = "WT")]
    pub wt: RegionFigures,
    /// Tumour core, phase 2.
    #[serde(rename = "TC", skip_serializing_if = "Option::is_none", default)]
    pub tc: Option<RegionFigures>,
    /// Enhancing tumour, phase 2.
    #[serde(rename = "ET", skip_serializing_if = "Option::is_none", default)]
    pub et: Option<RegionFigures>,
    /// Wall-clock seconds that training took of the stages this row adds to other rows, each in the process that finished it and with what
    /// trained beside it; null where `evaluate.seconds` is false or one of the times is not known.
    pub seconds: Option<f64>,
}

/// `table1.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table1 {
    /// The preset's name.
    pub preset: String,
    /// What the figures were measured on.
    pub cohort: String,
    /// The rows in the table's order.
    pub rows: Vec<Row>,
}

/// One slice of one held-out scan with every row's prediction, for Figures 2 and 3.
pub struct FigureCase {
    /// The case.
    pub id: String,
    /// The axial slice with the largest reference.
    pub slice: usize,
    /// FLAIR (figure 2) or T1ce (figure 3), z-scored.
    pub image: Array2<f32>,
    /// Sub-structure codes.
    pub reference: Array2<u8>,
    /// `(method, prediction, Dice over the whole scan)`; codes as in the reference, phase 1's tumour as 2.
    pub panels: Vec<(String, Array2<u8>, f64)>,
}

/// What `reproduce` is asked for.
pub struct ReproduceOptions {
    /// The preset's name goes into the table.
    pub preset: Preset,
    /// Every value in force.
    pub config: Config,
    /// A cohort of one's own; without it a phantom cohort is made in `<out>/cohort`.
    pub cohort: Option<PathBuf>,
    /// Methods or `phase:method` to run; empty: all.
    pub rows: Vec<String>,
    /// Rows that train at once, each on its share of the threads; without it, as many as keep the threads busy.
    pub jobs: Option<usize>,
    /// The run directory.
    pub out: PathBuf,
    /// Where tensors live.
    pub device: Device,
}

/// What `reproduce` found.
pub struct Reproduced {
    /// The table.
    pub table: Table1,
    /// Slices for Figure 2 (phase 1).
    pub figure2: Vec<FigureCase>,
    /// Slices for Figure 3 (phase 2).
    pub figure3: Vec<FigureCase>,
    /// The last row's full evaluation.
    pub evaluation: Evaluation,
}

/// Which rows a user's words name.
///
/// # Errors
/// [`Error::Config`] lists the known rows.
pub fn parse_rows(words: &[String]) -> Result<Vec<RowId>> {
    let mut chosen: Vec<RowId> = Vec::new();
    for word in words {
        let matching: Vec<RowId> = ROWS
            .into_iter()
            .filter(|r| word == r.method || *word == format!("{}:{}", r.phase, r.method))
            .collect();
        if matching.is_empty() {
            let known = ROWS.map(|r| format!("{}:{}", r.phase, r.method)).join(", ");
            return Err(Error::Config(format!("--rows: expected rows of {known}; found `{word}`")));
        }
        chosen.extend(matching);
    }
    Ok(ROWS.into_iter().filter(|r| words.is_empty() || chosen.contains(r)).collect())
}

/// Runs Table 1 and writes `table1.json`.
///
/// # Errors
/// What the cohort, the configuration, the disk or the training refuse.
pub fn reproduce(options: &ReproduceOptions, progress: &dyn Progress) -> Result<Reproduced> {
    let ReproduceOptions { preset, config, cohort, rows, jobs, out, device } = options;
    config.validate()?;
    if config.input.folds > 0 {
        return Err(Error::Config(
            "key `input.folds`: expected 0, for Table 1 is measured on one split; `fit --folds` cross-validates".into(),
        ));
    }
    if config.cluster.method != "kmeans" {
        progress.log("key `cluster.method` is for `fit` and `cluster`: each row of Table 1 has its own clustering, KM k-means and MX the mixture");
    }
    let rows = parse_rows(rows)?;
    let (cohort, name, config) = match cohort {
        Some(path) => {
            let cohort = open_cohort(path, config)?;
            let config = settled(config, &cohort);
            (cohort, folder_name(path), config)
        }
        None => {
            let config = settled_for_phantom(config);
            let p = &config.phantom;
            let path = out.join("cohort");
            // Before the cohort is made: nothing is put into a folder that is not ours.
            if RunDir::holds_run_of(out, &config)? && !RunDir::inputs_of(out)?.are_synthetic() {
                return Err(Error::RunDirectory {
                    path: out.clone(),
                    problem: "holds the run of a cohort of your own; give it again as `--cohort`, or choose another `--out`".into(),
                });
            }
            crate::verbs::write_phantom(
                &path,
                p.cases,
                p.seed,
                crate::verbs::phantom_size(&p.size)?,
                progress,
            )?;
            let name = format!("phantom, {} cases, {}, seed {}", p.cases, p.size, p.seed);
            let cohort = open_cohort(&path, &config)?;
            if cohort.cases.len() != p.cases {
                let problem = format!(
                    "expected the {} cases of `phantom.cases`, found {}; remove the others, or choose another `--out`",
                    p.cases,
                    cohort.cases.len()
                );
                return Err(Error::RunDirectory { path, problem });
            }
            (cohort, name, config)
        }
    };
    let config = &config;
    crate::fit::check_trainable(&cohort)?;
    if let Some(case) = cohort.cases.iter().find(|c| c.reference.is_none()) {
        return Err(Error::case(
            &case.id,
            "Table 1 needs a reference segmentation (`_seg`) for every case, found none; add it or leave the case out",
        ));
    }
    let methods = Methods::paper(config);
    let source = Scribbles::Simulated;
    let study = Study::open(out, None, &cohort, &source, None, config, &methods, device, progress)?;
    let run = &study.run;
    let measured = rows::run(&study, &rows, *jobs)?;
    let evaluation = measured.last().map(|(_, evaluation)| evaluation.clone());
    let mut found: Vec<Row> = measured.into_iter().map(|(row, _)| row).collect();
    // Rows of an earlier call with other `--rows` stay: same configuration, same inputs.
    let earlier: Option<Table1> =
        if run.has("table1.json") { Some(run.read_json("table1.json")?) } else { None };
    let same = |a: &Row, b: &Row| (a.phase, &a.method) == (b.phase, &b.method);
    for row in earlier.into_iter().flat_map(|t| t.rows) {
        if !found.iter().any(|r| same(r, &row)) {
            found.push(row);
        }
    }
    let place = |row: &Row| ROWS.iter().position(|r| (r.phase, r.method) == (row.phase, &row.method));
    found.sort_by_key(place);
    let table1 = Table1 { preset: preset.name().to_owned(), cohort: name, rows: found };
    run.write_json("table1.json", &table1)?;
    let evaluation = evaluation.ok_or_else(|| Error::Config("--rows: expected at least one row".into()))?;
    // The figures of the table's last row, which this call may have left alone; every row's predictions are there.
    let there: Vec<RowId> = ROWS
        .into_iter()
        .filter(|r| table1.rows.iter().any(|row| (row.phase, row.method.as_str()) == (r.phase, r.method)))
        .collect();
    if there.last() == rows.last() {
        run.write_json("metrics.json", &evaluation)?;
        run.write("metrics.csv", evaluation.to_csv().as_bytes())?;
        if let Some(row) = rows.last() {
            let folder = rows::folder(*row);
            crate::slices::write(run, &study.test, &evaluation, |scan| study.read_prediction(&folder, scan))?;
        }
    }
    let (first, second): (Vec<RowId>, Vec<RowId>) = there.iter().partition(|row| row.phase == 1);
    let (figure2, figure3) = (figure(&study, &first)?, figure(&study, &second)?);
    study.close();
    Ok(Reproduced { figure2, figure3, table: table1, evaluation })
}

fn folder_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
}

/// The slice with the largest reference of each of the first four held-out scans.
fn figure(study: &Study<'_>, rows: &[RowId]) -> Result<Vec<FigureCase>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let channel = if rows[0].phase == 1 { 3 } else { 1 };
    study
        .test
        .iter()
        .take(4)
        .map(|scan| {
            let reference = scan.reference_crop()?;
            let slice = (0..reference.dim().0)
                .max_by_key(|&z| reference.index_axis(Axis(0), z).iter().filter(|&&v| v != 0).count())
                .unwrap_or(0);
            let panels = rows
                .iter()
                .map(|row| {
                    let whole = study.read_prediction(&rows::folder(*row), scan)?;
                    let figures = measure(scan, &whole)?;
                    let region = if row.phase == 1 { &figures.wt } else { &figures.tc };
                    let dice = region.confusion.dice().unwrap_or(f64::NAN);
                    let cut = scan.crop(whole.view(), 0).index_axis(Axis(0), slice).to_owned();
                    Ok((row.method.to_owned(), cut, dice))
                })
                .collect::<Result<_>>()?;
            Ok(FigureCase {
                id: scan.id.clone(),
                slice,
                image: scan.image.slice(ndarray::s![channel, slice, .., ..]).to_owned(),
                reference: reference.index_axis(Axis(0), slice).to_owned(),
                panels,
            })
        })
        .collect()
}
