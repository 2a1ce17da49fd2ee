//! Winograd's minimal filtering F(2 × 2, 3 × 3) (Lavin and Gray, CVPR 2016): 16 products where the definition takes 36.
//!
//! A *tile* is 2 × 2 pixels of the result at even rows and columns. With d the 4 × 4 pixels that it sees and g a kernel,
//!
//! y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A, ∂y/∂g: Gᵀ[(Bᵀ d B) ⊙ (A y′ Aᵀ)]G,
//!
//! ```text
//!      ⎡1  0 −1  0⎤        ⎡ 1   0   0⎤
//! Bᵀ = ⎢0  1  1  0⎥    G = ⎢ ½   ½   ½⎥    Aᵀ = ⎡1  1  1  0⎤
//!      ⎢0 −1  1  0⎥        ⎢ ½  −½   ½⎥         ⎣0  1 −1 −1⎦
//!      ⎣0  1  0 −1⎦        ⎣ 0   0   1⎦
//! ```
//!
//! All channels of a tile meet in one matrix product for each of the 16 *components*. A plane that was upsampled by 2
//! has rows a, b, b, c under a tile, so Bᵀd = (a − b, 2b, **0**, b − c): of its components only the 9 in [`UPSAMPLED`] are not
//! zero, and they come straight from the small plane. The same 9 give the sum over a tile, which is what the gradient of such a plane takes.
//!
//! The functions here transform one row of tiles of one plane; component e of tile t is at `e · stride + t`. They write up to
//! [`LANES`] − 1 values too many after the last tile of a component. With `ROUND`, what is to be multiplied is rounded to `bf16`.

use super::lanes::{LANES, Lanes, lanes};

/// Components of a tile.
pub(super) const COMPONENTS: usize = 16;

/// Whether a component of an upsampled plane can be other than zero.
pub(super) const UPSAMPLED: [bool; COMPONENTS] = {
    let mut some = [false; COMPONENTS];
    let mut e = 0;
    while e < COMPONENTS {
        some[e] = e / 4 != 2 && e % 4 != 2;
        e += 1;
    }
    some
};

/// Values of a line of scratch: what a tile more to the right reads, and whole vectors.
fn line(tiles: usize) -> usize {
    tiles.next_multiple_of(LANES) + 2 * LANES
}

/// Values of the scratch of a row of tiles.
pub(super) fn scratch_len(tiles: usize) -> usize {
    8 * line(tiles)
}

/// Asserts that all components of a row of tiles, written in whole vectors, lie in `values`.
#[inline(always)]
fn check(values: &[f32], stride: usize, tiles: usize) {
    assert!(values.len() >= (COMPONENTS - 1) * stride + tiles.next_multiple_of(LANES));
}

/// The values at even and at odd places of sixteen.
///
/// # Safety
/// Eight values must be valid for writing from each of the pointers on.
#[inline(always)]
unsafe fn split_some<L: Lanes>(pairs: &[f32; 2 * LANES], even: *mut f32, odd: *mut f32) {
    // SAFETY: as the caller promises.
    unsafe {
        let [e, o] = L::load_pairs(pairs.as_ptr());
        e.store(even);
        o.store(odd);
    }
}

/// Values at even and at odd columns of a row of at most 2 · `tiles` values, with zeros from where it ends to a tile after the last. A row that is outside the
/// image is empty. Both results have a [`line()`]'s room but for one value.
#[inline(always)]
fn split<L: Lanes>(row: &[f32], tiles: usize, even: &mut [f32], odd: &mut [f32]) {
    assert!(row.len() <= 2 * tiles && even.len() >= line(tiles) - 1 && odd.len() >= line(tiles) - 1);
    let (whole, rest) = row.as_chunks::<{ 2 * LANES }>();
    let mut at = 0;
    for pairs in whole {
        // SAFETY: sixteen values; `at` is at most `tiles`, rounded down to whole vectors, after which there is room for one more.
        unsafe { split_some::<L>(pairs, even.as_mut_ptr().add(at), odd.as_mut_ptr().add(at)) };
        at += LANES;
    }
    // Fewer than a vector: a deep level's whole row, so without the detour of a copy.
    for pair in rest.chunks(2) {
        (even[at], odd[at]) = (pair[0], pair.get(1).copied().unwrap_or(0.0));
        at += 1;
    }
    for t in at..=tiles {
        (even[t], odd[t]) = (0.0, 0.0);
    }
}

/// Writes eight values, rounded to `bf16` if `ROUND`.
///
/// # Safety
/// They must be valid for writing.
#[inline(always)]
unsafe fn put<L: Lanes, const ROUND: bool>(value: L, to: *mut f32) {
    // SAFETY: as the caller promises.
    unsafe { if ROUND { value.rounded() } else { value }.store(to) };
}

