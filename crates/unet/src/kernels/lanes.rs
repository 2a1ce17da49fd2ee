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
    }
}

/// Defines a function whose body, generic over a type of [`Lanes`], is compiled with the best one of a path.
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
                match path {
                    $crate::CpuPath::Portable => {}
                    // SAFETY: a path that reaches a kernel was found on this processor; AVX-512 comes with AVX2.
                    $crate::CpuPath::Avx2 | $crate::CpuPath::Avx512 => return unsafe { avx2($($arg),*) },
                }
            }
            let _ = path;
            body::<$crate::kernels::lanes::Plain>($($arg),*);
        }
    };
}
pub(super) use lanes;
