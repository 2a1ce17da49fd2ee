//! `fit --dry-run`: the plan as text.

use std::fmt::Write;

use scribseg_pipeline::{Estimate, Plan, PlannedScan};

use crate::terminal::span;

/// What would be done with which scan, in which stages, to which files, and what it would take.
pub(crate) fn text(plan: &Plan) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "plan of {}; nothing was written\n", plan.run.display());
    let [layout, why] = &plan.layout;
    let _ = writeln!(out, "cohort {}: layout {layout} ({why})", plan.cohort.display());
    let [scheme, why] = &plan.label_scheme;
    let _ = writeln!(out, "labels {scheme} ({why})\n");
    scans(&mut out, &plan.scans);
    for run in &plan.runs {
        let folder = run.folder.display();
        let _ = writeln!(out, "\n{folder}: {} scans train, {} are held out", run.train, run.test);
        let _ = writeln!(out, "  {:<10} {:>10} {:>10}  what it trains", "stage", "iterations", "done");
        for stage in &run.stages {
            let _ = writeln!(
                out,
                "  {:<10} {:>10} {:>10}  {}",
                stage.name, stage.iterations, stage.done, stage.trains
            );
        }
    }
    let each = if plan.runs.len() > 1 { " of each fold" } else { "" };
    let _ = writeln!(out, "\nfiles in the run directory{each}");
    for file in &plan.files {
        let _ = writeln!(out, "  {file}");
    }
    estimate(&mut out, &plan.estimate);
    out
}

fn scans(out: &mut String, scans: &[PlannedScan]) {
    let width = |of: fn(&PlannedScan) -> &str, head: &str| {
        scans.iter().map(|scan| of(scan).chars().count()).max().unwrap_or(0).max(head.len())
    };
    let id = width(|s| &s.id, "scan");
    let role = width(|s| &s.role, "role");
    let scribbles = width(|s| &s.scribbles, "scribbles");
    let presence = width(|s| &s.presence, "presence");
    let mixed = scans.iter().any(|scan| scan.mask.is_some());
    let mask = width(|s| s.mask.as_deref().unwrap_or(""), "mask");
    let mut line = |cells: [&str; 6]| {
        let [a, b, c, m, d, e] = cells;
        // Masks train in a mixed fit alone.
        let m = if mixed { format!("{m:<mask$}  ") } else { String::new() };
        let _ = writeln!(out, "{a:<id$}  {b:<role$}  {c:<scribbles$}  {m}{d:<presence$}  {e}");
    };
    line(["scan", "role", "scribbles", "mask", "presence", "reference"]);
    for scan in scans {
        let reference = if scan.reference { "yes" } else { "none" };
        let mask = scan.mask.as_deref().unwrap_or("");
        line([&scan.id, &scan.role, &scan.scribbles, mask, &scan.presence, reference]);
    }
}

fn estimate(out: &mut String, e: &Estimate) {
    let _ = writeln!(
        out,
        "\nestimate, from {} training steps of {} slices on this machine as it is now; a factor of two off is no surprise",
        e.steps_measured, e.batch_measured
    );
    let parts = [
        ("reading", e.prepare_seconds),
        ("scribbles, graph cut, clustering", e.labels_seconds),
        ("training", e.training_seconds),
        ("segmenting", e.predict_seconds),
    ]
    .map(|(name, seconds)| format!("{name} {}", span(seconds)));
    let _ = writeln!(out, "  time    {} ({})", span(e.seconds), parts.join(", "));
    let aside = if e.networks_on_cpu { "" } else { ", the GPU's own not counted" };
    let _ = writeln!(out, "  memory  {} at the most{aside}", size(e.memory_bytes));
    let _ = writeln!(
        out,
        "  disk    {} when it is done, {} at the most until then",
        size(e.disk_bytes),
        size(e.disk_peak_bytes)
    );
}

/// Bytes in the unit that leaves one to three digits before the point.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1000.0 {
            return if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit_that_fits() {
        let sizes = [512, 2048, 300 << 20, 7 << 30].map(size);
        assert_eq!(sizes, ["512 B", "2.0 KiB", "300 MiB", "7.0 GiB"]);
    }
}
