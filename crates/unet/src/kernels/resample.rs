//! 2 × 2 max pooling, nearest-neighbour upsampling by 2 and the concatenation with the skip connection.

use super::Dims;
use super::simd::multiversion;
use crate::CpuPath;
use rayon::prelude::*;

multiversion! {
    /// One plane of the pooling: `out` has half the rows and columns of `x`, whose rows have `w` columns.
    fn pool_plane(x: &[f32], w: usize, out: &mut [f32]) {
        for (rows, out) in x.chunks_exact(2 * w).zip(out.chunks_exact_mut(w / 2)) {
            let (top, bottom) = rows.split_at(w);
            for ((o, t), b) in out.iter_mut().zip(top.chunks_exact(2)).zip(bottom.chunks_exact(2)) {
                *o = larger(larger(t[0], t[1]), larger(b[0], b[1]));
            }
        }
    }
}

multiversion! {
    /// Adds the gradient `g` of a pooled plane to `dx` at the first maximum of each 2 × 2 window of `x`.
    fn pool_plane_backward(x: &[f32], w: usize, g: &[f32], dx: &mut [f32]) {
        for ((rows, g), dx) in x.chunks_exact(2 * w).zip(g.chunks_exact(w / 2)).zip(dx.chunks_exact_mut(2 * w)) {
            let (top, bottom) = rows.split_at(w);
            let (d_top, d_bottom) = dx.split_at_mut(w);
            let windows = top.chunks_exact(2).zip(bottom.chunks_exact(2));
            let targets = d_top.chunks_exact_mut(2).zip(d_bottom.chunks_exact_mut(2));
            for (((t, b), &g), (dt, db)) in windows.zip(g).zip(targets) {
                // Selections instead of a search, so that the loop has no branch: 1 where the maximum sits.
                let (upper, lower) = (larger(t[0], t[1]), larger(b[0], b[1]));
                let bottom_wins = lower > upper;
                let (top_right, bottom_right) = (t[1] > t[0], b[1] > b[0]);
                dt[0] += if !bottom_wins & !top_right { g } else { 0.0 };
                dt[1] += if !bottom_wins & top_right { g } else { 0.0 };
                db[0] += if bottom_wins & !bottom_right { g } else { 0.0 };
                db[1] += if bottom_wins & bottom_right { g } else { 0.0 };
            }
        }
    }
}

multiversion! {
    /// Doubles the rows and columns of a plane whose rows have `w` columns.
    fn upsample_plane(x: &[f32], w: usize, out: &mut [f32]) {
        for (row, out) in x.chunks_exact(w).zip(out.chunks_exact_mut(4 * w)) {
            let (first, second) = out.split_at_mut(2 * w);
            for (pair, &x) in first.chunks_exact_mut(2).zip(row) {
                pair[0] = x;
                pair[1] = x;
            }
            second.copy_from_slice(first);
        }
    }
}

multiversion! {
    /// The transpose of `upsample_plane`: sums over 2 × 2 windows of `g`, `dx` having rows of `w` columns.
    fn upsample_plane_backward(g: &[f32], w: usize, dx: &mut [f32]) {
        for (rows, dx) in g.chunks_exact(4 * w).zip(dx.chunks_exact_mut(w)) {
            let (top, bottom) = rows.split_at(2 * w);
            for ((d, t), b) in dx.iter_mut().zip(top.chunks_exact(2)).zip(bottom.chunks_exact(2)) {
                *d = (t[0] + t[1]) + (b[0] + b[1]);
            }
        }
    }
}

/// The larger of two values, the first on a tie; a single machine instruction, unlike `f32::max`.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// `out` = maxima over 2 × 2 windows of `x` (`d`, with even rows and columns).
pub(crate) fn pool(path: CpuPath, x: &[f32], d: Dims, out: &mut [f32]) {
    assert!(d.h.is_multiple_of(2) && d.w.is_multiple_of(2) && x.len() == d.len() && out.len() == d.len() / 4);
    out.par_chunks_mut(d.plane() / 4)
        .zip(x.par_chunks(d.plane()))
        .for_each(|(out, x)| pool_plane(path, x, d.w, out));
}

/// Adds to `dx` (`d`) the gradient of the pooling of `x`: the first maximum of a window gets all of it.
pub(crate) fn pool_backward_add(path: CpuPath, x: &[f32], d: Dims, g: &[f32], dx: &mut [f32]) {
    assert!(
        d.h.is_multiple_of(2)
            && d.w.is_multiple_of(2)
            && x.len() == d.len()
            && dx.len() == d.len()
            && g.len() == d.len() / 4
    );
    (dx.par_chunks_mut(d.plane()).zip(x.par_chunks(d.plane())).zip(g.par_chunks(d.plane() / 4)))
        .for_each(|((dx, x), g)| pool_plane_backward(path, x, d.w, g, dx));
}

/// `out` = [`low` upsampled by 2, `skip`] along the channels; `d` is the shape of `low`, `skip` has twice its rows and columns and
/// `skip_channels` channels.
pub(crate) fn upsample_concat(
    path: CpuPath,
    low: &[f32],
    skip: &[f32],
    d: Dims,
    skip_channels: usize,
    out: &mut [f32],
) {
    let (plane, channels) = (4 * d.plane(), d.c + skip_channels);
    assert!(
        low.len() == d.len()
            && skip.len() == d.n * skip_channels * plane
            && out.len() == d.n * channels * plane
    );
    out.par_chunks_mut(plane).enumerate().for_each(|(index, out)| {
        let (image, c) = (index / channels, index % channels);
        if c < d.c {
            let source = &low[(image * d.c + c) * d.plane()..][..d.plane()];
            upsample_plane(path, source, d.w, out);
        } else {
            out.copy_from_slice(&skip[(image * skip_channels + c - d.c) * plane..][..plane]);
        }
    });
}

/// The gradients of [`upsample_concat`]'s two inputs.
pub(crate) fn upsample_concat_backward(
    path: CpuPath,
    g: &[f32],
    d: Dims,
    skip_channels: usize,
    d_low: &mut [f32],
    d_skip: &mut [f32],
) {
    let (plane, channels) = (4 * d.plane(), d.c + skip_channels);
    assert!(
        g.len() == d.n * channels * plane
            && d_low.len() == d.len()
            && d_skip.len() == d.n * skip_channels * plane
    );
    d_low.par_chunks_mut(d.plane()).enumerate().for_each(|(index, target)| {
        let (image, c) = (index / d.c, index % d.c);
        upsample_plane_backward(path, &g[(image * channels + c) * plane..][..plane], d.w, target);
    });
    d_skip.par_chunks_mut(plane).enumerate().for_each(|(index, target)| {
        let (image, c) = (index / skip_channels, index % skip_channels);
        target.copy_from_slice(&g[(image * channels + d.c + c) * plane..][..plane]);
    });
}
