//! The whole network as one operator with a record of its own.
//!
//! candle's own record would work (the operators in [`ops`](crate::ops) have gradients), but it starts every gradient as
//! zeros to which the real one is added, and frees every activation. Here gradients are written once, in place where possible, into buffers that
//! are kept for the next step. To candle the network is a function of the images and of every parameter: the graph
//! module links them.

mod buffer;
mod graph;

pub(crate) use buffer::{Buffer, Pool};
pub(crate) use graph::attach;

use crate::config::Config;
use crate::kernels::conv::{self, How, Input};
use crate::kernels::norm::{self, Moments};
use crate::kernels::{Dims, pointwise, resample};
use std::sync::Arc;

/// The values of a convolution and the batch norm after it, during one pass.
pub(crate) struct Layer {
    pub(crate) weight: Buffer,
    pub(crate) gamma: Buffer,
    pub(crate) beta: Buffer,
    /// Statistics to normalise with; those of the batch if absent.
    pub(crate) fixed: Option<Vec<Moments>>,
}

/// The values of all parameters, during one pass.
pub(crate) struct Weights {
    /// Two layers a block, in the order of [`Config::blocks`].
    pub(crate) layers: Vec<Layer>,
    pub(crate) head: (Buffer, Buffer),
}

/// What a layer reads: the level below, upsampled, where a decoder starts; then the layer before or the skip connection.
struct Source {
    low: Option<Arc<Buffer>>,
    same: Arc<Buffer>,
    /// The grid with all channels.
    d: Dims,
}

impl Source {
    fn input(&self) -> Input<'_> {
        let Self { low, same, d } = self;
        let low: &[f32] = low.as_deref().map_or(&[], |low| low);
        Input { d: *d, up: 4 * low.len() / (d.n * d.plane()), low, same }
    }
}

/// What the backward pass of one layer needs.
struct LayerRecord {
    source: Source,
    /// The convolution's result.
    y: Buffer,
    moments: Vec<Moments>,
}

/// A forward pass that can be followed by backward passes.
pub(crate) struct Record {
    config: Config,
    how: How,
    pool: Arc<Pool>,
    weights: Weights,
    layers: Vec<LayerRecord>,
    /// Output of each encoder block but the last, with its shape: skip connections and inputs of the poolings.
    skips: Vec<(Arc<Buffer>, Dims)>,
    /// Input of the head.
    last: (Arc<Buffer>, Dims),
}

/// Gradients of a backward pass.
pub(crate) struct Gradients {
    /// Of the images, if asked for.
    pub(crate) input: Option<Vec<f32>>,
    /// Of the trained parameters, in the order of [`Config::parameters`].
    pub(crate) parameters: Vec<Vec<f32>>,
}

/// What a forward pass gives.
pub(crate) struct Forward {
    /// Logits.
    pub(crate) logits: Vec<f32>,
    /// Statistics that normalised, and over how many values they were taken, for each layer.
    pub(crate) moments: Vec<(Vec<Moments>, usize)>,
    /// The record, if it was to be kept.
    pub(crate) record: Option<Record>,
}

/// Runs `f`, a pass, on one of the threads that share the parallel loops in it: from outside, each loop would wake a worker up and wait for it.
pub(crate) fn on_a_worker<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| f())
}

/// Runs the network on images of the shape `d`.
pub(crate) fn forward(
    config: &Config,
    how: How,
    pool: &Arc<Pool>,
    weights: Weights,
    images: &[f32],
    d: Dims,
    keep: bool,
) -> Forward {
    let path = how.path;
    let mut pass = Pass { how, pool, weights: &weights, keep, layers: Vec::new(), moments: Vec::new() };
    let (mut x, mut d) = (Arc::new(pool.copy(images)), d);
    let mut skips = Vec::new();
    for level in 0..=config.depth {
        if level > 0 {
            let half = Dims { h: d.h / 2, w: d.w / 2, ..d };
            let mut pooled = pool.take(half.len());
            resample::pool(path, &x, d, &mut pooled);
            skips.push((std::mem::replace(&mut x, Arc::new(pooled)), d));
            d = half;
        }
        (x, d) = pass.block(Source { low: None, same: x, d });
    }
    for (skip, s) in skips.iter().rev() {
        (x, d) = pass.block(Source { low: Some(x), same: Arc::clone(skip), d: s.channels(d.c + s.c) });
    }
    let (weight, bias) = &weights.head;
    let mut logits = vec![0f32; d.channels(config.out_channels).len()];
    pointwise::conv1x1(path, &x, weight, bias, d, &mut logits);
    let Pass { layers, moments, .. } = pass;
    let record = keep.then(|| Record {
        config: *config,
        how,
        pool: Arc::clone(pool),
        weights,
        layers,
        skips,
        last: (x, d),
    });
    Forward { logits, moments, record }
}

/// The state of a forward pass.
struct Pass<'a> {
    how: How,
    pool: &'a Arc<Pool>,
    weights: &'a Weights,
    keep: bool,
    layers: Vec<LayerRecord>,
    moments: Vec<(Vec<Moments>, usize)>,
}

