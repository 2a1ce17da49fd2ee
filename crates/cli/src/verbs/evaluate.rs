//! `evaluate`: figures of a folder of segmentations.

use std::path::Path;

use anyhow::{Context, Result, bail};
use scribseg_metrics::{COMPARISON_HEADER, EmptyPolicy};
use scribseg_pipeline::Progress;
use scribseg_pipeline::verbs::{self, Evaluated};

use crate::arguments::{Empty, Evaluate, PresetName};
use crate::outcome::{Outcome, print};
use crate::{given, tables};

pub(crate) fn run(arguments: &Evaluate, progress: &dyn Progress) -> Result<Outcome> {
    let config = arguments.settings.config(PresetName::Paper)?;
    let policy = arguments.empty.map(|empty| match empty {
        Empty::Brats => EmptyPolicy::Brats,
        Empty::Skip => EmptyPolicy::Skip,
    });
    let Evaluate { reference, prediction, compare, .. } = arguments;
    given::folder("--reference", reference, "references: a cohort, or `<case>_seg.nii.gz` files")?;
    given::folder("--prediction", prediction, "`<case>_seg.nii.gz` files, as `predict` writes them")?;
    if let Some(folder) = compare {
        given::folder("--compare", folder, "`<case>_seg.nii.gz` files of the same scans")?;
    }
    let Evaluated { evaluation, comparison_csv } =
        verbs::evaluate(reference, prediction, compare.as_deref(), policy, &config, progress)?;
    let json = serde_json::to_string_pretty(&evaluation)? + "\n";
    let out = arguments.out.as_ref().unwrap_or(prediction);
    spare_foreign_files(out)?;
    std::fs::create_dir_all(out)
        .with_context(|| format!("{}: cannot be made; choose a writable --out", out.display()))?;
    scribseg_io::write_atomic(out.join("metrics.csv"), evaluation.to_csv().as_bytes())?;
    scribseg_io::write_atomic(out.join("metrics.json"), json.as_bytes())?;
    let comparison = out.join("comparison.csv");
    match comparison_csv {
        Some(csv) => scribseg_io::write_atomic(&comparison, csv.as_bytes())?,
        // Of an earlier comparison, which the other two files no longer tell of; it is ours.
        None if comparison.exists() => std::fs::remove_file(&comparison)
            .with_context(|| format!("{}: cannot be removed", comparison.display()))?,
        None => {}
    }
    print(&if arguments.json { json } else { tables::evaluation(&evaluation) })?;
    Ok(Outcome::Done)
}

/// An error if `metrics.json`, `metrics.csv` or `comparison.csv` are there and none of ours.
fn spare_foreign_files(out: &Path) -> Result<()> {
    let ours = |text: &str| {
        serde_json::from_str::<serde_json::Value>(text).is_ok_and(|v| v.get("empty_policy").is_some())
    };
    let (json, csv) = (out.join("metrics.json"), out.join("metrics.csv"));
    let foreign = match std::fs::read_to_string(&json) {
        Ok(text) => (!ours(&text)).then_some(json),
        Err(_) if json.exists() => Some(json),
        Err(_) => csv.exists().then_some(csv),
    };
    let comparison = out.join("comparison.csv");
    let foreign = foreign.or_else(|| {
        let text = std::fs::read_to_string(&comparison);
        let theirs = comparison.exists() && !text.is_ok_and(|text| text.starts_with(COMPARISON_HEADER));
        theirs.then_some(comparison)
    });
    if let Some(file) = foreign {
        bail!(
            "{}: was not written by scribseg and would be replaced; choose another --out, or move the file away",
            file.display()
        );
    }
    Ok(())
}
