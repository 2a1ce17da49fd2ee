//! A pass through the network on a device and the way back: what `engine` is on the CPU, in the same order of parameters.
//!
//! Nothing here waits for the device. Activations are `[image][row][column][channel]`, padded to whole vectors; each is written once,
//! and the intermediate ones of a pass without a record go to the next layer's use as soon as they were read.

use super::machine::{Convolution, Geometry, Machine, View};
use super::memory::{Lent, Pool};
use super::passes::{self, Head, Inputs, Norm, NormGradients, Shape, Statistics};
use crate::{Config, RUNNING_MOMENTUM, Result};
use std::sync::Arc;

/// The parameters of a convolution and the batch norm after it, on the device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layer {
    pub(crate) weight: View,
    pub(crate) norm: Norm,
}

/// All parameters, on the device.
pub(crate) struct Parameters {
    /// Two layers a block, in the order of [`Config::blocks`].
    pub(crate) layers: Vec<Layer>,
    pub(crate) weight: View,
    pub(crate) bias: View,
}

/// How a pass goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mode {
    /// The batch's own statistics normalise and move the running ones; else those normalise.
    pub(crate) train: bool,
    /// A record is kept.
    pub(crate) keep: bool,
}

/// What the backward pass of one layer needs.
struct LayerRecord<M: Machine> {
    /// Input of the convolution.
    source: Arc<Lent<M>>,
    inputs: Inputs,
    /// The convolution's weights as it takes them.
    weight: Lent<M>,
    /// Its result.
    y: Lent<M>,
    shape: Shape,
    moments: Lent<M>,
    affine: Lent<M>,
}

impl<M: Machine> LayerRecord<M> {
    fn statistics(&self) -> Statistics {
        Statistics { moments: self.moments.view(), affine: self.affine.view() }
    }

    fn geometry(&self) -> Geometry {
        geometry(self.inputs, self.shape)
    }
}

fn geometry(inputs: Inputs, result: Shape) -> Geometry {
    let Shape { images, rows, columns, padded, .. } = result;
    Geometry { images, rows, columns, inputs: inputs.padded, outputs: padded }
}

/// A layer's output and, if it was asked for, its pooling.
type Output<M> = (Arc<Lent<M>>, Option<Lent<M>>);

/// An activation.
type Activation<M> = (Arc<Lent<M>>, Shape);

/// A forward pass that can be followed by backward passes.
pub(crate) struct Record<M: Machine> {
    config: Config,
    pool: Arc<Pool<M>>,
    train: bool,
    images: Shape,
    layers: Vec<LayerRecord<M>>,
    /// Output of each encoder block but the last.
    skips: Vec<Activation<M>>,
    /// Input of the head, and a copy of its weights.
    last: Activation<M>,
    head: Lent<M>,
}

struct Pass<'a, M: Machine> {
    pool: &'a Arc<Pool<M>>,
    parameters: &'a Parameters,
    mode: Mode,
    done: usize,
    layers: Vec<LayerRecord<M>>,
}

