//! The convolution with AVX2 and FMA, on padded copies of a few rows at a time.
//!
//! Masked loads are slow here, so each task copies the rows it works on into a *line* that stays in the second-level
//! cache: rows of `w + 1` values, the first of which is zero, one after another. A tap is then a constant offset along
//! the line, and what lies outside the image is a zero that is read like any other value.

use super::Dims;
use super::conv::TAPS;
use super::conv_tiles::{IN, Shared, pack};
use super::norm::{Affine, affine_relu};
use crate::CpuPath;
use rayon::prelude::*;
use std::arch::x86_64::*;
use std::ops::Range;

/// Values of a vector.
const LANES: usize = 8;
/// Output channels of a tile.
const OUT: usize = 4;
/// Vectors of a forward tile, and columns of taps in the weight gradient: 4 × 3 accumulators fill 12 of the 16 registers.
const WIDE: usize = 3;
/// Values of the lines of one task, some 256 KB: half of a small second-level cache.
const SCRATCH: usize = 65_536;
/// Input channels of one task of the weight gradient.
const GRADIENT_IN: usize = 16;
/// Output channels of one task of the weight gradient.
const GRADIENT_OUT: usize = 32;
/// Values of a line of the weight gradient: five of them stay in the first-level cache.
const GRADIENT_LINE: usize = 1_024;

