//! The network: blocks of two convolutions, poolings on the way down, upsampling and skip connections on the way up.

use crate::config::Config;
use crate::engine::{self, Buffer, Layer, Pool, Weights};
use crate::kernels::Dims;
use crate::kernels::conv::How;
use crate::kernels::norm::Moments;
use crate::ops;
use crate::optim::values_mut;
use crate::{CpuPath, Error, Precision, Result};
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor, Var};
use candle_nn::VarBuilder;
use std::sync::Arc;

/// Share of the batch in the running statistics at each training step.
pub const RUNNING_MOMENTUM: f64 = 0.1;

/// A U-Net over the parameters of a [`VarBuilder`]; see [`Config::parameters`] for their names.
///
/// Cloning shares the parameters. A network keeps the memory of its last pass for the next one; it is given back when
/// the last clone is dropped or the shape of the input changes.
#[derive(Clone)]
pub struct UNet {
    config: Config,
    how: How,
    blocks: Vec<[ConvNorm; 2]>,
    head: (Tensor, Tensor),
    pool: Arc<Pool>,
    #[cfg(feature = "cuda")]
    on_device: crate::cuda::network::Pools,
}

/// A 3 × 3 convolution and the batch norm after it.
#[derive(Clone)]
struct ConvNorm {
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    running_mean: Tensor,
    running_variance: Tensor,
}

impl ConvNorm {
    fn load(vb: &VarBuilder, index: usize, inputs: usize, outputs: usize) -> Result<Self> {
        let (conv, norm) = (vb.pp(format!("conv{index}")), vb.pp(format!("bn{index}")));
        Ok(Self {
            weight: conv.get((outputs, inputs, 3, 3), "weight")?,
            gamma: norm.get(outputs, "weight")?,
            beta: norm.get(outputs, "bias")?,
            running_mean: norm.get(outputs, "running_mean")?,
            running_variance: norm.get(outputs, "running_var")?,
        })
    }

    /// Copies of the values, in buffers of `pool`.
    fn values(&self, pool: &Arc<Pool>, train: bool) -> Result<Layer> {
        Ok(Layer {
            weight: copy(pool, &self.weight)?,
            gamma: copy(pool, &self.gamma)?,
            beta: copy(pool, &self.beta)?,
            fixed: if train { None } else { Some(self.running()?) },
        })
    }

    fn running(&self) -> Result<Vec<Moments>> {
        let (mean, variance) = (self.running_mean.to_vec1::<f32>()?, self.running_variance.to_vec1::<f32>()?);
        let pairs = mean.into_iter().zip(variance);
        Ok(pairs.map(|(m, v)| Moments { mean: m.into(), variance: v.into() }).collect())
    }

    /// Moves the running statistics towards those of a batch of `count` values a channel; the variance that is kept
    /// is the unbiased one.
    fn update_running(&self, batch: &[Moments], count: usize) -> Result<()> {
        let unbias = if count > 1 { count as f64 / (count - 1) as f64 } else { 1.0 };
        let mean: Vec<f64> = batch.iter().map(|m| m.mean).collect();
        let variance: Vec<f64> = batch.iter().map(|m| unbias * m.variance).collect();
        self.running_mean.inplace_op1(&MoveTowards(&mean))?;
        self.running_variance.inplace_op1(&MoveTowards(&variance))?;
        Ok(())
    }
}

/// The values of a parameter in a buffer of `pool`.
fn copy(pool: &Arc<Pool>, tensor: &Tensor) -> Result<Buffer> {
    Ok(ops::with_values(tensor, |values| Ok(pool.copy(values)))?)
}

/// value ← (1 − 0.1)·value + 0.1·target
struct MoveTowards<'a>(&'a [f64]);

impl InplaceOp1 for MoveTowards<'_> {
    fn name(&self) -> &'static str {
        "running-statistics"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        for (value, target) in values_mut(storage, layout)?.iter_mut().zip(self.0) {
            let moved = (1.0 - RUNNING_MOMENTUM) * f64::from(*value) + RUNNING_MOMENTUM * target;
            *value = moved as f32;
        }
        Ok(())
    }
}