/// Runs the network on images `[image][channel][row][column]` and writes `logits`.
pub(crate) fn forward<M: Machine>(
    config: &Config,
    pool: &Arc<Pool<M>>,
    parameters: &Parameters,
    images: View,
    [n, rows, columns]: [usize; 3],
    mode: Mode,
    logits: View,
) -> Result<Option<Record<M>>> {
    let m = &*pool.machine;
    pool.prepare([n, rows, columns]);
    let shape = Shape {
        images: n,
        rows,
        columns,
        channels: config.in_channels,
        padded: m.padded(config.in_channels),
    };
    let first = pool.values(shape.values())?;
    passes::images_in(m, images, first.view(), shape)?;
    let mut pass = Pass { pool, parameters, mode, done: 0, layers: Vec::new() };
    let (mut x, mut s) = (Arc::new(first), shape);
    let mut skips: Vec<Activation<M>> = Vec::with_capacity(config.depth);
    for level in 0..=config.depth {
        let outputs = config.width << level;
        let inputs = Inputs { first: s.channels, second: 0, second_at: s.padded, padded: s.padded };
        let (z, pooled, result) = pass.block((x, inputs), s, outputs, level < config.depth)?;
        match pooled {
            Some(pooled) => {
                skips.push((z, result));
                (x, s) = (Arc::new(pooled), result.half());
            }
            None => (x, s) = (z, result),
        }
    }
    for (skip, k) in skips.iter().rev() {
        let inputs = Inputs {
            first: s.channels,
            second: k.channels,
            second_at: s.padded,
            padded: s.padded + k.padded,
        };
        let joined = pool.values(k.pixels() * inputs.padded)?;
        passes::upsample_concat(m, x.view(), s, skip.view(), *k, joined.view())?;
        drop(x);
        (x, _, s) = pass.block((Arc::new(joined), inputs), *k, k.channels, false)?;
    }
    let Parameters { weight, bias, .. } = *parameters;
    let head = Head { weight, bias, classes: config.out_channels };
    passes::head(m, x.view(), s, head, logits)?;
    let layers = pass.layers;
    if !mode.keep {
        return Ok(None);
    }
    let copy = pool.take(weight.bytes)?;
    m.copy(weight, copy.view())?;
    let (pool, train) = (Arc::clone(pool), mode.train);
    Ok(Some(Record { config: *config, pool, train, images: shape, layers, skips, last: (x, s), head: copy }))
}

impl<M: Machine> Pass<'_, M> {
    /// The next two layers, on the grid of `s`, and the pooling of what they give if asked for.
    #[allow(clippy::type_complexity)]
    fn block(
        &mut self,
        (source, inputs): (Arc<Lent<M>>, Inputs),
        s: Shape,
        outputs: usize,
        pooled: bool,
    ) -> Result<(Arc<Lent<M>>, Option<Lent<M>>, Shape)> {
        let result = Shape { channels: outputs, padded: self.pool.machine.padded(outputs), ..s };
        let (z, _) = self.layer(source, inputs, result, false)?;
        let inputs = Inputs { first: outputs, second: 0, second_at: result.padded, padded: result.padded };
        let (z, pooled) = self.layer(z, inputs, result, pooled)?;
        Ok((z, pooled, result))
    }

    fn layer(
        &mut self,
        source: Arc<Lent<M>>,
        inputs: Inputs,
        shape: Shape,
        pooled: bool,
    ) -> Result<Output<M>> {
        let (pool, m) = (self.pool, &*self.pool.machine);
        let Layer { weight: given, norm } = self.parameters.layers[self.done];
        self.done += 1;
        let weight = pool.values(shape.padded * 9 * inputs.padded)?;
        passes::weights_in(m, given, weight.view(), [shape.channels, shape.padded], inputs)?;
        let y = pool.values(shape.values())?;
        let (x, w) = (source.view(), weight.view());
        passes::convolve(m, Convolution::Forward, geometry(inputs, shape), x, w, y.view())?;
        let (moments, affine) = (pool.take(16 * shape.padded)?, pool.take(8 * shape.padded)?);
        let record = LayerRecord { source, inputs, weight, y, shape, moments, affine };
        if self.mode.train {
            let partial = pool.take(passes::norm_sums_bytes(shape))?;
            let (y, momentum) = (record.y.view(), Some(RUNNING_MOMENTUM));
            passes::norm_batch(m, y, shape, norm, momentum, partial.view(), record.statistics())?;
        } else {
            passes::norm_fixed(m, shape, norm, record.statistics())?;
        }
        let z = pool.values(shape.values())?;
        let pooled = if pooled { Some(pool.values(shape.half().values())?) } else { None };
        let to = pooled.as_ref().map(Lent::view);
        passes::norm_relu(m, record.y.view(), shape, record.statistics(), z.view(), to)?;
        if self.mode.keep {
            self.layers.push(record);
        }
        Ok((Arc::new(z), pooled))
    }
}

