//! How cohorts lie on disk. A layout declares file names and, with them, the meaning of label values.
//!
//! Each layout that can be read is a module of its own that turns a folder into cases; the others are recognised
//! by their names, so that the error can say what the folder is.

pub(crate) mod brats2017;

use crate::error::{Error, Result};
use crate::labels::LabelScheme;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A convention for the folders and names of a cohort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// BraTS 2017 to 2021.
    Brats2017,
    /// BraTS 2023 and later; recognised, not yet read.
    Brats2023,
    /// Medical Segmentation Decathlon, Task01, one 4-D image a case; recognised, not yet read.
    Msd,
    /// nnU-Net raw data; recognised, not yet read.
    NnUnet,
}

impl Layout {
    const ALL: [Self; 4] = [Self::Brats2017, Self::Brats2023, Self::Msd, Self::NnUnet];

    /// The name used in configurations and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Brats2017 => "brats2017",
            Self::Brats2023 => "brats2023",
            Self::Msd => "msd",
            Self::NnUnet => "nnunet",
        }
    }

    /// How the files are named.
    pub fn pattern(self) -> &'static str {
        match self {
            Self::Brats2017 => "[HGG|LGG/]<id>/<id>_{t1,t1ce,t2,flair,seg}.nii[.gz]",
            Self::Brats2023 => "<id>/<id>-{t1n,t1c,t2w,t2f,seg}.nii.gz",
            Self::Msd => "imagesTr/<id>.nii.gz (4-D), labelsTr/<id>.nii.gz",
            Self::NnUnet => "imagesTr/<id>_000N.nii.gz, labelsTr/<id>.nii.gz, dataset.json",
        }
    }

    /// The label scheme that the layout declares; `None` where the configuration has to.
    pub fn label_scheme(self) -> Option<LabelScheme> {
        match self {
            Self::Brats2017 => Some(LabelScheme::Brats2017),
            Self::Brats2023 => Some(LabelScheme::Brats2023),
            Self::Msd => Some(LabelScheme::Msd),
            Self::NnUnet => None,
        }
    }

    /// The layout of `folder`, from names alone; BraTS 2017 when nothing speaks for another.
    ///
    /// # Errors
    /// [`Error::NotAFolder`], or [`Error::Read`] when it cannot be listed.
    pub fn detect(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::NotAFolder { path: folder.to_path_buf() });
        }
        let images = folder.join("imagesTr");
        if images.is_dir() {
            let numbered = list(&images)?.iter().any(|path| {
                let name = stem(path).unwrap_or_default();
                name.rsplit_once('_')
                    .is_some_and(|(_, n)| n.len() == 4 && n.bytes().all(|b| b.is_ascii_digit()))
            });
            return Ok(if numbered { Self::NnUnet } else { Self::Msd });
        }
        let is_2023 = |path: &Path| {
            stem(path).is_some_and(|name| {
                ["-t1n", "-t1c", "-t2w", "-t2f"].iter().any(|suffix| name.ends_with(suffix))
            })
        };
        for entry in list(folder)? {
            let found =
                if entry.is_dir() { list(&entry)?.iter().any(|p| is_2023(p)) } else { is_2023(&entry) };
            if found {
                return Ok(Self::Brats2023);
            }
        }
        Ok(Self::Brats2017)
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Layout {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|layout| layout.name() == name).ok_or_else(|| Error::UnknownName {
            kind: "cohort layout",
            known: "brats2017, brats2023, msd, nnunet",
            found: name.to_string(),
        })
    }
}

/// What a folder holds, sorted by name, hidden entries left out.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::Read { path: folder.to_path_buf(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// The name of a NIfTI file without `.nii` or `.nii.gz` in whatever case; `None` for any other file.
pub(crate) fn stem(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    [".nii.gz", ".nii"].into_iter().find_map(|ending| {
        let (stem, found) = name.split_at_checked(name.len().checked_sub(ending.len())?)?;
        found.eq_ignore_ascii_case(ending).then_some(stem)
    })
}