impl Pass<'_> {
    /// The next two layers.
    fn block(&mut self, source: Source) -> (Arc<Buffer>, Dims) {
        let (same, d) = self.layer(source);
        self.layer(Source { low: None, same, d })
    }

    fn layer(&mut self, source: Source) -> (Arc<Buffer>, Dims) {
        let Layer { weight, gamma, beta, fixed } = &self.weights.layers[self.moments.len()];
        let result = source.d.channels(gamma.len());
        let count = result.n * result.plane();
        if let (Some(fixed), false) = (fixed, self.keep) {
            // Nobody asks for the convolution's own result.
            let mut z = self.pool.take(result.len());
            let affine = norm::affine(fixed, gamma, beta);
            conv::forward_affine_relu(self.how, source.input(), weight, &affine, &mut z);
            self.moments.push((fixed.clone(), count));
            return (Arc::new(z), result);
        }
        let mut y = self.pool.take(result.len());
        conv::forward(self.how, source.input(), weight, result.c, &mut y);
        let moments = fixed.clone().unwrap_or_else(|| norm::moments(self.how.path, &y, result));
        let mut z = self.pool.take(result.len());
        norm::forward(self.how.path, &y, result, &moments, gamma, beta, &mut z);
        if self.keep {
            self.layers.push(LayerRecord { source, y, moments: moments.clone() });
        }
        self.moments.push((moments, count));
        (Arc::new(z), result)
    }
}

impl Record {
    /// Gradients from `d_logits`, the gradient of the logits.
    pub(crate) fn backward(&self, d_logits: &[f32], want_input: bool) -> Gradients {
        let (path, depth) = (self.how.path, self.config.depth);
        let (last, d) = (&self.last.0, self.last.1);
        let classes = self.config.out_channels;
        let (head_weight, head_bias) = pointwise::conv1x1_weight_gradient(path, last, d_logits, d, classes);
        let mut g = self.pool.take(d.len());
        pointwise::conv1x1_data_gradient(path, d_logits, &self.weights.head.0, d, &mut g);

        let mut parameters = vec![Vec::new(); 3 * self.layers.len()];
        let mut d_skips = Vec::with_capacity(depth);
        for (level, (_, s)) in self.skips.iter().enumerate() {
            // Decoders run from the bottom up, so going back the top one comes first.
            let block = 2 * depth - level;
            g = self.layer_backward(2 * block + 1, g, &mut parameters);
            self.parameter_gradients(2 * block, &mut g, &mut parameters);
            let (mut d_low, mut d_skip) = (self.pool.take(2 * s.len() / 4), self.pool.take(s.len()));
            self.input_gradient(2 * block, &g, [&mut d_low, &mut d_skip]);
            d_skips.push(d_skip);
            g = d_low;
        }
        for (level, ((skip, s), mut d_skip)) in self.skips.iter().zip(d_skips).enumerate().rev() {
            g = self.layer_backward(2 * level + 3, g, &mut parameters);
            let d_pooled = self.layer_backward(2 * level + 2, g, &mut parameters);
            resample::pool_backward_add(path, skip, *s, &d_pooled, &mut d_skip);
            g = d_skip;
        }
        let mut g = self.layer_backward(1, g, &mut parameters);
        self.parameter_gradients(0, &mut g, &mut parameters);
        let input = want_input.then(|| {
            let mut d_input = vec![0f32; self.layers[0].source.d.len()];
            self.input_gradient(0, &g, [&mut [], &mut d_input]);
            d_input
        });
        parameters.extend([head_weight, head_bias]);
        Gradients { input, parameters }
    }

    /// Back through one layer that upsamples nothing.
    fn layer_backward(&self, index: usize, mut g: Buffer, parameters: &mut [Vec<f32>]) -> Buffer {
        self.parameter_gradients(index, &mut g, parameters);
        let mut d_input = self.pool.take(self.layers[index].source.d.len());
        self.input_gradient(index, &g, [&mut [], &mut d_input]);
        d_input
    }

    /// Turns `g`, the gradient of a layer's output, into that of its convolution's result, and fills in those of its
    /// parameters.
    fn parameter_gradients(&self, index: usize, g: &mut Buffer, parameters: &mut [Vec<f32>]) {
        let Layer { weight, gamma, beta, fixed } = &self.weights.layers[index];
        let LayerRecord { source, y, moments } = &self.layers[index];
        let (path, result) = (self.how.path, source.d.channels(gamma.len()));
        let batch = fixed.is_none();
        let (d_gamma, d_beta) = norm::backward(path, y, result, moments, gamma, beta, batch, g);
        let mut d_weight = vec![0f32; weight.len()];
        conv::weight_gradient(self.how, source.input(), g, result.c, &mut d_weight);
        for (slot, gradient) in parameters[3 * index..].iter_mut().zip([d_weight, d_gamma, d_beta]) {
            *slot = gradient;
        }
    }

    /// The gradients of a layer's upsampled and other input from `g`, that of its convolution's result.
    fn input_gradient(&self, index: usize, g: &Buffer, targets: [&mut [f32]; 2]) {
        let Layer { weight, gamma, .. } = &self.weights.layers[index];
        conv::data_gradient(self.how, g, weight, self.layers[index].source.d, gamma.len(), targets);
    }
}
