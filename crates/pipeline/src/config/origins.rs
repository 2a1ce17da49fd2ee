//! Where each value in force came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use scribseg_io::Cohort;
use toml::Value;

use super::keys::Key;
use super::{Config, Preset, assigned};
use crate::error::{Error, Result};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody said anything: the paper's value, or ours where it is silent.
    Default,
    /// The preset's file.
    Preset(Preset),
    /// A file of the user's.
    File(PathBuf),
    /// `--set`.
    Set,
    /// The cohort, for the reason given.
    Derived(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Preset(preset) => write!(f, "preset {}", preset.name()),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Set => f.write_str("--set"),
            Self::Derived(why) => write!(f, "derived: {why}"),
        }
    }
}

/// A configuration, and where its values came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// Every value in force.
    pub config: Config,
    /// Of what is no default.
    origins: BTreeMap<String, Origin>,
}

impl Resolved {
    /// A preset's values.
    ///
    /// # Errors
    /// As [`Config::preset`].
    pub fn preset(preset: Preset) -> Result<Self> {
        Self::layer(Config::preset(preset)?, preset.toml(), &Origin::Preset(preset))
    }

    /// The values of a TOML file over the defaults.
    ///
    /// # Errors
    /// [`Error::Config`] names the file and what is wrong in it.
    pub fn file(path: &Path) -> Result<Self> {
        let at_fault = |problem: &dyn fmt::Display| Error::Config(format!("{}: {problem}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| {
            at_fault(&format!("expected a TOML file, as `scribseg config show` prints one, found: {e}"))
        })?;
        let config = Config::from_toml(&text).map_err(|e| match e {
            Error::Config(problem) => at_fault(&problem),
            other => other,
        })?;
        Self::layer(config, &text, &Origin::File(path.to_owned()))
    }

    fn layer(config: Config, text: &str, origin: &Origin) -> Result<Self> {
        let table = text.parse().map_err(|e: toml::de::Error| Error::Config(e.to_string()))?;
        let mut resolved = Self { config, origins: BTreeMap::new() };
        resolved.note(&table, "", origin);
        Ok(resolved)
    }

    /// As [`Config::set_all`].
    ///
    /// # Errors
    /// As [`Config::set_all`].
    pub fn set_all(&mut self, assignments: &[impl AsRef<str>]) -> Result<()> {
        self.config.set_all(assignments)?;
        for assignment in assignments {
            self.note(&assigned(assignment.as_ref())?, "", &Origin::Set);
        }
        Ok(())
    }

    /// What a cohort says of itself, in place of what was left to it.
    pub fn settle(&mut self, cohort: &Cohort) {
        let settled = crate::cohorts::settled(&self.config, cohort);
        let keys = ["input.layout", "input.label_scheme", "input.channels"];
        for (key, why) in Config::keys().iter().filter_map(|key| {
            let at = keys.iter().position(|name| *name == key.name)?;
            Some((key, &cohort.why[at]))
        }) {
            if key.value(&self.config) != key.value(&settled) {
                self.origins.insert(key.name.clone(), Origin::Derived(why.to_string()));
            }
        }
        self.config = settled;
    }

    /// Every key with its value and where that came from.
    pub fn values(&self) -> Vec<(Key, Value, Origin)> {
        let of = |key: Key| {
            let value = key.value(&self.config)?;
            let origin = self.origins.get(&key.name).cloned().unwrap_or(Origin::Default);
            Some((key, value, origin))
        };
        Config::keys().into_iter().filter_map(of).collect()
    }

    fn note(&mut self, table: &toml::Table, path: &str, origin: &Origin) {
        for (name, value) in table {
            let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match value {
                Value::Table(inner) => self.note(inner, &key, origin),
                _ => drop(self.origins.insert(key, origin.clone())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_who_spoke_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        std::fs::write(&path, "[train]\nbatch = 3\nmomentum = 0.5\n").unwrap();
        let mut resolved = Resolved::file(&path).unwrap();
        resolved.set_all(&["train.momentum=0.6", "sub={lambda=0.3, iterations=4}"]).unwrap();
        let origin = |name: &str| {
            let values = resolved.values();
            let (_, value, origin) = values.into_iter().find(|(key, ..)| key.name == name).unwrap();
            (value.to_string(), origin)
        };
        assert_eq!(origin("train.batch"), ("3".into(), Origin::File(path.clone())));
        assert_eq!(origin("train.momentum"), ("0.6".into(), Origin::Set));
        assert_eq!(origin("sub.lambda"), ("0.3".into(), Origin::Set));
        assert_eq!(origin("wt.lambda"), ("0.8".into(), Origin::Default));
        let smoke = Resolved::preset(Preset::Smoke).unwrap();
        assert_eq!(smoke.values().iter().filter(|(.., o)| *o == Origin::Preset(Preset::Smoke)).count(), 16);
        std::fs::write(&path, "[train]\nbatsh = 3\n").unwrap();
        let message = Resolved::file(&path).unwrap_err().to_string();
        assert!(message.contains("mine.toml") && message.contains("did you mean `train.batch`"), "{message}");
    }
}
