//! Tiles: the operations that the direct convolution is written in, and their emulation.
//!
//! A tile is 16 rows of 64 bytes. A and B hold pairs of `bf16`, C holds sums: `C[m][n] += Σ_k A[m][k] · B[k][n]`, where a product of two pairs is
//! the sum of the products of their first and of their second values.

/// Rows of a tile.
pub(super) const ROWS: usize = 16;
/// Pairs or sums of a row of a tile.
pub(super) const COLUMNS: usize = 16;
/// Tiles that there are.
const COUNT: usize = 8;

/// Shapes of the eight tiles: 0 to 3 hold 16 × 16 sums, 4 and 5 an A of 16 × `depth` pairs, 6 and 7 a B of `depth` × 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shapes {
    pub(super) depth: usize,
}

impl Shapes {
    /// Rows, and bytes of a row.
    pub(super) fn of(self, tile: usize) -> (usize, usize) {
        match tile {
            0..=3 => (ROWS, 4 * COLUMNS),
            4 | 5 => (ROWS, 4 * self.depth),
            _ => (self.depth, 4 * COLUMNS),
        }
    }
}

/// The eight tiles of a thread, from their configuration to their release, which is when the value is dropped. A thread has one such value at a
/// time.
pub(super) trait Tiles: Sized {
    /// Configures the tiles, 1 ≤ `depth` ≤ 16. Their contents are zero.
    fn new(depth: usize) -> Self;

    /// Fills tile `T` with zeros.
    fn zero<const T: usize>(&mut self);

    /// Fills tile `T` with rows that start every `step` bytes from `from` on, which need not be aligned.
    ///
    /// # Safety
    /// All rows must be valid for reading.
    unsafe fn load<const T: usize>(&mut self, from: *const u8, step: usize);

    /// Writes the rows of tile `T` every `step` bytes from `to` on.
    ///
    /// # Safety
    /// All rows must be valid for writing.
    unsafe fn store<const T: usize>(&mut self, to: *mut u8, step: usize);

    /// Tile `C` += tile `A` · tile `B`.
    fn multiply<const C: usize, const A: usize, const B: usize>(&mut self);
}

/// What the instructions do, in plain Rust: for tests on any processor, and to hold a real processor's results against.
pub(super) struct Emulated {
    shapes: Shapes,
    rows: [[[u32; COLUMNS]; ROWS]; COUNT],
}

impl Tiles for Emulated {
    fn new(depth: usize) -> Self {
        assert!((1..=ROWS).contains(&depth));
        Self { shapes: Shapes { depth }, rows: [[[0; COLUMNS]; ROWS]; COUNT] }
    }

    fn zero<const T: usize>(&mut self) {
        self.rows[T] = [[0; COLUMNS]; ROWS];
    }

    unsafe fn load<const T: usize>(&mut self, from: *const u8, step: usize) {
        // What lies beyond the shape becomes zero.
        self.zero::<T>();
        let (rows, bytes) = self.shapes.of(T);
        for (r, row) in self.rows[T].iter_mut().take(rows).enumerate() {
            for (n, value) in row.iter_mut().take(bytes / 4).enumerate() {
                // SAFETY: in a row, as the caller promises; of any alignment.
                *value = unsafe { from.add(r * step + 4 * n).cast::<u32>().read_unaligned() };
            }
        }
    }

    unsafe fn store<const T: usize>(&mut self, to: *mut u8, step: usize) {
        let (rows, bytes) = self.shapes.of(T);
        for (r, row) in self.rows[T].iter().take(rows).enumerate() {
            for (n, &value) in row.iter().take(bytes / 4).enumerate() {
                // SAFETY: in a row, as the caller promises; of any alignment.
                unsafe { to.add(r * step + 4 * n).cast::<u32>().write_unaligned(value) };
            }
        }
    }

    /// `TDPBF16PS` as Intel's manual (volume 2) has it: first and second values of the pairs are summed apart, with fused multiply-adds, then both sums
    /// together, then onto the tile; each result is rounded to the nearest, of two to the even one; denormal operands and results are zero.
    fn multiply<const C: usize, const A: usize, const B: usize>(&mut self) {
        let ([(rows, bytes), a, b], depth) = ([C, A, B].map(|t| self.shapes.of(t)), self.shapes.depth);
        assert!(a == (rows, 4 * depth) && b == (depth, bytes), "shapes that do not fit");
        for m in 0..rows {
            let mut sums = [[0f32; 2]; COLUMNS];
            for k in 0..depth {
                let [a0, a1] = halves(self.rows[A][m][k]);
                for (sums, &b) in sums.iter_mut().zip(&self.rows[B][k]) {
                    let [b0, b1] = halves(b);
                    *sums = [multiply_add(a0, b0, sums[0]), multiply_add(a1, b1, sums[1])];
                }
            }
            for (c, [first, second]) in self.rows[C][m].iter_mut().zip(sums) {
                *c = normal(normal(f32::from_bits(*c)) + normal(first + second)).to_bits();
            }
        }
    }
}

