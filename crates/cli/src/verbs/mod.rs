//! What each verb does.

pub(crate) mod check;
pub(crate) mod evaluate;
pub(crate) mod export;
pub(crate) mod report;
pub(crate) mod steps;
pub(crate) mod train;

use std::path::PathBuf;

use serde::Serialize;

use crate::outcome::{Outcome, print, print_json};

/// What was written: one path a line, or JSON.
#[derive(Serialize)]
struct Written<'a> {
    files: &'a [PathBuf],
}

fn written(files: &[PathBuf], json: bool) -> anyhow::Result<Outcome> {
    if json {
        print_json(&Written { files })?;
    } else {
        print(&files.iter().map(|f| format!("{}\n", f.display())).collect::<String>())?;
    }
    Ok(Outcome::Done)
}
