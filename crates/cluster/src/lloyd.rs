//! Lloyd's iteration on all voxels, and where it starts.
//!
//! linfa's k-means finds the starts on a sample of the voxels: k-means++ and its own iteration, once for each restart. It is not
//! run on all voxels because it walks row by row through array views, some ten times slower than the loop below, and because
//! it counts the old centroid as one more member of its cluster, so it stops short of the least sum of squares.
//! From each start the plain iteration here runs until no voxel changes cluster.

use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_clustering::KMeans;
use ndarray_linfa::Array2;
use rand_linfa::Xoshiro256Plus;
use rand_linfa::rand_core::SeedableRng;

use crate::features::{FEATURES, Points};
use crate::{Error, Params};

type Centroid = [f64; FEATURES];

/// A partition of the points.
pub(crate) struct Partition {
    /// Cluster of each point.
    pub(crate) clusters: Vec<u8>,
    /// Sum of the squared distances to the points' centroids.
    pub(crate) inertia: f64,
}

/// The partition into `k` clusters with the least inertia over all restarts; `k` is at most the number of points.
pub(crate) fn least_inertia(
    points: &Points,
    k: usize,
    params: &Params,
    seed: u64,
) -> Result<Partition, Error> {
    let mut best: Option<Partition> = None;
    let sample = sample(points, params.sample.max(k));
    for restart in 0..params.restarts {
        let start = start(&sample, k, seed.wrapping_add(restart as u64))?;
        let found = lloyd(points, start, params.max_iterations);
        if best.as_ref().is_none_or(|best| found.inertia < best.inertia) {
            best = Some(found);
        }
    }
    best.ok_or(Error::Parameter { name: "restarts", expected: "at least 1", found: 0 })
}

// Every n-th voxel, so that all of the tumour is in it.
fn sample(points: &Points, most: usize) -> DatasetBase<Array2<f64>, ndarray_linfa::Array1<()>> {
    let size = points.len().min(most);
    let at = |i: usize| i * points.len() / size.max(1);
    DatasetBase::from(Array2::from_shape_fn((size, FEATURES), |(i, f)| points.columns[f][at(i)]))
}

fn start(
    sample: &DatasetBase<Array2<f64>, ndarray_linfa::Array1<()>>,
    k: usize,
    seed: u64,
) -> Result<Vec<Centroid>, Error> {
    let fitted = KMeans::params_with_rng(k, Xoshiro256Plus::seed_from_u64(seed))
        .n_runs(1)
        .tolerance(1e-3)
        .max_n_iterations(100)
        .fit(sample)
        .map_err(|error| Error::Starts(error.to_string()))?;
    Ok(fitted.centroids().rows().into_iter().map(|row| std::array::from_fn(|f| row[f])).collect())
}

// Points of one block: their distances to all centroids fit the first-level cache.
const BLOCK: usize = 512;

fn lloyd(points: &Points, mut centroids: Vec<Centroid>, max_iterations: usize) -> Partition {
    let mut clusters = vec![u8::MAX; points.len()];
    let mut inertia = 0.0;
    for _ in 0..max_iterations {
        let mut sums = vec![[0.0; FEATURES]; centroids.len()];
        let mut counts = vec![0usize; centroids.len()];
        let mut changed = false;
        inertia = 0.0;
        for (block, clusters) in clusters.chunks_mut(BLOCK).enumerate() {
            let from = block * BLOCK;
            let columns = points.columns.each_ref().map(|c| &c[from..from + clusters.len()]);
            let (nearest, squared) = assign(&columns, &centroids);
            for (i, (own, &cluster)) in clusters.iter_mut().zip(&nearest).enumerate() {
                changed |= *own != cluster;
                *own = cluster;
                counts[usize::from(cluster)] += 1;
                let sum = &mut sums[usize::from(cluster)];
                for (sum, column) in sum.iter_mut().zip(&columns) {
                    *sum += column[i];
                }
                inertia += squared[i];
            }
        }
        if !changed {
            break;
        }
        for ((centroid, sum), &count) in centroids.iter_mut().zip(&sums).zip(&counts) {
            // A centroid that lost all its points waits where it is.
            if count > 0 {
                *centroid = sum.map(|s| s / count as f64);
            }
        }
    }
    Partition { clusters, inertia }
}

