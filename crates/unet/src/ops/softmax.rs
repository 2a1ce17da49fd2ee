//! Softmax over the classes.

use super::{dims, inner_dims, path, prepare_on_any, stored, tensor4, values, with_values};
use crate::kernels::classes;
use crate::{CpuPath, Result};
use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

/// Probabilities from logits: softmax over the channels of `[B, K, H, W]`, with a gradient.
///
/// # Errors
/// Wrong shapes, element types or devices.
pub fn softmax(logits: &Tensor) -> Result<Tensor> {
    let logits = prepare_on_any(logits, "softmax input")?;
    dims(&logits, "softmax input")?;
    #[cfg(feature = "cuda")]
    if logits.device().is_cuda() {
        return crate::cuda::ops::softmax(&logits);
    }
    Ok(logits.apply_op1(Softmax(path()?))?)
}

struct Softmax(CpuPath);

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "channel-softmax"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let d = inner_dims(layout)?;
        let mut out = vec![0f32; d.len()];
        classes::softmax(self.0, values(x, layout)?, d, &mut out);
        stored(out, d)
    }

    fn bwd(&self, _: &Tensor, y: &Tensor, g: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let d = inner_dims(y.layout())?;
        let mut dx = vec![0f32; d.len()];
        with_values(y, |y| {
            with_values(g, |g| {
                classes::softmax_backward(self.0, y, g, d, &mut dx);
                Ok(())
            })
        })?;
        Ok(Some(tensor4(dx, d)?))
    }
}
