//! One function a kernel of the network: it checks every size, and launches.
//!
//! A size that does not fit is a bug of this crate, for the callers have checked shapes, and is asserted.

use super::machine::{Argument, COLUMNS, Convolution, Geometry, Kernel, Machine, THREADS, View};
use crate::{Error, Result};

/// Blocks that a sum is divided among at most, and pixels that a block sums at least. The number of blocks decides the order of
/// a sum, so it depends on the shape alone.
const MOST_BLOCKS: usize = 1024;
const LEAST_PIXELS: usize = 64;

/// Pixels a block of a sum goes over.
pub(crate) fn per_block(pixels: usize) -> usize {
    pixels.div_ceil(MOST_BLOCKS).max(LEAST_PIXELS)
}

/// Blocks of a sum over that many pixels.
pub(crate) fn blocks(pixels: usize) -> usize {
    pixels.div_ceil(per_block(pixels))
}

/// A count as kernels take it, or a number of threads: below 2^31.
pub(crate) fn count(value: usize) -> Result<Argument> {
    let small = u32::try_from(value).ok().filter(|value| *value < 1 << 31);
    small.map(Argument::Count).ok_or_else(|| Error::Cuda {
        what: format!("expected fewer than 2^31 values in a launch, found {value}; take a smaller batch"),
    })
}

/// A thread an item.
pub(crate) fn threads(items: usize) -> Result<[usize; 3]> {
    count(items)?;
    Ok([items.div_ceil(THREADS), 1, 1])
}

pub(crate) fn f32s(values: usize) -> usize {
    4 * values
}

pub(crate) fn f64s(values: usize) -> usize {
    8 * values
}

/// Asserts that each view has its size.
pub(crate) fn sized<const N: usize>(views: [(View, usize); N]) {
    for (view, bytes) in views {
        assert_eq!(view.bytes, bytes, "memory of a launch");
    }
}

/// The grid of a sum over the pixels of `channels`, padded.
fn sum_grid<M: Machine>(machine: &M, pixels: usize, channels: usize) -> [usize; 3] {
    [blocks(pixels), (channels / machine.lanes()).div_ceil(COLUMNS), 1]
}

/// An activation's shape: `padded` channels, of which the first `channels` are more than padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) images: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) channels: usize,
    pub(crate) padded: usize,
}

impl Shape {
    pub(crate) fn plane(&self) -> usize {
        self.rows * self.columns
    }

    pub(crate) fn pixels(&self) -> usize {
        self.images * self.plane()
    }

    /// Values, the padding included.
    pub(crate) fn values(&self) -> usize {
        self.pixels() * self.padded
    }

    /// The grid of half the rows and columns.
    pub(crate) fn half(&self) -> Self {
        Self { rows: self.rows / 2, columns: self.columns / 2, ..*self }
    }

    /// Bytes of an activation, whole vectors as they are.
    fn bytes<M: Machine>(&self, machine: &M) -> usize {
        assert!(self.padded.is_multiple_of(machine.lanes()) && self.channels <= self.padded);
        self.values() * machine.size()
    }

    fn vectors<M: Machine>(&self, machine: &M) -> usize {
        self.padded / machine.lanes()
    }

    /// Vectors of all pixels.
    fn items<M: Machine>(&self, machine: &M) -> usize {
        self.pixels() * self.vectors(machine)
    }
}

/// Where the channels of an input come from: `first`, padded to `second_at`, then `second`, padded to `padded`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inputs {
    pub(crate) first: usize,
    pub(crate) second: usize,
    pub(crate) second_at: usize,
    pub(crate) padded: usize,
}

impl Inputs {
    fn channels(&self) -> usize {
        self.first + self.second
    }
}

/// Images `[image][channel][row][column]` to an activation.
pub(crate) fn images_in<M: Machine>(m: &M, images: View, out: View, s: Shape) -> Result<()> {
    sized([(images, f32s(s.pixels() * s.channels)), (out, s.bytes(m))]);
    let arguments = arguments![give images, give out, count s.pixels(), count s.plane(), count s.channels, count s.vectors(m)];
    // SAFETY: the kernel's arguments; it reads the images and writes the activation, whose sizes were checked.
    unsafe { m.launch(Kernel::ImagesIn, threads(s.items(m))?, &arguments) }
}

/// The gradient of the images from that of the activation.
pub(crate) fn images_out<M: Machine>(m: &M, g: View, images: View, s: Shape) -> Result<()> {
    sized([(images, f32s(s.pixels() * s.channels)), (g, s.bytes(m))]);
    let arguments = arguments![give g, give images, count s.pixels(), count s.plane(), count s.channels, count s.vectors(m)];
    // SAFETY: as for `images_in`, the other way.
    unsafe { m.launch(Kernel::ImagesOut, threads(s.items(m))?, &arguments) }
}

