//! `check`: everything is read once, each fault named.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Result;
use scribseg_io::{Case, Cohort, Fault, Presence, PresenceTable, ScribbleMapping};
use scribseg_pipeline::{Labels, Masks, Progress, Scan, Sources, Split, Used};
use serde::Serialize;

use crate::arguments::{Check, PresetName};
use crate::given;
use crate::outcome::{Outcome, print, print_json};
use crate::settings;

#[derive(Serialize)]
struct Report<'a> {
    cohort: &'a Path,
    layout: &'a str,
    label_scheme: String,
    channels: String,
    why: Why<'a>,
    cases: usize,
    with_reference: usize,
    /// What a mixed fit would train on.
    #[serde(skip_serializing_if = "<[Used]>::is_empty")]
    supervision: &'a [Used],
    faults: &'a [Fault],
}

/// Which name, file or setting said so.
#[derive(Serialize)]
struct Why<'a> {
    layout: &'a str,
    label_scheme: &'a str,
    channels: &'a str,
}

pub(crate) fn run(arguments: &Check, progress: &dyn Progress) -> Result<Outcome> {
    let mut config = arguments.settings.config(PresetName::Paper)?;
    settings::set_mixed(&mut config, &arguments.mixed)?;
    let mixed = config.input.mixed;
    let values = config.input.scribble_values.mapping()?;
    given::scribbles(arguments.scribbles.as_deref())?;
    given::presence(arguments.presence.as_deref())?;
    let cohort = Cohort::open_as(&arguments.cohort, &scribseg_pipeline::declared(&config)?)?;
    progress.stage("check", &format!("{} cases", cohort.cases.len()));
    let [layout, scheme, channels] = &cohort.why;
    progress.log(&format!("layout {}: {layout}", cohort.layout));
    progress.log(&format!("labels {}: {scheme}", cohort.scheme.describe()));
    progress.log(&format!("channels {}: {channels}", cohort.describe_channels()));
    let own = Some(cohort.root.join("participants.tsv")).filter(|path| path.is_file());
    let table = arguments.presence.clone().or(own);
    let (rows, presence_faults) = match &table {
        Some(path) if !mixed => presence(&cohort, path),
        _ => (BTreeMap::new(), Vec::new()),
    };
    let labels = Labels {
        scribbles: arguments.scribbles.clone(),
        masks: arguments.mixed.masks.as_deref().map(Masks::from),
        presence: arguments.presence.clone(),
    };
    let mut refused = Vec::new();
    let labels_at_fault = |error: scribseg_pipeline::Error| Fault {
        case: String::new(),
        file: table.clone().unwrap_or_else(|| cohort.root.clone()),
        expected: "labels that can be trained on".into(),
        found: error.to_string(),
        hint: "mend them or leave them out".into(),
    };
    let (mut sources, mut split) = (None, None);
    if mixed {
        match Sources::open(&cohort, &labels, &config) {
            Ok(found) => sources = Some(found),
            Err(error) => refused.push(labels_at_fault(error)),
        }
        match Split::of(&cohort, &config) {
            Ok(found) => split = Some(found),
            Err(error) => refused.push(labels_at_fault(error)),
        }
    }
    for stray in sources.iter().flat_map(|sources| sources.strays(&cohort)) {
        progress.log(&stray);
    }
    let trains = |case: &Case| split.as_ref().is_none_or(|split| !split.test.contains(&case.id));
    let used = Mutex::new(BTreeMap::new());
    let voxels = Mutex::new(BTreeMap::new());
    let mut faults = scribseg_io::check_with(&cohort, |case, loaded| {
        let mut faults = Vec::new();
        if let (Some(path), Some(&presence)) = (&table, rows.get(&case.id)) {
            let said = scribseg_pipeline::contradictions(loaded.reference.as_ref(), presence);
            faults.extend(said.into_iter().map(|what| Fault {
                case: case.id.clone(),
                file: path.clone(),
                expected: "the presence that the reference shows".into(),
                found: format!("{} {what}", case.id),
                hint: "mend the row, or see whether the reference is of this case".into(),
            }));
        }
        match Scan::prepare(loaded, &config, 1) {
            Err(error) => faults.push(Fault {
                case: case.id.clone(),
                file: case.paths[0].parent().unwrap_or(&cohort.root).to_path_buf(),
                expected: "a scan that can be trained on".into(),
                found: error.to_string(),
                hint: "mend it or leave the case out".into(),
            }),
            Ok(scan) => {
                let needs_none = mixed;
                faults.extend(unlabelled(
                    case,
                    &scan,
                    needs_none || table.is_some(),
                    needs_none || arguments.scribbles.is_some(),
                ));
                if let Ok(mut voxels) = voxels.lock() {
                    voxels.insert(case.id.clone(), scan.spacing);
                }
                match sources.as_ref().filter(|_| trains(case)).map(|sources| sources.used(case, &scan)) {
                    Some(Ok(found)) => {
                        if let Ok(mut used) = used.lock() {
                            used.insert(case.id.clone(), found);
                        }
                    }
                    Some(Err(error)) => faults.push(Fault {
                        case: case.id.clone(),
                        file: case.paths[0].parent().unwrap_or(&cohort.root).to_path_buf(),
                        expected: "labels that can be trained on".into(),
                        found: error.to_string(),
                        hint: "mend them or leave the case out".into(),
                    }),
                    None => faults.extend(
                        arguments
                            .scribbles
                            .iter()
                            .filter(|_| !mixed)
                            .filter_map(|folder| scribble(case, folder, &scan, &values)),
                    ),
                }
            }
        }
        faults
    });
    faults.extend(presence_faults);
    faults.extend(refused);
    faults.extend(other_pixels(&cohort, &voxels.into_inner().unwrap_or_default()));
    let used: Vec<Used> = used.into_inner().unwrap_or_default().into_values().collect();
    if sources.is_some() && faults.is_empty() {
        faults.extend(scribseg_pipeline::enough(&cohort, &used).err().map(labels_at_fault));
    }
    for used in &used {
        progress.log(&format!("{}: {}", used.id, used.in_words()));
    }
    let without: Vec<&str> =
        cohort.cases.iter().filter(|c| c.reference.is_none()).map(|c| c.id.as_str()).collect();
    if !without.is_empty() && without.len() < cohort.cases.len() {
        progress.log(&format!(
            "without a reference (to train on with scribbles of your own): {}",
            without.join(", ")
        ));
    }
    let report = Report {
        cohort: &cohort.root,
        layout: cohort.layout.name(),
        label_scheme: cohort.scheme.describe(),
        channels: cohort.describe_channels(),
        why: {
            let [layout, label_scheme, channels] = &cohort.why;
            Why { layout, label_scheme, channels }
        },
        cases: cohort.cases.len(),
        with_reference: cohort.cases.iter().filter(|c| c.reference.is_some()).count(),
        supervision: &used,
        faults: &faults,
    };
    if arguments.json {
        print_json(&report)?;
    } else {
        print(&text(&report))?;
    }
    Ok(if faults.is_empty() { Outcome::Done } else { Outcome::AtFault })
}

