//! The Medical Segmentation Decathlon's Task01 (one 4-D file a case) and nnU-Net raw data (one file a channel, `_000N`): images
//! in `imagesTr`, references in `labelsTr`, cases to predict in `imagesTs`, and a `dataset.json` that says what is what.

use super::dataset::{Channels, DECLARE_CHANNELS, DECLARE_LABELS, Dataset, declaration};
use super::{Found, Layout, channel_of, list, stem};
use crate::cohort::{Case, Declared, Meaning};
use crate::error::{Error, Result};
use crate::labels::LabelScheme;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The folders of a data set of which `root` is the whole, or one of its folders of images, or just a folder of images.
struct Folders {
    images: PathBuf,
    labels: PathBuf,
    /// Where `dataset.json` belongs.
    base: PathBuf,
}

/// The last part of a folder's name, also of one that was given as `.`.
pub(super) fn own_name(folder: &Path) -> Option<String> {
    let full = std::fs::canonicalize(folder).ok()?;
    Some(full.file_name()?.to_str()?.to_string())
}

impl Folders {
    fn of(root: &Path) -> Self {
        let within = |base: &Path, images: PathBuf, subset: &str| Self {
            images,
            labels: base.join(format!("labels{subset}")),
            base: base.to_path_buf(),
        };
        for subset in ["Tr", "Ts"] {
            let name = format!("images{subset}");
            if own_name(root).as_deref() == Some(&name) {
                let named = root.file_name().is_some_and(|last| last == name.as_str());
                let base = root.parent().filter(|_| named);
                return within(base.unwrap_or(&root.join("..")), root.to_path_buf(), subset);
            }
        }
        for subset in ["Tr", "Ts"] {
            let images = root.join(format!("images{subset}"));
            if images.is_dir() {
                return within(root, images, subset);
            }
        }
        within(root, root.to_path_buf(), "Tr")
    }
}

/// What the values and channels of a data set mean: declared on the command line, by the layout, or by `dataset.json`.
pub(crate) fn meaning(root: &Path, layout: Layout, declared: &Declared) -> Result<Meaning> {
    let folders = Folders::of(root);
    let dataset = Dataset::find(&folders.base)?;
    let file = dataset.as_ref().map(|dataset| dataset.path.clone());
    let asked = |key: &str| format!("declared by {key}");
    let absent = |expected: &str, hint: &str| {
        declaration(
            &folders.base.join("dataset.json"),
            expected,
            "no such file",
            &format!("add it, or {hint}"),
        )
    };
    let (channels, why_channels) = match (declared.channels, &dataset, layout) {
        (Some(channels), ..) => (channels, asked("input.channels")),
        (None, Some(dataset), _) => {
            let (channels, key) = dataset.channels()?;
            if layout == Layout::Msd && channels != Channels::MSD {
                let expected = format!("the channels of MSD Task01, {}", Channels::MSD.describe());
                return Err(dataset.unknown(&expected, &channels.describe(), DECLARE_CHANNELS));
            }
            (channels, format!("`{key}` in {}", dataset.path.display()))
        }
        (None, None, Layout::Msd) => (Channels::MSD, "the layout; there is no dataset.json".into()),
        (None, None, _) => return Err(absent("a file that names the channels", DECLARE_CHANNELS)),
    };
    let (scheme, why_scheme) = match (declared.scheme, &dataset, layout) {
        (Some(scheme), ..) => (scheme, asked("input.label_scheme")),
        (None, Some(dataset), _) => {
            let scheme = dataset.scheme()?;
            if layout == Layout::Msd && scheme != LabelScheme::Msd {
                let expected = format!("the labels of MSD Task01, {}", LabelScheme::Msd.describe());
                return Err(dataset.unknown(&expected, &scheme.describe(), DECLARE_LABELS));
            }
            (scheme, format!("`labels` in {}", dataset.path.display()))
        }
        (None, None, Layout::Msd) => (LabelScheme::Msd, "the layout; there is no dataset.json".into()),
        (None, None, _) => return Err(absent("a file that says what labels mean", DECLARE_LABELS)),
    };
    Ok(Meaning { scheme, why_scheme, channels: Some(channels), why_channels, file })
}

/// Images by name, each there once.
fn images(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    for path in list(folder)?.into_iter().filter(|path| !path.is_dir()) {
        let Some(name) = stem(&path).map(str::to_string) else { continue };
        if let Some(first) = found.get(&name) {
            let (what, first) = (format!("image {name}"), first.clone());
            return Err(Error::Duplicate { what, first, second: path });
        }
        found.insert(name, path);
    }
    Ok(found)
}

pub(crate) fn find(root: &Path, layout: Layout, channels: Channels, scheme: LabelScheme) -> Result<Found> {
    let folders = Folders::of(root);
    let mut labels = images(&folders.labels)?;
    let mut found = Found::default();
    let mut case = |id: &str, paths: [PathBuf; 4], stacked: Option<Channels>| {
        let reference = labels.remove(id);
        found.cases.push(Case { id: id.to_string(), paths, stacked, reference, scheme });
    };
    let images = images(&folders.images)?;
    if layout == Layout::Msd {
        for (id, path) in images {
            case(&id, [(); 4].map(|()| path.clone()), Some(channels));
        }
    } else {
        let mut by_case: BTreeMap<&str, BTreeMap<usize, &PathBuf>> = BTreeMap::new();
        let mut strange = Vec::new();
        for (name, path) in &images {
            match channel_of(name).filter(|(_, channel)| *channel < channels.count()) {
                Some((id, channel)) => drop(by_case.entry(id).or_default().insert(channel, path)),
                None => strange.push(path.clone()),
            }
        }
        for (id, files) in by_case {
            let paths = channels.place().map(|channel| {
                let expected = || folders.images.join(format!("{id}_{channel:04}.nii.gz"));
                files.get(&channel).map_or_else(expected, |path| (*path).clone())
            });
            case(id, paths, None);
        }
        found.strange = strange;
    }
    // A reference without images would be left out in silence.
    found.strange.extend(labels.into_values());
    Ok(found)
}
