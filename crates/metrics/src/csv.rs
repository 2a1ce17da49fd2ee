//! `metrics.csv`.

use std::fmt::Write as _;

use crate::case::Emptiness;
use crate::summary::Evaluation;

/// The first line of `metrics.csv`.
const HEADER: &str = "case,region,dice,precision,recall,hd95_mm,lesion_dice,lesion_hd95_mm,reference_ml,prediction_ml,true_positive,false_positive,false_negative,true_negative,empty,volume_error_ml,relative_volume_error,lesions,lesions_missed,lesions_spurious,lesions_ignored";

impl Evaluation {
    /// The text of `metrics.csv`: a header, then one row a scan and region. Undefined values are empty fields; names
    /// are quoted where RFC 4180 asks for it.
    pub fn to_csv(&self) -> String {
        let mut out = format!("{HEADER}\n");
        for case in &self.cases {
            for (region, r) in case.regions.named() {
                let empty = match r.empty {
                    None => "",
                    Some(Emptiness::Reference) => "reference",
                    Some(Emptiness::Prediction) => "prediction",
                    Some(Emptiness::Both) => "both",
                };
                let c = &r.confusion;
                let lesions = r.lesions.map_or_else(
                    || ",,,".to_owned(),
                    |l| format!("{},{},{},{}", l.reference, l.missed, l.spurious, l.ignored),
                );
                // Writing to a String cannot fail.
                let _ = writeln!(
                    out,
                    "{},{region},{},{},{},{},{},{},{},{},{},{},{},{},{empty},{},{},{lesions}",
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
                    field(r.volume_error_ml),
                    field(r.relative_volume_error),
                );
            }
        }
        out
    }
}

/// A value, or nothing where it is undefined.
pub(crate) fn field(value: Option<f64>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}

pub(crate) fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
