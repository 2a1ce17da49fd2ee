//! The network, the losses and the optimiser on CUDA devices.
//!
//! Convolutions are cuDNN's, all the rest is our own kernels (`*.cu`), compiled by NVRTC at run time for the device at hand. The tape asks a
//! [`Machine`](machine::Machine) for both: a device, or in the tests one made of a CPU, on which the kernels run as they are. Without the feature
//! `cuda` only what the tests run there is compiled.

#[macro_use]
pub(crate) mod machine;
pub(crate) mod losses;
pub(crate) mod memory;
pub(crate) mod passes;
pub(crate) mod tape;

/// The kernels' source.
pub(crate) const SOURCE: &str =
    concat!(include_str!("common.cu"), include_str!("network.cu"), include_str!("losses.cu"));

mod cudnn;
#[cfg(feature = "cuda")]
pub(crate) mod device;
#[cfg(feature = "cuda")]
pub(crate) mod network;
#[cfg(feature = "cuda")]
pub(crate) mod ops;

#[cfg(test)]
mod emulated;
#[cfg(test)]
mod tests;