// The nearest centroid of each point of a block, the first of equals, and the squared distance to it.
fn assign(columns: &[&[f64]; FEATURES], centroids: &[Centroid]) -> ([u8; BLOCK], [f64; BLOCK]) {
    let mut nearest = [0u8; BLOCK];
    let mut least = [f64::INFINITY; BLOCK];
    for (cluster, centroid) in centroids.iter().enumerate() {
        let mut squared = [0.0; BLOCK];
        for (column, &mean) in columns.iter().zip(centroid) {
            for (squared, &value) in squared.iter_mut().zip(*column) {
                *squared += (value - mean) * (value - mean);
            }
        }
        for ((squared, least), nearest) in squared.iter().zip(&mut least).zip(&mut nearest) {
            let nearer = squared < least;
            *least = if nearer { *squared } else { *least };
            *nearest = if nearer { cluster as u8 } else { *nearest };
        }
    }
    (nearest, least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(rows: &[Centroid]) -> Points {
        Points {
            voxels: (0..rows.len()).map(|x| [0, 0, x]).collect(),
            columns: std::array::from_fn(|f| rows.iter().map(|r| r[f]).collect()),
            t1ce: vec![0.0; rows.len()],
        }
    }

    fn noise(n: usize, seed: u64) -> Vec<Centroid> {
        let mut state = seed.wrapping_mul(2) + 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / f64::from(1 << 24)
        };
        (0..n).map(|_| std::array::from_fn(|_| next())).collect()
    }

    fn inertia(rows: &[Centroid], clusters: &[u8], k: u8) -> f64 {
        (0..k)
            .map(|cluster| {
                let own: Vec<_> =
                    rows.iter().zip(clusters).filter(|(_, c)| **c == cluster).map(|(r, _)| r).collect();
                (0..FEATURES)
                    .map(|f| {
                        let mean = own.iter().map(|r| r[f]).sum::<f64>() / own.len().max(1) as f64;
                        own.iter().map(|r| (r[f] - mean).powi(2)).sum::<f64>()
                    })
                    .sum::<f64>()
            })
            .sum()
    }

    #[test]
    fn no_partition_of_a_few_points_has_less_inertia() {
        for seed in 0..12 {
            for (n, k) in [(9, 2u8), (8, 3)] {
                let rows = noise(n, seed);
                // Noise has many poor minima: ten starts are enough for a tumour, not for this.
                let params = Params { restarts: 300, ..Params::default() };
                let found = least_inertia(&points(&rows), usize::from(k), &params, seed).unwrap();
                assert!((found.inertia - inertia(&rows, &found.clusters, k)).abs() < 1e-12);
                let least = (0..usize::from(k).pow(n as u32))
                    .map(|code| {
                        let clusters: Vec<u8> = (0..n)
                            .map(|i| (code / usize::from(k).pow(i as u32) % usize::from(k)) as u8)
                            .collect();
                        inertia(&rows, &clusters, k)
                    })
                    .fold(f64::INFINITY, f64::min);
                assert!(
                    found.inertia <= least + 1e-12,
                    "seed {seed}: {} but {least} is possible",
                    found.inertia
                );
            }
        }
    }

    #[test]
    fn at_the_end_every_point_is_in_the_cluster_of_its_nearest_mean() {
        // More points than a block, so that the last block is a part of one.
        let rows = noise(BLOCK * 2 + 37, 3);
        let found =
            least_inertia(&points(&rows), 3, &Params { sample: 200, ..Params::default() }, 5).unwrap();
        let means: Vec<Centroid> = (0..3u8)
            .map(|c| {
                let own: Vec<_> =
                    rows.iter().zip(&found.clusters).filter(|(_, o)| **o == c).map(|(r, _)| r).collect();
                std::array::from_fn(|f| own.iter().map(|r| r[f]).sum::<f64>() / own.len() as f64)
            })
            .collect();
        for (row, &cluster) in rows.iter().zip(&found.clusters) {
            let squared = |m: &Centroid| row.iter().zip(m).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
            let own = squared(&means[usize::from(cluster)]);
            assert!(means.iter().all(|m| own <= squared(m) + 1e-12));
        }
    }
}
