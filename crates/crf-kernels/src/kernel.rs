//! What every pairwise kernel can do.

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

    /// Bytes held, for the bound of a cache.
    fn bytes(&self) -> usize;

    /// The kernel on a CUDA device that this one is or is a view of; nothing for others.
    #[cfg(feature = "cuda")]
    fn resident(&self) -> Option<crate::Shown<'_>> {
        None
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
