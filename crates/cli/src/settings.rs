//! From `--preset`, `--config` and `--set` to the values in force.

use std::path::Path;

use anyhow::{Context, Result};
use scribseg_pipeline::{Config, Precision};

use crate::arguments::{PresetName, Settings};
use crate::outcome::Usage;

impl Settings {
    /// The file's values (else the preset's), then each `--set` in order.
    pub(crate) fn config(&self, preset: PresetName) -> Result<Config> {
        let mut config = match &self.config {
            Some(path) => read(path)?,
            None => Config::preset(preset.into())?,
        };
        set(&mut config, &self.set)?;
        Ok(config)
    }
}

/// Lays `--set` over a configuration, all of them at once; what is wrong there is bad usage.
pub(crate) fn set(config: &mut Config, assignments: &[String]) -> Result<()> {
    Ok(config.set_all(assignments).map_err(|e| Usage(format!("--set: {e}")))?)
}

/// `--precision` is short for a setting, so that a run's configuration says what it was computed in.
pub(crate) fn set_precision(config: &mut Config, precision: Option<Precision>) -> Result<()> {
    let assignment = precision.map(|precision| format!("network.precision={precision}"));
    set(config, assignment.as_slice())
}

/// `--folds` is short for a setting, so that a run is taken up again with the folds it was begun with.
pub(crate) fn set_folds(config: &mut Config, folds: Option<u64>) -> Result<()> {
    let assignment = folds.map(|folds| format!("input.folds={folds}"));
    set(config, assignment.as_slice())
}

fn read(path: &Path) -> Result<Config> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{}: expected a readable TOML file", path.display()))?;
    Config::from_toml(&text).with_context(|| path.display().to_string())
}
