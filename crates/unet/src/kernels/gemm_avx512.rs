//! The matrix products with AVX-512: 8 × 48 values of the result, or 8 × 3 sums, stay in 24 of the 32 registers.

use super::gemm::Lines;
use super::gemm_avx2::four_sums;
use crate::CpuPath;
use std::arch::x86_64::*;

/// Values of a vector.
const LANES: usize = 16;
/// Rows of a tile.
const ROWS: usize = 8;
/// Vectors of a tile of [`product`], lines of a tile of [`gram`].
const WIDE: usize = 3;

pub(super) fn product(weight: &[f32], v: &[f32], shape: Lines, out: &mut [f32]) {
    assert!(CpuPath::Avx512.is_available());
    let (Lines { columns, pitch }, depth) = (shape, weight.len() / ROWS);
    assert!(columns.is_multiple_of(WIDE * LANES) && columns <= pitch);
    assert!(v.len() >= depth * pitch && out.len() >= ROWS * pitch);
    for t in (0..columns).step_by(WIDE * LANES) {
        // SAFETY: AVX-512 is there, as asserted; 48 values from column `t` on lie in each of the `depth` lines of `v` and of the eight
        // of `out`, and `weight` has eight values a line.
        unsafe {
            product_tile(weight.as_ptr(), v.as_ptr().add(t), pitch, depth, out.as_mut_ptr().add(t));
        }
    }
}

/// # Safety
/// `weight` must be valid for reading 8 · `depth` values, 48 values must be valid for reading every `pitch` from `v` on, `depth` times, and
/// for writing every `pitch` from `out` on, eight times.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn product_tile(weight: *const f32, v: *const f32, pitch: usize, depth: usize, out: *mut f32) {
    let mut acc = [[_mm512_setzero_ps(); WIDE]; ROWS];
    for l in 0..depth {
        // SAFETY: as the caller promises.
        unsafe {
            let line = v.add(l * pitch);
            let x: [__m512; WIDE] = std::array::from_fn(|n| _mm512_loadu_ps(line.add(n * LANES)));
            for (r, acc) in acc.iter_mut().enumerate() {
                let w = _mm512_set1_ps(*weight.add(l * ROWS + r));
                for (acc, &x) in acc.iter_mut().zip(&x) {
                    *acc = _mm512_fmadd_ps(x, w, *acc);
                }
            }
        }
    }
    for (r, acc) in acc.iter().enumerate() {
        for (n, &acc) in acc.iter().enumerate() {
            // SAFETY: as the caller promises.
            unsafe { _mm512_storeu_ps(out.add(r * pitch + n * LANES), acc) };
        }
    }
}

pub(super) fn gram(y: &[f32], v: &[f32], shape: Lines, sums: &mut [f32]) {
    assert!(CpuPath::Avx512.is_available());
    let Lines { columns, pitch } = shape;
    assert!(columns.is_multiple_of(LANES) && columns <= pitch && y.len() >= ROWS * pitch);
    for (n, sums) in sums.chunks_mut(WIDE * ROWS).enumerate() {
        let v = &v[n * WIDE * pitch..(n + 1) * WIDE * pitch];
        // SAFETY: AVX-512 is there, as asserted; 8 and 3 lines of a pitch of at least `columns`, a multiple of 16.
        let tile = unsafe { gram_tile(y.as_ptr(), v.as_ptr(), pitch, columns) };
        sums.iter_mut().zip(tile.as_flattened()).for_each(|(sum, tile)| *sum += tile);
    }
}

/// `[line of v][line of y]` sums over the columns.
///
/// # Safety
/// `columns` values, a multiple of 16, must be valid for reading every `pitch` from `y` on, eight times, and from `v` on, three times.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn gram_tile(y: *const f32, v: *const f32, pitch: usize, columns: usize) -> [[f32; ROWS]; WIDE] {
    let mut acc = [[_mm512_setzero_ps(); ROWS]; WIDE];
    for t in (0..columns).step_by(LANES) {
        // SAFETY: the whole vector lies in each of the lines.
        unsafe {
            let x: [__m512; WIDE] = std::array::from_fn(|n| _mm512_loadu_ps(v.add(n * pitch + t)));
            // The three vectors of `v` stay in registers, those of `y` pass by.
            #[allow(clippy::needless_range_loop)]
            for r in 0..ROWS {
                let y = _mm512_loadu_ps(y.add(r * pitch + t));
                for n in 0..WIDE {
                    acc[n][r] = _mm512_fmadd_ps(x[n], y, acc[n][r]);
                }
            }
        }
    }
    let mut tile = [[0f32; ROWS]; WIDE];
    for (tile, acc) in tile.iter_mut().zip(&acc) {
        for (four, acc) in tile.as_chunks_mut::<4>().0.iter_mut().zip(acc.as_chunks::<4>().0) {
            let [a, b, c, d] =
                acc.map(|acc| _mm256_add_ps(_mm512_castps512_ps256(acc), _mm512_extractf32x8_ps::<1>(acc)));
            // SAFETY: four values; AVX-512 comes with AVX2.
            unsafe { _mm_storeu_ps(four.as_mut_ptr(), four_sums(a, b, c, d)) };
        }
    }
    tile
}
