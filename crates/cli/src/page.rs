//! What goes into the report: from the files of a run directory to plain data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use scribseg_pipeline::train::Curves;
use scribseg_pipeline::{Config, Preset, Split};
use scribseg_report::{
    self as report, Curve, FigureImage, FigureKind, Figures, Panel, ReportData, ScanSlices,
};
use serde::de::DeserializeOwned;

/// What each training stage is, in the order in which a report shows them.
const STAGES: [(&str, &str); 13] = [
    ("wt-full", "Full, whole tumour"),
    ("wt-sc", "SC"),
    ("wt-sc-crf", "SC+CRF"),
    ("wt-sc-gc", "SC+GC"),
    ("wt", "SC+GC+CRF"),
    ("sub-full", "Full, sub-structures"),
    ("sub-truesc", "TrueSC"),
    ("sub-truesc-crf", "TrueSC+CRF"),
    ("sub-mx-sc", "MX+SC"),
    ("sub-mx-sc-crf", "MX+SC+CRF"),
    ("sub-km", "KM"),
    ("sub-km-sc", "KM+SC"),
    ("sub", "KM+SC+CRF"),
];

/// Gathers what a run directory holds; parts that are not there (yet) are left out.
pub(crate) fn assemble(run: &Path) -> Result<ReportData> {
    let config_path = run.join("config.toml");
    if !config_path.is_file() {
        bail!(
            "{}: expected a run directory with config.toml, found none; point at what `fit` or `reproduce` was given as --out",
            run.display()
        );
    }
    let text = String::from_utf8_lossy(&bytes(&config_path)?).into_owned();
    let config = Config::from_toml(&text).with_context(|| config_path.display().to_string())?;
    let table: Option<scribseg_pipeline::Table1> = json(run, "table1.json")?;
    let split: Option<Split> = json(run, "split.json")?;
    let metrics: Option<report::Metrics> = json(run, "metrics.json")?;
    // In the table each row names its own clustering.
    let mixture = table.is_none() && config.cluster.method == "mixture";
    let stages = stages(run, mixture)?;
    let inputs: Option<scribseg_pipeline::Inputs> = json(run, "inputs.json")?;
    let synthetic = inputs.as_ref().is_some_and(|inputs| inputs.are_synthetic());
    let scheme: scribseg_io::LabelScheme = config.input.label_scheme.parse()?;
    let [ncr, ed, et] = scheme.values().map(i64::from);
    let mut values = vec![(0, "background"), (ncr, "NCR/NET"), (ed, "ED"), (et, "ET")];
    values.sort_unstable();

    let mut facts = Vec::new();
    let mut fact = |name: &str, value: String| facts.push((name.to_owned(), value));
    if let Some(table) = &table {
        fact("preset", table.preset.clone());
        fact("cohort", table.cohort.clone());
    }
    if let Some(split) = &split {
        fact("training scans", split.train.len().to_string());
        fact("held-out scans", split.test.len().to_string());
        if !split.folds.is_empty() {
            fact("folds", split.folds.len().to_string());
        }
    }
    let folds = split.as_ref().map_or(0, |split| split.folds.len());
    fact("seed", config.seed.to_string());
    fact("network", format!("width {}, {} poolings", config.network.width, config.network.depth));
    // Of the program that trained; this one may be another.
    let program = std::fs::read_to_string(run.join("program.txt"));
    fact(
        "program",
        program.map_or_else(|_| scribseg_pipeline::program(), |text| text.trim().replace('\n', "; ")),
    );

    let supervision: Option<Vec<serde_json::Value>> = json(run, "supervision.json")?;
    for (name, level) in [("whole tumour from", "whole_tumour"), ("sub-structures from", "substructures")] {
        let mut counts = BTreeMap::new();
        for scan in supervision.iter().flatten() {
            *counts.entry(scan[level]["used"].as_str().unwrap_or("nothing")).or_insert(0) += 1;
        }
        if supervision.is_some() {
            let words: Vec<String> = counts.iter().map(|(used, n)| format!("{used} ({n})")).collect();
            fact(name, words.join(", "));
        }
    }

    let (title, summary) = match &table {
        None if supervision.is_some() => (
            "Trained from what there is of each scan",
            "A mixed fit: both phases, each scan on its mask, its scribbles or its presence labels; the method after Ji, Shen, Ma, Gao, MICCAI 2019.",
        ),
        Some(_) => (
            "Table 1, reproduced",
            "Ways to learn whole tumours and their sub-structures: the ten of Ji, Shen, Ma, Gao, MICCAI 2019, and ours (MX, a mixture in place of k-means).",
        ),
        None => (
            "Trained from scribbles and presence labels",
            if mixture {
                "Both phases, SC+GC+CRF for the whole tumour and MX+SC+CRF (a mixture in place of k-means) for its sub-structures, after Ji, Shen, Ma, Gao, MICCAI 2019."
            } else {
                "Both phases, SC+GC+CRF for the whole tumour and KM+SC+CRF for its sub-structures, after Ji, Shen, Ma, Gao, MICCAI 2019."
            },
        ),
    };
    let settings =
        |name: &str, config: &Config| report::Preset { name: name.to_owned(), settings: flat(config) };
    let mut presets = vec![settings("this run", &config)];
    for preset in Preset::ALL {
        presets.push(settings(preset.name(), &Config::preset(preset)?));
    }
    let slices = slices(run, metrics.as_ref())?;
    Ok(ReportData {
        title: title.to_owned(),
        summary: summary.to_owned(),
        facts,
        generated: None,
        notes: notes(table.as_ref(), metrics.is_some(), folds, &stages, synthetic),
        table1: table.as_ref().map(table1),
        metrics,
        figures: figures(run)?,
        slices,
        stages,
        config: Some(text),
        presets,
        label_scheme: Some(report::LabelScheme {
            name: scheme.name(),
            values: values.into_iter().map(|(value, name)| (value, name.to_owned())).collect(),
        }),
        hashes: hashes(run)?,
        inputs: inputs
            .iter()
            .flat_map(|inputs| inputs.files())
            .map(|(a, b)| (a.clone(), b.clone()))
            .collect(),
    })
}