/// A column of Bᵀ d, the rows of d being at `rows`, `at` further on.
///
/// # Safety
/// Eight values of each of the four must be valid for reading.
#[inline(always)]
unsafe fn down<L: Lanes>([a, b, c, d]: [*const f32; 4], at: usize) -> [L; 4] {
    // SAFETY: as the caller promises.
    let [a, b, c, d] =
        unsafe { [L::load(a.add(at)), L::load(b.add(at)), L::load(c.add(at)), L::load(d.add(at))] };
    [a.minus(c), b.plus(c), c.minus(b), b.minus(d)]
}

/// The same of an upsampled plane, whose third value is zero, for its three rows.
///
/// # Safety
/// Eight values of each of the three must be valid for reading.
#[inline(always)]
unsafe fn down_upsampled<L: Lanes>(d: *const f32, step: usize) -> [L; 3] {
    // SAFETY: as the caller promises.
    let [a, b, c] = unsafe { [L::load(d), L::load(d.add(step)), L::load(d.add(2 * step))] };
    [a.minus(b), b.plus(b), b.minus(c)]
}

/// A column of A y.
///
/// # Safety
/// Eight values of both rows, `step` apart, must be valid for reading.
#[inline(always)]
unsafe fn down_gradient<L: Lanes>(y: *const f32, step: usize) -> [L; 4] {
    // SAFETY: as the caller promises.
    let [a, b] = unsafe { [L::load(y), L::load(y.add(step))] };
    [a, a.plus(b), a.minus(b), b.negative()]
}

/// Aᵀ m
#[inline(always)]
fn two<L: Lanes>(a: L, b: L, c: L, d: L) -> [L; 2] {
    [a.plus(b).plus(c), b.minus(c).minus(d)]
}

/// The sum of [`two`].
#[inline(always)]
fn one<L: Lanes>(a: L, b: L, d: L) -> L {
    a.plus(b.plus(b)).minus(d)
}

lanes! {
    /// Bᵀ d B for the row of tiles `index` of a plane: `rows` are the row of pixels above the tiles, their two, and the one below. If the last call
    /// was for the row of tiles above in the same plane, with the same scratch, `follows` spares half of the work.
    fn input_row<L, ROUND>(
        rows: [&[f32]; 4],
        index: usize,
        follows: bool,
        tiles: usize,
        scratch: &mut [f32],
        v: &mut [f32],
        stride: usize,
    ) {
        let len = line(tiles);
        let scratch = &mut scratch[..8 * len];
        check(v, stride, tiles);
        // Rows of pixels take turns in four places: the lower two of a row of tiles are the upper two of the next.
        let places = if index.is_multiple_of(2) { [0, 1, 2, 3] } else { [2, 3, 0, 1] };
        for n in if follows { 2..4 } else { 0..4 } {
            let (even, odd) = scratch[2 * places[n] * len..2 * (places[n] + 1) * len].split_at_mut(len);
            // One to the right: the first tile sees column −1.
            odd[0] = 0.0;
            split::<L>(rows[n], tiles, even, &mut odd[1..]);
        }
        let start = scratch.as_ptr();
        for t in (0..tiles).step_by(LANES) {
            // SAFETY: eight values from `t + 1` on lie in every line of the scratch, which has 8 of them; from `t` on in every component, as checked.
            unsafe {
                let at = |place: usize| start.add(2 * place * len + t);
                let rows = [at(places[0]), at(places[1]), at(places[2]), at(places[3])];
                let v = v.as_mut_ptr().add(t);
                let (left, right) = (down::<L>(rows, len), down::<L>(rows, len + 1));
                let (middle, beyond) = (down::<L>(rows, 0), down::<L>(rows, 1));
                for i in 0..4 {
                    let v = v.add(4 * i * stride);
                    put::<L, ROUND>(left[i].minus(right[i]), v);
                    put::<L, ROUND>(middle[i].plus(right[i]), v.add(stride));
                    put::<L, ROUND>(right[i].minus(middle[i]), v.add(2 * stride));
                    put::<L, ROUND>(middle[i].minus(beyond[i]), v.add(3 * stride));
                }
            }
        }
    }
}