/// Kernels as candle has them to the convolution's; `outputs` with and without padding.
pub(crate) fn weights_in<M: Machine>(
    m: &M,
    weights: View,
    out: View,
    outputs: [usize; 2],
    inputs: Inputs,
) -> Result<()> {
    let values = outputs[1] * 9 * inputs.padded;
    sized([(weights, f32s(outputs[0] * 9 * inputs.channels())), (out, values * m.size())]);
    let arguments = arguments![
        give weights, give out, count values, count outputs[0], count inputs.channels(), count inputs.padded, count inputs.first,
        count inputs.second_at,
    ];
    // SAFETY: the kernel's arguments; it reads weights of outputs and inputs that are there, and writes `values`.
    unsafe { m.launch(Kernel::WeightsIn, threads(values)?, &arguments) }
}

/// The gradient of the kernels as candle has them.
pub(crate) fn weights_out<M: Machine>(
    m: &M,
    g: View,
    out: View,
    outputs: [usize; 2],
    inputs: Inputs,
) -> Result<()> {
    let values = outputs[0] * 9 * inputs.channels();
    sized([(out, f32s(values)), (g, outputs[1] * 9 * inputs.padded * m.size())]);
    let arguments = arguments![
        give g, give out, count values, count inputs.channels(), count inputs.padded, count inputs.first, count inputs.second_at,
    ];
    // SAFETY: the kernel's arguments; it writes `values` and reads where `weights_in` writes.
    unsafe { m.launch(Kernel::WeightsOut, threads(values)?, &arguments) }
}

/// A convolution of checked sizes.
pub(crate) fn convolve<M: Machine>(
    m: &M,
    kind: Convolution,
    g: Geometry,
    x: View,
    w: View,
    y: View,
) -> Result<()> {
    let size = m.size();
    sized([
        (x, g.pixels() * g.inputs * size),
        (w, g.outputs * 9 * g.inputs * size),
        (y, g.pixels() * g.outputs * size),
    ]);
    // SAFETY: the sizes are those of the shapes.
    unsafe { m.convolve(kind, g, x, w, y) }
}

/// A batch norm's parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Norm {
    pub(crate) gamma: View,
    pub(crate) beta: View,
    pub(crate) mean: View,
    pub(crate) variance: View,
}

impl Norm {
    fn check(&self, channels: usize) {
        sized([self.gamma, self.beta, self.mean, self.variance].map(|view| (view, f32s(channels))));
    }
}

/// What a batch norm computes of each channel: moments (`f64`), the normalisation's scale and shift (`f32`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Statistics {
    pub(crate) moments: View,
    pub(crate) affine: View,
}

impl Statistics {
    fn check(&self, s: Shape) {
        sized([(self.moments, f64s(2 * s.padded)), (self.affine, f32s(2 * s.padded))]);
    }
}

/// Bytes of the sums that [`norm_batch`] and [`norm_gradient`] need room for.
pub(crate) fn norm_sums_bytes(s: Shape) -> usize {
    f64s(blocks(s.pixels()) * s.padded * 2)
}

/// The statistics of the batch itself; the running ones move towards them by `momentum`, if they are to.
pub(crate) fn norm_batch<M: Machine>(
    m: &M,
    y: View,
    s: Shape,
    norm: Norm,
    momentum: Option<f64>,
    partial: View,
    statistics: Statistics,
) -> Result<()> {
    norm.check(s.channels);
    statistics.check(s);
    sized([(y, s.bytes(m)), (partial, norm_sums_bytes(s))]);
    let (pixels, blocks) = (s.pixels(), blocks(s.pixels()));
    let arguments =
        arguments![give y, give partial, count pixels, count s.vectors(m), count per_block(pixels)];
    // SAFETY: the kernel's arguments; it reads `y` and writes two sums a block and channel.
    unsafe { m.launch(Kernel::NormSums, sum_grid(m, pixels, s.padded), &arguments)? };
    let running = |view: View| momentum.map(|_| view);
    let arguments = arguments![
        give partial, count blocks, give y, count pixels, count s.padded, count s.channels, give norm.gamma, give norm.beta,
        give running(norm.mean), give running(norm.variance), give momentum.unwrap_or(0.0), give statistics.moments,
        give statistics.affine,
    ];
    // SAFETY: the kernel's arguments; parameters have `channels` values, statistics twice the padded number.
    unsafe { m.launch(Kernel::NormFinish, [s.padded.div_ceil(COLUMNS), 1, 1], &arguments) }
}

