//! A cohort of cases: found, loaded and checked.

use crate::error::{Error, Result};
use crate::file::NiftiFile;
use crate::geometry::Geometry;
use crate::labels::LabelScheme;
use crate::layout::{Layout, brats2017};
use crate::volume::{LabelVolume, check_grid};
use ndarray::{Array3, Array4};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// The four modalities in the order of every array, by the suffixes of their files.
pub const MODALITIES: [&str; 4] = ["t1", "t1ce", "t2", "flair"];

/// Cases on disk. Opening one looks at names only; nothing is read yet.
#[derive(Debug, Clone)]
pub struct Cohort {
    /// The folder.
    pub root: PathBuf,
    /// How it is laid out.
    pub layout: Layout,
    /// What its label values mean: as the layout declares.
    pub scheme: LabelScheme,
    /// The cases, sorted by id.
    pub cases: Vec<Case>,
    /// Folders with NIfTI files of which none has a name that the layout knows, and cases' folders deeper than it goes.
    pub strange: Vec<PathBuf>,
}

/// The files of one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Its name.
    pub id: String,
    /// T1, T1ce, T2, FLAIR. A missing file is given the name that it should have.
    pub paths: [PathBuf; 4],
    /// The reference segmentation, if there is one.
    pub reference: Option<PathBuf>,
    /// What the reference's values mean.
    pub scheme: LabelScheme,
}

/// One case in memory.
#[derive(Debug, Clone)]
pub struct LoadedCase {
    /// Its name.
    pub id: String,
    /// `[T1, T1ce, T2, FLAIR; z, y, x]` in the scanner's units.
    pub modalities: Array4<f32>,
    /// Non-zero in any modality, `[z, y, x]`.
    pub brain: Array3<bool>,
    /// The reference in internal codes 0 background, 1 NCR/NET, 2 ED, 3 ET, if there is one.
    pub reference: Option<Array3<u8>>,
    /// The grid that all of them share.
    pub geometry: Geometry,
}

impl Cohort {
    /// Opens a cohort, or the folder of a single case. Without a layout it is recognised from names (never from voxel
    /// values).
    ///
    /// # Errors
    /// [`Error::NotAFolder`], [`Error::UnsupportedLayout`], [`Error::NoCases`], [`Error::Duplicate`], [`Error::Read`].
    pub fn open(folder: impl AsRef<Path>, layout: Option<Layout>) -> Result<Self> {
        let root = folder.as_ref().to_path_buf();
        let detected = Layout::detect(&root)?;
        let layout = layout.unwrap_or(detected);
        let Layout::Brats2017 = layout else { return Err(Error::UnsupportedLayout { path: root, layout }) };
        let scheme = LabelScheme::Brats2017;
        let brats2017::Found { cases, strange } = brats2017::find(&root, scheme)?;
        if cases.is_empty() {
            return Err(Error::NoCases { path: root, layout });
        }
        Ok(Self { root, layout, scheme, cases, strange })
    }

    /// The same cohort, its label values declared to mean something else.
    pub fn with_scheme(mut self, scheme: LabelScheme) -> Self {
        self.scheme = scheme;
        for case in &mut self.cases {
            case.scheme = scheme;
        }
        self
    }

    /// The case of this name.
    pub fn case(&self, id: &str) -> Option<&Case> {
        self.cases.iter().find(|case| case.id == id)
    }

    /// An error unless each case has its four modalities: to be called before hours of work, not after.
    ///
    /// # Errors
    /// [`Error::MissingModality`] for the first that is missing.
    pub fn require_modalities(&self) -> Result<()> {
        self.cases.iter().try_for_each(Case::require_modalities)
    }
}

impl Case {
    /// An error unless all four modalities are there.
    ///
    /// # Errors
    /// [`Error::MissingModality`] for the first that is missing.
    pub fn require_modalities(&self) -> Result<()> {
        (0..MODALITIES.len()).try_for_each(|n| self.require(n))
    }

    pub(crate) fn require(&self, modality: usize) -> Result<()> {
        let (Some(path), Some(&name)) = (self.paths.get(modality), MODALITIES.get(modality)) else {
            return Ok(());
        };
        if path.exists() {
            return Ok(());
        }
        Err(Error::MissingModality { case: self.id.clone(), modality: name, path: path.clone() })
    }

    /// Grid and place of the case, from the header of its first modality.
    ///
    /// # Errors
    /// [`Error::MissingModality`], or whatever is wrong with that header.
    pub fn geometry(&self) -> Result<Geometry> {
        self.require(0)?;
        crate::volume::read_geometry(&self.paths[0])
    }

