//! The losses and the softmax as operators of candle on a device. Nothing waits for it: counts stay there, a loss is a tensor.

use super::device::{self, Gpu, device_of, gpu, view, with_view};
use super::losses;
use super::machine::{Machine, View};
use crate::kernels::Dims;
use crate::ops::{dims, expect_shape};
use crate::{Error, Precision, Result};
use candle_core::{CpuStorage, CudaStorage, CustomOp1, DType, Layout, Shape, Tensor};
use std::sync::{Arc, Mutex};

use crate::init::lock;

/// Kernels of losses are the same in every precision.
fn kernels(tensor: &Tensor) -> Result<Arc<Gpu>> {
    gpu(device_of(tensor)?, Precision::F32)
}

fn not_here() -> candle_core::Error {
    candle_core::Error::Msg("expected a tensor on a CUDA device, found one on the CPU".into())
}

fn shape_of(layout: &Layout) -> candle_core::Result<Dims> {
    let (n, c, h, w) = layout.shape().dims4()?;
    Ok(Dims { n, c, h, w })
}

/// Labels on the device, their shape and type checked. Their values are not: that would mean waiting for them.
fn labels(tensor: &Tensor, what: &'static str, d: Dims) -> Result<Tensor> {
    expect_shape(tensor, what, &[d.n, d.h, d.w])?;
    if tensor.dtype() != DType::U8 {
        return Err(Error::DType { what, expected: DType::U8, found: tensor.dtype() });
    }
    device_of(tensor)?;
    Ok(tensor.contiguous()?)
}

/// Room for sums or weights of an operator.
type Room = <Gpu as Machine>::Memory;

fn room(gpu: &Gpu, bytes: usize) -> Result<(Room, View)> {
    let memory = gpu.allocate(bytes)?;
    let address = gpu.address(&memory);
    Ok((memory, View { address, bytes }))
}

/// Eq. 1 of checked, contiguous logits.
pub(crate) fn partial_cross_entropy(
    logits: &Tensor,
    scribble: &Tensor,
    weak: &Tensor,
    lambda: f64,
) -> Result<Tensor> {
    let d = dims(logits, "partial cross-entropy logits")?;
    let labels = [labels(scribble, "scribble", d)?, labels(weak, "weak", d)?];
    let op = PartialCrossEntropy { gpu: kernels(logits)?, labels, lambda, weights: Mutex::new(None) };
    Ok(logits.apply_op1(op)?)
}

struct PartialCrossEntropy {
    gpu: Arc<Gpu>,
    labels: [Tensor; 2],
    lambda: f64,
    /// Of a labelled pixel in each term, from the forward pass.
    weights: Mutex<Option<(Room, View)>>,
}

impl PartialCrossEntropy {
    fn with_labels<R>(&self, f: impl FnOnce([View; 2]) -> Result<R>) -> Result<R> {
        let [scribble, weak] = &self.labels;
        with_view(scribble, |scribble| with_view(weak, |weak| f([scribble, weak])))
    }
}

impl CustomOp1 for PartialCrossEntropy {
    fn name(&self) -> &'static str {
        "partial-cross-entropy"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        Err(not_here())
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        let (d, x_view, gpu) = (shape_of(layout)?, view(x, layout)?, &*self.gpu);
        let shape = Shape::from(());
        let (loss, to) = gpu.storage(&x.device, &shape)?;
        let (_partial, sums) = room(gpu, losses::cross_entropy_bytes(d))?;
        let weights = room(gpu, 16)?;
        self.with_labels(|labels| {
            losses::cross_entropy(gpu, x_view, labels, d, self.lambda, sums, to, weights.1)
        })?;
        *lock(&self.weights) = Some(weights);
        Ok((loss, shape))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let d = shape_of(x.layout())?;
        let (dx, to) = self.gpu.storage(device_of(x)?, x.shape())?;
        let weights = lock(&self.weights);
        let Some((_, weights)) = &*weights else { return Err(not_here()) };
        with_view(x, |x| {
            with_view(g, |g| {
                self.with_labels(|labels| {
                    losses::cross_entropy_gradient(&*self.gpu, x, labels, d, *weights, g, to)
                })
            })
        })?;
        Ok(Some(device::tensor(dx, x.shape().clone())))
    }
}

