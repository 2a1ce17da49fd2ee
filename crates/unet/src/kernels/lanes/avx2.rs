//! Eight values in a register of AVX.

use super::{Lanes, TAPS, WIDEST};
use std::arch::x86_64::*;

/// Values of a vector.
const LANES: usize = 8;

/// A register of AVX. Made and used on the paths that have AVX2 only.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Wide(__m256);

impl Wide {
    /// The first four of eight values.
    #[inline(always)]
    fn low(self) -> __m128 {
        // SAFETY: AVX, as below.
        unsafe { _mm256_castps256_ps128(self.0) }
    }

    /// The last four.
    #[inline(always)]
    fn high(self) -> __m128 {
        // SAFETY: AVX, as below.
        unsafe { _mm256_extractf128_ps::<1>(self.0) }
    }
}

/// At most three values, zeros after them.
#[inline(always)]
fn few(values: &[f32]) -> __m128 {
    // SAFETY: AVX, as below; as many values as are loaded.
    unsafe {
        match values {
            [] => _mm_setzero_ps(),
            [one] => _mm_set_ss(*one),
            [_, _, rest @ ..] => {
                let two = _mm_castsi128_ps(_mm_loadl_epi64(values.as_ptr().cast()));
                if let Some(third) = rest.first() { _mm_movelh_ps(two, _mm_set_ss(*third)) } else { two }
            }
        }
    }
}

/// Four values of each of eight kernels from `FROM` on, a vector for each of the four.
#[inline(always)]
fn quads<const FROM: usize>(kernels: &[&[f32; TAPS]; WIDEST]) -> [Wide; 4] {
    let mut rows = [Wide::zero(); 4];
    for (n, row) in rows.iter_mut().enumerate() {
        let (low, high) = (&kernels[n][FROM..FROM + 4], &kernels[n + 4][FROM..FROM + 4]);
        // SAFETY: AVX, as below; four values each.
        row.0 = unsafe { _mm256_set_m128(_mm_loadu_ps(high.as_ptr()), _mm_loadu_ps(low.as_ptr())) };
    }
    transpose(rows)
}

/// In each half: value r of vector c becomes value c of vector r.
#[inline(always)]
fn transpose([a, b, c, d]: [Wide; 4]) -> [Wide; 4] {
    // SAFETY: AVX, as below.
    unsafe {
        let (p, q) = (_mm256_unpacklo_ps(a.0, b.0), _mm256_unpackhi_ps(a.0, b.0));
        let (r, s) = (_mm256_unpacklo_ps(c.0, d.0), _mm256_unpackhi_ps(c.0, d.0));
        [
            Wide(_mm256_shuffle_ps::<0b01_00_01_00>(p, r)),
            Wide(_mm256_shuffle_ps::<0b11_10_11_10>(p, r)),
            Wide(_mm256_shuffle_ps::<0b01_00_01_00>(q, s)),
            Wide(_mm256_shuffle_ps::<0b11_10_11_10>(q, s)),
        ]
    }
}

