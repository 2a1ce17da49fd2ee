//! Intensity models of the two classes: smoothed joint histograms, fitted by maximum a posteriori.
//!
//! The histogram of a class has `bins` cells along each of its channels. With `n` the voxel counts of a class, `K` the
//! smoothing (each voxel spread over nearby cells by a Gaussian) and `α` a small equal pseudo-count, a model `θ` costs
//!
//! `−Σ_v (K log θ)[b_v] − α Σ_b log θ_b = −Σ_b ((Kᵀ n)_b + α) log θ_b`,
//!
//! which is smallest at `θ_b ∝ (Kᵀ n)_b + α`. So fitting a model and cutting the graph lower one and the same energy.

/// Maps intensities to cells of a joint histogram.
pub(crate) struct Binning {
    bins: usize,
    channels: usize,
    kernel: Vec<Vec<(usize, f64)>>,
}

impl Binning {
    /// `bins` cells along each of `channels` axes; `smoothing` is the Gaussian's standard deviation in cells.
    pub(crate) fn new(bins: usize, channels: usize, smoothing: f64) -> Self {
        let reach = (3.0 * smoothing).ceil() as usize;
        let kernel = (0..bins)
            .map(|from| {
                let cells = from.saturating_sub(reach)..(from + reach + 1).min(bins);
                let weight = |to: usize| match smoothing {
                    s if s > 0.0 => (-0.5 * ((to as f64 - from as f64) / s).powi(2)).exp(),
                    _ => f64::from(to == from),
                };
                let total: f64 = cells.clone().map(weight).sum();
                cells.map(|to| (to, weight(to) / total)).collect()
            })
            .collect();
        Self { bins, channels, kernel }
    }

    pub(crate) fn cells(&self) -> usize {
        self.bins.pow(self.channels as u32)
    }

    /// The cell along one axis of a value on a scale whose ends are `low` and `high`; values beyond go to the end cells.
    pub(crate) fn cell(&self, value: f32, (low, high): (f32, f32)) -> usize {
        let position = (value - low) / (high - low).max(f32::MIN_POSITIVE) * self.bins as f32;
        // `as` saturates: below zero becomes the first cell.
        (position as usize).min(self.bins - 1)
    }

    /// `Kᵀ values`: spreads counts over nearby cells.
    fn spread(&self, values: &mut [f64]) {
        self.along_axes(values, |line, out| {
            for (value, row) in line.iter().zip(&self.kernel) {
                for &(to, weight) in row {
                    out[to] += weight * value;
                }
            }
        });
    }

    /// `K values`: the mean over nearby cells.
    fn gather(&self, values: &mut [f64]) {
        self.along_axes(values, |line, out| {
            for (out, row) in out.iter_mut().zip(&self.kernel) {
                *out = row.iter().map(|&(from, weight)| weight * line[from]).sum();
            }
        });
    }

    fn along_axes(&self, values: &mut [f64], apply: impl Fn(&[f64], &mut [f64])) {
        let (mut line, mut out) = (vec![0.0; self.bins], vec![0.0; self.bins]);
        for axis in 0..self.channels {
            let stride = self.bins.pow(axis as u32);
            for start in (0..values.len()).filter(|i| (i / stride).is_multiple_of(self.bins)) {
                for (i, value) in line.iter_mut().enumerate() {
                    *value = values[start + i * stride];
                }
                out.fill(0.0);
                apply(&line, &mut out);
                for (i, value) in out.iter().enumerate() {
                    values[start + i * stride] = *value;
                }
            }
        }
    }
}

/// A fitted model, as the costs it gives.
pub(crate) struct Model {
    /// Cost of one voxel in each cell: `−(K log θ)`.
    pub(crate) cost: Vec<f64>,
    /// The pseudo-counts' part of the energy: `−α Σ_b log θ_b`.
    pub(crate) prior: f64,
    /// Cost of a voxel for being of this class at all: `−log` of the class's share of the voxels.
    pub(crate) share: f64,
}

