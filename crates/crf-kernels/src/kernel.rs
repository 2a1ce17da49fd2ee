//! What every pairwise kernel can do.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};

/// A symmetric, non-negative N × N operator W over the pixels of one image.
pub trait PairwiseKernel: Send + Sync {
    /// N.
    fn pixels(&self) -> usize;

    /// W·v for `channels` planar vectors `[channel][pixel]`, written to `out`.
    ///
    /// # Errors
    /// [`Error::Length`] when `values` or `out` are not `channels · N` long.
    fn filter(&self, channels: usize, values: &[f32], out: &mut [f32]) -> Result<()>;

    /// W·1, the mass of each pixel under the operator that [`filter`](Self::filter) applies.
    fn mass(&self) -> &[f32];

    /// W·r of a region's weights r, `[pixel]`. Kernels on the CPU keep it for the next call with the same region.
    ///
    /// # Errors
    /// As [`filter`](Self::filter).
    fn mass_within(&self, region: &[f32]) -> Result<Arc<[f32]>> {
        let mut mass = vec![0.0; region.len()];
        self.filter(1, region, &mut mass)?;
        Ok(mass.into())
    }

    /// Bytes held, for the bound of a cache.
    fn bytes(&self) -> usize;

    /// The kernel on a CUDA device that this one is or is a view of; nothing for others.
    #[cfg(feature = "cuda")]
    fn resident(&self) -> Option<crate::Shown<'_>> {
        None
    }
}

/// The region that a kernel was asked about last, and the mass within it.
#[derive(Default)]
pub(crate) struct Within(Mutex<Option<Region>>);

#[derive(Clone)]
struct Region {
    weights: Arc<[f32]>,
    mass: Arc<[f32]>,
}

impl Within {
    /// What [`PairwiseKernel::mass_within`] is to give, by `compute` if the region is another one.
    pub(crate) fn mass(
        &self,
        region: &[f32],
        compute: impl FnOnce(&mut [f32]) -> Result<()>,
    ) -> Result<Arc<[f32]>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(kept) = kept.filter(|kept| *kept.weights == *region) {
            return Ok(kept.mass);
        }
        let mut mass = vec![0.0; region.len()];
        compute(&mut mass)?;
        let mass: Arc<[f32]> = mass.into();
        let region = Region { weights: region.into(), mass: Arc::clone(&mass) };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(region);
        Ok(mass)
    }

    /// Bytes held once a region of so many pixels was asked about.
    pub(crate) fn bytes(pixels: usize) -> usize {
        8 * pixels
    }
}

/// Checks the lengths that [`PairwiseKernel::filter`] promises to check.
pub(crate) fn check_lengths(pixels: usize, channels: usize, values: &[f32], out: &[f32]) -> Result<()> {
    let expected = pixels.saturating_mul(channels);
    for (what, found) in [("values to filter", values.len()), ("filter output", out.len())] {
        if found != expected {
            return Err(Error::Length { what, expected, found });
        }
    }
    Ok(())
}
