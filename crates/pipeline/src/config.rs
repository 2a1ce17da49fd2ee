//! Every value that steers a run: the paper's where it gives one, DESIGN's where it is silent.

use std::collections::BTreeMap;

use scribseg_io::{Channels, LabelScheme, Layout, ScribbleMapping};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use keys::Expected::{Number, OneOf, Section, Switch, Whole, Words};
use keys::Field;

pub(crate) mod keys;
pub(crate) mod origins;

/// `input.layout`: recognised from names.
pub(crate) const FROM_NAMES: &str = "auto";

/// `input.label_scheme`: what the layout, or its `dataset.json`, declares.
pub(crate) const BY_LAYOUT: &str = "layout";

/// The three settings that come with the program (`data/presets/*.toml`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// All rows in minutes: shows that everything runs, proves nothing about figures.
    Smoke,
    /// The default of `reproduce`: a synthetic cohort, sized for two CPU cores.
    Phantom,
    /// The paper's own settings, for BraTS 2017.
    Paper,
}

impl Preset {
    /// All presets, smallest first.
    pub const ALL: [Self; 3] = [Self::Smoke, Self::Phantom, Self::Paper];

    /// The name used on the command line and in `table1.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Phantom => "phantom",
            Self::Paper => "paper",
        }
    }

    /// The preset's TOML text as shipped.
    pub fn toml(self) -> &'static str {
        match self {
            Self::Smoke => include_str!("../../../data/presets/smoke.toml"),
            Self::Phantom => include_str!("../../../data/presets/phantom.toml"),
            Self::Paper => include_str!("../../../data/presets/paper.toml"),
        }
    }
}

impl std::str::FromStr for Preset {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|p| p.name() == s).ok_or_else(|| {
            Error::Config(format!("preset `{s}` does not exist; expected smoke, phantom or paper"))
        })
    }
}

