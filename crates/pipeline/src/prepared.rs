//! Prepared scans in the run directory, so that a run that is taken up again need not read, normalise and crop its cohort once more.
//!
//! A run directory belongs to one configuration and to files of one content ([`Inputs`](crate::Inputs)), so what lies there is what would be made again. A finished run has no use for it:
//! [`forget`] removes it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ndarray::{Array3, Array4};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use scribseg_io::{Case, Geometry};

use crate::error::{Error, Result};
use crate::scan::Scan;

const FOLDER: &str = "prepared";
/// Metadata: what made the scan, and a hash of all its values.
const MADE_BY: &str = "made_by";
const HASH: &str = "hash";

/// What else than configuration and files a prepared scan depends on: the network's stride and the program.
fn made_by(stride: usize) -> String {
    format!("scribseg {}, format 1, stride {stride}", env!("CARGO_PKG_VERSION"))
}

fn path(run: &Path, id: &str) -> PathBuf {
    run.join(FOLDER).join(format!("{id}.safetensors"))
}

/// Keeps a scan in the run directory.
///
/// # Errors
/// What the disk refuses.
pub(crate) fn write(run: &Path, scan: &Scan, stride: usize) -> Result<()> {
    let path = path(run, &scan.id);
    let Scan { image, brain, reference, spacing, window, shape, rim, offset, .. } = scan;
    let fault =
        |e: &dyn std::fmt::Display| Error::RunDirectory { path: path.clone(), problem: e.to_string() };
    let numbers: Vec<f64> = (spacing.iter().copied())
        .chain(window.iter().flatten().map(|&v| f64::from(v)))
        .chain(shape.iter().map(|&n| n as f64))
        .chain(offset.iter().map(|&n| n as f64))
        .chain([*rim])
        .collect();
    let bytes = [
        ("image", Dtype::F32, image.shape(), bytes_of(image.iter().copied())),
        ("brain", Dtype::U8, brain.shape(), brain.iter().map(|&b| u8::from(b)).collect()),
        ("numbers", Dtype::F64, &[numbers.len()], numbers.iter().flat_map(|v| v.to_le_bytes()).collect()),
    ];
    let reference =
        reference.as_ref().map(|r| ("reference", Dtype::U8, r.shape(), r.iter().copied().collect()));
    let tensors = (bytes.iter().chain(&reference))
        .map(|(name, dtype, shape, bytes)| Ok((*name, TensorView::new(*dtype, shape.to_vec(), bytes)?)))
        .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|e| fault(&e))?;
    let hash = hash(tensors.iter().map(|(_, view)| view.data()));
    let metadata = [(MADE_BY, made_by(stride)), (HASH, hash)].map(|(key, value)| (key.to_owned(), value));
    let bytes = safetensors::serialize(tensors, Some(HashMap::from(metadata))).map_err(|e| fault(&e))?;
    std::fs::create_dir_all(run.join(FOLDER)).map_err(|e| fault(&e))?;
    Ok(scribseg_io::write_atomic(&path, &bytes)?)
}

/// The values in the order of memory.
fn bytes_of(values: impl ExactSizeIterator<Item = f32>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 * values.len());
    values.for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    bytes
}

fn hash<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().to_hex().to_string()
}

/// The scan of a case as an earlier start of this program kept it for a network of this stride, if it did and every value is as it was.
///
/// # Errors
/// When the case's own header cannot be read.
pub(crate) fn read(run: &Path, case: &Case, stride: usize) -> Result<Option<Scan>> {
    let Ok(bytes) = std::fs::read(path(run, &case.id)) else { return Ok(None) };
    Ok(parse(&bytes, &case.id, stride, case.geometry()?))
}

