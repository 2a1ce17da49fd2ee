//! Many scans in a few numbers: `metrics.json`.

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::bootstrap::{RESAMPLES, bootstrap_mean};
use crate::case::CaseMetrics;
use crate::compare::Comparison;
use crate::lesion::LesionCounts;
use crate::metric::Metric;
use crate::overlap::Confusion;
use crate::policy::EmptyPolicy;
use crate::record::{CaseRecord, RegionRecord, Regions};

/// The distribution of one metric over scans.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Arithmetic mean; `None` (JSON null) of no scan.
    pub mean: Option<f64>,
    /// Median, the mean of the middle two of an even number.
    pub median: Option<f64>,
    /// Sample standard deviation (n − 1); `None` below two scans.
    pub std: Option<f64>,
    /// Scans that enter the mean.
    pub n: usize,
    /// Scans with an empty reference or prediction, whatever the policy does with them.
    pub empty: usize,
    /// 95 % bootstrap interval of the mean, low then high; `None` below two scans and until
    /// [`Evaluation::with_intervals`].
    #[serde(default)]
    pub ci95: Option<[f64; 2]>,
}

impl Summary {
    /// Summarises the values that are there and finite; `empty` is passed through.
    pub fn of(values: impl IntoIterator<Item = Option<f64>>, empty: usize) -> Self {
        let mut values: Vec<f64> = values.into_iter().flatten().filter(|v| v.is_finite()).collect();
        let n = values.len();
        if n == 0 {
            return Self { empty, ..Self::default() };
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
        values.sort_by(f64::total_cmp);
        Self {
            mean: Some(mean),
            median: Some((values[(n - 1) / 2] + values[n / 2]) / 2.0),
            std: (n > 1).then(|| (squares / (n - 1) as f64).sqrt()),
            n,
            empty,
            ci95: None,
        }
    }
}

/// Figures over the voxels and lesions of all scans together: large tumours weigh more. No policy is needed, as a scan
/// with an empty mask adds its voxels like any other; `None` where there is nothing to divide by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Pooled {
    /// Dice's coefficient, in 0..=1.
    pub dice: Option<f64>,
    /// Precision, in 0..=1.
    pub precision: Option<f64>,
    /// Recall, in 0..=1.
    pub recall: Option<f64>,
    /// Volume of all references, in ml.
    pub reference_ml: f64,
    /// Volume of all predictions, in ml.
    pub prediction_ml: f64,
    /// The latter less the former, in ml.
    pub volume_error_ml: f64,
    /// The same as a part of the references' volume.
    pub relative_volume_error: Option<f64>,
    /// Voxels by agreement.
    pub confusion: Confusion,
    /// Lesions by what became of them.
    pub lesions: LesionCounts,
}

impl Pooled {
    fn of(records: &[&RegionRecord]) -> Self {
        let confusion: Confusion = records.iter().map(|r| r.confusion).sum();
        let reference_ml: f64 = records.iter().map(|r| r.reference_ml).sum();
        let prediction_ml: f64 = records.iter().map(|r| r.prediction_ml).sum();
        let volume_error_ml = prediction_ml - reference_ml;
        Self {
            dice: confusion.dice(),
            precision: confusion.precision(),
            recall: confusion.recall(),
            reference_ml,
            prediction_ml,
            volume_error_ml,
            relative_volume_error: (reference_ml > 0.0).then(|| volume_error_ml / reference_ml),
            confusion,
            lesions: records.iter().filter_map(|r| r.lesions).sum(),
        }
    }
}

/// One region over all scans.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RegionSummary {
    /// Dice by scan.
    pub dice: Summary,
    /// Precision over the voxels of all scans together, in 0..=1; `None` if nothing was predicted.
    pub precision: Option<f64>,
    /// Recall over the voxels of all scans together, in 0..=1; `None` if there is nothing to find.
    pub recall: Option<f64>,
    /// HD95 by scan, in mm.
    pub hd95: Summary,
    /// Lesion-wise Dice by scan.
    pub lesion_dice: Summary,
    /// Lesion-wise HD95 by scan, in mm.
    #[serde(default)]
    pub lesion_hd95: Summary,
    /// Precision by scan.
    #[serde(default)]
    pub scan_precision: Summary,
    /// Recall by scan.
    #[serde(default)]
    pub scan_recall: Summary,
    /// Volume error by scan, signed, in ml.
    #[serde(default)]
    pub volume_error_ml: Summary,
    /// Its magnitude by scan, in ml.
    #[serde(default)]
    pub absolute_volume_error_ml: Summary,
    /// Volume error by scan, signed, as a part of the reference's volume.
    #[serde(default)]
    pub relative_volume_error: Summary,
    /// Its magnitude by scan.
    #[serde(default)]
    pub absolute_relative_volume_error: Summary,
    /// Figures over all scans together.
    #[serde(default)]
    pub pooled: Pooled,
}

