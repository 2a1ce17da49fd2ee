//! Scores by lesion, after the rules of the BraTS 2023 challenge.
//!
//! The rules are those of the challenge's evaluation tool, <https://github.com/rachitchauhan43/BraTS-2023-Metrics>,
//! with its parameters for adult glioma (`BraTS-GLI`: three dilations, 50 mm³):
//!
//! 1. The reference is dilated three times with the 18-connected element. What is one 26-connected component of the
//!    dilated mask is one *reference lesion*: fragments closer than the dilation bridges belong together.
//! 2. Every 26-connected component of the prediction is a *predicted lesion*. It matches a reference lesion if it
//!    touches that lesion's dilation, and may match several.
//! 3. A reference lesion is scored, undilated, against the union of the predicted lesions that match it: Dice, and
//!    HD95 as [`hd95_by_area`] defines it. One that none matches (missed) and a predicted lesion
//!    that matches none (spurious) score a Dice of 0 and an HD95 of [`LESION_PENALTY_MM`].
//! 4. Reference lesions of at most 50 mm³ are left out; a prediction that matches one is not spurious.
//! 5. The score is the mean over the reference lesions that count and the spurious ones, however small these are.
//!    Where there are none of either, the tool's is perfect: Dice 1, HD95 0 mm.

use std::collections::BTreeMap;
use std::iter::Sum;

use ndarray::{Array3, ArrayView3};
use scribseg_morphology::{Connectivity, label_components};
use serde::{Deserialize, Serialize};

use crate::crop::Bounds;
use crate::overlap::Confusion;
use crate::surfel::hd95_by_area;
use crate::{Error, check_shapes, check_spacing};

/// The HD95 in mm of a lesion without a counterpart: the diagonal of the BraTS volume, rounded up as the 2023 tool does.
pub const LESION_PENALTY_MM: f64 = 374.0;

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

impl LesionScores {
    /// What became of the lesions.
    pub fn counts(&self) -> LesionCounts {
        let Self { reference, missed, spurious, ignored, .. } = *self;
        LesionCounts { reference, missed, spurious, ignored }
    }
}

/// Lesions by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LesionCounts {
    /// Reference lesions that count.
    pub reference: usize,
    /// Of these, the ones no predicted lesion matches.
    pub missed: usize,
    /// Predicted lesions that match no reference lesion.
    pub spurious: usize,
    /// Reference lesions left out for their volume.
    pub ignored: usize,
}

impl Sum for LesionCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |a, b| Self {
            reference: a.reference + b.reference,
            missed: a.missed + b.missed,
            spurious: a.spurious + b.spurious,
            ignored: a.ignored + b.ignored,
        })
    }
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

    let mut found = Census::new(zones, components);
    for ((place, &zone), (&component, &inside)) in zone.indexed_iter().zip(component.iter().zip(&reference)) {
        found.count(place.into(), zone as usize, component as usize, inside);
    }
    let matches = found.matches();
    let mut matched = vec![false; components + 1];
    matches.iter().flatten().for_each(|&component| matched[component] = true);

    let voxel = spacing.iter().product::<f64>();
    let spurious = (1..=components).filter(|&c| !matched[c]).count();
    let mut scores = LesionScores {
        dice: 0.0,
        hd95: LESION_PENALTY_MM * spurious as f64,
        reference: 0,
        missed: 0,
        spurious,
        ignored: 0,
    };
    for lesion in 1..=zones {
        let (own, matches) = (&found.lesions[lesion], &matches[lesion]);
        if own.voxels as f64 * voxel <= params.min_volume_mm3 {
            scores.ignored += 1;
            continue;
        }
        scores.reference += 1;
        if matches.is_empty() {
            scores.missed += 1;
            scores.hd95 += LESION_PENALTY_MM;
            continue;
        }
        let predicted: u64 = matches.iter().map(|&c| found.components[c].voxels).sum();
        let both: u64 = matches.iter().filter_map(|&c| found.shared.get(&(lesion, c))).sum();
        let counts = Confusion {
            true_positive: both,
            false_positive: predicted - both,
            false_negative: own.voxels - both,
            true_negative: 0,
        };
        scores.dice += counts.dice().unwrap_or(0.0);
        // Both surfaces are in the box around them, which spares a volume of many small lesions a pass for each.
        let boxes = matches.iter().filter_map(|&c| found.components[c].bounds);
        let Some(bounds) = boxes.chain(own.bounds).reduce(Bounds::with) else { continue };
        let chosen = bounds.of(component.view()).mapv(|c| matches.binary_search(&(c as usize)).is_ok());
        let mut lesion_mask = bounds.of(zone.view()).mapv(|z| z as usize == lesion);
        lesion_mask.zip_mut_with(&bounds.of(reference.view()), |own, &inside| *own &= inside);
        scores.hd95 += hd95_by_area(lesion_mask.view(), chosen.view(), spacing)?.unwrap_or(LESION_PENALTY_MM);
    }
    let scored = scores.reference + scores.spurious;
    if scored == 0 {
        return Ok(None);
    }
    scores.dice /= scored as f64;
    scores.hd95 /= scored as f64;
    Ok(Some(scores))
}

/// How large a lesion is and where it lies.
#[derive(Clone, Default)]
struct Extent {
    voxels: u64,
    bounds: Option<Bounds>,
}

impl Extent {
    fn add(&mut self, place: [usize; 3]) {
        self.voxels += 1;
        let here = Bounds { low: place, high: place.map(|v| v + 1) };
        self.bounds = Some(self.bounds.map_or(here, |bounds| bounds.with(here)));
    }
}

/// Reference lesions and predicted ones, by number; 0 is the background.
struct Census {
    lesions: Vec<Extent>,
    components: Vec<Extent>,
    /// Voxels that a predicted lesion has in a reference lesion; an entry of 0 where it touches its dilation alone.
    shared: BTreeMap<(usize, usize), u64>,
}

impl Census {
    fn new(zones: usize, components: usize) -> Self {
        let extents = |count| vec![Extent::default(); count + 1];
        Self { lesions: extents(zones), components: extents(components), shared: BTreeMap::new() }
    }

    fn count(&mut self, place: [usize; 3], zone: usize, component: usize, inside: bool) {
        if inside {
            self.lesions[zone].add(place);
        }
        if component > 0 {
            self.components[component].add(place);
            if zone > 0 {
                *self.shared.entry((zone, component)).or_default() += u64::from(inside);
            }
        }
    }

    /// The predicted lesions that match each reference lesion, in rising order.
    fn matches(&self) -> Vec<Vec<usize>> {
        let mut matches = vec![Vec::new(); self.lesions.len()];
        for &(zone, component) in self.shared.keys() {
            matches[zone].push(component);
        }
        matches
    }
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
