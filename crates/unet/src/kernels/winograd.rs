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
//! [`LANES`] − 1 values too many after the last tile of a component.

use super::simd::multiversion;

/// Components of a tile.
pub(super) const COMPONENTS: usize = 16;

/// Tiles handled at once, and the granule of all lengths.
pub(super) const LANES: usize = 8;

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

type Lanes = [f32; LANES];

// No closure and no `map` below: those are functions of their own, compiled without the instructions of the path.

#[inline(always)]
fn load(x: &[f32], at: usize) -> Lanes {
    let mut lanes = [0.0; LANES];
    lanes.copy_from_slice(&x[at..at + LANES]);
    lanes
}

#[inline(always)]
fn store(lanes: Lanes, out: &mut [f32], at: usize) {
    out[at..at + LANES].copy_from_slice(&lanes);
}

#[inline(always)]
fn add(a: Lanes, b: Lanes) -> Lanes {
    let mut sum = [0.0; LANES];
    for l in 0..LANES {
        sum[l] = a[l] + b[l];
    }
    sum
}

#[inline(always)]
fn sub(a: Lanes, b: Lanes) -> Lanes {
    let mut difference = [0.0; LANES];
    for l in 0..LANES {
        difference[l] = a[l] - b[l];
    }
    difference
}

#[inline(always)]
fn twice(a: Lanes) -> Lanes {
    add(a, a)
}

#[inline(always)]
fn negative(a: Lanes) -> Lanes {
    let mut negative = [0.0; LANES];
    for l in 0..LANES {
        negative[l] = -a[l];
    }
    negative
}

/// A column of Bᵀ d for rows `r` · `step` of d.
#[inline(always)]
fn down(d: &[f32], at: usize, step: usize) -> [Lanes; 4] {
    let (a, b, c, d) = (load(d, at), load(d, at + step), load(d, at + 2 * step), load(d, at + 3 * step));
    [sub(a, c), add(b, c), sub(c, b), sub(b, d)]
}

/// The same of an upsampled plane, whose third value is zero, for its three rows.
#[inline(always)]
fn down_upsampled(d: &[f32], at: usize, step: usize) -> [Lanes; 3] {
    let (a, b, c) = (load(d, at), load(d, at + step), load(d, at + 2 * step));
    [sub(a, b), twice(b), sub(b, c)]
}

/// A column of A y.
#[inline(always)]
fn down_gradient(y: &[f32], at: usize, step: usize) -> [Lanes; 4] {
    let (a, b) = (load(y, at), load(y, at + step));
    [a, add(a, b), sub(a, b), negative(b)]
}

/// Aᵀ m
#[inline(always)]
fn two(a: Lanes, b: Lanes, c: Lanes, d: Lanes) -> [Lanes; 2] {
    [add(add(a, b), c), sub(sub(b, c), d)]
}

/// The sum of [`two`].
#[inline(always)]
fn one(a: Lanes, b: Lanes, d: Lanes) -> Lanes {
    sub(add(a, twice(b)), d)
}

/// A row of pixels from its even and odd columns.
#[inline(always)]
fn zip([even, odd]: [Lanes; 2], out: &mut [f32], at: usize) {
    let mut both = [0.0; 2 * LANES];
    for l in 0..LANES {
        both[2 * l] = even[l];
        both[2 * l + 1] = odd[l];
    }
    out[at..at + 2 * LANES].copy_from_slice(&both);
}

/// Values of the scratch of a row of tiles.
pub(super) fn scratch_len(tiles: usize) -> usize {
    8 * line(tiles)
}

/// Values of a line of scratch: what a tile more to the right reads, and whole vectors.
fn line(tiles: usize) -> usize {
    tiles.next_multiple_of(LANES) + 2 * LANES
}

/// Values at even and at odd columns; zeros where the row ends. A row that is outside the image is empty.
#[inline(always)]
fn split(row: &[f32], tiles: usize, even: &mut [f32], odd: &mut [f32]) {
    if row.is_empty() {
        even[..=tiles].fill(0.0);
        odd[..=tiles].fill(0.0);
        return;
    }
    let mut wide = row.chunks_exact(2 * LANES);
    let mut at = 0;
    for pairs in &mut wide {
        let (mut e, mut o) = ([0.0; LANES], [0.0; LANES]);
        for l in 0..LANES {
            e[l] = pairs[2 * l];
            o[l] = pairs[2 * l + 1];
        }
        store(e, even, at);
        store(o, odd, at);
        at += LANES;
    }
    for pair in wide.remainder().chunks(2) {
        even[at] = pair[0];
        odd[at] = pair.get(1).copied().unwrap_or(0.0);
        at += 1;
    }
    even[at] = 0.0;
    odd[at] = 0.0;
}

