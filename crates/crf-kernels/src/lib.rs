//! Dense-CRF kernels and loss for any number of channels, float images and slices of any size, with a true gradient.
//!
//! [`Features`] are positions and intensities in units of their bandwidths; a [`PairwiseKernel`] applies
//! W_ij = exp(−½‖f_i − f_j‖²): [`Exact`] all pairs, [`Lattice`] in linear time on the permutohedral lattice (Adams, Baek, Davis 2010), symmetric.
//! [`crf_loss`] is eq. 2 of Ji et al. 2019 (Tang et al. 2018) as a candle operator.
//!
//! ```
//! use std::sync::Arc;
//! use candle_core::{Device, Tensor, Var};
//! use scribseg_crf_kernels::{Features, Lattice, LossForm, PairwiseKernel, crf_loss};
//!
//! let image: Vec<f32> = (0..64).map(|p| if p % 8 < 4 { 20.0 } else { 200.0 }).collect();
//! let features = Features::bilateral(&image, 8, 8, [1.0, 1.0], 100.0, 15.0)?;
//! let kernel: Arc<dyn PairwiseKernel> = Arc::new(Lattice::build(&features)?);
//! let y = Var::from_tensor(&Tensor::full(0.5f32, (1, 2, 8, 8), &Device::Cpu)?)?;
//! let loss = crf_loss(&y, &[kernel], LossForm::NonNegative, None, None)?;
//! assert!(loss.to_scalar::<f32>()? > 0.0);
//! let gradient = loss.backward()?;
//! assert!(gradient.get(&y).is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # When not to use it
//! The plain lattice keeps 53–65 % of the exact mass, so the same α is weaker than with [`Exact`]; where absolute values matter, compare
//! [`PairwiseKernel::mass`]. Bandwidths of a few pixels on noisy images give lattices as large as the image: a truncated window is then faster.

mod cpu;
mod error;
mod exact;
mod features;
mod kernel;
mod lattice;
mod loss;
mod mean_field;
mod oriented;

pub use cpu::CpuPath;
pub use error::{Error, Result};
pub use exact::Exact;
pub use features::Features;
pub use kernel::PairwiseKernel;
pub use lattice::{Lattice, Quality};
pub use loss::{LossForm, crf_loss};
pub use mean_field::{Normalisation, Term, mean_field};
pub use oriented::{Oriented, View};
