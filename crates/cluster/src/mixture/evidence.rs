//! What is known of a voxel before it is named: its features, what two mixtures say of it, and where it lies to what they found.
//!
//! One mixture hardly leaves the prior, the other follows the scan: the first is right where a structure is small, the second where a
//! scan looks like no other. Each names every voxel; a voxel's place is then seen in relation to those names: how near enhancing tumour
//! is, whether it is enclosed by it, how much core there is around.

use super::em::{Mixture, Place, log_sum};
use super::gaussian::{D, Vector};
use super::potts::agreed;
use super::prior::{CLASSES, Prior};
use super::region::Region;
use crate::Error;

/// Independent voxels a millilitre, of the mixture that hardly leaves the prior and of the one that follows the scan.
const PER_ML: [f64; 2] = [10.0, 160.0];
/// β of the field that each mixture's names come from.
const BETA: f64 = 3.0;
/// Least log-probability.
const LEAST: f64 = -20.0;
/// Numbers about a voxel's place that one mixture's names give.
const PLACE: usize = 12;
/// Numbers about the scan as a whole.
const WHOLE: usize = 4;
/// Numbers in all.
pub(crate) const LENGTH: usize = D + PER_ML.len() * (CLASSES + PLACE) + WHOLE;

/// A part of the evidence that a [`Prior`] may be learned without, to see what it is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// What the voxel shows.
    Features,
    /// The mixture that hardly leaves the prior.
    Cautious,
    /// The mixture that follows the scan.
    Bold,
    /// Where the voxel lies to what the mixtures found, and how much that is.
    Places,
}

impl Piece {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Features, Self::Cautious, Self::Bold, Self::Places];

    /// Whether evidence of that index is part of this.
    pub(crate) fn holds(self, index: usize) -> bool {
        let expert = CLASSES + PLACE;
        let whole = D + 2 * expert;
        match self {
            Self::Features => index < D,
            Self::Cautious => (D..D + expert).contains(&index) || (whole..whole + 2).contains(&index),
            Self::Bold => (D + expert..whole).contains(&index) || index >= whole + 2,
            Self::Places => index >= whole || (index >= D && (index - D) % expert >= CLASSES),
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
    let mut all: Vec<[f64; LENGTH]> = vec![[0.0; LENGTH]; points.len()];
    let mut at = D;
    for (row, x) in all.iter_mut().zip(points) {
        row[..D].copy_from_slice(x);
    }
    let mut whole = [0.0; WHOLE];
    for (expert, per_ml) in PER_ML.into_iter().enumerate() {
        let mixture = Mixture::start(prior, present).fit(points, places, region.ml(), per_ml);
        let joint = mixture.log_joint(points, places);
        let names = agreed(region, &joint, BETA);
        for (row, joint) in all.iter_mut().zip(&joint) {
            let most = joint.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            for k in 0..CLASSES {
                row[at + k] = (joint[k] - most).max(LEAST);
            }
        }
        at += CLASSES;
        for (row, seen) in all.iter_mut().zip(seen(region, &names)?) {
            row[at..at + PLACE].copy_from_slice(&seen);
        }
        at += PLACE;
        for (i, k) in [NCR, ET].into_iter().enumerate() {
            let share = names.iter().filter(|&&n| n == k).count() as f64 / names.len().max(1) as f64;
            whole[2 * expert + i] = (share + 1e-3).log10();
        }
    }
    all.iter_mut().for_each(|row| row[at..].copy_from_slice(&whole));
    Ok(all)
}

/// How each voxel lies to structures that are named already.
fn seen(region: &Region, names: &[usize]) -> Result<Vec<[f64; PLACE]>, Error> {
    let is = |k: usize| names.iter().map(|&n| n == k).collect::<Vec<bool>>();
    let share = |set: &[bool], sigma: f64| -> Vec<f32> {
        region.blur(&set.iter().map(|&s| f32::from(u8::from(s))).collect::<Vec<_>>(), sigma)
    };
    let (core, rim) = (is(NCR), is(ET));
    let any = rim.iter().any(|&set| set);
    let has = f64::from(u8::from(any));
    let n = names.len();
    let (near, wide, around) = (share(&rim, 2.0), share(&rim, 6.0), share(&core, 4.0));
    let (away, enclosed) = if any {
        (region.distances(&rim)?, region.enclosed(&rim, 4.0)?)
    } else {
        (vec![0.0; n], vec![false; n])
    };
    let part = rim.iter().filter(|&&set| set).count() as f64 / n.max(1) as f64;
    let deepest = region.depths.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let of = |i: usize| {
        let depth = region.depths[i];
        let relative = depth / deepest;
        [
            depth.min(15.0) / 15.0,
            relative,
            relative * relative,
            has,
            has * relative,
            f64::from(near[i]),
            f64::from(wide[i]),
            away[i].min(20.0) / 20.0,
            f64::from(u8::from(enclosed[i])),
            (10.0 * part).min(2.0),
            f64::from(around[i]),
            has * f64::from(around[i]),
        ]
    };
    Ok((0..n).map(of).collect())
}

/// Log-probabilities of the structures that are present, of those that a reader gives of all.
pub(crate) fn among(present: [bool; CLASSES], read: [f64; CLASSES]) -> [f64; CLASSES] {
    let kept: [f64; CLASSES] = std::array::from_fn(|k| if present[k] { read[k] } else { f64::NEG_INFINITY });
    let total = log_sum(&kept);
    kept.map(|l| l - total)
}
