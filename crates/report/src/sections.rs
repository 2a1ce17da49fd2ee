//! The parts of the report, each from its data to HTML.

use std::collections::BTreeSet;

use crate::curves;
use crate::data::{
    Distribution, FigureImage, LabelScheme, Metrics, Preset, RegionFigures, RegionScores, Stage,
};
use crate::markup::{Cell, base64, escape, table};
use crate::table::{Table1, headings, lines, number};

/// Pairs of a name and a value.
pub(crate) fn facts(pairs: &[(String, String)]) -> String {
    let mut out = String::from("<dl>\n");
    for (name, value) in pairs {
        out.push_str(&format!("<div><dt>{}</dt><dd>{}</dd></div>\n", escape(name), escape(value)));
    }
    out.push_str("</dl>\n");
    out
}

pub(crate) fn notes(notes: &[String]) -> String {
    let items: String = notes.iter().map(|note| format!("<li>{}</li>\n", escape(note))).collect();
    format!("<ul>\n{items}</ul>\n")
}

pub(crate) fn table1(data: &Table1) -> String {
    let mut out = format!(
        "<p>Preset <strong>{}</strong>, cohort: {}. The paper's figures (Ji, Shen, Ma, Gao, MICCAI 2019) are of 57 held-out scans of BraTS 2017 and compare with ours only on that cohort; a dash is a row that was not run.</p>\n",
        escape(&data.preset),
        escape(&data.cohort)
    );
    for (phase, title) in [(1, "Phase 1: whole tumour"), (2, "Phase 2: sub-structures")] {
        let [a, b, c] = headings(phase);
        let rows: Vec<Vec<Cell>> = lines(data, phase)
            .into_iter()
            .map(|line| {
                let mut row = vec![Cell::text(line.method)];
                for (ours, paper) in line.figures {
                    row.push(Cell::number(number(ours, 4)));
                    row.push(Cell::aside(number(paper, 4)));
                }
                row.push(Cell::number(number(line.seconds, 0)));
                row
            })
            .collect();
        let paper = |what: &str| format!("{what}, paper");
        let (pa, pb, pc) = (paper(a), paper(b), paper(c));
        out.push_str(&table(title, &["method", a, &pa, b, &pb, c, &pc, "seconds"], &rows));
    }
    out.push_str("<p class=\"note\">Dice is the mean over scans of the 3-D Dice; recall and precision are over the pixels of all scans together. WT* is Unet-sub's own whole tumour, before the merge. Seconds are what a row adds to the rows it builds on.</p>\n");
    out
}

/// What the policy for empty masks means, in a sentence.
fn policy(name: &str) -> &'static str {
    match name {
        "brats" => {
            "where reference and prediction are both empty a score is 1 and HD95 0 mm; where one is empty it is 0 and HD95 373.13 mm"
        }
        "skip" => {
            "scans with an empty reference are left out; an empty prediction of something present scores 0 and has no HD95"
        }
        _ => "see the evaluation that made these figures",
    }
}

pub(crate) fn metrics(data: &Metrics) -> String {
    let mut out = format!(
        "<p>{} scans. Label scheme: <strong>{}</strong>. Empty policy: <strong>{}</strong> ({}). “Empty” counts the scans it concerns.</p>\n",
        data.cases.len(),
        escape(&data.label_scheme),
        escape(&data.empty_policy),
        policy(&data.empty_policy)
    );
    let regions: [(&str, &RegionFigures); 3] = [
        ("WT, whole tumour", &data.regions.wt),
        ("TC, tumour core", &data.regions.tc),
        ("ET, enhancing tumour", &data.regions.et),
    ];
    let distribution = |caption: &str, digits: usize, select: fn(&RegionFigures) -> &Distribution| {
        let rows: Vec<Vec<Cell>> = regions
            .iter()
            .map(|(name, figures)| {
                let d = select(figures);
                vec![
                    Cell::text(*name),
                    Cell::number(number(d.mean, digits)),
                    Cell::number(d.ci95.map_or_else(
                        || "–".to_owned(),
                        |[low, high]| format!("{low:.digits$} to {high:.digits$}"),
                    )),
                    Cell::number(number(d.median, digits)),
                    Cell::number(number(d.std, digits)),
                    Cell::number(d.n.to_string()),
                    Cell::number(d.empty.to_string()),
                ]
            })
            .collect();
        table(caption, &["region", "mean", "95 % interval", "median", "std", "scans", "empty"], &rows)
    };
    out.push_str(&distribution("Dice, by scan", 4, |r| &r.dice));
    out.push_str(&distribution("HD95 in mm, by scan", 2, |r| &r.hd95));
    out.push_str(&distribution("Lesion-wise Dice, by scan", 4, |r| &r.lesion_dice));
    out.push_str(&distribution("Lesion-wise HD95 in mm, by scan", 2, |r| &r.lesion_hd95));
    out.push_str(&distribution("Volume error in ml (predicted less true), by scan", 2, |r| {
        &r.volume_error_ml
    }));
    let rows: Vec<Vec<Cell>> = regions
        .iter()
        .map(|(name, r)| {
            let values = [r.pooled.dice, r.precision, r.recall].map(|value| Cell::number(number(value, 4)));
            std::iter::once(Cell::text(*name)).chain(values).collect()
        })
        .collect();
    out.push_str(&table(
        "Pooled: over the voxels of all scans together",
        &["region", "Dice", "precision", "recall"],
        &rows,
    ));
    out
}

