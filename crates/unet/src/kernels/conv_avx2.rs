//! The inner loops of the convolution with AVX2 and FMA.

use super::Dims;
use super::conv::{TAPS, offset};
use super::conv_tiled::{IN, Masks, Pass, Tiles, WIDE, inside};
use crate::CpuPath;
use std::arch::x86_64::*;

/// Values of a vector.
const LANES: usize = 8;
/// Output channels of a tile: 4 × 3 accumulators fill 12 of the 16 registers.
const OUT: usize = 4;

/// The tiles of [`CpuPath::Avx2`].
pub(super) struct Avx2;

impl Tiles for Avx2 {
    const PATH: CpuPath = CpuPath::Avx2;
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

/// A vector whose lanes are all ones where `bits` has a one.
#[target_feature(enable = "avx2,fma")]
fn lanes(bits: u16) -> __m256i {
    let each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(i32::from(bits)), each), each)
}

/// All lanes.
const ALL: u16 = 0xff;

/// 4 output channels of 24 pixels.
///
/// # Safety
/// As [`Tiles::forward_tile`].
#[target_feature(enable = "avx2,fma")]
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
    let mut acc = [[_mm256_setzero_ps(); WIDE]; OUT];
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
            if m0 & m1 & m2 == ALL {
                for w in weight.chunks_exact(OUT) {
                    // SAFETY: every lane's mask says that pixel + tap lies in this plane of `input`.
                    let (a, b, c) = unsafe {
                        (
                            _mm256_loadu_ps(x),
                            _mm256_loadu_ps(x.wrapping_add(LANES)),
                            _mm256_loadu_ps(x.wrapping_add(2 * LANES)),
                        )
                    };
                    multiply_add(&mut acc, [a, b, c], w);
                    x = x.wrapping_add(plane);
                }
            } else {
                let (m0, m1, m2) = (lanes(m0), lanes(m1), lanes(m2));
                for w in weight.chunks_exact(OUT) {
                    // SAFETY: a lane is read only where its mask says that pixel + tap lies in this plane of `input`.
                    let (a, b, c) = unsafe {
                        (
                            _mm256_maskload_ps(x, m0),
                            _mm256_maskload_ps(x.wrapping_add(LANES), m1),
                            _mm256_maskload_ps(x.wrapping_add(2 * LANES), m2),
                        )
                    };
                    multiply_add(&mut acc, [a, b, c], w);
                    x = x.wrapping_add(plane);
                }
            }
        }
    }
    for (o, acc) in acc.iter().enumerate().take(count) {
        for (v, &value) in acc.iter().enumerate() {
            let target = target.wrapping_add(o * plane + start + v * LANES);
            match inside(plane, vector + v, LANES) {
                // SAFETY: all lanes are pixels of plane `o`.
                ALL => unsafe { _mm256_storeu_ps(target, value) },
                // SAFETY: only lanes that are pixels of plane `o` are written.
                some => unsafe { _mm256_maskstore_ps(target, lanes(some), value) },
            }
        }
    }
}

/// acc[o][v] += w[o]·x[v]
#[inline]
#[target_feature(enable = "avx2,fma")]
fn multiply_add(acc: &mut [[__m256; WIDE]; OUT], x: [__m256; WIDE], w: &[f32]) {
    for (acc, &w) in acc.iter_mut().zip(w) {
        let w = _mm256_set1_ps(w);
        for (acc, x) in acc.iter_mut().zip(x) {
            *acc = _mm256_fmadd_ps(x, w, *acc);
        }
    }
}

/// One row of taps of one input channel against 4 planes of the gradient.
///
/// # Safety
/// As [`Tiles::weight_pass`].
#[target_feature(enable = "avx2,fma")]
unsafe fn weight_pass(input: &[f32], gradient: &[f32], shape: &Pass, masks: &Masks, sums: &mut [f32]) {
    let (d, plane) = (shape.d, shape.d.plane());
    let mut acc = [[_mm256_setzero_ps(); WIDE]; OUT];
    for (acc, sums) in acc.as_flattened_mut().iter_mut().zip(sums.chunks_exact(LANES)) {
        // SAFETY: the chunk is one vector.
        *acc = unsafe { _mm256_loadu_ps(sums.as_ptr()) };
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
            let at = x.wrapping_add(p);
            let x = if ml & mm & mr == ALL {
                // SAFETY: every lane's mask says that pixel + tap lies in the plane.
                unsafe {
                    [
                        _mm256_loadu_ps(at.wrapping_sub(1)),
                        _mm256_loadu_ps(at),
                        _mm256_loadu_ps(at.wrapping_add(1)),
                    ]
                }
            } else {
                // SAFETY: a lane is read only where its mask says that pixel + tap lies in the plane.
                unsafe {
                    [
                        _mm256_maskload_ps(at.wrapping_sub(1), lanes(ml)),
                        _mm256_maskload_ps(at, lanes(mm)),
                        _mm256_maskload_ps(at.wrapping_add(1), lanes(mr)),
                    ]
                }
            };
            let whole = p + LANES <= plane;
            for (acc, g) in acc.iter_mut().zip(g) {
                let g = if whole {
                    // SAFETY: the whole vector lies in the plane.
                    unsafe { _mm256_loadu_ps(g.wrapping_add(p)) }
                } else {
                    // SAFETY: only lanes inside the plane are read.
                    unsafe { _mm256_maskload_ps(g.wrapping_add(p), lanes(inside(plane, v, LANES))) }
                };
                for (acc, x) in acc.iter_mut().zip(x) {
                    *acc = _mm256_fmadd_ps(x, g, *acc);
                }
            }
        }
    }
    for (acc, sums) in acc.as_flattened().iter().zip(sums.chunks_exact_mut(LANES)) {
        // SAFETY: the chunk is one vector.
        unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), *acc) };
    }
}
