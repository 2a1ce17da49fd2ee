//! The matrix products with AVX-512: 8 × 48 values of the result, or 8 × 3 sums, stay in 24 of the 32 registers.

use super::gemm::Lines;
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
        unsafe { gram_tile(y.as_ptr(), v.as_ptr(), pitch, columns, sums.as_chunks_mut().0) };
    }
}

/// Adds the sums over the columns to `[line of v][line of y]`, of at most three lines of `v`.
///
/// # Safety
/// `columns` values, a multiple of 16, must be valid for reading every `pitch` from `y` on, eight times, and from `v` on, three times.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn gram_tile(y: *const f32, v: *const f32, pitch: usize, columns: usize, sums: &mut [[f32; ROWS]]) {
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
    for (sums, acc) in sums.iter_mut().zip(acc) {
        // SAFETY: eight values.
        unsafe {
            let before = _mm256_loadu_ps(sums.as_ptr());
            _mm256_storeu_ps(sums.as_mut_ptr(), _mm256_add_ps(before, eight_sums(acc)));
        }
    }
}

/// The sums of the lanes of eight vectors: halves of the register, then as [`four_sums`](super::gemm_avx2) adds them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn eight_sums([a, b, c, d, e, f, g, h]: [__m512; ROWS]) -> __m256 {
    let (ae, bf, cg, dh) = (two_halves(a, e), two_halves(b, f), two_halves(c, g), two_halves(d, h));
    let ab = _mm512_add_ps(_mm512_unpacklo_ps(ae, bf), _mm512_unpackhi_ps(ae, bf));
    let cd = _mm512_add_ps(_mm512_unpacklo_ps(cg, dh), _mm512_unpackhi_ps(cg, dh));
    let low = _mm512_shuffle_ps::<0b01_00_01_00>(ab, cd);
    let high = _mm512_shuffle_ps::<0b11_10_11_10>(ab, cd);
    let both = _mm512_add_ps(low, high);
    // Quarters 0 and 1 are those of the first four, 2 and 3 of the others.
    let quarters = _mm512_shuffle_f32x4::<0b11_01_10_00>(both, both);
    _mm256_add_ps(_mm512_castps512_ps256(quarters), _mm512_extractf32x8_ps::<1>(quarters))
}

/// The lower half of a vector plus its upper one, of each of two.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
fn two_halves(a: __m512, b: __m512) -> __m512 {
    let lower = _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b);
    let upper = _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b);
    _mm512_add_ps(lower, upper)
}