impl<M: Machine> Record<M> {
    /// Gradients from that of the logits: of the trained parameters into `parameters`, in the order of [`Config::parameters`], of the
    /// images into `images` if asked for.
    pub(crate) fn backward(&self, d_logits: View, parameters: &[View], images: Option<View>) -> Result<()> {
        let (m, depth) = (&*self.pool.machine, self.config.depth);
        assert_eq!(parameters.len(), 3 * self.layers.len() + 2);
        let (last, s) = (&self.last.0, self.last.1);
        let mut g = self.pool.values(s.values())?;
        let classes = self.config.out_channels;
        let partial = self.pool.take(passes::head_sums_bytes(s, classes))?;
        let (weight, bias) = (parameters[parameters.len() - 2], parameters[parameters.len() - 1]);
        let to = Head { weight, bias, classes };
        passes::head_gradients(m, last.view(), s, self.head.view(), d_logits, g.view(), partial.view(), to)?;
        drop(partial);

        // Of each decoder's input: the skip connection's part waits there.
        let mut joined = Vec::with_capacity(depth);
        for (level, (_, s)) in self.skips.iter().enumerate() {
            // Decoders run from the bottom up, so going back the top one comes first.
            let block = 2 * depth - level;
            g = self.layer_backward(2 * block + 1, g, parameters)?;
            let d_joined = self.layer_backward(2 * block, g, parameters)?;
            let inputs = self.layers[2 * block].inputs;
            let low = Shape { channels: inputs.first, padded: inputs.second_at, ..s.half() };
            g = self.pool.values(low.values())?;
            passes::upsample_gradient(m, d_joined.view(), low, *s, g.view())?;
            joined.push((d_joined, low.padded));
        }
        for (level, ((skip, s), (d_joined, low))) in self.skips.iter().zip(joined).enumerate().rev() {
            g = self.layer_backward(2 * level + 3, g, parameters)?;
            let d_pooled = self.layer_backward(2 * level + 2, g, parameters)?;
            g = self.pool.values(s.values())?;
            let (z, pooled) = (skip.view(), d_pooled.view());
            passes::skip_gradient(m, d_joined.view(), low, z, *s, pooled, g.view())?;
        }
        g = self.layer_backward(1, g, parameters)?;
        self.parameter_gradients(0, &g, parameters)?;
        if let Some(images) = images {
            let d_images = self.input_gradient(0, &g)?;
            passes::images_out(m, d_images.view(), images, self.images)?;
        }
        Ok(())
    }

    /// Back through one layer.
    fn layer_backward(&self, index: usize, g: Lent<M>, parameters: &[View]) -> Result<Lent<M>> {
        self.parameter_gradients(index, &g, parameters)?;
        self.input_gradient(index, &g)
    }

    /// Turns `g`, the gradient of a layer's output, into that of its convolution's result, and writes those of its parameters.
    fn parameter_gradients(&self, index: usize, g: &Lent<M>, parameters: &[View]) -> Result<()> {
        let (m, record) = (&*self.pool.machine, &self.layers[index]);
        let LayerRecord { source, inputs, y, shape, .. } = record;
        let [weight, gamma, beta] = [0, 1, 2].map(|i| parameters[3 * index + i]);
        let partial = self.pool.take(passes::norm_sums_bytes(*shape))?;
        let line = self.pool.take(8 * shape.padded)?;
        let to = NormGradients { gamma, beta, line: line.view() };
        let statistics = record.statistics();
        passes::norm_gradient(m, y.view(), *shape, statistics, self.train, g.view(), partial.view(), to)?;
        let d_weight = self.pool.values(shape.padded * 9 * inputs.padded)?;
        let (x, w) = (source.view(), d_weight.view());
        passes::convolve(m, Convolution::Weight, record.geometry(), x, w, g.view())?;
        passes::weights_out(m, w, weight, [shape.channels, shape.padded], *inputs)
    }

    /// The gradient of a layer's input from `g`, that of its convolution's result.
    fn input_gradient(&self, index: usize, g: &Lent<M>) -> Result<Lent<M>> {
        let record = &self.layers[index];
        let d_input = self.pool.values(record.shape.pixels() * record.inputs.padded)?;
        let (m, w) = (&*self.pool.machine, record.weight.view());
        passes::convolve(m, Convolution::Data, record.geometry(), d_input.view(), w, g.view())?;
        Ok(d_input)
    }
}