lanes! {
    /// Bᵀ d B for a row of tiles of an upsampled plane: `rows` of the small one, that of the tiles in the middle.
    fn upsampled_row<L, ROUND>(rows: [&[f32]; 3], tiles: usize, scratch: &mut [f32], v: &mut [f32], stride: usize) {
        let len = line(tiles);
        let scratch = &mut scratch[..3 * len];
        check(v, stride, tiles);
        for (row, line) in rows.iter().zip(scratch.chunks_exact_mut(len)) {
            line[0] = 0.0;
            if row.is_empty() {
                line[1..=tiles].fill(0.0);
            } else {
                line[1..=tiles].copy_from_slice(row);
            }
            line[tiles + 1] = 0.0;
        }
        for t in (0..tiles).step_by(LANES) {
            // SAFETY: eight values from `t + 2` on lie in every line of the scratch, which has 3 of them; from `t` on in every component, as checked.
            unsafe {
                let (d, v) = (scratch.as_ptr().add(t), v.as_mut_ptr().add(t));
                let left = down_upsampled::<L>(d, len);
                let middle = down_upsampled::<L>(d.add(1), len);
                let right = down_upsampled::<L>(d.add(2), len);
                for n in 0..3 {
                    // The third component of the four is the one that is zero.
                    let v = v.add(4 * (n + n / 2) * stride);
                    put::<L, ROUND>(left[n].minus(middle[n]), v);
                    put::<L, ROUND>(middle[n].plus(middle[n]), v.add(stride));
                    put::<L, ROUND>(middle[n].minus(right[n]), v.add(3 * stride));
                }
            }
        }
    }
}

lanes! {
    /// Aᵀ m A for a row of tiles: its two rows of pixels, in whole vectors.
    fn output_row<L>(m: &[f32], stride: usize, tiles: usize, top: &mut [f32], bottom: &mut [f32]) {
        check(m, stride, tiles);
        let pixels = 2 * tiles.next_multiple_of(LANES);
        assert!(top.len() >= pixels && bottom.len() >= pixels);
        for t in (0..tiles).step_by(LANES) {
            // SAFETY: eight values from `t` on lie in every component, as checked; sixteen from 2 · `t` on in both rows, as asserted.
            unsafe {
                let m = m.as_ptr().add(t);
                let column = |j: usize| {
                    let m = m.add(j * stride);
                    let step = 4 * stride;
                    two(L::load(m), L::load(m.add(step)), L::load(m.add(2 * step)), L::load(m.add(3 * step)))
                };
                let [a, b, c, d] = [column(0), column(1), column(2), column(3)];
                L::store_pairs(two(a[0], b[0], c[0], d[0]), top.as_mut_ptr().add(2 * t));
                L::store_pairs(two(a[1], b[1], c[1], d[1]), bottom.as_mut_ptr().add(2 * t));
            }
        }
    }
}

lanes! {
    /// Σ of the 2 × 2 pixels of Aᵀ m A for a row of tiles, in whole vectors.
    fn sum_row<L>(m: &[f32], stride: usize, tiles: usize, sums: &mut [f32]) {
        check(m, stride, tiles);
        assert!(sums.len() >= tiles.next_multiple_of(LANES));
        for t in (0..tiles).step_by(LANES) {
            // SAFETY: eight values from `t` on lie in every component, as checked, and in the sums, as asserted.
            unsafe {
                let m = m.as_ptr().add(t);
                let across = |i: usize| {
                    let m = m.add(4 * i * stride);
                    one(L::load(m), L::load(m.add(stride)), L::load(m.add(3 * stride)))
                };
                one(across(0), across(1), across(3)).store(sums.as_mut_ptr().add(t));
            }
        }
    }
}

lanes! {
    /// A y′ Aᵀ for a row of tiles with the rows of pixels `rows`.
    fn gradient_row<L, ROUND>(rows: [&[f32]; 2], tiles: usize, scratch: &mut [f32], y: &mut [f32], stride: usize) {
        let len = line(tiles);
        let scratch = &mut scratch[..4 * len];
        check(y, stride, tiles);
        for (row, lines) in rows.iter().zip(scratch.chunks_exact_mut(2 * len)) {
            let (even, odd) = lines.split_at_mut(len);
            split::<L>(row, tiles, even, odd);
        }
        for t in (0..tiles).step_by(LANES) {
            // SAFETY: eight values from `t` on lie in every line of the scratch, which has 4 of them, and in every component, as checked.
            unsafe {
                let (even, y) = (scratch.as_ptr().add(t), y.as_mut_ptr().add(t));
                let odd = down_gradient::<L>(even.add(len), 2 * len);
                let even = down_gradient::<L>(even, 2 * len);
                for i in 0..4 {
                    let y = y.add(4 * i * stride);
                    put::<L, ROUND>(even[i], y);
                    put::<L, ROUND>(even[i].plus(odd[i]), y.add(stride));
                    put::<L, ROUND>(even[i].minus(odd[i]), y.add(2 * stride));
                    put::<L, ROUND>(odd[i].negative(), y.add(3 * stride));
                }
            }
        }
    }
}
