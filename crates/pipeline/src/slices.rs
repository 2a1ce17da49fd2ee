//! Slices of some held-out scans, kept in the run directory for its report to show, small enough for a page.

use std::path::Path;

use ndarray::{Array2, Array3, ArrayView2, ArrayView3, Axis, s};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use scribseg_metrics::Evaluation;

use crate::error::{Error, Result};
use crate::run::RunDir;
use crate::scan::Scan;

/// The folder in a run directory.
const FOLDER: &str = "slices";
/// Scans that are kept at most, and slices of each.
const SCANS: usize = 6;
const SLICES: usize = 13;
/// What is shown of a scan: name and channel.
const IMAGES: [(&str, usize); 2] = [("FLAIR", 3), ("T1ce", 1)];

/// One slice of a scan, cut to the brain.
pub struct Slice {
    /// Its place along the scan's axis, from 0.
    pub z: usize,
    /// FLAIR and T1ce by name, from the brain's 0.5th percentile (0) to its 99.5th (255).
    pub images: Vec<(String, Array2<u8>)>,
    /// Sub-structure codes of the reference.
    pub reference: Array2<u8>,
    /// Sub-structure codes that were predicted.
    pub prediction: Array2<u8>,
}

/// Evenly spaced places among `count`, the first and the last with them; all where there are no more than `most`.
fn spread(count: usize, most: usize) -> Vec<usize> {
    if count <= most {
        return (0..count).collect();
    }
    (0..most).map(|i| (i * (count - 1) + (most - 1) / 2) / (most - 1)).collect()
}

/// The scans that are shown: from the worst to the best whole tumour by Dice, evenly spaced in that order.
fn chosen(evaluation: &Evaluation) -> Vec<&str> {
    let dice = |i: usize| evaluation.cases[i].regions.wt.dice.unwrap_or(f64::INFINITY);
    let mut order: Vec<usize> = (0..evaluation.cases.len()).collect();
    order.sort_by(|&a, &b| dice(a).total_cmp(&dice(b)).then(a.cmp(&b)));
    spread(order.len(), SCANS).into_iter().map(|i| evaluation.cases[order[i]].id.as_str()).collect()
}

/// What the slices of so many held-out scans take at the most, if about three quarters of a crop are brain.
pub(crate) fn bytes(scans: usize, [rows, columns]: [usize; 2], depth: usize) -> usize {
    scans.min(SCANS) * SLICES.min(depth) * (2 + IMAGES.len()) * (rows * columns * 3 / 4)
}

/// First and last row and column of the brain, and one pixel more on each side.
fn bounds(brain: ArrayView3<'_, bool>) -> [std::ops::Range<usize>; 2] {
    let (_, height, width) = brain.dim();
    let span = |axis: usize, length: usize| {
        let there = |i: &usize| brain.index_axis(Axis(axis), *i).iter().any(|&b| b);
        let first = (0..length).find(there).unwrap_or(0);
        let last = (0..length).rev().find(there).unwrap_or(length.saturating_sub(1));
        first.saturating_sub(1)..(last + 2).min(length)
    };
    [span(1, height), span(2, width)]
}

/// The slices that are shown: those with tumour, true or predicted, and where there is none those with brain, evenly spaced.
fn places(scan: &Scan, reference: &Array3<u8>, prediction: &Array3<u8>) -> Vec<usize> {
    let with =
        |shows: &dyn Fn(usize) -> bool| (0..scan.brain.dim().0).filter(|&z| shows(z)).collect::<Vec<_>>();
    let any = |mask: &Array3<u8>, z: usize| mask.index_axis(Axis(0), z).iter().any(|&v| v != 0);
    let mut found = with(&|z| any(reference, z) || any(prediction, z));
    if found.is_empty() {
        found = with(&|z| scan.brain.index_axis(Axis(0), z).iter().any(|&b| b));
    }
    spread(found.len(), SLICES).into_iter().map(|i| found[i]).collect()
}

/// Keeps slices of scans from the worst to the best of an evaluation; `predicted` gives a scan's prediction on its whole grid.
///
/// # Errors
/// What `predicted` or the disk refuses.
pub(crate) fn write<S: std::ops::Deref<Target = Scan>>(
    run: &RunDir,
    scans: &[S],
    evaluation: &Evaluation,
    predicted: impl Fn(&Scan) -> Result<Array3<u8>>,
) -> Result<()> {
    for (rank, id) in chosen(evaluation).into_iter().enumerate() {
        let Some(scan) = scans.iter().find(|scan| scan.id == id) else { continue };
        let (reference, prediction) = (scan.reference_crop()?, scan.crop(predicted(scan)?.view(), 0));
        let bytes = packed(scan, &reference, &prediction)?;
        run.write(&format!("{FOLDER}/{rank}-{id}.safetensors"), &bytes)?;
    }
    Ok(())
}

