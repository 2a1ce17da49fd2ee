//! The convolution with AVX-512, straight on the planes, without a padded copy.
//!
//! A plane is treated as one line of pixels, so a tap is a constant offset along it and any number of columns fits into
//! vectors of 16. A table of lane masks says where a tap falls outside the image; a masked lane is neither read nor
//! counted, so nothing needs padding and no pointer that is followed leaves its plane.

use super::Dims;
use super::conv::{TAPS, offset};
use super::conv_tiles::{IN, Shared, pack};
use super::norm::{Affine, affine_relu};
use crate::CpuPath;
use crate::init::lock;
use rayon::prelude::*;
use std::arch::x86_64::*;
use std::sync::{Arc, Mutex};

/// Values of a vector.
const LANES: usize = 16;
/// Output channels of a tile.
const OUT: usize = 8;
/// Vectors of a tile: 8 × 3 accumulators fill 24 of the 32 registers.
const WIDE: usize = 3;
/// Input channels of one task of the weight gradient.
const GRADIENT_IN: usize = 16;
/// Vectors of one pass of the weight gradient: eight planes of them stay in the nearest caches.
const PASS: usize = 72;

/// Which lanes of which vector a tap may read, for one size of image.
struct Masks {
    /// `bits[tap * vectors + vector]`
    bits: Vec<u16>,
    /// Vectors of a plane, rounded up to whole tiles.
    vectors: usize,
}

impl Masks {
    fn build(h: usize, w: usize) -> Self {
        let vectors = (h * w).div_ceil(LANES).next_multiple_of(WIDE);
        let mut bits = vec![0u16; TAPS * vectors];
        for (k, bits) in bits.chunks_exact_mut(vectors).enumerate() {
            let (dy, dx) = offset(k);
            for y in (0..h).filter(|y| y.checked_add_signed(dy).is_some_and(|y| y < h)) {
                for x in (0..w).filter(|x| x.checked_add_signed(dx).is_some_and(|x| x < w)) {
                    let p = y * w + x;
                    bits[p / LANES] |= 1 << (p % LANES);
                }
            }
        }
        Self { bits, vectors }
    }

    /// The table of a size, made once.
    fn of(h: usize, w: usize) -> Arc<Self> {
        type Kept = Vec<((usize, usize), Arc<Masks>)>;
        static KEPT: Mutex<Kept> = Mutex::new(Vec::new());
        let mut kept = lock(&KEPT);
        if let Some((_, masks)) = kept.iter().find(|(size, _)| *size == (h, w)) {
            return Arc::clone(masks);
        }
        if kept.len() == 64 {
            kept.remove(0);
        }
        let masks = Arc::new(Self::build(h, w));
        kept.push(((h, w), Arc::clone(&masks)));
        masks
    }

    fn tap(&self, k: usize) -> &[u16] {
        &self.bits[k * self.vectors..][..self.vectors]
    }
}

/// Lanes of vector `v` that are pixels of a plane of `plane` values.
fn inside(plane: usize, v: usize) -> u16 {
    match plane.saturating_sub(v * LANES) {
        left if left >= LANES => u16::MAX,
        left => (1 << left) - 1,
    }
}

pub(super) fn forward(
    input: &[f32],
    weight: &[f32],
    d: Dims,
    outputs: usize,
    affine: Option<&[Affine]>,
    out: &mut [f32],
) {
    assert!(CpuPath::Avx512.is_available());
    assert_eq!(input.len(), d.len());
    assert_eq!(out.len(), d.channels(outputs).len());
    let masks = Masks::of(d.h, d.w);
    let packed = pack::<OUT>(weight, outputs, d.c);
    let plane = d.plane();
    let tiles = plane.div_ceil(WIDE * LANES);
    // A band of tiles whose input stays in the second-level cache while every block of outputs reads it.
    let band = (65_536 / (d.c * WIDE * LANES)).clamp(4, 32).min(tiles);
    let bands = tiles.div_ceil(band);
    let shared = Shared(out.as_mut_ptr());
    (0..d.n * bands).into_par_iter().for_each(|task| {
        let (image, first) = (task / bands, task % bands * band);
        let input = &input[image * d.c * plane..][..d.c * plane];
        for (block, weight) in packed.chunks_exact(d.c * TAPS * OUT).enumerate() {
            let count = (outputs - block * OUT).min(OUT);
            let target = shared.at((image * outputs + block * OUT) * plane);
            for tile in first..(first + band).min(tiles) {
                // SAFETY: AVX-512 is there, as asserted. `target` has `count` planes of this image and block left in `out`,
                // and this task alone writes this tile's pixels of them.
                unsafe { forward_tile(input, d, weight, &masks, tile, target, count) };
            }
            let start = (first * WIDE * LANES).min(plane);
            let end = ((first + band) * WIDE * LANES).min(plane);
            for (o, &affine) in affine.iter().flat_map(|a| a.iter().skip(block * OUT)).take(count).enumerate()
            {
                // SAFETY: the pixels of this task's tiles in one plane, all written above; this task alone uses them.
                let pixels = unsafe {
                    std::slice::from_raw_parts_mut(target.wrapping_add(o * plane + start), end - start)
                };
                affine_relu(CpuPath::Avx512, pixels, affine);
            }
        }
    });
}

