//! Images and label images in canonical `[z, y, x]` order, read with their geometry and written back.

use crate::atomic::write_atomic_with;
use crate::error::{Error, Result};
use crate::file::{Codes, NiftiFile};
use crate::geometry::Geometry;
use crate::header::{Scalar, encode};
use flate2::{Compression, GzBuilder};
use ndarray::{Array3, ArrayView3};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

/// An image with its place in the patient.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    /// Intensities `[z, y, x]`, LPS, with the header's slope and intercept applied; all finite.
    pub data: Array3<f32>,
    /// Grid and file axes.
    pub geometry: Geometry,
}

/// A label image with its place in the patient.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelVolume {
    /// The file's own values `[z, y, x]`, LPS.
    pub data: Array3<i32>,
    /// Grid and file axes.
    pub geometry: Geometry,
}

impl Volume {
    /// Reads a `.nii`, `.nii.gz`, or the `.hdr` or `.img` of a pair, of any real type, byte order and axis order. NaN and
    /// infinity are errors.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        Self::load(path.as_ref(), |file, grid, out| file.read_image(grid, out).map(drop))
    }

    /// Like [`Volume::read`], and an image of zeros only is an error: what a modality must be.
    pub fn read_modality(path: impl AsRef<Path>) -> Result<Self> {
        Self::load(path.as_ref(), NiftiFile::read_signal)
    }

    fn load(
        path: &Path,
        read: impl FnOnce(&mut NiftiFile, &Geometry, &mut [f32]) -> Result<()>,
    ) -> Result<Self> {
        let mut file = NiftiFile::open(path)?;
        let geometry = file.header.geometry.clone();
        let mut data = file.buffer(1)?;
        read(&mut file, &geometry, &mut data)?;
        file.finish()?;
        Ok(Self { data: shaped(data, &geometry, path)?, geometry })
    }
}

impl LabelVolume {
    /// Reads a label image of any real type. Values that are not whole numbers are errors.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        Self::load(path.as_ref(), None)
    }

    /// Like [`LabelVolume::read`], for an image that must lie on `grid` (of `reference`, named in the error). The
    /// file's axes may be in another order: voxels at the same place come to the same index.
    pub fn read_on(path: impl AsRef<Path>, grid: &Geometry, reference: &str) -> Result<Self> {
        Self::load(path.as_ref(), Some((grid, reference)))
    }

    fn load(path: &Path, grid: Option<(&Geometry, &str)>) -> Result<Self> {
        let (mut file, geometry) = open_on(path, grid)?;
        let mut data = file.buffer(1)?;
        file.read_labels(&geometry, &mut data)?;
        file.finish()?;
        Ok(Self { data: shaped(data, &geometry, path)?, geometry })
    }
}

/// An open file, and its geometry [along](Geometry::along) the grid that it must lie on, if there is one: that is seen from
/// the header, before any voxel is decoded.
fn open_on(path: &Path, grid: Option<(&Geometry, &str)>) -> Result<(NiftiFile, Geometry)> {
    let file = NiftiFile::open(path)?;
    let geometry = match grid {
        Some((grid, reference)) => check_grid(path, &file.header.geometry, grid, reference)?,
        None => file.header.geometry.clone(),
    };
    Ok((file, geometry))
}

/// Reads a label image through `map`: of values outside it each is named, with what was `declared`. With a `grid` (and what
/// to call it), the image must lie on it: its axes may be in another order, voxels at the same place come to the same index.
pub(crate) fn read_codes(
    path: &Path,
    grid: Option<(&Geometry, &str)>,
    map: &BTreeMap<i64, u8>,
    declared: impl FnOnce() -> String,
) -> Result<(Array3<u8>, Geometry)> {
    let (mut file, geometry) = open_on(path, grid)?;
    let mut data = file.buffer(1)?;
    let mut codes = Codes::new(map);
    file.read_codes(&geometry, &mut codes, &mut data)?;
    file.finish()?;
    all_declared(codes.undeclared, path, declared)?;
    Ok((shaped(data, &geometry, path)?, geometry))
}

/// An error that names what was not declared, if there is anything.
pub(crate) fn all_declared(
    undeclared: BTreeMap<i64, u64>,
    path: &Path,
    declared: impl FnOnce() -> String,
) -> Result<()> {
    if undeclared.is_empty() {
        return Ok(());
    }
    let counts = undeclared.into_iter().collect();
    Err(Error::UndeclaredLabel { path: path.to_path_buf(), counts, declared: declared() })
}