impl Model {
    /// Fits to voxel counts; `pseudo_count` is the sum of `α` over all cells, `all` the voxels of both classes.
    pub(crate) fn fit(binning: &Binning, mut counts: Vec<f64>, pseudo_count: f64, all: f64) -> Self {
        let alpha = pseudo_count / counts.len() as f64;
        let share = -(counts.iter().sum::<f64>() / all).ln();
        let total: f64 = counts.iter().sum::<f64>() + pseudo_count;
        binning.spread(&mut counts);
        let mut cost = counts;
        cost.iter_mut().for_each(|c| *c = -((*c + alpha) / total).ln());
        let prior = alpha * cost.iter().sum::<f64>();
        binning.gather(&mut cost);
        Self { cost, prior, share }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn energy(binning: &Binning, counts: &[f64], theta: &[f64], pseudo_count: f64) -> f64 {
        let mut cost: Vec<f64> = theta.iter().map(|t| -t.ln()).collect();
        let prior = pseudo_count / theta.len() as f64 * cost.iter().sum::<f64>();
        binning.gather(&mut cost);
        prior + counts.iter().zip(&cost).map(|(n, c)| n * c).sum::<f64>()
    }

    #[test]
    fn smoothing_keeps_mass_and_is_the_transpose_of_the_mean() {
        for (bins, channels, smoothing) in [(7, 1, 1.0), (5, 2, 0.8), (4, 3, 2.0), (6, 2, 0.0)] {
            let binning = Binning::new(bins, channels, smoothing);
            let n = binning.cells();
            let a: Vec<f64> = (0..n).map(|i| (i * 7 % 11) as f64).collect();
            let b: Vec<f64> = (0..n).map(|i| (i * 5 % 13) as f64 - 4.0).collect();
            let (mut spread, mut gathered) = (a.clone(), b.clone());
            binning.spread(&mut spread);
            binning.gather(&mut gathered);
            assert!((spread.iter().sum::<f64>() - a.iter().sum::<f64>()).abs() < 1e-9);
            let left: f64 = spread.iter().zip(&b).map(|(x, y)| x * y).sum();
            let right: f64 = a.iter().zip(&gathered).map(|(x, y)| x * y).sum();
            assert!((left - right).abs() < 1e-9 * left.abs().max(1.0));
        }
    }

    #[test]
    fn no_other_model_costs_less_than_the_fitted_one() {
        let binning = Binning::new(6, 2, 0.7);
        let counts: Vec<f64> = (0..36).map(|i| ((i * 17) % 23) as f64).collect();
        let fitted = Model::fit(&binning, counts.clone(), 3.0, 1.0);
        let best = fitted.prior + counts.iter().zip(&fitted.cost).map(|(n, c)| n * c).sum::<f64>();
        let mut smoothed = counts.clone();
        binning.spread(&mut smoothed);
        let total: f64 = counts.iter().sum::<f64>() + 3.0;
        let theta: Vec<f64> = smoothed.iter().map(|s| (s + 3.0 / 36.0) / total).collect();
        assert!((energy(&binning, &counts, &theta, 3.0) - best).abs() < 1e-9 * best);
        for i in 0..36 {
            for j in 0..36 {
                let step = 0.2 * theta[i].min(theta[j]);
                let mut other = theta.clone();
                other[i] += step;
                other[j] -= step;
                let there = energy(&binning, &counts, &other, 3.0);
                assert!(i == j || there > best, "moving mass from cell {j} to {i} lowers the energy");
            }
        }
    }

    #[test]
    fn values_beyond_the_scale_go_to_the_end_cells() {
        let binning = Binning::new(10, 1, 1.0);
        assert_eq!(binning.cell(-1e9, (0.0, 1.0)), 0);
        assert_eq!(binning.cell(1e9, (0.0, 1.0)), 9);
        assert_eq!(binning.cell(0.55, (0.0, 1.0)), 5);
        assert_eq!(binning.cell(3.0, (3.0, 3.0)), 0);
    }
}