/// 8 output channels of 48 pixels.
///
/// # Safety
/// `target` must be valid for writing the pixels of this tile in `count` planes.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn forward_tile(
    input: &[f32],
    d: Dims,
    weight: &[f32],
    masks: &Masks,
    tile: usize,
    target: *mut f32,
    count: usize,
) {
    let plane = d.plane();
    let (vector, start) = (tile * WIDE, tile * WIDE * LANES);
    let mut acc = [[_mm512_setzero_ps(); WIDE]; OUT];
    for first in (0..d.c).step_by(IN) {
        let channels = (d.c - first).min(IN);
        for k in 0..TAPS {
            let m = &masks.tap(k)[vector..vector + WIDE];
            let (m0, m1, m2) = (m[0], m[1], m[2]);
            if m0 | m1 | m2 == 0 {
                continue;
            }
            let (dy, dx) = offset(k);
            let shift = start as isize + dy * d.w as isize + dx;
            let mut x = input.as_ptr().wrapping_add(first * plane).wrapping_offset(shift);
            let weight = &weight[(first * TAPS + k * channels) * OUT..][..channels * OUT];
            for w in weight.chunks_exact(OUT) {
                // SAFETY: a lane is read only where its mask says that pixel + tap lies in this plane of `input`.
                let (a, b, c) = unsafe {
                    (
                        _mm512_maskz_loadu_ps(m0, x),
                        _mm512_maskz_loadu_ps(m1, x.wrapping_add(LANES)),
                        _mm512_maskz_loadu_ps(m2, x.wrapping_add(2 * LANES)),
                    )
                };
                for (acc, &w) in acc.iter_mut().zip(w) {
                    let w = _mm512_set1_ps(w);
                    acc[0] = _mm512_fmadd_ps(a, w, acc[0]);
                    acc[1] = _mm512_fmadd_ps(b, w, acc[1]);
                    acc[2] = _mm512_fmadd_ps(c, w, acc[2]);
                }
                x = x.wrapping_add(plane);
            }
        }
    }
    for (o, acc) in acc.iter().enumerate().take(count) {
        for (v, &value) in acc.iter().enumerate() {
            let target = target.wrapping_add(o * plane + start + v * LANES);
            // SAFETY: only lanes that are pixels of plane `o` are written.
            unsafe { _mm512_mask_storeu_ps(target, inside(plane, vector + v), value) };
        }
    }
}

pub(super) fn weight_gradient(input: &[f32], d_out: &[f32], d: Dims, outputs: usize, d_weight: &mut [f32]) {
    assert!(CpuPath::Avx512.is_available());
    assert_eq!(input.len(), d.len());
    assert_eq!(d_out.len(), d.channels(outputs).len());
    let masks = Masks::of(d.h, d.w);
    let (out_blocks, in_blocks) = (outputs.div_ceil(OUT), d.c.div_ceil(GRADIENT_IN));
    let blocks = out_blocks * in_blocks;
    // With few channels the images are shared out too; how many parts depends on the shape alone.
    let parts = 16usize.div_ceil(blocks).min(d.n);
    let per_part = d.n.div_ceil(parts);
    let partial: Vec<Vec<f32>> = (0..blocks * parts)
        .into_par_iter()
        .map(|task| {
            let (block, part) = (task / parts, task % parts);
            let outs = block / in_blocks * OUT..(block / in_blocks * OUT + OUT).min(outputs);
            let ins =
                block % in_blocks * GRADIENT_IN..(block % in_blocks * GRADIENT_IN + GRADIENT_IN).min(d.c);
            let images = (part * per_part).min(d.n)..((part + 1) * per_part).min(d.n);
            weight_block(input, d_out, d, outputs, &masks, outs, ins, images)
        })
        .collect();
    for (block, partial) in partial.chunks_exact(parts).enumerate() {
        let (first_out, first_in) = (block / in_blocks * OUT, block % in_blocks * GRADIENT_IN);
        let (outs, ins) = ((outputs - first_out).min(OUT), (d.c - first_in).min(GRADIENT_IN));
        for i in 0..ins {
            for o in 0..outs {
                for k in 0..TAPS {
                    let at = ((i * 3 + k / 3) * OUT + o) * 3 + k % 3;
                    let sum: f32 = partial.iter().map(|p| p[at]).sum();
                    d_weight[((first_out + o) * d.c + first_in + i) * TAPS + k] = sum;
                }
            }
        }
    }
}

