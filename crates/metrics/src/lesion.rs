//! Scores by lesion, after the rules of the BraTS 2023 challenge.
//!
//! 1. The reference is dilated three times with the 18-connected element. What is one 26-connected component of the
//!    dilated mask is one *reference lesion*: fragments closer than the dilation bridges belong together.
//! 2. Every 26-connected component of the prediction is a *predicted lesion*. It matches a reference lesion if it
//!    touches that lesion's dilation, and may match several.
//! 3. A reference lesion is scored, undilated, against the union of the predicted lesions that match it. One that
//!    none matches (missed) and a predicted lesion that matches none (spurious) score a Dice of 0 and an HD95 of
//!    [`HD95_PENALTY_MM`].
//! 4. Reference lesions of at most 50 mm³ are left out; a prediction that matches one is not spurious.
//! 5. The score is the mean over the reference lesions that count and the spurious ones.

use ndarray::{Array3, ArrayView3};
use scribseg_morphology::{Connectivity, label_components};

use crate::crop::Bounds;
use crate::overlap::Confusion;
use crate::surface::{HD95_PENALTY_MM, hd95};
use crate::{Error, check_shapes, check_spacing};

/// How lesions are told apart. The default is the BraTS 2023 glioma challenge's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LesionParams {
    /// Dilations of the reference with the 18-connected element, in voxels. Default 3.
    pub dilation: usize,
    /// Reference lesions of at most this volume are left out, in mm³. Default 50.
    pub min_volume_mm3: f64,
}

impl Default for LesionParams {
    fn default() -> Self {
        Self { dilation: 3, min_volume_mm3: 50.0 }
    }
}

/// Lesion-wise figures of one region of one scan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LesionScores {
    /// Mean Dice over counted reference lesions and spurious ones, in 0..=1.
    pub dice: f64,
    /// Mean HD95 over the same, in mm.
    pub hd95: f64,
    /// Reference lesions that count.
    pub reference: usize,
    /// Of these, the ones no predicted lesion matches.
    pub missed: usize,
    /// Predicted lesions that match no reference lesion.
    pub spurious: usize,
    /// Reference lesions left out for their volume.
    pub ignored: usize,
}

/// The lesion-wise Dice of two masks, in 0..=1; see [`lesion_scores`].
pub fn lesion_dice(
    reference: ArrayView3<'_, bool>,
    prediction: ArrayView3<'_, bool>,
    spacing: [f64; 3],
    params: &LesionParams,
) -> Result<Option<f64>, Error> {
    Ok(lesion_scores(reference, prediction, spacing, params)?.map(|scores| scores.dice))
}

