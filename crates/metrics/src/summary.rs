//! Many scans in a few numbers: the policy for empty masks, `metrics.json` and `metrics.csv`.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::case::{CaseMetrics, Emptiness, RegionMetrics};
use crate::overlap::Confusion;
use crate::surface::HD95_PENALTY_MM;

/// What becomes of a scan whose reference or prediction has no voxel in a region.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmptyPolicy {
    /// As the BraTS challenge: both empty is perfect (Dice, precision, recall and lesion-wise Dice 1, HD95 0 mm), one
    /// empty is a total miss (0, and [`HD95_PENALTY_MM`]).
    #[default]
    Brats,
    /// Scans whose reference is empty are left out of every mean. A prediction that is empty where there is something
    /// to find is a miss, its Dice and recall are 0 by their definition and count; its precision and HD95 are
    /// undefined and left out.
    Skip,
}

impl EmptyPolicy {
    /// One sentence for a report.
    pub fn description(self) -> &'static str {
        match self {
            Self::Brats => {
                "BraTS: where reference and prediction are both empty a score is 1 and HD95 0 mm; where one is empty it is 0 and HD95 373.13 mm."
            }
            Self::Skip => {
                "Skip: scans with an empty reference are left out; an empty prediction of something present scores 0 and has no HD95."
            }
        }
    }

    /// The value that enters the mean: `perfect` and `miss` are what two empty masks and one count as.
    fn apply(self, value: Option<f64>, empty: Option<Emptiness>, perfect: f64, miss: f64) -> Option<f64> {
        match (self, empty) {
            (_, None) => value,
            (Self::Brats, Some(Emptiness::Both)) => Some(perfect),
            (Self::Brats, Some(_)) => Some(miss),
            (Self::Skip, Some(Emptiness::Prediction)) => value,
            (Self::Skip, Some(_)) => None,
        }
    }
}

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
}

/// The three regions of BraTS.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
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
        // Missed and spurious lesions are in the lesion-wise figures already; they are undefined only where there is
        // no lesion to score.
        let lesions = |value: Option<f64>, perfect| match (policy, empty) {
            (EmptyPolicy::Brats, _) => value.or(Some(perfect)),
            (EmptyPolicy::Skip, Some(Emptiness::Reference | Emptiness::Both)) => None,
            (EmptyPolicy::Skip, _) => value,
        };
        Self {
            dice: score(metrics.confusion.dice()),
            precision: score(metrics.confusion.precision()),
            recall: score(metrics.confusion.recall()),
            hd95: distance(metrics.hd95),
            lesion_dice: lesions(metrics.lesions.map(|l| l.dice), 1.0),
            lesion_hd95: lesions(metrics.lesions.map(|l| l.hd95), 0.0),
            reference_ml: metrics.reference_ml,
            prediction_ml: metrics.prediction_ml,
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

/// What `metrics.json` holds. It serialises without NaN: an undefined value is null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The declared label scheme of the files that were compared, for example "BraTS 2017".
    pub label_scheme: String,
    /// The policy in force.
    pub empty_policy: EmptyPolicy,
    /// Each region over all scans.
    pub regions: Regions<RegionSummary>,
    /// Each scan, in the order given.
    pub cases: Vec<CaseRecord>,
    /// Scans that have a reference and no prediction, and so are in no mean.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// Condenses the figures of many scans under a policy. `label_scheme` is recorded as it is given.
pub fn summarise(cases: &[CaseMetrics], policy: EmptyPolicy, label_scheme: &str) -> Evaluation {
    let cases: Vec<CaseRecord> = cases
        .iter()
        .map(|case| CaseRecord {
            id: case.id.clone(),
            regions: Regions {
                wt: RegionRecord::new(&case.wt, policy),
                tc: RegionRecord::new(&case.tc, policy),
                et: RegionRecord::new(&case.et, policy),
            },
        })
        .collect();
    let region = |select: fn(&Regions<RegionRecord>) -> &RegionRecord| {
        let records: Vec<&RegionRecord> = cases.iter().map(|case| select(&case.regions)).collect();
        let empty = records.iter().filter(|r| r.empty.is_some()).count();
        let pooled: Confusion = records.iter().map(|r| r.confusion).sum();
        RegionSummary {
            dice: Summary::of(records.iter().map(|r| r.dice), empty),
            precision: pooled.precision(),
            recall: pooled.recall(),
            hd95: Summary::of(records.iter().map(|r| r.hd95), empty),
            lesion_dice: Summary::of(records.iter().map(|r| r.lesion_dice), empty),
        }
    };
    let regions = Regions { wt: region(|r| &r.wt), tc: region(|r| &r.tc), et: region(|r| &r.et) };
    Evaluation {
        label_scheme: label_scheme.to_owned(),
        empty_policy: policy,
        regions,
        cases,
        missing: Vec::new(),
    }
}

/// The first line of `metrics.csv`.
const CSV_HEADER: &str = "case,region,dice,precision,recall,hd95_mm,lesion_dice,lesion_hd95_mm,reference_ml,prediction_ml,true_positive,false_positive,false_negative,true_negative,empty";

impl Evaluation {
    /// The text of `metrics.csv`: a header, then one row a scan and region. Undefined values are empty fields; names
    /// are quoted where RFC 4180 asks for it.
    pub fn to_csv(&self) -> String {
        let mut out = format!("{CSV_HEADER}\n");
        for case in &self.cases {
            let Regions { wt, tc, et } = &case.regions;
            for (region, r) in [("WT", wt), ("TC", tc), ("ET", et)] {
                let field = |value: Option<f64>| value.map(|v| v.to_string()).unwrap_or_default();
                let empty = match r.empty {
                    None => "",
                    Some(Emptiness::Reference) => "reference",
                    Some(Emptiness::Prediction) => "prediction",
                    Some(Emptiness::Both) => "both",
                };
                let c = &r.confusion;
                // Writing to a String cannot fail.
                let _ = writeln!(
                    out,
                    "{},{region},{},{},{},{},{},{},{},{},{},{},{},{},{empty}",
                    quoted(&case.id),
                    field(r.dice),
                    field(r.precision),
                    field(r.recall),
                    field(r.hd95),
                    field(r.lesion_dice),
                    field(r.lesion_hd95),
                    r.reference_ml,
                    r.prediction_ml,
                    c.true_positive,
                    c.false_positive,
                    c.false_negative,
                    c.true_negative,
                );
            }
        }
        out
    }
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