impl UNet {
    /// Takes the parameters out of `vb`: of a [`VarMap`](candle_nn::VarMap) made by [`init`](crate::init()), to train;
    /// of a safetensors file, to predict.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration is not valid; an error of candle if a parameter is absent or has another shape.
    pub fn load(config: &Config, vb: VarBuilder) -> Result<Self> {
        config.validate()?;
        let blocks = config
            .blocks()
            .iter()
            .map(|block| {
                let vb = vb.pp(&block.name);
                let first = ConvNorm::load(&vb, 1, block.inputs, block.outputs)?;
                Ok([first, ConvNorm::load(&vb, 2, block.outputs, block.outputs)?])
            })
            .collect::<Result<_>>()?;
        let vb = vb.pp("head");
        let weight = vb.get((config.out_channels, config.width, 1, 1), "weight")?;
        let bias = vb.get(config.out_channels, "bias")?;
        Ok(Self {
            config: *config,
            how: CpuPath::detect()?.into(),
            blocks,
            head: (weight, bias),
            pool: Arc::default(),
            #[cfg(feature = "cuda")]
            on_device: Default::default(),
        })
    }

    /// The same network, computed with the given kernels.
    ///
    /// # Errors
    /// [`Error::CpuPath`] if this machine cannot run them.
    pub fn with_cpu_path(mut self, path: CpuPath) -> Result<Self> {
        self.how.path = path.checked()?;
        Ok(self)
    }

    /// The same network, its convolutions computed in `precision`; `f32` without.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.how.precision = precision;
        self
    }

    /// The shape of the network.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Logits `[B, out_channels, H, W]` of a batch `[B, in_channels, H, W]` of `f32`.
    ///
    /// On a CUDA device (feature `cuda`) nothing waits for it: what comes back may not be computed yet.
    ///
    /// With `train` the batch's own statistics normalise and the running ones are updated (momentum 0.1, unbiased
    /// variance); without, the running ones normalise and nothing is changed.
    ///
    /// # Errors
    /// [`Error::InputSize`] if H or W is not a multiple of 2^depth; [`Error::Shape`] for other channels;
    /// [`Error::DType`], [`Error::Device`], [`Error::Cuda`].
    pub fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let (x, d) = self.check(x)?;
        let tracked = x.track_op() || self.trained().any(|p| p.track_op());
        self.run(&x, d, train, tracked)
    }

    /// The images as a contiguous tensor, and their shape, if they fit.
    fn check(&self, x: &Tensor) -> Result<(Tensor, Dims)> {
        let x = ops::prepare_on_any(x, "network input")?;
        let d = ops::dims(&x, "network input")?;
        ops::expect_shape(&x, "network input", &[d.n, self.config.in_channels, d.h, d.w])?;
        self.config.check_input_size(d.h, d.w)?;
        Ok((x, d))
    }

    /// [`UNet::forward`] for training, with a way back of its own: the same logits and gradients, bit for bit, in less time than through
    /// candle's store, which starts the gradient of every parameter as zeros and adds the real one to it.
    ///
    /// # Errors
    /// As [`UNet::forward`].
    pub fn pass(&self, x: &Tensor) -> Result<Pass> {
        let (x, d) = self.check(x)?;
        let parameters = self.trained().cloned().collect();
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            let (precision, pools) = (self.how.precision, &self.on_device);
            let (logits, way) =
                crate::cuda::network::pass(&self.config, precision, pools, &self.tensors(), &x, d)?;
            let logits = Var::from_tensor(&logits)?.into_inner();
            return Ok(Pass { logits, way: way.map(Way::Device), parameters });
        }
        let engine::Forward { logits, record, .. } = self.compute(&x, d, true, true)?;
        let logits = Var::from_vec(logits, (d.n, self.config.out_channels, d.h, d.w), x.device())?;
        Ok(Pass { logits: logits.into_inner(), way: record.map(Way::Cpu), parameters })
    }

    /// The pass itself, on checked images; `keep` the record for a backward pass.
    fn run(&self, x: &Tensor, d: Dims, train: bool, keep: bool) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            let mode = crate::cuda::tape::Mode { train, keep };
            let (precision, pools) = (self.how.precision, &self.on_device);
            return crate::cuda::network::forward(
                &self.config,
                precision,
                pools,
                &self.tensors(),
                x,
                d,
                mode,
            );
        }
        let forward = self.compute(x, d, train, keep)?;
        let trained: Vec<&Tensor> = self.trained().collect();
        engine::attach(x, &trained, forward, (d.n, self.config.out_channels, d.h, d.w).into())
    }

    fn compute(&self, x: &Tensor, d: Dims, train: bool, keep: bool) -> Result<engine::Forward> {
        self.pool.prepare([d.n, d.h, d.w]);
        let layers = || self.blocks.iter().flatten();
        let weights = Weights {
            layers: layers().map(|layer| layer.values(&self.pool, train)).collect::<Result<_>>()?,
            head: (copy(&self.pool, &self.head.0)?, copy(&self.pool, &self.head.1)?),
        };
        let forward = ops::with_values(x, |images| {
            Ok(engine::on_a_worker(|| {
                engine::forward(&self.config, self.how, &self.pool, weights, images, d, keep)
            }))
        })?;
        if train {
            for (layer, (moments, count)) in layers().zip(&forward.moments) {
                layer.update_running(moments, *count)?;
            }
        }
        Ok(forward)
    }

    /// The trained parameters in the order of [`Config::parameters`].
    fn trained(&self) -> impl Iterator<Item = &Tensor> {
        let layers = self.blocks.iter().flatten();
        layers.flat_map(|l| [&l.weight, &l.gamma, &l.beta]).chain([&self.head.0, &self.head.1])
    }

    #[cfg(feature = "cuda")]
    fn tensors(&self) -> crate::cuda::network::Tensors<'_> {
        crate::cuda::network::Tensors { all: self.parameters().collect(), trained: self.trained().collect() }
    }

    /// All parameters in the order of [`Config::parameters`].
    #[cfg(feature = "cuda")]
    fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        let layers = self.blocks.iter().flatten();
        layers
            .flat_map(|l| [&l.weight, &l.gamma, &l.beta, &l.running_mean, &l.running_variance])
            .chain([&self.head.0, &self.head.1])
    }

    /// Most probable class of every pixel, `u8` `[B, H, W]`, with the running statistics. On a tie the lowest class wins.
    ///
    /// # Errors
    /// As [`UNet::forward`].
    pub fn predict(&self, x: &Tensor) -> Result<Tensor> {
        let (x, d) = self.check(x)?;
        let logits = self.run(&x, d, false, false)?;
        let d = d.channels(self.config.out_channels);
        #[cfg(feature = "cuda")]
        if logits.device().is_cuda() {
            return crate::cuda::network::most_probable(&logits, d);
        }
        let plane = d.plane();
        let classes = ops::with_values(&logits, |values| {
            let classes = values.chunks_exact(d.c * plane).flat_map(|image| {
                (0..plane).map(move |p| {
                    (1..d.c).fold(
                        0,
                        |best, k| if image[k * plane + p] > image[best * plane + p] { k } else { best },
                    ) as u8
                })
            });
            Ok(classes.collect::<Vec<u8>>())
        })?;
        Ok(Tensor::from_vec(classes, (d.n, d.h, d.w), logits.device())?)
    }
}

