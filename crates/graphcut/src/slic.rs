//! Supervoxels: simple linear iterative clustering in three dimensions (Achanta et al., *SLIC superpixels compared to
//! state-of-the-art superpixel methods*, PAMI 2012), in millimetres, inside a mask, on any number of channels.
//!
//! A voxel goes to the centre with the smallest
//! `d² = Σ_c (f_c − μ_c)² + (m / S)² · |p − q|²`, where `S` is the edge of a supervoxel in mm, `p` and `q` are positions in
//! mm and `m` is the compactness in units of the features. Only centres nearer than `S` along every axis compete for a
//! voxel. Each connected piece of what a centre won becomes a supervoxel of its own; pieces that are too small then
//! join the neighbour that they share much boundary with and that looks like them.

use ndarray::{Array3, ArrayView3, ArrayView4};
use rayon::prelude::*;

use crate::Error;
use crate::region::{boundary_areas, components};

/// Parameters of the supervoxels.
#[derive(Debug, Clone, PartialEq)]
pub struct SlicParams {
    /// Edge of a supervoxel in mm, the distance of the initial centres: above 0.
    pub edge_mm: f64,
    /// Weight of position against intensity: how far in features a voxel one edge away counts. At least 0.
    pub compactness: f64,
    /// Rounds of assignment and update: at least 1.
    pub iterations: usize,
    /// Pieces below this part of the volume of an `edge_mm` cube join a neighbour: in 0..=1.
    pub min_fraction: f64,
}

impl Default for SlicParams {
    fn default() -> Self {
        Self { edge_mm: 4.0, compactness: 0.5, iterations: 5, min_fraction: 0.25 }
    }
}

impl SlicParams {
    /// Checks every range.
    ///
    /// # Errors
    /// Names the first parameter that is out of its range.
    pub fn validate(&self) -> Result<(), Error> {
        let fail = |name, expected, found: String| Err(Error::Parameter { name, expected, found });
        if !(self.edge_mm.is_finite() && self.edge_mm > 0.0) {
            return fail("edge_mm", "a length above 0 mm", self.edge_mm.to_string());
        }
        if !(self.compactness.is_finite() && self.compactness >= 0.0) {
            return fail("compactness", "a number of at least 0", self.compactness.to_string());
        }
        if self.iterations == 0 {
            return fail("iterations", "at least 1", "0".into());
        }
        if !(0.0..=1.0).contains(&self.min_fraction) {
            return fail("min_fraction", "a number in 0..=1", self.min_fraction.to_string());
        }
        Ok(())
    }
}

/// A partition of the mask into connected supervoxels.
#[derive(Debug, Clone, PartialEq)]
pub struct Supervoxels {
    /// `[z, y, x]`: 0 outside the mask, 1..=`count` inside, numbered in scan order.
    pub labels: Array3<u32>,
    /// Number of supervoxels.
    pub count: usize,
}

/// Cuts the mask into supervoxels.
///
/// `features` is `[channel, z, y, x]`; `compactness` is in its units. Voxels outside `mask` are never read. The result
/// covers the mask, each supervoxel is face-connected, and each is at least `min_fraction` of an `edge_mm` cube unless it
/// is a whole connected component of the mask. No axis of a supervoxel exceeds the two edges that a centre may reach by
/// more than the small pieces that joined it.
///
/// # Errors
/// On parameters out of range, a mask on another grid, a spacing that is not positive, or a feature that is not finite.
pub fn slic(
    features: ArrayView4<'_, f32>,
    mask: ArrayView3<'_, bool>,
    spacing: [f64; 3],
    params: &SlicParams,
) -> Result<Supervoxels, Error> {
    params.validate()?;
    check_grid(features, mask, spacing)?;
    let shape = [mask.dim().0, mask.dim().1, mask.dim().2];
    let features = features.as_standard_layout();
    let mask = mask.as_standard_layout();
    // Both are in standard layout, so the slices are there.
    let (features, mask) = (features.as_slice().unwrap_or_default(), mask.as_slice().unwrap_or_default());
    check_finite(features, mask, shape)?;

    let grid = Grid::new(shape, spacing, params);
    let mut labels = grid.cells(mask);
    let mut centres = Vec::new();
    for _ in 0..params.iterations {
        update(&grid, features, &labels, &mut centres);
        assign(&grid, features, mask, &centres, &mut labels);
    }
    let (pieces, count) = components(shape, &labels);
    let voxel_mm3: f64 = spacing.iter().product();
    let smallest = params.min_fraction * params.edge_mm.powi(3) / voxel_mm3;
    let unit = params.compactness.powi(2);
    let (labels, count) = merge_small(shape, spacing, features, pieces, count, smallest, unit);
    Ok(Supervoxels { labels: to_array(shape, labels), count })
}

pub(crate) fn check_grid(
    features: ArrayView4<'_, f32>,
    mask: ArrayView3<'_, bool>,
    spacing: [f64; 3],
) -> Result<(), Error> {
    let (_, z, y, x) = features.dim();
    if mask.dim() != (z, y, x) {
        let found = [mask.dim().0, mask.dim().1, mask.dim().2];
        return Err(Error::Shape { what: "brain mask", expected: [z, y, x], found });
    }
    if !spacing.iter().all(|s| s.is_finite() && *s > 0.0) {
        return Err(Error::Spacing { found: spacing });
    }
    Ok(())
}

