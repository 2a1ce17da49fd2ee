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
//! The functions here transform some rows of tiles of one plane; component e of tile t, counted through these rows, is at `e · stride + t`. They write up to
//! [`WIDEST`] − 1 values too many after the last tile of a component. With `ROUND`, what is to be multiplied is rounded to `bf16`.

use super::lanes::{Lanes, WIDEST, lanes};
use std::ops::Range;

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

/// Asserts that all components of so many rows of tiles, written in whole vectors, lie in `values`.
#[inline(always)]
fn check(values: &[f32], stride: usize, rows: usize, tiles: usize) {
    assert!(
        rows > 0
            && values.len()
                >= (COMPONENTS - 1) * stride + (rows - 1) * tiles + tiles.next_multiple_of(WIDEST)
    );
}

/// `N` rows of a plane with rows of `w` values, from the one before `next` on; empty where there is none.
#[inline(always)]
fn rows_from<const N: usize>(plane: &[f32], w: usize, next: usize) -> [&[f32]; N] {
    let mut rows = [&[][..]; N];
    for (r, row) in rows.iter_mut().enumerate() {
        if next + r > 0 {
            *row = plane.get((next + r - 1) * w..(next + r) * w).unwrap_or_default();
        }
    }
    rows
}

/// Asks for some rows of a plane, as many as it has of them, so that they are there when its turn comes: what a processor asks for by itself comes too late
/// for rows as short as these.
#[inline(always)]
fn ask<L: Lanes>(plane: &[f32], w: usize, rows: Range<usize>) {
    let end = (rows.end * w).min(plane.len());
    for at in (rows.start * w..end).step_by(WIDEST) {
        L::ask(plane.as_ptr().wrapping_add(at));
    }
}

/// Writes the values, rounded to `bf16` if `ROUND`.
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

/// [`one`] of a row of components from `m` on.
///
/// # Safety
/// As many values as a vector has must be valid for reading in each of them.
#[inline(always)]
unsafe fn across<L: Lanes>(m: *const f32, stride: usize) -> L {
    // SAFETY: as the caller promises.
    unsafe { one(L::load(m), L::load(m.add(stride)), L::load(m.add(3 * stride))) }
}

// Functions and spelt-out arrays where closures and the standard library's maps would be shorter: what the compiler does not inline of those has no AVX.

/// Values of a row from `at` on at even and at odd places, with zeros for those it does not have.
#[inline(always)]
fn pairs<L: Lanes>(row: &[f32], at: usize) -> [L; 2] {
    match row.get(at..at + 2 * L::COUNT) {
        // SAFETY: two vectors.
        Some(all) => unsafe { L::load_pairs(all.as_ptr()) },
        None => L::load_some_pairs(row.get(at..).unwrap_or_default()),
    }
}

/// Bᵀ d of two vectors of columns from `at` on, even and odd ones apart; zeros where the rows have none.
#[inline(always)]
fn columns<L: Lanes>(rows: &[&[f32]; 4], at: usize) -> [[L; 4]; 2] {
    let [a, b] = pairs(rows[0], at);
    let [c, d] = pairs(rows[1], at);
    let [e, f] = pairs(rows[2], at);
    let [g, h] = pairs(rows[3], at);
    [down([a, c, e, g]), down([b, d, f, h])]
}

/// Bᵀ d of a vector of columns of an upsampled plane from `at` on, with zeros where the rows have none.
#[inline(always)]
fn upsampled_columns<L: Lanes>(rows: &[&[f32]; 3], at: usize) -> [L; 3] {
    let a = L::load_some(rows[0].get(at..).unwrap_or_default());
    let b = L::load_some(rows[1].get(at..).unwrap_or_default());
    let c = L::load_some(rows[2].get(at..).unwrap_or_default());
    down_upsampled([a, b, c])
}

lanes! {
    /// Bᵀ d B for rows of tiles of the first plane, whose rows have `w` values. The same rows of the second, the next to come, are asked for meanwhile.
    fn input_rows<L, ROUND>(planes: [&[f32]; 2], w: usize, rows: Range<usize>, v: &mut [f32], stride: usize) {
        let tiles = w.div_ceil(2);
        check(v, stride, rows.len(), tiles);
        for (n, row) in rows.enumerate() {
            let rows = rows_from::<4>(planes[0], w, 2 * row);
            ask::<L>(planes[1], w, if n == 0 { (2 * row).saturating_sub(1) } else { 2 * row + 1 }..2 * row + 3);
            let mut before = [L::zero(); 4];
            let [mut even, mut odd] = columns::<L>(&rows, 0);
            for t in (0..tiles).step_by(L::COUNT) {
                let next = match t + L::COUNT < tiles {
                    true => columns::<L>(&rows, 2 * (t + L::COUNT)),
                    false => [[L::zero(); 4]; 2],
                };
                // SAFETY: from here on a vector lies in every component, as checked.
                unsafe {
                    let v = v.as_mut_ptr().add(n * tiles + t);
                    for i in 0..4 {
                        let v = v.add(4 * i * stride);
                        let (left, beyond) = (odd[i].after(before[i]), even[i].before(next[0][i]));
                        put::<L, ROUND>(left.minus(odd[i]), v);
                        put::<L, ROUND>(even[i].plus(odd[i]), v.add(stride));
                        put::<L, ROUND>(odd[i].minus(even[i]), v.add(2 * stride));
                        put::<L, ROUND>(even[i].minus(beyond), v.add(3 * stride));
                    }
                }
                before = odd;
                [even, odd] = next;
            }
        }
    }
}