/// The geometry of an image, from its header alone; of a 4-D file, that of its 3-D images.
pub fn read_geometry(path: impl AsRef<Path>) -> Result<Geometry> {
    Ok(NiftiFile::open_any(path.as_ref())?.header.geometry)
}

/// Whether an image names scribseg as its maker, as all that this crate writes do. A file that cannot be read does not.
pub fn written_by_scribseg(path: impl AsRef<Path>) -> bool {
    NiftiFile::open_any(path.as_ref()).is_ok_and(|file| file.header.ours)
}

/// `geometry` (of `path`) [along](Geometry::along) `grid` (of `reference`); an error that names both when it is another grid.
pub(crate) fn check_grid(
    path: &Path,
    geometry: &Geometry,
    grid: &Geometry,
    reference: &str,
) -> Result<Geometry> {
    let mismatch = |mismatch| Error::GridMismatch {
        path: path.to_path_buf(),
        reference: reference.to_string(),
        mismatch,
    };
    grid.same_grid(geometry).map_err(mismatch)?;
    Ok(geometry.along(grid))
}

fn shaped<T>(data: Vec<T>, geometry: &Geometry, path: &Path) -> Result<Array3<T>> {
    let bytes = (data.len() * size_of::<T>()) as u64;
    // The buffer was made for this very grid, so this is only reached if that ever breaks.
    Array3::from_shape_vec(geometry.shape(), data)
        .map_err(|_| Error::OutOfMemory { path: path.to_path_buf(), bytes })
}

/// Writes labels `[z, y, x]` on the grid of the scan they belong to: unsigned bytes, slope 1, in the scan's own order
/// of axes, with its orientation fields copied. The name decides on compression; the bytes depend on nothing else.
pub fn write_labels(path: impl AsRef<Path>, labels: ArrayView3<'_, u8>, geometry: &Geometry) -> Result<()> {
    write(path.as_ref(), labels, geometry, Scalar::U8, |v| [v])
}

/// Writes an image `[z, y, x]` as 32-bit floats, otherwise like [`write_labels`].
pub fn write_image(path: impl AsRef<Path>, image: ArrayView3<'_, f32>, geometry: &Geometry) -> Result<()> {
    write(path.as_ref(), image, geometry, Scalar::F32, f32::to_le_bytes)
}

/// Writes an image `[z, y, x]` as 16-bit integers, rounded and held to their range: half the size of
/// [`write_image`] and the type in which scanners and BraTS store theirs.
pub fn write_image_i16(
    path: impl AsRef<Path>,
    image: ArrayView3<'_, f32>,
    geometry: &Geometry,
) -> Result<()> {
    // The cast holds to the range and makes NaN 0.
    write(path.as_ref(), image, geometry, Scalar::I16, |v| (v.round() as i16).to_le_bytes())
}

fn write<T: Copy, const N: usize>(
    path: &Path,
    data: ArrayView3<'_, T>,
    geometry: &Geometry,
    scalar: Scalar,
    bytes: impl Fn(T) -> [u8; N],
) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let compressed = name.ends_with(".nii.gz");
    if !compressed && !name.ends_with(".nii") {
        return Err(Error::BadExtension { path: path.to_path_buf() });
    }
    let (z, y, x) = data.dim();
    let shape_mismatch =
        Error::ShapeMismatch { path: path.to_path_buf(), expected: geometry.shape(), found: [z, y, x] };
    let values = geometry.to_file_order(data).ok_or(shape_mismatch)?;
    let header = encode(geometry, scalar).ok_or_else(|| Error::BadHeader {
        path: path.to_path_buf(),
        field: "dim".into(),
        expected: "of at most 32767".into(),
        found: format!("{:?}", geometry.file_shape()),
    })?;
    let fill = |out: &mut dyn Write| -> io::Result<()> {
        out.write_all(&header)?;
        let mut buffer = Vec::with_capacity(N << 14);
        for part in values.chunks(1 << 14) {
            buffer.clear();
            buffer.extend(part.iter().flat_map(|&v| bytes(v)));
            out.write_all(&buffer)?;
        }
        Ok(())
    };
    write_atomic_with(path, |out| {
        if compressed {
            // No time stamp and no name in the gzip header: equal voxels make equal files.
            let mut gz = GzBuilder::new().mtime(0).write(out, Compression::new(GZIP_LEVEL));
            fill(&mut gz)?;
            gz.finish().map(drop)
        } else {
            fill(out)
        }
    })
}

/// Labels shrink to 1 % at any level, and noise hardly more at a high one: what is left is speed.
const GZIP_LEVEL: u32 = 4;
