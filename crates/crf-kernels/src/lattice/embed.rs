//! Where pixels lie among the vertices of the lattice (Adams, Baek, Davis 2010, section 3.1), sixteen at a time.
//!
//! Features are mapped onto the hyperplane Σ = 0 of d + 1 dimensions. The nearest lattice point whose coordinates are
//! all multiples of d + 1, and the order of the differences to it, tell the simplex; the differences themselves are the
//! barycentric weights. Nothing here branches on a value, so the compiler turns each loop over lanes into vectors.

use super::table::Packing;
use crate::cpu::multiversion;

/// Pixels embedded together.
pub(super) const LANES: usize = 16;
/// Most features a pixel: the ranks of d coordinates, four bits each, fit into one word.
pub(crate) const MAX_DIMENSIONS: usize = 15;
const MAX_CORNERS: usize = MAX_DIMENSIONS + 1;

/// A weight of 1.
pub(super) const ONE: u16 = u16::MAX;

/// Sixteen pixels' simplices and weights.
pub(super) struct Block {
    /// The nearest point whose coordinates are multiples of d + 1, packed.
    pub(super) point: [[u64; LANES]; 2],
    /// Ranks of the differences to it, four bits each, the first coordinate's highest.
    pub(super) rank: [u64; LANES],
    /// Barycentric weights `[corner][lane]` as fractions of [`ONE`]; they sum to it.
    pub(super) weight: [[u16; LANES]; MAX_CORNERS],
    /// The largest coordinate on the hyperplane, NaN if any is.
    pub(super) reach: [f32; LANES],
}

impl Block {
    pub(super) fn new() -> Self {
        Self {
            point: [[0; LANES]; 2],
            rank: [0; LANES],
            weight: [[0; LANES]; MAX_CORNERS],
            reach: [0.0; LANES],
        }
    }
}

/// x rounded to the nearest whole number, ties to even, for |x| < 2^22: adding 1.5·2^23 leaves no bits for a fraction.
#[inline(always)]
fn round(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT) - SHIFT
}

multiversion! {
    /// Embeds `LANES` pixels with `d` features each, `[feature][lane]`. `scale` are the factors of the features.
    fn embed(features: &[[f32; LANES]], scale: &[f32], packing: Packing, out: &mut Block) {
        let d = features.len();
        let corners = d + 1;
        let (step, inverse) = (corners as f32, 1.0 / corners as f32);
        let zero = [0.0f32; LANES];
        let mut elevated = [zero; MAX_CORNERS];
        let mut sum = zero;
        let mut reach = zero;
        for i in (1..=d).rev() {
            let (s, factor) = (scale[i - 1], i as f32);
            for l in 0..LANES {
                let c = features[i - 1][l] * s;
                elevated[i][l] = sum[l] - factor * c;
                sum[l] += c;
            }
        }
        elevated[0] = sum;
        for e in &elevated[..corners] {
            for l in 0..LANES {
                let size = e[l].abs();
                // Not `max`, which would drop a NaN.
                reach[l] = if size <= reach[l] { reach[l] } else { size };
            }
        }
        out.reach = reach;
        let mut nearest = [[0i32; LANES]; MAX_CORNERS];
        let mut off = [zero; MAX_CORNERS];
        let mut excess = [0i32; LANES];
        for i in 0..corners {
            for l in 0..LANES {
                let q = round(elevated[i][l] * inverse);
                nearest[i][l] = q as i32;
                excess[l] = excess[l].wrapping_add(q as i32);
                off[i][l] = elevated[i][l] - q * step;
            }
        }
        let mut rank = [[0i32; LANES]; MAX_CORNERS];
        for i in 0..d {
            for j in i + 1..corners {
                for l in 0..LANES {
                    let less = i32::from(off[i][l] < off[j][l]);
                    rank[i][l] += less;
                    rank[j][l] += 1 - less;
                }
            }
        }
        // Back onto Σ = 0 by moving the coordinates that were rounded the most.
        let last = d as i32;
        for i in 0..corners {
            for l in 0..LANES {
                let moved = rank[i][l].wrapping_add(excess[l]);
                let turn = i32::from(moved < 0) - i32::from(moved > last);
                rank[i][l] = moved.wrapping_add(turn * (last + 1));
                nearest[i][l] = nearest[i][l].wrapping_add(turn);
                off[i][l] -= turn as f32 * step;
            }
        }
        // The differences by rank; corner c of the simplex then weighs v[d − c] − v[d − c + 1].
        let mut sorted = [zero; MAX_CORNERS];
        for (k, sorted) in sorted[..corners].iter_mut().enumerate() {
            for i in 0..corners {
                for l in 0..LANES {
                    sorted[l] += if rank[i][l] == k as i32 { off[i][l] * inverse } else { 0.0 };
                }
            }
        }
        let mut rest = [i32::from(ONE); LANES];
        for c in 1..corners {
            for l in 0..LANES {
                let share = sorted[d - c][l] - sorted[d - c + 1][l];
                let whole = (share * f32::from(ONE) + 0.5) as i32;
                let whole = whole.clamp(0, rest[l]);
                rest[l] -= whole;
                out.weight[c][l] = whole as u16;
            }
        }
        for (weight, rest) in out.weight[0].iter_mut().zip(rest) {
            *weight = rest as u16;
        }
        out.point = [[0; LANES]; 2];
        out.rank = [0; LANES];
        let (bits, bias) = (packing.bits, packing.bias());
        for i in 0..d {
            let word = usize::from(i >= packing.half);
            for l in 0..LANES {
                let coordinate = nearest[i][l].wrapping_mul(corners as i32).wrapping_add(bias);
                out.point[word][l] = out.point[word][l] << bits | u64::from(coordinate as u32);
                out.rank[l] = out.rank[l] << 4 | u64::from(rank[i][l] as u32 & 15);
            }
        }
    }
}
