//! The tiles of a processor with AMX, and whether it has them.
//!
//! In assembly, for stable Rust has no other way to these instructions: one instruction a block. Tiles keep their contents from one block to the next though the compiler
//! knows nothing of them; that is sound because it never uses tile registers on its own (only intrinsics that are not stable would), and the
//! system saves them with the other registers of a thread.

use super::blocks;
use super::tiles::{Shapes, Tiles};
use std::arch::asm;
use std::marker::PhantomData;
use std::sync::OnceLock;

/// Whether tiles can be used and give what they should. Found out once a process.
pub(in super::super) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| is_granted() && blocks::is_right::<Amx>())
}

/// Whether processor and system let this process use tiles.
fn is_granted() -> bool {
    static GRANTED: OnceLock<bool> = OnceLock::new();
    *GRANTED.get_or_init(|| processor_has_it() && system_grants_it())
}

/// AMX with `bf16`, its state switched on by the system.
fn processor_has_it() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const XSAVE_IN_USE: u32 = 1 << 27;
    const TILES_WITH_BF16: u32 = 1 << 24 | 1 << 22;
    const TILE_STATE: u32 = 1 << 18 | 1 << 17;
    if __cpuid(0).eax < 7
        || __cpuid(1).ecx & XSAVE_IN_USE == 0
        || __cpuid_count(7, 0).edx & TILES_WITH_BF16 != TILES_WITH_BF16
    {
        return false;
    }
    let switched_on: u32;
    // SAFETY: the bit above says that the instruction is there; it writes these two registers from the third.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") switched_on, out("edx") _, options(nomem, nostack, preserves_flags));
    }
    switched_on & TILE_STATE == TILE_STATE
}

/// Linux saves the state of tiles only for processes that asked: `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`.
#[cfg(target_os = "linux")]
fn system_grants_it() -> bool {
    const ARCH_PRCTL: isize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const XFEATURE_XTILEDATA: usize = 18;
    let result: isize;
    // SAFETY: the call changes nothing but what this process may use; the kernel overwrites rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn system_grants_it() -> bool {
    false
}

/// The tiles of this thread, configured.
pub(super) struct Amx {
    /// They do not move to another thread.
    here: PhantomData<*mut ()>,
}

/// What `LDTILECFG` reads.
#[repr(C, align(64))]
struct Configuration([u8; 64]);

impl Configuration {
    /// Palette 1; bytes of a row from byte 16 on, two for each tile; rows from byte 48 on, one each.
    fn new(shapes: Shapes) -> Self {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        for tile in 0..8 {
            let (rows, row) = shapes.of(tile);
            bytes[16 + 2 * tile] = row as u8;
            bytes[48 + tile] = rows as u8;
        }
        Self(bytes)
    }
}

// SAFETY of every block below but the first: `new` has seen that the instructions may be used, and configured the tiles, since a value is at hand; the shapes fit
// one another as `Shapes` has them; memory as the caller promises.
impl Tiles for Amx {
    fn new(depth: usize) -> Self {
        assert!(is_granted() && (1..=16).contains(&depth));
        let configuration = Configuration::new(Shapes { depth });
        // SAFETY: the instruction may be used, as asserted; it reads these 64 bytes, a valid configuration.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) configuration.0.as_ptr(), options(readonly, nostack, preserves_flags));
        }
        Self { here: PhantomData }
    }

    #[inline(always)]
    fn zero<const T: usize>(&mut self) {
        // SAFETY: see above.
        unsafe { asm!("tilezero tmm{t}", t = const T, options(nomem, nostack, preserves_flags)) };
    }

    #[inline(always)]
    unsafe fn load<const T: usize>(&mut self, from: *const u8, step: usize) {
        // SAFETY: see above.
        unsafe {
            asm!(
                "tileloadd tmm{t}, [{from} + {step}*1]",
                t = const T, from = in(reg) from, step = in(reg) step,
                options(readonly, nostack, preserves_flags),
            );
        }
    }

    #[inline(always)]
    unsafe fn store<const T: usize>(&mut self, to: *mut u8, step: usize) {
        // SAFETY: see above.
        unsafe {
            asm!(
                "tilestored [{to} + {step}*1], tmm{t}",
                t = const T, to = in(reg) to, step = in(reg) step,
                options(nostack, preserves_flags),
            );
        }
    }

    #[inline(always)]
    fn multiply<const C: usize, const A: usize, const B: usize>(&mut self) {
        // SAFETY: see above.
        unsafe {
            asm!(
                "tdpbf16ps tmm{c}, tmm{a}, tmm{b}",
                c = const C, a = const A, b = const B,
                options(nomem, nostack, preserves_flags),
            );
        }
    }
}

impl Drop for Amx {
    fn drop(&mut self) {
        // SAFETY: the instruction may be used, since `new` gave a value. Other code on this thread finds no tiles in use, and the system has none to save.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_laid_out_as_the_manual_has_it() {
        let bytes = Configuration::new(Shapes { depth: 12 }).0;
        let (palette, rest) = (bytes[0], &bytes[1..16]);
        assert!(palette == 1 && rest.iter().all(|&b| b == 0));
        let widths: Vec<u16> = bytes[16..48].chunks(2).map(|w| u16::from_le_bytes([w[0], w[1]])).collect();
        assert_eq!(widths[..8], [64, 64, 64, 64, 48, 48, 64, 64]);
        assert_eq!(bytes[48..56], [16, 16, 16, 16, 16, 16, 12, 12]);
        assert!(widths[8..].iter().all(|&w| w == 0) && bytes[56..].iter().all(|&b| b == 0));
    }

    #[test]
    fn asking_twice_gives_the_same_answer() {
        assert_eq!(is_available(), is_available());
        assert!(is_granted() || !is_available());
    }
}
