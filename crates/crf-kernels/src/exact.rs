//! The exact sum W_ij = exp(−½‖f_i − f_j‖²), all N² pairs: the oracle for everything else, and on small images a kernel.

use std::sync::Arc;

use rayon::prelude::*;

use crate::error::Result;
use crate::features::Features;
use crate::kernel::{PairwiseKernel, Within, check_lengths};

/// The exact kernel. The diagonal is included: W_ii = 1.
pub struct Exact {
    features: Features,
    mass: Vec<f32>,
    within: Within,
}

impl Exact {
    /// Keeps the features and sums the mass, O(N²).
    ///
    /// # Errors
    /// None today; the signature is that of every kernel.
    pub fn build(features: Features) -> Result<Self> {
        let n = features.pixels();
        let mut kernel = Self { features, mass: Vec::new(), within: Within::default() };
        let mut mass = vec![0.0; n];
        kernel.filter(1, &vec![1.0; n], &mut mass)?;
        kernel.mass = mass;
        Ok(kernel)
    }
}

impl PairwiseKernel for Exact {
    fn pixels(&self) -> usize {
        self.features.pixels()
    }

    fn filter(&self, channels: usize, values: &[f32], out: &mut [f32]) -> Result<()> {
        let n = self.pixels();
        check_lengths(n, channels, values, out)?;
        let d = self.features.dimensions;
        let f = &self.features.values;
        let sums: Vec<Vec<f64>> = (0..n)
            .into_par_iter()
            .map(|i| {
                let mut sums = vec![0.0f64; channels];
                for j in 0..n {
                    let distance: f32 =
                        f[i * d..][..d].iter().zip(&f[j * d..][..d]).map(|(a, b)| (a - b) * (a - b)).sum();
                    let w = f64::from((-0.5 * distance).exp());
                    for (c, s) in sums.iter_mut().enumerate() {
                        *s += w * f64::from(values[c * n + j]);
                    }
                }
                sums
            })
            .collect();
        for (i, sums) in sums.iter().enumerate() {
            for (c, &s) in sums.iter().enumerate() {
                out[c * n + i] = s as f32;
            }
        }
        Ok(())
    }

    fn mass(&self) -> &[f32] {
        &self.mass
    }

    fn mass_within(&self, region: &[f32]) -> Result<Arc<[f32]>> {
        self.within.mass(region, |mass| self.filter(1, region, mass))
    }

    fn bytes(&self) -> usize {
        4 * (self.features.values.len() + self.mass.len()) + Within::bytes(self.mass.len())
    }
}