impl RegionSummary {
    fn of(records: &[&RegionRecord]) -> Self {
        let empty = records.iter().filter(|r| r.empty.is_some()).count();
        let by_scan = |metric: Metric| Summary::of(records.iter().map(|r| metric.of(r)), empty);
        let pooled = Pooled::of(records);
        Self {
            dice: by_scan(Metric::Dice),
            precision: pooled.precision,
            recall: pooled.recall,
            hd95: by_scan(Metric::Hd95),
            lesion_dice: by_scan(Metric::LesionDice),
            lesion_hd95: by_scan(Metric::LesionHd95),
            scan_precision: by_scan(Metric::ScanPrecision),
            scan_recall: by_scan(Metric::ScanRecall),
            volume_error_ml: by_scan(Metric::VolumeErrorMl),
            absolute_volume_error_ml: by_scan(Metric::AbsoluteVolumeErrorMl),
            relative_volume_error: by_scan(Metric::RelativeVolumeError),
            absolute_relative_volume_error: by_scan(Metric::AbsoluteRelativeVolumeError),
            pooled,
        }
    }

    /// The distribution of a metric over scans.
    pub fn by_scan(&self, metric: Metric) -> &Summary {
        match metric {
            Metric::Dice => &self.dice,
            Metric::ScanPrecision => &self.scan_precision,
            Metric::ScanRecall => &self.scan_recall,
            Metric::Hd95 => &self.hd95,
            Metric::LesionDice => &self.lesion_dice,
            Metric::LesionHd95 => &self.lesion_hd95,
            Metric::VolumeErrorMl => &self.volume_error_ml,
            Metric::AbsoluteVolumeErrorMl => &self.absolute_volume_error_ml,
            Metric::RelativeVolumeError => &self.relative_volume_error,
            Metric::AbsoluteRelativeVolumeError => &self.absolute_relative_volume_error,
        }
    }

    fn by_scan_mut(&mut self, metric: Metric) -> &mut Summary {
        match metric {
            Metric::Dice => &mut self.dice,
            Metric::ScanPrecision => &mut self.scan_precision,
            Metric::ScanRecall => &mut self.scan_recall,
            Metric::Hd95 => &mut self.hd95,
            Metric::LesionDice => &mut self.lesion_dice,
            Metric::LesionHd95 => &mut self.lesion_hd95,
            Metric::VolumeErrorMl => &mut self.volume_error_ml,
            Metric::AbsoluteVolumeErrorMl => &mut self.absolute_volume_error_ml,
            Metric::RelativeVolumeError => &mut self.relative_volume_error,
            Metric::AbsoluteRelativeVolumeError => &mut self.absolute_relative_volume_error,
        }
    }
}

/// How the intervals of an evaluation were found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intervals {
    /// In words.
    pub method: String,
    /// Resamples of the scans behind each interval.
    pub resamples: usize,
    /// The seed that the generator was made of.
    pub seed: u64,
}

/// What `metrics.json` holds. It serialises without NaN: an undefined value is null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The declared label scheme of the files that were compared, for example "BraTS 2017".
    pub label_scheme: String,
    /// The policy in force.
    pub empty_policy: EmptyPolicy,
    /// How the 95 % intervals were found, if they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intervals: Option<Intervals>,
    /// Each region over all scans.
    pub regions: Regions<RegionSummary>,
    /// The paired comparison with another prediction, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
    /// Each scan, in the order given.
    pub cases: Vec<CaseRecord>,
    /// Scans that have a reference and no prediction, and so are in no mean.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// Condenses the figures of many scans under a policy. `label_scheme` is recorded as it is given.
pub fn summarise(cases: &[CaseMetrics], policy: EmptyPolicy, label_scheme: &str) -> Evaluation {
    let cases: Vec<CaseRecord> = cases.iter().map(|case| CaseRecord::new(case, policy)).collect();
    let regions = records(&cases).map(|records| RegionSummary::of(records));
    Evaluation {
        label_scheme: label_scheme.to_owned(),
        empty_policy: policy,
        intervals: None,
        regions,
        comparison: None,
        cases,
        missing: Vec::new(),
    }
}

/// The scans' records by region.
fn records(cases: &[CaseRecord]) -> Regions<Vec<&RegionRecord>> {
    Regions {
        wt: cases.iter().map(|case| &case.regions.wt).collect(),
        tc: cases.iter().map(|case| &case.regions.tc).collect(),
        et: cases.iter().map(|case| &case.regions.et).collect(),
    }
}

impl Evaluation {
    /// Adds to each mean over scans its 95 % interval: 10,000 resamples of the scans ([`bootstrap_mean`]). `seed` is
    /// recorded as what `generator` was made of.
    pub fn with_intervals(mut self, seed: u64, generator: &mut impl Rng) -> Self {
        let Regions { wt, tc, et } = records(&self.cases);
        let regions = &mut self.regions;
        for (summary, records) in [(&mut regions.wt, wt), (&mut regions.tc, tc), (&mut regions.et, et)] {
            for metric in Metric::ALL {
                let values: Vec<f64> =
                    records.iter().filter_map(|r| metric.of(r)).filter(|v| v.is_finite()).collect();
                summary.by_scan_mut(metric).ci95 = bootstrap_mean(&values, RESAMPLES, generator);
            }
        }
        let method = "95 % percentile bootstrap of the mean over scans".to_owned();
        self.intervals = Some(Intervals { method, resamples: RESAMPLES, seed });
        self
    }
}
