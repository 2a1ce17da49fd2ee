//! Sub-structures by a mixture that starts from what is known of gliomas: [`Method`] `mixture`.
//!
//! k-means asks each scan anew where its clusters are, and draws the line in the middle of the oedema where the enhancing tumour is tiny.
//! Here every scan starts from a [`Prior`], and two steps follow:
//!
//! 1. a normal mixture of the structures that are present is fitted to the scan ([`em`]) and names its voxels;
//! 2. a small perceptron ([`reader`]) reads what the mixture says of a voxel, what it shows and where it lies to what was found ([`evidence`]).
//!
//! Presence labels are hard: what is absent has no density, no probability, no voxel.

mod em;
mod evidence;
mod gaussian;
mod learn;
mod points;
mod prior;
mod reader;
mod region;

use ndarray::{Array3, ArrayView3, ArrayView4};

pub use evidence::Piece;
pub use learn::Learner;
pub use prior::Prior;

use crate::features;
use crate::method::{Clustering, Input, Method};
use crate::{ED, Error, Presence};
use gaussian::{D, Vector};
use prior::CLASSES;
use region::Region;

/// A mixture from a prior that was learned on phantoms: [`Method`] `mixture`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mixture;

impl Method for Mixture {
    fn name(&self) -> &'static str {
        "mixture"
    }

    fn divide(&self, input: &Input<'_>, _seed: u64) -> Result<Clustering, Error> {
        mixture(input.modalities, input.wt, input.presence, input.spacing, Prior::phantoms()?)
    }
}

/// Voxel sizes in mm at which this method means something.
const SPACINGS: std::ops::RangeInclusive<f64> = 0.05..=50.0;

/// A tumour as this method sees it.
struct Tumour {
    region: Region,
    points: Vec<Vector>,
    places: Vec<em::Place>,
}

impl Tumour {
    fn new(modalities: ArrayView4<'_, f32>, voxels: &[[usize; 3]], spacing: [f64; 3]) -> Result<Self, Error> {
        let region = Region::new(voxels, spacing)?;
        let points = points::points(modalities, voxels, &region);
        let places = em::places(&region.depths);
        Ok(Self { region, points, places })
    }
}

/// Divides a whole tumour by a mixture that starts from `prior`.
///
/// `modalities` is `[T1, T1ce, T2, FLAIR]` by `[z, y, x]`, z-scored over the brain, for the prior is about z-scores; `wt` the whole tumour;
/// `spacing` in mm. There is no chance in it: the same input gives the same labels, at any number of threads. In the result `inertia` is over
/// the seven features of this method.
///
/// An empty tumour gives labels that are all zero; one of a single structure is all of that.
///
/// # Errors
/// On another number of modalities than four, a mask on another grid, intensities that are not finite inside the tumour, a spacing out of
/// range, or when all three structures are declared absent from a tumour that is there.
pub fn mixture(
    modalities: ArrayView4<'_, f32>,
    wt: ArrayView3<'_, bool>,
    presence: Presence,
    spacing: [f64; 3],
    prior: &Prior,
) -> Result<Clustering, Error> {
    if !spacing.iter().all(|step| SPACINGS.contains(step)) {
        return Err(Error::Spacing { found: spacing });
    }
    let (voxels, _) = features::voxels(modalities, wt)?;
    let structures = presence.structures();
    let mut found =
        Clustering { labels: Array3::zeros(wt.dim()), inertia: 0.0, k: structures.len(), features: D };
    if voxels.is_empty() {
        return Ok(found);
    }
    if structures.is_empty() {
        return Err(Error::NothingPresent { voxels: voxels.len() });
    }
    let present: [bool; CLASSES] = std::array::from_fn(|k| structures.contains(&label(k)));
    let Tumour { region, points, places } = Tumour::new(modalities, &voxels, spacing)?;
    let evidence = evidence::evidence(&region, &points, &places, present, prior)?;
    let read = |e| evidence::most_probable(&evidence::among(present, prior.reader.read(e)));
    let names: Vec<usize> = evidence.iter().map(read).collect();
    for (&voxel, &name) in voxels.iter().zip(&names) {
        found.labels[voxel] = label(name);
    }
    found.inertia = inertia(&points, &names);
    Ok(found)
}

/// The label of the structure with that index.
fn label(index: usize) -> u8 {
    [crate::NCR, ED, crate::ET][index]
}

/// Sum of squared distances to the mean of what has the same name.
fn inertia(points: &[Vector], names: &[usize]) -> f64 {
    let (mut means, mut counts) = ([[0.0; D]; CLASSES], [0usize; CLASSES]);
    for (x, &k) in points.iter().zip(names) {
        counts[k] += 1;
        (0..D).for_each(|i| means[k][i] += x[i]);
    }
    for (mean, count) in means.iter_mut().zip(counts) {
        mean.iter_mut().for_each(|m| *m /= count.max(1) as f64);
    }
    let squared =
        |(x, &k): (&Vector, &usize)| x.iter().zip(&means[k]).map(|(x, m)| (x - m).powi(2)).sum::<f64>();
    points.iter().zip(names).map(squared).sum()
}
