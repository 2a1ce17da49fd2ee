//! What the values of a label image mean: declared, never guessed from the values.

use crate::error::{Error, Result};
use ndarray::{Array3, ArrayView3};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// Internal code of the necrotic and non-enhancing core.
pub const NCR: u8 = 1;
/// Internal code of the oedema.
pub const ED: u8 = 2;
/// Internal code of the enhancing tumour.
pub const ET: u8 = 3;

/// A convention for the values of segmentations. In memory the codes are always 0 background, 1 NCR/NET, 2 ED, 3 ET.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelScheme {
    /// BraTS 2017 to 2021: 1 NCR/NET, 2 ED, 4 ET.
    Brats2017,
    /// BraTS 2023: 1 NCR, 2 ED, 3 ET.
    Brats2023,
    /// Medical Segmentation Decathlon, Task01: 1 ED, 2 NCR/NET, 3 ET.
    Msd,
}

impl LabelScheme {
    /// The file's values for the internal codes 1 NCR/NET, 2 ED, 3 ET, in this order; background is 0 in each scheme.
    pub fn values(self) -> [u8; 3] {
        match self {
            Self::Brats2017 => [1, 2, 4],
            Self::Brats2023 => [1, 2, 3],
            Self::Msd => [2, 1, 3],
        }
    }

    /// The name used in configurations and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Brats2017 => "brats2017",
            Self::Brats2023 => "brats2023",
            Self::Msd => "msd",
        }
    }

    /// The scheme in words: `brats2017 (0 background, 1 NCR/NET, 2 ED, 4 ET)`.
    pub fn describe(self) -> String {
        let [ncr, ed, et] = self.values();
        let mut entries = [(ncr, "NCR/NET"), (ed, "ED"), (et, "ET")];
        entries.sort_unstable();
        let [a, b, c] = entries.map(|(value, name)| format!("{value} {name}"));
        format!("{} (0 background, {a}, {b}, {c})", self.name())
    }

    /// A file's values as internal codes; `file` is named in the error.
    ///
    /// # Errors
    /// [`Error::UndeclaredLabel`] with each value outside the scheme and its number of voxels.
    pub fn to_internal(self, values: ArrayView3<'_, i32>, file: &Path) -> Result<Array3<u8>> {
        let [ncr, ed, et] = self.values().map(i64::from);
        let map = BTreeMap::from([(0, 0), (ncr, NCR), (ed, ED), (et, ET)]);
        remap(values, &map, file, || self.describe())
    }

    /// Internal codes as the scheme's values, ready to be written.
    ///
    /// # Errors
    /// [`Error::BadCode`] for a code above 3.
    pub fn from_internal(self, codes: ArrayView3<'_, u8>) -> Result<Array3<u8>> {
        if let Some(&found) = codes.iter().find(|&&code| code > 3) {
            return Err(Error::BadCode { found });
        }
        let [ncr, ed, et] = self.values();
        let table = [0, ncr, ed, et];
        Ok(codes.map(|&code| table[usize::from(code & 3)]))
    }
}

impl fmt::Display for LabelScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for LabelScheme {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [Self::Brats2017, Self::Brats2023, Self::Msd]
            .into_iter()
            .find(|scheme| scheme.name() == name)
            .ok_or_else(|| Error::UnknownName {
                kind: "label scheme",
                known: "brats2017, brats2023, msd",
                found: name.to_string(),
            })
    }
}

/// Each value through `map`; values outside it are counted and reported together.
pub(crate) fn remap(
    values: ArrayView3<'_, i32>,
    map: &BTreeMap<i64, u8>,
    file: &Path,
    declared: impl FnOnce() -> String,
) -> Result<Array3<u8>> {
    // Nearly every value is a small one: a table for those, the map for the rest.
    let mut table = [None; 256];
    for (&from, &to) in map {
        if let Some(entry) = usize::try_from(from).ok().and_then(|n| table.get_mut(n)) {
            *entry = Some(to);
        }
    }
    let mut undeclared = BTreeMap::new();
    let out = values.map(|&value| {
        let small = usize::try_from(value).ok().and_then(|n| table.get(n)).copied();
        match small.unwrap_or_else(|| map.get(&i64::from(value)).copied()) {
            Some(code) => code,
            None => {
                *undeclared.entry(i64::from(value)).or_insert(0_u64) += 1;
                0
            }
        }
    });
    if undeclared.is_empty() {
        Ok(out)
    } else {
        let counts = undeclared.into_iter().collect();
        Err(Error::UndeclaredLabel { path: file.to_path_buf(), counts, declared: declared() })
    }
}
