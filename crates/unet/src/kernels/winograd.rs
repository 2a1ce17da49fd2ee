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

/// Asserts that all components of a row of tiles, written in whole vectors, lie in `values`.
#[inline(always)]
fn check(values: &[f32], stride: usize, tiles: usize) {
    assert!(values.len() >= (COMPONENTS - 1) * stride + tiles.next_multiple_of(LANES));
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

/// A column of Bᵀ d
#[inline(always)]
fn down<L: Lanes>([a, b, c, d]: [L; 4]) -> [L; 4] {
    [a.minus(c), b.plus(c), c.minus(b), b.minus(d)]
}

/// The same of an upsampled plane, whose third value is zero.
#[inline(always)]
fn down_upsampled<L: Lanes>([a, b, c]: [L; 3]) -> [L; 3] {
    [a.minus(b), b.plus(b), b.minus(c)]
}

/// A column of A y
#[inline(always)]
fn down_gradient<L: Lanes>([a, b]: [L; 2]) -> [L; 4] {
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

// Functions and spelt-out arrays where closures and the standard library's maps would be shorter: what the compiler does not inline of those has no AVX.

/// Bᵀ d of sixteen columns from `at` on, even and odd ones apart; zeros where the rows have none, which is looked at unless `WHOLE`.
///
/// # Safety
/// If `WHOLE`, the rows have these columns.
#[inline(always)]
unsafe fn columns<L: Lanes, const WHOLE: bool>(rows: &[&[f32]; 4], at: usize) -> [[L; 4]; 2] {
    // SAFETY: as the caller promises.
    unsafe {
        let [a, b] = pairs::<L, WHOLE>(rows[0], at);
        let [c, d] = pairs::<L, WHOLE>(rows[1], at);
        let [e, f] = pairs::<L, WHOLE>(rows[2], at);
        let [g, h] = pairs::<L, WHOLE>(rows[3], at);
        [down([a, c, e, g]), down([b, d, f, h])]
    }
}

/// Sixteen values from `at` on, as above.
///
/// # Safety
/// As above.
#[inline(always)]
unsafe fn pairs<L: Lanes, const WHOLE: bool>(row: &[f32], at: usize) -> [L; 2] {
    match WHOLE {
        // SAFETY: as the caller promises.
        true => unsafe { L::load_pairs(row.as_ptr().add(at)) },
        false => L::load_some_pairs(row.get(at..).unwrap_or_default()),
    }
}

/// Bᵀ d of eight columns of an upsampled plane from `at` on, with zeros where the rows have none.
#[inline(always)]
fn upsampled_columns<L: Lanes>(rows: &[&[f32]; 3], at: usize) -> [L; 3] {
    let a = L::load_some(rows[0].get(at..).unwrap_or_default());
    let b = L::load_some(rows[1].get(at..).unwrap_or_default());
    let c = L::load_some(rows[2].get(at..).unwrap_or_default());
    down_upsampled([a, b, c])
}

lanes! {
    /// Bᵀ d B for a row of tiles of a plane: `rows` are the row of pixels above the tiles, their two, and the one below; one that is outside the image is
    /// empty, and none is longer than the tiles.
    fn input_row<L, ROUND>(rows: [&[f32]; 4], tiles: usize, v: &mut [f32], stride: usize) {
        check(v, stride, tiles);
        let longest = rows[1].len();
        let whole = rows.iter().all(|row| row.len() == longest);
        for t in (0..tiles).step_by(LANES) {
            let at = 2 * t;
            let inside = at + 2 * LANES < longest;
            let [left, middle, right, beyond] = if whole && inside && t > 0 {
                // SAFETY: all rows have the columns from `at` − 1 to `at` + 16.
                let ([left, middle], [right, beyond]) =
                    unsafe { (columns::<L, true>(&rows, at - 1), columns::<L, true>(&rows, at + 1)) };
                [left, middle, right, beyond]
            } else {
                // SAFETY: what the rows have is looked at.
                let [middle, right] = unsafe { columns::<L, false>(&rows, at) };
                // Zero at the image's ends.
                let left = match t {
                    0 => [right[0].behind(), right[1].behind(), right[2].behind(), right[3].behind()],
                    // SAFETY: as above.
                    _ => unsafe { columns::<L, false>(&rows, at - 1)[0] },
                };
                let beyond = match inside {
                    // SAFETY: as above.
                    true => unsafe { columns::<L, false>(&rows, at + 1)[1] },
                    false => [middle[0].ahead(), middle[1].ahead(), middle[2].ahead(), middle[3].ahead()],
                };
                [left, middle, right, beyond]
            };
            // SAFETY: from `t` on eight values lie in every component, as checked.
            unsafe {
                let v = v.as_mut_ptr().add(t);
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
    /// Bᵀ d B for a row of tiles of an upsampled plane: `rows` of the small one, that of the tiles in the middle; one outside the image is empty.
    fn upsampled_row<L, ROUND>(rows: [&[f32]; 3], tiles: usize, v: &mut [f32], stride: usize) {
        check(v, stride, tiles);
        for t in (0..tiles).step_by(LANES) {
            let (middle, right) = (upsampled_columns::<L>(&rows, t), upsampled_columns::<L>(&rows, t + 1));
            let left = match t {
                0 => [middle[0].behind(), middle[1].behind(), middle[2].behind()],
                _ => upsampled_columns(&rows, t - 1),
            };
            for n in 0..3 {
                // SAFETY: from `t` on eight values lie in every component, as checked.
                unsafe {
                    // The third component of the four is the one that is zero.
                    let v = v.as_mut_ptr().add(t + 4 * (n + n / 2) * stride);
                    put::<L, ROUND>(left[n].minus(middle[n]), v);
                    put::<L, ROUND>(middle[n].plus(middle[n]), v.add(stride));
                    put::<L, ROUND>(middle[n].minus(right[n]), v.add(3 * stride));
                }
            }
        }
    }
}

lanes! {
    /// Aᵀ m A for a row of tiles: its two rows of pixels, of which the second may be empty. Pixels that they have no room for are dropped.
    fn output_row<L>(m: &[f32], stride: usize, tiles: usize, top: &mut [f32], bottom: &mut [f32]) {
        check(m, stride, tiles);
        for t in (0..tiles).step_by(LANES) {
            // SAFETY: eight values from `t` on lie in every component, as checked.
            let [above, below] = unsafe {
                let (m, step) = (m.as_ptr().add(t), 4 * stride);
                let mut columns = [[L::zero(); 2]; 4];
                for (j, column) in columns.iter_mut().enumerate() {
                    let m = m.add(j * stride);
                    *column =
                        two(L::load(m), L::load(m.add(step)), L::load(m.add(2 * step)), L::load(m.add(3 * step)));
                }
                let [a, b, c, d] = columns;
                [two(a[0], b[0], c[0], d[0]), two(a[1], b[1], c[1], d[1])]
            };
            L::store_some_pairs(above, top.get_mut(2 * t..).unwrap_or_default());
            L::store_some_pairs(below, bottom.get_mut(2 * t..).unwrap_or_default());
        }
    }
}

lanes! {
    /// Σ of the 2 × 2 pixels of Aᵀ m A for a row of tiles, one value a tile.
    fn sum_row<L>(m: &[f32], stride: usize, sums: &mut [f32]) {
        check(m, stride, sums.len());
        for (n, sums) in sums.chunks_mut(LANES).enumerate() {
            // SAFETY: eight values from 8 · `n` on lie in every component, as checked.
            unsafe {
                let m = m.as_ptr().add(n * LANES);
                let across = |i: usize| {
                    let m = m.add(4 * i * stride);
                    one(L::load(m), L::load(m.add(stride)), L::load(m.add(3 * stride)))
                };
                one(across(0), across(1), across(3)).store_some(sums);
            }
        }
    }
}

lanes! {
    /// A y′ Aᵀ for a row of tiles with the rows of pixels `rows`; one outside the image is empty.
    fn gradient_row<L, ROUND>(rows: [&[f32]; 2], tiles: usize, y: &mut [f32], stride: usize) {
        check(y, stride, tiles);
        let whole = rows[0].len().min(rows[1].len());
        for t in (0..tiles).step_by(LANES) {
            let at = 2 * t;
            let ([a, b], [c, d]) = if at + 2 * LANES <= whole {
                // SAFETY: both rows have sixteen values from `at` on.
                unsafe { (pairs::<L, true>(rows[0], at), pairs::<L, true>(rows[1], at)) }
            } else {
                // SAFETY: what the rows have is looked at.
                unsafe { (pairs::<L, false>(rows[0], at), pairs::<L, false>(rows[1], at)) }
            };
            let (even, odd) = (down_gradient([a, c]), down_gradient([b, d]));
            // SAFETY: from `t` on eight values lie in every component, as checked.
            unsafe {
                let y = y.as_mut_ptr().add(t);
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
