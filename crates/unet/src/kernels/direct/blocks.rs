//! The two matrix products of the direct convolution, a block of tiles at a time.

use super::tiles::{COLUMNS, Emulated, ROWS, Tiles};

/// Values of a tile.
pub(super) const TILE: usize = ROWS * COLUMNS;
/// Taps of a row of a kernel.
pub(super) const ACROSS: usize = 3;
/// Sums of a block of [`gram`]: a tile for each tap.
pub(super) const GRAM: usize = ACROSS * ACROSS * TILE;
/// Bytes from a row of a tile to the next where they follow one another.
const STEP: usize = size_of::<u32>() * COLUMNS;

/// How the lines that a sum runs over are split: `steps` times `lines`, which may be a few more than there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Depth {
    /// Lines of a tile.
    pub(super) lines: usize,
    pub(super) steps: usize,
}

impl Depth {
    /// As few steps as possible, and no more lines than they need.
    pub(super) fn new(lines: usize) -> Self {
        let steps = lines.div_ceil(ROWS);
        Self { lines: lines.div_ceil(steps), steps }
    }

    /// Lines that are read.
    pub(super) fn total(self) -> usize {
        self.lines * self.steps
    }

    /// Pairs of the kernels of 16 rows: `[step][tap across][16 rows][16 lines]`.
    pub(super) fn block(self) -> usize {
        self.steps * ACROSS * TILE
    }
}

/// `out[place + r · out_pitch + t] = Σ_l Σ_k weight[k, l][r] · lines[start + l · pitch + k + t]` for 16 columns t from each of the starts on, and 16 or 32 rows r, as many
/// as there are weights for. Up to four starts with 16 rows, up to two with 32, so that all sums stay in tiles.
pub(super) fn product<T: Tiles>(
    tiles: &mut T,
    depth: Depth,
    weight: &[u32],
    (lines, pitch): (&[u32], usize),
    starts: &[usize],
    (out, out_pitch): (&mut [f32], usize),
    places: &[usize],
) {
    let (blocks, count) = (weight.len() / depth.block(), starts.len());
    assert!(weight.len() == blocks * depth.block() && places.len() == count);
    assert!(matches!((blocks, count), (1, 1..=4) | (2, 1..=2)));
    let last_line = (depth.total() - 1) * pitch + ACROSS - 1 + COLUMNS;
    assert!(starts.iter().all(|start| start + last_line <= lines.len()));
    let last_row = (blocks * ROWS - 1) * out_pitch + COLUMNS;
    assert!(places.iter().all(|place| place + last_row <= out.len()));
    let start: [usize; 4] = std::array::from_fn(|n| starts[n.min(count - 1)]);
    tiles.zero::<0>();
    tiles.zero::<1>();
    tiles.zero::<2>();
    tiles.zero::<3>();
    for step in 0..depth.steps {
        for tap in 0..ACROSS {
            // SAFETY: a tile of weights for each step and tap; lines up to the last one that is read, with what a tap adds, end in `lines`, as asserted.
            unsafe {
                let a = weight.as_ptr().add((step * ACROSS + tap) * TILE);
                let b = lines.as_ptr().add(step * depth.lines * pitch + tap);
                let b = |n: usize| b.add(start[n]).cast::<u8>();
                let pitch = size_of::<u32>() * pitch;
                tiles.load::<4>(a.cast(), STEP);
                tiles.load::<6>(b(0), pitch);
                tiles.multiply::<0, 4, 6>();
                if blocks == 2 {
                    tiles.load::<5>(a.add(depth.block()).cast(), STEP);
                    tiles.multiply::<2, 5, 6>();
                    if count > 1 {
                        tiles.load::<7>(b(1), pitch);
                        tiles.multiply::<1, 4, 7>();
                        tiles.multiply::<3, 5, 7>();
                    }
                    continue;
                }
                if count > 1 {
                    tiles.load::<7>(b(1), pitch);
                    tiles.multiply::<1, 4, 7>();
                }
                if count > 2 {
                    tiles.load::<6>(b(2), pitch);
                    tiles.multiply::<2, 4, 6>();
                }
                if count > 3 {
                    tiles.load::<7>(b(3), pitch);
                    tiles.multiply::<3, 4, 7>();
                }
            }
        }
    }
    // SAFETY: 16 rows from each place on, or from 16 rows below it, end in `out`, as asserted.
    unsafe {
        let out = out.as_mut_ptr();
        let below = if blocks == 2 { ROWS * out_pitch } else { 0 };
        let step = size_of::<f32>() * out_pitch;
        tiles.store::<0>(out.add(places[0]).cast(), step);
        if count > 1 {
            tiles.store::<1>(out.add(places[1]).cast(), step);
        }
        if blocks == 2 {
            tiles.store::<2>(out.add(places[0] + below).cast(), step);
            if count > 1 {
                tiles.store::<3>(out.add(places[1] + below).cast(), step);
            }
            return;
        }
        if count > 2 {
            tiles.store::<2>(out.add(places[2]).cast(), step);
        }
        if count > 3 {
            tiles.store::<3>(out.add(places[3]).cast(), step);
        }
    }
}

