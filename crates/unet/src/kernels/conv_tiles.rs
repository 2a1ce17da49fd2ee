//! What the convolution's register tiles share, whatever the instructions.

use super::conv::TAPS;

/// Input channels that share one walk over the taps, few enough for their rows to stay in the first-level cache.
pub(super) const IN: usize = 8;

/// A pointer that the tasks of one parallel loop share; each writes its own part.
#[derive(Clone, Copy)]
pub(super) struct Shared(pub(super) *mut f32);
// SAFETY: the tasks of `forward` write disjoint ranges through it and none reads.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}
impl Shared {
    /// The pointer moved on by `offset` values.
    pub(super) fn at(&self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

/// `[O, I, 9]` → `[O / OUT][I / 8][9][8 (fewer in the last) inputs][OUT outputs]`, zero for outputs beyond the last.
pub(super) fn pack<const OUT: usize>(weight: &[f32], outputs: usize, inputs: usize) -> Vec<f32> {
    let mut packed = vec![0f32; outputs.div_ceil(OUT) * inputs * TAPS * OUT];
    for o in 0..outputs {
        let base = o / OUT * inputs * TAPS * OUT;
        for i in 0..inputs {
            let first = i / IN * IN;
            let count = (inputs - first).min(IN);
            for k in 0..TAPS {
                let at = base + (first * TAPS + k * count + i - first) * OUT + o % OUT;
                packed[at] = weight[(o * inputs + i) * TAPS + k];
            }
        }
    }
    packed
}