/// Copies rows of an `h` × `w` plane, which may begin at −1 and end at `h` + 1, into the rows of a zeroed line.
fn copy_rows(plane: &[f32], w: usize, rows: Range<isize>, line: &mut [f32]) {
    for (y, row) in rows.zip(line.chunks_exact_mut(w + 1)) {
        if let Ok(y) = usize::try_from(y)
            && let Some(source) = plane.get(y * w..(y + 1) * w)
        {
            row[1..].copy_from_slice(source);
        }
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
    assert!(CpuPath::Avx2.is_available());
    assert_eq!(input.len(), d.len());
    assert_eq!(out.len(), d.channels(outputs).len());
    let packed = pack::<OUT>(weight, outputs, d.c);
    let (plane, stride) = (d.plane(), d.w + 1);
    // Two bands at least, so that a few images occupy more threads than there are images.
    let band = even(d.h, (SCRATCH / (d.c * stride)).min(d.h.div_ceil(2).max(8)));
    let bands = d.h.div_ceil(band);
    let shared = Shared(out.as_mut_ptr());
    (0..d.n * bands).into_par_iter().for_each_init(Vec::new, |scratch, task| {
        let (image, first) = (task / bands, task % bands * band);
        let rows = first..(first + band).min(d.h);
        let tiles = (rows.len() * stride).div_ceil(WIDE * LANES);
        // The row above, the row below and the last tap of the last tile.
        let length = tiles * WIDE * LANES + 2 * stride + 2;
        scratch.clear();
        scratch.resize(d.c * length, 0.0);
        let planes = input[image * d.c * plane..][..d.c * plane].chunks_exact(plane);
        for (plane, line) in planes.zip(scratch.chunks_exact_mut(length)) {
            copy_rows(plane, d.w, rows.start as isize - 1..rows.end as isize + 1, line);
        }
        for (block, weight) in packed.chunks_exact(d.c * TAPS * OUT).enumerate() {
            let count = (outputs - block * OUT).min(OUT);
            let target = shared.at((image * outputs + block * OUT) * plane + rows.start * d.w);
            // SAFETY: AVX2 and FMA are there, as asserted. The lines have room for every tap of every tile, as `length` says. `target`
            // has `count` planes of this image and block left in `out`, and this task alone writes these rows of them.
            unsafe { forward_block(scratch, length, weight, target, count, [rows.len(), d.w, plane]) };
            for (o, &affine) in affine.iter().flat_map(|a| a.iter().skip(block * OUT)).take(count).enumerate()
            {
                // SAFETY: these rows of one plane, all written above; this task alone uses them.
                let rows = unsafe {
                    std::slice::from_raw_parts_mut(target.wrapping_add(o * plane), rows.len() * d.w)
                };
                affine_relu(CpuPath::Avx2, rows, affine);
            }
        }
    });
}

/// 4 output channels, of which `count` exist, of `[rows, columns, values of a plane of the target]`.
///
/// # Safety
/// `lines` must hold whole lines of a length that reaches 2 rows and 2 values beyond the last tile, `weight` 9 · 4 values a line; `target` must
/// be valid for writing the rows in `count` planes.
#[target_feature(enable = "avx2,fma")]
unsafe fn forward_block(
    lines: &[f32],
    length: usize,
    weight: &[f32],
    target: *mut f32,
    count: usize,
    [rows, w, plane]: [usize; 3],
) {
    let stride = w + 1;
    let (mut y, mut x) = (0, 0);
    for start in (0..rows * stride).step_by(WIDE * LANES) {
        // SAFETY: as the caller promises.
        let acc = unsafe { forward_tile(lines, length, stride, weight, start) };
        for v in 0..WIDE {
            let targets = (0..count).map(|o| target.wrapping_add(o * plane + y * w + x));
            if y < rows && x + LANES <= w {
                for (target, acc) in targets.zip(&acc) {
                    // SAFETY: 8 pixels of row `y`.
                    unsafe { _mm256_storeu_ps(target, acc[v]) };
                }
            } else {
                for (target, acc) in targets.zip(&acc) {
                    // SAFETY: as the caller promises.
                    unsafe { store_some(acc[v], [rows - y.min(rows), w, x], target) };
                }
            }
            x += LANES;
            while x >= stride {
                (x, y) = (x - stride, y + 1);
            }
        }
    }
}

/// 4 output channels of the 24 values of a line from `start` on.
///
/// # Safety
/// `lines` must hold whole lines of `length` ≥ start + 24 + 2 · stride + 2 values, and `weight` 9 · 4 values a line.
#[target_feature(enable = "avx2,fma")]
unsafe fn forward_tile(
    lines: &[f32],
    length: usize,
    stride: usize,
    weight: &[f32],
    start: usize,
) -> [[__m256; WIDE]; OUT] {
    let mut acc = [[_mm256_setzero_ps(); WIDE]; OUT];
    let mut weights = weight;
    for lines in lines.chunks(IN * length) {
        let channels = lines.len() / length;
        for k in 0..TAPS {
            let x = lines.as_ptr().wrapping_add(start + k / 3 * stride + k % 3);
            let (own, rest) = weights.split_at(channels * OUT);
            weights = rest;
            // SAFETY: the last value read of a line is at start + 24 + 2 · stride + 1 at most, inside it, and `own` has 4 weights a line.
            unsafe { multiply_add(&mut acc, x, length, own.as_ptr(), channels) };
        }
    }
    acc
}

/// `acc[o][v] += Σ_i weight[i][o] · x[i · pitch + 8 v ..][..8]`, over `count` ≥ 1 lines.
///
/// In assembly, for the accumulators, three vectors of the input and a weight are all 16 registers, and the compiler, which
/// loads the next weight too early, spills them.
///
/// # Safety
/// 24 values of every line and 4 · `count` weights must be valid for reading.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn multiply_add(
    acc: &mut [[__m256; WIDE]; OUT],
    x: *const f32,
    pitch: usize,
    weight: *const f32,
    count: usize,
) {
    let [[a0, a1, a2], [b0, b1, b2], [c0, c1, c2], [d0, d1, d2]] = acc;
    // SAFETY: reads what the caller promises and nothing else; writes registers that are declared; `count` is at least 1.
    unsafe {
        std::arch::asm!(
            "2:",
            "vmovups {x0}, [{x}]",
            "vmovups {x1}, [{x} + 32]",
            "vmovups {x2}, [{x} + 64]",
            "vbroadcastss {w}, [{weight}]",
            "vfmadd231ps {a0}, {x0}, {w}",
            "vfmadd231ps {a1}, {x1}, {w}",
            "vfmadd231ps {a2}, {x2}, {w}",
            "vbroadcastss {w}, [{weight} + 4]",
            "vfmadd231ps {b0}, {x0}, {w}",
            "vfmadd231ps {b1}, {x1}, {w}",
            "vfmadd231ps {b2}, {x2}, {w}",
            "vbroadcastss {w}, [{weight} + 8]",
            "vfmadd231ps {c0}, {x0}, {w}",
            "vfmadd231ps {c1}, {x1}, {w}",
            "vfmadd231ps {c2}, {x2}, {w}",
            "vbroadcastss {w}, [{weight} + 12]",
            "vfmadd231ps {d0}, {x0}, {w}",
            "vfmadd231ps {d1}, {x1}, {w}",
            "vfmadd231ps {d2}, {x2}, {w}",
            "add {x}, {pitch}",
            "add {weight}, 16",
            "dec {count}",
            "jnz 2b",
            x = inout(reg) x => _,
            weight = inout(reg) weight => _,
            count = inout(reg) count => _,
            pitch = in(reg) pitch * size_of::<f32>(),
            x0 = out(ymm_reg) _, x1 = out(ymm_reg) _, x2 = out(ymm_reg) _, w = out(ymm_reg) _,
            a0 = inout(ymm_reg) *a0, a1 = inout(ymm_reg) *a1, a2 = inout(ymm_reg) *a2,
            b0 = inout(ymm_reg) *b0, b1 = inout(ymm_reg) *b1, b2 = inout(ymm_reg) *b2,
            c0 = inout(ymm_reg) *c0, c1 = inout(ymm_reg) *c1, c2 = inout(ymm_reg) *c2,
            d0 = inout(ymm_reg) *d0, d1 = inout(ymm_reg) *d1, d2 = inout(ymm_reg) *d2,
            options(nostack, readonly),
        );
    }
}

