//! The 95th percentile of the distance between two surfaces.
//!
//! The definition is that of medpy, which much of the BraTS literature reports. A mask's surface is what a
//! 6-connected erosion takes away, where everything outside the array counts as background. Each surface voxel of
//! either mask has a distance to the nearest surface voxel of the other; *both directed sets are concatenated* and
//! their 95th percentile is taken, with linear interpolation between order statistics. Distances are in mm.
//!
//! Others define it otherwise, so say which when you compare: MONAI takes the larger of the two directed percentiles
//! of the same distances (never smaller than ours), the BraTS 2023 tool that of two percentiles weighted by surface
//! area, which the lesion-wise score here follows ([`hd95_by_area`](crate::hd95_by_area)).

use ndarray::{Array3, ArrayView3};
use scribseg_morphology::distance_transform;

use crate::crop::Bounds;
use crate::{Error, check_shapes, check_spacing};

/// The HD95 in mm that [`EmptyPolicy::Brats`](crate::EmptyPolicy::Brats) gives for a mask without a counterpart: the
/// diagonal of the 240 × 240 × 155 mm BraTS volume, as in the challenges until 2022. For lesions the 2023 rules round
/// it up to [`LESION_PENALTY_MM`](crate::LESION_PENALTY_MM).
pub const HD95_PENALTY_MM: f64 = 373.13;

/// The 95th percentile, in mm, of the distances between the surfaces of two masks, pooled over both directions.
///
/// `spacing` is in mm, `[z, y, x]`. `None` if either mask is empty. Errs if the shapes differ or a spacing is not
/// positive. Takes two exact distance transforms of the joint bounding box.
///
/// ```
/// use ndarray::{Array3, s};
/// let mut a = Array3::from_elem((4, 9, 9), false);
/// a.slice_mut(s![1..3, 2..6, 2..6]).fill(true);
/// let mut b = Array3::from_elem((4, 9, 9), false);
/// b.slice_mut(s![1..3, 2..6, 3..7]).fill(true); // one voxel to the left
/// assert_eq!(scribseg_metrics::hd95(a.view(), b.view(), [3.0, 1.0, 1.5])?, Some(1.5));
/// # Ok::<(), scribseg_metrics::Error>(())
/// ```
pub fn hd95(
    reference: ArrayView3<'_, bool>,
    prediction: ArrayView3<'_, bool>,
    spacing: [f64; 3],
) -> Result<Option<f64>, Error> {
    check_shapes(reference.shape(), prediction.shape())?;
    check_spacing(spacing)?;
    // The box holds both surfaces, so distances within it are those of the whole volume; and a mask's voxels at the
    // box's faces have background beyond, whether by the definition of the box or at the edge of the array.
    let Some((reference, prediction)) = Bounds::crop_pair(reference, prediction, 0) else { return Ok(None) };
    let reference = surface(&reference);
    let prediction = surface(&prediction);
    let mut distances = directed(&reference, &prediction, spacing)?;
    let forward = distances.len();
    distances.extend(directed(&prediction, &reference, spacing)?);
    // A mask without a surface is empty, and nothing has a distance to it.
    if forward == 0 || distances.len() == forward {
        return Ok(None);
    }
    Ok(percentile(&mut distances, 0.95))
}

/// The voxels of a mask that have a face neighbour outside it or lie on the array's faces.
fn surface(mask: &Array3<bool>) -> Array3<bool> {
    let (depth, height, width) = mask.dim();
    let (plane, row) = (height * width, width);
    let mut out = Array3::from_elem(mask.dim(), false);
    let (Some(from), Some(to)) = (mask.as_slice(), out.as_slice_mut()) else { return out };
    for z in 0..depth {
        for y in 0..height {
            let start = z * plane + y * row;
            let edge = z == 0 || y == 0 || z + 1 == depth || y + 1 == height;
            for x in 0..width {
                let i = start + x;
                let buried = !edge
                    && x > 0
                    && x + 1 < width
                    && (from[i - 1] & from[i + 1])
                    && (from[i - row] & from[i + row])
                    && (from[i - plane] & from[i + plane]);
                to[i] = from[i] & !buried;
            }
        }
    }
    out
}

/// The distance of every voxel of `from` to the nearest one of `to`; empty if `to` is.
fn directed(from: &Array3<bool>, to: &Array3<bool>, spacing: [f64; 3]) -> Result<Vec<f64>, Error> {
    if !to.iter().any(|&v| v) {
        return Ok(Vec::new());
    }
    let outside = to.mapv(|v| !v);
    let distance = distance_transform(outside.view(), &spacing)?;
    Ok(from.iter().zip(&distance).filter(|(inside, _)| **inside).map(|(_, &d)| d).collect())
}

/// The `q`-quantile (0..=1) with linear interpolation; `None` of nothing. Reorders `values`.
fn percentile(values: &mut [f64], q: f64) -> Option<f64> {
    let position = q * values.len().checked_sub(1)? as f64;
    let (below, fraction) = (position.floor() as usize, position.fract());
    let (_, &mut low, above) = values.select_nth_unstable_by(below, f64::total_cmp);
    let high = above.iter().copied().min_by(f64::total_cmp).unwrap_or(low);
    Some(low + (high - low) * fraction)
}
