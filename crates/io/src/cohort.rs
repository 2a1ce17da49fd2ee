//! A cohort of cases: found, loaded and checked.

use crate::error::{Error, Result};
use crate::file::{NiftiFile, buffer, image_files};
use crate::geometry::Geometry;
use crate::labels::LabelScheme;
use crate::layout::dataset::Channels;
use crate::layout::{Found, Layout, brats, decathlon};
use crate::volume::{check_grid, read_codes};
use ndarray::{Array3, Array4};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// The four modalities in the order of every array, by the suffixes of their files.
pub const MODALITIES: [&str; 4] = ["t1", "t1ce", "t2", "flair"];

/// What is known of a cohort without looking at it. What is `None` follows from names and `dataset.json`, or is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Declared {
    /// How it is laid out.
    pub layout: Option<Layout>,
    /// What its label values mean.
    pub scheme: Option<LabelScheme>,
    /// Which channel holds which modality, where files are numbered or 4-D.
    pub channels: Option<Channels>,
}

/// What a cohort's label values and channels mean, and who said so.
pub(crate) struct Meaning {
    pub(crate) scheme: LabelScheme,
    pub(crate) why_scheme: String,
    pub(crate) channels: Option<Channels>,
    pub(crate) why_channels: String,
    /// The `dataset.json` that was asked.
    pub(crate) file: Option<PathBuf>,
}

/// Cases on disk. Opening one looks at names and `dataset.json` only; no image is read yet.
#[derive(Debug, Clone)]
pub struct Cohort {
    /// The folder.
    pub root: PathBuf,
    /// How it is laid out.
    pub layout: Layout,
    /// What its label values mean: as declared.
    pub scheme: LabelScheme,
    /// Which channel holds which modality; `None` where each file's name says what it is.
    pub channels: Option<Channels>,
    /// Why this layout, this scheme and these channels: which name, file or setting said so.
    pub why: [String; 3],
    /// The `dataset.json` that declares something, if there is one.
    pub declaration: Option<PathBuf>,
    /// The cases, sorted by id.
    pub cases: Vec<Case>,
    /// Folders and files with names that the layout does not know, references without images, and cases' folders deeper than it goes.
    pub strange: Vec<PathBuf>,
}

