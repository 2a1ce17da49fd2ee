//! Sixteen values in a register of AVX-512.

use super::{Lanes, TAPS, WIDEST};
use std::arch::x86_64::*;

/// Values of a vector.
const LANES: usize = 16;

/// A register of AVX-512. Made and used on the paths that have it only.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Widest(__m512);

/// A mask of the first `count` values, less than all.
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    (1 << count) - 1
}

/// Four values of each of sixteen kernels from `FROM` on, a vector for each of the four.
#[inline(always)]
fn quads<const FROM: usize>(kernels: &[&[f32; TAPS]; WIDEST]) -> [Widest; 4] {
    let mut rows = [Widest::zero(); 4];
    for (n, row) in rows.iter_mut().enumerate() {
        // SAFETY: AVX-512, as below; four values of each kernel.
        unsafe {
            let [a, b, c, d] = [
                _mm_loadu_ps(kernels[n][FROM..FROM + 4].as_ptr()),
                _mm_loadu_ps(kernels[n + 4][FROM..FROM + 4].as_ptr()),
                _mm_loadu_ps(kernels[n + 8][FROM..FROM + 4].as_ptr()),
                _mm_loadu_ps(kernels[n + 12][FROM..FROM + 4].as_ptr()),
            ];
            let (low, high) = (_mm256_set_m128(b, a), _mm256_set_m128(d, c));
            row.0 = _mm512_insertf32x8::<1>(_mm512_castps256_ps512(low), high);
        }
    }
    transpose(rows)
}

/// In each quarter: value r of vector c becomes value c of vector r.
#[inline(always)]
fn transpose([a, b, c, d]: [Widest; 4]) -> [Widest; 4] {
    // SAFETY: AVX-512, as below.
    unsafe {
        let (p, q) = (_mm512_unpacklo_ps(a.0, b.0), _mm512_unpackhi_ps(a.0, b.0));
        let (r, s) = (_mm512_unpacklo_ps(c.0, d.0), _mm512_unpackhi_ps(c.0, d.0));
        [
            Widest(_mm512_shuffle_ps::<0b01_00_01_00>(p, r)),
            Widest(_mm512_shuffle_ps::<0b11_10_11_10>(p, r)),
            Widest(_mm512_shuffle_ps::<0b01_00_01_00>(q, s)),
            Widest(_mm512_shuffle_ps::<0b11_10_11_10>(q, s)),
        ]
    }
}

/// Values at even and at odd places of two vectors.
#[inline(always)]
fn apart(first: Widest, second: Widest) -> [Widest; 2] {
    // SAFETY: AVX-512, as below.
    unsafe {
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
        [
            Widest(_mm512_permutex2var_ps(first.0, even, second.0)),
            Widest(_mm512_permutex2var_ps(first.0, odd, second.0)),
        ]
    }
}

/// The way back.
#[inline(always)]
fn together([even, odd]: [Widest; 2]) -> [Widest; 2] {
    // SAFETY: AVX-512, as below.
    unsafe {
        let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        let high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        [
            Widest(_mm512_permutex2var_ps(even.0, low, odd.0)),
            Widest(_mm512_permutex2var_ps(even.0, high, odd.0)),
        ]
    }
}