/// Writes those of 8 values of a line that are pixels, the first being column `x` of the first of `rows` rows left of `w`
/// columns; `target` is where that pixel is or, in the gap after a row, would be.
///
/// # Safety
/// `target` must be valid for writing the pixels from column `x` on to the end of the rows.
#[target_feature(enable = "avx2,fma")]
unsafe fn store_some(values: __m256, [rows, w, mut x]: [usize; 3], mut target: *mut f32) {
    let mut each = [0f32; LANES];
    // SAFETY: `each` has 8 values.
    unsafe { _mm256_storeu_ps(each.as_mut_ptr(), values) };
    let mut y = 0;
    for value in each {
        if x < w {
            if y < rows {
                // SAFETY: a pixel of the rows.
                unsafe { target.write(value) };
            }
            (x, target) = (x + 1, target.wrapping_add(1));
        } else {
            (x, y) = (0, y + 1);
        }
    }
}

pub(super) fn weight_gradient(input: &[f32], d_out: &[f32], d: Dims, outputs: usize, d_weight: &mut [f32]) {
    assert!(CpuPath::Avx2.is_available());
    assert_eq!(input.len(), d.len());
    assert_eq!(d_out.len(), d.channels(outputs).len());
    let (out_blocks, in_blocks) = (outputs.div_ceil(GRADIENT_OUT), d.c.div_ceil(GRADIENT_IN));
    let blocks = out_blocks * in_blocks;
    // With few channels the images are shared out too; how many parts depends on the shape alone.
    let parts = 8usize.div_ceil(blocks).min(d.n);
    let per_part = d.n.div_ceil(parts);
    let range = |block: usize, size: usize, end: usize| block * size..((block + 1) * size).min(end);
    let partial: Vec<Vec<f32>> = (0..blocks * parts)
        .into_par_iter()
        .map(|task| {
            let (block, part) = (task / parts, task % parts);
            weight_block(
                input,
                d_out,
                d,
                outputs,
                range(block / in_blocks, GRADIENT_OUT, outputs),
                range(block % in_blocks, GRADIENT_IN, d.c),
                (part * per_part).min(d.n)..((part + 1) * per_part).min(d.n),
            )
        })
        .collect();
    d_weight.par_chunks_mut(d.c * TAPS).enumerate().for_each(|(o, d_weight)| {
        let (out_block, b) = (o / GRADIENT_OUT, o % GRADIENT_OUT);
        for (in_block, d_weight) in d_weight.chunks_mut(GRADIENT_IN * TAPS).enumerate() {
            let partial = &partial[(out_block * in_blocks + in_block) * parts..][..parts];
            let ins = d_weight.len() / TAPS;
            for (a, kernel) in d_weight.as_chunks_mut::<TAPS>().0.iter_mut().enumerate() {
                for (k, value) in kernel.iter_mut().enumerate() {
                    let row = (b / OUT * ins + a) * 3 + k / 3;
                    let at = (row * OUT + b % OUT) * WIDE + k % 3;
                    *value = partial.iter().map(|p| p[at]).sum();
                }
            }
        }
    });
}

/// The size of parts of a whole, `most` each or as many as one, that differ least.
fn even(whole: usize, most: usize) -> usize {
    whole.div_ceil(whole.div_ceil(most.max(1)))
}