multiversion! {
    /// Bᵀ d B for a row of tiles: `rows` are the row above the tiles, their two, and the one below.
    fn input_row(rows: [&[f32]; 4], tiles: usize, scratch: &mut [f32], v: &mut [f32], stride: usize) {
        let len = line(tiles);
        for (row, lines) in rows.iter().zip(scratch.chunks_exact_mut(2 * len)) {
            let (even, odd) = lines.split_at_mut(len);
            // One to the right: the first tile sees column −1.
            odd[0] = 0.0;
            split(row, tiles, even, &mut odd[1..]);
        }
        let scratch = &scratch[..8 * len];
        for t in (0..tiles).step_by(LANES) {
            let (left, right) = (down(scratch, t + len, 2 * len), down(scratch, t + len + 1, 2 * len));
            let (middle, beyond) = (down(scratch, t, 2 * len), down(scratch, t + 1, 2 * len));
            for i in 0..4 {
                let v = &mut v[4 * i * stride + t..];
                store(sub(left[i], right[i]), v, 0);
                store(add(middle[i], right[i]), v, stride);
                store(sub(right[i], middle[i]), v, 2 * stride);
                store(sub(middle[i], beyond[i]), v, 3 * stride);
            }
        }
    }
}

multiversion! {
    /// Bᵀ d B for a row of tiles of an upsampled plane: `rows` of the small one, that of the tiles in the middle.
    fn upsampled_row(rows: [&[f32]; 3], tiles: usize, scratch: &mut [f32], v: &mut [f32], stride: usize) {
        let len = line(tiles);
        for (row, line) in rows.iter().zip(scratch.chunks_exact_mut(len)) {
            line[0] = 0.0;
            if row.is_empty() {
                line[1..=tiles].fill(0.0);
            } else {
                line[1..=tiles].copy_from_slice(row);
            }
            line[tiles + 1] = 0.0;
        }
        let scratch = &scratch[..3 * len];
        for t in (0..tiles).step_by(LANES) {
            let left = down_upsampled(scratch, t, len);
            let middle = down_upsampled(scratch, t + 1, len);
            let right = down_upsampled(scratch, t + 2, len);
            for n in 0..3 {
                // The third component of the four is the one that is zero.
                let v = &mut v[4 * (n + n / 2) * stride + t..];
                store(sub(left[n], middle[n]), v, 0);
                store(twice(middle[n]), v, stride);
                store(sub(middle[n], right[n]), v, 3 * stride);
            }
        }
    }
}

multiversion! {
    /// Aᵀ m A for a row of tiles: its two rows of pixels.
    fn output_row(m: &[f32], stride: usize, tiles: usize, top: &mut [f32], bottom: &mut [f32]) {
        for t in (0..tiles).step_by(LANES) {
            let (mut first, mut second) = ([[0.0; LANES]; 4], [[0.0; LANES]; 4]);
            for j in 0..4 {
                let at = j * stride + t;
                let (a, b) = (load(m, at), load(m, at + 4 * stride));
                let (c, d) = (load(m, at + 8 * stride), load(m, at + 12 * stride));
                [first[j], second[j]] = two(a, b, c, d);
            }
            zip(two(first[0], first[1], first[2], first[3]), top, 2 * t);
            zip(two(second[0], second[1], second[2], second[3]), bottom, 2 * t);
        }
    }
}

multiversion! {
    /// Σ of the 2 × 2 pixels of Aᵀ m A for a row of tiles.
    fn sum_row(m: &[f32], stride: usize, tiles: usize, sums: &mut [f32]) {
        for t in (0..tiles).step_by(LANES) {
            let mut across = [[0.0; LANES]; 4];
            for i in [0, 1, 3] {
                let at = 4 * i * stride + t;
                across[i] = one(load(m, at), load(m, at + stride), load(m, at + 3 * stride));
            }
            store(one(across[0], across[1], across[3]), sums, t);
        }
    }
}