/// A training pass of a [`UNet`]: its logits, and the way back to the parameters.
pub struct Pass {
    logits: Tensor,
    way: Option<Way>,
    parameters: Vec<Tensor>,
}

/// What a pass leaves for the way back.
enum Way {
    Cpu(engine::Record),
    #[cfg(feature = "cuda")]
    Device(crate::cuda::network::Way),
}

impl Way {
    /// The gradients of the trained parameters from that of the logits.
    fn back(&self, g: &Tensor, parameters: &[Tensor]) -> Result<Vec<Tensor>> {
        match self {
            Self::Cpu(record) => {
                let own = ops::with_values(g, |g| Ok(engine::on_a_worker(|| record.backward(g, false))))?;
                let gradients = parameters.iter().zip(own.parameters);
                gradients.map(|(p, values)| Ok(Tensor::from_vec(values, p.shape(), g.device())?)).collect()
            }
            #[cfg(feature = "cuda")]
            Self::Device(way) => Ok(way.back(g, None)?.0),
        }
    }
}

impl Pass {
    /// Logits `[B, out_channels, H, W]`: losses are functions of them.
    pub fn logits(&self) -> &Tensor {
        &self.logits
    }

    /// The gradients of `loss`, a function of the [logits](Self::logits), by every trained parameter (and whatever else it depends on).
    ///
    /// # Errors
    /// [`Error::Missing`] if the loss does not depend on the logits; an error of candle.
    pub fn backward(&self, loss: &Tensor) -> Result<GradStore> {
        let mut gradients = loss.backward()?;
        let Some(way) = &self.way else { return Ok(gradients) };
        let Some(g) = gradients.remove(&self.logits) else {
            return Err(Error::Missing { name: "logits".into(), place: "what the loss depends on" });
        };
        for (parameter, gradient) in self.parameters.iter().zip(way.back(&g, &self.parameters)?) {
            // The loss may depend on a parameter beside the logits.
            let gradient = match gradients.get(parameter) {
                Some(other) => (other + gradient)?,
                None => gradient,
            };
            gradients.insert(parameter, gradient);
        }
        Ok(gradients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MOMENTUM, Sgd, init, partial_cross_entropy};
    use candle_core::{DType, Device, Var};
    use rand::RngExt;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    const STEPS: usize = 8;

    /// Logits, losses of some steps, the first step's gradients and the last state.
    struct Run {
        logits: Vec<f32>,
        losses: Vec<f32>,
        gradients: Vec<f32>,
        state: Vec<f32>,
    }

    fn flat(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn train(how: How, threads: usize) -> Run {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (mut rng, device) = (ChaCha8Rng::seed_from_u64(31), Device::Cpu);
            let config = Config { in_channels: 4, out_channels: 2, width: 6, depth: 2 };
            let map = init(&config, &mut rng, &device).unwrap();
            let vb = VarBuilder::from_varmap(&map, DType::F32, &device);
            let network = UNet { how, ..UNet::load(&config, vb).unwrap() };
            let mut draw =
                |count: usize| -> Vec<f32> { (0..count).map(|_| rng.random_range(-1.5..1.5)).collect() };
            let x = draw(3 * 4 * 20 * 28);
            let labels = x.chunks_exact(560).step_by(4).flatten().map(|&v| u8::from(v > 0.0)).collect();
            let labels = Tensor::from_vec::<_, u8>(labels, (3, 20, 28), &device).unwrap();
            let x = Tensor::from_vec(x, (3, 4, 20, 28), &device).unwrap();
            let variables: Vec<Var> = {
                let data = map.data().lock().unwrap();
                config.parameters().iter().map(|p| data[&p.name].clone()).collect()
            };
            let all =
                |f: &dyn Fn(&Var) -> Option<Vec<f32>>| variables.iter().filter_map(f).flatten().collect();
            let mut sgd = Sgd::new(&map, MOMENTUM, 1e-4).unwrap();
            let (mut logits, mut losses, mut gradients) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..STEPS {
                let result = network.forward(&x, true).unwrap();
                let loss = partial_cross_entropy(&result, &labels, &labels, 0.8).unwrap();
                let grads = loss.backward().unwrap();
                if losses.is_empty() {
                    logits = flat(&result);
                    gradients = all(&|v| grads.get(v.as_tensor()).map(flat));
                }
                losses.push(loss.to_scalar::<f32>().unwrap());
                sgd.step(&grads, 0.05).unwrap();
            }
            let state: Vec<f32> = all(&|v| Some(flat(v.as_tensor())));
            let prediction = network.predict(&x).unwrap().flatten_all().unwrap().to_vec1::<u8>().unwrap();
            let state = state.into_iter().chain(prediction.into_iter().map(f32::from)).collect();
            Run { logits, losses, gradients, state }
        })
    }