/// `table1.json` as the report draws it.
pub(crate) fn table1(table: &scribseg_pipeline::Table1) -> report::Table1 {
    let finite = |value: f64| value.is_finite().then_some(value);
    let figures = |f: &scribseg_pipeline::RegionFigures| Figures {
        dice: f.dice.and_then(finite),
        recall: f.recall.and_then(finite),
        precision: f.precision.and_then(finite),
    };
    let rows = table.rows.iter().map(|row| report::Row {
        phase: row.phase,
        method: row.method.clone(),
        wt: Some(figures(&row.wt)),
        tc: row.tc.as_ref().map(figures),
        et: row.et.as_ref().map(figures),
        seconds: row.seconds,
    });
    report::Table1 { preset: table.preset.clone(), cohort: table.cohort.clone(), rows: rows.collect() }
}

/// Figure 2: the whole tumours of phase 1.
pub(crate) fn figure2(cases: Vec<scribseg_pipeline::FigureCase>) -> report::Figure {
    figure("Figure 2. Whole tumour, FLAIR", FigureKind::WholeTumour, cases)
}

/// Figure 3: the sub-structures of phase 2.
pub(crate) fn figure3(cases: Vec<scribseg_pipeline::FigureCase>) -> report::Figure {
    figure("Figure 3. Sub-structures, T1ce", FigureKind::Substructures, cases)
}

fn figure(title: &str, kind: FigureKind, cases: Vec<scribseg_pipeline::FigureCase>) -> report::Figure {
    let panel = |(method, prediction, dice)| Panel { method, prediction, dice };
    let cases = cases.into_iter().map(|case| report::FigureCase {
        id: case.id,
        slice: case.slice,
        image: case.image,
        window: None,
        reference: case.reference,
        panels: case.panels.into_iter().map(panel).collect(),
    });
    report::Figure { title: title.to_owned(), kind, cases: cases.collect() }
}

fn figures(run: &Path) -> Result<Vec<FigureImage>> {
    let mut found = Vec::new();
    for (name, title, what, dice) in [
        (
            "fig2.png",
            "Figure 2: whole tumour",
            "whole tumour on FLAIR, false negatives and false positives tinted",
            "whole tumour",
        ),
        ("fig3.png", "Figure 3: sub-structures", "ED, ET and NCR/NET on T1ce, errors hatched", "tumour core"),
    ] {
        let path = run.join(name);
        if path.is_file() {
            found.push(FigureImage {
                title: title.to_owned(),
                caption: format!(
                    "The slice with the largest reference of held-out scans: the reference, then each method's {what}. In the corner: Dice of the {dice} over the whole scan."
                ),
                alt: format!("Slices of held-out scans with the reference and each method's {what}"),
                png: bytes(&path)?,
            });
        }
    }
    Ok(found)
}

/// The slices that the run keeps, each scan with its Dice.
fn slices(run: &Path, metrics: Option<&report::Metrics>) -> Result<Vec<ScanSlices>> {
    let scan = |(id, slices): (String, Vec<scribseg_pipeline::Slice>)| {
        let case = metrics.and_then(|metrics| metrics.cases.iter().find(|case| case.id == id));
        let note = case.map_or_else(String::new, |case| {
            let regions = [("WT", &case.regions.wt), ("TC", &case.regions.tc), ("ET", &case.regions.et)];
            let dice =
                regions.map(|(name, r)| r.dice.map_or(format!("{name} –"), |d| format!("{name} {d:.4}")));
            format!("Dice over the whole scan: {}.", dice.join(", "))
        });
        let slices = slices.into_iter().map(|slice| report::Slice {
            z: slice.z,
            images: slice.images,
            reference: Some(slice.reference),
            prediction: slice.prediction,
        });
        ScanSlices { id, note, slices: slices.collect() }
    };
    Ok(scribseg_pipeline::slices(run)?.into_iter().map(scan).collect())
}