// SAFETY of every block below: the pointers as the caller promises; AVX because a `Wide` is at hand or about to be made, which `lanes!` does only
// inside functions that have AVX2.
impl Lanes for Wide {
    const COUNT: usize = LANES;

    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_setzero_ps() })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see above.
        unsafe { _mm256_storeu_ps(to, self.0) };
    }

    #[inline(always)]
    unsafe fn load_pairs(from: *const f32) -> [Self; 2] {
        // SAFETY: see above. Halves from where they belong: no shuffle crosses the middle of a register, which some processors are slow at.
        unsafe {
            let half = |n: usize| _mm_loadu_ps(from.add(4 * n));
            let first = _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(half(0)), half(2));
            let second = _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(half(1)), half(3));
            [
                Self(_mm256_shuffle_ps::<0b10_00_10_00>(first, second)),
                Self(_mm256_shuffle_ps::<0b11_01_11_01>(first, second)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn store_pairs([even, odd]: [Self; 2], to: *mut f32) {
        // SAFETY: see above.
        unsafe {
            let low = _mm256_unpacklo_ps(even.0, odd.0);
            let high = _mm256_unpackhi_ps(even.0, odd.0);
            _mm_storeu_ps(to, _mm256_castps256_ps128(low));
            _mm_storeu_ps(to.add(4), _mm256_castps256_ps128(high));
            _mm_storeu_ps(to.add(8), _mm256_extractf128_ps::<1>(low));
            _mm_storeu_ps(to.add(12), _mm256_extractf128_ps::<1>(high));
        }
    }

    #[inline(always)]
    fn load_some(row: &[f32]) -> Self {
        // SAFETY: see above; as many values as are loaded.
        unsafe {
            if row.len() >= LANES {
                Self::load(row.as_ptr())
            } else if let Some((four, others)) = row.split_at_checked(4) {
                Self(_mm256_set_m128(few(others), _mm_loadu_ps(four.as_ptr())))
            } else {
                Self(_mm256_set_m128(_mm_setzero_ps(), few(row)))
            }
        }
    }

    #[inline(always)]
    fn load_some_pairs(row: &[f32]) -> [Self; 2] {
        let (first, second) = (Self::load_some(row), Self::load_some(row.get(LANES..).unwrap_or_default()));
        // SAFETY: see above.
        unsafe {
            let low = _mm256_permute2f128_ps::<0x20>(first.0, second.0);
            let high = _mm256_permute2f128_ps::<0x31>(first.0, second.0);
            [
                Self(_mm256_shuffle_ps::<0b10_00_10_00>(low, high)),
                Self(_mm256_shuffle_ps::<0b11_01_11_01>(low, high)),
            ]
        }
    }

    #[inline(always)]
    fn store_some(self, to: &mut [f32]) {
        if let Some(all) = to.get_mut(..LANES) {
            // SAFETY: see above; eight values.
            return unsafe { self.store(all.as_mut_ptr()) };
        }
        // Stores with a mask are slow on some processors.
        let mut rest = self.low();
        let mut to = to;
        if to.len() >= 4 {
            let (four, others) = to.split_at_mut(4);
            // SAFETY: see above; four values.
            unsafe { _mm_storeu_ps(four.as_mut_ptr(), rest) };
            (rest, to) = (self.high(), others);
            if to.len() >= 4 {
                // SAFETY: as above.
                return unsafe { _mm_storeu_ps(to.as_mut_ptr(), rest) };
            }
        }
        if to.len() >= 2 {
            let (two, others) = to.split_at_mut(2);
            // SAFETY: see above; two values.
            unsafe {
                _mm_storel_epi64(two.as_mut_ptr().cast(), _mm_castps_si128(rest));
                rest = _mm_movehl_ps(rest, rest);
            }
            to = others;
        }
        if let Some(to) = to.first_mut() {
            // SAFETY: see above.
            *to = unsafe { _mm_cvtss_f32(rest) };
        }
    }

    #[inline(always)]
    fn store_some_pairs(pairs: [Self; 2], to: &mut [f32]) {
        if let Some(all) = to.get_mut(..2 * LANES) {
            // SAFETY: see above; sixteen values.
            return unsafe { Self::store_pairs(pairs, all.as_mut_ptr()) };
        }
        let [even, odd] = pairs;
        // SAFETY: see above.
        let (first, second) = unsafe {
            let low = _mm256_unpacklo_ps(even.0, odd.0);
            let high = _mm256_unpackhi_ps(even.0, odd.0);
            (_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high))
        };
        match to.split_at_mut_checked(LANES) {
            Some((eight, others)) => {
                Self(first).store_some(eight);
                Self(second).store_some(others);
            }
            None => Self(first).store_some(to),
        }
    }

    #[inline(always)]
    fn after(self, before: Self) -> Self {
        // SAFETY: see above. Of the last half before and the first here, and both halves here, each time the last value and the first three.
        unsafe {
            let first = _mm256_castps_si256(_mm256_permute2f128_ps::<0x21>(before.0, self.0));
            Self(_mm256_castsi256_ps(_mm256_alignr_epi8::<12>(_mm256_castps_si256(self.0), first)))
        }
    }

    #[inline(always)]
    fn before(self, next: Self) -> Self {
        // SAFETY: see above. Of both halves here, and the last half here and the first after it, each time the last three values and the first.
        unsafe {
            let last = _mm256_castps_si256(_mm256_permute2f128_ps::<0x21>(self.0, next.0));
            Self(_mm256_castsi256_ps(_mm256_alignr_epi8::<4>(last, _mm256_castps_si256(self.0))))
        }
    }

    #[inline(always)]
    fn ask(from: *const f32) {
        // SAFETY: nothing is read.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) };
    }

    #[inline(always)]
    fn of_kernels(kernels: &[&[f32; TAPS]; WIDEST]) -> [Self; TAPS] {
        // SAFETY: see above.
        unsafe {
            let [a, b, c, d] = quads::<0>(kernels);
            let [e, f, g, h] = quads::<4>(kernels);
            let [k, l, m, n, o, p, q, r, ..] = kernels;
            let last = _mm256_setr_ps(k[8], l[8], m[8], n[8], o[8], p[8], q[8], r[8]);
            [a, b, c, d, e, f, g, h, Self(last)]
        }
    }

    #[inline(always)]
    fn to_kernels([a, b, c, d, e, f, g, h, last]: [Self; TAPS], kernels: &mut [[f32; TAPS]; WIDEST]) {
        for (from, quads) in [(0, transpose([a, b, c, d])), (4, transpose([e, f, g, h]))] {
            for (n, quad) in quads.into_iter().enumerate() {
                // SAFETY: see above; four values from 0 and from 4 on lie in each kernel.
                unsafe {
                    _mm_storeu_ps(kernels[n].as_mut_ptr().add(from), quad.low());
                    _mm_storeu_ps(kernels[n + 4].as_mut_ptr().add(from), quad.high());
                }
            }
        }
        let mut lasts = [0.0; LANES];
        // SAFETY: see above; eight values.
        unsafe { last.store(lasts.as_mut_ptr()) };
        kernels.iter_mut().zip(lasts).for_each(|(kernel, last)| kernel[TAPS - 1] = last);
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn halved(self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_mul_ps(self.0, _mm256_set1_ps(0.5)) })
    }

    #[inline(always)]
    fn negative(self) -> Self {
        // SAFETY: see above.
        Self(unsafe { _mm256_xor_ps(self.0, _mm256_set1_ps(-0.0)) })
    }

    #[inline(always)]
    fn rounded(self) -> Self {
        // SAFETY: see above.
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
            let rounded = _mm256_castsi256_ps(_mm256_and_si256(up, _mm256_set1_epi32(-0x1_0000)));
            Self(_mm256_blendv_ps(rounded, self.0, _mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0)))
        }
    }

    #[inline(always)]
    fn pairs(self, second: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            let quiet = |x: __m256| {
                let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x);
                let quiet = _mm256_and_ps(nan, _mm256_castsi256_ps(_mm256_set1_epi32(0x40_0000)));
                _mm256_castps_si256(_mm256_or_ps(Self(x).rounded().0, quiet))
            };
            let (low, high) = (_mm256_srli_epi32::<16>(quiet(self.0)), quiet(second.0));
            Self(_mm256_castsi256_ps(_mm256_blend_epi16::<0b1010_1010>(low, high)))
        }
    }
}
