//! The convolution in register tiles, straight on the planes, without a padded copy: what the instruction sets share.
//!
//! A plane is treated as one line of pixels, so a tap is a constant offset along it and any number of columns fits into
//! vectors. A table of lane masks says where a tap falls outside the image; a masked lane is neither read nor
//! counted, so nothing needs padding and no pointer that is followed leaves its plane.

use super::Dims;
use super::conv::{TAPS, offset};
use crate::CpuPath;
use crate::init::lock;
use rayon::prelude::*;
use std::sync::{Arc, Mutex};

/// Vectors of a forward tile, and taps of a row in the weight gradient: with [`Tiles::OUT`] outputs they fill three
/// quarters of the registers with accumulators.
pub(super) const WIDE: usize = 3;
/// Input channels that share one walk over the taps, few enough for their rows to stay in the first-level cache.
pub(super) const IN: usize = 8;
/// Input channels of one task of the weight gradient.
const GRADIENT_IN: usize = 16;
/// Pixels of one pass of the weight gradient: the planes of a tile stay in the nearest caches.
const PASS: usize = 1152;

/// The two inner loops, for one set of instructions.
pub(super) trait Tiles {
    /// The instructions they need.
    const PATH: CpuPath;
    /// Values of a vector.
    const LANES: usize;
    /// Output channels of a tile.
    const OUT: usize;

    /// Writes [`Tiles::OUT`] output channels, of which `count` exist, of [`WIDE`] vectors of pixels.
    ///
    /// # Safety
    /// [`Tiles::PATH`] must be available, `input` must hold the `d.c` planes of an image, `weight` and `masks` must be made for `d`,
    /// and `target` must be valid for writing the pixels of this tile in `count` planes.
    unsafe fn forward_tile(
        input: &[f32],
        d: Dims,
        weight: &[f32],
        masks: &Masks,
        tile: usize,
        target: *mut f32,
        count: usize,
    );

    /// Adds to `sums` (`[OUT outputs][3 columns]` of vectors) the products of the gradient with one row of taps of one
    /// input channel, over all images of the slices.
    ///
    /// # Safety
    /// [`Tiles::PATH`] must be available; `input` and `gradient` must hold the same number of images of `d.c` and `outputs` planes; the
    /// channels of `shape` must exist; `sums` must have 3 · [`Tiles::OUT`] vectors.
    unsafe fn weight_pass(input: &[f32], gradient: &[f32], shape: &Pass, masks: &Masks, sums: &mut [f32]);
}

/// Which lanes of which vector a tap may read, for one size of image.
pub(super) struct Masks {
    /// `bits[tap * vectors + vector]`
    bits: Vec<u16>,
    /// Vectors of a plane, rounded up to whole tiles.
    vectors: usize,
}

impl Masks {
    fn build(h: usize, w: usize, lanes: usize) -> Self {
        let vectors = (h * w).div_ceil(lanes).next_multiple_of(WIDE);
        let mut bits = vec![0u16; TAPS * vectors];
        for (k, bits) in bits.chunks_exact_mut(vectors).enumerate() {
            let (dy, dx) = offset(k);
            for y in (0..h).filter(|y| y.checked_add_signed(dy).is_some_and(|y| y < h)) {
                for x in (0..w).filter(|x| x.checked_add_signed(dx).is_some_and(|x| x < w)) {
                    let p = y * w + x;
                    bits[p / lanes] |= 1 << (p % lanes);
                }
            }
        }
        Self { bits, vectors }
    }

    /// The table of a size for vectors of `lanes`, made once.
    fn of(h: usize, w: usize, lanes: usize) -> Arc<Self> {
        type Kept = Vec<([usize; 3], Arc<Masks>)>;
        static KEPT: Mutex<Kept> = Mutex::new(Vec::new());
        let mut kept = lock(&KEPT);
        if let Some((_, masks)) = kept.iter().find(|(size, _)| *size == [h, w, lanes]) {
            return Arc::clone(masks);
        }
        if kept.len() == 64 {
            kept.remove(0);
        }
        let masks = Arc::new(Self::build(h, w, lanes));
        kept.push(([h, w, lanes], Arc::clone(&masks)));
        masks
    }