/// The statistics that are given.
pub(crate) fn norm_fixed<M: Machine>(m: &M, s: Shape, norm: Norm, statistics: Statistics) -> Result<()> {
    norm.check(s.channels);
    statistics.check(s);
    let arguments = arguments![
        give norm.mean, give norm.variance, give norm.gamma, give norm.beta, count s.padded, count s.channels,
        give statistics.moments, give statistics.affine,
    ];
    // SAFETY: as for `norm_batch`.
    unsafe { m.launch(Kernel::NormFixed, threads(s.padded)?, &arguments) }
}

/// z = ReLU(batch norm(y)), and its maxima over 2 × 2 windows if asked for.
pub(crate) fn norm_relu<M: Machine>(
    m: &M,
    y: View,
    s: Shape,
    statistics: Statistics,
    z: View,
    pooled: Option<View>,
) -> Result<()> {
    statistics.check(s);
    sized([(y, s.bytes(m)), (z, s.bytes(m))]);
    let (affine, vectors) = (statistics.affine, s.vectors(m));
    let Some(pooled) = pooled else {
        let arguments = arguments![give y, give affine, give z, count s.items(m), count vectors];
        // SAFETY: the kernel's arguments; `y` and `z` have a vector an item.
        return unsafe { m.launch(Kernel::NormRelu, threads(s.items(m))?, &arguments) };
    };
    let half = s.half();
    assert!(s.rows.is_multiple_of(2) && s.columns.is_multiple_of(2));
    sized([(pooled, half.bytes(m))]);
    let items = half.items(m);
    let arguments = arguments![
        give y, give affine, give z, give pooled, count items, count vectors, count half.columns
    ];
    // SAFETY: the kernel's arguments; of even rows and columns every window lies inside.
    unsafe { m.launch(Kernel::NormReluPool, threads(items)?, &arguments) }
}

/// Where the gradients of a batch norm go; `line` has two `f32` a channel of room.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NormGradients {
    pub(crate) gamma: View,
    pub(crate) beta: View,
    pub(crate) line: View,
}

/// Turns `g`, the gradient of z, into that of y. With `batch` the moments came from y and take part in it.
pub(crate) fn norm_gradient<M: Machine>(
    m: &M,
    y: View,
    s: Shape,
    statistics: Statistics,
    batch: bool,
    g: View,
    partial: View,
    to: NormGradients,
) -> Result<()> {
    statistics.check(s);
    sized([
        (y, s.bytes(m)),
        (g, s.bytes(m)),
        (partial, norm_sums_bytes(s)),
        (to.gamma, f32s(s.channels)),
        (to.beta, f32s(s.channels)),
        (to.line, f32s(2 * s.padded)),
    ]);
    let Statistics { moments, affine } = statistics;
    let (pixels, vectors) = (s.pixels(), s.vectors(m));
    let arguments = arguments![
        give y, give g, give affine, give moments, give partial, count pixels, count vectors, count per_block(pixels),
    ];
    // SAFETY: the kernel's arguments; it reads `y` and `g` and writes two sums a block and channel.
    unsafe { m.launch(Kernel::NormGradientSums, sum_grid(m, pixels, s.padded), &arguments)? };
    let arguments = arguments![
        give partial, count blocks(pixels), count pixels, count s.padded, count s.channels, give affine, give moments,
        count usize::from(batch), give to.gamma, give to.beta, give to.line,
    ];
    // SAFETY: the kernel's arguments; gradients have `channels` values, `line` twice the padded number.
    unsafe { m.launch(Kernel::NormGradientFinish, [s.padded.div_ceil(COLUMNS), 1, 1], &arguments)? };
    let arguments = arguments![give y, give g, give affine, give to.line, count s.items(m), count vectors];
    // SAFETY: the kernel's arguments; `y` and `g` have a vector an item.
    unsafe { m.launch(Kernel::NormGradient, threads(s.items(m))?, &arguments) }
}

/// [`low` upsampled by 2, `skip`] along the channels; `low` has the shape `l`.
pub(crate) fn upsample_concat<M: Machine>(
    m: &M,
    low: View,
    l: Shape,
    skip: View,
    s: Shape,
    out: View,
) -> Result<()> {
    assert_eq!((l.images, l.rows, l.columns), (s.images, s.half().rows, s.half().columns));
    let (vectors, items) = ([l.vectors(m), s.vectors(m)], s.pixels() * (l.padded + s.padded) / m.lanes());
    sized([(low, l.bytes(m)), (skip, s.bytes(m)), (out, items * 16)]);
    let arguments = arguments![
        give low, give skip, give out, count items, count vectors[0], count vectors[1], count s.columns
    ];
    // SAFETY: the kernel's arguments; `out` has a vector an item, which comes from a pixel inside `low` or `skip`.
    unsafe { m.launch(Kernel::UpsampleConcat, threads(items)?, &arguments) }
}

