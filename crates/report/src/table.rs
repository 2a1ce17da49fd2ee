//! Table 1: ten ways to train, beside the paper's figures.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// The figures of one region in a row of Table 1, each in 0..=1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Mean Dice over scans; null if undefined.
    pub dice: Option<f64>,
    /// Pooled pixel recall, given in phase 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<f64>,
    /// Pooled pixel precision, given in phase 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<f64>,
}

impl Figures {
    /// Figures of Dice alone, as phase 2 gives them.
    pub fn dice(dice: f64) -> Self {
        Self { dice: finite(dice), ..Self::default() }
    }

    /// Dice with pooled recall and precision, as phase 1 gives them.
    pub fn pooled(dice: f64, recall: f64, precision: f64) -> Self {
        Self { dice: finite(dice), recall: finite(recall), precision: finite(precision) }
    }
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// One row of Table 1.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// 1: whole tumour; 2: sub-structures.
    pub phase: u8,
    /// The row's name in the paper, for example "SC+GC+CRF".
    pub method: String,
    /// Whole tumour; in phase 2 Unet-sub's own, before the merge.
    #[serde(rename = "WT", default, skip_serializing_if = "Option::is_none")]
    pub wt: Option<Figures>,
    /// Tumour core, phase 2.
    #[serde(rename = "TC", default, skip_serializing_if = "Option::is_none")]
    pub tc: Option<Figures>,
    /// Enhancing tumour, phase 2.
    #[serde(rename = "ET", default, skip_serializing_if = "Option::is_none")]
    pub et: Option<Figures>,
    /// Wall-clock time of what this row adds to the rows it builds on, in seconds; null where it was not kept.
    pub seconds: Option<f64>,
}

/// What `table1.json` holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Table1 {
    /// The preset the rows were run with.
    pub preset: String,
    /// The cohort, in words.
    pub cohort: String,
    /// The rows, in the order they are printed.
    pub rows: Vec<Row>,
}

/// One row of the paper's Table 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PaperRow {
    /// 1 or 2.
    pub phase: u8,
    /// The row's name.
    pub method: &'static str,
    /// Whole-tumour Dice; WT* in phase 2.
    pub wt: f64,
    /// Whole-tumour recall, phase 1.
    pub recall: Option<f64>,
    /// Whole-tumour precision, phase 1.
    pub precision: Option<f64>,
    /// Tumour-core Dice, phase 2.
    pub tc: Option<f64>,
    /// Enhancing-tumour Dice, phase 2.
    pub et: Option<f64>,
}

const fn phase1(method: &'static str, wt: f64, recall: f64, precision: f64) -> PaperRow {
    PaperRow { phase: 1, method, wt, recall: Some(recall), precision: Some(precision), tc: None, et: None }
}

const fn phase2(method: &'static str, wt: f64, tc: f64, et: f64) -> PaperRow {
    PaperRow { phase: 2, method, wt, recall: None, precision: None, tc: Some(tc), et: Some(et) }
}

/// Table 1 of Ji, Shen, Ma, Gao, "Scribble-based Hierarchical Weakly Supervised Learning for Brain Tumor
/// Segmentation", MICCAI 2019, on 57 held-out BraTS 2017 scans. Its text gives the table out of order; recall and
/// precision are read as phase 1's.
pub const PAPER: [PaperRow; 10] = [
    phase1("Full", 0.8987, 0.9465, 0.9498),
    phase1("SC", 0.8487, 0.9032, 0.9441),
    phase1("SC+CRF", 0.8609, 0.9130, 0.9461),
    phase1("SC+GC", 0.8540, 0.9501, 0.9030),
    phase1("SC+GC+CRF", 0.8823, 0.9443, 0.9338),
    phase2("Full", 0.9008, 0.8063, 0.8305),
    phase2("TrueSC+CRF", 0.8836, 0.7991, 0.7920),
    phase2("KM", 0.8516, 0.6015, 0.6502),
    phase2("KM+SC", 0.8643, 0.6714, 0.6433),
    phase2("KM+SC+CRF", 0.8721, 0.6988, 0.6537),
];

