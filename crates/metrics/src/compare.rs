//! Two predictions of the same scans: which is better, by how much, and how sure that is.

use std::collections::BTreeMap;

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::bootstrap::{RESAMPLES, bootstrap_mean};
use crate::metric::Metric;
use crate::record::{RegionRecord, Regions};
use crate::summary::Evaluation;
use crate::wilcoxon::{SignedRank, wilcoxon};

/// The first line of `comparison.csv`.
pub const COMPARISON_HEADER: &str = "case,region,metric,prediction,compare,difference";

/// One metric of one region, scan by scan, in two predictions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Scans for which both have a value; all below is over these.
    pub n: usize,
    /// Mean of the first prediction.
    pub prediction: Option<f64>,
    /// Mean of the second.
    pub compare: Option<f64>,
    /// Mean of the first less the second.
    pub difference: Option<f64>,
    /// 95 % bootstrap interval of that mean, low then high; `None` below two scans.
    pub ci95: Option<[f64; 2]>,
    /// Wilcoxon's signed-rank test of the differences; `None` where there is none but 0.
    pub wilcoxon: Option<SignedRank>,
}

impl Paired {
    fn of(pairs: &[(f64, f64)], generator: &mut impl Rng) -> Self {
        let mean =
            |values: &[f64]| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
        let (first, second): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        let differences: Vec<f64> = pairs.iter().map(|(a, b)| a - b).collect();
        Self {
            n: pairs.len(),
            prediction: mean(&first),
            compare: mean(&second),
            difference: mean(&differences),
            ci95: bootstrap_mean(&differences, RESAMPLES, generator),
            wilcoxon: wilcoxon(&differences),
        }
    }
}

/// A prediction beside another, on the scans that both have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// What the other prediction is called.
    pub with: String,
    /// Scans that both have, in the first one's order.
    pub scans: Vec<String>,
    /// Scans that the first alone has; they are in its own figures and not in the comparison.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only_prediction: Vec<String>,
    /// Scans that the other alone has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only_compare: Vec<String>,
    /// Each region by metric.
    pub regions: Regions<BTreeMap<Metric, Paired>>,
}

/// The records of a scan in both evaluations.
type Pair<'a> = (&'a str, Regions<&'a RegionRecord>, Regions<&'a RegionRecord>);

fn pairs<'a>(first: &'a Evaluation, second: &'a Evaluation) -> Vec<Pair<'a>> {
    let others: BTreeMap<&str, &Regions<RegionRecord>> =
        second.cases.iter().map(|case| (case.id.as_str(), &case.regions)).collect();
    let refer = |r: &'a Regions<RegionRecord>| Regions { wt: &r.wt, tc: &r.tc, et: &r.et };
    (first.cases.iter())
        .filter_map(|case| {
            Some((case.id.as_str(), refer(&case.regions), refer(others.get(case.id.as_str())?)))
        })
        .collect()
}

impl Evaluation {
    /// Compares with another prediction of the same scans, evaluated under the same policy; scans are matched by name.
    /// `name` is what the other is called.
    pub fn compared_with(&self, other: &Self, name: &str, generator: &mut impl Rng) -> Comparison {
        let pairs = pairs(self, other);
        let scans: Vec<String> = pairs.iter().map(|(id, ..)| (*id).to_owned()).collect();
        let alone = |evaluation: &Self| {
            let ids = evaluation.cases.iter().map(|case| case.id.clone());
            ids.filter(|id| !pairs.iter().any(|(paired, ..)| paired == id)).collect()
        };
        let mut region = |select: fn(&Regions<&RegionRecord>) -> RegionRecord| {
            let mut figures = BTreeMap::new();
            for metric in Metric::ALL {
                let values: Vec<(f64, f64)> = (pairs.iter())
                    .filter_map(|(_, a, b)| metric.of(&select(a)).zip(metric.of(&select(b))))
                    .filter(|(a, b)| a.is_finite() && b.is_finite())
                    .collect();
                figures.insert(metric, Paired::of(&values, generator));
            }
            figures
        };
        let regions = Regions { wt: region(|r| *r.wt), tc: region(|r| *r.tc), et: region(|r| *r.et) };
        Comparison {
            with: name.to_owned(),
            only_prediction: alone(self),
            only_compare: alone(other),
            scans,
            regions,
        }
    }

    /// The text of `comparison.csv`: a row a scan that both have, region and metric, with both values and the first
    /// less the second. Undefined values are empty fields.
    pub fn comparison_csv(&self, other: &Self) -> String {
        use std::fmt::Write as _;
        let mut out = format!("{COMPARISON_HEADER}\n");
        for (id, first, second) in pairs(self, other) {
            for ((region, a), (_, b)) in first.named().into_iter().zip(second.named()) {
                for metric in Metric::ALL {
                    let (a, b) = (metric.of(a), metric.of(b));
                    let difference = a.zip(b).map(|(a, b)| a - b);
                    let [a, b, difference] = [a, b, difference].map(crate::csv::field);
                    let id = crate::csv::quoted(id);
                    // Writing to a String cannot fail.
                    let _ = writeln!(out, "{id},{region},{},{a},{b},{difference}", metric.name());
                }
            }
        }
        out
    }
}
