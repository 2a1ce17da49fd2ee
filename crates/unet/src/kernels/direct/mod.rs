//! 3 × 3 convolution in `bf16` by its definition, for a processor that multiplies tiles ([AMX](amx)).
//!
//! Such a processor has products to spare: those that [Winograd's filtering](super::winograd) saves cost it less than the transforms do. Both factors are rounded to
//! `bf16` as they are; sums are `f32`.
//!
//! The channels of the input are taken in [`pairs`], each a line of 32-bit values with a zero on either side, and the lines of a row of pixels
//! follow one another: `[row][pair][column]`. So the lines of three rows, all that a row of the result sums over, follow one another too, and each tap across is the
//! same lines a column later ([`convolve()`]). The gradient of the kernels sums over pixels instead: there, a pair is two pixels of a channel
//! ([`weight_gradient`]).
//!
//! Everything is generic over the operations on [tiles], which tests emulate on any processor.

#![cfg_attr(not(any(test, target_arch = "x86_64")), allow(dead_code, unused_variables))]

#[cfg(target_arch = "x86_64")]
mod amx;
mod blocks;
mod convolve;
mod gradient;
mod pairs;
#[cfg(test)]
mod tests;
mod tiles;

use super::conv::{Input, Target};
use super::lanes::TAPS;
use super::packing::Kernels;
use crate::CpuPath;

/// Bytes of the operands of a task: most of a small second-level cache.
const SCRATCH: usize = 400_000;

/// What multiplies tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// The processor.
    #[cfg(target_arch = "x86_64")]
    Amx,
    /// Plain Rust, exactly as slow as that sounds.
    #[cfg(test)]
    Emulated,
}

/// Whether this processor multiplies tiles, and rightly.
pub(crate) fn is_available() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        amx::is_available()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// The convolution of `input` with `outputs` rows of `kernels`, into `target`.
pub(super) fn convolve(
    unit: Unit,
    path: CpuPath,
    input: Input<'_>,
    kernels: Kernels<'_>,
    outputs: usize,
    target: &Target<'_>,
) {
    match unit {
        #[cfg(target_arch = "x86_64")]
        Unit::Amx => convolve::convolve::<amx::Amx>(path, input, kernels, outputs, target),
        #[cfg(test)]
        Unit::Emulated => convolve::convolve::<tiles::Emulated>(path, input, kernels, outputs, target),
        #[allow(unreachable_patterns)]
        _ => unreachable!("no unit on this processor"),
    }
}

/// `d_weight` `[outputs, channels, 3, 3]` from the input and the gradient `g` of the result.
pub(super) fn weight_gradient(
    unit: Unit,
    path: CpuPath,
    input: Input<'_>,
    g: &[f32],
    outputs: usize,
    d_weight: &mut [f32],
) {
    match unit {
        #[cfg(target_arch = "x86_64")]
        Unit::Amx => gradient::weight_gradient::<amx::Amx>(path, input, g, outputs, d_weight),
        #[cfg(test)]
        Unit::Emulated => gradient::weight_gradient::<tiles::Emulated>(path, input, g, outputs, d_weight),
        #[allow(unreachable_patterns)]
        _ => unreachable!("no unit on this processor"),
    }
}

/// A row of pixels of a channel.
#[derive(Debug, Clone, Copy)]
enum Row<'a> {
    /// Outside the image: zeros.
    Outside,
    /// Of half the width, every value twice.
    Low(&'a [f32]),
    Same(&'a [f32]),
}

/// Row `y` of a channel of an image; there is none where `y` is outside.
fn row<'a>(input: &Input<'a>, image: usize, channel: usize, y: Option<usize>) -> Row<'a> {
    let super::Dims { c, h, w, .. } = input.d;
    let Some(y) = y.filter(|&y| y < h) else { return Row::Outside };
    if channel < input.up {
        let start = ((image * input.up + channel) * (h / 2) + y / 2) * (w / 2);
        Row::Low(&input.low[start..start + w / 2])
    } else {
        let start = ((image * (c - input.up) + channel - input.up) * h + y) * w;
        Row::Same(&input.same[start..start + w])
    }
}

/// `len` values that start with a line of the caches, of arbitrary contents.
fn aligned(room: &mut Vec<u32>, len: usize) -> &mut [u32] {
    const LINE: usize = 64;
    let spare = LINE / size_of::<u32>() - 1;
    if room.len() < len + spare {
        room.resize(len + spare, 0);
    }
    let skip = room.as_ptr().align_offset(LINE).min(spare);
    &mut room[skip..skip + len]
}
