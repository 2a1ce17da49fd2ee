//! Eight values at once, for the transforms, which the compiler does not vectorise well by itself: with AVX2, or in plain Rust. No fused multiply-add, so both
//! give the same bits.

/// Values of a vector.
pub(super) const LANES: usize = 8;

/// Eight values. The functions on pointers need 8 (or 16) values to be there; those of a type that needs instructions need them too.
pub(super) trait Lanes: Copy {
    /// Eight values from `from` on.
    ///
    /// # Safety
    /// They must be valid for reading.
    unsafe fn load(from: *const f32) -> Self;

    /// Writes eight values from `to` on.
    ///
    /// # Safety
    /// They must be valid for writing.
    unsafe fn store(self, to: *mut f32);

    /// The values at even and at odd places of sixteen.
    ///
    /// # Safety
    /// They must be valid for reading.
    unsafe fn load_pairs(from: *const f32) -> [Self; 2];

    /// Writes sixteen values, `pairs[0]` at even places and `pairs[1]` at odd ones.
    ///
    /// # Safety
    /// They must be valid for writing.
    unsafe fn store_pairs(pairs: [Self; 2], to: *mut f32);

    fn plus(self, other: Self) -> Self;

    fn minus(self, other: Self) -> Self;

    fn negative(self) -> Self;

    /// The nearest values that `bf16` has; see [`to_bf16`].
    fn rounded(self) -> Self;

    /// The bits of pairs of `bf16`, in each the nearest to a value and, in the upper half, to one of `second`; NaN stays NaN.
    fn pairs(self, second: Self) -> Self;
}

