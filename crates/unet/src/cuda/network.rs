//! A pass on a device as a node of candle's graph: as `engine::graph` does for the CPU, a chain of links runs past all parameters into
//! the network's own node, which computes every gradient and leaves them for the links to hand out.

use super::device::{self, Gpu, device_of, gpu, view, with_view};
use super::losses;
use super::machine::View;
use super::memory::Pool;
use super::passes::Norm;
use super::tape::{self, Layer, Mode, Parameters, Record};
use crate::init::lock;
use crate::kernels::Dims;
use crate::{Config, Error, Precision, Result};
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Shape, Storage, Tensor};
use std::sync::{Arc, Mutex};

/// The memory of a network's last pass, for the next one.
#[derive(Clone, Default)]
pub(crate) struct Pools(Arc<Mutex<Option<Arc<Pool<Gpu>>>>>);

impl Pools {
    /// That of this device in this precision; what another had is given back.
    fn pool(&self, gpu: Arc<Gpu>) -> Arc<Pool<Gpu>> {
        let mut kept = lock(&self.0);
        match &*kept {
            Some(pool) if Arc::ptr_eq(&pool.machine, &gpu) => Arc::clone(pool),
            _ => Arc::clone(kept.insert(Pool::new(gpu))),
        }
    }
}

/// The tensors of a network in the order of [`Config::parameters`].
pub(crate) struct Tensors<'a> {
    pub(crate) all: Vec<&'a Tensor>,
    pub(crate) trained: Vec<&'a Tensor>,
}

/// Logits of checked, contiguous images on a device, and the way back if `mode` keeps a record.
fn run(
    config: &Config,
    precision: Precision,
    pools: &Pools,
    tensors: &Tensors<'_>,
    images: &Tensor,
    d: Dims,
    mode: Mode,
) -> Result<((CudaStorage, Shape), Option<Way>)> {
    let device = device_of(images)?;
    let pool = pools.pool(gpu(device, precision)?);
    let machine = Arc::clone(&pool.machine);
    // Held until everything was asked for. The device writes the running statistics in its stream's order; the host holds no reference to them.
    let held: Vec<_> = tensors.all.iter().map(|tensor| tensor.storage_and_layout()).collect();
    let views = held
        .iter()
        .map(|(storage, layout)| match &**storage {
            Storage::Cuda(storage) => Ok(view(storage, layout)?),
            _ => Err(Error::Device { op: "a network with parameters elsewhere", device: "the CPU".into() }),
        })
        .collect::<Result<Vec<View>>>()?;
    let Some((layers, &[weight, bias])) = views.split_last_chunk() else {
        return Err(Error::Missing { name: "head.weight".into(), place: "the network" });
    };
    let layer = |&[weight, gamma, beta, mean, variance]: &[View; 5]| Layer {
        weight,
        norm: Norm { gamma, beta, mean, variance },
    };
    let parameters = Parameters { layers: layers.as_chunks().0.iter().map(layer).collect(), weight, bias };
    let shape = Shape::from((d.n, config.out_channels, d.h, d.w));
    let (logits, to) = machine.storage(device, &shape)?;
    let run = |images: View| tape::forward(config, &pool, &parameters, images, [d.n, d.h, d.w], mode, to);
    let record = with_view(images, run)?;
    drop(held);
    let shapes = tensors.trained.iter().map(|tensor| tensor.shape().clone()).collect();
    Ok(((logits, shape), record.map(|record| Way { machine, record, shapes })))
}

/// Logits of checked, contiguous images on a device, linked to the images and the trained parameters if `mode` keeps a record.
pub(crate) fn forward(
    config: &Config,
    precision: Precision,
    pools: &Pools,
    tensors: &Tensors<'_>,
    images: &Tensor,
    d: Dims,
    mode: Mode,
) -> Result<Tensor> {
    let ((logits, shape), way) = run(config, precision, pools, tensors, images, d, mode)?;
    let Some(way) = way else { return Ok(device::tensor(logits, shape)) };
    let shared = Arc::new(Shared { way, gradients: Mutex::new(Vec::new()) });
    let mut chain = Tensor::zeros(1, candle_core::DType::F32, images.device())?;
    for (index, parameter) in tensors.trained.iter().enumerate() {
        chain = chain.apply_op2(parameter, Link { shared: Arc::clone(&shared), index })?;
    }
    let node = Network { shared, shape, logits: Mutex::new(Some(logits)) };
    Ok(images.apply_op2(&chain, node)?)
}