// SAFETY of every block below: the pointers as the caller promises; AVX-512 because a `Widest` is at hand or about to be made, which `lanes!` does only
// inside functions that have it.
impl Lanes for Widest {
    const COUNT: usize = LANES;

    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_setzero_ps() })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(to, self.0) };
    }

    #[inline(always)]
    unsafe fn load_pairs(from: *const f32) -> [Self; 2] {
        // SAFETY: see above.
        unsafe { apart(Self::load(from), Self::load(from.add(LANES))) }
    }

    #[inline(always)]
    unsafe fn store_pairs(pairs: [Self; 2], to: *mut f32) {
        let [low, high] = together(pairs);
        // SAFETY: see above.
        unsafe {
            low.store(to);
            high.store(to.add(LANES));
        }
    }

    #[inline(always)]
    fn load_some(row: &[f32]) -> Self {
        // Where there is nothing is no address either, and a load from none takes hundreds of cycles even if its mask is empty.
        // SAFETY: see above; as many values as are loaded.
        unsafe {
            match row.len() {
                0 => Self::zero(),
                1..LANES => Self(_mm512_maskz_loadu_ps(first(row.len()), row.as_ptr())),
                _ => Self::load(row.as_ptr()),
            }
        }
    }

    #[inline(always)]
    fn load_some_pairs(row: &[f32]) -> [Self; 2] {
        apart(Self::load_some(row), Self::load_some(row.get(LANES..).unwrap_or_default()))
    }

    #[inline(always)]
    fn store_some(self, to: &mut [f32]) {
        // SAFETY: see above; as many values as are stored.
        unsafe {
            match to.len() {
                0 => {}
                1..LANES => _mm512_mask_storeu_ps(to.as_mut_ptr(), first(to.len()), self.0),
                _ => self.store(to.as_mut_ptr()),
            }
        }
    }

    #[inline(always)]
    fn store_some_pairs(pairs: [Self; 2], to: &mut [f32]) {
        let [low, high] = together(pairs);
        match to.split_at_mut_checked(LANES) {
            Some((sixteen, others)) => {
                low.store_some(sixteen);
                high.store_some(others);
            }
            None => low.store_some(to),
        }
    }

    #[inline(always)]
    fn after(self, before: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            let (here, before) = (_mm512_castps_si512(self.0), _mm512_castps_si512(before.0));
            Self(_mm512_castsi512_ps(_mm512_alignr_epi32::<15>(here, before)))
        }
    }

    #[inline(always)]
    fn before(self, next: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            let (here, next) = (_mm512_castps_si512(self.0), _mm512_castps_si512(next.0));
            Self(_mm512_castsi512_ps(_mm512_alignr_epi32::<1>(next, here)))
        }
    }

    #[inline(always)]
    fn ask(from: *const f32) {
        // SAFETY: nothing is read.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) };
    }

    #[inline(always)]
    fn of_kernels(kernels: &[&[f32; TAPS]; WIDEST]) -> [Self; TAPS] {
        let [a, b, c, d] = quads::<0>(kernels);
        let [e, f, g, h] = quads::<4>(kernels);
        let [_, _, _, last] = quads::<5>(kernels);
        [a, b, c, d, e, f, g, h, last]
    }

    #[inline(always)]
    fn to_kernels([a, b, c, d, e, f, g, h, last]: [Self; TAPS], kernels: &mut [[f32; TAPS]; WIDEST]) {
        for (from, quads) in [(0, transpose([a, b, c, d])), (4, transpose([e, f, g, h]))] {
            for (n, quad) in quads.into_iter().enumerate() {
                // SAFETY: see above; four values from 0 and from 4 on lie in each kernel.
                unsafe {
                    let quad = quad.0;
                    _mm_storeu_ps(kernels[n].as_mut_ptr().add(from), _mm512_castps512_ps128(quad));
                    _mm_storeu_ps(kernels[n + 4].as_mut_ptr().add(from), _mm512_extractf32x4_ps::<1>(quad));
                    _mm_storeu_ps(kernels[n + 8].as_mut_ptr().add(from), _mm512_extractf32x4_ps::<2>(quad));
                    _mm_storeu_ps(kernels[n + 12].as_mut_ptr().add(from), _mm512_extractf32x4_ps::<3>(quad));
                }
            }
        }
        let mut lasts = [0.0; LANES];
        // SAFETY: see above; sixteen values.
        unsafe { last.store(lasts.as_mut_ptr()) };
        kernels.iter_mut().zip(lasts).for_each(|(kernel, last)| kernel[TAPS - 1] = last);
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn halved(self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_mul_ps(self.0, _mm512_set1_ps(0.5)) })
    }

    #[inline(always)]
    fn negative(self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm512_xor_ps(self.0, _mm512_set1_ps(-0.0)) })
    }

    #[inline(always)]
    fn rounded(self) -> Self {
        // SAFETY: see above.
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
            let rounded = _mm512_castsi512_ps(_mm512_and_si512(up, _mm512_set1_epi32(-0x1_0000)));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
            Self(_mm512_mask_mov_ps(rounded, nan, self.0))
        }
    }

    #[inline(always)]
    fn pairs(self, second: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            let (low, high) = (_mm512_srli_epi32::<16>(quiet(self)), quiet(second));
            Self(_mm512_castsi512_ps(_mm512_mask_blend_epi16(0xaaaa_aaaa, low, high)))
        }
    }
}

/// The bits of the nearest `bf16` values; of a NaN those of another whose upper half alone says so.
#[inline(always)]
fn quiet(x: Widest) -> __m512i {
    // SAFETY: AVX-512, as above.
    unsafe {
        let (nan, bits) = (_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x.0, x.0), _mm512_castps_si512(x.rounded().0));
        _mm512_mask_or_epi32(bits, nan, bits, _mm512_set1_epi32(0x40_0000))
    }
}
