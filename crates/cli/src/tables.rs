//! Figures as plain text.

use std::fmt::Write;

use scribseg_metrics::{Evaluation, Summary};

/// An evaluation as a table, with the label scheme and the policy that it depends on.
pub(crate) fn evaluation(evaluation: &Evaluation) -> String {
    let mut out = format!("{} scans, labels {}\n", evaluation.cases.len(), evaluation.label_scheme);
    // Writing to a String cannot fail.
    let _ = writeln!(out, "empty regions: {}", evaluation.empty_policy.description());
    let _ = writeln!(
        out,
        "\n{:<6} {:>7} {:>7} {:>7} {:>4} {:>6} {:>10} {:>7} {:>8} {:>12}",
        "region", "Dice", "median", "std", "n", "empty", "precision", "recall", "HD95 mm", "lesion Dice"
    );
    let regions = &evaluation.regions;
    for (name, region) in [("WT", &regions.wt), ("TC", &regions.tc), ("ET", &regions.et)] {
        let Summary { mean, median, std, n, empty } = region.dice;
        let _ = writeln!(
            out,
            "{name:<6} {:>7} {:>7} {:>7} {n:>4} {empty:>6} {:>10} {:>7} {:>8} {:>12}",
            number(mean, 4),
            number(median, 4),
            number(std, 4),
            number(region.precision, 4),
            number(region.recall, 4),
            number(region.hd95.mean, 2),
            number(region.lesion_dice.mean, 4),
        );
    }
    out
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}"))
}
