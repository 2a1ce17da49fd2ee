//! A device, the code that was compiled for it, and its memory.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::sys::{
    CUdevice_attribute_enum as Attribute, CUfunction_attribute_enum as FunctionAttribute, CUresult,
};
use cudarc::driver::{CudaContext, CudaFunction, CudaSlice, CudaStream, DeviceRepr};
use cudarc::nvrtc::{CompileError, CompileOptions, Ptx, compile_ptx_with_opts};

use super::program::Program;
use crate::error::{Error, Result};

const SOURCE: &str = include_str!("kernels.cu");

/// Compute capabilities that a compiler which does not know a newer device may know; each runs on whatever comes after it.
const CAPABILITIES: [(i32, i32); 5] = [(10, 0), (9, 0), (8, 0), (7, 5), (7, 0)];

pub(super) fn failed(doing: &str, error: impl Debug) -> Error {
    Error::Cuda { what: format!("{doing}: {error:?}") }
}

/// A kernel ready to launch.
#[derive(Clone)]
pub(super) struct Compiled {
    /// `lattice` or `exact`.
    pub(super) kernel: CudaFunction,
    /// `add`, of a loss.
    pub(super) add: Option<CudaFunction>,
    /// Bytes of shared memory a block may ask for.
    pub(super) shared: usize,
}

/// A CUDA device of compute capability 7.0 or later, one of its streams, and the kernels compiled for it so far.
pub struct Cuda {
    stream: Arc<CudaStream>,
    capability: (i32, i32),
    /// Bytes of shared memory a block can have.
    shared: usize,
    compiled: Mutex<HashMap<Program, Compiled>>,
}

impl Cuda {
    /// The device of this number, on a stream of its own.
    ///
    /// # Errors
    /// [`Error::Cuda`] where there is no driver, no NVRTC or no such device.
    pub fn new(ordinal: usize) -> Result<Arc<Self>> {
        if !driver_is_present() {
            let what = "expected the library libcuda, found none; install the NVIDIA driver";
            return Err(Error::Cuda { what: what.into() });
        }
        let context = CudaContext::new(ordinal).map_err(|e| failed(&format!("CUDA device {ordinal}"), e))?;
        let stream = context.new_stream().map_err(|e| failed("a stream", e))?;
        Self::on_stream(stream)
    }

    /// The device of a stream; everything runs on it. For tensors of candle that has to be theirs, `device.as_cuda_device()?.cuda_stream()`.
    ///
    /// # Errors
    /// [`Error::Cuda`] when there is no NVRTC, the device does not answer or is of compute capability below 7.0.
    pub fn on_stream(stream: Arc<CudaStream>) -> Result<Arc<Self>> {
        if !compiler_is_present() {
            let what = "expected the library libnvrtc, found none; install NVRTC 12 or 13 (it comes with CUDA), or name its folder in \
                        LD_LIBRARY_PATH";
            return Err(Error::Cuda { what: what.into() });
        }
        let context = stream.context();
        let capability = context.compute_capability().map_err(|e| failed("compute capability", e))?;
        if capability < (7, 0) {
            let what =
                format!("expected compute capability 7.0 or later, found {}.{}", capability.0, capability.1);
            return Err(Error::Cuda { what });
        }
        let shared = context
            .attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
            .map_err(|e| failed("shared memory", e))?;
        Ok(Arc::new(Self { capability, shared: shared.max(0) as usize, compiled: Mutex::default(), stream }))
    }

    /// The stream that everything runs on.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// Memory for `length` values, not set: whoever asks for it has it written on this stream before anything reads it. Every value of the types
    /// used here is valid whatever its bits.
    pub(super) fn allocate<T: DeviceRepr>(&self, length: usize) -> Result<CudaSlice<T>> {
        let asked = length.saturating_mul(size_of::<T>());
        if isize::try_from(asked).is_err() {
            return Err(Error::DeviceMemory { asked, free: self.free() });
        }
        // SAFETY: numbers and `Job`, which has no padding, may hold any bits. A driver refuses to give no memory, so it is one value at least.
        unsafe { self.stream.alloc(length.max(1)) }.map_err(|error| match error.0 {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::DeviceMemory { asked, free: self.free() },
            _ => failed("device memory", error),
        })
    }

    /// A copy on the device.
    pub(super) fn upload<T: DeviceRepr>(&self, values: &[T]) -> Result<CudaSlice<T>> {
        let mut copy = self.allocate(values.len())?;
        if !values.is_empty() {
            self.stream.memcpy_htod(values, &mut copy).map_err(|e| failed("a copy to the device", e))?;
        }
        Ok(copy)
    }

    /// Bytes that are free, 0 if the device does not say.
    fn free(&self) -> usize {
        self.stream.context().mem_get_info().map_or(0, |(free, _)| free)
    }

