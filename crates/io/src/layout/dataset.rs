//! What `dataset.json` of the Decathlon and of nnU-Net declares: which channel holds which modality, and what label values
//! mean. By names, from lists; a name that is on none of them is asked about, not interpreted.

use crate::cohort::MODALITIES;
use crate::error::{Error, Result};
use crate::labels::LabelScheme;
use crate::scribbles::plain;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The names by which T1, T1ce, T2 and FLAIR are known, in the form of [`plain`].
const CHANNELS: [&[&str]; 4] = [
    &["t1", "t1w", "t1n", "t1weighted", "t1native", "t1pre"],
    &["t1ce", "t1c", "t1gd", "t1wce", "t1cew", "t1wgd", "t1gdw", "t1post", "t1contrast", "t1km", "t1wc"],
    &["t2", "t2w", "t2weighted"],
    &["flair", "flairw", "t2f", "t2flair", "t2wflair", "fla"],
];

/// The names of NCR/NET, ED and ET, in the form of [`plain`].
const SUBSTRUCTURES: [&[&str]; 3] = [
    &[
        "ncr",
        "net",
        "ncrnet",
        "necrosis",
        "necrotic",
        "necroticcore",
        "necrotictumor",
        "necrotictumorcore",
        "nonenhancing",
        "nonenhancingtumor",
        "nonenhancingtumorcore",
        "necroticandnonenhancing",
        "necroticandnonenhancingtumor",
        "necroticandnonenhancingtumorcore",
        "necroticnonenhancingtumorcore",
    ],
    &[
        "ed",
        "edema",
        "peritumoraledema",
        "peritumoraledematoustissue",
        "snfh",
        "surroundingnonenhancingflairhyperintensity",
    ],
    &["et", "enhancing", "enhancingtumor", "gdenhancingtumor", "enhancingtumorcore"],
];

/// The names of whole tumour and tumour core, in the form of [`plain`]: regions of several values.
const REGIONS: [&[&str]; 2] = [&["wt", "wholetumor", "whole"], &["tc", "tumorcore", "core"]];

/// Which channel of a case (file `_000N`, or 3-D image N of a 4-D file) holds which modality.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels {
    place: [usize; 4],
    count: usize,
}

impl Channels {
    /// The channels of MSD Task01: FLAIR, T1w, t1gd, T2w.
    pub const MSD: Self = Self { place: [1, 2, 3, 0], count: 4 };