/// Where the pixels are that [`gram`] sums over, in pairs of neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pixels {
    /// Pairs from a row of pixels to the next.
    pub(super) pitch: usize,
    /// Pairs of a segment, whole rows and what rounds them up to a multiple of 16.
    pub(super) pairs: usize,
    /// Segments.
    pub(super) segments: usize,
}

impl Pixels {
    /// Pairs of a segment of the input: two rows more, and what the last tap reads too much.
    pub(super) fn input_pairs(self) -> usize {
        self.pairs + 2 * self.pitch + 2
    }

    /// Pairs of a channel of the input.
    pub(super) fn channel(self) -> usize {
        self.segments * self.input_pairs()
    }

    /// Pairs of 16 channels of the gradient: `[segment][pair][16 channels]`.
    pub(super) fn gradient(self) -> usize {
        self.segments * self.pairs * COLUMNS
    }
}

/// `sums[3 a + b][i][o] += Σ_p g[p][o] · x[i][p + a rows of pixels + b + 1 pixels]` over all pixels p of all segments, for 16 channels i of the input and 16 channels o of
/// the gradient.
pub(super) fn gram<T: Tiles>(tiles: &mut T, pixels: Pixels, x: &[u32], g: &[u32], sums: &mut [f32]) {
    let Pixels { pitch, pairs, segments } = pixels;
    assert!(pairs.is_multiple_of(ROWS) && sums.len() == GRAM);
    assert!(x.len() == ROWS * pixels.channel() && g.len() == pixels.gradient());
    for (down, sums) in sums.chunks_exact_mut(ACROSS * TILE).enumerate() {
        // SAFETY: three tiles of sums, before the loops and after them. Of `g`, a tile each 16 pairs. Of `x`, 16 pairs from a pair on and up to three values after it, two rows below: what
        // `input_pairs` counts, in each of the 16 channels.
        unsafe {
            let sums = sums.as_mut_ptr();
            tiles.load::<0>(sums.cast(), STEP);
            tiles.load::<1>(sums.add(TILE).cast(), STEP);
            tiles.load::<2>(sums.add(2 * TILE).cast(), STEP);
            let step = size_of::<u32>() * pixels.channel();
            for segment in 0..segments {
                let x = x.as_ptr().add(segment * pixels.input_pairs() + down * pitch);
                let g = g.as_ptr().add(segment * pairs * COLUMNS);
                for pair in (0..pairs).step_by(ROWS) {
                    let values = x.add(pair).cast::<u16>();
                    tiles.load::<6>(g.add(pair * COLUMNS).cast(), STEP);
                    tiles.load::<3>(values.add(1).cast(), step);
                    tiles.multiply::<0, 3, 6>();
                    tiles.load::<4>(values.add(2).cast(), step);
                    tiles.multiply::<1, 4, 6>();
                    tiles.load::<5>(values.add(3).cast(), step);
                    tiles.multiply::<2, 5, 6>();
                }
            }
            tiles.store::<0>(sums.cast(), STEP);
            tiles.store::<1>(sums.add(TILE).cast(), STEP);
            tiles.store::<2>(sums.add(2 * TILE).cast(), STEP);
        }
    }
}

