//! The tumour on its bounding box: smoothing, distances and what a structure encloses, in mm.

use ndarray::{Array3, Axis};
use rayon::prelude::*;

use crate::Error;

/// A kernel ends after this many standard deviations.
const TRUNCATE: f64 = 3.0;

/// The voxels of a tumour, in scan order, and the box around them.
pub(crate) struct Region {
    shape: [usize; 3],
    /// Voxel size in mm, `[z, y, x]`.
    pub(crate) spacing: [f64; 3],
    /// Where in the box each voxel is.
    cells: Vec<usize>,
    /// Distance of each voxel in mm to the nearest voxel outside the tumour.
    pub(crate) depths: Vec<f64>,
}

impl Region {
    /// `voxels`: `[z, y, x]` in scan order, at least one.
    pub(crate) fn new(voxels: &[[usize; 3]], spacing: [f64; 3]) -> Result<Self, Error> {
        let depths = crate::naming::depths(voxels, spacing)?;
        let (mut low, mut high) = ([usize::MAX; 3], [0; 3]);
        for voxel in voxels {
            for axis in 0..3 {
                low[axis] = low[axis].min(voxel[axis]);
                high[axis] = high[axis].max(voxel[axis]);
            }
        }
        let shape = if voxels.is_empty() { [0; 3] } else { [0, 1, 2].map(|a| high[a] - low[a] + 1) };
        let cell = |v: &[usize; 3]| ((v[0] - low[0]) * shape[1] + v[1] - low[1]) * shape[2] + v[2] - low[2];
        Ok(Self { shape, spacing, cells: voxels.iter().map(cell).collect(), depths })
    }

    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// A voxel's volume in ml.
    pub(crate) fn ml(&self) -> f64 {
        self.spacing.iter().product::<f64>() / 1000.0
    }

    /// `values` of the tumour's voxels, 0 outside, convolved with a Gaussian of `sigma` mm; at the tumour's voxels.
    pub(crate) fn blur(&self, values: &[f32], sigma: f64) -> Vec<f32> {
        let [depth, height, width] = self.shape;
        let plane = height * width;
        let mut grid = vec![0f32; depth * plane];
        for (&cell, &value) in self.cells.iter().zip(values) {
            grid[cell] = value;
        }
        let mut other = vec![0f32; grid.len()];
        if let Some(kernel) = kernel(sigma / self.spacing[2]) {
            let lines = other.par_chunks_mut(width.max(1)).zip(grid.par_chunks(width.max(1)));
            lines.for_each(|(out, line)| along(out, line, &kernel));
            std::mem::swap(&mut grid, &mut other);
        }
        if let Some(kernel) = kernel(sigma / self.spacing[1]) {
            let planes = other.par_chunks_mut(plane.max(1)).zip(grid.par_chunks(plane.max(1)));
            planes.for_each(|(out, from)| {
                for (y, row) in out.chunks_mut(width).enumerate() {
                    across(row, from, &kernel, y);
                }
            });
            std::mem::swap(&mut grid, &mut other);
        }
        if let Some(kernel) = kernel(sigma / self.spacing[0]) {
            other.par_chunks_mut(plane.max(1)).enumerate().for_each(|(z, out)| {
                across(out, &grid, &kernel, z);
            });
            std::mem::swap(&mut grid, &mut other);
        }
        self.cells.iter().map(|&cell| grid[cell]).collect()
    }

    /// The mean of `values` around each voxel, weighted by a Gaussian of `sigma` mm; what is outside the tumour does not count.
    pub(crate) fn smooth(&self, values: &[f32], sigma: f64) -> Vec<f32> {
        let weights = self.blur(&vec![1.0; self.len()], sigma);
        self.blur(values, sigma).iter().zip(weights).map(|(v, w)| v / w).collect()
    }

    /// `set` of the tumour's voxels, in the box and `margin` mm around it.
    fn mask(&self, set: &[bool], margin: f64) -> (Array3<bool>, [usize; 3]) {
        let pad = self.spacing.map(|step| (margin / step).ceil() as usize + 1);
        let mut mask = Array3::from_elem([0, 1, 2].map(|a| self.shape[a] + 2 * pad[a]), false);
        for (&cell, _) in self.cells.iter().zip(set).filter(|(_, set)| **set) {
            mask[self.place(cell, pad)] = true;
        }
        (mask, pad)
    }

    /// `[z, y, x]` of a cell in a box that is padded.
    fn place(&self, cell: usize, pad: [usize; 3]) -> [usize; 3] {
        let [_, height, width] = self.shape;
        let at = [cell / (height * width), cell / width % height, cell % width];
        [0, 1, 2].map(|a| at[a] + pad[a])
    }

    /// The distance in mm of each of the tumour's voxels to the nearest one that is set; infinite when none is.
    pub(crate) fn distances(&self, set: &[bool]) -> Result<Vec<f64>, Error> {
        let (mask, pad) = self.mask(set, 0.0);
        let away = scribseg_morphology::distance_transform(mask.mapv(|set| !set).view(), &self.spacing)?;
        Ok(self.cells.iter().map(|&cell| away[self.place(cell, pad)]).collect())
    }

