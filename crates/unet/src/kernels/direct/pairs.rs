//! Rows of `f32` as pairs of `bf16`, rounded to the nearest: the first of a pair is the lower half of 32 bits.

use super::super::lanes::{lanes, quiet_bf16};

/// A pair.
#[inline(always)]
pub(super) fn pair(first: f32, second: f32) -> u32 {
    quiet_bf16(first) >> 16 | quiet_bf16(second)
}

lanes! {
    /// The values of two rows, column by column.
    fn channel_pairs<L>(first: &[f32], second: &[f32], to: &mut [u32]) {
        assert!(first.len() == second.len() && first.len() == to.len());
        let whole = to.len() / L::COUNT * L::COUNT;
        for t in (0..whole).step_by(L::COUNT) {
            // SAFETY: a vector of each lies from `t` on.
            unsafe {
                let both = L::load(first.as_ptr().add(t)).pairs(L::load(second.as_ptr().add(t)));
                both.store(to.as_mut_ptr().add(t).cast());
            }
        }
        for ((to, &first), &second) in to.iter_mut().zip(first).zip(second).skip(whole) {
            *to = pair(first, second);
        }
    }
}

lanes! {
    /// The same with every column twice.
    fn channel_pairs_twice<L>(first: &[f32], second: &[f32], to: &mut [u32]) {
        assert!(first.len() == second.len() && 2 * first.len() == to.len());
        let whole = first.len() / L::COUNT * L::COUNT;
        for t in (0..whole).step_by(L::COUNT) {
            // SAFETY: a vector of both rows lies from `t` on, twice as many pairs from twice that.
            unsafe {
                let both = L::load(first.as_ptr().add(t)).pairs(L::load(second.as_ptr().add(t)));
                L::store_pairs([both, both], to.as_mut_ptr().add(2 * t).cast());
            }
        }
        let rest = to.as_chunks_mut::<2>().0.iter_mut().zip(first).zip(second).skip(whole);
        for ((to, &first), &second) in rest {
            *to = [pair(first, second); 2];
        }
    }
}

lanes! {
    /// The values of a row, each with its neighbour; zero after the last of an odd number.
    fn pixel_pairs<L>(row: &[f32], to: &mut [u32]) {
        assert!(to.len() == row.len().div_ceil(2));
        let whole = row.len() / (2 * L::COUNT) * L::COUNT;
        for t in (0..whole).step_by(L::COUNT) {
            // SAFETY: a vector of pairs lies from `t` on, twice as many values from twice that.
            unsafe {
                let [even, odd] = L::load_pairs(row.as_ptr().add(2 * t));
                even.pairs(odd).store(to.as_mut_ptr().add(t).cast());
            }
        }
        for (to, values) in to.iter_mut().zip(row.chunks(2)).skip(whole) {
            *to = pair(values[0], values.get(1).copied().unwrap_or(0.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CpuPath;
    use crate::kernels::lanes::to_bf16;

    #[test]
    fn every_path_rounds_to_the_same_pairs() {
        let mut row: Vec<f32> = (0..67).map(|n| (n as f32 - 30.0) * 1.003_7).collect();
        // A NaN whose bits are all in the half that is dropped must not become infinite.
        (row[3], row[20], row[66]) = (f32::from_bits(0x7f80_0001), f32::INFINITY, f32::NAN);
        let second: Vec<f32> = row.iter().rev().map(|v| 0.37 * v).collect();
        let expect = |found: u32, first: f32, second: f32| {
            for (half, x) in [(found << 16, first), (found & 0xffff_0000, second)] {
                let half = f32::from_bits(half);
                assert!(
                    half.to_bits() == to_bf16(x).to_bits() || (half.is_nan() && x.is_nan()),
                    "{x}: {half}"
                );
            }
        };
        for path in CpuPath::ALL.into_iter().filter(|path| path.is_available()) {
            for len in [1, 7, 8, 16, 31, 67] {
                let (a, b) = (&row[..len], &second[..len]);
                let mut pairs = vec![0; len];
                channel_pairs(path, a, b, &mut pairs);
                (0..len).for_each(|n| expect(pairs[n], a[n], b[n]));
                let mut twice = vec![0; 2 * len];
                channel_pairs_twice(path, a, b, &mut twice);
                (0..2 * len).for_each(|n| assert_eq!(twice[n], pairs[n / 2]));
                let mut neighbours = vec![0; len.div_ceil(2)];
                pixel_pairs(path, a, &mut neighbours);
                for (n, &found) in neighbours.iter().enumerate() {
                    expect(found, a[2 * n], a.get(2 * n + 1).copied().unwrap_or(0.0));
                }
            }
        }
    }
}
