//! What a report is made of: plain data, every part of which may be absent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::table::Table1;
use crate::viewer::ScanSlices;

/// The distribution of a metric over scans, as `metrics.json` has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Mean; null of no scan.
    pub mean: Option<f64>,
    /// Median.
    pub median: Option<f64>,
    /// Sample standard deviation.
    pub std: Option<f64>,
    /// Scans in the mean.
    pub n: usize,
    /// Scans whose reference or prediction is empty.
    pub empty: usize,
    /// A 95 % interval of the mean.
    #[serde(default)]
    pub ci95: Option<[f64; 2]>,
}

/// All scans' voxels taken together, as `metrics.json` has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Pooled {
    /// Dice.
    #[serde(default)]
    pub dice: Option<f64>,
}

/// One region over all scans, as `metrics.json` has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RegionFigures {
    /// Dice.
    pub dice: Distribution,
    /// Pooled pixel precision.
    pub precision: Option<f64>,
    /// Pooled pixel recall.
    pub recall: Option<f64>,
    /// HD95 in mm.
    pub hd95: Distribution,
    /// Lesion-wise Dice.
    pub lesion_dice: Distribution,
    /// Lesion-wise HD95 in mm.
    #[serde(default)]
    pub lesion_hd95: Distribution,
    /// The predicted volume less the true one, in ml.
    #[serde(default)]
    pub volume_error_ml: Distribution,
    /// Over the voxels of all scans.
    #[serde(default)]
    pub pooled: Pooled,
}

/// WT, TC and ET.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RegionTable<T> {
    /// Whole tumour.
    #[serde(rename = "WT")]
    pub wt: T,
    /// Tumour core.
    #[serde(rename = "TC")]
    pub tc: T,
    /// Enhancing tumour.
    #[serde(rename = "ET")]
    pub et: T,
}

/// One region of one scan. Further keys of `metrics.json` are passed over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RegionScores {
    /// Dice.
    pub dice: Option<f64>,
    /// Precision.
    #[serde(default)]
    pub precision: Option<f64>,
    /// Recall.
    #[serde(default)]
    pub recall: Option<f64>,
    /// HD95 in mm.
    #[serde(default)]
    pub hd95: Option<f64>,
    /// Lesion-wise Dice.
    #[serde(default)]
    pub lesion_dice: Option<f64>,
    /// Lesion-wise HD95 in mm.
    #[serde(default)]
    pub lesion_hd95: Option<f64>,
    /// Volume of the reference in ml.
    #[serde(default)]
    pub reference_ml: Option<f64>,
    /// Volume of the prediction in ml.
    #[serde(default)]
    pub prediction_ml: Option<f64>,
    /// "reference", "prediction" or "both" if that is empty.
    #[serde(default)]
    pub empty: Option<String>,
}

/// One scan.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CaseRow {
    /// The scan's name.
    pub id: String,
    /// Its regions.
    #[serde(flatten)]
    pub regions: RegionTable<RegionScores>,
}

/// What `metrics.json` holds: deserialise it from there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// The label scheme of the files compared.
    pub label_scheme: String,
    /// "brats" or "skip".
    pub empty_policy: String,
    /// Each region over all scans.
    pub regions: RegionTable<RegionFigures>,
    /// Each scan.
    pub cases: Vec<CaseRow>,
}

/// A finished picture.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FigureImage {
    /// Its heading.
    pub title: String,
    /// The text below it.
    pub caption: String,
    /// What it shows, for who cannot see it.
    pub alt: String,
    /// The PNG file's bytes.
    pub png: Vec<u8>,
}

/// One curve of a training stage.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curve {
    /// What is drawn, for example "loss".
    pub name: String,
    /// (iteration, value); values that are not finite leave a gap.
    pub points: Vec<[f64; 2]>,
}

/// One training stage with its curves.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stage {
    /// For example "Unet-WT, partial cross-entropy".
    pub name: String,
    /// Its curves, each drawn on axes of its own.
    pub curves: Vec<Curve>,
}

/// The settings of one preset.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Preset {
    /// Its name.
    pub name: String,
    /// Dotted key to value, as text.
    pub settings: BTreeMap<String, String>,
}

/// How the label files' values are to be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LabelScheme {
    /// For example "BraTS 2017".
    pub name: String,
    /// Value in the file and what it stands for.
    pub values: Vec<(i64, String)>,
}

/// Everything a report may show. Take what there is and leave the rest at its default: an empty part has no section.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReportData {
    /// The page's title.
    pub title: String,
    /// One or two sentences on what was done.
    pub summary: String,
    /// Facts of the run, name and value: cohort, device, seed, time taken…
    pub facts: Vec<(String, String)>,
    /// When the report was made, printed as it is given. Leave it out to get the same bytes each time.
    pub generated: Option<String>,
    /// Table 1, in a reproduction.
    pub table1: Option<Table1>,
    /// The figures of an evaluation.
    pub metrics: Option<Metrics>,
    /// Pictures, in order.
    pub figures: Vec<FigureImage>,
    /// Slices of scans to leaf through.
    pub slices: Vec<ScanSlices>,
    /// Training curves, by stage.
    pub stages: Vec<Stage>,
    /// The configuration in force, as TOML.
    pub config: Option<String>,
    /// Presets, side by side. A row whose values differ is marked.
    pub presets: Vec<Preset>,
    /// The label scheme in force.
    pub label_scheme: Option<LabelScheme>,
    /// Names (config, split, models…) and their hashes.
    pub hashes: Vec<(String, String)>,
    /// What was read, and its hash.
    pub inputs: Vec<(String, String)>,
    /// What the reader should bear in mind: limits, parts that were not run.
    pub notes: Vec<String>,
}
