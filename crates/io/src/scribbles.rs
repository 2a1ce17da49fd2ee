//! Scribbles, weak masks and whole-tumour masks of a case, brought onto the scan's grid.
//!
//! Each is a label image named `<case>_<kind>.nii.gz` (or `.nii`, or a `.hdr`/`.img` pair); a scribble may also be a segmentation of 3D Slicer,
//! `<case>_scribble.seg.nrrd`. It may be stored with its axes in another order than the scan's: what counts is where its
//! voxels lie.

use crate::error::{Error, Result};
use crate::file::split;
use crate::geometry::Geometry;
use crate::labels::LabelScheme;
use crate::volume::read_codes;
use ndarray::Array3;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Which values of a scribble file mean what: from the file's value to 0 unknown, 1 tumour, 2 healthy.
///
/// Annotation tools export values of their own: declare them here. The default maps 0, 1 and 2 to themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<i64, u8>", into = "BTreeMap<i64, u8>")]
pub struct ScribbleMapping(BTreeMap<i64, u8>);

impl Default for ScribbleMapping {
    fn default() -> Self {
        Self(BTreeMap::from([(0, 0), (1, 1), (2, 2)]))
    }
}

impl TryFrom<BTreeMap<i64, u8>> for ScribbleMapping {
    type Error = Error;

    fn try_from(map: BTreeMap<i64, u8>) -> Result<Self> {
        match map.iter().find(|&(_, &to)| to > 2) {
            Some((&from, &to)) => Err(Error::BadMapping { from, to }),
            None => Ok(Self(map)),
        }
    }
}

impl From<ScribbleMapping> for BTreeMap<i64, u8> {
    fn from(mapping: ScribbleMapping) -> Self {
        mapping.0
    }
}

/// Names of segments that mean tumour, in the form of [`plain`].
const TUMOUR: [&str; 8] =
    ["tumor", "wholetumor", "wt", "lesion", "glioma", "glioblastoma", "foreground", "fg"];

/// Those that mean healthy tissue.
const HEALTHY: [&str; 10] = [
    "healthy",
    "healthytissue",
    "healthybrain",
    "normal",
    "normaltissue",
    "normalbrain",
    "background",
    "bg",
    "nontumor",
    "notumor",
];

/// Those that mean nothing.
const UNKNOWN: [&str; 4] = ["unknown", "unlabeled", "unlabelled", "ignore"];

/// A name's letters and digits in lower case, in American spelling: `Whole tumour` and `whole_tumor` are one.
pub(crate) fn plain(name: &str) -> String {
    let letters: String = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    letters.replace("tumour", "tumor").replace("oedema", "edema")
}

/// What a segment of this name means: 0 unknown, 1 tumour or 2 healthy.
pub(crate) fn code_of_name(name: &str) -> Option<u8> {
    let name = plain(name);
    let known = |names: &[&str]| names.contains(&name.as_str());
    [(0, known(&UNKNOWN)), (1, known(&TUMOUR)), (2, known(&HEALTHY))]
        .into_iter()
        .find_map(|(code, known)| known.then_some(code))
}

pub(crate) fn code_word(code: u8) -> &'static str {
    ["unknown", "tumour", "healthy"].get(usize::from(code)).copied().unwrap_or("?")
}

impl ScribbleMapping {
    pub(crate) fn values(&self) -> &BTreeMap<i64, u8> {
        &self.0
    }

    /// The values that mean 0 unknown, 1 tumour or 2 healthy, in words: `3 or 4`.
    pub fn values_of(&self, code: u8) -> String {
        let values = self.0.iter().filter(|&(_, &to)| to == code).map(|(value, _)| value.to_string());
        values.collect::<Vec<_>>().join(" or ")
    }

    /// The mapping in words: `0 unknown, 1 tumour, 2 healthy`.
    pub fn describe(&self) -> String {
        let words = self.0.iter().map(|(value, &code)| format!("{value} {}", code_word(code)));
        words.collect::<Vec<_>>().join(", ")
    }
}

/// How a file of `kind` may end, most usual first.
fn endings(kind: &str) -> &'static [&'static str] {
    let all = &["nii.gz", "nii", "hdr", "hdr.gz", "seg.nrrd", "nrrd"];
    if kind == "scribble" { all } else { &all[..4] }
}

/// The file of `kind` (`scribble`, `weak`, `wt`, `seg`) of a case in `folder`: `<case>_<kind>.nii.gz`, or with the ending
/// under which it is there: `.nii`, `.hdr`, and of a scribble `.seg.nrrd` or `.nrrd`.
pub fn companion(folder: impl AsRef<Path>, case: &str, kind: &str) -> PathBuf {
    let path = |ending: &&str| folder.as_ref().join(format!("{case}_{kind}.{ending}"));
    endings(kind).iter().map(path).find(|path| path.exists()).unwrap_or_else(|| path(&"nii.gz"))
}

