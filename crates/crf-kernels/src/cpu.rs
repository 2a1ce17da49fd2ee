//! Which instructions the CPU kernels use.
//!
//! Every kernel is one body of plain Rust, compiled three times. The compiler vectorises it with whatever registers
//! it is allowed; it forms no fused multiply-add and reorders no sum, so all three give the same bits.

use crate::error::{Error, Result};

/// A set of instructions. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuPath {
    /// What every processor of the architecture has.
    Portable,
    /// AVX2, found at run time.
    Avx2,
    /// AVX-512 (F, BW, DQ, VL), found at run time.
    Avx512,
}

impl CpuPath {
    /// All of them, slowest first.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            match self {
                Self::Portable => true,
                Self::Avx2 => is_x86_feature_detected!("avx2"),
                Self::Avx512 => {
                    is_x86_feature_detected!("avx512f")
                        && is_x86_feature_detected!("avx512bw")
                        && is_x86_feature_detected!("avx512dq")
                        && is_x86_feature_detected!("avx512vl")
                }
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Portable
        }
    }

    /// The fastest that this machine has, or the one that the environment variable `SCRIBSEG_CPU` names (`portable`,
    /// `avx2`, `avx512`; `amx` means `avx512`, for the networks' kernels know more than that).
    ///
    /// # Errors
    /// [`Error::CpuPath`] for another name, and for one that this machine has not.
    pub fn detect() -> Result<Self> {
        let found = std::env::var("SCRIBSEG_CPU").unwrap_or_default();
        let named = match found.as_str() {
            "" => {
                let fastest = Self::ALL.into_iter().rev().find(|path| path.is_available());
                return Ok(fastest.unwrap_or(Self::Portable));
            }
            "portable" => Self::Portable,
            "avx2" => Self::Avx2,
            "avx512" | "amx" => Self::Avx512,
            _ => return Err(Error::CpuPath { found }),
        };
        if named.is_available() { Ok(named) } else { Err(Error::CpuPath { found }) }
    }
}

/// Defines a function whose body is compiled once for each [`CpuPath`].
macro_rules! multiversion {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        pub(crate) fn $name(path: $crate::CpuPath, $($arg: $ty),*) {
            #[inline(always)]
            fn body($($arg: $ty),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $ty),*) {
                    body($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $ty),*) {
                    body($($arg),*)
                }
                match path {
                    $crate::CpuPath::Portable => {}
                    // SAFETY: the features were found on this processor, as `is_available` says.
                    $crate::CpuPath::Avx2 if path.is_available() => return unsafe { avx2($($arg),*) },
                    // SAFETY: as above.
                    $crate::CpuPath::Avx512 if path.is_available() => return unsafe { avx512($($arg),*) },
                    _ => {}
                }
            }
            let _ = path;
            body($($arg),*)
        }
    };
}
pub(crate) use multiversion;
