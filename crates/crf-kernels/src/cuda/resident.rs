//! A kernel that lives on a device.

use std::sync::Arc;

use cudarc::driver::CudaSlice;

use super::device::{Cuda, failed};
use super::launch::{Batch, Shown};
use super::packed::Packed;
use crate::error::Result;
use crate::features::Features;
use crate::kernel::{PairwiseKernel, check_lengths};
use crate::lattice::Lattice;

/// Channels that are filtered in one launch at most.
const MOST: usize = 8;

/// A lattice or the exact sum on a device: some 60 bytes a pixel and a hundred a vertex on a lattice of five dimensions.
///
/// As a [`PairwiseKernel`] it takes values from the host and brings the result back; in a [`Batch`], or as a kernel of
/// [`crf_loss`](crate::crf_loss) for tensors on the device, nothing leaves it.
pub struct Resident {
    pub(super) cuda: Arc<Cuda>,
    pub(super) packed: CudaSlice<u32>,
    pub(super) pixels: usize,
    /// Vertices that a launch needs memory for, for each channel.
    pub(super) room: usize,
    /// Features a pixel of the exact kernel.
    pub(super) features: Option<usize>,
    mass: Vec<f32>,
}

impl Resident {
    /// A copy of a lattice on the device, where its mass is summed anew.
    ///
    /// # Errors
    /// [`Error::DeviceMemory`](crate::Error::DeviceMemory), [`Error::Cuda`](crate::Error::Cuda), [`Error::Length`](crate::Error::Length) for one that is
    /// too large for the device's counts.
    pub fn lattice(cuda: &Arc<Cuda>, lattice: &Lattice) -> Result<Self> {
        Self::new(cuda, Packed::lattice(lattice)?, lattice.pixels, None)
    }

    /// The exact sum over all pairs of pixels.
    ///
    /// # Errors
    /// As [`lattice`](Self::lattice).
    pub fn exact(cuda: &Arc<Cuda>, features: &Features) -> Result<Self> {
        Self::new(cuda, Packed::exact(features, None)?, features.pixels(), Some(features.dimensions()))
    }

    fn new(cuda: &Arc<Cuda>, packed: Packed, pixels: usize, features: Option<usize>) -> Result<Self> {
        let mut mass = vec![0.0; pixels];
        let mut kernel = Self {
            packed: cuda.upload(&packed.words)?,
            cuda: cuda.clone(),
            pixels,
            room: packed.room,
            features,
            mass: Vec::new(),
        };
        kernel.filter(1, &vec![1.0; pixels], &mut mass)?;
        if pixels > 0 {
            let bits: Vec<u32> = mass.iter().map(|m| m.to_bits()).collect();
            let at = packed.mass_at();
            let mut place = kernel.packed.slice_mut(at..at + pixels);
            cuda.stream().memcpy_htod(&bits, &mut place).map_err(|e| failed("a copy to the device", e))?;
        }
        // A stream may be another one to every thread, and the next to use this may be another thread.
        cuda.stream().synchronize().map_err(|e| failed("the device", e))?;
        kernel.mass = mass;
        Ok(kernel)
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        // Another thread may have launched what still reads it. An error here was or will be told to whoever waits for that.
        let _ = self.cuda.stream().context().synchronize();
    }
}

impl PairwiseKernel for Resident {
    fn pixels(&self) -> usize {
        self.pixels
    }

    fn filter(&self, channels: usize, values: &[f32], out: &mut [f32]) -> Result<()> {
        check_lengths(self.pixels, channels, values, out)?;
        if self.pixels == 0 {
            return Ok(());
        }
        let batch = Batch::new(vec![self.into()], 1, self.pixels)?;
        let size = MOST * self.pixels;
        for (values, out) in values.chunks(size).zip(out.chunks_mut(size)) {
            let copy = self.cuda.upload(values)?;
            let filtered = batch.filter(values.len() / self.pixels, &copy.as_view())?;
            let stream = self.cuda.stream();
            stream.memcpy_dtoh(&filtered, out).map_err(|e| failed("a copy from the device", e))?;
            stream.synchronize().map_err(|e| failed("the device", e))?;
        }
        Ok(())
    }

    fn mass(&self) -> &[f32] {
        &self.mass
    }

    fn bytes(&self) -> usize {
        4 * (self.packed.len() + self.mass.len())
    }

    fn resident(&self) -> Option<Shown<'_>> {
        Some(self.into())
    }
}