/// Soft Dice loss of checked, contiguous probabilities.
pub(crate) fn soft_dice(probabilities: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let d = dims(probabilities, "soft Dice probabilities")?;
    let mask = labels(mask, "mask", d)?;
    let op = SoftDice { gpu: kernels(probabilities)?, mask, slopes: Mutex::new(None) };
    Ok(probabilities.apply_op1(op)?)
}

struct SoftDice {
    gpu: Arc<Gpu>,
    mask: Tensor,
    /// Of each class outside and inside its mask, from the forward pass.
    slopes: Mutex<Option<(Room, View)>>,
}

impl CustomOp1 for SoftDice {
    fn name(&self) -> &'static str {
        "soft-dice"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        Err(not_here())
    }

    fn cuda_fwd(&self, p: &CudaStorage, layout: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        let (d, p_view, gpu) = (shape_of(layout)?, view(p, layout)?, &*self.gpu);
        let shape = Shape::from(());
        let (loss, to) = gpu.storage(&p.device, &shape)?;
        let (_partial, sums) = room(gpu, losses::overlap_bytes(d))?;
        let slopes = room(gpu, 8 * (d.c - 1))?;
        with_view(&self.mask, |mask| losses::overlap(gpu, p_view, mask, d, sums, to, slopes.1))?;
        *lock(&self.slopes) = Some(slopes);
        Ok((loss, shape))
    }

    fn bwd(&self, p: &Tensor, _: &Tensor, g: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let d = shape_of(p.layout())?;
        let (dp, to) = self.gpu.storage(device_of(p)?, p.shape())?;
        let slopes = lock(&self.slopes);
        let Some((_, slopes)) = &*slopes else { return Err(not_here()) };
        with_view(&self.mask, |mask| {
            with_view(g, |g| losses::overlap_gradient(&*self.gpu, mask, d, *slopes, g, to))
        })?;
        Ok(Some(device::tensor(dp, p.shape().clone())))
    }
}

/// Softmax over the classes of checked, contiguous logits.
pub(crate) fn softmax(logits: &Tensor) -> Result<Tensor> {
    Ok(logits.apply_op1(Softmax(kernels(logits)?))?)
}

struct Softmax(Arc<Gpu>);

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "channel-softmax"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        Err(not_here())
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        let (out, to) = self.0.storage(&x.device, layout.shape())?;
        losses::softmax(&*self.0, view(x, layout)?, shape_of(layout)?, to)?;
        Ok((out, layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, y: &Tensor, g: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let d = shape_of(y.layout())?;
        let (dx, to) = self.0.storage(device_of(y)?, y.shape())?;
        with_view(y, |y| with_view(g, |g| losses::softmax_gradient(&*self.0, y, g, d, to)))?;
        Ok(Some(device::tensor(dx, y.shape().clone())))
    }
}

/// v ← μ·v + g + κ·p, in the device's stream.
pub(crate) fn velocity(
    v: (&CudaStorage, &Layout),
    g: (&CudaStorage, &Layout),
    p: (&CudaStorage, &Layout),
    momentum: f32,
    decay: f32,
) -> candle_core::Result<()> {
    let gpu = gpu(&v.0.device, Precision::F32)?;
    let [v, g, p] = [view(v.0, v.1)?, view(g.0, g.1)?, view(p.0, p.1)?];
    Ok(losses::velocity(&*gpu, v, g, p, momentum, decay)?)
}

/// p ← p − η·v, in the device's stream.
pub(crate) fn descend(
    p: (&CudaStorage, &Layout),
    v: (&CudaStorage, &Layout),
    rate: f32,
) -> candle_core::Result<()> {
    let gpu = gpu(&p.0.device, Precision::F32)?;
    Ok(losses::descend(&*gpu, view(p.0, p.1)?, view(v.0, v.1)?, rate)?)
}