/// The training curves, in the order of [`STAGES`]; names that are not there come last. The last stage of `fit` has one name for either clustering.
fn stages(run: &Path, mixture: bool) -> Result<Vec<report::Stage>> {
    let mut files = listed(&run.join("curves"), "json")?;
    let place = |name: &str| STAGES.iter().position(|(stage, _)| *stage == name).unwrap_or(STAGES.len());
    files.sort_by_key(|path| (place(&stem(path)), stem(path)));
    files
        .iter()
        .map(|path| {
            let curves: Curves = parse(path)?;
            let curve = |name: &str, values: &[f32]| Curve {
                name: name.to_owned(),
                points: curves
                    .iteration
                    .iter()
                    .zip(values)
                    .map(|(&i, &v)| [i as f64, f64::from(v)])
                    .collect(),
            };
            let mut drawn = vec![curve("partial cross-entropy", &curves.cross_entropy)];
            if curves.dice.iter().any(|v| *v != 0.0) {
                drawn.push(curve("soft Dice loss, weighted", &curves.dice));
            }
            if curves.crf.iter().any(|v| *v != 0.0) {
                drawn.push(curve("CRF loss, weighted", &curves.crf));
            }
            let name = stem(path);
            let title = match STAGES.get(place(&name)) {
                Some(("sub", _)) if mixture => "MX+SC+CRF".to_owned(),
                Some((_, title)) => (*title).to_owned(),
                None => name.clone(),
            };
            Ok(report::Stage { name: title, curves: drawn })
        })
        .collect()
}

fn notes(
    table: Option<&scribseg_pipeline::Table1>,
    measured: bool,
    folds: usize,
    stages: &[report::Stage],
    synthetic: bool,
) -> Vec<String> {
    let mut notes = Vec::new();
    if synthetic {
        notes.push(
            "The cohort is synthetic. Its figures compare the rows with each other; they do not compare with the paper's, which are on 57 held-out scans of BraTS 2017."
                .to_owned(),
        );
    }
    if let Some(table) = table {
        if table.preset == Preset::Smoke.name() {
            notes.push("The smoke preset shows that everything runs. It trains far too briefly for its figures to mean anything.".to_owned());
        }
        if table.rows.len() < scribseg_pipeline::ROWS.len() {
            notes.push(format!(
                "{} of the {} rows were run.",
                table.rows.len(),
                scribseg_pipeline::ROWS.len()
            ));
        }
    }
    if !measured {
        notes.push(
            "There are no figures: no scan with a reference was held out, or the run is not finished."
                .to_owned(),
        );
    }
    if folds > 0 {
        notes.push(format!(
            "A cross-validation of {folds} folds{} Curves and models are in the report of each fold.",
            if measured {
                ": every scan's figures are by networks that were trained without it."
            } else {
                ", not all of them finished."
            }
        ));
    } else if stages.is_empty() {
        notes.push("No training stage is finished.".to_owned());
    }
    notes.push("A research tool, not a medical device.".to_owned());
    notes
}

/// BLAKE3 of what a run depends on and what it made.
fn hashes(run: &Path) -> Result<Vec<(String, String)>> {
    let mut files: Vec<PathBuf> = ["config.toml", "inputs.json", "split.json", "supervision.json"]
        .iter()
        .map(|name| run.join(name))
        .collect();
    files.extend(listed(&run.join("models"), "safetensors")?);
    let mut found = Vec::new();
    for path in files.into_iter().filter(|path| path.is_file()) {
        let name = path.strip_prefix(run).unwrap_or(&path).display().to_string();
        found.push((name, blake3::hash(&bytes(&path)?).to_hex().to_string()));
    }
    Ok(found)
}

/// Dotted keys and their values.
fn flat(config: &Config) -> BTreeMap<String, String> {
    fn walk(prefix: &str, table: toml::Table, out: &mut BTreeMap<String, String>) {
        for (name, value) in table {
            let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            match value {
                toml::Value::Table(inner) => walk(&key, inner, out),
                toml::Value::String(text) => drop(out.insert(key, text)),
                other => drop(out.insert(key, other.to_string())),
            }
        }
    }
    let mut out = BTreeMap::new();
    walk("", config.to_toml().parse().unwrap_or_default(), &mut out);
    out
}

/// The files of a folder with this extension, in name order; none if there is no folder.
fn listed(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut files: Vec<PathBuf> = entries
        .with_context(|| format!("{}: cannot be listed", folder.display()))?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    files.sort();
    Ok(files)
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

fn bytes(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))
}

fn parse<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_slice(&bytes(path)?).with_context(|| {
        format!(
            "{}: expected what a run writes there; remove it, and the report goes without it",
            path.display()
        )
    })
}

fn json<T: DeserializeOwned>(run: &Path, name: &str) -> Result<Option<T>> {
    let path = run.join(name);
    path.is_file().then(|| parse(&path)).transpose()
}