    /// |a − b| / |b|
    fn difference(a: &[f32], b: &[f32]) -> f64 {
        let norm = |v: &mut dyn Iterator<Item = f32>| v.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
    }

    #[test]
    fn a_network_on_tiles_learns_like_one_in_f32() {
        let path = CpuPath::detect().unwrap();
        let tiles = How { emulated: true, ..How::new(path, Precision::Bf16) };
        let (found, expected) = (train(tiles, 2), train(path.into(), 2));
        let rounded = train(How::new(CpuPath::Portable, Precision::Bf16), 2);
        assert!(found.losses[STEPS - 1] < 0.9 * found.losses[0], "{:?}", found.losses);
        for (found, expected) in found.losses.iter().zip(&expected.losses) {
            assert!((found - expected).abs() < 0.02 * expected, "{found} instead of {expected}");
        }
        // No further from f32 than rounding after the transforms is, which has larger values to round. A gradient differs by more than a logit: where rounding
        // moves a value across zero or past its neighbour, a ReLU or a maximum takes the other side.
        for (found, rounded, expected, most) in [
            (&found.logits, &rounded.logits, &expected.logits, 0.03),
            (&found.gradients, &rounded.gradients, &expected.gradients, 0.3),
        ] {
            let (found, rounded) = (difference(found, expected), difference(rounded, expected));
            assert!(found > 1e-4 && found < 1.1 * rounded && found < most, "{found}, {rounded}");
        }
        for threads in [1, 3] {
            let other = train(tiles, threads);
            assert!(other.state == found.state && other.losses == found.losses, "{threads} threads");
        }
    }
}