fn check_finite(features: &[f32], mask: &[bool], shape: [usize; 3]) -> Result<(), Error> {
    for (channel, volume) in features.chunks(mask.len().max(1)).enumerate() {
        if let Some(i) = volume.iter().zip(mask).position(|(value, &inside)| inside && !value.is_finite()) {
            return Err(Error::NotFinite { channel, voxel: position(shape, i), value: volume[i] });
        }
    }
    Ok(())
}

/// The `[z, y, x]` of an offset in C order.
pub(crate) fn position(shape: [usize; 3], offset: usize) -> [usize; 3] {
    let (plane, nx) = ((shape[1] * shape[2]).max(1), shape[2].max(1));
    [offset / plane, offset % plane / nx, offset % nx]
}

pub(crate) fn to_array(shape: [usize; 3], labels: Vec<u32>) -> Array3<u32> {
    let mut labels = labels.into_iter();
    Array3::from_shape_simple_fn(shape, || labels.next().unwrap_or_default())
}

// The label of a voxel of the mask that no centre's window reached.
const UNREACHED: u32 = u32::MAX;

struct Grid {
    shape: [usize; 3],
    // Edges of the initial cells, in voxels.
    step: [usize; 3],
    // Half-widths of a centre's window, in voxels.
    reach: [f32; 3],
    // Squared feature distance for one squared voxel along each axis.
    weight: [f32; 3],
}

struct Centre {
    label: u32,
    position: [f32; 3],
    features: Vec<f32>,
}

impl Grid {
    fn new(shape: [usize; 3], spacing: [f64; 3], params: &SlicParams) -> Self {
        let voxels = spacing.map(|s| (params.edge_mm / s).max(1.0));
        Self {
            shape,
            step: voxels.map(|v| (v.round() as usize).max(1)),
            reach: voxels.map(|v| v as f32),
            weight: spacing.map(|s| (params.compactness * s / params.edge_mm).powi(2) as f32),
        }
    }

    // The start: every voxel of the mask in the cell of a regular grid that it lies in, numbered from 1.
    fn cells(&self, mask: &[bool]) -> Vec<u32> {
        let [_, ny, nx] = self.shape;
        let count = [0, 1, 2].map(|a| self.shape[a].div_ceil(self.step[a]));
        let mut labels = vec![0; mask.len()];
        labels.par_chunks_mut((ny * nx).max(1)).enumerate().for_each(|(z, slice)| {
            for (i, label) in slice.iter_mut().enumerate() {
                if mask[z * ny * nx + i] {
                    let (y, x) = (i / nx, i % nx);
                    let cell = (z / self.step[0] * count[1] + y / self.step[1]) * count[2] + x / self.step[2];
                    *label = cell as u32 + 1;
                }
            }
        });
        labels
    }
}

// The mean position and features of each label that holds a voxel, ordered by label.
fn update(grid: &Grid, features: &[f32], labels: &[u32], centres: &mut Vec<Centre>) {
    let [_, ny, nx] = grid.shape;
    let channels = if labels.is_empty() { 0 } else { features.len() / labels.len() };
    let width = 4 + channels;
    let settled = |label: u32| label != 0 && label != UNREACHED;
    let most = labels.iter().copied().filter(|&l| settled(l)).max().unwrap_or(0) as usize;
    let mut sums = vec![0.0f64; (most + 1) * width];
    for (row, line) in labels.chunks(nx.max(1)).enumerate() {
        let (z, y) = (row / ny, row % ny);
        for (x, &label) in line.iter().enumerate() {
            if !settled(label) {
                continue;
            }
            let sum = &mut sums[label as usize * width..][..width];
            sum[0] += 1.0;
            sum[1] += z as f64;
            sum[2] += y as f64;
            sum[3] += x as f64;
            for c in 0..channels {
                sum[4 + c] += f64::from(features[c * labels.len() + row * nx + x]);
            }
        }
    }
    centres.clear();
    centres.extend(sums.chunks(width).enumerate().filter(|(_, sum)| sum[0] > 0.0).map(|(label, sum)| {
        let mean = |i: usize| (sum[i] / sum[0]) as f32;
        Centre {
            label: label as u32,
            position: [mean(1), mean(2), mean(3)],
            features: (4..width).map(mean).collect(),
        }
    }));
}

