//! One body, three sets of instructions.

/// Defines a function whose body is compiled three times: for the baseline processor, and with AVX2 and AVX-512 switched on so
/// that the compiler vectorises the same loops with wider registers. No fused multiply-add is formed, so all give the
/// same bits.
macro_rules! multiversion {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        pub(crate) fn $name(path: $crate::CpuPath, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                match path {
                    $crate::CpuPath::Portable => {}
                    // SAFETY: a path that reaches a kernel went through CpuPath::detect or CpuPath::checked, which
                    // found its features on this processor.
                    $crate::CpuPath::Avx2 => return unsafe { avx2($($arg),*) },
                    // SAFETY: as above.
                    $crate::CpuPath::Avx512 | $crate::CpuPath::Amx => return unsafe { avx512($($arg),*) },
                }
            }
            let _ = path;
            body($($arg),*)
        }
    };
}
pub(crate) use multiversion;
