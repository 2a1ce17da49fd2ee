//! Operators on candle tensors with gradients of their own.
//!
//! They replace candle's where those are slow or, in 0.11.1, wrong in the backward pass (`max_pool2d`,
//! `upsample_nearest2d`, `softmax_last_dim`). All of them take contiguous or strided `f32` tensors
//! `[image, channel, y, x]` on the CPU, use the instructions that [`CpuPath::detect`] picks, and give the same bytes at
//! any number of threads; [`softmax()`] takes them on CUDA devices too. Second derivatives are not supported.

mod conv;
mod norm;
mod resample;
mod softmax;

pub use conv::{conv1x1, conv3x3};
pub use norm::{BatchMoments, NormMode, batch_norm_relu};
pub use resample::{max_pool2, upsample_concat};
pub use softmax::softmax;

use crate::kernels::Dims;
use crate::{CpuPath, Error, Result};
use candle_core::{CpuStorage, DType, Device, Layout, Storage, Tensor};

/// Values of a contiguous storage; [`prepare`] has made it contiguous.
pub(crate) fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => candle_core::bail!("a contiguous tensor is needed, found strides {:?}", layout.stride()),
    }
}

/// Runs `f` on the values of a tensor on the CPU.
pub(crate) fn with_values<R>(
    tensor: &Tensor,
    f: impl FnOnce(&[f32]) -> candle_core::Result<R>,
) -> candle_core::Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => f(values(cpu, layout)?),
        _ => candle_core::bail!("a tensor on the CPU is needed, found one on {:?}", tensor.device()),
    }
}

/// As [`prepare`], but takes a tensor on a CUDA device too, where there are kernels for the operator.
pub(crate) fn prepare_on_any(tensor: &Tensor, op: &'static str) -> Result<Tensor> {
    if cfg!(feature = "cuda") && tensor.device().is_cuda() && tensor.dtype() == DType::F32 {
        return Ok(tensor.contiguous()?);
    }
    prepare(tensor, op)
}

/// Checks element type and device, and gives a contiguous tensor.
pub(crate) fn prepare(tensor: &Tensor, op: &'static str) -> Result<Tensor> {
    if tensor.dtype() != DType::F32 {
        return Err(Error::DType { what: op, expected: DType::F32, found: tensor.dtype() });
    }
    if !matches!(tensor.device(), Device::Cpu) {
        return Err(Error::Device { op, device: format!("{:?}", tensor.device().location()) });
    }
    Ok(tensor.contiguous()?)
}

/// The four dimensions of an activation, none of them zero.
pub(crate) fn dims(tensor: &Tensor, what: &'static str) -> Result<Dims> {
    match *tensor.dims() {
        [n, c, h, w] if n * c * h * w > 0 => Ok(Dims { n, c, h, w }),
        _ => Err(shape_error(tensor, what, "[images, channels, rows, columns], none of them zero")),
    }
}

/// Checks a tensor's exact shape.
pub(crate) fn expect_shape(tensor: &Tensor, what: &'static str, shape: &[usize]) -> Result<()> {
    if tensor.dims() == shape { Ok(()) } else { Err(shape_error(tensor, what, &format!("{shape:?}"))) }
}

fn shape_error(tensor: &Tensor, what: &'static str, expected: &str) -> Error {
    Error::Shape { what, expected: expected.into(), found: tensor.dims().to_vec() }
}

/// The dimensions inside an operator, where the shape has been checked.
fn inner_dims(layout: &Layout) -> candle_core::Result<Dims> {
    let (n, c, h, w) = layout.shape().dims4()?;
    Ok(Dims { n, c, h, w })
}

/// The tensor of the shape `d`, on the CPU.
fn tensor4(values: Vec<f32>, d: Dims) -> candle_core::Result<Tensor> {
    Tensor::from_vec(values, (d.n, d.c, d.h, d.w), &Device::Cpu)
}

/// The result of an operator in the shape `d`.
fn stored(values: Vec<f32>, d: Dims) -> candle_core::Result<(CpuStorage, candle_core::Shape)> {
    Ok((CpuStorage::F32(values), (d.n, d.c, d.h, d.w).into()))
}

/// The path of the public functions of this module.
fn path() -> Result<CpuPath> {
    CpuPath::detect()
}
