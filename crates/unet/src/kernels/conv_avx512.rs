//! The inner loops of the convolution with AVX-512.

use super::Dims;
use super::conv::{TAPS, offset};
use super::conv_tiled::{IN, Masks, Pass, Tiles, WIDE, inside};
use crate::CpuPath;
use std::arch::x86_64::*;

/// Values of a vector.
const LANES: usize = 16;
/// Output channels of a tile: 8 × 3 accumulators fill 24 of the 32 registers.
const OUT: usize = 8;

/// The tiles of [`CpuPath::Avx512`].
pub(super) struct Avx512;

impl Tiles for Avx512 {
    const PATH: CpuPath = CpuPath::Avx512;
    const LANES: usize = LANES;
    const OUT: usize = OUT;

    unsafe fn forward_tile(
        input: &[f32],
        d: Dims,
        weight: &[f32],
        masks: &Masks,
        tile: usize,
        target: *mut f32,
        count: usize,
    ) {
        // SAFETY: the caller keeps the same promises.
        unsafe { forward_tile(input, d, weight, masks, tile, target, count) }
    }

    unsafe fn weight_pass(input: &[f32], gradient: &[f32], shape: &Pass, masks: &Masks, sums: &mut [f32]) {
        // SAFETY: the caller keeps the same promises.
        unsafe { weight_pass(input, gradient, shape, masks, sums) }
    }
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
            unsafe { _mm512_mask_storeu_ps(target, inside(plane, vector + v, LANES), value) };
        }
    }
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
        let g = shape.planes::<OUT>(gradient);
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
                    let g = unsafe { _mm512_maskz_loadu_ps(inside(plane, v, LANES), g.wrapping_add(p)) };
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
