//! The matrix products with AVX2 and FMA: 4 × 24 values of the result, or 4 × 3 sums, stay in 12 of the 16 registers.

use super::gemm::Lines;
use crate::CpuPath;
use std::arch::x86_64::*;

/// Values of a vector.
const LANES: usize = 8;
/// Rows of a tile.
const ROWS: usize = 4;
/// Vectors of a tile of [`product`], lines of a tile of [`gram`].
const WIDE: usize = 3;

pub(super) fn product(weight: &[f32], v: &[f32], shape: Lines, out: &mut [f32]) {
    assert!(CpuPath::Avx2.is_available());
    let (Lines { columns, pitch }, depth) = (shape, weight.len() / ROWS);
    assert!(depth > 0 && columns.is_multiple_of(WIDE * LANES) && columns <= pitch);
    assert!(v.len() >= depth * pitch && out.len() >= ROWS * pitch);
    for t in (0..columns).step_by(WIDE * LANES) {
        // SAFETY: AVX2 and FMA are there, as asserted; 24 values from column `t` on lie in each of the `depth` lines of `v` and of the
        // four of `out`, and `weight` has four values a line.
        unsafe {
            product_tile(weight.as_ptr(), v.as_ptr().add(t), pitch, depth, out.as_mut_ptr().add(t));
        }
    }
}

/// # Safety
/// `weight` must be valid for reading 4 · `depth` values, 24 values must be valid for reading every `pitch` from `v` on, `depth` times, and for writing every
/// `pitch` from `out` on, four times; `depth` > 0.
#[target_feature(enable = "avx2,fma")]
unsafe fn product_tile(weight: *const f32, v: *const f32, pitch: usize, depth: usize, out: *mut f32) {
    let mut acc = [[_mm256_setzero_ps(); WIDE]; ROWS];
    // SAFETY: as the caller promises.
    unsafe { multiply_add(&mut acc, v, pitch, weight, depth) };
    for (r, acc) in acc.iter().enumerate() {
        for (n, &acc) in acc.iter().enumerate() {
            // SAFETY: as the caller promises.
            unsafe { _mm256_storeu_ps(out.add(r * pitch + n * LANES), acc) };
        }
    }
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
    acc: &mut [[__m256; WIDE]; ROWS],
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

pub(super) fn gram(y: &[f32], v: &[f32], shape: Lines, sums: &mut [f32]) {
    assert!(CpuPath::Avx2.is_available());
    let Lines { columns, pitch } = shape;
    assert!(columns.is_multiple_of(LANES) && columns <= pitch && y.len() >= ROWS * pitch);
    for (n, sums) in sums.chunks_mut(WIDE * ROWS).enumerate() {
        let v = &v[n * WIDE * pitch..(n + 1) * WIDE * pitch];
        // SAFETY: AVX2 and FMA are there, as asserted; 4 and 3 lines of a pitch of at least `columns`, a multiple of 8.
        let tile = unsafe { gram_tile(y.as_ptr(), v.as_ptr(), pitch, columns) };
        sums.iter_mut().zip(tile.as_flattened()).for_each(|(sum, tile)| *sum += tile);
    }
}

/// `[line of v][line of y]` sums over the columns.
///
/// # Safety
/// `columns` values, a multiple of 8, must be valid for reading every `pitch` from `y` on, four times, and from `v` on, three times.
#[target_feature(enable = "avx2,fma")]
unsafe fn gram_tile(y: *const f32, v: *const f32, pitch: usize, columns: usize) -> [[f32; ROWS]; WIDE] {
    let mut acc = [[_mm256_setzero_ps(); ROWS]; WIDE];
    for t in (0..columns).step_by(LANES) {
        // SAFETY: the whole vector lies in each of the lines.
        unsafe {
            let x: [__m256; WIDE] = std::array::from_fn(|n| _mm256_loadu_ps(v.add(n * pitch + t)));
            // The three vectors of `v` stay in registers, those of `y` pass by.
            #[allow(clippy::needless_range_loop)]
            for r in 0..ROWS {
                let y = _mm256_loadu_ps(y.add(r * pitch + t));
                for n in 0..WIDE {
                    acc[n][r] = _mm256_fmadd_ps(x[n], y, acc[n][r]);
                }
            }
        }
    }
    let mut tile = [[0f32; ROWS]; WIDE];
    for (tile, &[a, b, c, d]) in tile.iter_mut().zip(&acc) {
        // SAFETY: four values.
        unsafe { _mm_storeu_ps(tile.as_mut_ptr(), four_sums(a, b, c, d)) };
    }
    tile
}

/// The sums of the lanes of four vectors: halves of pairs, pairs of pairs, halves of the register.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn four_sums(a: __m256, b: __m256, c: __m256, d: __m256) -> __m128 {
    let ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    let cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    let low = _mm256_shuffle_ps::<0b01_00_01_00>(ab, cd);
    let high = _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd);
    let both = _mm256_add_ps(low, high);
    _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps::<1>(both))
}
