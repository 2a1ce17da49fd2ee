//! How cohorts lie on disk. A layout declares file names and, with them, the meaning of label values; or it has a
//! `dataset.json` that does.
//!
//! Each is a module that turns a folder into cases. Which one a folder is in is recognised from names; what could be two of
//! them is asked about.

pub(crate) mod brats;
pub(crate) mod dataset;
pub(crate) mod decathlon;

use crate::cohort::Case;
use crate::error::{Error, Result};
use crate::labels::LabelScheme;
use brats::Naming;
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
    /// BraTS 2023 and later.
    Brats2023,
    /// Medical Segmentation Decathlon, Task01: one 4-D image a case.
    Msd,
    /// nnU-Net raw data: one file a channel, and a `dataset.json`.
    NnUnet,
}

/// What a folder was found to hold.
#[derive(Default)]
pub(crate) struct Found {
    /// Sorted by id.
    pub(crate) cases: Vec<Case>,
    /// Folders and files that the layout does not know, and cases' folders deeper than it goes.
    pub(crate) strange: Vec<PathBuf>,
}

impl Layout {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Brats2017, Self::Brats2023, Self::Msd, Self::NnUnet];

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
            Self::Brats2023 => "<id>/<id>-{t1n,t1c,t2w,t2f,seg}.nii[.gz]",
            Self::Msd => "imagesTr/<id>.nii[.gz] (4-D), labelsTr/<id>.nii[.gz]",
            Self::NnUnet => "imagesTr/<id>_000N.nii[.gz], labelsTr/<id>.nii[.gz], dataset.json",
        }
    }

    /// The label scheme that the layout declares; `None` where `dataset.json` or the configuration has to.
    pub fn label_scheme(self) -> Option<LabelScheme> {
        match self {
            Self::Brats2017 => Some(LabelScheme::Brats2017),
            Self::Brats2023 => Some(LabelScheme::Brats2023),
            Self::Msd => Some(LabelScheme::Msd),
            Self::NnUnet => None,
        }
    }

    /// The layout of `folder`, from names alone, and which name said so.
    ///
    /// # Errors
    /// [`Error::NotAFolder`]; [`Error::AmbiguousLayout`] when names speak for two layouts; [`Error::NoLayout`] when they
    /// speak for none; [`Error::Read`] when it cannot be listed.
    pub fn detect(folder: &Path) -> Result<(Self, String)> {
        if !folder.is_dir() {
            return Err(Error::NotAFolder { path: folder.to_path_buf() });
        }
        let mut signs = Vec::new();
        let mut empty = Vec::new();
        let subsets = ["imagesTr", "imagesTs"].map(|name| folder.join(name));
        let mut folders: Vec<&Path> = subsets.iter().map(PathBuf::as_path).filter(|p| p.is_dir()).collect();
        let images = folders.is_empty()
            && decathlon::own_name(folder).is_some_and(|name| name == "imagesTr" || name == "imagesTs");
        if images {
            folders.push(folder);
        }
        for images in folders {
            let found = signs.len();
            images_of(images, &mut signs)?;
            if signs.len() == found {
                empty.push(images.to_path_buf());
            }
        }
        if !images {
            names_of(folder, &mut signs)?;
        }
        let (first, rest) = match signs.as_slice() {
            [first, rest @ ..] => (first, rest),
            [] => return Err(Error::NoLayout { path: folder.to_path_buf(), empty }),
        };
        if rest.iter().any(|(layout, _)| *layout != first.0) {
            let mut found: Vec<String> = Vec::new();
            for layout in Self::ALL {
                let sign = signs.iter().find(|(sign, _)| *sign == layout);
                found.extend(sign.map(|(_, name)| format!("{name} ({layout})")));
            }
            return Err(Error::AmbiguousLayout { path: folder.to_path_buf(), found });
        }
        Ok((first.0, format!("file names such as {}", first.1)))
    }
}

/// A layout, and a name that speaks for it.
type Sign = (Layout, String);

/// What the names in a folder of images (`imagesTr`) speak for.
fn images_of(images: &Path, signs: &mut Vec<Sign>) -> Result<()> {
    let folder = decathlon::own_name(images).unwrap_or_default();
    let labels = images.join("..").join(folder.replace("images", "labels"));
    for path in list(images)?.iter().filter(|path| !path.is_dir()) {
        let Some(name) = stem(path) else { continue };
        let shown = format!("{folder}/{}", path.file_name().unwrap_or_default().to_string_lossy());
        if channel_of(name).is_none() {
            signs.push((Layout::Msd, shown));
            continue;
        }
        // A case may be called so: then the reference has the number too.
        if [".nii.gz", ".nii"].iter().any(|ending| labels.join(format!("{name}{ending}")).exists()) {
            signs.push((Layout::Msd, format!("a reference named as {shown}")));
        }
        signs.push((Layout::NnUnet, shown));
    }
    Ok(())
}

/// What names in a folder, and in the folders of cases within it, speak for.
fn names_of(root: &Path, signs: &mut Vec<Sign>) -> Result<()> {
    let names = [Layout::Brats2017, Layout::Brats2023].map(|layout| Some((layout, Naming::of(layout)?)));
    let mut look = |folder: &Path, is_root: bool| -> Result<()> {
        for path in list(folder)?.iter().filter(|path| !path.is_dir()) {
            let shown = || path.strip_prefix(root).unwrap_or(path).display().to_string();
            let said = names.iter().flatten().find(|(_, naming)| naming.is_scan(path));
            if let Some((layout, _)) = said {
                signs.push((*layout, shown()));
            } else if is_root && stem(path).and_then(channel_of).is_some() {
                signs.push((Layout::NnUnet, shown()));
            }
        }
        Ok(())
    };
    look(root, true)?;
    for folder in list(root)?.into_iter().filter(|path| path.is_dir()) {
        look(&folder, false)?;
        let name = folder.file_name().unwrap_or_default();
        if name == "HGG" || name == "LGG" {
            for folder in list(&folder)?.into_iter().filter(|path| path.is_dir()) {
                look(&folder, false)?;
            }
        }
    }
    Ok(())
}

/// `<id>_000N` as case and channel.
pub(crate) fn channel_of(name: &str) -> Option<(&str, usize)> {
    let (id, number) = name.rsplit_once('_')?;
    let digits = number.len() == 4 && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((id, number.parse().ok().filter(|_| digits)?))
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Layout {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        // 2018 to 2021 name files as 2017 does; what came later as 2023.
        let name = match name {
            "brats2018" | "brats2019" | "brats2020" | "brats2021" => "brats2017",
            "brats2024" => "brats2023",
            name => name,
        };
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

/// The name of an image without its ending, in whatever case: `.nii`, `.nii.gz`, or that of the header of a pair. `None` for any
/// other file.
pub(crate) fn stem(path: &Path) -> Option<&str> {
    crate::file::split(path, &[".nii.gz", ".nii", ".hdr.gz", ".hdr"])
}
