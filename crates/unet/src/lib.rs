//! A U-Net for weakly labelled slices: the network, its fused operators with gradients of their own, the partial
//! cross-entropy and the optimiser, on [`candle_core`] tensors.
//!
//! # Overview
//!
//! - [`Config`] says how large the network is and what its parameters are called; [`init()`] draws starting values from
//!   a seeded generator; [`replace_head`] starts a second network from a trained one.
//! - [`UNet`] is an ordinary candle model: parameters come from a [`VarBuilder`](candle_nn::VarBuilder), live in a
//!   [`VarMap`](candle_nn::VarMap), and are saved as safetensors.
//! - [`partial_cross_entropy`] is eq. 1 of the paper; [`softmax`] gives probabilities to a further loss, as to
//!   [`soft_dice`] on full masks.
//! - [`Sgd`] and [`LinearSchedule`] are the paper's optimiser.
//! - [`ops`] holds the operators for networks of one's own.
//!
//! Four families of CPU kernels, [`CpuPath`], give the same result up to rounding, and each the same bytes at any number of
//! threads. `SCRIBSEG_CPU=portable`, `avx2`, `avx512` or `amx` forces one. [`Precision`] is what the convolutions multiply: `bf16` runs on AMX where there is some.
//!
//! # Example
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::VarBuilder;
//! use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
//! use scribseg_unet::{Config, LinearSchedule, MOMENTUM, Sgd, UNet, init, partial_cross_entropy};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::Cpu;
//! let config = Config { in_channels: 4, out_channels: 2, width: 4, depth: 2 };
//! let variables = init(&config, &mut ChaCha8Rng::seed_from_u64(7), &device)?;
//! let network = UNet::load(&config, VarBuilder::from_varmap(&variables, DType::F32, &device))?;
//!
//! let images = Tensor::zeros((1, 4, 16, 16), DType::F32, &device)?;
//! // One scribbled pixel of class 1, everything else unknown.
//! let mut labels = vec![255u8; 256];
//! labels[100] = 1;
//! let scribble = Tensor::from_vec(labels, (1, 16, 16), &device)?;
//! let weak = Tensor::full(255u8, (1, 16, 16), &device)?;
//!
//! let mut optimiser = Sgd::new(&variables, MOMENTUM, 0.0)?;
//! let schedule = LinearSchedule::paper(10);
//! for iteration in 0..10 {
//!     let pass = network.pass(&images)?;
//!     let loss = partial_cross_entropy(pass.logits(), &scribble, &weak, 0.8)?;
//!     optimiser.step(&pass.backward(&loss)?, schedule.rate(iteration))?;
//! }
//! assert_eq!(network.predict(&images)?.dims(), [1, 16, 16]);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! - `cuda`: the network, both losses, the softmax and the optimiser on CUDA devices, for tensors that are there: cuDNN's convolutions (found at
//!   run time; [`check_device`] says what is missing), all else own kernels, compiled at run time. To build it takes a CUDA toolkit, since candle
//!   compiles kernels of its own. Without it, and for the other [`ops`], such a tensor is refused with [`Error::Device`].
//!
//! # When not to use it
//!
//! For three-dimensional networks, for other types than `f32`, or where second derivatives are needed.

mod config;
mod cpu;
#[cfg(any(test, feature = "cuda"))]
mod cuda;
mod dice;
mod engine;
mod error;
mod init;
mod kernels;
mod loss;
pub mod ops;
pub mod optim;
mod precision;
mod unet;

pub use config::{Config, Parameter, ParameterKind};
pub use cpu::CpuPath;
pub use dice::soft_dice;
pub use error::{Error, Result};
pub use init::{init, replace_head};
pub use kernels::norm::EPSILON;
pub use loss::{UNKNOWN, partial_cross_entropy};
pub use ops::softmax;
pub use optim::{LinearSchedule, MOMENTUM, Sgd};
pub use precision::Precision;
pub use unet::{Pass, RUNNING_MOMENTUM, UNet};

/// Checks that networks run on `device` in `precision`: on a CUDA device compiles the kernels and loads cuDNN, which is done once.
///
/// # Errors
/// [`Error::Cuda`] if cuDNN or NVRTC is missing or the device is too old; [`Error::Device`] for one that this build has no kernels for.
#[cfg_attr(not(feature = "cuda"), allow(unused_variables))]
pub fn check_device(device: &candle_core::Device, precision: Precision) -> Result<()> {
    match device {
        candle_core::Device::Cpu => Ok(()),
        #[cfg(feature = "cuda")]
        candle_core::Device::Cuda(device) => cuda::device::check(device, precision),
        other => Err(Error::Device { op: "the network", device: format!("{:?}", other.location()) }),
    }
}