/// Gradients `[outputs / 4][inputs][3 rows][4 outputs][3 columns]` of a block of kernels over some images.
fn weight_block(
    input: &[f32],
    d_out: &[f32],
    d: Dims,
    outputs: usize,
    outs: Range<usize>,
    ins: Range<usize>,
    images: Range<usize>,
) -> Vec<f32> {
    assert!(CpuPath::Avx2.is_available());
    const SUMS: usize = OUT * WIDE * LANES;
    let (plane, stride) = (d.plane(), d.w + 1);
    // Large planes: some rows at a time. Small planes: several images in one line, a row of zeros between two, so that
    // loading and storing the sums stays rare.
    let band = even(d.h, GRADIENT_LINE / stride);
    let together = match band < d.h {
        true => 1,
        false => even(images.len().max(1), GRADIENT_LINE / ((d.h + 1) * stride)),
    };
    let most = if together == 1 { band } else { together * (d.h + 1) };
    let g_length = (most * stride).next_multiple_of(LANES);
    let x_length = g_length + 2 * stride + 2;
    let mut sums = vec![0f32; outs.len().div_ceil(OUT) * ins.len() * 3 * SUMS];
    let (mut x, mut g) = (Vec::new(), Vec::new());
    for image in images.clone().step_by(together) {
        let group = image..(image + together).min(images.end);
        for first in (0..d.h).step_by(band) {
            let rows = first as isize..(first + band).min(d.h) as isize;
            x.clear();
            x.resize(ins.len() * x_length, 0.0);
            for (i, line) in ins.clone().zip(x.chunks_exact_mut(x_length)) {
                for (n, image) in group.clone().enumerate() {
                    let source = &input[(image * d.c + i) * plane..][..plane];
                    copy_rows(source, d.w, rows.start - 1..rows.end + 1, &mut line[n * (d.h + 1) * stride..]);
                }
            }
            g.clear();
            g.resize(outs.len() * g_length, 0.0);
            for (o, line) in outs.clone().zip(g.chunks_exact_mut(g_length)) {
                for (n, image) in group.clone().enumerate() {
                    let source = &d_out[(image * outputs + o) * plane..][..plane];
                    // Shifted by one against the input's line: the first value of a row is its first pixel.
                    let pixels = source[rows.start as usize * d.w..rows.end as usize * d.w].chunks_exact(d.w);
                    let line = line[n * (d.h + 1) * stride..].chunks_mut(stride);
                    line.zip(pixels).for_each(|(to, from)| to[..d.w].copy_from_slice(from));
                }
            }
            let mut sums = sums.chunks_exact_mut(SUMS);
            for g in g.chunks(OUT * g_length) {
                // Outputs beyond the last read the first line again; nobody looks at their sums.
                let own = |o: usize| g.get(o * g_length..(o + 1) * g_length).unwrap_or(&g[..g_length]);
                let g: [&[f32]; OUT] = std::array::from_fn(own);
                for x in x.chunks_exact(x_length) {
                    for (row, sums) in (0..3).zip(&mut sums) {
                        // SAFETY: AVX2 and FMA are there, as asserted; `x` is longer than a line of the gradient by two
                        // rows and two values, and `sums` has 12 vectors.
                        unsafe { weight_pass(&x[row * stride..], g, sums) };
                    }
                }
            }
        }
    }
    sums.as_chunks().0.iter().map(lane_sum).collect()
}

/// Σ of the lanes, in pairs: no chain of additions that wait for each other.
fn lane_sum(lanes: &[f32; LANES]) -> f32 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (b + f)) + ((c + g) + (d + h))
}

/// Adds to `sums` (`[4 outputs][3 columns]` of vectors) the products of four lines of the gradient with one row of taps
/// of one line of the input.
///
/// # Safety
/// The lines of `g` must be of one length, a multiple of 8; `x` must be longer by 2 values; `sums` must have 12 vectors.
#[target_feature(enable = "avx2,fma")]
unsafe fn weight_pass(x: &[f32], g: [&[f32]; OUT], sums: &mut [f32]) {
    let mut acc = [[_mm256_setzero_ps(); WIDE]; OUT];
    for (acc, sums) in acc.as_flattened_mut().iter_mut().zip(sums.chunks_exact(LANES)) {
        // SAFETY: the chunk is one vector.
        *acc = unsafe { _mm256_loadu_ps(sums.as_ptr()) };
    }
    for p in (0..g[0].len()).step_by(LANES) {
        let at = x.as_ptr().wrapping_add(p);
        // SAFETY: the last value read is two beyond the vector's, which `x` has.
        let x = unsafe {
            [_mm256_loadu_ps(at), _mm256_loadu_ps(at.wrapping_add(1)), _mm256_loadu_ps(at.wrapping_add(2))]
        };
        for (acc, g) in acc.iter_mut().zip(g) {
            // SAFETY: the whole vector lies in the line.
            let g = unsafe { _mm256_loadu_ps(g.as_ptr().wrapping_add(p)) };
            for (acc, x) in acc.iter_mut().zip(x) {
                *acc = _mm256_fmadd_ps(x, g, *acc);
            }
        }
    }
    for (acc, sums) in acc.as_flattened().iter().zip(sums.chunks_exact_mut(LANES)) {
        // SAFETY: the chunk is one vector.
        unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), *acc) };
    }
}
