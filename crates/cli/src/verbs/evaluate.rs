//! `evaluate`: figures of a folder of segmentations.

use anyhow::{Context, Result};
use scribseg_metrics::EmptyPolicy;
use scribseg_pipeline::{Progress, verbs};

use crate::arguments::{Empty, Evaluate, PresetName};
use crate::outcome::{Outcome, print};
use crate::tables;

pub(crate) fn run(arguments: &Evaluate, progress: &dyn Progress) -> Result<Outcome> {
    let config = arguments.settings.config(PresetName::Paper)?;
    let policy = arguments.empty.map(|empty| match empty {
        Empty::Brats => EmptyPolicy::Brats,
        Empty::Skip => EmptyPolicy::Skip,
    });
    let found = verbs::evaluate(&arguments.reference, &arguments.prediction, policy, &config, progress)?;
    let json = serde_json::to_string_pretty(&found)? + "\n";
    let out = arguments.out.as_ref().unwrap_or(&arguments.prediction);
    std::fs::create_dir_all(out)
        .with_context(|| format!("{}: cannot be made; choose a writable --out", out.display()))?;
    scribseg_io::write_atomic(out.join("metrics.csv"), found.to_csv().as_bytes())?;
    scribseg_io::write_atomic(out.join("metrics.json"), json.as_bytes())?;
    print(&if arguments.json { json } else { tables::evaluation(&found) })?;
    Ok(Outcome::Done)
}
