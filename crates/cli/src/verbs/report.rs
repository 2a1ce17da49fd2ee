//! `report`: a run as one HTML file.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::arguments::Report;
use crate::outcome::Outcome;
use crate::page;

pub(crate) fn run(arguments: &Report) -> Result<Outcome> {
    let path = write(&arguments.run)?;
    super::written(&[path], arguments.json)
}

/// Writes `report.html` from what the run directory holds.
pub(crate) fn write(run: &Path) -> Result<PathBuf> {
    let data = page::assemble(run)?;
    let path = run.join("report.html");
    scribseg_io::write_atomic(&path, scribseg_report::html(&data)?.as_bytes())?;
    Ok(path)
}