/// Logits of checked, contiguous images on a device, outside candle's graph, and the way back to the trained parameters.
pub(crate) fn pass(
    config: &Config,
    precision: Precision,
    pools: &Pools,
    tensors: &Tensors<'_>,
    images: &Tensor,
    d: Dims,
) -> Result<(Tensor, Option<Way>)> {
    let mode = Mode { train: true, keep: true };
    let ((logits, shape), way) = run(config, precision, pools, tensors, images, d, mode)?;
    Ok((device::tensor(logits, shape), way))
}

/// The way back through a pass.
pub(crate) struct Way {
    machine: Arc<Gpu>,
    record: Record<Gpu>,
    /// Of the trained parameters.
    shapes: Vec<Shape>,
}

impl Way {
    /// The gradients of the trained parameters and, if asked for, of images of this shape, from `g`, that of the logits.
    pub(crate) fn back(&self, g: &Tensor, images: Option<&Shape>) -> Result<(Vec<Tensor>, Option<Tensor>)> {
        let device = device_of(g)?;
        let fresh = |shape: &Shape| -> Result<(Tensor, View)> {
            let (storage, view) = self.machine.storage(device, shape)?;
            Ok((device::tensor(storage, shape.clone()), view))
        };
        let made = self.shapes.iter().map(fresh).collect::<Result<Vec<_>>>()?;
        let (tensors, views): (Vec<Tensor>, Vec<View>) = made.into_iter().unzip();
        let of_images = images.map(fresh).transpose()?;
        let to = of_images.as_ref().map(|(_, view)| *view);
        with_view(g, |g| self.record.backward(g, &views, to))?;
        Ok((tensors, of_images.map(|(tensor, _)| tensor)))
    }
}

/// The most probable class of every pixel of logits on a device.
pub(crate) fn most_probable(logits: &Tensor, d: Dims) -> Result<Tensor> {
    let device = device_of(logits)?;
    let gpu = gpu(device, Precision::F32)?;
    let (classes, to) = gpu.bytes(device, Shape::from((d.n, d.h, d.w)))?;
    with_view(logits, |logits| losses::most_probable(&*gpu, logits, d, to))?;
    Ok(classes)
}

/// What the network's node and its links share.
struct Shared {
    way: Way,
    /// Gradients of the parameters between the network's backward pass and the links'.
    gradients: Mutex<Vec<Option<Tensor>>>,
}

fn not_here() -> candle_core::Error {
    candle_core::Error::Msg("expected tensors on a CUDA device, found one on the CPU".into())
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
        Err(not_here())
    }

    fn cuda_fwd(
        &self,
        chain: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        // Nothing ever reads it.
        let shape = Shape::from(1);
        Ok((self.shared.way.machine.storage(&chain.device, &shape)?.0, shape))
    }

    fn bwd(
        &self,
        chain: &Tensor,
        _: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = lock(&self.shared.gradients).get_mut(self.index).and_then(Option::take);
        Ok((chain.track_op().then(|| g.clone()), gradient))
    }
}

/// The network as a function of the images and, through the chain, of its parameters.
struct Network {
    shared: Arc<Shared>,
    shape: Shape,
    /// Computed already; handed over by the forward call.
    logits: Mutex<Option<CudaStorage>>,
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
        Err(not_here())
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        let logits = lock(&self.logits).take();
        let logits = logits.ok_or_else(|| candle_core::Error::Msg("a pass is taken up once".into()))?;
        Ok((logits, self.shape.clone()))
    }

    fn bwd(
        &self,
        images: &Tensor,
        chain: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let of_images = images.track_op().then(|| images.shape());
        let (tensors, of_images) = self.shared.way.back(g, of_images)?;
        *lock(&self.shared.gradients) = tensors.into_iter().map(Some).collect();
        Ok((of_images, Some(chain.zeros_like()?)))
    }
}
