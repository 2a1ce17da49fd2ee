//! The dense CRF's kernels of the slices seen so far, up to a bound in bytes, for all stages that compare the same channels.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::Device;
use rayon::prelude::*;
use scribseg_crf_kernels::PairwiseKernel;

use crate::batches::SliceId;
use crate::error::Result;
use crate::methods::PairwiseLoss;
use crate::scan::Scan;

/// One slice's.
pub(crate) type Kernel = Arc<dyn PairwiseKernel>;

/// Kernels of slices over three channels.
pub(crate) struct Kernels {
    channels: [usize; 3],
    /// Bytes.
    bound: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    kernels: BTreeMap<SliceId, Kernel>,
    bytes: usize,
}

impl Kernels {
    /// None yet, of `channels`, and at most `bound_mib` MiB of them.
    pub(crate) fn new(channels: [usize; 3], bound_mib: usize) -> Arc<Self> {
        Arc::new(Self { channels, bound: bound_mib << 20, kept: Mutex::default() })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of `slices` of `scans`, for tensors on `device`: the kept ones, new ones for the rest.
    pub(crate) fn of(
        &self,
        slices: &[SliceId],
        scans: &[Arc<Scan>],
        pairwise: &dyn PairwiseLoss,
        device: &Device,
    ) -> Result<Vec<Kernel>> {
        let found: Vec<Option<Kernel>> = {
            let kept = self.kept();
            slices.iter().map(|id| kept.kernels.get(id).cloned()).collect()
        };
        let made: Vec<Kernel> = (slices.par_iter().zip(found))
            .map(|(&(i, z), found)| {
                if let Some(kernel) = found {
                    return Ok(kernel);
                }
                let scan = &scans[i];
                let [h, w] = scan.crop_size();
                let features: Vec<f32> =
                    self.channels.iter().flat_map(|&c| scan.crf_channel(c, z).into_iter()).collect();
                pairwise.kernel_on(device, &features, h, w, [scan.spacing[1], scan.spacing[2]])
            })
            .collect::<Result<_>>()?;
        let mut kept = self.kept();
        for (&id, kernel) in slices.iter().zip(&made) {
            if !kept.kernels.contains_key(&id) && kept.bytes + kernel.bytes() <= self.bound {
                kept.bytes += kernel.bytes();
                kept.kernels.insert(id, Arc::clone(kernel));
            }
        }
        Ok(made)
    }
}
