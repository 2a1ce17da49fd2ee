//! Figures as plain text.

use std::fmt::Write;

use scribseg_metrics::{Comparison, Evaluation, Metric, Summary};

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
    for (name, region) in evaluation.regions.named() {
        let Summary { mean, median, std, n, empty, .. } = region.dice;
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
    by_scan(&mut out, evaluation);
    pooled(&mut out, evaluation);
    if let Some(comparison) = &evaluation.comparison {
        compared(&mut out, comparison);
    }
    out
}

/// The Dice of every scan; where neither has a region, what the policy says (`-` if it is left out).
pub(crate) fn each_scan(evaluation: &Evaluation) -> String {
    let wide = evaluation.cases.iter().map(|case| case.id.chars().count()).max().unwrap_or(0).max(4);
    let mut out = format!("\nDice of each scan\n{:<wide$} {:>7} {:>7} {:>7}\n", "scan", "WT", "TC", "ET");
    for case in &evaluation.cases {
        let [wt, tc, et] =
            [&case.regions.wt, &case.regions.tc, &case.regions.et].map(|region| number(region.dice, 4));
        let _ = writeln!(out, "{:<wide$} {wt:>7} {tc:>7} {et:>7}", case.id);
    }
    out
}

/// What a table calls a metric, and with how many decimals it prints it.
const SHOWN: [(Metric, &str, usize); 8] = [
    (Metric::Dice, "Dice", 4),
    (Metric::ScanPrecision, "precision", 4),
    (Metric::ScanRecall, "recall", 4),
    (Metric::Hd95, "HD95 mm", 2),
    (Metric::LesionDice, "lesion Dice", 4),
    (Metric::LesionHd95, "lesion HD95 mm", 2),
    (Metric::VolumeErrorMl, "volume error ml", 3),
    (Metric::RelativeVolumeError, "relative volume error", 4),
];

/// Means over scans with their intervals and the number of scans in each.
fn by_scan(out: &mut String, evaluation: &Evaluation) {
    let intervals = evaluation.intervals.as_ref().map_or_else(String::new, |i| {
        format!(", 95 % intervals from {} bootstrap resamples, seed {}", i.resamples, i.seed)
    });
    let _ = writeln!(out, "\nmeans over scans{intervals}");
    let _ =
        writeln!(out, "{:<6} {:<21} {:>9} {:>9} {:>9} {:>4}", "region", "figure", "mean", "low", "high", "n");
    for (name, region) in evaluation.regions.named() {
        for (metric, label, digits) in SHOWN {
            let s = region.by_scan(metric);
            let [low, high] = ends(s.ci95).map(|end| number(end, digits));
            let mean = number(s.mean, digits);
            let _ = writeln!(out, "{name:<6} {label:<21} {mean:>9} {low:>9} {high:>9} {:>4}", s.n);
        }
    }
}

/// The voxels and lesions of all scans together.
fn pooled(out: &mut String, evaluation: &Evaluation) {
    let _ = writeln!(
        out,
        "\nall scans together\n{:<6} {:>7} {:>9} {:>7} {:>12} {:>9} {:>8} {:>7} {:>9} {:>8}",
        "region",
        "Dice",
        "precision",
        "recall",
        "reference ml",
        "error ml",
        "lesions",
        "missed",
        "spurious",
        "left out"
    );
    for (name, region) in evaluation.regions.named() {
        let p = &region.pooled;
        let _ = writeln!(
            out,
            "{name:<6} {:>7} {:>9} {:>7} {:>12.2} {:>9.2} {:>8} {:>7} {:>9} {:>8}",
            number(p.dice, 4),
            number(p.precision, 4),
            number(p.recall, 4),
            p.reference_ml,
            p.volume_error_ml,
            p.lesions.reference,
            p.lesions.missed,
            p.lesions.spurious,
            p.lesions.ignored,
        );
    }
}

/// Two predictions of the same scans.
fn compared(out: &mut String, comparison: &Comparison) {
    let _ = writeln!(
        out,
        "\nless those of {}, on the {} scans that both have; p: Wilcoxon's signed-rank test, two-sided, each figure by itself",
        comparison.with,
        comparison.scans.len()
    );
    let _ = writeln!(
        out,
        "{:<6} {:<21} {:>9} {:>9} {:>10} {:>9} {:>9} {:>8} {:>4}",
        "region", "figure", "this", "other", "difference", "low", "high", "p", "n"
    );
    for (name, figures) in comparison.regions.named() {
        for (metric, label, digits) in SHOWN {
            let Some(paired) = figures.get(&metric) else { continue };
            let [low, high] = ends(paired.ci95).map(|end| number(end, digits));
            let _ = writeln!(
                out,
                "{name:<6} {label:<21} {:>9} {:>9} {:>10} {low:>9} {high:>9} {:>8} {:>4}",
                number(paired.prediction, digits),
                number(paired.compare, digits),
                number(paired.difference, digits),
                paired.wilcoxon.map_or_else(|| "-".to_owned(), |test| probability(test.p)),
                paired.n
            );
        }
    }
}

fn ends(interval: Option<[f64; 2]>) -> [Option<f64>; 2] {
    [interval.map(|[low, _]| low), interval.map(|[_, high]| high)]
}

/// Four decimals, and a power of ten where these would be zeros.
fn probability(p: f64) -> String {
    if p < 1e-4 { format!("{p:.1e}") } else { format!("{p:.4}") }
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}"))
}
