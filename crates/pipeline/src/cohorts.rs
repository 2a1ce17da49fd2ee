//! Opening a cohort as the configuration declares it, and writing into a configuration what a cohort said of itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use scribseg_io::{Channels, Cohort, Declared, LabelScheme, Layout};

use crate::config::{BY_LAYOUT, Config, FROM_NAMES};
use crate::error::{Error, Result};

/// What a configuration declares of a cohort.
///
/// # Errors
/// [`Error::Io`] when a name is not known; `Config::validate` says the same.
pub fn declared(config: &Config) -> Result<Declared> {
    let input = &config.input;
    let layout = (input.layout != FROM_NAMES).then(|| input.layout.parse::<Layout>()).transpose()?;
    let scheme =
        (input.label_scheme != BY_LAYOUT).then(|| input.label_scheme.parse::<LabelScheme>()).transpose()?;
    let channels = (!input.channels.is_empty()).then(|| Channels::declared(&input.channels)).transpose()?;
    Ok(Declared { layout, scheme, channels })
}

/// Opens a cohort as the configuration declares it.
pub(crate) fn open_cohort(path: &Path, config: &Config) -> Result<Cohort> {
    Ok(Cohort::open_as(path, &declared(config)?)?)
}

/// The configuration with what holds for this cohort in place of what was left to names and layout: so a run says what it
/// took its labels and channels for.
pub(crate) fn settled(config: &Config, cohort: &Cohort) -> Config {
    let mut config = config.clone();
    config.input.layout = cohort.layout.name().to_owned();
    config.input.label_scheme = cohort.scheme.name();
    config.input.channels = cohort
        .channels
        .map_or(Vec::new(), |channels| channels.names().into_iter().map(str::to_owned).collect());
    config
}

/// [`settled`] for a synthetic cohort, which is laid out as BraTS 2017.
pub(crate) fn settled_for_phantom(config: &Config) -> Config {
    let mut config = config.clone();
    config.input.layout = Layout::Brats2017.name().to_owned();
    if config.input.label_scheme == BY_LAYOUT {
        config.input.label_scheme = LabelScheme::Brats2017.name();
    }
    config.input.channels = Vec::new();
    config
}

/// Opens what is to be segmented. What the training cohort's labels were declared to mean holds for scans in the same layout,
/// unless a `dataset.json` of their own says it.
pub(crate) fn open_input(path: &Path, declared: &Declared, trained: &Config) -> Result<Cohort> {
    let cohort = Cohort::open_as(path, declared)?;
    let theirs = declared.scheme.is_some() || cohort.declaration.is_some();
    if theirs || cohort.layout.name() != trained.input.layout {
        return Ok(cohort);
    }
    Ok(match self::declared(trained)?.scheme {
        Some(scheme) if scheme != cohort.scheme => cohort.with_scheme(scheme),
        _ => cohort,
    })
}

/// The references of a cohort by case, and what their values mean. `None` where they are `_seg` files: in the layout of BraTS 2017,
/// and in a folder that is no cohort.
pub(crate) fn references(
    folder: &Path,
    config: &Config,
) -> Result<Option<(BTreeMap<String, PathBuf>, LabelScheme)>> {
    let cohort = match open_cohort(folder, config) {
        Ok(cohort) if cohort.layout == Layout::Brats2017 => return Ok(None),
        Ok(cohort) => cohort,
        Err(Error::Io(
            scribseg_io::Error::NoLayout { .. }
            | scribseg_io::Error::NoCases { .. }
            | scribseg_io::Error::NotAFolder { .. },
        )) => return Ok(None),
        Err(error) => return Err(error),
    };
    let found = cohort.cases.into_iter().filter_map(|case| Some((case.id, case.reference?)));
    Ok(Some((found.collect(), cohort.scheme)))
}
