//! One scan in `metrics.json`, with the policy for empty masks applied.

use serde::{Deserialize, Serialize};

use crate::case::{CaseMetrics, Emptiness, RegionMetrics};
use crate::lesion::LesionCounts;
use crate::overlap::Confusion;
use crate::policy::EmptyPolicy;
use crate::surface::HD95_PENALTY_MM;

/// The three regions of BraTS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Regions<T> {
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

impl<T> Regions<T> {
    /// Each region under its name, in the order of every table.
    pub fn named(&self) -> [(&'static str, &T); 3] {
        [("WT", &self.wt), ("TC", &self.tc), ("ET", &self.et)]
    }

    /// The same of each region.
    pub fn map<U>(&self, mut f: impl FnMut(&T) -> U) -> Regions<U> {
        Regions { wt: f(&self.wt), tc: f(&self.tc), et: f(&self.et) }
    }
}

/// One region of one scan with the policy applied: these are the values that the means are made of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RegionRecord {
    /// Dice's coefficient, in 0..=1.
    pub dice: Option<f64>,
    /// Precision over this scan's voxels, in 0..=1.
    pub precision: Option<f64>,
    /// Recall over this scan's voxels, in 0..=1.
    pub recall: Option<f64>,
    /// HD95 in mm.
    pub hd95: Option<f64>,
    /// Lesion-wise Dice, in 0..=1.
    pub lesion_dice: Option<f64>,
    /// Lesion-wise HD95 in mm.
    pub lesion_hd95: Option<f64>,
    /// Volume of the reference in ml.
    pub reference_ml: f64,
    /// Volume of the prediction in ml.
    pub prediction_ml: f64,
    /// Volume of the prediction less that of the reference, in ml.
    #[serde(default)]
    pub volume_error_ml: Option<f64>,
    /// The same as a part of the reference's volume: −1 where all of it is missed. Undefined where the reference alone
    /// is empty, under either policy: no finite number stands for it.
    #[serde(default)]
    pub relative_volume_error: Option<f64>,
    /// Lesions by what became of them; `None` where there is none to score.
    #[serde(default)]
    pub lesions: Option<LesionCounts>,
    /// Voxels by agreement.
    pub confusion: Confusion,
    /// Which mask is empty, if one is.
    pub empty: Option<Emptiness>,
}

impl RegionRecord {
    fn new(metrics: &RegionMetrics, policy: EmptyPolicy) -> Self {
        let empty = metrics.emptiness();
        let score = |value| policy.apply(value, empty, 1.0, 0.0);
        let distance = |value| policy.apply(value, empty, 0.0, HD95_PENALTY_MM);
        let reference_is_empty = matches!(empty, Some(Emptiness::Reference | Emptiness::Both));
        // Missed and spurious lesions are in the lesion-wise figures already; they are undefined only where there is
        // no lesion to score.
        let lesions = |value: Option<f64>, perfect| match policy {
            EmptyPolicy::Brats => value.or(Some(perfect)),
            EmptyPolicy::Skip => value.filter(|_| !reference_is_empty),
        };
        let counted = policy == EmptyPolicy::Brats || !reference_is_empty;
        let error = metrics.prediction_ml - metrics.reference_ml;
        Self {
            dice: score(metrics.confusion.dice()),
            precision: score(metrics.confusion.precision()),
            recall: score(metrics.confusion.recall()),
            hd95: distance(metrics.hd95),
            lesion_dice: lesions(metrics.lesions.map(|l| l.dice), 1.0),
            lesion_hd95: lesions(metrics.lesions.map(|l| l.hd95), 0.0),
            reference_ml: metrics.reference_ml,
            prediction_ml: metrics.prediction_ml,
            volume_error_ml: counted.then_some(error),
            relative_volume_error: match empty {
                Some(Emptiness::Both) => counted.then_some(0.0),
                Some(Emptiness::Reference) => None,
                _ => Some(error / metrics.reference_ml),
            },
            lesions: metrics.lesions.map(|l| l.counts()),
            confusion: metrics.confusion,
            empty,
        }
    }
}

/// One scan in `metrics.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseRecord {
    /// The scan's name.
    pub id: String,
    /// Its regions.
    #[serde(flatten)]
    pub regions: Regions<RegionRecord>,
}

impl CaseRecord {
    pub(crate) fn new(case: &CaseMetrics, policy: EmptyPolicy) -> Self {
        let regions = Regions { wt: &case.wt, tc: &case.tc, et: &case.et };
        Self { id: case.id.clone(), regions: regions.map(|metrics| RegionRecord::new(metrics, policy)) }
    }
}