/// Gradients `[inputs][3 rows][8 outputs][3 columns]` of a block of kernels over some images.
fn weight_block(
    input: &[f32],
    d_out: &[f32],
    d: Dims,
    outputs: usize,
    masks: &Masks,
    outs: std::ops::Range<usize>,
    ins: std::ops::Range<usize>,
    images: std::ops::Range<usize>,
) -> Vec<f32> {
    const SUMS: usize = OUT * 3 * LANES;
    let plane = d.plane();
    let vectors = plane.div_ceil(LANES);
    // Small planes: several images in one pass, so that loading and storing the sums stays rare.
    let together = (PASS / vectors).max(1);
    let mut sums = vec![0f32; ins.len() * 3 * SUMS];
    for first in images.clone().step_by(together) {
        let group = first..(first + together).min(images.end);
        let gradient = &d_out[group.start * outputs * plane..group.end * outputs * plane];
        let input = &input[group.start * d.c * plane..group.end * d.c * plane];
        for pass in (0..vectors).step_by(PASS) {
            let range = pass..(pass + PASS).min(vectors);
            for (i, sums) in ins.clone().zip(sums.chunks_exact_mut(3 * SUMS)) {
                for (row, sums) in sums.chunks_exact_mut(SUMS).enumerate() {
                    let shape =
                        Pass { d, outputs, outs: outs.clone(), channel: i, row, vectors: range.clone() };
                    // SAFETY: AVX-512 is there, as asserted by the caller; the slices hold whole images of `d.c` and `outputs`
                    // planes, `outs` and `i` are channels of them, and `sums` has 24 vectors.
                    unsafe { weight_pass(input, gradient, &shape, masks, sums) };
                }
            }
        }
    }
    sums.chunks_exact(LANES).map(|lanes| lanes.iter().sum()).collect()
}

/// What one pass of the weight gradient covers.
struct Pass {
    d: Dims,
    outputs: usize,
    outs: std::ops::Range<usize>,
    channel: usize,
    row: usize,
    vectors: std::ops::Range<usize>,
}

/// Adds to `sums` (`[8 outputs][3 columns]` of vectors) the products of the gradient with one row of taps of one
/// input channel, over all images of the slices.
///
/// # Safety
/// `input` and `gradient` must hold the same number of images of `d.c` and `outputs` planes; the channels of `shape` must exist;
/// `sums` must have 24 vectors.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn weight_pass(input: &[f32], gradient: &[f32], shape: &Pass, masks: &Masks, sums: &mut [f32]) {
    let (d, plane) = (shape.d, shape.d.plane());
    let mut acc = [[_mm512_setzero_ps(); 3]; OUT];
    for (acc, sums) in acc.as_flattened_mut().iter_mut().zip(sums.chunks_exact(LANES)) {
        // SAFETY: the chunk is one vector.
        *acc = unsafe { _mm512_loadu_ps(sums.as_ptr()) };
    }
    let range = shape.vectors.clone();
    let tap = |column: usize| &masks.tap(shape.row * 3 + column)[range.clone()];
    let (left, middle, right) = (tap(0), tap(1), tap(2));
    let shift = (shape.row as isize - 1) * d.w as isize;
    let images = input.chunks_exact(d.c * plane).zip(gradient.chunks_exact(shape.outputs * plane));
    for (input, gradient) in images {
        let x = input.as_ptr().wrapping_add(shape.channel * plane).wrapping_offset(shift);
        // Outputs beyond the last read the first plane again; nobody looks at their sums.
        let g: [*const f32; OUT] = std::array::from_fn(|o| {
            let channel =
                if shape.outs.start + o < shape.outs.end { shape.outs.start + o } else { shape.outs.start };
            gradient.as_ptr().wrapping_add(channel * plane)
        });
        for (n, ((&ml, &mm), &mr)) in left.iter().zip(middle).zip(right).enumerate() {
            let v = range.start + n;
            let p = v * LANES;
            // SAFETY: a lane is read only where its mask says that pixel + tap lies in the plane.
            let (a, b, c) = unsafe {
                (
                    _mm512_maskz_loadu_ps(ml, x.wrapping_add(p).wrapping_sub(1)),
                    _mm512_maskz_loadu_ps(mm, x.wrapping_add(p)),
                    _mm512_maskz_loadu_ps(mr, x.wrapping_add(p).wrapping_add(1)),
                )
            };
            if p + LANES <= plane {
                for (acc, g) in acc.iter_mut().zip(g) {
                    // SAFETY: the whole vector lies in the plane.
                    let g = unsafe { _mm512_loadu_ps(g.wrapping_add(p)) };
                    acc[0] = _mm512_fmadd_ps(a, g, acc[0]);
                    acc[1] = _mm512_fmadd_ps(b, g, acc[1]);
                    acc[2] = _mm512_fmadd_ps(c, g, acc[2]);
                }
            } else {
                for (acc, g) in acc.iter_mut().zip(g) {
                    // SAFETY: only lanes inside the plane are read.
                    let g = unsafe { _mm512_maskz_loadu_ps(inside(plane, v), g.wrapping_add(p)) };
                    acc[0] = _mm512_fmadd_ps(a, g, acc[0]);
                    acc[1] = _mm512_fmadd_ps(b, g, acc[1]);
                    acc[2] = _mm512_fmadd_ps(c, g, acc[2]);
                }
            }
        }
    }
    for (acc, sums) in acc.as_flattened().iter().zip(sums.chunks_exact_mut(LANES)) {
        // SAFETY: the chunk is one vector.
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), *acc) };
    }
}