/// One printed line: the method, then (ours, the paper's) for each of the phase's three figures, then seconds.
pub(crate) struct Line {
    pub(crate) method: String,
    pub(crate) figures: [(Option<f64>, Option<f64>); 3],
    pub(crate) seconds: Option<f64>,
}

/// The headings of a phase's three figures.
pub(crate) fn headings(phase: u8) -> [&'static str; 3] {
    if phase == 1 { ["Dice", "recall", "precision"] } else { ["WT*", "TC", "ET"] }
}

/// A phase's lines: the paper's rows in its order with ours where there are any, then rows the paper has not.
pub(crate) fn lines(table: &Table1, phase: u8) -> Vec<Line> {
    let figures = |row: Option<&Row>, paper: Option<&PaperRow>| {
        let wt = row.and_then(|r| r.wt).unwrap_or_default();
        let dice = |f: Option<Figures>| f.and_then(|f| f.dice);
        let paper_wt = paper.map(|p| p.wt);
        if phase == 1 {
            let (recall, precision) = (paper.and_then(|p| p.recall), paper.and_then(|p| p.precision));
            [(wt.dice, paper_wt), (wt.recall, recall), (wt.precision, precision)]
        } else {
            let (tc, et) = (paper.and_then(|p| p.tc), paper.and_then(|p| p.et));
            [(wt.dice, paper_wt), (dice(row.and_then(|r| r.tc)), tc), (dice(row.and_then(|r| r.et)), et)]
        }
    };
    let mut out = Vec::new();
    for paper in PAPER.iter().filter(|p| p.phase == phase) {
        let row = table.rows.iter().find(|r| r.phase == phase && r.method == paper.method);
        out.push(Line {
            method: paper.method.to_owned(),
            figures: figures(row, Some(paper)),
            seconds: row.and_then(|r| r.seconds),
        });
    }
    for row in table.rows.iter().filter(|r| r.phase == phase) {
        if !PAPER.iter().any(|p| p.phase == phase && p.method == row.method) {
            out.push(Line {
                method: row.method.clone(),
                figures: figures(Some(row), None),
                seconds: row.seconds,
            });
        }
    }
    out
}

/// A figure with `digits` after the point; a dash where there is none.
pub(crate) fn number(value: Option<f64>, digits: usize) -> String {
    match value {
        Some(value) if value.is_finite() => format!("{value:.digits$}"),
        _ => "–".to_owned(),
    }
}

/// `table1.md`: each phase's rows with the paper's figures beside ours, as Markdown. Rows that were not run show a
/// dash.
pub fn table1_markdown(table: &Table1) -> String {
    let mut out = String::from("# Table 1\n\n");
    // Writing to a String cannot fail.
    let _ = writeln!(out, "Preset: {}. Cohort: {}.", cell(&table.preset), cell(&table.cohort));
    out.push_str(
        "\"paper\" is Ji, Shen, Ma, Gao, MICCAI 2019, on 57 held-out scans of BraTS 2017: its figures compare with ours only on that cohort.\n",
    );
    for (phase, title) in [(1, "Phase 1: whole tumour"), (2, "Phase 2: sub-structures")] {
        let [a, b, c] = headings(phase);
        let _ = write!(
            out,
            "\n## {title}\n\n| method | {a} | paper | {b} | paper | {c} | paper | seconds |\n|---|--:|--:|--:|--:|--:|--:|--:|\n"
        );
        for line in lines(table, phase) {
            let _ = write!(out, "| {} |", cell(&line.method));
            for (ours, paper) in line.figures {
                let _ = write!(out, " {} | {} |", number(ours, 4), number(paper, 4));
            }
            let _ = writeln!(out, " {} |", number(line.seconds, 0));
        }
    }
    out.push_str(
        "\nDice: mean over scans of the 3-D Dice. Recall and precision: over the pixels of all scans together. WT*: Unet-sub's own whole tumour, before the merge. TC: ET and NCR/NET. Seconds: what the row adds to the rows it builds on.\n",
    );
    out
}

/// Text that breaks neither a table row nor the line.
fn cell(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace(['\n', '\r'], " ")
}