/// Lesion-wise Dice and HD95 of two masks by the rules above.
///
/// `spacing` is in mm, `[z, y, x]`. `None` if there is no lesion to score: both masks empty, or every reference
/// lesion too small to count and no spurious one. Errs if the shapes differ, a spacing is not positive or the
/// minimum volume is negative or not finite.
pub fn lesion_scores(
    reference: ArrayView3<'_, bool>,
    prediction: ArrayView3<'_, bool>,
    spacing: [f64; 3],
    params: &LesionParams,
) -> Result<Option<LesionScores>, Error> {
    check_shapes(reference.shape(), prediction.shape())?;
    check_spacing(spacing)?;
    if !(params.min_volume_mm3.is_finite() && params.min_volume_mm3 >= 0.0) {
        return Err(Error::Volume { found: params.min_volume_mm3 });
    }
    let Some((reference, prediction)) = Bounds::crop_pair(reference, prediction, params.dilation) else {
        return Ok(None);
    };
    let dilated = dilate_18(&reference, params.dilation);
    let (zone, zones) = label_components(dilated.view(), Connectivity::Full);
    let (component, components) = label_components(prediction.view(), Connectivity::Full);

    // Which predicted component touches which lesion's dilation, and how many voxels it shares with the lesion.
    let mut matches: Vec<Vec<usize>> = vec![Vec::new(); zones + 1];
    let mut reference_voxels = vec![0u64; zones + 1];
    let mut component_voxels = vec![0u64; components + 1];
    let mut shared = std::collections::BTreeMap::<(usize, usize), u64>::new();
    let mut touched = vec![false; components + 1];
    for ((&zone, &component), &inside) in zone.iter().zip(&component).zip(&reference) {
        let (zone, component) = (zone as usize, component as usize);
        reference_voxels[zone] += u64::from(inside);
        component_voxels[component] += 1;
        if zone > 0 && component > 0 {
            *shared.entry((zone, component)).or_default() += u64::from(inside);
        }
    }
    for &(zone, component) in shared.keys() {
        matches[zone].push(component);
        touched[component] = true;
    }

    let voxel = spacing.iter().product::<f64>();
    let spurious = (1..=components).filter(|&c| !touched[c]).count();
    let mut scores = LesionScores {
        dice: 0.0,
        hd95: HD95_PENALTY_MM * spurious as f64,
        reference: 0,
        missed: 0,
        spurious,
        ignored: 0,
    };
    for lesion in 1..=zones {
        if reference_voxels[lesion] as f64 * voxel <= params.min_volume_mm3 {
            scores.ignored += 1;
            continue;
        }
        scores.reference += 1;
        if matches[lesion].is_empty() {
            scores.missed += 1;
            scores.hd95 += HD95_PENALTY_MM;
            continue;
        }
        let predicted: u64 = matches[lesion].iter().map(|&c| component_voxels[c]).sum();
        let both: u64 = matches[lesion].iter().filter_map(|&c| shared.get(&(lesion, c))).sum();
        let counts = Confusion {
            true_positive: both,
            false_positive: predicted - both,
            false_negative: reference_voxels[lesion] - both,
            true_negative: 0,
        };
        scores.dice += counts.dice().unwrap_or(0.0);
        scores.hd95 +=
            lesion_hd95(&zone, &component, &reference, lesion, &matches[lesion], components, spacing)?;
    }
    let scored = scores.reference + scores.spurious;
    if scored == 0 {
        return Ok(None);
    }
    scores.dice /= scored as f64;
    scores.hd95 /= scored as f64;
    Ok(Some(scores))
}

/// HD95 of one reference lesion against the union of the components that match it.
fn lesion_hd95(
    zone: &Array3<u32>,
    component: &Array3<u32>,
    reference: &Array3<bool>,
    lesion: usize,
    matches: &[usize],
    components: usize,
    spacing: [f64; 3],
) -> Result<f64, Error> {
    let mut chosen = vec![false; components + 1];
    for &c in matches {
        chosen[c] = true;
    }
    let predicted = component.mapv(|c| chosen[c as usize]);
    let mut own = zone.mapv(|z| z as usize == lesion);
    own.zip_mut_with(reference, |own, &inside| *own &= inside);
    Ok(hd95(own.view(), predicted.view(), spacing)?.unwrap_or(HD95_PENALTY_MM))
}

/// Dilates `rounds` times with the element of the 18 face and edge neighbours, within the array.
fn dilate_18(mask: &Array3<bool>, rounds: usize) -> Array3<bool> {
    // One voxel of margin marked as set: neighbours need no bounds check and the margin is never entered.
    let (depth, height, width) = mask.dim();
    let (row, plane) = (width + 2, (width + 2) * (height + 2));
    let mut seen = vec![true; plane * (depth + 2)];
    let mut frontier = Vec::new();
    for ((z, y, x), &inside) in mask.indexed_iter() {
        let i = (z + 1) * plane + (y + 1) * row + x + 1;
        seen[i] = inside;
        if inside {
            frontier.push(i);
        }
    }
    let (row_step, plane_step) = (row as isize, plane as isize);
    let mut offsets = Vec::with_capacity(18);
    for dz in -1isize..=1 {
        for dy in -1isize..=1 {
            for dx in -1isize..=1 {
                if (1..=2).contains(&(dz.abs() + dy.abs() + dx.abs())) {
                    offsets.push(dz * plane_step + dy * row_step + dx);
                }
            }
        }
    }
    for _ in 0..rounds {
        let mut next = Vec::new();
        for &i in &frontier {
            for &offset in &offsets {
                let j = i.wrapping_add_signed(offset);
                if !seen[j] {
                    seen[j] = true;
                    next.push(j);
                }
            }
        }
        frontier = next;
    }
    Array3::from_shape_fn(mask.dim(), |(z, y, x)| seen[(z + 1) * plane + (y + 1) * row + x + 1])
}