/// Whether both products give with the tiles `T` what they give with emulated ones, on small integers, whose sums are exact in every order.
pub(super) fn is_right<T: Tiles>() -> bool {
    // A product for each number of rows and columns, with tiles that are full and with some that are not.
    let products = |blocks: usize, columns: usize, lines: usize| {
        let (depth, pitch) = (Depth::new(lines), 70);
        let weight = small_integers(blocks * depth.block(), 1);
        let values = small_integers((depth.total() + 1) * pitch, 2);
        let starts: Vec<usize> = (0..columns).map(|n| 16 * n % 48 + n / 3 * pitch).collect();
        let places: Vec<usize> = (0..columns).map(|n| 16 * n).collect();
        same(blocks * ROWS * 70, |real, out| {
            let operands = (&values[..], pitch);
            match real {
                true => {
                    product(&mut T::new(depth.lines), depth, &weight, operands, &starts, (out, 70), &places)
                }
                false => {
                    let mut tiles = Emulated::new(depth.lines);
                    product(&mut tiles, depth, &weight, operands, &starts, (out, 70), &places);
                }
            }
        })
    };
    let pixels = Pixels { pitch: 5, pairs: 32, segments: 2 };
    let (x, g) = (small_integers(ROWS * pixels.channel(), 3), small_integers(pixels.gradient(), 4));
    [(1, 1, 6), (1, 3, 24), (1, 4, 48), (2, 1, 16), (2, 2, 72)].into_iter().all(|(b, n, l)| products(b, n, l))
        && same(GRAM, |real, sums| match real {
            true => gram(&mut T::new(ROWS), pixels, &x, &g, sums),
            false => gram(&mut Emulated::new(ROWS), pixels, &x, &g, sums),
        })
}

/// Whether `f` writes the same bits for `true` and for `false`.
fn same(len: usize, f: impl Fn(bool, &mut [f32])) -> bool {
    let [found, expected] = [true, false].map(|real| {
        let mut values = vec![0.5; len];
        f(real, &mut values);
        values
    });
    found.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Pairs of integers from −4 to 4.
fn small_integers(count: usize, seed: u32) -> Vec<u32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 16) % 9) as f32 - 4.0
    };
    (0..count).map(|_| super::pairs::pair(next(), next())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Emulated tiles, but one that multiplies wrongly in one place.
    struct Broken(Emulated);

    impl Tiles for Broken {
        fn new(depth: usize) -> Self {
            Self(Emulated::new(depth))
        }
        fn zero<const T: usize>(&mut self) {
            self.0.zero::<T>();
        }
        unsafe fn load<const T: usize>(&mut self, from: *const u8, step: usize) {
            // SAFETY: as the caller promises.
            unsafe { self.0.load::<T>(from, step) };
        }
        unsafe fn store<const T: usize>(&mut self, to: *mut u8, step: usize) {
            // SAFETY: as the caller promises.
            unsafe { self.0.store::<T>(to, step) };
        }
        fn multiply<const C: usize, const A: usize, const B: usize>(&mut self) {
            if (C, A) != (3, 5) {
                self.0.multiply::<C, A, B>();
            }
        }
    }

    #[test]
    fn the_check_of_a_processor_finds_one_wrong_instruction() {
        assert!(is_right::<Emulated>());
        assert!(!is_right::<Broken>());
    }

    #[test]
    fn steps_are_few_and_even() {
        for (lines, expected) in [(3, (3, 1)), (6, (6, 1)), (24, (12, 2)), (48, (16, 3)), (72, (15, 5))] {
            let depth = Depth::new(lines);
            assert_eq!((depth.lines, depth.steps), expected);
            assert!(depth.total() >= lines);
        }
    }
}