fn text(report: &Report<'_>) -> String {
    let mut out: String = report
        .faults
        .iter()
        .map(|f| format!("{}: expected {}, found {}; {}\n", f.file.display(), f.expected, f.found, f.hint))
        .collect();
    out += &format!(
        "{} cases, {} with a reference, labels {}: {}\n",
        report.cases,
        report.with_reference,
        report.label_scheme,
        match report.faults.len() {
            0 => "no fault".to_owned(),
            1 => "1 fault".to_owned(),
            n => format!("{n} faults"),
        }
    );
    out
}

fn fault(case: &str, error: &scribseg_io::Error, file: PathBuf) -> Fault {
    let file = error.file().map_or(file, Path::to_path_buf);
    let (expected, found, hint) = (error.expected(), error.found(), error.hint());
    Fault { case: case.to_owned(), file, expected, found, hint }
}

/// What `fit` would miss: a background, and a tumour to take presence labels and scribbles from.
fn unlabelled(case: &Case, scan: &Scan, presence: bool, scribbles: bool) -> Vec<Fault> {
    let fault = |file: &Path, expected: &str, found: &str, hint: &str| Fault {
        case: case.id.clone(),
        file: file.to_path_buf(),
        expected: expected.to_owned(),
        found: found.to_owned(),
        hint: hint.to_owned(),
    };
    let mut faults = Vec::new();
    if scan.is_filled_to_the_rim() {
        faults.push(fault(
            &case.paths[0],
            "a brain within a background of 0",
            "outer voxels that are mostly not 0, in this modality or another",
            "strip the skull and set the background to 0",
        ));
    }
    let empty = scan.reference.as_ref().is_some_and(|r| r.iter().all(|&v| v == 0));
    if let (Some(file), true, false) = (&case.reference, empty, presence && scribbles) {
        faults.push(fault(
            file,
            "a tumour, to take presence labels or scribbles from",
            "background only",
            "give `--presence` and `--scribbles`, or leave the case out",
        ));
    }
    faults
}