/// The nearest value that `bf16` has, of two the even one; NaN stays what it is.
#[inline(always)]
pub(super) fn to_bf16(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    let bits = x.to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

/// The bits of [`to_bf16`], the lower half zero; of a NaN those of another whose upper half alone says so.
#[inline(always)]
pub(super) fn quiet_bf16(x: f32) -> u32 {
    let quiet = if x.is_nan() { 0x40_0000 } else { 0 };
    (to_bf16(x).to_bits() | quiet) & 0xffff_0000
}

/// Plain Rust.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; LANES]);

impl Lanes for Plain {
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as the caller promises; an array of `f32` needs no more alignment than they.
        Self(unsafe { from.cast::<[f32; LANES]>().read() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as above.
        unsafe { to.cast::<[f32; LANES]>().write(self.0) };
    }

    #[inline(always)]
    unsafe fn load_pairs(from: *const f32) -> [Self; 2] {
        // SAFETY: as above.
        let all = unsafe { from.cast::<[f32; 2 * LANES]>().read() };
        let mut pairs = [[0.0; LANES]; 2];
        for l in 0..LANES {
            pairs[0][l] = all[2 * l];
            pairs[1][l] = all[2 * l + 1];
        }
        [Self(pairs[0]), Self(pairs[1])]
    }

    #[inline(always)]
    unsafe fn store_pairs([even, odd]: [Self; 2], to: *mut f32) {
        let mut all = [0.0; 2 * LANES];
        for l in 0..LANES {
            all[2 * l] = even.0[l];
            all[2 * l + 1] = odd.0[l];
        }
        // SAFETY: as above.
        unsafe { to.cast::<[f32; 2 * LANES]>().write(all) };
    }

    #[inline(always)]
    fn plus(mut self, other: Self) -> Self {
        for l in 0..LANES {
            self.0[l] += other.0[l];
        }
        self
    }

    #[inline(always)]
    fn minus(mut self, other: Self) -> Self {
        for l in 0..LANES {
            self.0[l] -= other.0[l];
        }
        self
    }

    #[inline(always)]
    fn negative(mut self) -> Self {
        for l in 0..LANES {
            self.0[l] = -self.0[l];
        }
        self
    }

    #[inline(always)]
    fn rounded(mut self) -> Self {
        for l in 0..LANES {
            self.0[l] = to_bf16(self.0[l]);
        }
        self
    }

    #[inline(always)]
    fn pairs(mut self, second: Self) -> Self {
        for l in 0..LANES {
            self.0[l] = f32::from_bits(quiet_bf16(self.0[l]) >> 16 | quiet_bf16(second.0[l]));
        }
        self
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Wide;

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::Lanes;
    use std::arch::x86_64::*;

    /// A register of AVX. Made and used on the paths that have AVX2 only.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Wide(__m256);

    // SAFETY of every block below: the pointers as the caller promises; AVX because a `Wide` is at hand or about to be made, which `lanes!` does only
    // inside functions that have AVX2.
    impl Lanes for Wide {
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
}

/// Defines a function whose body, generic over a type of [`Lanes`], is compiled with the best type of a path; if it is generic over a constant too, for both values,
/// of which the second argument says which.
macro_rules! lanes {
    ($(#[$meta:meta])* fn $name:ident<$lanes:ident>($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        pub(super) fn $name(path: $crate::CpuPath, $($arg: $ty),*) {
            #[inline(always)]
            fn body<$lanes: $crate::kernels::lanes::Lanes>($($arg: $ty),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) {
                    body::<$crate::kernels::lanes::Wide>($($arg),*);
                }
                if path != $crate::CpuPath::Portable {
                    // SAFETY: a path that reaches a kernel was found on this processor; AVX-512 comes with AVX2.
                    return unsafe { avx2($($arg),*) };
                }
            }
            let _ = path;
            body::<$crate::kernels::lanes::Plain>($($arg),*);
        }
    };
    ($(#[$meta:meta])* fn $name:ident<$lanes:ident, $constant:ident>($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        pub(super) fn $name(path: $crate::CpuPath, constant: bool, $($arg: $ty),*) {
            #[inline(always)]
            fn body<$lanes: $crate::kernels::lanes::Lanes, const $constant: bool>($($arg: $ty),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2<const $constant: bool>($($arg: $ty),*) {
                    body::<$crate::kernels::lanes::Wide, $constant>($($arg),*);
                }
                match (path, constant) {
                    ($crate::CpuPath::Portable, _) => {}
                    // SAFETY: a path that reaches a kernel was found on this processor; AVX-512 comes with AVX2.
                    (_, false) => return unsafe { avx2::<false>($($arg),*) },
                    // SAFETY: as above.
                    (_, true) => return unsafe { avx2::<true>($($arg),*) },
                }
            }
            let _ = path;
            match constant {
                false => body::<$crate::kernels::lanes::Plain, false>($($arg),*),
                true => body::<$crate::kernels::lanes::Plain, true>($($arg),*),
            }
        }
    };
}
pub(super) use lanes;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CpuPath;

    lanes! {
        /// Rounds a multiple of eight values, or leaves them.
        fn rounded<L, ROUND>(values: &mut [f32]) {
            for values in values.as_chunks_mut::<LANES>().0 {
                // SAFETY: eight values.
                unsafe {
                    let all = L::load(values.as_ptr());
                    if ROUND { all.rounded() } else { all }.store(values.as_mut_ptr());
                }
            }
        }
    }

    #[test]
    fn rounding_takes_the_nearest_and_of_two_the_even() {
        // 1 + 2⁻⁷ is the next value after 1.
        let step = 1.0 / 128.0;
        let cases = [
            (1.0, 1.0),
            (1.0 + 0.49 * step, 1.0),
            (1.0 + 0.5 * step, 1.0),
            (1.0 + 0.51 * step, 1.0 + step),
            (1.0 + 1.5 * step, 1.0 + 2.0 * step),
            (-1.0 - 0.51 * step, -1.0 - step),
            (0.0, 0.0),
            (-0.0, -0.0),
            (f32::INFINITY, f32::INFINITY),
            (f32::MAX, f32::INFINITY),
            (f32::MIN_POSITIVE, f32::MIN_POSITIVE),
            (f32::from_bits(0x7fff_ffff), f32::from_bits(0x7fff_ffff)),
        ];
        let mut values: Vec<f32> = cases.iter().map(|c| c.0).chain([3.0; 4]).collect();
        let start = values.clone();
        for path in CpuPath::ALL.into_iter().filter(|path| path.is_available()) {
            values.copy_from_slice(&start);
            rounded(path, true, &mut values);
            for (found, (from, expected)) in values.iter().zip(cases) {
                assert_eq!(found.to_bits(), expected.to_bits(), "{path:?}: {from} gives {found}");
            }
        }
    }
}