    /// The kernels of a program, compiled when they are asked for the first time.
    pub(super) fn compiled(&self, program: Program) -> Result<Compiled> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(compiled) = compiled.get(&program) {
            return Ok(compiled.clone());
        }
        let code = compile(program, self.capability)?;
        let module =
            self.stream.context().load_module(code).map_err(|e| failed("loading compiled code", e))?;
        let load = |name| module.load_function(name).map_err(|e| failed(name, e));
        let kernel = load(if program.exact.is_some() { "exact" } else { "lattice" })?;
        let taken = kernel.shared_size_bytes().map_err(|e| failed("shared memory", e))?;
        let shared = self.shared.saturating_sub(taken.max(0) as usize);
        if program.exact.is_none() {
            kernel
                .set_attribute(
                    FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                    shared as i32,
                )
                .map_err(|e| failed("shared memory", e))?;
        }
        let add = if program.classes > 0 { Some(load("add")?) } else { None };
        let new = Compiled { kernel, add, shared };
        compiled.insert(program, new.clone());
        Ok(new)
    }
}

/// Whether the driver is there to be loaded; linked with candle's own CUDA kernels, a program without it does not start.
fn driver_is_present() -> bool {
    // SAFETY: loading the library runs nothing but its own initialisation.
    #[cfg(not(feature = "candle-cuda"))]
    let present = unsafe { cudarc::driver::sys::is_culib_present() };
    #[cfg(feature = "candle-cuda")]
    let present = true;
    present
}

/// Whether the compiler is there to be loaded; as with the driver.
fn compiler_is_present() -> bool {
    // SAFETY: loading the library runs nothing but its own initialisation.
    #[cfg(not(feature = "candle-cuda"))]
    let present = unsafe { cudarc::nvrtc::sys::is_culib_present() };
    #[cfg(feature = "candle-cuda")]
    let present = true;
    present
}

/// Compiles a program for a compute capability or, where the compiler is older than the device, for the latest that it knows.
pub(super) fn compile(program: Program, capability: (i32, i32)) -> Result<Ptx> {
    let older = CAPABILITIES.into_iter().filter(|older| *older < capability);
    let mut first = None;
    for (major, minor) in std::iter::once(capability).chain(older) {
        let mut options = vec![format!("--gpu-architecture=compute_{major}{minor}"), "--std=c++17".into()];
        options.extend(program.defines().into_iter().map(|define| format!("-D{define}")));
        // One instruction for 2^x; what is too small for a float's normal range counts as zero.
        let options = CompileOptions {
            ftz: Some(true),
            options,
            name: Some("kernels.cu".into()),
            ..Default::default()
        };
        match compile_ptx_with_opts(SOURCE, options) {
            Ok(code) => return Ok(code),
            Err(CompileError::CompileError { log, .. }) => {
                let log = log.to_string_lossy().into_owned();
                if !log.contains("gpu-architecture") {
                    return Err(Error::Cuda { what: format!("kernels.cu: {log}") });
                }
                first.get_or_insert(log);
            }
            Err(error) => return Err(failed("kernels.cu", error)),
        }
    }
    Err(Error::Cuda { what: format!("kernels.cu: {}", first.unwrap_or_default()) })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::LossForm;

    /// Not `eprintln!`, which a test keeps to itself when it passes.
    fn say(what: &str) {
        let _ = writeln!(std::io::stderr(), "{what}");
    }

    #[test]
    fn the_source_compiles_for_every_device_there_is() {
        if !compiler_is_present() {
            say("!! NOT CHECKED: libnvrtc is not here; kernels.cu was not compiled for a GPU");
            return;
        }
        // NVRTC 13 begins at 7.5.
        match compile(Program::filter(1), (7, 0)) {
            Ok(_) => {}
            Err(Error::Cuda { what }) => assert!(what.contains("gpu-architecture"), "{what}"),
            Err(other) => panic!("{other}"),
        }
        for capability in [(7, 5), (8, 0), (9, 0), (12, 0)] {
            let mut programs = vec![Program::filter(1), Program::filter(8)];
            for k in [2, 5] {
                for form in [LossForm::NonNegative, LossForm::ConstantFree] {
                    programs
                        .extend([(false, false), (true, true)].map(|(r, g)| Program::loss(k, r, g, form)));
                }
            }
            let by_definition = programs.clone().into_iter().flat_map(|p| [3, 5, 7].map(|f| p.exact(f)));
            for program in programs.iter().copied().chain(by_definition) {
                let code = compile(program, capability).unwrap().to_src();
                let entry = if program.exact.is_some() { ".entry exact(" } else { ".entry lattice(" };
                assert!(code.contains(entry), "{program:?}");
                assert_eq!(code.contains(".entry add("), program.classes > 0, "{program:?}");
                assert!(!code.contains("atom."), "{program:?}: atomics");
            }
        }
    }

    #[test]
    fn an_allocation_that_does_not_fit_is_an_error_with_its_size() {
        let cuda = match Cuda::new(0) {
            Ok(cuda) => cuda,
            Err(error) => return say(&format!("!! NOT CHECKED on a CUDA device: {error}")),
        };
        for length in [1usize << 44, usize::MAX] {
            match cuda.allocate::<f32>(length) {
                Err(Error::DeviceMemory { asked, free }) => assert!(asked > free),
                Err(other) => panic!("{other}"),
                Ok(_) => panic!("no device has so much memory"),
            }
        }
    }

    #[test]
    fn without_a_device_the_error_says_what_is_missing() {
        match Cuda::new(usize::from(u16::MAX)) {
            Ok(_) => panic!("no machine has so many devices"),
            Err(Error::Cuda { what }) => {
                assert!(what.contains("libcuda") || what.contains("65535"), "{what}")
            }
            Err(other) => panic!("{other}"),
        }
    }
}
