//! Dividing a tumour behind one trait.

use ndarray::{Array3, ArrayView3, ArrayView4};

use crate::features::{FEATURES, Points};
use crate::lloyd::least_inertia;
use crate::naming::{depths, names};
use crate::{ED, Error, Presence};

/// What a method is given.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// `[modality, z, y, x]`: T1, T1ce, T2, FLAIR, z-scored over the brain.
    pub modalities: ArrayView4<'a, f32>,
    /// The whole tumour, `[z, y, x]`.
    pub wt: ArrayView3<'a, bool>,
    /// Which structures the scan shows.
    pub presence: Presence,
    /// Voxel size in mm, `[z, y, x]`.
    pub spacing: [f64; 3],
}

/// A tumour divided into its sub-structures.
#[derive(Debug, Clone, PartialEq)]
pub struct Clustering {
    /// `[z, y, x]`: 0 outside the whole tumour, 1 NCR/NET, 2 ED, 3 ET inside.
    pub labels: Array3<u8>,
    /// Sum of squared distances of the voxels' features to their cluster's mean.
    pub inertia: f64,
    /// Number of clusters asked for: structures that are not ruled out.
    pub k: usize,
    /// Number of features of a voxel.
    pub features: usize,
}

/// A way to divide a whole tumour into ED, ET and NCR/NET.
pub trait Method: Send + Sync {
    /// The name that a configuration selects it by.
    fn name(&self) -> &'static str;

    /// Divides the tumour. The same input and seed give the same labels at any number of threads.
    ///
    /// # Errors
    /// When the input is malformed: see [`Error`].
    fn divide(&self, input: &Input<'_>, seed: u64) -> Result<Clustering, Error>;
}

/// The names that [`method`] knows.
pub const METHODS: &[&str] = &["kmeans", "mixture"];

/// The method of that name, with its default parameters.
///
/// # Errors
/// When there is none.
pub fn method(name: &str) -> Result<Box<dyn Method>, Error> {
    match name {
        "kmeans" => Ok(Box::new(KMeans::default())),
        "mixture" => Ok(Box::new(crate::Mixture)),
        _ => Err(Error::Method { name: name.to_owned(), known: "kmeans, mixture" }),
    }
}

/// Parameters of [`kmeans`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// Seeded restarts, of which the one with the lowest inertia is kept: at least 1.
    pub restarts: usize,
    /// Most iterations on all voxels from each start: at least 1. It stops by itself when no voxel changes cluster.
    pub max_iterations: usize,
    /// Most voxels that the starts are looked for on: at least 1.
    pub sample: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self { restarts: 10, max_iterations: 300, sample: 10_000 }
    }
}

impl Params {
    /// Checks every range.
    ///
    /// # Errors
    /// Names the first parameter that is out of its range.
    pub fn validate(&self) -> Result<(), Error> {
        for (name, found) in
            [("restarts", self.restarts), ("max_iterations", self.max_iterations), ("sample", self.sample)]
        {
            if found == 0 {
                return Err(Error::Parameter { name, expected: "at least 1", found });
            }
        }
        Ok(())
    }
}

/// The paper's k-means: [`Method`] `kmeans`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KMeans(pub Params);

impl Method for KMeans {
    fn name(&self) -> &'static str {
        "kmeans"
    }

    fn divide(&self, input: &Input<'_>, seed: u64) -> Result<Clustering, Error> {
        kmeans(input.modalities, input.wt, input.presence, input.spacing, &self.0, seed)
    }
}

/// Divides a whole tumour by k-means over `[T1, 2·T1ce, w_t2·T2, w_fl·FLAIR, 2·(T1ce − T1)]`.
///
/// `modalities` is `[T1, T1ce, T2, FLAIR]` by `[z, y, x]`, z-scored over the brain; `wt` the whole tumour; `spacing` in mm.
/// There are as many clusters as `presence` leaves structures: 3, or 2 without ET, in the usual case; with ED or NCR/NET
/// declared absent one less. The highest mean T1ce becomes ET (if present), then the smallest mean distance to the tumour's
/// surface ED, the rest NCR/NET.
///
/// An empty tumour gives labels that are all zero. A tumour with fewer different voxels than clusters cannot be divided: all of
/// it becomes ED, or what else is present when ED is declared absent.
///
/// # Errors
/// On another number of modalities than four, a mask on another grid, intensities that are not finite inside the tumour,
/// parameters or a spacing out of range, or when all three structures are declared absent from a tumour that is there.
pub fn kmeans(
    modalities: ArrayView4<'_, f32>,
    wt: ArrayView3<'_, bool>,
    presence: Presence,
    spacing: [f64; 3],
    params: &Params,
    seed: u64,
) -> Result<Clustering, Error> {
    params.validate()?;
    let points = Points::new(modalities, wt)?;
    let structures = presence.structures();
    let k = structures.len();
    let mut found = Clustering { labels: Array3::zeros(wt.dim()), inertia: 0.0, k, features: FEATURES };
    if points.len() == 0 {
        return Ok(found);
    }
    let Some(&first) = structures.first() else {
        return Err(Error::NothingPresent { voxels: points.len() });
    };
    let partition = if distinct_at_least(&points, k) {
        Some(least_inertia(&points, k, params, seed)?)
            .filter(|p| (0..k).all(|c| p.clusters.contains(&(c as u8))))
    } else {
        None
    };
    let Some(partition) = partition else {
        let only = if structures.contains(&ED) { ED } else { first };
        points.voxels.iter().for_each(|&voxel| found.labels[voxel] = only);
        found.inertia = spread(&points);
        return Ok(found);
    };
    let depths = depths(&points.voxels, spacing)?;
    let names = names(&structures, &points, &partition.clusters, &depths);
    for (&voxel, &cluster) in points.voxels.iter().zip(&partition.clusters) {
        found.labels[voxel] = names[usize::from(cluster)];
    }
    found.inertia = partition.inertia;
    Ok(found)
}

// Whether there are at least `k` different points; `k` is at most three, so few need to be remembered.
fn distinct_at_least(points: &Points, k: usize) -> bool {
    let mut seen: Vec<[f64; FEATURES]> = Vec::with_capacity(k);
    for row in (0..points.len()).map(|i| points.row(i)) {
        if seen.len() >= k {
            break;
        }
        if !seen.contains(&row) {
            seen.push(row);
        }
    }
    seen.len() >= k
}

// The inertia of one cluster of all points.
fn spread(points: &Points) -> f64 {
    let n = points.len().max(1) as f64;
    points
        .columns
        .iter()
        .map(|column| {
            let mean = column.iter().sum::<f64>() / n;
            column.iter().map(|v| (v - mean).powi(2)).sum::<f64>()
        })
        .sum()
}