pub(crate) fn cases(data: &Metrics) -> String {
    let mut rows = Vec::new();
    for case in &data.cases {
        let regions: [(&str, &RegionScores); 3] =
            [("WT", &case.regions.wt), ("TC", &case.regions.tc), ("ET", &case.regions.et)];
        for (region, r) in regions {
            rows.push(vec![
                Cell::text(case.id.clone()),
                Cell::text(region),
                Cell::number(number(r.dice, 4)),
                Cell::number(number(r.precision, 4)),
                Cell::number(number(r.recall, 4)),
                Cell::number(number(r.hd95, 2)),
                Cell::number(number(r.lesion_dice, 4)),
                Cell::number(number(r.lesion_hd95, 2)),
                Cell::number(number(r.reference_ml, 1)),
                Cell::number(number(r.prediction_ml, 1)),
                Cell::text(r.empty.clone().unwrap_or_default()),
            ]);
        }
    }
    let headings = [
        "scan",
        "region",
        "Dice",
        "precision",
        "recall",
        "HD95 mm",
        "lesion-wise Dice",
        "lesion-wise HD95 mm",
        "reference ml",
        "prediction ml",
        "empty",
    ];
    let table = table("Each scan and region, with the empty policy applied", &headings, &rows).replacen(
        "<table>",
        "<table data-sortable=\"\">",
        1,
    );
    format!(
        "<details>\n<summary>{} scans, three regions each</summary>\n{table}</details>\n",
        data.cases.len()
    )
}

pub(crate) fn figures(figures: &[FigureImage]) -> String {
    let mut out = String::new();
    for figure in figures {
        out.push_str(&format!(
            "<h3>{}</h3>\n<figure>\n<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{0}\"><img alt=\"{}\" src=\"data:image/png;base64,{}\"></div>\n<figcaption>{}</figcaption>\n</figure>\n",
            escape(&figure.title),
            escape(&figure.alt),
            base64(&figure.png),
            escape(&figure.caption)
        ));
    }
    out
}

pub(crate) fn stages(stages: &[Stage]) -> String {
    let mut out = String::new();
    for (i, stage) in stages.iter().enumerate() {
        out.push_str(&format!("<h3>{}</h3>\n<div class=\"curves\">\n", escape(&stage.name)));
        for (j, curve) in stage.curves.iter().enumerate() {
            out.push_str(&curves::svg(curve, &format!("curve-{i}-{j}")));
        }
        out.push_str("</div>\n");
    }
    out
}

pub(crate) fn config(toml: &str) -> String {
    format!(
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Configuration, TOML\"><pre><code>{}</code></pre></div>\n",
        escape(toml)
    )
}

pub(crate) fn presets(presets: &[Preset]) -> String {
    let keys: BTreeSet<&String> = presets.iter().flat_map(|p| p.settings.keys()).collect();
    let mut headings = vec!["setting"];
    headings.extend(presets.iter().map(|p| p.name.as_str()));
    let rows: Vec<Vec<Cell>> = keys
        .into_iter()
        .map(|key| {
            let values: Vec<Option<&String>> = presets.iter().map(|p| p.settings.get(key)).collect();
            let differ = values.iter().any(|v| Some(v) != values.first());
            let mut row = vec![Cell::text(key.as_str())];
            for value in values {
                let text = value.map_or("–", String::as_str);
                row.push(if differ { Cell::marked(text) } else { Cell::text(text) });
            }
            row
        })
        .collect();
    let table = table("Settings of each preset", &headings, &rows);
    format!("<p>Settings in bold differ between presets.</p>\n{table}")
}

pub(crate) fn labels(scheme: &LabelScheme) -> String {
    let rows: Vec<Vec<Cell>> = scheme
        .values
        .iter()
        .map(|(value, name)| vec![Cell::text(value.to_string()), Cell::text(name)])
        .collect();
    format!(
        "<p>Files are read and written as <strong>{}</strong>. The scheme is declared, never guessed from values.</p>\n{}",
        escape(&scheme.name),
        table("Label values", &["value", "stands for"], &rows)
    )
}

pub(crate) fn hashes(hashes: &[(String, String)], inputs: &[(String, String)]) -> String {
    let listed = |caption: &str, hashes: &[(String, String)]| {
        let rows: Vec<Vec<Cell>> =
            hashes.iter().map(|(name, hash)| vec![Cell::text(name), Cell::text(hash)]).collect();
        table(caption, &["name", "hash"], &rows)
    };
    let mut out = listed("What this report was made from", hashes);
    if !inputs.is_empty() {
        out.push_str(&format!(
            "<details>\n<summary>The {} files that were read</summary>\n{}</details>\n",
            inputs.len(),
            listed("Files that were read to train and to measure", inputs)
        ));
    }
    out
}
