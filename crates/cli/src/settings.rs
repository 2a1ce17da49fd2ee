//! From `--preset`, `--config` and `--set` to the values in force.

use anyhow::Result;
use candle_core::Device;
use scribseg_pipeline::{Config, Precision, Resolved};

use crate::arguments::{Mixed, PresetName, Settings};
use crate::outcome::Usage;

impl Settings {
    /// The file's values (else the preset's), then each `--set` in order, and where each came from.
    pub(crate) fn resolve(&self, preset: PresetName) -> Result<Resolved> {
        let mut resolved = match &self.config {
            Some(path) => Resolved::file(path)?,
            None => Resolved::preset(preset.into())?,
        };
        resolved.set_all(&self.set).map_err(|e| Usage(format!("--set: {e}")))?;
        Ok(resolved)
    }

    /// The values alone.
    pub(crate) fn config(&self, preset: PresetName) -> Result<Config> {
        Ok(self.resolve(preset)?.config)
    }
}

/// Lays `--set` over a configuration, all of them at once; what is wrong there is bad usage.
pub(crate) fn set(config: &mut Config, assignments: &[String]) -> Result<()> {
    Ok(config.set_all(assignments).map_err(|e| Usage(format!("--set: {e}")))?)
}

/// What `--precision` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The faster one on the device.
    Auto,
    This(Precision),
}

impl std::str::FromStr for Asked {
    type Err = <Precision as std::str::FromStr>::Err;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        if name == "auto" { Ok(Self::Auto) } else { name.parse().map(Self::This) }
    }
}

/// `--precision` is short for a setting, so that a run's configuration says what it was computed in.
pub(crate) fn set_precision(config: &mut Config, asked: Option<Asked>, device: &Device) -> Result<()> {
    let assignment = asked.map(|asked| {
        let precision = match asked {
            Asked::Auto => Precision::auto_on(device),
            Asked::This(precision) => precision,
        };
        format!("network.precision={precision}")
    });
    set(config, assignment.as_slice())
}

/// `--folds` is short for a setting, so that a run is taken up again with the folds it was begun with.
pub(crate) fn set_folds(config: &mut Config, folds: Option<u64>) -> Result<()> {
    let assignment = folds.map(|folds| format!("input.folds={folds}"));
    set(config, assignment.as_slice())
}

/// `--mixed` and `--masks` over what the settings say.
pub(crate) fn set_mixed(config: &mut Config, mixed: &Mixed) -> Result<()> {
    let asked = (mixed.mixed || mixed.masks.is_some()).then(|| "input.mixed=true".to_owned());
    set(config, asked.as_slice())
}

/// What `--set` declares of scans that are to be segmented; their networks bring all other settings with them.
pub(crate) fn declared(assignments: &[String]) -> Result<scribseg_io::Declared> {
    const KEYS: [&str; 3] = ["input.layout", "input.label_scheme", "input.channels"];
    let other = assignments.iter().find(|text| !KEYS.contains(&text.split('=').next().unwrap_or("").trim()));
    if let Some(other) = other {
        let known = KEYS.join(", ");
        return Err(Usage(format!("--set {other}: expected one of {known}; a model brings all else")).into());
    }
    let mut config = Config::default();
    set(&mut config, assignments)?;
    Ok(scribseg_pipeline::declared(&config)?)
}
