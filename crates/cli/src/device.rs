//! `--device`.

use anyhow::Result;
use candle_core::Device;

use crate::outcome::Usage;

/// What `--device` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The fastest device that this version can train on: the CPU.
    Auto,
    Cpu,
    Cuda(usize),
}

impl std::str::FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ordinal =
            |n: &str| n.parse().map_err(|_| format!("expected cuda:N with N from 0, found `{text}`"));
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", n)) => Ok(Self::Cuda(ordinal(n)?)),
            _ => Err(format!("expected auto, cpu, cuda or cuda:N, found `{text}`")),
        }
    }
}

/// The device itself. The networks' operators have no CUDA kernels yet, so a GPU is refused before any work is done.
pub(crate) fn choose(choice: &Choice) -> Result<Device> {
    match choice {
        Choice::Cpu | Choice::Auto => Ok(Device::Cpu),
        Choice::Cuda(n) => {
            let problem = if cfg!(feature = "cuda") {
                "this version has no CUDA operators to train or predict with"
            } else {
                "expected a build with `--features cuda`, found one without (and this version trains on the CPU alone)"
            };
            Err(Usage(format!("--device cuda:{n}: {problem}; take --device cpu")).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        assert_eq!("auto".parse(), Ok(Choice::Auto));
        assert_eq!("cpu".parse(), Ok(Choice::Cpu));
        assert_eq!("cuda".parse(), Ok(Choice::Cuda(0)));
        assert_eq!("cuda:3".parse(), Ok(Choice::Cuda(3)));
        for bad in ["", "gpu", "cuda:", "cuda:x", "cpu:0", "cuda:-1"] {
            assert!(bad.parse::<Choice>().is_err(), "{bad}");
        }
    }
}
