//! Presence tables: which sub-structures each scan has, as a BIDS `participants.tsv`.
//!
//! ```text
//! participant_id  ED  ET   NCR
//! case_001        1   1    0
//! case_002        1   n/a  1
//! ```

use crate::atomic::write_atomic;
use crate::cohort::Cohort;
use crate::error::{Error, Result};
use crate::labels::{ED, ET, NCR};
use ndarray::ArrayView3;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Which sub-structures a scan has; `None` where that is not known (`n/a`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Presence {
    /// Necrotic and non-enhancing core.
    pub ncr: Option<bool>,
    /// Oedema.
    pub ed: Option<bool>,
    /// Enhancing tumour.
    pub et: Option<bool>,
}

impl Presence {
    /// What a segmentation in internal codes shows.
    pub fn from_labels(labels: ArrayView3<'_, u8>) -> Self {
        let mut seen = [false; 256];
        for &code in labels {
            seen[usize::from(code)] = true;
        }
        let has = |code: u8| Some(seen[usize::from(code)]);
        Self { ncr: has(NCR), ed: has(ED), et: has(ET) }
    }
}

/// Rows of a presence table by participant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceTable {
    /// Presence by `participant_id`.
    pub rows: BTreeMap<String, Presence>,
    /// Where it was read from, or is to be written; named in errors.
    pub path: PathBuf,
}

impl PresenceTable {
    /// Reads a table. Columns may be in any order, and others beside them are ignored.
    ///
    /// # Errors
    /// [`Error::Presence`] for a missing or repeated column, a repeated participant, a value other than `1`, `0` and `n/a`, a row of
    /// the wrong length, or a row that denies all three; [`Error::Read`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
        Self::parse(&text, path)
    }

    /// Parses the text of a table; `path` is named in errors.
    ///
    /// # Errors
    /// See [`PresenceTable::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let bad = |line: usize, expected: &str, found: String| Error::Presence {
            path: path.to_path_buf(),
            line,
            expected: expected.to_string(),
            found,
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut lines = text.lines().enumerate().map(|(n, line)| (n + 1, line.trim_end_matches('\r')));
        let header: Vec<&str> = lines.next().map(|(_, line)| line.split('\t').collect()).unwrap_or_default();
        let column = |name: &str| {
            let mut places = header.iter().enumerate().filter(|(_, title)| title.trim() == name);
            match (places.next(), places.next()) {
                (Some((place, _)), None) => Ok(place),
                (None, _) => {
                    Err(bad(1, &format!("a tab-separated column {name}"), format!("columns {header:?}")))
                }
                _ => Err(bad(1, &format!("one column {name}"), "two".into())),
            }
        };
        let id_column = column("participant_id")?;
        let columns = [column("NCR")?, column("ED")?, column("ET")?];
        let mut rows = BTreeMap::new();
        for (line, text) in lines.filter(|(_, text)| !text.trim().is_empty()) {
            let cells: Vec<&str> = text.split('\t').map(str::trim).collect();
            if cells.len() != header.len() {
                return Err(bad(line, &format!("{} cells", header.len()), format!("{} cells", cells.len())));
            }
            let cell = |column: usize| cells.get(column).copied().unwrap_or_default();
            let id = cell(id_column);
            if id.is_empty() {
                return Err(bad(line, "a participant_id", "an empty cell".into()));
            }
            let mut values = [None; 3];
            for (value, column) in values.iter_mut().zip(columns) {
                *value = match cell(column) {
                    "1" => Some(true),
                    "0" => Some(false),
                    "n/a" => None,
                    other => {
                        let title = header.get(column).copied().unwrap_or_default();
                        return Err(bad(
                            line,
                            &format!("1, 0 or n/a for {title} of {id}"),
                            format!("{other:?}"),
                        ));
                    }
                };
            }
            let [ncr, ed, et] = values;
            if values == [Some(false); 3] {
                let found = "0 for ED, ET and NCR: a tumour of nothing".to_string();
                return Err(bad(line, &format!("at least one sub-structure in {id}"), found));
            }
            if rows.insert(id.to_string(), Presence { ncr, ed, et }).is_some() {
                return Err(bad(line, "each participant once", format!("a second row for {id}")));
            }
        }
        Ok(Self { rows, path: path.to_path_buf() })
    }

    /// The presence of each case, in their order.
    ///
    /// # Errors
    /// [`Error::MissingParticipants`] with all that the table lacks.
    pub fn for_cases<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> Result<Vec<Presence>> {
        let mut found = Vec::new();
        let mut cases = Vec::new();
        for id in ids {
            match self.rows.get(id) {
                Some(presence) => found.push(*presence),
                None => cases.push(id.to_string()),
            }
        }
        if cases.is_empty() {
            Ok(found)
        } else {
            Err(Error::MissingParticipants { path: self.path.clone(), cases })
        }
    }

    /// What the reference segmentations of a cohort show; cases without one are left out. Read in parallel.
    ///
    /// # Errors
    /// The first fault in the order of cases; [`Error::EmptyReference`] when one shows no tumour.
    pub fn from_references(cohort: &Cohort) -> Result<Self> {
        let rows: Vec<Result<Option<(String, Presence)>>> = cohort
            .cases
            .par_iter()
            .map(|case| {
                let (Some((labels, _)), Some(path)) = (case.load_reference()?, &case.reference) else {
                    return Ok(None);
                };
                let presence = Presence::from_labels(labels.view());
                // A table refuses such a row, so none is made.
                if [presence.ncr, presence.ed, presence.et] == [Some(false); 3] {
                    return Err(Error::EmptyReference { path: path.clone() });
                }
                Ok(Some((case.id.clone(), presence)))
            })
            .collect();
        let rows = rows.into_iter().filter_map(Result::transpose).collect::<Result<_>>()?;
        Ok(Self { rows, path: cohort.root.join("participants.tsv") })
    }

    /// The table as text, participants sorted.
    pub fn to_tsv(&self) -> String {
        let mut text = String::from("participant_id\tED\tET\tNCR\n");
        for (id, presence) in &self.rows {
            let [ed, et, ncr] = [presence.ed, presence.et, presence.ncr].map(|value| match value {
                Some(true) => "1",
                Some(false) => "0",
                None => "n/a",
            });
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{id}\t{ed}\t{et}\t{ncr}");
        }
        text
    }

    /// Writes the table.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        write_atomic(path, self.to_tsv().as_bytes())
    }
}
