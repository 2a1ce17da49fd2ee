//! What the values of a label image mean: declared, never guessed from the values.

use crate::error::{Error, Result};
use crate::file::Codes;
use crate::volume::all_declared;
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
///
/// Its text is the convention's name, or the values themselves: `ncr=1,ed=2,et=3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum LabelScheme {
    /// BraTS 2017 to 2021: 1 NCR/NET, 2 ED, 4 ET.
    Brats2017,
    /// BraTS 2023: 1 NCR, 2 ED, 3 ET.
    Brats2023,
    /// Medical Segmentation Decathlon, Task01: 1 ED, 2 NCR/NET, 3 ET.
    Msd,
    /// Values of one's own, see [`LabelScheme::declared`].
    Declared(DeclaredValues),
}

/// Three different values above 0, of NCR/NET, ED and ET, that no named scheme has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeclaredValues([u8; 3]);

impl LabelScheme {
    const NAMED: [Self; 3] = [Self::Brats2017, Self::Brats2023, Self::Msd];

    /// The scheme in which NCR/NET, ED and ET have these values: by its name, if it has one. `None` unless they are different and above 0.
    pub fn declared(ncr: u8, ed: u8, et: u8) -> Option<Self> {
        let values = [ncr, ed, et];
        if let Some(named) = Self::NAMED.into_iter().find(|scheme| scheme.values() == values) {
            return Some(named);
        }
        let sound = !values.contains(&0) && ncr != ed && ed != et && ncr != et;
        sound.then_some(Self::Declared(DeclaredValues(values)))
    }

    /// The file's values for the internal codes 1 NCR/NET, 2 ED, 3 ET, in this order; background is 0 in each scheme.
    pub fn values(self) -> [u8; 3] {
        match self {
            Self::Brats2017 => [1, 2, 4],
            Self::Brats2023 => [1, 2, 3],
            Self::Msd => [2, 1, 3],
            Self::Declared(DeclaredValues(values)) => values,
        }
    }

    /// The text used in configurations and reports.
    pub fn name(self) -> String {
        match self {
            Self::Brats2017 => "brats2017".into(),
            Self::Brats2023 => "brats2023".into(),
            Self::Msd => "msd".into(),
            Self::Declared(DeclaredValues([ncr, ed, et])) => format!("ncr={ncr},ed={ed},et={et}"),
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

    /// From a file's values to internal codes.
    pub fn codes(self) -> BTreeMap<i64, u8> {
        let [ncr, ed, et] = self.values().map(i64::from);
        BTreeMap::from([(0, 0), (ncr, NCR), (ed, ED), (et, ET)])
    }

    /// A file's values as internal codes; `file` is named in the error.
    ///
    /// # Errors
    /// [`Error::UndeclaredLabel`] with each value outside the scheme and its number of voxels.
    pub fn to_internal(self, values: ArrayView3<'_, i32>, file: &Path) -> Result<Array3<u8>> {
        let map = self.codes();
        let mut codes = Codes::new(&map);
        let out = values.map(|&value| codes.code(value));
        all_declared(codes.undeclared, file, || self.describe())?;
        Ok(out)
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
        f.write_str(&self.name())
    }
}

impl From<LabelScheme> for String {
    fn from(scheme: LabelScheme) -> Self {
        scheme.name()
    }
}

impl TryFrom<String> for LabelScheme {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for LabelScheme {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(named) = Self::NAMED.into_iter().find(|scheme| scheme.name() == text) {
            return Ok(named);
        }
        let mut values = BTreeMap::new();
        for entry in text.split(',') {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            if let Ok(value) = value.trim().parse::<u8>() {
                values.insert(name.trim().to_ascii_lowercase(), value);
            }
        }
        let three = text.split(',').count() == 3;
        let value = |name: &str| values.get(name).copied().filter(|_| three).unwrap_or(0);
        Self::declared(value("ncr"), value("ed"), value("et")).ok_or_else(|| Error::UnknownName {
            kind: "label scheme",
            known: "brats2017, brats2023, msd, or three different values above 0 as in ncr=1,ed=2,et=3",
            found: text.to_string(),
        })
    }
}
