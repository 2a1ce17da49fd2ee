//! Scribbles, weak masks and whole-tumour masks of a case, brought onto the scan's grid.
//!
//! Each is a label image named `<case>_<kind>.nii.gz` (or `.nii`). It may be stored with its axes in another order
//! than the scan's: what counts is where its voxels lie.

use crate::error::{Error, Result};
use crate::geometry::Geometry;
use crate::labels::{LabelScheme, remap};
use crate::volume::LabelVolume;
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

impl ScribbleMapping {
    /// The values that mean 0 unknown, 1 tumour or 2 healthy, in words: `3 or 4`.
    pub fn values_of(&self, code: u8) -> String {
        let values = self.0.iter().filter(|&(_, &to)| to == code).map(|(value, _)| value.to_string());
        values.collect::<Vec<_>>().join(" or ")
    }

    /// The mapping in words: `0 unknown, 1 tumour, 2 healthy`.
    pub fn describe(&self) -> String {
        let name = |code: u8| ["unknown", "tumour", "healthy"].get(usize::from(code)).copied().unwrap_or("?");
        self.0.iter().map(|(value, &code)| format!("{value} {}", name(code))).collect::<Vec<_>>().join(", ")
    }
}

/// The file of `kind` (`scribble`, `weak`, `wt`, `seg`) of a case in `folder`: `<case>_<kind>.nii.gz`, or `.nii` if
/// only that is there.
pub fn companion(folder: impl AsRef<Path>, case: &str, kind: &str) -> PathBuf {
    let folder = folder.as_ref();
    let plain = folder.join(format!("{case}_{kind}.nii"));
    let compressed = folder.join(format!("{case}_{kind}.nii.gz"));
    if !compressed.exists() && plain.exists() { plain } else { compressed }
}

/// An error when a case has a file of `kind` in both forms, `.nii` and `.nii.gz`: one of the two would go unread.
///
/// # Errors
/// [`Error::Duplicate`].
pub fn one_companion(folder: impl AsRef<Path>, case: &str, kind: &str) -> Result<()> {
    let [first, second] =
        ["nii.gz", "nii"].map(|ending| folder.as_ref().join(format!("{case}_{kind}.{ending}")));
    if first.exists() && second.exists() {
        return Err(Error::Duplicate { what: format!("{kind} of case {case}"), first, second });
    }
    Ok(())
}

/// Reads a scribble or weak mask on `grid`: 0 unknown, 1 tumour, 2 healthy, `[z, y, x]`.
///
/// # Errors
/// [`Error::UndeclaredLabel`] for values outside `mapping`, [`Error::GridMismatch`], and whatever can be wrong with a label file.
pub fn read_scribble(
    path: impl AsRef<Path>,
    grid: &Geometry,
    mapping: &ScribbleMapping,
) -> Result<Array3<u8>> {
    let path = path.as_ref();
    let labels = LabelVolume::read_on(path, grid, "the scan")?;
    remap(labels.data.view(), &mapping.0, path, || mapping.describe())
}

/// Reads a whole-tumour mask on `grid`: 0 outside, 1 tumour.
///
/// # Errors
/// As [`read_scribble`], for values other than 0 and 1.
pub fn read_whole_tumour(path: impl AsRef<Path>, grid: &Geometry) -> Result<Array3<bool>> {
    let path = path.as_ref();
    let labels = LabelVolume::read_on(path, grid, "the scan")?;
    let map = BTreeMap::from([(0, 0), (1, 1)]);
    let mask = remap(labels.data.view(), &map, path, || "0 outside, 1 tumour".to_string())?;
    Ok(mask.map(|&value| value == 1))
}

/// Reads a segmentation on `grid` as internal codes 0 background, 1 NCR/NET, 2 ED, 3 ET.
///
/// # Errors
/// As [`read_scribble`], for values outside `scheme`.
pub fn read_segmentation(path: impl AsRef<Path>, grid: &Geometry, scheme: LabelScheme) -> Result<Array3<u8>> {
    let path = path.as_ref();
    let labels = LabelVolume::read_on(path, grid, "the scan")?;
    scheme.to_internal(labels.data.view(), path)
}
