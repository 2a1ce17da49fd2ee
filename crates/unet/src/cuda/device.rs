//! A CUDA device as a [`Machine`]: candle's own stream, the kernels compiled for it, cuDNN.

use super::SOURCE;
use super::cudnn::Cudnn;
use super::machine::{Argument, Convolution, Geometry, Kernel, Machine, THREADS, View};
use crate::init::lock;
use crate::{Error, Precision, Result};
use candle_core::cuda_backend::DeviceId;
use candle_core::{CudaDevice, CudaStorage, Device, Layout, Shape, Storage, Tensor};
use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaFunction, CudaSlice, CudaStream, DevicePtr, LaunchConfig, PushKernelArg, result};
use cudarc::nvrtc::{CompileError, CompileOptions, Ptx, compile_ptx_with_opts};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, OnceLock};

/// Compute capabilities that a compiler which does not know a newer device may know; each runs on whatever comes after it.
const CAPABILITIES: [(i32, i32); 5] = [(10, 0), (9, 0), (8, 0), (7, 5), (7, 0)];

/// The first one that multiplies bf16 itself.
const BF16: (i32, i32) = (8, 0);

pub(super) fn failed(doing: &str, error: impl Debug) -> Error {
    Error::Cuda { what: format!("{doing}: {error:?}") }
}

/// Compiles the kernels for a compute capability or, where the compiler is older than the device, for the latest that it knows.
fn compile(precision: Precision, capability: (i32, i32)) -> Result<Ptx> {
    let older = CAPABILITIES.into_iter().filter(|older| *older < capability);
    let mut first = None;
    for (major, minor) in std::iter::once(capability).chain(older) {
        let options = vec![
            format!("--gpu-architecture=compute_{major}{minor}"),
            "--std=c++17".into(),
            format!("-DBF16={}", u8::from(precision == Precision::Bf16)),
        ];
        let options = CompileOptions { options, name: Some("kernels.cu".into()), ..Default::default() };
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

/// A device in one precision. All that it does is in candle's stream, as all that candle does: nothing needs to wait for anything.
pub(crate) struct Gpu {
    stream: Arc<CudaStream>,
    precision: Precision,
    /// In the order of [`Kernel::ALL`].
    functions: Vec<CudaFunction>,
    cudnn: OnceLock<Cudnn>,
    /// What cuDNN works in, as large as any convolution so far has asked for.
    workspace: Mutex<Option<CudaSlice<u8>>>,
}

/// The device of a tensor in `precision`, made when it is asked for the first time.
///
/// # Errors
/// [`Error::Cuda`] where there is no NVRTC or the device is too old.
pub(crate) fn gpu(device: &CudaDevice, precision: Precision) -> Result<Arc<Gpu>> {
    static ALL: Mutex<Vec<(DeviceId, Precision, Arc<Gpu>)>> = Mutex::new(Vec::new());
    let mut all = lock(&ALL);
    if let Some((.., gpu)) = all.iter().find(|(id, p, _)| (*id, *p) == (device.id(), precision)) {
        return Ok(Arc::clone(gpu));
    }
    let gpu = Arc::new(Gpu::new(device, precision)?);
    all.push((device.id(), precision, Arc::clone(&gpu)));
    Ok(gpu)
}

/// The compute capability of a device.
fn capability(device: &CudaDevice) -> Result<(i32, i32)> {
    device.cuda_stream().context().compute_capability().map_err(|e| failed("compute capability", e))
}

/// What `auto` means on a device.
pub(crate) fn fastest(device: &CudaDevice) -> Precision {
    match capability(device) {
        Ok(capability) if capability >= BF16 => Precision::Bf16,
        _ => Precision::F32,
    }
}

/// Whether networks run on a device: compiles the kernels and loads cuDNN, which is done once.
pub(crate) fn check(device: &CudaDevice, precision: Precision) -> Result<()> {
    gpu(device, precision)?.cudnn().map(drop)
}

/// Whether a stream is CUDA's per-thread default one: work of two threads would share memory here and run at the same time.
fn is_of_each_thread(stream: sys::CUstream) -> bool {
    const PER_THREAD: usize = 2;
    stream.addr() == PER_THREAD
}

/// Memory that is freed stays the program's instead of going back to the system whenever the host waits for the device.
fn keep_freed_memory(stream: &CudaStream) -> Result<()> {
    if !stream.context().has_async_alloc() {
        return Ok(());
    }
    let (mut pool, mut threshold) = (std::ptr::null_mut(), u64::MAX);
    // SAFETY: the device exists; both pointers are valid, and the attribute is a u64.
    unsafe {
        sys::cuDeviceGetDefaultMemPool(&mut pool, stream.context().cu_device())
            .result()
            .map_err(|e| failed("the memory pool", e))?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut threshold).cast())
            .result()
            .map_err(|e| failed("the memory pool", e))
    }
}

