//! The engine's pass as a node of candle's graph.
//!
//! A candle operator takes at most three tensors, a network has dozens of parameters. So a chain of links runs past all
//! of them: each link takes one parameter and an otherwise useless single value, the last value enters the network's own node. Going back, candle
//! reaches that node first; it computes every gradient and leaves them for the links to hand out.

use super::{Forward, Record, on_a_worker};
use crate::Result;
use crate::init::lock;
use crate::ops::with_values;
use candle_core::{CpuStorage, CustomOp2, Device, Layout, Shape, Tensor};
use std::sync::{Arc, Mutex};

/// What the network's node and its links share.
struct Shared {
    record: Record,
    /// Gradients of the parameters between the network's backward pass and the links'.
    gradients: Mutex<Vec<Option<Vec<f32>>>>,
}

/// The logits of `forward` as a tensor of the given shape, linked to `images` and `parameters` (the trained ones, in
/// their order) if the record was kept.
pub(crate) fn attach(
    images: &Tensor,
    parameters: &[&Tensor],
    forward: Forward,
    shape: Shape,
) -> Result<Tensor> {
    let Some(record) = forward.record else {
        return Ok(Tensor::from_vec(forward.logits, shape, &Device::Cpu)?);
    };
    let shared = Arc::new(Shared { record, gradients: Mutex::new(Vec::new()) });
    let mut chain = Tensor::from_vec(vec![0f32], 1, &Device::Cpu)?;
    for (index, parameter) in parameters.iter().enumerate() {
        chain = chain.apply_op2(parameter, Link { shared: Arc::clone(&shared), index })?;
    }
    let node = Network { shared, shape, logits: Mutex::new(forward.logits) };
    Ok(images.apply_op2(&chain, node)?)
}

/// One parameter's place in the graph.
struct Link {
    shared: Arc<Shared>,
    index: usize,
}

impl CustomOp2 for Link {
    fn name(&self) -> &'static str {
        "unet-parameter"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(1)))
    }

    fn bwd(
        &self,
        chain: &Tensor,
        parameter: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = lock(&self.shared.gradients).get_mut(self.index).and_then(Option::take);
        let gradient = match gradient {
            Some(values) => Some(Tensor::from_vec(values, parameter.shape(), &Device::Cpu)?),
            None => None,
        };
        Ok((chain.track_op().then(|| g.clone()), gradient))
    }
}

/// The network as a function of the images and, through the chain, of its parameters.
struct Network {
    shared: Arc<Shared>,
    shape: Shape,
    /// Computed already; handed over by the forward call.
    logits: Mutex<Vec<f32>>,
}

impl CustomOp2 for Network {
    fn name(&self) -> &'static str {
        "unet"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(std::mem::take(&mut lock(&self.logits))), self.shape.clone()))
    }

    fn bwd(
        &self,
        images: &Tensor,
        chain: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let want_images = images.track_op();
        let record = &self.shared.record;
        let gradients = with_values(g, |g| Ok(on_a_worker(|| record.backward(g, want_images))))?;
        *lock(&self.shared.gradients) = gradients.parameters.into_iter().map(Some).collect();
        let d_images = match gradients.input {
            Some(values) => Some(Tensor::from_vec(values, images.shape(), &Device::Cpu)?),
            None => None,
        };
        Ok((d_images, Some(chain.zeros_like()?)))
    }
}
