//! `--device`.

use anyhow::Result;
use candle_core::Device;

use crate::outcome::Usage;

/// What `--device` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The first CUDA device, if this build has CUDA and there is one that networks run on; else the CPU.
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

/// The device itself. `networks`: whether the verb trains or predicts; the others work on the CPU, and no GPU is woken for them.
pub(crate) fn choose(choice: &Choice, networks: bool) -> Result<Device> {
    match choice {
        Choice::Cpu => Ok(Device::Cpu),
        Choice::Auto if networks => Ok(fastest()),
        Choice::Auto => Ok(Device::Cpu),
        Choice::Cuda(n) => cuda(*n, networks),
    }
}

#[cfg(not(feature = "cuda"))]
fn fastest() -> Device {
    Device::Cpu
}

#[cfg(not(feature = "cuda"))]
fn cuda(n: usize, _: bool) -> Result<Device> {
    let problem = "expected a build with `--features cuda`, found one without; take --device cpu";
    Err(Usage(format!("--device cuda:{n}: {problem}")).into())
}

/// The first CUDA device if it can be used; why it cannot is said, for it is there in vain.
#[cfg(feature = "cuda")]
fn fastest() -> Device {
    cuda(0, true).unwrap_or_else(|error| {
        eprintln!("{error}; working on the CPU");
        Device::Cpu
    })
}

/// CUDA device `n` with all that networks need: driver, NVRTC, cuDNN.
#[cfg(feature = "cuda")]
fn cuda(n: usize, networks: bool) -> Result<Device> {
    if !networks {
        return Ok(Device::Cpu);
    }
    let fault = |problem: String| Usage(format!("--device cuda:{n}: {problem}; or take --device cpu"));
    // A stream of its own: candle's usual one is another for each thread, and nothing would wait for anything.
    let device = Device::new_cuda_with_stream(n).map_err(|error| {
        fault(format!("expected an NVIDIA GPU of this number and its driver, found: {error}"))
    })?;
    scribseg_pipeline::check_device(&device, scribseg_pipeline::Precision::auto_on(&device))
        .map_err(|error| fault(error.to_string()))?;
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_without_networks_stay_on_the_cpu() {
        for choice in [Choice::Auto, Choice::Cpu] {
            assert!(choose(&choice, false).unwrap().is_cpu());
        }
        assert!(choose(&Choice::Cpu, true).unwrap().is_cpu());
        assert_eq!(choose(&Choice::Cuda(0), false).is_ok(), cfg!(feature = "cuda"));
    }

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