impl Gpu {
    fn new(device: &CudaDevice, precision: Precision) -> Result<Self> {
        let (stream, capability) = (device.cuda_stream(), capability(device)?);
        if is_of_each_thread(stream.cu_stream()) {
            let what = "expected a device with one stream for all threads, found the stream that each thread has for itself; make the device with \
                        Device::new_cuda_with_stream";
            return Err(Error::Cuda { what: what.into() });
        }
        if precision == Precision::Bf16 && capability < BF16 {
            let (major, minor) = capability;
            let what =
                format!("expected compute capability 8.0 or later for bf16, found {major}.{minor}; take f32");
            return Err(Error::Cuda { what });
        }
        keep_freed_memory(&stream)?;
        let code = compile(precision, capability)?;
        let module = stream.context().load_module(code).map_err(|e| failed("loading compiled code", e))?;
        let load =
            |kernel: &Kernel| module.load_function(kernel.name()).map_err(|e| failed(kernel.name(), e));
        let functions = Kernel::ALL.iter().map(load).collect::<Result<_>>()?;
        Ok(Self { stream, precision, functions, cudnn: OnceLock::new(), workspace: Mutex::new(None) })
    }

    fn cudnn(&self) -> Result<&Cudnn> {
        if let Some(cudnn) = self.cudnn.get() {
            return Ok(cudnn);
        }
        self.stream.context().bind_to_thread().map_err(|e| failed("the device", e))?;
        let cudnn = Cudnn::new(self.stream.cu_stream().cast(), self.precision)?;
        // Of two threads that come here at once one is first; the other's handle is closed.
        Ok(self.cudnn.get_or_init(|| cudnn))
    }

    fn memory<T: cudarc::driver::DeviceRepr>(&self, count: usize) -> Result<CudaSlice<T>> {
        // SAFETY: numbers of any bits; whoever asks has it written in this stream before anything reads it. A driver refuses to give no
        // memory, so it is one value at least.
        unsafe { self.stream.alloc(count.max(1)) }.map_err(|error| match error.0 {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                let free = self.stream.context().mem_get_info().map_or(0, |(free, _)| free);
                let asked = count.saturating_mul(size_of::<T>());
                let what = format!(
                    "expected {} MiB of device memory, found {} free; take a smaller batch (train.batch) or a narrower network",
                    asked >> 20,
                    free >> 20
                );
                Error::Cuda { what }
            }
            _ => failed("device memory", error),
        })
    }
}

impl Machine for Gpu {
    type Memory = CudaSlice<u8>;

    fn precision(&self) -> Precision {
        self.precision
    }

    fn allocate(&self, bytes: usize) -> Result<CudaSlice<u8>> {
        self.memory(bytes)
    }

    fn address(&self, memory: &CudaSlice<u8>) -> u64 {
        memory.device_ptr(&self.stream).0
    }

    fn copy(&self, from: View, to: View) -> Result<()> {
        assert_eq!(from.bytes, to.bytes, "a copy on the device");
        self.stream.context().bind_to_thread().map_err(|e| failed("the device", e))?;
        // SAFETY: both hold so many bytes, and whoever made the views keeps them.
        unsafe { result::memcpy_dtod_async(to.address, from.address, from.bytes, self.stream.cu_stream()) }
            .map_err(|e| failed("a copy on the device", e))
    }

    unsafe fn launch(&self, kernel: Kernel, grid: [usize; 3], arguments: &[Argument]) -> Result<()> {
        let [x, y, z] = grid.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        let config =
            LaunchConfig { grid_dim: (x, y, z), block_dim: (THREADS as u32, 1, 1), shared_mem_bytes: 0 };
        let mut launch = self.stream.launch_builder(&self.functions[kernel as usize]);
        for argument in arguments {
            match argument {
                Argument::Address(value) => launch.arg(value),
                Argument::Count(value) => launch.arg(value),
                Argument::Float(value) => launch.arg(value),
                Argument::Double(value) => launch.arg(value),
            };
        }
        // SAFETY: the caller's.
        unsafe { launch.launch(config) }.map(drop).map_err(|e| failed(kernel.name(), e))
    }