    /// Reads the four modalities (and the reference, if there is one) in parallel, each straight into its place.
    ///
    /// # Errors
    /// The first fault, all headers before any voxels, in the order T1, T1ce, T2, FLAIR, reference: a missing or unreadable file, NaN, an image of zeros,
    /// grids that differ, labels outside the scheme.
    pub fn load(&self) -> Result<LoadedCase> {
        self.load_with(true)
    }

    /// [`load`](Self::load) without the reference, even if there is one: for work that must not depend on it.
    ///
    /// # Errors
    /// As [`load`](Self::load), but for those of the reference.
    pub fn load_images(&self) -> Result<LoadedCase> {
        self.load_with(false)
    }

    fn load_with(&self, with_reference: bool) -> Result<LoadedCase> {
        self.require_modalities()?;
        let (modalities, reference) = rayon::join(
            || self.load_modalities(),
            || if with_reference { self.load_reference() } else { Ok(None) },
        );
        let (modalities, geometry) = modalities?;
        let reference = match (reference?, &self.reference) {
            (Some((labels, grid)), Some(path)) => {
                check_grid(path, &grid, &geometry, &self.paths[0].display().to_string())?;
                Some(labels)
            }
            _ => None,
        };
        let brain = brain_mask(&modalities);
        Ok(LoadedCase { id: self.id.clone(), modalities, brain, reference, geometry })
    }

    /// Reads the reference alone, in internal codes; `None` when there is none.
    ///
    /// # Errors
    /// Whatever is wrong with the file, or labels outside the scheme.
    pub fn load_reference(&self) -> Result<Option<(Array3<u8>, Geometry)>> {
        let Some(path) = &self.reference else { return Ok(None) };
        let LabelVolume { data, geometry } = LabelVolume::read(path)?;
        Ok(Some((self.scheme.to_internal(data.view(), path)?, geometry)))
    }

    fn load_modalities(&self) -> Result<(Array4<f32>, Geometry)> {
        let mut files: Vec<NiftiFile> = Vec::with_capacity(self.paths.len());
        for path in &self.paths {
            let file = NiftiFile::open(path)?;
            if let Some(first) = files.first() {
                let reference = first.path.display().to_string();
                check_grid(path, &file.header.geometry, &first.header.geometry, &reference)?;
            }
            files.push(file);
        }
        let Some(first) = files.first() else {
            let (modality, path) = (MODALITIES[0], self.paths[0].clone());
            return Err(Error::MissingModality { case: self.id.clone(), modality, path });
        };
        let geometry = first.header.geometry.clone();
        let mut data = first.buffer::<f32>(files.len())?;
        let voxels = geometry.voxels().max(1);
        let results: Vec<Result<()>> = data
            .par_chunks_mut(voxels)
            .zip(files.into_par_iter())
            .map(|(out, file)| {
                // Same grid does not mean same order of axes: each file is brought to canonical order by its own.
                let own = file.header.geometry.clone();
                if own.is_canonical() {
                    return file.read_signal(out);
                }
                let mut raw = file.buffer(1)?;
                file.read_signal(&mut raw)?;
                own.reorder_into(&raw, out);
                Ok(())
            })
            .collect();
        results.into_iter().collect::<Result<()>>()?;
        let [z, y, x] = geometry.shape();
        let bytes = (data.len() * size_of::<f32>()) as u64;
        let modalities = Array4::from_shape_vec((MODALITIES.len(), z, y, x), data)
            .map_err(|_| Error::OutOfMemory { path: self.paths[0].clone(), bytes })?;
        Ok((modalities, geometry))
    }
}

/// Non-zero in any of the first axis's images.
fn brain_mask(modalities: &Array4<f32>) -> Array3<bool> {
    let (_, z, y, x) = modalities.dim();
    let mut brain = Array3::from_elem((z, y, x), false);
    let voxels = (z * y * x).max(1);
    if let (Some(mask), Some(images)) = (brain.as_slice_mut(), modalities.as_slice()) {
        let slice = (y * x).max(1);
        mask.par_chunks_mut(slice).enumerate().for_each(|(n, mask)| {
            for image in images.chunks(voxels) {
                for (inside, value) in mask.iter_mut().zip(image.iter().skip(n * slice)) {
                    *inside |= *value != 0.0;
                }
            }
        });
    }
    brain
}