lanes! {
    /// The same of upsampled planes, from the small ones: every value is one tile, `w` are a row.
    fn upsampled_rows<L, ROUND>(planes: [&[f32]; 2], w: usize, rows: Range<usize>, v: &mut [f32], stride: usize) {
        check(v, stride, rows.len(), w);
        for (n, row) in rows.enumerate() {
            let rows = rows_from::<3>(planes[0], w, row);
            ask::<L>(planes[1], w, if n == 0 { row.saturating_sub(1) } else { row + 1 }..row + 2);
            let (mut before, mut middle) = ([L::zero(); 3], upsampled_columns::<L>(&rows, 0));
            for t in (0..w).step_by(L::COUNT) {
                let next = match t + L::COUNT < w {
                    true => upsampled_columns::<L>(&rows, t + L::COUNT),
                    false => [L::zero(); 3],
                };
                for i in 0..3 {
                    // SAFETY: from here on a vector lies in every component, as checked.
                    unsafe {
                        // The third component of the four is the one that is zero.
                        let v = v.as_mut_ptr().add(n * w + t + 4 * (i + i / 2) * stride);
                        let (left, right) = (middle[i].after(before[i]), middle[i].before(next[i]));
                        put::<L, ROUND>(left.minus(middle[i]), v);
                        put::<L, ROUND>(middle[i].plus(middle[i]), v.add(stride));
                        put::<L, ROUND>(middle[i].minus(right), v.add(3 * stride));
                    }
                }
                (before, middle) = (middle, next);
            }
        }
    }
}

lanes! {
    /// Aᵀ m A for rows of tiles, whose pixels `out` are: rows of `w` values, two for each row of tiles, or one less if the image ends.
    fn output_rows<L>(m: &[f32], stride: usize, w: usize, out: &mut [f32]) {
        let tiles = w.div_ceil(2);
        check(m, stride, out.len().div_ceil(2 * w), tiles);
        for (n, out) in out.chunks_mut(2 * w).enumerate() {
            let (top, bottom) = out.split_at_mut(w);
            for t in (0..tiles).step_by(L::COUNT) {
                // SAFETY: a vector lies in every component from here on, as checked.
                let [above, below] = unsafe {
                    let (m, step) = (m.as_ptr().add(n * tiles + t), 4 * stride);
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
}

lanes! {
    /// Σ of the 2 × 2 pixels of Aᵀ m A, one value a tile.
    fn sum_rows<L>(m: &[f32], stride: usize, sums: &mut [f32]) {
        check(m, stride, 1, sums.len());
        for (n, sums) in sums.chunks_mut(L::COUNT).enumerate() {
            // SAFETY: the vector lies in every component, as checked.
            unsafe {
                let (m, step) = (m.as_ptr().add(n * L::COUNT), 4 * stride);
                let (a, b, d) = (across(m, stride), across(m.add(step), stride), across(m.add(3 * step), stride));
                one::<L>(a, b, d).store_some(sums);
            }
        }
    }
}

lanes! {
    /// A y′ Aᵀ for rows of tiles, in the same way.
    fn gradient_rows<L, ROUND>(planes: [&[f32]; 2], w: usize, rows: Range<usize>, y: &mut [f32], stride: usize) {
        let tiles = w.div_ceil(2);
        check(y, stride, rows.len(), tiles);
        for (n, row) in rows.enumerate() {
            let [_, top, bottom] = rows_from::<3>(planes[0], w, 2 * row);
            ask::<L>(planes[1], w, 2 * row..2 * row + 2);
            for t in (0..tiles).step_by(L::COUNT) {
                let ([a, b], [c, d]) = (pairs::<L>(top, 2 * t), pairs::<L>(bottom, 2 * t));
                let (even, odd) = (down_gradient([a, c]), down_gradient([b, d]));
                // SAFETY: from here on a vector lies in every component, as checked.
                unsafe {
                    let y = y.as_mut_ptr().add(n * tiles + t);
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
}