    /// The order that `names` give, one a channel: `t1`, `t1ce`, `t2` and `flair` once each, and `other` for a channel that
    /// is not used.
    ///
    /// # Errors
    /// [`Error::UnknownName`].
    pub fn declared(names: &[impl AsRef<str>]) -> Result<Self> {
        let find = |modality: &str| {
            let mut at = names.iter().enumerate().filter(|(_, name)| name.as_ref() == modality);
            at.next().filter(|_| at.next().is_none()).map(|(n, _)| n)
        };
        let known = names.iter().all(|name| name.as_ref() == "other" || MODALITIES.contains(&name.as_ref()));
        let [a, b, c, d] = MODALITIES.map(find);
        match (a, b, c, d) {
            (Some(a), Some(b), Some(c), Some(d)) if known => {
                Ok(Self { place: [a, b, c, d], count: names.len() })
            }
            _ => Err(Error::UnknownName {
                kind: "channel order",
                known: "t1, t1ce, t2 and flair, each once, and other for channels that are not used",
                found: names.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// The channels that hold T1, T1ce, T2 and FLAIR.
    pub fn place(self) -> [usize; 4] {
        self.place
    }

    /// How many channels a case has.
    pub fn count(self) -> usize {
        self.count
    }

    /// The names that [`Channels::declared`] takes.
    pub fn names(self) -> Vec<&'static str> {
        let name =
            |n| MODALITIES.iter().zip(self.place).find(|&(_, at)| at == n).map_or("other", |(name, _)| *name);
        (0..self.count).map(name).collect()
    }

    /// In words: `0 flair, 1 t1, 2 t1ce, 3 t2`.
    pub fn describe(self) -> String {
        let names = self.names();
        names.iter().enumerate().map(|(n, name)| format!("{n} {name}")).collect::<Vec<_>>().join(", ")
    }
}

/// What to say when the order of channels is not known.
pub(crate) const DECLARE_CHANNELS: &str = "declare the order: `--set 'input.channels=[\"flair\",\"t1\",\"t1ce\",\"t2\"]'` (in a configuration, `channels` under `[input]`), first channel first, `other` for one that is not used";

/// What to say when the meaning of labels is not known.
pub(crate) const DECLARE_LABELS: &str = "declare what the values mean: `--set input.label_scheme=…` (in a configuration, `label_scheme` under `[input]`) with brats2017, brats2023, msd, or values as in `ncr=1,ed=2,et=3`";

/// A `dataset.json` as it was found.
pub(crate) struct Dataset {
    pub(crate) path: PathBuf,
    json: Map<String, Value>,
}

impl Dataset {
    /// The one in `folder`, if there is one.
    pub(crate) fn find(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join("dataset.json");
        if !path.is_file() {
            return Ok(None);
        }
        let text =
            std::fs::read_to_string(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        match serde_json::from_str(text.trim_start_matches('\u{feff}')) {
            Ok(Value::Object(json)) => Ok(Some(Self { path, json })),
            Ok(_) => Err(declaration(&path, "a JSON object", "another JSON value", "mend or remove it")),
            Err(e) => Err(declaration(&path, "JSON", &e.to_string(), "mend or remove it")),
        }
    }

    /// The order of channels, and the key that says so.
    pub(crate) fn channels(&self) -> Result<(Channels, &'static str)> {
        let Some((key, value)) =
            ["channel_names", "modality"].iter().find_map(|&key| Some((key, self.json.get(key)?)))
        else {
            let found = "neither";
            return Err(self.unknown("`channel_names` or `modality`", found, DECLARE_CHANNELS));
        };
        let texts = |values: Vec<(usize, &Value)>| -> Option<BTreeMap<usize, String>> {
            values.into_iter().map(|(n, value)| Some((n, value.as_str()?.to_string()))).collect()
        };
        let by_number = match value {
            Value::Array(names) => texts(names.iter().enumerate().collect()),
            Value::Object(names) => names
                .iter()
                .map(|(n, name)| Some((n.trim().parse().ok()?, name)))
                .collect::<Option<Vec<_>>>()
                .and_then(texts),
            _ => None,
        };
        let names: Vec<String> = match by_number {
            Some(names) if names.keys().copied().eq(0..names.len()) => names.into_values().collect(),
            _ => {
                let expected = format!("`{key}` with a name for each channel from 0 on");
                return Err(self.unknown(&expected, &value.to_string(), DECLARE_CHANNELS));
            }
        };
        let modality = |name: &String| {
            let name = plain(name);
            CHANNELS
                .iter()
                .position(|known| known.contains(&name.as_str()))
                .and_then(|n| MODALITIES.get(n))
                .copied()
        };
        let order: Vec<&str> = names.iter().map(|name| modality(name).unwrap_or("other")).collect();
        let channels = Channels::declared(&order).map_err(|_| {
            let unknown = names.iter().filter(|name| modality(name).is_none());
            let unknown: Vec<String> = unknown.map(|name| format!("{name:?}")).collect();
            let mut found = format!("{names:?}");
            if !unknown.is_empty() {
                found += &format!(", of which {} is no name known", unknown.join(" and "));
            }
            self.unknown(&format!("T1, T1ce, T2 and FLAIR once each in `{key}`"), &found, DECLARE_CHANNELS)
        })?;
        Ok((channels, key))
    }

    /// What the values of its labels mean.
    pub(crate) fn scheme(&self) -> Result<LabelScheme> {
        let expected = "the names of NCR/NET, ED and ET, or the regions whole tumour, tumour core and enhancing tumour, in `labels`";
        let wrong = |found: &str| self.unknown(expected, found, DECLARE_LABELS);
        let Some(Value::Object(labels)) = self.json.get("labels") else {
            return Err(wrong("no labels"));
        };
        let mut named: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
        for (key, value) in labels {
            let whole = |value: &Value| value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
            // nnU-Net: from name to value or values. The Decathlon: from value to name.
            let (name, values) = match (value, key.trim().parse::<i64>()) {
                (Value::String(name), Ok(number)) => (name, Some(BTreeSet::from([number]))),
                (Value::Array(values), _) => (key, values.iter().map(whole).collect()),
                (value, _) => (key, whole(value).map(|value| BTreeSet::from([value]))),
            };
            let Some(values) = values.filter(|values| !values.is_empty()) else {
                return Err(wrong(&format!("{key:?}: {value}")));
            };
            if named.insert(plain(name), values).is_some() {
                return Err(wrong(&format!("{name:?} twice")));
            }
        }
        let said = Value::Object(labels.clone()).to_string();
        let take =
            |known: &[&str], named: &mut BTreeMap<String, BTreeSet<i64>>| -> Result<Option<BTreeSet<i64>>> {
                let mut found: Vec<BTreeSet<i64>> = Vec::new();
                named.retain(|name, values| {
                    let is_it = known.contains(&name.as_str());
                    if is_it {
                        found.push(std::mem::take(values));
                    }
                    !is_it
                });
                if found.len() > 1 { Err(wrong(&said)) } else { Ok(found.pop()) }
            };
        let background = named.remove("background");
        if background.is_some_and(|values| values != BTreeSet::from([0])) {
            return Err(wrong(&said));
        }
        let [ncr, ed, et] = SUBSTRUCTURES;
        let (ncr, ed, et) = (take(ncr, &mut named)?, take(ed, &mut named)?, take(et, &mut named)?);
        let [wt, tc] = REGIONS;
        let (wt, tc) = (take(wt, &mut named)?, take(tc, &mut named)?);
        if let Some(name) = named.keys().next() {
            return Err(wrong(&format!("{said}, of which {name:?} is no name known")));
        }
        let parts = match (ncr, ed, et, wt, tc) {
            (Some(ncr), Some(ed), Some(et), None, None) => [ncr, ed, et],
            // Regions contain each other: what is left of one without the next is one sub-structure.
            (None, None, Some(et), Some(wt), Some(tc)) if et.is_subset(&tc) && tc.is_subset(&wt) => {
                [&tc - &et, &wt - &tc, et]
            }
            _ => return Err(wrong(&said)),
        };
        // 0 is no label, and refused.
        let one = |values: &BTreeSet<i64>| match (values.len(), values.first()) {
            (1, Some(&value)) => u8::try_from(value).unwrap_or(0),
            _ => 0,
        };
        let [ncr, ed, et] = [one(&parts[0]), one(&parts[1]), one(&parts[2])];
        LabelScheme::declared(ncr, ed, et).ok_or_else(|| wrong(&said))
    }

    pub(crate) fn unknown(&self, expected: &str, found: &str, hint: &str) -> Error {
        declaration(&self.path, expected, found, hint)
    }
}

/// An error about something that has to be declared.
pub(crate) fn declaration(path: &Path, expected: &str, found: &str, hint: &str) -> Error {
    Error::Declaration {
        path: path.to_path_buf(),
        expected: expected.to_string(),
        found: found.to_string(),
        hint: hint.to_string(),
    }
}
