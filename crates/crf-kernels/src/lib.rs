#![doc = include_str!("../README.md")]

mod cpu;
#[cfg(any(test, feature = "cuda"))]
mod cuda;
mod error;
mod exact;
mod features;
mod kernel;
mod lattice;
mod loss;
mod mean_field;
mod oriented;

pub use cpu::CpuPath;
#[cfg(feature = "cuda")]
pub use cuda::{Batch, Cuda, LossAndGradient, Resident, Shown, cudarc};
pub use error::{Error, Result};
pub use exact::Exact;
pub use features::Features;
pub use kernel::PairwiseKernel;
pub use lattice::{Lattice, Quality};
pub use loss::{LossForm, crf_loss};
pub use mean_field::{Normalisation, Term, mean_field};
pub use oriented::{Oriented, View};