// Each slice is filled by one task from the centres in order, so the result does not depend on the threads.
fn assign(grid: &Grid, features: &[f32], mask: &[bool], centres: &[Centre], labels: &mut [u32]) {
    let [_, ny, nx] = grid.shape;
    let plane = (ny * nx).max(1);
    let voxels = labels.len();
    let window = |axis: usize, at: f32, size: usize| {
        let low = (at - grid.reach[axis]).ceil().max(0.0) as usize;
        let high = ((at + grid.reach[axis]).floor() as usize + 1).min(size);
        low.min(high)..high
    };
    labels.par_chunks_mut(plane).enumerate().for_each(|(z, slice)| {
        let mut best = vec![f32::INFINITY; slice.len()];
        let mut line = vec![0.0f32; nx];
        slice.fill(0);
        for centre in centres {
            let dz = z as f32 - centre.position[0];
            if dz.abs() > grid.reach[0] {
                continue;
            }
            let columns = window(2, centre.position[2], nx);
            let line = &mut line[columns.clone()];
            for y in window(1, centre.position[1], ny) {
                let dy = y as f32 - centre.position[1];
                let base = grid.weight[0] * dz * dz + grid.weight[1] * dy * dy;
                for (x, d) in columns.clone().zip(line.iter_mut()) {
                    let dx = x as f32 - centre.position[2];
                    *d = base + grid.weight[2] * dx * dx;
                }
                let row = y * nx + columns.start;
                for (c, &mean) in centre.features.iter().enumerate() {
                    let values = &features[c * voxels + z * plane + row..][..line.len()];
                    for (d, &value) in line.iter_mut().zip(values) {
                        *d += (value - mean) * (value - mean);
                    }
                }
                let best = &mut best[row..][..line.len()];
                let won = &mut slice[row..][..line.len()];
                for ((&d, best), label) in line.iter().zip(best).zip(won) {
                    let nearer = d < *best;
                    *best = if nearer { d } else { *best };
                    *label = if nearer { centre.label } else { *label };
                }
            }
        }
        for (label, &inside) in slice.iter_mut().zip(&mask[z * plane..]) {
            // A voxel that no window reached keeps a label of its own kind and is settled with the small pieces.
            *label = match (inside, *label) {
                (false, _) => 0,
                (true, 0) => UNREACHED,
                (true, label) => label,
            };
        }
    });
}

// Joins pieces below `smallest` voxels, in the order of their numbers, to the neighbour with the largest
// `A / (m² + |Δ|²)`: much shared boundary and little difference of the mean features.
fn merge_small(
    shape: [usize; 3],
    spacing: [f64; 3],
    features: &[f32],
    mut labels: Vec<u32>,
    count: usize,
    smallest: f64,
    unit: f64,
) -> (Vec<u32>, usize) {
    let channels = if labels.is_empty() { 0 } else { features.len() / labels.len() };
    let mut sizes = vec![0usize; count + 1];
    let mut sums = vec![0.0f64; (count + 1) * channels];
    for (i, &label) in labels.iter().enumerate().filter(|(_, l)| **l != 0) {
        sizes[label as usize] += 1;
        for c in 0..channels {
            sums[label as usize * channels + c] += f64::from(features[c * labels.len() + i]);
        }
    }
    let mut neighbours: Vec<Vec<(u32, f64)>> = vec![Vec::new(); count + 1];
    for (a, b, area) in boundary_areas(shape, spacing, &labels) {
        neighbours[a as usize].push((b, area));
        neighbours[b as usize].push((a, area));
    }
    let mut root: Vec<u32> = (0..=count as u32).collect();
    let find = |root: &[u32], mut node: u32| {
        while root[node as usize] != node {
            node = root[node as usize];
        }
        node
    };
    for piece in 1..=count as u32 {
        let own = find(&root, piece);
        if own != piece || sizes[own as usize] as f64 >= smallest {
            continue;
        }
        // Pieces that joined one another count as one neighbour.
        let mut shared: Vec<(u32, f64)> = std::mem::take(&mut neighbours[own as usize])
            .into_iter()
            .map(|(other, area)| (find(&root, other), area))
            .filter(|(other, _)| *other != own)
            .collect();
        shared.sort_by_key(|(other, _)| *other);
        shared.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 += next.1;
            }
            same
        });
        let mean = |piece: u32, c: usize| sums[piece as usize * channels + c] / sizes[piece as usize] as f64;
        let fit = |&(other, area): &(u32, f64)| {
            let contrast: f64 = (0..channels).map(|c| (mean(own, c) - mean(other, c)).powi(2)).sum();
            area / (unit + contrast).max(f64::MIN_POSITIVE)
        };
        // The first of equals wins, that is the lowest number.
        let best = shared.iter().map(|n| (n.0, fit(n))).reduce(|best, n| if n.1 > best.1 { n } else { best });
        let Some((target, _)) = best else { continue };
        root[own as usize] = target;
        sizes[target as usize] += sizes[own as usize];
        for c in 0..channels {
            sums[target as usize * channels + c] += sums[own as usize * channels + c];
        }
        shared.retain(|(other, _)| *other != target);
        neighbours[target as usize].extend(shared);
    }
    // A piece may have been passed over before a smaller one joined it; it only grew, so one pass is enough for it.
    let mut number = vec![0u32; count + 1];
    let mut used = 0;
    for label in &mut labels {
        if *label == 0 {
            continue;
        }
        let own = find(&root, *label) as usize;
        if number[own] == 0 {
            used += 1;
            number[own] = used;
        }
        *label = number[own];
    }
    (labels, used as usize)
}