/// The values of a pair: the first is in the lower half.
fn halves(pair: u32) -> [f32; 2] {
    [normal(f32::from_bits(pair << 16)), normal(f32::from_bits(pair & 0xffff_0000))]
}

/// Zero of the same sign for a denormal number.
fn normal(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

/// a·b + c, rounded once: the product of two `bf16` is exact in `f64`, and a sum of two numbers of 24 bits that was rounded to 53 bits is rounded to 24
/// as it would have been at once.
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    normal((f64::from(a) * f64::from(b) + f64::from(c)) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(first: f32, second: f32) -> u32 {
        first.to_bits() >> 16 | second.to_bits() & 0xffff_0000
    }

    fn product(a: &[u32], b: &[u32], c: f32) -> f32 {
        let depth = a.len();
        let mut tiles = Emulated::new(depth);
        let (mut rows, mut lines) = ([[0; COLUMNS]; ROWS], vec![[0; COLUMNS]; depth]);
        let mut sums = [[0f32; COLUMNS]; ROWS];
        rows[3][..depth].copy_from_slice(a);
        lines.iter_mut().zip(b).for_each(|(line, &b)| line[5] = b);
        sums[3][5] = c;
        // SAFETY: 16 rows of 64 bytes, but `depth` rows of B.
        unsafe {
            tiles.load::<1>(sums.as_ptr().cast(), 64);
            tiles.load::<4>(rows.as_ptr().cast(), 64);
            tiles.load::<6>(lines.as_ptr().cast(), 64);
            tiles.multiply::<1, 4, 6>();
            tiles.store::<1>(sums.as_mut_ptr().cast(), 64);
        }
        let found = std::mem::take(&mut sums[3][5]);
        assert!(sums.as_flattened().iter().all(|&v| v == 0.0), "another place was touched");
        found
    }

    #[test]
    fn pairs_are_multiplied_in_the_order_of_the_manual() {
        assert_eq!(product(&[pair(2.0, 3.0)], &[pair(5.0, -7.0)], 0.5), 10.0 - 21.0 + 0.5);
        // 2²⁴ + 1 is 2²⁴: ones are lost one by one where they follow it in its own sum, not in the other.
        let (large, one) = (16_777_216.0, 1.0);
        let ones = [pair(one, one); 3];
        assert_eq!(product(&ones, &[pair(large, one), pair(one, one), pair(one, one)], 0.0), large + 4.0);
        // A product is not rounded before it is added: (1 + 2⁻⁷)² = 1 + 2⁻⁶ + 2⁻¹⁴ beside −2¹⁰.
        let (near, far) = (1.0 + 1.0 / 128.0, 1024.0);
        let found = product(&[pair(-far, 0.0), pair(near, 0.0)], &[pair(one, 0.0), pair(near, 0.0)], 0.0);
        assert_eq!(found, near.mul_add(near, -far));
    }

    #[test]
    fn denormal_numbers_are_zero() {
        let (least, denormal) = (f32::MIN_POSITIVE, f32::from_bits(1 << 20));
        assert_eq!(product(&[pair(1.0, 0.0)], &[pair(least, 0.0)], 0.0), least);
        assert_eq!(product(&[pair(1.0, 0.0)], &[pair(denormal, 0.0)], 0.0), 0.0);
        assert_eq!(product(&[pair(0.5, 0.0)], &[pair(least, 0.0)], 0.0), 0.0);
        assert_eq!(product(&[pair(1.0, 0.0)], &[pair(0.0, 0.0)], denormal), 0.0);
    }

    #[test]
    fn what_lies_beyond_a_shape_is_not_read() {
        let mut tiles = Emulated::new(3);
        let many = [[pair(1.0, 1.0); COLUMNS]; ROWS];
        let mut sums = [[f32::NAN; COLUMNS]; ROWS];
        // SAFETY: 16 rows of 64 bytes.
        unsafe {
            tiles.load::<5>(many.as_ptr().cast(), 64);
            tiles.load::<7>(many.as_ptr().cast(), 64);
            tiles.multiply::<2, 5, 7>();
            tiles.store::<2>(sums.as_mut_ptr().cast(), 64);
        }
        assert_eq!(sums, [[6.0; COLUMNS]; ROWS]);
    }
}
