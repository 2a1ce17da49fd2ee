//! BraTS 2017 to 2021, `[HGG|LGG/]<id>/<id>_{t1,t1ce,t2,flair,seg}.nii[.gz]`, and 2023 and later,
//! `<id>/<id>-{t1n,t1c,t2w,t2f,seg}.nii[.gz]`.
//!
//! A folder of such folders, one case's own folder, and a folder with the files of several cases side by side are
//! all read.

use super::{Found, Layout, list, stem};
use crate::cohort::{Case, MODALITIES};
use crate::error::{Error, Result};
use crate::geometry::Geometry;
use crate::labels::LabelScheme;
use crate::volume::{write_image_i16, write_labels};
use ndarray::{ArrayView3, ArrayView4, Axis};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Suffixes of files that belong to a case but do not make one.
const COMPANIONS: [&str; 4] = ["scribble", "weak", "wt", "seg"];

/// How a year names the files of a case: the case, this character, and the suffix of T1, T1ce, T2, FLAIR or the reference.
pub(crate) struct Naming {
    pub(crate) separator: char,
    pub(crate) suffixes: [&'static str; 5],
}

impl Naming {
    /// That of a layout which has one.
    pub(crate) fn of(layout: Layout) -> Option<Self> {
        let (separator, suffixes) = match layout {
            Layout::Brats2017 => ('_', ["t1", "t1ce", "t2", "flair", "seg"]),
            Layout::Brats2023 => ('-', ["t1n", "t1c", "t2w", "t2f", "seg"]),
            Layout::Msd | Layout::NnUnet => return None,
        };
        Some(Self { separator, suffixes })
    }

    /// The case that a file belongs to, and which of its files it is.
    fn read<'a>(&self, path: &'a Path) -> Option<(&'a str, usize)> {
        let (id, suffix) = stem(path)?.rsplit_once(self.separator)?;
        Some((id, self.suffixes.iter().position(|known| *known == suffix)?))
    }

    /// Whether a file is the image of a modality by its name.
    pub(crate) fn is_scan(&self, path: &Path) -> bool {
        self.read(path).is_some_and(|(_, place)| place < MODALITIES.len())
    }
}

/// The files of one case: four modalities, then the reference.
type Files = [Option<PathBuf>; 5];

pub(crate) fn find(root: &Path, naming: &Naming, scheme: LabelScheme) -> Result<Found> {
    let mut cases = BTreeMap::new();
    let mut strange = Vec::new();
    let mut collect =
        |folder: &Path, strange: &mut Vec<PathBuf>| collect(folder, naming, scheme, &mut cases, strange);
    collect(root, &mut strange)?;
    for folder in list(root)?.into_iter().filter(|path| path.is_dir()) {
        collect(&folder, &mut strange)?;
        let name = folder.file_name().unwrap_or_default();
        let grades = name == "HGG" || name == "LGG";
        for folder in list(&folder)?.into_iter().filter(|path| path.is_dir()) {
            if grades {
                collect(&folder, &mut strange)?;
            } else if list(&folder)?.iter().any(|path| naming.is_scan(path)) {
                // A case's own folder, deeper than the layout goes: it would be left out in silence.
                strange.push(folder);
            }
        }
    }
    Ok(Found { cases: cases.into_values().collect(), strange })
}

/// Adds the cases whose files lie in `folder` itself.
fn collect(
    folder: &Path,
    naming: &Naming,
    scheme: LabelScheme,
    cases: &mut BTreeMap<String, Case>,
    strange: &mut Vec<PathBuf>,
) -> Result<()> {
    let mut found: BTreeMap<String, Files> = BTreeMap::new();
    let (mut images, mut known) = (0, 0);
    for path in list(folder)?.into_iter().filter(|path| !path.is_dir()) {
        let Some(name) = stem(&path) else { continue };
        images += 1;
        let Some((id, place)) = naming.read(&path) else {
            let suffix = name.rsplit_once('_').map(|(_, suffix)| suffix);
            known += usize::from(suffix.is_some_and(|suffix| COMPANIONS.contains(&suffix)));
            continue;
        };
        known += 1;
        let files = found.entry(id.to_string()).or_default();
        if let (Some(slot), Some(suffix)) = (files.get_mut(place), naming.suffixes.get(place)) {
            if let Some(first) = slot.take() {
                let what = format!("{suffix} image of case {id}");
                return Err(Error::Duplicate { what, first, second: path });
            }
            *slot = Some(path);
        }
    }
    if images > 0 && known == 0 {
        strange.push(folder.to_path_buf());
    }
    for (id, files) in found {
        // A folder of segmentations only, such as a run's predictions, is no cohort; a case's own folder that lost its
        // images is a case with a fault.
        let named = folder.file_name().is_some_and(|name| name.to_string_lossy() == id);
        if !named && files.iter().take(4).all(Option::is_none) {
            continue;
        }
        let [t1, t1ce, t2, flair, reference] = files;
        let mut suffixes = naming.suffixes.iter();
        let paths = [t1, t1ce, t2, flair].map(|path| {
            let suffix = suffixes.next().copied().unwrap_or_default();
            path.unwrap_or_else(|| folder.join(format!("{id}{}{suffix}.nii.gz", naming.separator)))
        });
        let case = Case { id: id.clone(), paths, stacked: None, reference, scheme };
        if let Some(first) = cases.get(&id) {
            let [first, second] = [first, &case].map(|case| case.paths[0].clone());
            return Err(Error::Duplicate { what: format!("case {id}"), first, second });
        }
        cases.insert(id, case);
    }
    Ok(())
}

/// Writes one case in the layout of BraTS 2017 under `root`, in a folder of its own: modalities `[T1, T1ce, T2, FLAIR; z, y, x]`
/// as 16-bit integers (rounded), and labels given in internal codes as BraTS 2017 values, if there are any.
///
/// # Errors
/// [`Error::ShapeMismatch`] when an array does not fit `geometry` or there are not four modalities; [`Error::Write`].
pub fn write_case(
    root: impl AsRef<Path>,
    id: &str,
    modalities: ArrayView4<'_, f32>,
    labels: Option<ArrayView3<'_, u8>>,
    geometry: &Geometry,
) -> Result<()> {
    let folder = root.as_ref().join(id);
    std::fs::create_dir_all(&folder).map_err(|source| Error::Write { path: folder.clone(), source })?;
    if modalities.len_of(Axis(0)) != MODALITIES.len() {
        let found = [modalities.len_of(Axis(0)), modalities.len_of(Axis(1)), modalities.len_of(Axis(2))];
        return Err(Error::ShapeMismatch { path: folder, expected: geometry.shape(), found });
    }
    let results: Vec<Result<()>> = MODALITIES
        .par_iter()
        .enumerate()
        .map(|(n, suffix)| {
            let path = folder.join(format!("{id}_{suffix}.nii.gz"));
            write_image_i16(path, modalities.index_axis(Axis(0), n), geometry)
        })
        .collect();
    results.into_iter().collect::<Result<()>>()?;
    if let Some(labels) = labels {
        let scheme = Layout::Brats2017.label_scheme().unwrap_or(LabelScheme::Brats2017);
        let values = scheme.from_internal(labels)?;
        write_labels(folder.join(format!("{id}_seg.nii.gz")), values.view(), geometry)?;
    }
    Ok(())
}