    /// Which of the tumour's voxels those that are set enclose: closed by a ball of `radius` mm, then the holes of every axial slice.
    pub(crate) fn enclosed(&self, set: &[bool], radius: f64) -> Result<Vec<bool>, Error> {
        let (mask, pad) = self.mask(set, 2.0 * radius);
        let away = scribseg_morphology::distance_transform(mask.mapv(|set| !set).view(), &self.spacing)?;
        let near = away.mapv(|d| d <= radius);
        let inward = scribseg_morphology::distance_transform(near.view(), &self.spacing)?;
        let mut closed = inward.mapv(|d| d > radius);
        closed.zip_mut_with(&mask, |closed, &set| *closed |= set);
        let slices: Vec<_> = closed.axis_iter_mut(Axis(0)).collect();
        slices.into_par_iter().for_each(|mut slice| {
            let filled = scribseg_morphology::fill_holes(slice.view());
            slice.assign(&filled);
        });
        Ok(self.cells.iter().map(|&cell| closed[self.place(cell, pad)]).collect())
    }
}

/// Weights of a Gaussian that sum to 1, the middle one in the middle; none where it would be a single one.
fn kernel(sigma: f64) -> Option<Vec<f32>> {
    let radius = (TRUNCATE * sigma + 0.5) as i64;
    if radius == 0 {
        return None;
    }
    let weight = |i: i64| (-0.5 * (i as f64 / sigma).powi(2)).exp();
    let sum: f64 = (-radius..=radius).map(weight).sum();
    Some((-radius..=radius).map(|i| (weight(i) / sum) as f32).collect())
}

/// A line convolved along its length.
fn along(out: &mut [f32], line: &[f32], kernel: &[f32]) {
    let radius = kernel.len() / 2;
    out.fill(0.0);
    for (i, &w) in kernel.iter().enumerate() {
        // out[x] += w · line[x + i − radius]
        let (skip, ahead) = (radius.saturating_sub(i), i.saturating_sub(radius));
        if skip.max(ahead) < line.len() {
            let n = line.len() - skip.max(ahead);
            for (o, f) in out[skip..skip + n].iter_mut().zip(&line[ahead..ahead + n]) {
                *o += w * f;
            }
        }
    }
}

/// Line `at` among those of `from` that follow one another, convolved across them.
fn across(out: &mut [f32], from: &[f32], kernel: &[f32], at: usize) {
    let (radius, length) = (kernel.len() / 2, out.len());
    out.fill(0.0);
    for (i, &w) in kernel.iter().enumerate() {
        let Some(line) = (at + i).checked_sub(radius) else { continue };
        let Some(from) = from.get(line * length..(line + 1) * length) else { continue };
        for (o, f) in out.iter_mut().zip(from) {
            *o += w * f;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ball of radius 7 in mm, seen in voxels of `spacing`.
    fn ball(spacing: [f64; 3]) -> Vec<[usize; 3]> {
        let mut voxels = Vec::new();
        for z in 0..20 {
            for y in 0..20 {
                for x in 0..20 {
                    let at: [f64; 3] = std::array::from_fn(|a| [z, y, x][a] as f64 * spacing[a] - 8.0);
                    if at.iter().map(|d| d * d).sum::<f64>() <= 49.0 {
                        voxels.push([z, y, x]);
                    }
                }
            }
        }
        voxels
    }

    #[test]
    fn a_blur_is_the_sum_over_all_pairs() {
        let spacing = [2.0, 1.0, 1.5];
        let voxels = ball(spacing);
        let region = Region::new(&voxels, spacing).unwrap();
        let values: Vec<f32> = (0..voxels.len()).map(|i| (i as f32 * 0.37).sin()).collect();
        let blurred = region.blur(&values, 1.6);
        let weight = |axis: usize, a: usize, b: usize| {
            let k = kernel(1.6 / spacing[axis]).unwrap();
            let at = a.abs_diff(b);
            k.get(k.len() / 2 + at).map_or(0.0, |&w| f64::from(w))
        };
        for (i, a) in voxels.iter().enumerate().step_by(29) {
            let sum: f64 = (voxels.iter().zip(&values))
                .map(|(b, &v)| f64::from(v) * (0..3).map(|n| weight(n, a[n], b[n])).product::<f64>())
                .sum();
            assert!((f64::from(blurred[i]) - sum).abs() < 1e-5, "{a:?}: {} beside {sum}", blurred[i]);
        }
    }

    #[test]
    fn a_smoothed_constant_stays_what_it_is() {
        let region = Region::new(&ball([1.0; 3]), [1.0; 3]).unwrap();
        let smooth = region.smooth(&vec![3.5; region.len()], 2.0);
        assert!(smooth.iter().all(|v| (v - 3.5).abs() < 1e-5));
    }

    #[test]
    fn a_shell_encloses_what_is_within_it_and_a_broken_one_too() {
        let voxels = ball([1.0; 3]);
        let region = Region::new(&voxels, [1.0; 3]).unwrap();
        let from_centre = |v: &[usize; 3]| v.map(|i| (i as f64 - 8.0).powi(2)).iter().sum::<f64>().sqrt();
        let inner: Vec<bool> = voxels.iter().map(|v| from_centre(v) < 3.5).collect();
        for gap in [0, 3] {
            let shell: Vec<bool> = voxels
                .iter()
                .map(|v| {
                    (3.5..5.5).contains(&from_centre(v))
                        && !(gap > 0 && v[2] > 8 && v[1].abs_diff(8) < gap - 1)
                })
                .collect();
            let enclosed = region.enclosed(&shell, 4.0).unwrap();
            assert!(inner.iter().zip(&enclosed).all(|(inner, enclosed)| !inner || *enclosed), "gap {gap}");
            assert!(shell.iter().zip(&enclosed).all(|(set, enclosed)| !set || *enclosed));
            assert!(voxels.iter().zip(&enclosed).all(|(v, e)| !e || from_centre(v) < 6.5), "gap {gap}");
        }
        let nothing = region.enclosed(&vec![false; voxels.len()], 4.0).unwrap();
        assert!(nothing.iter().all(|e| !e));
    }
}
