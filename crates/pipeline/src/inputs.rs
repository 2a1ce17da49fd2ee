//! What a run was made from: a fingerprint of every file it reads. A run is taken up again only over the very same
//! inputs, so that no figure comes from one cohort's model and another's scans.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use scribseg_io::{Cohort, companion, image_files};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::presence::table_of;

/// Fingerprints by what a file is, not by where it lies: a cohort may be moved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    files: BTreeMap<String, String>,
}

impl Inputs {
    /// Reads every file that training on `cohort` reads. `scribbles` and `presence` as given on the command line.
    ///
    /// # Errors
    /// The first missing modality, or a file that cannot be read. Scribbles of single cases may be missing: which are
    /// needed is known only after the split.
    pub fn of(cohort: &Cohort, scribbles: Option<&Path>, presence: Option<&Path>) -> Result<Self> {
        cohort.require_modalities()?;
        let mut files: Vec<(String, PathBuf)> = Vec::new();
        for case in &cohort.cases {
            for (name, path) in case.files()? {
                files.push((format!("{name} of {}", case.id), path));
            }
            let scribble = scribbles.map(|folder| companion(folder, &case.id, "scribble"));
            if let Some(path) = scribble.filter(|path| path.is_file()) {
                let parts = image_files(&path)?.into_iter().zip(["scribble", "scribble voxels"]);
                files.extend(parts.map(|(path, name)| (format!("{name} of {}", case.id), path)));
            }
        }
        files.extend(cohort.declaration.iter().map(|path| ("dataset.json".to_owned(), path.clone())));
        if let Some(path) = table_of(cohort, presence) {
            files.push(("presence table".to_owned(), path));
        }
        let files = files.into_par_iter().map(|(name, path)| Ok((name, fingerprint(&path)?)));
        Ok(Self { files: files.collect::<Result<_>>()? })
    }

    /// With the masks that train, where there are any.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn with_masks(mut self, cohort: &Cohort, folder: Option<&Path>) -> Result<Self> {
        for case in &cohort.cases {
            let path = folder.map(|folder| companion(folder, &case.id, "seg"));
            if let Some(path) = path.filter(|path| path.is_file()) {
                for (part, path) in image_files(&path)?.into_iter().enumerate() {
                    let name = ["mask", "mask voxels"][part.min(1)];
                    self.files.insert(format!("{name} of {}", case.id), fingerprint(&path)?);
                }
            }
        }
        Ok(self)
    }

    /// What was read, and the first 16 hexadecimal digits of its BLAKE3.
    pub fn files(&self) -> impl Iterator<Item = (&String, &String)> {
        self.files.iter()
    }

    /// Whether every scan has a name that `phantom` gives.
    pub fn are_synthetic(&self) -> bool {
        let mut scans = self.files.keys().filter_map(|name| name.strip_prefix("t1 of ")).peekable();
        scans.peek().is_some() && scans.all(|id| id.starts_with(crate::verbs::PHANTOM))
    }

    /// The first difference from what a run was made with, in words.
    pub(crate) fn difference(&self, then: &Self) -> Option<String> {
        let names = self.files.keys().chain(then.files.keys());
        let name = names.into_iter().find(|name| self.files.get(*name) != then.files.get(*name))?;
        Some(match (self.files.get(name), then.files.get(name)) {
            (Some(_), None) => format!("{name}: new since then"),
            (None, _) => format!("{name}: no longer there"),
            _ => format!("{name}: its content changed"),
        })
    }
}

fn fingerprint(path: &Path) -> Result<String> {
    let fault = |source| Error::Read { path: path.to_owned(), source };
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(path).map_err(fault)?).map_err(fault)?;
    Ok(hasher.finalize().to_hex()[..16].to_owned())
}
