//! What a voxel shows: the z-scores of T1, T1ce, T2 and FLAIR, and T1, T2 and FLAIR smoothed within the tumour.
//!
//! The smoothed ones tell core from oedema, which differ less than their texture; T1ce is left sharp, for a rim is thin.

use ndarray::{ArrayView4, Axis};

use super::gaussian::Vector;
use super::region::Region;

/// Standard deviation in mm of the smoothing.
const SIGMA: f64 = 1.5;
/// z-scores beyond these count as these: a vessel or an artefact is one voxel, not a cluster.
const RANGE: [f32; 2] = [-6.0, 12.0];

/// The features of a tumour's voxels; `modalities` are `[T1, T1ce, T2, FLAIR]` by `[z, y, x]`, finite inside.
pub(crate) fn points(modalities: ArrayView4<'_, f32>, voxels: &[[usize; 3]], region: &Region) -> Vec<Vector> {
    let sharp: Vec<Vec<f32>> = modalities
        .axis_iter(Axis(0))
        .map(|volume| voxels.iter().map(|&v| volume[v].clamp(RANGE[0], RANGE[1])).collect())
        .collect();
    let smooth: Vec<Vec<f32>> = [0, 2, 3].map(|m| region.smooth(&sharp[m], SIGMA)).into();
    let columns: Vec<&Vec<f32>> = sharp.iter().chain(&smooth).collect();
    (0..voxels.len()).map(|i| std::array::from_fn(|c| f64::from(columns[c][i]))).collect()
}
