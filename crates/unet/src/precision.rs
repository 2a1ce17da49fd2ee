//! What the convolutions multiply.

use crate::{Error, Result};
use candle_core::Device;
use std::str::FromStr;

/// Type of the factors of the convolutions' products. Sums, batch statistics, weights, their gradients and the last layer are `f32` in both.
///
/// On a CUDA device it is the type of the activations and their gradients too: with [`Precision::Bf16`] all of them are `bf16`; with
/// [`Precision::F32`] they are `f32`, and convolutions multiply in TF32 (a significand of 11 bits) where the device has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// A significand of 24 bits.
    #[default]
    F32,
    /// A significand of 8 bits: both factors are rounded to the nearest `bf16`. Meant for processors that multiply `bf16` faster, which
    /// [`CpuPath::Amx`](crate::CpuPath::Amx) makes use of: there the convolution follows its definition. On the other paths it is as in `f32`, factors are rounded when
    /// they are transformed, and it is somewhat slower than `f32`.
    Bf16,
}

impl Precision {
    /// The faster one on a CPU as far as it was measured: `f32`.
    pub fn auto() -> Self {
        Self::F32
    }

    /// The faster one on a device: `bf16` on a CUDA device of compute capability 8.0 or later.
    pub fn auto_on(device: &Device) -> Self {
        match device {
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => crate::cuda::device::fastest(device),
            _ => Self::auto(),
        }
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "auto" => Ok(Self::auto()),
            _ => Err(Error::Precision { requested: name.to_owned() }),
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}
