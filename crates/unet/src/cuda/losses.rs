//! One function a kernel of the losses and the optimiser: it checks every size, and launches. As in `passes`.

use super::machine::{Kernel, Machine, View};
use super::passes::{blocks, f32s, f64s, per_block, sized, threads};
use crate::Result;
use crate::kernels::Dims;

/// Bytes of the sums that [`cross_entropy`] needs room for.
pub(crate) fn cross_entropy_bytes(d: Dims) -> usize {
    f64s(4 * blocks(d.n * d.plane()))
}

/// Eq. 1 into `loss`, and the weights of a labelled pixel in its two terms (`f64`).
pub(crate) fn cross_entropy<M: Machine>(
    m: &M,
    logits: View,
    [scribble, weak]: [View; 2],
    d: Dims,
    lambda: f64,
    partial: View,
    loss: View,
    weights: View,
) -> Result<()> {
    let pixels = d.n * d.plane();
    sized([
        (logits, f32s(d.len())),
        (scribble, pixels),
        (weak, pixels),
        (partial, cross_entropy_bytes(d)),
        (loss, f32s(1)),
        (weights, f64s(2)),
    ]);
    let arguments = arguments![
        give logits, give scribble, give weak, give partial, count pixels, count d.plane(), count d.c, count per_block(pixels)
    ];
    // SAFETY: the kernel's arguments; it reads logits and labels of its pixels and writes four sums a block.
    unsafe { m.launch(Kernel::CrossEntropy, [blocks(pixels), 1, 1], &arguments)? };
    let arguments = arguments![give partial, count blocks(pixels), give lambda, give loss, give weights];
    // SAFETY: the kernel's arguments; it writes one loss and two weights.
    unsafe { m.launch(Kernel::CrossEntropyFinish, [1, 1, 1], &arguments) }
}

/// The gradient of the logits, times the value at `outer`.
pub(crate) fn cross_entropy_gradient<M: Machine>(
    m: &M,
    logits: View,
    [scribble, weak]: [View; 2],
    d: Dims,
    weights: View,
    outer: View,
    dx: View,
) -> Result<()> {
    let pixels = d.n * d.plane();
    sized([
        (logits, f32s(d.len())),
        (scribble, pixels),
        (weak, pixels),
        (weights, f64s(2)),
        (outer, f32s(1)),
        (dx, f32s(d.len())),
    ]);
    let arguments = arguments![
        give logits, give scribble, give weak, give weights, give outer, give dx, count pixels, count d.plane(), count d.c
    ];
    // SAFETY: the kernel's arguments, whose sizes were checked.
    unsafe { m.launch(Kernel::CrossEntropyGradient, threads(pixels)?, &arguments) }
}

/// Bytes of the sums that [`overlap`] needs room for.
pub(crate) fn overlap_bytes(d: Dims) -> usize {
    f64s(3 * (d.c - 1) * blocks(d.n * d.plane()))
}

/// The soft Dice loss into `loss`, and its gradient by a probability outside and inside each class's mask.
pub(crate) fn overlap<M: Machine>(
    m: &M,
    probabilities: View,
    mask: View,
    d: Dims,
    partial: View,
    loss: View,
    slopes: View,
) -> Result<()> {
    let pixels = d.n * d.plane();
    assert!(d.c >= 2);
    sized([
        (probabilities, f32s(d.len())),
        (mask, pixels),
        (partial, overlap_bytes(d)),
        (loss, f32s(1)),
        (slopes, f32s(2 * (d.c - 1))),
    ]);
    let arguments = arguments![
        give probabilities, give mask, give partial, count pixels, count d.plane(), count d.c, count per_block(pixels)
    ];
    // SAFETY: the kernel's arguments; it writes three sums a block and class.
    unsafe { m.launch(Kernel::Overlap, [blocks(pixels), d.c - 1, 1], &arguments)? };
    let arguments = arguments![give partial, count blocks(pixels), count d.c, give loss, give slopes];
    // SAFETY: the kernel's arguments; it writes one loss and two slopes a class.
    unsafe { m.launch(Kernel::OverlapFinish, [1, 1, 1], &arguments) }
}

/// The gradient of the probabilities, times the value at `outer`.
pub(crate) fn overlap_gradient<M: Machine>(
    m: &M,
    mask: View,
    d: Dims,
    slopes: View,
    outer: View,
    dp: View,
) -> Result<()> {
    let pixels = d.n * d.plane();
    sized([(mask, pixels), (slopes, f32s(2 * (d.c - 1))), (outer, f32s(1)), (dp, f32s(d.len()))]);
    let arguments = arguments![
        give mask, give slopes, give outer, give dp, count pixels, count d.plane(), count d.c
    ];
    // SAFETY: the kernel's arguments, whose sizes were checked.
    unsafe { m.launch(Kernel::OverlapGradient, threads(pixels)?, &arguments) }
}

/// Softmax over the classes.
pub(crate) fn softmax<M: Machine>(m: &M, logits: View, d: Dims, out: View) -> Result<()> {
    sized([(logits, f32s(d.len())), (out, f32s(d.len()))]);
    let pixels = d.n * d.plane();
    let arguments = arguments![give logits, give out, count pixels, count d.plane(), count d.c];
    // SAFETY: the kernel's arguments, whose sizes were checked.
    unsafe { m.launch(Kernel::Softmax, threads(pixels)?, &arguments) }
}

/// Its gradient, from its result.
pub(crate) fn softmax_gradient<M: Machine>(m: &M, y: View, g: View, d: Dims, dx: View) -> Result<()> {
    sized([(y, f32s(d.len())), (g, f32s(d.len())), (dx, f32s(d.len()))]);
    let pixels = d.n * d.plane();
    let arguments = arguments![give y, give g, give dx, count pixels, count d.plane(), count d.c];
    // SAFETY: the kernel's arguments, whose sizes were checked.
    unsafe { m.launch(Kernel::SoftmaxGradient, threads(pixels)?, &arguments) }
}

/// The most probable class of each pixel.
pub(crate) fn most_probable<M: Machine>(m: &M, logits: View, d: Dims, out: View) -> Result<()> {
    let pixels = d.n * d.plane();
    sized([(logits, f32s(d.len())), (out, pixels)]);
    let arguments = arguments![give logits, give out, count pixels, count d.plane(), count d.c];
    // SAFETY: the kernel's arguments, whose sizes were checked.
    unsafe { m.launch(Kernel::MostProbable, threads(pixels)?, &arguments) }
}

/// v ← μ·v + g + κ·p
pub(crate) fn velocity<M: Machine>(
    m: &M,
    v: View,
    g: View,
    p: View,
    momentum: f32,
    decay: f32,
) -> Result<()> {
    sized([(g, v.bytes), (p, v.bytes)]);
    let values = v.bytes / 4;
    let arguments = arguments![give v, give g, give p, give momentum, give decay, count values];
    // SAFETY: the kernel's arguments, all of one size.
    unsafe { m.launch(Kernel::SgdVelocity, threads(values)?, &arguments) }
}

/// p ← p − η·v
pub(crate) fn descend<M: Machine>(m: &M, p: View, v: View, rate: f32) -> Result<()> {
    sized([(v, p.bytes)]);
    let values = p.bytes / 4;
    let arguments = arguments![give p, give v, give rate, count values];
    // SAFETY: the kernel's arguments, both of one size.
    unsafe { m.launch(Kernel::SgdDescend, threads(values)?, &arguments) }
}