    unsafe fn convolve(&self, kind: Convolution, g: Geometry, x: View, w: View, y: View) -> Result<()> {
        let cudnn = self.cudnn()?;
        self.stream.context().bind_to_thread().map_err(|e| failed("the device", e))?;
        let mut workspace = lock(&self.workspace);
        let room = |bytes: usize| {
            if workspace.as_ref().is_none_or(|held| held.len() < bytes) {
                // The old one first, in the stream's order.
                *workspace = None;
                *workspace = Some(self.memory(bytes)?);
            }
            Ok(workspace.as_ref().map_or(0, |held| self.address(held)))
        };
        // SAFETY: the caller's; the workspace is this stream's, and freed in its order.
        unsafe { cudnn.convolve(kind, g, [x, w, y], room) }
    }
}

/// What a contiguous storage holds, which the caller keeps alive. Whatever uses it does so in candle's stream.
pub(super) fn view(storage: &CudaStorage, layout: &Layout) -> candle_core::Result<View> {
    use candle_core::DType;
    use candle_core::backend::BackendStorage;
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("a contiguous tensor is needed, found strides {:?}", layout.stride())
    };
    let stream = storage.device.cuda_stream();
    let (address, size) = match storage.dtype() {
        DType::F32 => (storage.as_cuda_slice::<f32>()?.device_ptr(&stream).0, 4),
        DType::U8 => (storage.as_cuda_slice::<u8>()?.device_ptr(&stream).0, 1),
        other => candle_core::bail!("f32 or u8 values are needed, found {other:?}"),
    };
    Ok(View { address: address + (size * start) as u64, bytes: size * (end - start) })
}

/// Runs `f` on what a tensor on a device holds.
pub(super) fn with_view<R>(tensor: &Tensor, f: impl FnOnce(View) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cuda(storage) => f(view(storage, layout)?),
        _ => Err(Error::Device { op: "a CUDA kernel", device: format!("{:?}", tensor.device().location()) }),
    }
}

/// The CUDA device of a tensor.
pub(crate) fn device_of(tensor: &Tensor) -> Result<&CudaDevice> {
    match tensor.device() {
        Device::Cuda(device) => Ok(device),
        other => Err(Error::Device { op: "a CUDA kernel", device: format!("{:?}", other.location()) }),
    }
}

impl Gpu {
    /// A new `f32` storage with arbitrary contents.
    pub(super) fn storage(&self, device: &CudaDevice, shape: &Shape) -> Result<(CudaStorage, View)> {
        let values = self.memory::<f32>(shape.elem_count())?;
        let address = values.device_ptr(&self.stream).0;
        let storage = CudaStorage::wrap_cuda_slice(values, device.clone());
        Ok((storage, View { address, bytes: 4 * shape.elem_count() }))
    }

    /// A new `u8` tensor with arbitrary contents.
    pub(super) fn bytes(&self, device: &CudaDevice, shape: Shape) -> Result<(Tensor, View)> {
        let values = self.memory::<u8>(shape.elem_count())?;
        let view = View { address: values.device_ptr(&self.stream).0, bytes: shape.elem_count() };
        Ok((tensor(CudaStorage::wrap_cuda_slice(values, device.clone()), shape), view))
    }
}

/// A tensor without a history.
pub(super) fn tensor(storage: CudaStorage, shape: Shape) -> Tensor {
    let none = candle_core::op::BackpropOp::none();
    Tensor::from_storage(Storage::Cuda(storage), shape, none, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_source_compiles_for_every_device_there_is() {
        for (capability, precision) in [(7, 5), (8, 0), (9, 0), (12, 0)]
            .into_iter()
            .flat_map(|c| [Precision::F32, Precision::Bf16].map(|p| (c, p)))
        {
            let code = match compile(precision, capability) {
                Ok(code) => code.to_src(),
                Err(error) => panic!("{capability:?} {precision}: {error}"),
            };
            for kernel in Kernel::ALL {
                assert!(code.contains(&format!(".entry {}(", kernel.name())), "{kernel:?}");
            }
            assert!(!code.contains("atom.") && !code.contains("red.global"), "{capability:?}: atomics");
            // Sixteen bytes at a time, in either type.
            assert!(code.contains(".v4."), "{capability:?}: narrow accesses");
        }
        let _ = writeln!(std::io::stderr(), "kernels.cu compiles for 7.5, 8.0, 9.0 and 12.0");
    }
}
