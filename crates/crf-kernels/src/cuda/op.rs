//! The CRF loss of tensors on a device, inside candle's own stream.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CudaStorage, CustomOp1, Error, Layout, Result, Shape, Storage, Tensor};
use cudarc::driver::CudaView;

use super::launch::Batch;
use crate::kernel::PairwiseKernel;
use crate::loss::LossForm;

struct CrfLoss {
    kernels: Vec<Arc<dyn PairwiseKernel>>,
    form: LossForm,
    roi: Option<Tensor>,
    gate: Option<Tensor>,
    /// ∂L/∂y, from the same launch as the loss.
    gradient: Mutex<Option<Tensor>>,
}

/// A contiguous f32 tensor's values.
fn values<'a>(storage: &'a CudaStorage, layout: &Layout) -> Result<CudaView<'a, f32>> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| Error::Msg("crf_loss: expected a contiguous tensor".into()))?;
    Ok(storage.as_cuda_slice::<f32>()?.slice(start..end))
}

impl CustomOp1 for CrfLoss {
    fn name(&self) -> &'static str {
        "crf_loss"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Err(Error::Msg("crf_loss: expected a tensor on a CUDA device, found one on the CPU".into()))
    }

    fn cuda_fwd(&self, y: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let dims = layout.dims();
        let (k, w) = (dims[1], dims[dims.len() - 1]);
        // Of a volume, the rows of all its slices.
        let h = dims[2..dims.len() - 1].iter().product();
        let images = self.kernels.iter().map(|kernel| kernel.resident()).collect::<Option<Vec<_>>>();
        let images = images.ok_or_else(|| {
            Error::Msg(
                "crf_loss: expected kernels on the tensor's device, `Resident` or a view of one; found another"
                    .into(),
            )
        })?;
        let batch = Batch::new(images, h, w).map_err(Error::wrap)?;
        let held: Vec<_> = [&self.roi, &self.gate].map(|t| t.as_ref().map(Tensor::storage_and_layout)).into();
        let weights = |i: usize| -> Result<Option<CudaView<'_, f32>>> {
            match &held[i] {
                None => Ok(None),
                Some((storage, layout)) => match &**storage {
                    Storage::Cuda(storage) => values(storage, layout).map(Some),
                    _ => {
                        Err(Error::Msg("crf_loss: expected roi and gate on the device of the tensor".into()))
                    }
                },
            }
        };
        let (roi, gate) = (weights(0)?, weights(1)?);
        let result = batch
            .loss(&values(y, layout)?, k, self.form, roi.as_ref(), gate.as_ref())
            .map_err(Error::wrap)?;
        let gradient = CudaStorage::wrap_cuda_slice(result.gradient, y.device.clone());
        let gradient = Tensor::from_storage(
            Storage::Cuda(gradient),
            layout.shape(),
            candle_core::op::BackpropOp::none(),
            false,
        );
        *self.gradient.lock().unwrap_or_else(PoisonError::into_inner) = Some(gradient);
        Ok((CudaStorage::wrap_cuda_slice(result.loss, y.device.clone()), Shape::from(())))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let gradient = self.gradient.lock().unwrap_or_else(PoisonError::into_inner).clone();
        gradient.map(|gradient| gradient.broadcast_mul(g)).transpose()
    }
}

/// [`crate::crf_loss`] for tensors on a device; shapes were checked.
pub(crate) fn crf_loss(
    y: &Tensor,
    kernels: &[Arc<dyn PairwiseKernel>],
    form: LossForm,
    roi: Option<&Tensor>,
    gate: Option<&Tensor>,
) -> Result<Tensor> {
    let contiguous = |t: Option<&Tensor>| t.map(Tensor::contiguous).transpose();
    let op = CrfLoss {
        kernels: kernels.to_vec(),
        form,
        roi: contiguous(roi)?,
        gate: contiguous(gate)?,
        gradient: Mutex::new(None),
    };
    y.contiguous()?.apply_op1(op)
}