/// An error when a case has a file of `kind` in two forms, such as `.nii` and `.nii.gz`: one of the two would go unread.
///
/// # Errors
/// [`Error::Duplicate`].
pub fn one_companion(folder: impl AsRef<Path>, case: &str, kind: &str) -> Result<()> {
    let path = |ending: &&str| folder.as_ref().join(format!("{case}_{kind}.{ending}"));
    let mut there = endings(kind).iter().map(path).filter(|path| path.exists());
    match (there.next(), there.next()) {
        (Some(first), Some(second)) => {
            Err(Error::Duplicate { what: format!("{kind} of case {case}"), first, second })
        }
        _ => Ok(()),
    }
}

/// Reads a scribble or weak mask on `grid`: 0 unknown, 1 tumour, 2 healthy, `[z, y, x]`. Segments of a `.seg.nrrd` count by
/// name (`tumour`, `whole tumor`, `lesion`, `foreground`, …; `healthy`, `normal tissue`, `background`, …) if any has such a name, else by value.
///
/// # Errors
/// [`Error::UndeclaredLabel`] for values outside `mapping`, [`Error::GridMismatch`], and whatever can be wrong with a label file.
pub fn read_scribble(
    path: impl AsRef<Path>,
    grid: &Geometry,
    mapping: &ScribbleMapping,
) -> Result<Array3<u8>> {
    let path = path.as_ref();
    if split(path, &[".nrrd"]).is_some() {
        return crate::nrrd::read_scribble(path, grid, mapping);
    }
    Ok(read_codes(path, Some((grid, "the scan")), &mapping.0, || mapping.describe())?.0)
}

/// Reads a whole-tumour mask on `grid`: 0 outside, 1 tumour.
///
/// # Errors
/// As [`read_scribble`], for values other than 0 and 1.
pub fn read_whole_tumour(path: impl AsRef<Path>, grid: &Geometry) -> Result<Array3<bool>> {
    let path = path.as_ref();
    let map = BTreeMap::from([(0, 0), (1, 1)]);
    let declared = || "0 outside, 1 tumour".to_string();
    let (mask, _) = read_codes(path, Some((grid, "the scan")), &map, declared)?;
    Ok(mask.map(|&value| value == 1))
}

/// Reads a segmentation on `grid` as internal codes 0 background, 1 NCR/NET, 2 ED, 3 ET.
///
/// # Errors
/// As [`read_scribble`], for values outside `scheme`.
pub fn read_segmentation(path: impl AsRef<Path>, grid: &Geometry, scheme: LabelScheme) -> Result<Array3<u8>> {
    let path = path.as_ref();
    Ok(read_codes(path, Some((grid, "the scan")), &scheme.codes(), || scheme.describe())?.0)
}

/// Code of [`read_mask`] for tumour of a sub-structure that the mask does not tell.
pub const TUMOUR_OF_ANY_KIND: u8 = 4;
/// Code of [`read_mask`] for a voxel that nobody has labelled.
pub const NOT_LABELLED: u8 = 255;

/// Reads a mask to train on, on `grid`: 0 background, 1 NCR/NET, 2 ED, 3 ET as `scheme` says, [`TUMOUR_OF_ANY_KIND`] for the values in
/// `tumour` and [`NOT_LABELLED`] for those in `unknown`, which both go before the scheme.
///
/// # Errors
/// As [`read_scribble`], for values that neither the scheme nor one of the lists declares.
pub fn read_mask(
    path: impl AsRef<Path>,
    grid: &Geometry,
    scheme: LabelScheme,
    unknown: &[i64],
    tumour: &[i64],
) -> Result<Array3<u8>> {
    let mut map = scheme.codes();
    map.extend(tumour.iter().map(|&value| (value, TUMOUR_OF_ANY_KIND)));
    map.extend(unknown.iter().map(|&value| (value, NOT_LABELLED)));
    let list = |values: &[i64]| values.iter().map(i64::to_string).collect::<Vec<_>>().join(" or ");
    let declared = || {
        let mut words = scheme.describe();
        for (name, values) in [("tumour", tumour), ("unknown", unknown)] {
            if !values.is_empty() {
                words += &format!(", {name} {}", list(values));
            }
        }
        words + "; others are declared by input.mask_values"
    };
    Ok(read_codes(path.as_ref(), Some((grid, "the scan")), &map, declared)?.0)
}