/// The files of one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Its name.
    pub id: String,
    /// T1, T1ce, T2, FLAIR. A missing file is given the name that it should have. Four times the same, if they are stacked.
    pub paths: [PathBuf; 4],
    /// Where in a 4-D file the modalities lie; `None` when each has a file of its own.
    pub stacked: Option<Channels>,
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
    /// As [`open_as`](Self::open_as).
    pub fn open(folder: impl AsRef<Path>, layout: Option<Layout>) -> Result<Self> {
        Self::open_as(folder, &Declared { layout, ..Declared::default() })
    }

    /// Opens a cohort of which something is declared: that holds, whatever names and `dataset.json` say.
    ///
    /// Of a data set with `imagesTr` the cases there are meant; give the folder `imagesTs` for those.
    ///
    /// # Errors
    /// [`Error::NotAFolder`], [`Error::AmbiguousLayout`], [`Error::NoLayout`], [`Error::Declaration`], [`Error::NoCases`],
    /// [`Error::Duplicate`], [`Error::Read`].
    pub fn open_as(folder: impl AsRef<Path>, declared: &Declared) -> Result<Self> {
        let root = folder.as_ref().to_path_buf();
        if !root.is_dir() {
            return Err(Error::NotAFolder { path: root });
        }
        let (layout, why_layout) = match declared.layout {
            Some(layout) => (layout, "declared by input.layout".into()),
            None => Layout::detect(&root)?,
        };
        let meaning = match (brats::Naming::of(layout), layout.label_scheme()) {
            (Some(naming), Some(scheme)) => {
                let why_scheme = match declared.scheme {
                    Some(_) => "declared by input.label_scheme",
                    None => "the layout",
                };
                let suffixes = naming.suffixes.map(|suffix| format!("{}{suffix}", naming.separator));
                Meaning {
                    scheme: declared.scheme.unwrap_or(scheme),
                    why_scheme: why_scheme.into(),
                    channels: None,
                    why_channels: format!("file names that end in {}", suffixes[..4].join(", ")),
                    file: None,
                }
            }
            _ => decathlon::meaning(&root, layout, declared)?,
        };
        let Meaning { scheme, why_scheme, channels, why_channels, file } = meaning;
        let Found { cases, strange } = match (brats::Naming::of(layout), channels) {
            (Some(naming), _) => brats::find(&root, &naming, scheme)?,
            (None, channels) => decathlon::find(&root, layout, channels.unwrap_or(Channels::MSD), scheme)?,
        };
        if cases.is_empty() {
            return Err(Error::NoCases { path: root, layout });
        }
        let why = [why_layout, why_scheme, why_channels];
        Ok(Self { root, layout, scheme, channels, why, declaration: file, cases, strange })
    }

    /// The order of channels in words.
    pub fn describe_channels(&self) -> String {
        match self.channels {
            Some(channels) => channels.describe(),
            None => format!("{} by name", MODALITIES.join(", ")),
        }
    }

    /// The same cohort, its label values declared to mean something else.
    pub fn with_scheme(mut self, scheme: LabelScheme) -> Self {
        self.scheme = scheme;
        self.why[1] = "declared".into();
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

    /// Every file that the case is read from, with what it holds: each image once, and of a `.hdr`/`.img` pair both.
    ///
    /// # Errors
    /// [`Error::Duplicate`] when a header has two files of voxels.
    pub fn files(&self) -> Result<Vec<(String, PathBuf)>> {
        let modalities = MODALITIES.iter().map(|name| name.to_string()).zip(&self.paths);
        let images = modalities.take(if self.stacked.is_some() { 1 } else { 4 });
        let mut files = Vec::new();
        for (name, path) in images.chain(self.reference.iter().map(|path| ("reference".into(), path))) {
            let parts = image_files(path)?.into_iter();
            files
                .extend(parts.zip([name.clone(), format!("{name} voxels")]).map(|(path, name)| (name, path)));
        }
        Ok(files)
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
        let geometry = self.geometry()?;
        let (modalities, reference) = rayon::join(
            || self.load_modalities(&geometry),
            || if with_reference { self.load_reference_on(Some(&geometry)) } else { Ok(None) },
        );
        let (modalities, reference) = (modalities?, reference?.map(|(labels, _)| labels));
        let brain = brain_mask(&modalities);
        Ok(LoadedCase { id: self.id.clone(), modalities, brain, reference, geometry })
    }

    /// Reads the reference alone, in internal codes; `None` when there is none.
    ///
    /// # Errors
    /// Whatever is wrong with the file, or labels outside the scheme.
    pub fn load_reference(&self) -> Result<Option<(Array3<u8>, Geometry)>> {
        self.load_reference_on(None)
    }

    fn load_reference_on(&self, grid: Option<&Geometry>) -> Result<Option<(Array3<u8>, Geometry)>> {
        let Some(path) = &self.reference else { return Ok(None) };
        let first = self.paths[0].display().to_string();
        let grid = grid.map(|grid| (grid, first.as_str()));
        read_codes(path, grid, &self.scheme.codes(), || self.scheme.describe()).map(Some)
    }

    fn load_modalities(&self, geometry: &Geometry) -> Result<Array4<f32>> {
        let path = &self.paths[0];
        let voxels = geometry.voxels();
        let mut data = buffer::<f32>(voxels.checked_mul(MODALITIES.len()), path)?;
        match self.stacked {
            Some(channels) => self.load_stack(channels, geometry, &mut data)?,
            None => self.load_files(geometry, &mut data)?,
        }
        let [z, y, x] = geometry.shape();
        let bytes = (data.len() * size_of::<f32>()) as u64;
        Array4::from_shape_vec((MODALITIES.len(), z, y, x), data)
            .map_err(|_| Error::OutOfMemory { path: path.clone(), bytes })
    }

    fn load_files(&self, geometry: &Geometry, data: &mut [f32]) -> Result<()> {
        let reference = self.paths[0].display().to_string();
        let mut files = Vec::with_capacity(self.paths.len());
        for path in &self.paths {
            let file = NiftiFile::open(path)?;
            // Same grid does not mean same order of axes: each file's voxels go where its own axes lead.
            let grid = check_grid(path, &file.header.geometry, geometry, &reference)?;
            files.push((file, grid));
        }
        let results: Vec<Result<()>> = data
            .par_chunks_mut(geometry.voxels().max(1))
            .zip(files.into_par_iter())
            .map(|(out, (mut file, grid))| {
                file.read_signal(&grid, out)?;
                file.finish()
            })
            .collect();
        results.into_iter().collect()
    }

    /// The 3-D images of a 4-D file, each straight to the place of its modality.
    fn load_stack(&self, channels: Channels, geometry: &Geometry, data: &mut [f32]) -> Result<()> {
        let mut file = NiftiFile::open_stack(&self.paths[0], channels.count())?;
        for channel in 0..channels.count() {
            let Some(modality) = channels.place().iter().position(|&at| at == channel) else {
                file.skip_image()?;
                continue;
            };
            let start = modality * geometry.voxels();
            let out = data.get_mut(start..start + geometry.voxels()).unwrap_or_default();
            file.read_signal(geometry, out)?;
        }
        file.finish()
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