/// A scribble on its scan's grid with some of each kind inside the brain.
fn scribble(case: &Case, folder: &Path, scan: &Scan, values: &ScribbleMapping) -> Option<Fault> {
    let path = scribseg_io::companion(folder, &case.id, "scribble");
    if !path.is_file() {
        return Some(Fault {
            case: case.id.clone(),
            file: path,
            expected: format!("the scribble of case {}", case.id),
            found: "no such file".into(),
            hint: "draw it, or leave the case out".into(),
        });
    }
    let read = scribseg_io::one_companion(folder, &case.id, "scribble")
        .and_then(|()| scribseg_io::read_scribble(&path, &scan.geometry, values));
    let labels = match read {
        Err(error) => return Some(fault(&case.id, &error, path)),
        Ok(labels) => scan.crop(labels.view(), 0),
    };
    let inside = |code: u8| labels.iter().zip(&scan.brain).any(|(&v, &brain)| brain && v == code);
    let lacking = [(1, "tumour"), (2, "healthy tissue")].into_iter().find(|&(code, _)| !inside(code));
    lacking.map(|(code, what)| Fault {
        case: case.id.clone(),
        file: path,
        expected: format!("a scribble on {what} ({}) inside the brain", values.values_of(code)),
        found: "none".into(),
        hint: "draw one, or leave the case out".into(),
    })
}

/// Cases whose pixels are of another size than the first one's: a network sees tissue at one scale.
fn other_pixels(cohort: &Cohort, voxels: &BTreeMap<String, [f64; 3]>) -> Vec<Fault> {
    let Some((first, expected)) = voxels.first_key_value() else { return Vec::new() };
    let same = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-3;
    let others = cohort.cases.iter().filter_map(|case| Some((case, voxels.get(&case.id)?)));
    others
        .filter(|(_, found)| !same(found[1], expected[1]) || !same(found[2], expected[2]))
        .map(|(case, found)| Fault {
            case: case.id.clone(),
            file: case.paths[0].clone(),
            expected: format!("the in-plane voxel size of {first}: {} × {} mm", expected[1], expected[2]),
            found: format!("{} × {} mm", found[1], found[2]),
            hint: "resample the cohort to one grid".into(),
        })
        .collect()
}

/// A table that names every case, and its rows.
fn presence(cohort: &Cohort, path: &Path) -> (BTreeMap<String, Presence>, Vec<Fault>) {
    let ids = || cohort.cases.iter().map(|c| c.id.as_str());
    let checked = PresenceTable::read(path).and_then(|table| {
        table.for_cases(ids())?;
        Ok(table)
    });
    match checked {
        Ok(table) => (table.rows, Vec::new()),
        Err(error) => (BTreeMap::new(), vec![fault("", &error, path.to_path_buf())]),
    }
}