fn parse(bytes: &[u8], id: &str, stride: usize, geometry: Geometry) -> Option<Scan> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).ok()?;
    let metadata = metadata.metadata().as_ref()?;
    let tensors = SafeTensors::deserialize(bytes).ok()?;
    let tensor = |name: &str, dtype| tensors.tensor(name).ok().filter(|t| t.dtype() == dtype);
    let all = ["image", "brain", "numbers", "reference"].map(|name| tensors.tensor(name).ok());
    let hash = hash(all.iter().flatten().map(|tensor| tensor.data()));
    if *metadata.get(MADE_BY)? != made_by(stride) || *metadata.get(HASH)? != hash {
        return None;
    }
    let (image, brain) = (tensor("image", Dtype::F32)?, tensor("brain", Dtype::U8)?);
    let numbers = tensor("numbers", Dtype::F64)?;
    let numbers: Vec<f64> = numbers.data().as_chunks().0.iter().map(|&v| f64::from_le_bytes(v)).collect();
    let [z, y, x, windows @ .., depth, height, width, top, left, rim] = numbers.as_slice() else {
        return None;
    };
    let values = image.data().as_chunks().0.iter().map(|&v| f32::from_le_bytes(v)).collect();
    let mut window = [[0.0; 2]; 4];
    if windows.len() != 8 {
        return None;
    }
    window.as_flattened_mut().iter_mut().zip(windows).for_each(|(to, &from)| *to = from as f32);
    let array3 = |t: &TensorView<'_>| -> Option<[usize; 3]> { t.shape().try_into().ok() };
    let reference = match tensor("reference", Dtype::U8) {
        Some(t) => Some(Array3::from_shape_vec(array3(&t)?, t.data().to_vec()).ok()?),
        None => None,
    };
    Some(Scan {
        id: id.to_owned(),
        image: Array4::from_shape_vec(<[usize; 4]>::try_from(image.shape()).ok()?, values).ok()?,
        brain: Array3::from_shape_vec(array3(&brain)?, brain.data().iter().map(|&b| b != 0).collect())
            .ok()?,
        reference,
        spacing: [*z, *y, *x],
        window,
        shape: [*depth, *height, *width].map(|n| n as usize),
        rim: *rim,
        offset: [*top, *left].map(|n| n as isize),
        geometry,
    })
}

/// Removes what was kept.
pub(crate) fn forget(run: &Path) {
    // What cannot be removed does no harm.
    let _ = std::fs::remove_dir_all(run.join(FOLDER));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use scribseg_io::Cohort;
    use scribseg_phantom::Size;

    #[test]
    fn a_scan_comes_back_as_it_was_and_a_damaged_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (scans, run) = (folder.path().join("scans"), folder.path().join("run"));
        crate::verbs::write_phantom(&scans, 1, 3, Size::Half, &crate::Silent).unwrap();
        let cohort = Cohort::open(&scans, None).unwrap();
        let case = &cohort.cases[0];
        assert!(read(&run, case, 16).unwrap().is_none());
        for with_reference in [true, false] {
            let loaded = if with_reference { case.load() } else { case.load_images() }.unwrap();
            let scan = Scan::prepare(loaded, &Config::default(), 16).unwrap();
            write(&run, &scan, 16).unwrap();
            let again = read(&run, case, 16).unwrap().unwrap();
            assert!(read(&run, case, 32).unwrap().is_none(), "made for another network");
            assert_eq!(scan.reference.is_some(), with_reference);
            assert!(
                again.image == scan.image && again.brain == scan.brain && again.reference == scan.reference
            );
            assert_eq!(
                (&again.id, again.spacing, again.window, again.shape, again.rim, again.offset),
                (&scan.id, scan.spacing, scan.window, scan.shape, scan.rim, scan.offset)
            );
            assert_eq!(again.geometry, scan.geometry);
        }
        let file = path(&run, &case.id);
        let bytes = std::fs::read(&file).unwrap();
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        for damaged in [&bytes[..bytes.len() / 2], b"", b"{}", &flipped] {
            std::fs::write(&file, damaged).unwrap();
            assert!(read(&run, case, 16).unwrap().is_none());
        }
        std::fs::write(&file, &bytes).unwrap();
        forget(&run);
        assert!(!run.join(FOLDER).exists());
    }
}