/// The gradient of `low` from `g`, that of the concatenation.
pub(crate) fn upsample_gradient<M: Machine>(m: &M, g: View, l: Shape, s: Shape, low: View) -> Result<()> {
    assert_eq!((l.images, l.rows, l.columns), (s.images, s.half().rows, s.half().columns));
    let vectors = l.vectors(m) + s.vectors(m);
    sized([(low, l.bytes(m)), (g, s.pixels() * vectors * 16)]);
    let arguments = arguments![
        give g, give low, count l.items(m), count l.vectors(m), count vectors, count l.columns
    ];
    // SAFETY: the kernel's arguments; every window of `g` lies inside.
    unsafe { m.launch(Kernel::UpsampleGradient, threads(l.items(m))?, &arguments) }
}

/// The gradient of a skip connection `z` of the shape `s`: its part of `g`, the concatenation's, and that of its pooling. `low` is how
/// many padded channels come before it in `g`.
pub(crate) fn skip_gradient<M: Machine>(
    m: &M,
    g: View,
    low: usize,
    z: View,
    s: Shape,
    pooled: View,
    out: View,
) -> Result<()> {
    let (half, vectors) = (s.half(), s.vectors(m));
    assert!(s.rows.is_multiple_of(2) && s.columns.is_multiple_of(2) && low.is_multiple_of(m.lanes()));
    let low_vectors = low / m.lanes();
    sized([
        (g, s.pixels() * (low_vectors + vectors) * 16),
        (z, s.bytes(m)),
        (pooled, half.bytes(m)),
        (out, s.bytes(m)),
    ]);
    let items = half.items(m);
    let arguments = arguments![
        give g, give z, give pooled, give out, count items, count vectors, count low_vectors, count half.columns
    ];
    // SAFETY: the kernel's arguments; every window lies inside.
    unsafe { m.launch(Kernel::SkipGradient, threads(items)?, &arguments) }
}

/// The last layer: its weights `[class][channel]` and bias.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) weight: View,
    pub(crate) bias: View,
    pub(crate) classes: usize,
}

impl Head {
    fn check(&self, s: Shape) {
        sized([(self.weight, f32s(self.classes * s.channels)), (self.bias, f32s(self.classes))]);
    }
}

/// Logits `[image][class][row][column]`.
pub(crate) fn head<M: Machine>(m: &M, z: View, s: Shape, head: Head, logits: View) -> Result<()> {
    head.check(s);
    sized([(z, s.bytes(m)), (logits, f32s(s.pixels() * head.classes))]);
    let arguments = arguments![
        give z, give head.weight, give head.bias, give logits, count s.pixels(), count s.plane(), count s.channels,
        count s.vectors(m), count head.classes,
    ];
    // SAFETY: the kernel's arguments, whose sizes were checked.
    unsafe { m.launch(Kernel::Head, threads(s.pixels())?, &arguments) }
}

/// Bytes of the sums that [`head_gradients`] needs room for.
pub(crate) fn head_sums_bytes(s: Shape, classes: usize) -> usize {
    f64s(blocks(s.pixels()) * classes * (s.padded + 1))
}

/// The gradients of `z` and, into `to`, of the last layer, from `g`, that of the logits.
pub(crate) fn head_gradients<M: Machine>(
    m: &M,
    z: View,
    s: Shape,
    weight: View,
    g: View,
    dz: View,
    partial: View,
    to: Head,
) -> Result<()> {
    let (classes, pixels, vectors) = (to.classes, s.pixels(), s.vectors(m));
    to.check(s);
    sized([
        (z, s.bytes(m)),
        (dz, s.bytes(m)),
        (weight, f32s(classes * s.channels)),
        (g, f32s(pixels * classes)),
        (partial, head_sums_bytes(s, classes)),
    ]);
    let arguments = arguments![
        give g, give weight, give dz, count s.items(m), count s.plane(), count s.channels, count vectors, count classes
    ];
    // SAFETY: the kernel's arguments, whose sizes were checked.
    unsafe { m.launch(Kernel::HeadGradient, threads(s.items(m))?, &arguments)? };
    let [x, y, _] = sum_grid(m, pixels, s.padded);
    let arguments = arguments![
        give z, give g, give partial, count pixels, count s.plane(), count vectors, count classes, count per_block(pixels)
    ];
    // SAFETY: the kernel's arguments; it writes one sum a block, class and channel, and one more a class.
    unsafe { m.launch(Kernel::HeadSums, [x, y, classes.div_ceil(4)], &arguments)? };
    let arguments = arguments![
        give partial, count blocks(pixels), count s.padded, count s.channels, count classes, give to.weight, give to.bias
    ];
    // SAFETY: the kernel's arguments; it writes the sums of channels that are no padding.
    unsafe { m.launch(Kernel::HeadFinish, [(classes * (s.padded + 1)).div_ceil(COLUMNS), 1, 1], &arguments) }
}