fn packed(scan: &Scan, reference: &Array3<u8>, prediction: &Array3<u8>) -> Result<Vec<u8>> {
    let (places, [rows, columns]) = (places(scan, reference, prediction), bounds(scan.brain.view()));
    let shape = vec![places.len(), rows.len(), columns.len()];
    let codes = |mask: &Array3<u8>| -> Vec<u8> {
        let cut =
            |&z: &usize| mask.slice(s![z, rows.clone(), columns.clone()]).iter().copied().collect::<Vec<_>>();
        places.iter().flat_map(cut).collect()
    };
    let grey = |channel: usize| -> Vec<u8> {
        let cut = |&z: &usize| {
            let slice = scan.crf_channel(channel, z);
            let inside = scan.brain.index_axis(Axis(0), z);
            let shown = ndarray::Zip::from(&slice)
                .and(inside)
                .map_collect(|&v, &b| if b { v.clamp(0.0, 255.0) as u8 } else { 0 });
            shown.slice(s![rows.clone(), columns.clone()]).iter().copied().collect::<Vec<_>>()
        };
        places.iter().flat_map(cut).collect()
    };
    let z: Vec<u8> = places.iter().flat_map(|&z| (z as u32).to_le_bytes()).collect();
    let mut parts = vec![
        ("reference", Dtype::U8, shape.clone(), codes(reference)),
        ("prediction", Dtype::U8, shape.clone(), codes(prediction)),
        ("z", Dtype::U32, vec![places.len()], z),
    ];
    parts.extend(IMAGES.map(|(name, channel)| (name, Dtype::U8, shape.clone(), grey(channel))));
    let tensors = parts
        .iter()
        .map(|(name, dtype, shape, bytes)| Ok((*name, TensorView::new(*dtype, shape.clone(), bytes)?)))
        .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>();
    tensors.and_then(|tensors| safetensors::serialize(tensors, None)).map_err(|e| Error::case(&scan.id, e))
}

/// The slices that a run keeps, by scan, from the worst whole tumour to the best; none of an unfinished run or of one without held-out scans.
///
/// # Errors
/// [`Error::RunDirectory`] for a file that is something else.
pub fn slices(run: &Path) -> Result<Vec<(String, Vec<Slice>)>> {
    let folder = run.join(FOLDER);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let fault = |path: &Path, problem: String| Error::RunDirectory { path: path.to_owned(), problem };
    let entries = std::fs::read_dir(&folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut files: Vec<_> = entries
        .map_err(|e| fault(&folder, e.to_string()))?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    files.sort();
    files
        .iter()
        .map(|path| {
            let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            let id = stem.split_once('-').map_or(stem.as_str(), |(_, id)| id).to_owned();
            let bytes = std::fs::read(path).map_err(|e| fault(path, e.to_string()))?;
            let slices = unpacked(&bytes);
            let slices = slices.ok_or_else(|| {
                fault(
                    path,
                    "expected slices that a run keeps for its report; remove it, and the report goes without"
                        .into(),
                )
            })?;
            Ok((id, slices))
        })
        .collect()
}

fn unpacked(bytes: &[u8]) -> Option<Vec<Slice>> {
    let tensors = SafeTensors::deserialize(bytes).ok()?;
    let all = |name: &str| {
        let tensor = tensors.tensor(name).ok().filter(|t| t.dtype() == Dtype::U8)?;
        let shape: [usize; 3] = tensor.shape().try_into().ok()?;
        Array3::from_shape_vec(shape, tensor.data().to_vec()).ok()
    };
    let (reference, prediction) = (all("reference")?, all("prediction")?);
    let images: Vec<(&str, Array3<u8>)> =
        IMAGES.iter().map(|(name, _)| Some((*name, all(name)?))).collect::<Option<_>>()?;
    let z = tensors.tensor("z").ok().filter(|t| t.dtype() == Dtype::U32)?;
    let z: Vec<u32> = z.data().as_chunks().0.iter().map(|&v| u32::from_le_bytes(v)).collect();
    let parts = images.iter().map(|(_, array)| array).chain([&reference]);
    if z.len() != prediction.dim().0 || parts.into_iter().any(|array| array.dim() != prediction.dim()) {
        return None;
    }
    let one = |array: &Array3<u8>, i: usize| -> Array2<u8> {
        let view: ArrayView2<'_, u8> = array.index_axis(Axis(0), i);
        view.to_owned()
    };
    let slice = |(i, z): (usize, u32)| Slice {
        z: z as usize,
        images: images.iter().map(|(name, array)| ((*name).to_owned(), one(array, i))).collect(),
        reference: one(&reference, i),
        prediction: one(&prediction, i),
    };
    Some(z.into_iter().enumerate().map(slice).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_spread_from_the_first_to_the_last() {
        assert_eq!(spread(0, 5), [0usize; 0]);
        assert_eq!(spread(3, 5), [0, 1, 2]);
        assert_eq!(spread(5, 5), [0, 1, 2, 3, 4]);
        assert_eq!(spread(9, 5), [0, 2, 4, 6, 8]);
        for count in 6..60 {
            let found = spread(count, 6);
            assert!(found.len() == 6 && found[0] == 0 && found[5] == count - 1, "{found:?}");
            assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{found:?}");
        }
    }

    #[test]
    fn what_is_no_file_of_slices_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        assert!(slices(folder.path()).unwrap().is_empty());
        std::fs::create_dir(folder.path().join(FOLDER)).unwrap();
        std::fs::write(folder.path().join(FOLDER).join("0-a.safetensors"), b"something").unwrap();
        let error = slices(folder.path()).err().unwrap().to_string();
        assert!(error.contains("0-a.safetensors") && error.contains("remove it"), "{error}");
    }
}
