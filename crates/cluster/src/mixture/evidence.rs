//! What is known of a voxel before it is named: its features, what a mixture says of it, and where it lies to what that found.
//!
//! The mixture names every voxel; a voxel's place is then seen in relation to those names: how near enhancing tumour is, whether it is
//! enclosed by it, how much core there is around.

use super::em::{Mixture, Place};
use super::gaussian::{D, Vector};
use super::prior::{CLASSES, Prior};
use super::region::Region;
use crate::Error;

/// Independent voxels a millilitre.
const PER_ML: f64 = 10.0;
/// Least log-probability.
const LEAST: f64 = -20.0;
/// Numbers about a voxel's place, and about what was found in all.
const PLACE: usize = 10;
/// Numbers in all.
pub(crate) const LENGTH: usize = D + CLASSES + PLACE;

/// A part of the evidence that a [`Prior`] may be learned without, to see what it is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// What the voxel shows.
    Features,
    /// What the mixture says of it.
    Mixture,
    /// Where it lies to what the mixture found, and how much that is.
    Places,
}

impl Piece {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Features, Self::Mixture, Self::Places];

    /// Whether evidence of that index is part of this.
    pub(crate) fn holds(self, index: usize) -> bool {
        match self {
            Self::Features => index < D,
            Self::Mixture => (D..D + CLASSES).contains(&index),
            Self::Places => index >= D + CLASSES,
        }
    }
}

/// Indices of the structures.
const NCR: usize = 0;
const ET: usize = 2;

/// The evidence of each of a tumour's voxels.
pub(crate) fn evidence(
    region: &Region,
    points: &[Vector],
    places: &[Place],
    present: [bool; CLASSES],
    prior: &Prior,
) -> Result<Vec<[f64; LENGTH]>, Error> {
    let mixture = Mixture::start(prior, present).fit(points, places, region.ml(), PER_ML);
    let joint = mixture.log_joint(points, places);
    let seen = seen(region, places, &joint.iter().map(most_probable).collect::<Vec<_>>())?;
    let of = |((x, joint), seen): ((&Vector, &[f64; CLASSES]), &[f64; PLACE])| {
        let most = joint.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let said = joint.map(|j| (j - most).max(LEAST));
        let mut all = x.iter().chain(&said).chain(seen);
        std::array::from_fn(|_| all.next().copied().unwrap_or_default())
    };
    Ok(points.iter().zip(&joint).zip(&seen).map(of).collect())
}

/// The index of the greatest, the first of several.
pub(crate) fn most_probable(logits: &[f64; CLASSES]) -> usize {
    (1..CLASSES).fold(0, |best, k| if logits[k] > logits[best] { k } else { best })
}

/// How each voxel lies to structures that are named already.
fn seen(region: &Region, places: &[Place], names: &[usize]) -> Result<Vec<[f64; PLACE]>, Error> {
    let n = names.len();
    let is = |k: usize| names.iter().map(|&n| n == k).collect::<Vec<bool>>();
    let (core, rim) = (is(NCR), is(ET));
    let blurred = |set: &[bool], sigma: f64| -> Vec<f32> {
        region.blur(&set.iter().map(|&s| f32::from(u8::from(s))).collect::<Vec<_>>(), sigma)
    };
    let (near, wide, around) = (blurred(&rim, 2.0), blurred(&rim, 6.0), blurred(&core, 4.0));
    let any = rim.iter().any(|&set| set);
    let (away, enclosed) = if any {
        (region.distances(&rim)?, region.enclosed(&rim, 4.0)?)
    } else {
        (vec![0.0; n], vec![false; n])
    };
    let share = |set: &[bool]| {
        let share = set.iter().filter(|&&set| set).count() as f64 / n.max(1) as f64;
        (share + 1e-3).log10()
    };
    let (cores, rims) = (share(&core), share(&rim));
    let of = |i: usize| {
        [
            places[i][1],
            places[i][2],
            f64::from(u8::from(any)),
            f64::from(near[i]),
            f64::from(wide[i]),
            away[i].min(20.0) / 20.0,
            f64::from(u8::from(enclosed[i])),
            f64::from(around[i]),
            cores,
            rims,
        ]
    };
    Ok((0..n).map(of).collect())
}

/// What a reader says of all structures, without those that are absent.
pub(crate) fn among(present: [bool; CLASSES], read: [f64; CLASSES]) -> [f64; CLASSES] {
    std::array::from_fn(|k| if present[k] { read[k] } else { f64::NEG_INFINITY })
}
