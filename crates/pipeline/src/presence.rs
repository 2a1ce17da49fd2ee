//! Presence labels: of a table, or as the references show.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::{Array3, ArrayView3};
use scribseg_io::{Cohort, Presence, PresenceTable};

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::scan::Scan;

/// The presence table that is given, or the cohort's own.
pub(crate) fn table_of(cohort: &Cohort, given: Option<&Path>) -> Option<PathBuf> {
    let own = cohort.root.join("participants.tsv");
    given.map(Path::to_owned).or_else(|| own.is_file().then_some(own))
}

/// Presence labels of `scans`: the given table, the cohort's own, or derived from the references.
pub(crate) fn presence_of(
    cohort: &Cohort,
    given: Option<&Path>,
    scans: &[Arc<Scan>],
    progress: &dyn Progress,
) -> Result<Vec<Presence>> {
    if let Some(path) = table_of(cohort, given) {
        progress.log(&format!("presence labels from {}", path.display()));
        let table = PresenceTable::read(&path)?;
        // All cases, not the training ones alone: what is refused does not depend on the split.
        table.for_cases(cohort.cases.iter().map(|c| c.id.as_str()))?;
        let found = table.for_cases(scans.iter().map(|s| s.id.as_str()))?;
        for (scan, presence) in scans.iter().zip(&found) {
            for contradiction in contradictions(scan.reference.as_ref(), *presence) {
                progress.log(&format!("{}: {} {contradiction}", path.display(), scan.id));
            }
        }
        return Ok(found);
    }
    let derived: Result<Vec<_>> = scans.iter().map(|scan| presence_shown(scan)).collect();
    if derived.is_ok() {
        progress.log("no presence table: presence labels derived from the reference segmentations");
    }
    derived
}

/// Tells which structures are declared present in a scan and have no voxel of its labels: a clustering may find none.
pub(crate) fn note_unfound(
    progress: &dyn Progress,
    id: &str,
    declared: Presence,
    labels: ArrayView3<'_, u8>,
) {
    let shown = Presence::from_labels(labels);
    let all =
        [("NCR/NET", declared.ncr, shown.ncr), ("ED", declared.ed, shown.ed), ("ET", declared.et, shown.et)];
    for (name, declared, shown) in all {
        if declared == Some(true) && shown == Some(false) {
            progress.log(&format!("{id}: {name} is declared present, and none was found"));
        }
    }
}

/// The presence that a scan's reference shows.
pub(crate) fn presence_shown(scan: &Scan) -> Result<Presence> {
    let problem = match &scan.reference {
        Some(reference) if reference.iter().any(|&v| v != 0) => {
            return Ok(Presence::from_labels(reference.view()));
        }
        Some(_) => {
            "expected a tumour in its reference (`_seg`) to take presence labels from, found background only; give `--presence TSV`, or leave the case out"
        }
        None => {
            "expected presence labels, found neither participants.tsv nor a reference; give `--presence TSV`"
        }
    };
    Err(Error::case(&scan.id, problem))
}

/// Where a presence table and a reference say different things of a sub-structure, in words.
pub fn contradictions(reference: Option<&Array3<u8>>, table: Presence) -> Vec<String> {
    let Some(reference) = reference else { return Vec::new() };
    let shown = Presence::from_labels(reference.view());
    [("ED", table.ed, shown.ed), ("ET", table.et, shown.et), ("NCR", table.ncr, shown.ncr)]
        .into_iter()
        .filter_map(|(name, table, shown)| match (table, shown) {
            (Some(true), Some(false)) => Some(format!("has {name} by the table (1), none in its reference")),
            (Some(false), Some(true)) => {
                Some(format!("has no {name} by the table (0), some in its reference"))
            }
            _ => None,
        })
        .collect()
}