multiversion! {
    /// A y′ Aᵀ for a row of tiles with the rows of pixels `top` and `bottom`.
    fn gradient_row(rows: [&[f32]; 2], tiles: usize, scratch: &mut [f32], y: &mut [f32], stride: usize) {
        let len = line(tiles);
        for (row, lines) in rows.iter().zip(scratch.chunks_exact_mut(2 * len)) {
            let (even, odd) = lines.split_at_mut(len);
            split(row, tiles, even, odd);
        }
        let scratch = &scratch[..4 * len];
        for t in (0..tiles).step_by(LANES) {
            let even = down_gradient(scratch, t, 2 * len);
            let odd = down_gradient(scratch, t + len, 2 * len);
            for i in 0..4 {
                let y = &mut y[4 * i * stride + t..];
                store(even[i], y, 0);
                store(add(even[i], odd[i]), y, stride);
                store(sub(even[i], odd[i]), y, 2 * stride);
                store(negative(odd[i]), y, 3 * stride);
            }
        }
    }
}

/// Where the kernels of a convolution or of its transpose are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernels<'a> {
    pub(super) weight: &'a [f32],
    /// Kernels from a row (a channel of the result) to the next, and from a line (a channel that is read) to the next.
    pub(super) strides: [usize; 2],
    /// By 180°.
    pub(super) turned: bool,
}

/// (a, ½(a + b + c), ½(a − b + c), c)
#[inline(always)]
fn spread(a: Lanes, b: Lanes, c: Lanes) -> [Lanes; 4] {
    let ends = add(a, c);
    [a, half(add(ends, b)), half(sub(ends, b)), c]
}

/// The transpose of [`spread`].
#[inline(always)]
fn gather(a: Lanes, b: Lanes, c: Lanes, d: Lanes) -> [Lanes; 3] {
    let middle = half(add(b, c));
    [add(a, middle), half(sub(b, c)), add(d, middle)]
}

#[inline(always)]
fn half(a: Lanes) -> Lanes {
    let mut half = [0.0; LANES];
    for l in 0..LANES {
        half[l] = 0.5 * a[l];
    }
    half
}

multiversion! {
    /// G g Gᵀ for the rows and lines of `size` = \[first row, rows ≤ [`LANES`], lines, pitch\]: component e of a line is at
    /// `starts[e] + (line − left_out[e]) · pitch`, where the lines before `left_out[e]` have none.
    fn kernels(
        from: Kernels<'_>,
        size: [usize; 4],
        starts: &[usize],
        left_out: [usize; COMPONENTS],
        out: &mut [f32],
    ) {
        let ([row, count, lines, pitch], [row_stride, line_stride]) = (size, from.strides);
        for line in 0..lines {
            let mut g = [[0.0; LANES]; 9];
            for r in 0..count {
                let kernel = &from.weight[9 * ((row + r) * row_stride + line * line_stride)..][..9];
                for (k, g) in g.iter_mut().enumerate() {
                    g[r] = kernel[if from.turned { 8 - k } else { k }];
                }
            }
            let mut columns = [[[0.0; LANES]; 4]; 3];
            for j in 0..3 {
                columns[j] = spread(g[j], g[3 + j], g[6 + j]);
            }
            for (e, &first) in left_out.iter().enumerate() {
                let (i, j) = (e / 4, e % 4);
                if line >= first {
                    let row = spread(columns[0][i], columns[1][i], columns[2][i]);
                    let at = starts[e] + (line - first) * pitch;
                    out[at..at + pitch].copy_from_slice(&row[j][..pitch]);
                }
            }
        }
    }
}

multiversion! {
    /// Gᵀ s G for the kernels of [`LANES`] neighbouring channels, of which the first `count` ≤ [`LANES`] are written.
    fn kernel_gradients(s: &[[f32; LANES]; COMPONENTS], count: usize, out: &mut [f32]) {
        let mut columns = [[[0.0; LANES]; 3]; 4];
        for j in 0..4 {
            columns[j] = gather(s[j], s[4 + j], s[8 + j], s[12 + j]);
        }
        for i in 0..3 {
            let row = gather(columns[0][i], columns[1][i], columns[2][i], columns[3][i]);
            for j in 0..3 {
                for l in 0..count {
                    out[9 * l + 3 * i + j] = row[j][l];
                }
            }
        }
    }
}
