//! Which instructions the CPU kernels use.

use crate::kernels::direct;
use crate::{Error, Result};
use std::sync::OnceLock;

/// A family of CPU kernels. All give the same results up to rounding; each gives the same bytes at any thread count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuPath {
    /// Plain Rust for any processor.
    Portable,
    /// AVX2 with fused multiply-add, found at run time.
    Avx2,
    /// AVX-512 (F, BW, DQ, VL) with fused multiply-add, found at run time.
    Avx512,
    /// [`Avx512`](Self::Avx512), and AMX for the products of [`Precision::Bf16`](crate::Precision::Bf16), found at run time: there if processor and system have it
    /// and a small product came out right.
    Amx,
}

impl CpuPath {
    /// All of them, slowest first.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Amx];

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            match self {
                Self::Portable => true,
                Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
                Self::Avx512 => {
                    is_x86_feature_detected!("avx512f")
                        && is_x86_feature_detected!("avx512bw")
                        && is_x86_feature_detected!("avx512dq")
                        && is_x86_feature_detected!("avx512vl")
                        && is_x86_feature_detected!("fma")
                }
                Self::Amx => Self::Avx512.is_available() && direct::is_available(),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Portable
        }
    }

    /// The path named by the environment variable `SCRIBSEG_CPU` (`portable`, `avx2`, `avx512` or `amx`), or the fastest one
    /// available if it is unset or empty. Read once per process.
    ///
    /// # Errors
    /// [`Error::CpuPath`] for another name, and for instructions that this machine has not.
    pub fn detect() -> Result<Self> {
        static CHOICE: OnceLock<std::result::Result<CpuPath, (String, &'static str)>> = OnceLock::new();
        CHOICE
            .get_or_init(|| {
                let requested = std::env::var_os("SCRIBSEG_CPU").unwrap_or_default();
                parse(requested.to_string_lossy().into_owned(), Self::is_available)
            })
            .clone()
            .map_err(|(requested, reason)| Error::CpuPath { requested, reason })
    }

    /// The same path if this machine has it.
    ///
    /// # Errors
    /// [`Error::CpuPath`] if it does not.
    pub fn checked(self) -> Result<Self> {
        if self.is_available() {
            Ok(self)
        } else {
            Err(Error::CpuPath { requested: format!("{self:?}"), reason: "this processor does not have it" })
        }
    }
}

fn parse(
    requested: String,
    available: impl Fn(CpuPath) -> bool,
) -> std::result::Result<CpuPath, (String, &'static str)> {
    let named = match requested.as_str() {
        "" => {
            let fastest = CpuPath::ALL.into_iter().rev().find(|&path| available(path));
            return Ok(fastest.unwrap_or(CpuPath::Portable));
        }
        "portable" => CpuPath::Portable,
        "avx2" => CpuPath::Avx2,
        "avx512" => CpuPath::Avx512,
        "amx" => CpuPath::Amx,
        _ => return Err((requested, "SCRIBSEG_CPU is either unset, portable, avx2, avx512 or amx")),
    };
    if available(named) {
        Ok(named)
    } else {
        let reason = match named {
            CpuPath::Amx => {
                "this processor does not have it, its system does not grant it, or it gave wrong results; unset SCRIBSEG_CPU"
            }
            _ => "this processor does not have it; unset SCRIBSEG_CPU",
        };
        Err((requested, reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_strict() {
        let old = |path| path == CpuPath::Portable;
        let usual = |path| path == CpuPath::Portable || path == CpuPath::Avx2;
        let new = |path| path != CpuPath::Amx;
        let newest = |_| true;
        assert_eq!(parse(String::new(), old), Ok(CpuPath::Portable));
        assert_eq!(parse(String::new(), usual), Ok(CpuPath::Avx2));
        assert_eq!(parse(String::new(), new), Ok(CpuPath::Avx512));
        assert_eq!(parse(String::new(), newest), Ok(CpuPath::Amx));
        assert_eq!(parse("avx512".into(), newest), Ok(CpuPath::Avx512));
        assert_eq!(parse("amx".into(), newest), Ok(CpuPath::Amx));
        assert!(
            parse("amx".into(), new)
                .is_err_and(|(name, reason)| name == "amx" && reason.contains("does not have it"))
        );
        assert_eq!(parse("portable".into(), new), Ok(CpuPath::Portable));
        assert_eq!(parse("avx2".into(), new), Ok(CpuPath::Avx2));
        assert!(parse("avx2".into(), old).is_err());
        assert!(parse("avx512".into(), usual).is_err());
        assert!(parse("AVX512".into(), new).is_err());
    }
}
