//! One body, two sets of instructions.

/// Defines a function whose body is compiled twice: for the baseline processor, and with AVX-512 switched on so that
/// the compiler vectorises the same loops with wide registers. No fused multiply-add is formed, so both give the same
/// bits.
macro_rules! multiversion {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        pub(crate) fn $name(path: $crate::CpuPath, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
            fn wide($($arg: $ty),*) $(-> $ret)? {
                body($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            if path == $crate::CpuPath::Avx512 {
                // SAFETY: a CpuPath::Avx512 that reaches a kernel went through CpuPath::detect or
                // CpuPath::checked, which found these features on this processor.
                return unsafe { wide($($arg),*) };
            }
            let _ = path;
            body($($arg),*)
        }
    };
}
pub(crate) use multiversion;