/// A part of the configuration. Its fields' comments, defaults and what is expected of each are said here and nowhere else: `config show`,
/// the page of the guide and the errors are made from them.
macro_rules! section {
    ($(#[doc = $about:literal])* $name:ident {
        $($(#[doc = $doc:literal])* $field:ident : $ty:ty = $default:expr => $expected:expr),* $(,)?
    }) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $($(#[doc = $doc])* pub $field: $ty),* }
        impl Default for $name {
            fn default() -> Self { Self { $($field: $default),* } }
        }
        impl $name {
            const FIELDS: &'static [Field] =
                &[$(Field { name: stringify!($field), about: &[$($doc),*], expected: $expected }),*];
        }
    };
}

section! {
    /// Every value in force; the defaults are the paper's.
    Config {
        /// Seed of everything random: split, scribbles, initial weights, batches.
        seed: u64 = 0 => Whole(0, i64::MAX),
        /// What is read and how it is cut.
        input: Input = Input::default() => Section(Input::FIELDS),
        /// The synthetic cohort of `reproduce` without `--cohort`.
        phantom: PhantomCohort = PhantomCohort::default() => Section(PhantomCohort::FIELDS),
        /// Simulated scribbles.
        scribble: Scribble = Scribble::default() => Section(Scribble::FIELDS),
        /// Scribbles to weak masks.
        graphcut: GraphCut = GraphCut::default() => Section(GraphCut::FIELDS),
        /// The U-Net.
        network: Network = Network::default() => Section(Network::FIELDS),
        /// What both phases' training has in common.
        train: Train = Train::default() => Section(Train::FIELDS),
        /// Phase 1, Unet-WT.
        wt: Phase = Phase { lambda: 0.8, ..Phase::default() } => Section(Phase::FIELDS),
        /// Phase 2, Unet-sub.
        sub: Phase = Phase { lambda: 0.2, ..Phase::default() } => Section(Phase::FIELDS),
        /// The dense CRF loss.
        crf: Crf = Crf::default() => Section(Crf::FIELDS),
        /// Sub-structures from the whole tumour.
        cluster: Cluster = Cluster::default() => Section(Cluster::FIELDS),
        /// Figures and their policies.
        evaluate: Evaluate = Evaluate::default() => Section(Evaluate::FIELDS),
    }
}

section! {
    /// What is read and how it is cut.
    Input {
        /// Side of the axial centre crop in mm (the paper: 192 px at 1 mm).
        crop_mm: f64 = 192.0 => Number(16.0, 1024.0),
        /// Part of the cohort that trains; the paper: 228 of 285.
        train_fraction: f64 = 0.8 => Number(0.01, 0.99),
        /// Folds of a cross-validation (`fit --folds`), each held out once, instead of `train_fraction`; 0: one split.
        folds: usize = 0 => Words("0 (one split) or 2 to 100"),
        /// How the cohort is laid out: `brats2017`, `brats2023`, `msd`, `nnunet`, or `auto`: as its file names say.
        layout: String = FROM_NAMES.to_owned() => Words("`auto` or the name of a layout"),
        /// The scheme of label files: `brats2017` (1 NCR/NET, 2 ED, 4 ET), `brats2023` (1, 2, 3), `msd` (2, 1, 3), values as in `ncr=1,ed=2,et=3`, or
        /// `layout`: as the layout or its `dataset.json` declares. Never inferred from values.
        label_scheme: String = BY_LAYOUT.to_owned() => Words("`layout`, the name of a scheme, or values"),
        /// The modality of each channel in the layouts `msd` and `nnunet`, as in `["flair", "t1", "t1ce", "t2"]`; `other` is not used. Empty: as `dataset.json` declares.
        channels: Vec<String> = Vec::new() => Words("a list of modalities"),
        /// Whether each scan trains on what there is of it: a mask, scribbles, presence alone (`fit --mixed`).
        mixed: bool = false => Switch,
        /// The cases that do not train, instead of a random choice by `train_fraction`; each needs a reference.
        held_out: Vec<String> = Vec::new() => Words("a list of cases"),
        /// The values of scribble files.
        scribble_values: ScribbleValues = ScribbleValues::default() => Section(ScribbleValues::FIELDS),
        /// The values of masks to train on (a folder after `fit --masks`) beside those of the label scheme.
        mask_values: MaskValues = MaskValues::default() => Section(MaskValues::FIELDS),
    }
}

section! {
    /// What the values of masks mean beside the label scheme's, which they go before.
    MaskValues {
        /// Not labelled: such voxels do not train.
        unknown: Vec<i64> = Vec::new() => Words("a list of whole numbers"),
        /// Tumour of a sub-structure that the mask does not tell.
        tumour: Vec<i64> = Vec::new() => Words("a list of whole numbers"),
    }
}

section! {
    /// What the values of scribble files mean; any other is refused. Annotation tools export values of their own.
    ScribbleValues {
        /// Not labelled.
        unknown: Vec<i64> = vec![0] => Words("a list of whole numbers"),
        /// On the tumour.
        tumour: Vec<i64> = vec![1] => Words("a list of whole numbers, at least one"),
        /// On healthy tissue.
        healthy: Vec<i64> = vec![2] => Words("a list of whole numbers, at least one"),
    }
}

impl ScribbleValues {
    /// The same as a mapping of values.
    ///
    /// # Errors
    /// [`Error::Config`] when a value means two things, or the tumour or healthy tissue has none.
    pub fn mapping(&self) -> Result<ScribbleMapping> {
        let mut map = BTreeMap::new();
        for (code, name, values) in
            [(0, "unknown", &self.unknown), (1, "tumour", &self.tumour), (2, "healthy", &self.healthy)]
        {
            let key = format!("key `input.scribble_values.{name}`");
            if values.is_empty() && code != 0 {
                return Err(Error::Config(format!("{key}: expected at least one value, found none")));
            }
            for value in values {
                if map.insert(*value, code).is_some() {
                    return Err(Error::Config(format!(
                        "{key}: expected every value once, found {value} again"
                    )));
                }
            }
        }
        ScribbleMapping::try_from(map).map_err(|e| Error::Config(e.to_string()))
    }
}

section! {
    /// The synthetic cohort of `reproduce` without `--cohort`.
    PhantomCohort {
        /// Number of scans.
        cases: usize = 40 => Whole(2, 100_000),
        /// `full` (1 mm) or `half` (2 mm).
        size: String = "half".to_owned() => OneOf(&["full", "half"]),
        /// Seed of the cohort, apart from the run's seed so that seeds can be compared on one cohort.
        seed: u64 = 2019 => Whole(0, i64::MAX),
    }
}

section! {
    /// Simulated scribbles; lengths in mm (px at 1 mm in the paper).
    Scribble {
        /// Width of the drawn curve.
        width_mm: f64 = 3.0 => Number(0.1, 50.0),
        /// Largest shift in x and in y.
        shift_mm: f64 = 20.0 => Number(0.0, 200.0),
        /// Largest rotation, degrees.
        rotation_deg: f64 = 30.0 => Number(0.0, 180.0),
        /// Box that erodes the whole tumour before the skeleton.
        erode_tumour_mm: f64 = 3.0 => Number(0.0, 100.0),
        /// Box that erodes the healthy brain before the skeleton.
        erode_healthy_mm: f64 = 30.0 => Number(0.0, 200.0),
    }
}

section! {
    /// Supervoxel graph cut.
    GraphCut {
        /// Channels that the supervoxels look at, of t1, t1ce, t2, flair.
        supervoxel_channels: Vec<String> = vec!["flair".to_owned()] => Words("one to four modalities, each once"),
        /// Channels of the intensity models, one to three.
        model_channels: Vec<String> = vec!["t2".to_owned(), "flair".to_owned()] => Words("one to three modalities, each once"),
    }
}

section! {
    /// The U-Net.
    Network {
        /// Channels of the first level; doubled at each pooling.
        width: usize = 64 => Whole(1, 1024),
        /// Number of poolings.
        depth: usize = 4 => Whole(1, 6),
        /// What the convolutions multiply, in training and prediction: `f32` or `bf16` (sums, statistics and weights are `f32` in both).
        precision: String = "f32".to_owned() => OneOf(&["f32", "bf16"]),
    }
}

section! {
    /// What both phases' training has in common.
    Train {
        /// Slices in a batch.
        batch: usize = 32 => Whole(1, 4096),
        /// Learning rate at the start of each part, falling linearly to 0.
        learning_rate: f64 = 0.011 => Number(1e-12, 10.0),
        /// Momentum of SGD.
        momentum: f64 = 0.9 => Number(0.0, 0.9999),
        /// Weight decay of SGD.
        weight_decay: f64 = 0.0 => Number(0.0, 1.0),
        /// Weight of the soft Dice loss beside cross-entropy where reference masks train (the rows Full); 0 leaves it out.
        full_dice: f64 = 0.0 => Number(0.0, 1e3),
        /// Part of each batch drawn from slices with tumour labels; 0 draws all labelled slices alike.
        tumour_fraction: f64 = 0.0 => Number(0.0, 1.0),
        /// Iterations between checkpoints.
        checkpoint_every: usize = 500 => Whole(1, 1_000_000_000),
    }
}

section! {
    /// One phase's schedule.
    Phase {
        /// Iterations on partial cross-entropy alone.
        iterations: usize = 10_000 => Whole(1, 1_000_000_000),
        /// Iterations with the CRF loss added.
        crf_iterations: usize = 20_000 => Whole(1, 1_000_000_000),
        /// Weight of the weak masks G in eq. 1.
        lambda: f64 = 0.8 => Number(0.0, 1e3),
    }
}

section! {
    /// The dense CRF loss, eq. 2.
    Crf {
        /// Weight of the pair sum, taken over mm² (at 1 mm: over pixels, as in the paper).
        alpha: f64 = 1e-8 => Number(0.0, 1.0),
        /// Position bandwidth in mm (the paper: 100 px at 1 mm).
        sigma_xy_mm: f64 = 100.0 => Number(1e-3, 1e6),
        /// Intensity bandwidth on the 0–255 scale.
        sigma_intensity: f64 = 15.0 => Number(1e-3, 1e6),
        /// Pixels that take part: `brain` or `all`.
        roi: String = "brain".to_owned() => OneOf(&["brain", "all"]),
        /// `lattice`, `lattice-hq` (closer to the exact sum, with its mass) or `exact`.
        kernel: String = "lattice".to_owned() => OneOf(&["lattice", "lattice-hq", "exact"]),
        /// Strength of the mean-field smoothing of `predict --crf`, per unit of normalised kernel.
        mean_field_weight: f64 = 4.0 => Number(0.0, 1e3),
        /// Iterations of the mean-field smoothing of `predict --crf`.
        mean_field_iterations: usize = 5 => Whole(1, 1000),
        /// Upper bound of the lattice cache in MiB.
        cache_mib: usize = 2048 => Whole(0, 10_000_000),
    }
}

section! {
    /// Sub-structures from the whole tumour.
    Cluster {
        /// `kmeans`, as in the paper, or `mixture`, which starts from what phantoms tell of gliomas. For `fit` and `cluster`: rows of Table 1 have their own.
        method: String = "kmeans".to_owned() => OneOf(scribseg_cluster::METHODS),
        /// Seeded restarts of `kmeans`; the lowest inertia is kept.
        restarts: usize = 10 => Whole(1, 10_000),
    }
}

section! {
    /// Figures and their policies.
    Evaluate {
        /// `brats` (both empty 1, one empty 0) or `skip`.
        empty: String = "brats".to_owned() => OneOf(&["brats", "skip"]),
        /// Whether tables carry wall-clock seconds; without them two runs' tables are the same bytes.
        seconds: bool = true => Switch,
    }
}

impl Config {
    /// A preset's values.
    ///
    /// # Errors
    /// [`Error::Config`] if the shipped file were at fault; a test holds that it is not.
    pub fn preset(preset: Preset) -> Result<Self> {
        Self::from_toml(preset.toml())
    }

    /// Reads a TOML text; what it leaves out keeps its default.
    ///
    /// # Errors
    /// [`Error::Config`] names the key, what was expected and what was found.
    pub fn from_toml(text: &str) -> Result<Self> {
        let at_fault = |e: &dyn std::fmt::Display| Error::Config(e.to_string().trim_end().to_owned());
        let given: toml::Table = text.parse().map_err(|e: toml::de::Error| at_fault(&e))?;
        let mut table: toml::Table = toml::from_str(&Self::default().to_toml()).map_err(|e| at_fault(&e))?;
        merge(&mut table, given, "")?;
        let config: Self = table.try_into().map_err(|e: toml::de::Error| at_fault(&e))?;
        config.validate()?;
        Ok(config)
    }

    /// Every value in force as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    /// Sets one value, as in `train.batch=8`; strings need no quotes.
    ///
    /// # Errors
    /// [`Error::Config`] for a key that does not exist, a value of another type or out of range.
    pub fn set(&mut self, assignment: &str) -> Result<()> {
        self.set_all(&[assignment])
    }

    /// Sets several values; ranges are looked at when all are set, so that their order does not matter.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_all(&mut self, assignments: &[impl AsRef<str>]) -> Result<()> {
        let mut config = self.clone();
        for assignment in assignments {
            config = config.with(assignment.as_ref())?;
        }
        config.validate()?;
        *self = config;
        Ok(())
    }

    /// One value laid over, its range not yet looked at.
    fn with(&self, assignment: &str) -> Result<Self> {
        let mut table: toml::Table =
            toml::from_str(&self.to_toml()).map_err(|e| Error::Config(e.to_string()))?;
        merge(&mut table, assigned(assignment)?, "")?;
        table.try_into().map_err(|e: toml::de::Error| {
            Error::Config(format!("`{assignment}`: {}", e.to_string().trim_end().replace('\n', " ")))
        })
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] names the key, the range and the value found.
    pub fn validate(&self) -> Result<()> {
        let table: toml::Table = self.to_toml().parse().map_err(|e| Error::Config(format!("{e}")))?;
        keys::check(&table, Self::FIELDS, "")?;
        if self.input.folds == 1 || self.input.folds > 100 {
            let found = self.input.folds;
            return Err(Error::Config(format!(
                "key `input.folds`: expected 0 (one split) or 2 to 100, found {found}"
            )));
        }
        let named = |key: &str, known: scribseg_io::Result<()>, or: &str| {
            known.map_err(|e| {
                Error::Config(format!("key `{key}`: expected {or}{}, found {}", e.expected(), e.found()))
            })
        };
        let Input { layout, label_scheme, channels, .. } = &self.input;
        if layout != FROM_NAMES {
            named("input.layout", layout.parse::<Layout>().map(drop), "`auto`, or ")?;
        }
        if label_scheme != BY_LAYOUT {
            named("input.label_scheme", label_scheme.parse::<LabelScheme>().map(drop), "`layout`, or ")?;
        }
        if !channels.is_empty() {
            named("input.channels", Channels::declared(channels).map(drop), "")?;
        }
        self.input.scribble_values.mapping()?;
        let MaskValues { unknown, tumour } = &self.input.mask_values;
        if let Some(value) = unknown.iter().find(|value| tumour.contains(value)) {
            return Err(Error::Config(format!(
                "key `input.mask_values.tumour`: expected values that do not mean unknown, found {value}"
            )));
        }
        if self.input.folds > 0 && (self.input.mixed || !self.input.held_out.is_empty()) {
            return Err(Error::Config(
                "key `input.folds`: expected 0 beside `input.mixed` or `input.held_out`, which make one split".into(),
            ));
        }
        let named = [
            ("graphcut.supervoxel_channels", &self.graphcut.supervoxel_channels, 4),
            ("graphcut.model_channels", &self.graphcut.model_channels, 3),
        ];
        for (key, names, most) in named {
            Whole(1, most).check(&format!("{key} (how many)"), &(names.len() as i64).into())?;
            for (n, name) in names.iter().enumerate() {
                OneOf(&crate::MODALITIES).check(key, &name.as_str().into())?;
                if names[..n].contains(name) {
                    return Err(Error::Config(format!(
                        "key `{key}`: expected each channel once, found `{name}` twice"
                    )));
                }
            }
        }
        let widest = (self.network.width << self.network.depth) as i64;
        Whole(2, 4096).check("network.width · 2^network.depth", &widest.into())?;
        Ok(())
    }

    /// A fingerprint of every value in force (BLAKE3, 16 hex digits).
    pub fn hash(&self) -> String {
        blake3::hash(self.to_toml().as_bytes()).to_hex()[..16].to_owned()
    }
}

/// What an assignment, `key=value`, gives.
fn assigned(assignment: &str) -> Result<toml::Table> {
    let (key, value) = assignment
        .split_once('=')
        .ok_or_else(|| Error::Config(format!("`{assignment}`: expected key=value, as in `train.batch=8`")))?;
    let (key, value) = (key.trim(), value.trim());
    let value = format!("v = {value}")
        .parse::<toml::Table>()
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let nest = |value, name: &str| toml::Value::Table(toml::Table::from_iter([(name.to_owned(), value)]));
    match key.rsplit('.').fold(value, nest) {
        toml::Value::Table(table) => Ok(table),
        _ => Ok(toml::Table::new()),
    }
}

/// The first key below a path.
fn leaf(path: &str, value: &toml::Value) -> String {
    match value.as_table().and_then(|table| table.iter().next()) {
        Some((name, value)) => leaf(&format!("{path}.{name}"), value),
        None => path.to_owned(),
    }
}

/// Lays `given` over `base`; a key that `base` lacks is refused with the known ones beside it.
fn merge(base: &mut toml::Table, given: toml::Table, path: &str) -> Result<()> {
    for (name, value) in given {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let known = base.keys().cloned().collect::<Vec<_>>().join(", ");
        match (base.get_mut(&name), value) {
            (None, value) => {
                let meant = keys::nearest(&leaf(&key, &value))
                    .map_or_else(String::new, |k| format!("did you mean `{k}`? "));
                return Err(Error::Config(format!(
                    "key `{key}` does not exist; {meant}{} {known}",
                    if path.is_empty() {
                        "the sections are".into()
                    } else {
                        format!("`{path}` has the keys")
                    }
                )));
            }
            (Some(toml::Value::Table(inner)), toml::Value::Table(new)) => merge(inner, new, &key)?,
            (Some(slot @ toml::Value::Float(_)), toml::Value::Integer(i)) => {
                *slot = toml::Value::Float(i as f64);
            }
            (Some(slot), new) if slot.type_str() == new.type_str() => *slot = new,
            (Some(slot), new) => {
                return Err(Error::Config(format!(
                    "key `{key}`: expected a value of type {}, found `{new}` ({})",
                    slot.type_str(),
                    new.type_str()
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_parse_and_the_paper_is_the_default() {
        for preset in Preset::ALL {
            Config::preset(preset).unwrap();
        }
        let paper = Config::preset(Preset::Paper).unwrap();
        assert_eq!(paper.wt, Config::default().wt);
        assert_eq!((paper.train.batch, paper.crf.alpha, paper.sub.lambda), (32, 1e-8, 0.2));
        assert_eq!(Config::from_toml("[sub]\niterations = 5").unwrap().sub.lambda, 0.2);
    }

    #[test]
    fn toml_round_trip_keeps_every_value() {
        let config = Config::preset(Preset::Phantom).unwrap();
        assert_eq!(Config::from_toml(&config.to_toml()).unwrap(), config);
    }

    #[test]
    fn set_changes_one_value_and_names_what_is_wrong() {
        let mut config = Config::default();
        config.set("train.batch=8").unwrap();
        config.set("train.learning_rate=1").unwrap();
        config.set("crf.roi=all").unwrap();
        assert_eq!((config.train.batch, config.crf.roi.as_str()), (8, "all"));
        for (bad, word) in [
            ("train.batsh=8", "batsh"),
            ("train.batch=x", "integer"),
            ("train.batch=0", "train.batch"),
            ("train.batch", "key=value"),
            ("train.batch.x=1", "integer"),
        ] {
            let message = config.clone().set(bad).unwrap_err().to_string();
            assert!(message.contains(word), "{bad}: {message}");
        }
    }
}
