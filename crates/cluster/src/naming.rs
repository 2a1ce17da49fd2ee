//! Which structures there are, and which cluster is which.

use ndarray::{Array3, s};

use crate::Error;
use crate::features::Points;

/// Label of the necrotic and non-enhancing core (NCR/NET).
pub const NCR: u8 = 1;
/// Label of oedema.
pub const ED: u8 = 2;
/// Label of the enhancing tumour.
pub const ET: u8 = 3;

/// Which sub-structures a scan shows, as declared by a person; `None` is "n/a".
///
/// What is not declared is taken to be there, for all three: a structure is ruled out only by `Some(false)`. ED and NCR/NET
/// are in nearly every glioma, and about four in five have enhancing tumour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Presence {
    /// Necrotic and non-enhancing core.
    pub ncr: Option<bool>,
    /// Oedema.
    pub ed: Option<bool>,
    /// Enhancing tumour.
    pub et: Option<bool>,
}

impl Presence {
    /// The labels of the structures that are not ruled out: ET, then ED, then NCR/NET.
    pub fn structures(&self) -> Vec<u8> {
        [(ET, self.et), (ED, self.ed), (NCR, self.ncr)]
            .into_iter()
            .filter(|(_, declared)| *declared != Some(false))
            .map(|(label, _)| label)
            .collect()
    }
}

/// The label of each cluster: highest mean T1ce is ET when it is there, of the others the smallest mean distance to the surface
/// is ED, and what is left is NCR/NET.
///
/// `structures` comes from [`Presence::structures`] and has as many entries as there are clusters, none of which is empty.
pub(crate) fn names(structures: &[u8], points: &Points, clusters: &[u8], depths: &[f64]) -> Vec<u8> {
    let k = structures.len();
    let (t1ce, depth) = (means(k, clusters, &points.t1ce), means(k, clusters, depths));
    let mut names = vec![0; k];
    for &label in structures {
        let free = (0..k).filter(|&c| names[c] == 0);
        let chosen = match label {
            ET => free.reduce(|best, c| if t1ce[c] > t1ce[best] { c } else { best }),
            ED => free.reduce(|best, c| if depth[c] < depth[best] { c } else { best }),
            _ => free.reduce(|first, _| first),
        };
        if let Some(cluster) = chosen {
            names[cluster] = label;
        }
    }
    names
}

fn means(k: usize, clusters: &[u8], values: &[f64]) -> Vec<f64> {
    let (mut sums, mut counts) = (vec![0.0; k], vec![0usize; k]);
    for (&cluster, &value) in clusters.iter().zip(values) {
        sums[usize::from(cluster)] += value;
        counts[usize::from(cluster)] += 1;
    }
    sums.iter().zip(&counts).map(|(sum, &count)| sum / count.max(1) as f64).collect()
}

/// The distance in mm of each tumour voxel to the nearest voxel outside the tumour; what lies beyond the volume is outside.
pub(crate) fn depths(voxels: &[[usize; 3]], spacing: [f64; 3]) -> Result<Vec<f64>, Error> {
    let (mut low, mut high) = ([usize::MAX; 3], [0; 3]);
    for voxel in voxels {
        for axis in 0..3 {
            low[axis] = low[axis].min(voxel[axis]);
            high[axis] = high[axis].max(voxel[axis]);
        }
    }
    if voxels.is_empty() {
        return Ok(Vec::new());
    }
    // One voxel of background all around: the nearest background of any tumour voxel is then in the box.
    let shape = [0, 1, 2].map(|a| high[a] - low[a] + 3);
    let inner = |voxel: &[usize; 3]| [0, 1, 2].map(|a| voxel[a] - low[a] + 1);
    let mut mask = Array3::from_elem(shape, false);
    for voxel in voxels {
        mask[inner(voxel)] = true;
    }
    let distances = scribseg_morphology::distance_transform(mask.slice(s![.., .., ..]), &spacing)?;
    Ok(voxels.iter().map(|voxel| distances[inner(voxel)]).collect())
}