    /// The masks of tap `k`, one a vector.
    pub(super) fn tap(&self, k: usize) -> &[u16] {
        &self.bits[k * self.vectors..][..self.vectors]
    }
}

/// Lanes of vector `v`, of `lanes`, that are pixels of a plane of `plane` values.
pub(super) fn inside(plane: usize, v: usize, lanes: usize) -> u16 {
    let left = plane.saturating_sub(v * lanes).min(lanes);
    ((1u32 << left) - 1) as u16
}

/// A pointer that the tasks of one parallel loop share; each writes its own part.
#[derive(Clone, Copy)]
struct Shared(*mut f32);
// SAFETY: the tasks of `forward` write disjoint ranges through it and none reads.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}
impl Shared {
    fn at(&self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

/// `[O, I, 9]` → `[O / out][I / 8][9][8 (fewer in the last) inputs][out outputs]`, zero for outputs beyond the last.
fn pack(weight: &[f32], outputs: usize, inputs: usize, out: usize) -> Vec<f32> {
    let mut packed = vec![0f32; outputs.div_ceil(out) * inputs * TAPS * out];
    for o in 0..outputs {
        let base = o / out * inputs * TAPS * out;
        for i in 0..inputs {
            let first = i / IN * IN;
            let count = (inputs - first).min(IN);
            for k in 0..TAPS {
                let at = base + (first * TAPS + k * count + i - first) * out + o % out;
                packed[at] = weight[(o * inputs + i) * TAPS + k];
            }
        }
    }
    packed
}

pub(super) fn forward<T: Tiles>(input: &[f32], weight: &[f32], d: Dims, outputs: usize, out: &mut [f32]) {
    assert!(T::PATH.is_available());
    assert_eq!(input.len(), d.len());
    assert_eq!(out.len(), d.channels(outputs).len());
    let masks = Masks::of(d.h, d.w, T::LANES);
    let packed = pack(weight, outputs, d.c, T::OUT);
    let plane = d.plane();
    let tiles = plane.div_ceil(WIDE * T::LANES);
    // A band of tiles whose input stays in the second-level cache while every block of outputs reads it.
    let band = (65_536 / (d.c * WIDE * T::LANES)).clamp(4, 32).min(tiles);
    let bands = tiles.div_ceil(band);
    let shared = Shared(out.as_mut_ptr());
    (0..d.n * bands).into_par_iter().for_each(|task| {
        let (image, first) = (task / bands, task % bands * band);
        let input = &input[image * d.c * plane..][..d.c * plane];
        for (block, weight) in packed.chunks_exact(d.c * TAPS * T::OUT).enumerate() {
            let count = (outputs - block * T::OUT).min(T::OUT);
            let target = shared.at((image * outputs + block * T::OUT) * plane);
            for tile in first..(first + band).min(tiles) {
                // SAFETY: the instructions are there, as asserted. `target` has `count` planes of this image and block left in `out`,
                // and this task alone writes this tile's pixels of them.
                unsafe { T::forward_tile(input, d, weight, &masks, tile, target, count) };
            }
        }
    });
}

pub(super) fn weight_gradient<T: Tiles>(
    input: &[f32],
    d_out: &[f32],
    d: Dims,
    outputs: usize,
    d_weight: &mut [f32],
) {
    assert!(T::PATH.is_available());
    assert_eq!(input.len(), d.len());
    assert_eq!(d_out.len(), d.channels(outputs).len());
    let masks = Masks::of(d.h, d.w, T::LANES);
    let (out_blocks, in_blocks) = (outputs.div_ceil(T::OUT), d.c.div_ceil(GRADIENT_IN));
    let blocks = out_blocks * in_blocks;
    // With few channels the images are shared out too; how many parts depends on the shape alone.
    let parts = 16usize.div_ceil(blocks).min(d.n);
    let per_part = d.n.div_ceil(parts);
    let partial: Vec<Vec<f32>> = (0..blocks * parts)
        .into_par_iter()
        .map(|task| {
            let (block, part) = (task / parts, task % parts);
            let outs = block / in_blocks * T::OUT..(block / in_blocks * T::OUT + T::OUT).min(outputs);
            let ins =
                block % in_blocks * GRADIENT_IN..(block % in_blocks * GRADIENT_IN + GRADIENT_IN).min(d.c);
            let images = (part * per_part).min(d.n)..((part + 1) * per_part).min(d.n);
            weight_block::<T>(input, d_out, d, outputs, &masks, outs, ins, images)
        })
        .collect();
    for (block, partial) in partial.chunks_exact(parts).enumerate() {
        let (first_out, first_in) = (block / in_blocks * T::OUT, block % in_blocks * GRADIENT_IN);
        let (outs, ins) = ((outputs - first_out).min(T::OUT), (d.c - first_in).min(GRADIENT_IN));
        for i in 0..ins {
            for o in 0..outs {
                for k in 0..TAPS {
                    let at = ((i * 3 + k / 3) * T::OUT + o) * 3 + k % 3;
                    let sum: f32 = partial.iter().map(|p| p[at]).sum();
                    d_weight[((first_out + o) * d.c + first_in + i) * TAPS + k] = sum;
                }
            }
        }
    }
}

/// Gradients `[inputs][3 rows][OUT outputs][3 columns]` of a block of kernels over some images.
fn weight_block<T: Tiles>(
    input: &[f32],
    d_out: &[f32],
    d: Dims,
    outputs: usize,
    masks: &Masks,
    outs: std::ops::Range<usize>,
    ins: std::ops::Range<usize>,
    images: std::ops::Range<usize>,
) -> Vec<f32> {
    let (lane_sums, pass_vectors) = (T::OUT * 3 * T::LANES, PASS / T::LANES);
    let plane = d.plane();
    let vectors = plane.div_ceil(T::LANES);
    // Small planes: several images in one pass, so that loading and storing the sums stays rare.
    let together = (pass_vectors / vectors).max(1);
    let mut sums = vec![0f32; ins.len() * 3 * lane_sums];
    for first in images.clone().step_by(together) {
        let group = first..(first + together).min(images.end);
        let gradient = &d_out[group.start * outputs * plane..group.end * outputs * plane];
        let input = &input[group.start * d.c * plane..group.end * d.c * plane];
        for pass in (0..vectors).step_by(pass_vectors) {
            let range = pass..(pass + pass_vectors).min(vectors);
            for (i, sums) in ins.clone().zip(sums.chunks_exact_mut(3 * lane_sums)) {
                for (row, sums) in sums.chunks_exact_mut(lane_sums).enumerate() {
                    let shape =
                        Pass { d, outputs, outs: outs.clone(), channel: i, row, vectors: range.clone() };
                    // SAFETY: the instructions are there, as asserted by the caller; the slices hold whole images of `d.c` and `outputs`
                    // planes, `outs` and `i` are channels of them, and `sums` has the vectors of a tile.
                    unsafe { T::weight_pass(input, gradient, &shape, masks, sums) };
                }
            }
        }
    }
    sums.chunks_exact(T::LANES).map(|lanes| lanes.iter().sum()).collect()
}

/// What one pass of the weight gradient covers.
pub(super) struct Pass {
    /// Shape of the input.
    pub(super) d: Dims,
    /// Channels of the gradient.
    pub(super) outputs: usize,
    /// Those of this tile.
    pub(super) outs: std::ops::Range<usize>,
    /// The input channel.
    pub(super) channel: usize,
    /// The row of taps.
    pub(super) row: usize,
    /// The vectors of the plane.
    pub(super) vectors: std::ops::Range<usize>,
}

impl Pass {
    /// Where the planes of the tile's outputs begin in an image of the gradient. Outputs beyond the last read the first
    /// plane again; nobody looks at their sums.
    #[inline(always)]
    pub(super) fn planes<const OUT: usize>(&self, gradient: &[f32]) -> [*const f32; OUT] {
        std::array::from_fn(|o| {
            let channel =
                if self.outs.start + o < self.outs.end { self.outs.start + o } else { self.outs.start };
            gradient.as_ptr().wrapping_add(channel * self.d.plane())
        })
    }
}
