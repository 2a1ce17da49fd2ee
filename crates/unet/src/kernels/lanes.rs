//! Eight or sixteen values at once, for the transforms, which the compiler does not vectorise well by itself: with AVX2, with AVX-512, or in plain Rust. No fused
//! multiply-add, so all give the same bits.

/// Values of the widest vector.
pub(super) const WIDEST: usize = 16;

/// Values of a kernel.
pub(super) const TAPS: usize = 9;

/// A vector of [`COUNT`](Self::COUNT) values. The functions on pointers need as many values (or twice as many) to be there; those of a type that needs instructions
/// need them too.
pub(super) trait Lanes: Copy {
    /// Values of a vector: 8 or 16.
    const COUNT: usize;

    fn zero() -> Self;

    /// The values from `from` on.
    ///
    /// # Safety
    /// They must be valid for reading.
    unsafe fn load(from: *const f32) -> Self;

    /// Writes all values from `to` on.
    ///
    /// # Safety
    /// They must be valid for writing.
    unsafe fn store(self, to: *mut f32);

    /// The values at even and at odd places of twice as many.
    ///
    /// # Safety
    /// They must be valid for reading.
    unsafe fn load_pairs(from: *const f32) -> [Self; 2];

    /// Writes twice as many values, `pairs[0]` at even places and `pairs[1]` at odd ones.
    ///
    /// # Safety
    /// They must be valid for writing.
    unsafe fn store_pairs(pairs: [Self; 2], to: *mut f32);

    /// The first values of a row, with zeros for those it does not have.
    fn load_some(row: &[f32]) -> Self;

    /// [`Lanes::load_pairs`] of the first values of a row, with zeros for those it does not have.
    fn load_some_pairs(row: &[f32]) -> [Self; 2];

    /// Writes as many of the values as there is room for.
    fn store_some(self, to: &mut [f32]);

    /// [`Lanes::store_pairs`] of as many of the values as there is room for.
    fn store_some_pairs(pairs: [Self; 2], to: &mut [f32]);

    /// The last value of `before`, then all values but the last.
    fn after(self, before: Self) -> Self;

    /// All values but the first, then the first of `next`.
    fn before(self, next: Self) -> Self;

    /// Asks the processor for the line of the cache that holds this address, which may be any.
    fn ask(_from: *const f32) {}

    /// The nine values of as many kernels, a vector for each of the nine. More kernels may follow.
    fn of_kernels(kernels: &[&[f32; TAPS]; WIDEST]) -> [Self; TAPS];

    /// The way back.
    fn to_kernels(taps: [Self; TAPS], kernels: &mut [[f32; TAPS]; WIDEST]);

    fn plus(self, other: Self) -> Self;

    fn minus(self, other: Self) -> Self;

    fn halved(self) -> Self;

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

/// Values of a vector of [`Plain`].
const LANES: usize = 8;

/// Plain Rust.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; LANES]);

impl Lanes for Plain {
    const COUNT: usize = LANES;

    #[inline(always)]
    fn zero() -> Self {
        Self([0.0; LANES])
    }

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
    fn load_some(row: &[f32]) -> Self {
        let mut values = [0.0; LANES];
        values.iter_mut().zip(row).for_each(|(value, from)| *value = *from);
        Self(values)
    }

    #[inline(always)]
    fn load_some_pairs(row: &[f32]) -> [Self; 2] {
        let mut pairs = [[0.0; LANES]; 2];
        for (l, value) in row.iter().take(2 * LANES).enumerate() {
            pairs[l % 2][l / 2] = *value;
        }
        [Self(pairs[0]), Self(pairs[1])]
    }

    #[inline(always)]
    fn store_some(self, to: &mut [f32]) {
        to.iter_mut().zip(self.0).for_each(|(to, value)| *to = value);
    }

    #[inline(always)]
    fn store_some_pairs([even, odd]: [Self; 2], to: &mut [f32]) {
        let values = even.0.into_iter().zip(odd.0).flat_map(|(even, odd)| [even, odd]);
        to.iter_mut().zip(values).for_each(|(to, value)| *to = value);
    }

    #[inline(always)]
    fn after(mut self, before: Self) -> Self {
        self.0.rotate_right(1);
        self.0[0] = before.0[LANES - 1];
        self
    }

    #[inline(always)]
    fn before(mut self, next: Self) -> Self {
        self.0.rotate_left(1);
        self.0[LANES - 1] = next.0[0];
        self
    }

    #[inline(always)]
    fn of_kernels(kernels: &[&[f32; TAPS]; WIDEST]) -> [Self; TAPS] {
        std::array::from_fn(|k| Self(std::array::from_fn(|l| kernels[l][k])))
    }

    #[inline(always)]
    fn to_kernels(taps: [Self; TAPS], kernels: &mut [[f32; TAPS]; WIDEST]) {
        kernels[..LANES].iter_mut().enumerate().for_each(|(l, kernel)| *kernel = taps.map(|tap| tap.0[l]));
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
    fn halved(mut self) -> Self {
        for l in 0..LANES {
            self.0[l] *= 0.5;
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
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
pub(super) use {avx2::Wide, avx512::Widest};

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
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
                fn avx512($($arg: $ty),*) {
                    body::<$crate::kernels::lanes::Widest>($($arg),*);
                }
                match path {
                    $crate::CpuPath::Portable => {}
                    // SAFETY: a path that reaches a kernel was found on this processor.
                    $crate::CpuPath::Avx2 => return unsafe { avx2($($arg),*) },
                    // SAFETY: as above.
                    $crate::CpuPath::Avx512 | $crate::CpuPath::Amx => return unsafe { avx512($($arg),*) },
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
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
                fn avx512<const $constant: bool>($($arg: $ty),*) {
                    body::<$crate::kernels::lanes::Widest, $constant>($($arg),*);
                }
                match (path, constant) {
                    ($crate::CpuPath::Portable, _) => {}
                    // SAFETY: a path that reaches a kernel was found on this processor.
                    ($crate::CpuPath::Avx2, false) => return unsafe { avx2::<false>($($arg),*) },
                    // SAFETY: as above.
                    ($crate::CpuPath::Avx2, true) => return unsafe { avx2::<true>($($arg),*) },
                    // SAFETY: as above.
                    (_, false) => return unsafe { avx512::<false>($($arg),*) },
                    // SAFETY: as above.
                    (_, true) => return unsafe { avx512::<true>($($arg),*) },
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
    use crate::CpuPath;

    lanes! {
        /// Rounds a multiple of sixteen values, or leaves them.
        fn rounded<L, ROUND>(values: &mut [f32]) {
            for values in values.chunks_exact_mut(L::COUNT) {
                // SAFETY: a vector's values.
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
