//! The kernels on CUDA devices.
//!
//! `kernels.cu` is compiled at run time, by NVRTC, for the device at hand: nothing of CUDA is needed to build. A lattice is built on the
//! CPU, packed into one buffer and kept on the device; from then on loss and gradient of a batch take one launch, and one more adds the
//! images' losses. Without the feature `cuda` only what the tests run on the CPU is compiled.

#[cfg(test)]
mod emulated;
mod packed;
mod program;

#[cfg(feature = "cuda")]
mod device;
#[cfg(feature = "cuda")]
mod launch;
#[cfg(feature = "candle-cuda")]
mod op;
#[cfg(feature = "cuda")]
mod resident;

#[cfg(feature = "cuda")]
pub use cudarc;
#[cfg(feature = "cuda")]
pub use device::Cuda;
#[cfg(feature = "cuda")]
pub use launch::{Batch, LossAndGradient, Shown};
#[cfg(feature = "candle-cuda")]
pub(crate) use op::crf_loss;
#[cfg(feature = "cuda")]
pub use resident::Resident;
