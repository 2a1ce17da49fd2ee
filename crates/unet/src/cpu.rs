//! Which instructions the CPU kernels use.

use crate::{Error, Result};
use std::sync::OnceLock;

/// A family of CPU kernels. Both give the same results up to rounding; each gives the same bytes at any thread count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuPath {
    /// Plain Rust for any processor.
    Portable,
    /// AVX-512 (F, BW, DQ, VL) with fused multiply-add, found at run time.
    Avx512,
}

impl CpuPath {
    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            Self::Avx512 => avx512_available(),
        }
    }

    /// The path named by the environment variable `SCRIBSEG_CPU` (`portable` or `avx512`), or the fastest one
    /// available if it is unset or empty. Read once per process.
    ///
    /// # Errors
    /// [`Error::CpuPath`] for another name, and for `avx512` on a machine without it.
    pub fn detect() -> Result<Self> {
        static CHOICE: OnceLock<std::result::Result<CpuPath, (String, &'static str)>> = OnceLock::new();
        CHOICE
            .get_or_init(|| parse(std::env::var("SCRIBSEG_CPU").unwrap_or_default(), avx512_available()))
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

fn parse(requested: String, available: bool) -> std::result::Result<CpuPath, (String, &'static str)> {
    match (requested.as_str(), available) {
        ("", true) | ("avx512", true) => Ok(CpuPath::Avx512),
        ("", false) | ("portable", _) => Ok(CpuPath::Portable),
        ("avx512", false) => Err((requested, "this processor does not have it; unset SCRIBSEG_CPU")),
        _ => Err((requested, "SCRIBSEG_CPU is either unset, portable or avx512")),
    }
}

#[cfg(target_arch = "x86_64")]
fn avx512_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("fma")
}

#[cfg(not(target_arch = "x86_64"))]
fn avx512_available() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_strict() {
        assert_eq!(parse(String::new(), false), Ok(CpuPath::Portable));
        assert_eq!(parse(String::new(), true), Ok(CpuPath::Avx512));
        assert_eq!(parse("portable".into(), true), Ok(CpuPath::Portable));
        assert!(parse("avx512".into(), false).is_err());
        assert!(parse("AVX512".into(), true).is_err());
    }
}
