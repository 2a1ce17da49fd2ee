//! Splat, blur, slice: W·v for a few channels at once.

use super::Lattice;
use super::embed::ONE;
use crate::cpu::multiversion;

/// Values of a vertex, one lane a channel.
pub(super) type Vertex<const L: usize> = [f32; L];

/// Channels that are filtered together at most; a vertex of them is one 256-bit vector.
pub(super) const MOST: usize = 8;

/// Weights are stored as fractions of [`ONE`].
const UNIT: f32 = 1.0 / ONE as f32;

/// The buffers of one filter, kept for the next.
#[derive(Default)]
pub(super) struct Workspace {
    splatted: Vec<f32>,
    from: Vec<f32>,
    to: Vec<f32>,
}

fn vertices<const L: usize>(buffer: &mut Vec<f32>, count: usize) -> &mut [Vertex<L>] {
    buffer.clear();
    buffer.resize(count * L, 0.0);
    buffer.as_chunks_mut::<L>().0
}

multiversion! {
    /// Up to four channels.
    fn filter4(lattice: &Lattice, values: &[f32], out: &mut [f32], workspace: &mut Workspace) {
        filter::<4>(lattice, values, out, workspace);
    }
}

multiversion! {
    /// Up to eight channels.
    fn filter8(lattice: &Lattice, values: &[f32], out: &mut [f32], workspace: &mut Workspace) {
        filter::<8>(lattice, values, out, workspace);
    }
}

#[inline(always)]
fn filter<const L: usize>(lattice: &Lattice, values: &[f32], out: &mut [f32], workspace: &mut Workspace) {
    // The last vertex stands for those that are not there: it is read as zero and never written.
    let count = lattice.vertices + 1;
    let splatted = vertices::<L>(&mut workspace.splatted, count);
    let from = vertices::<L>(&mut workspace.from, count);
    let to = vertices::<L>(&mut workspace.to, count);
    splat(lattice, values, splatted);
    from.copy_from_slice(splatted);
    blur(lattice, from, to, false);
    blur(lattice, splatted, to, true);
    // ½ for the mean of both orders.
    let scale = 0.5 * lattice.scale;
    for (sum, other) in from.iter_mut().zip(&*splatted) {
        for l in 0..L {
            sum[l] = scale * (sum[l] + other[l]);
        }
    }
    slice(lattice, from, out);
}

#[inline(always)]
fn splat<const L: usize>(lattice: &Lattice, values: &[f32], to: &mut [Vertex<L>]) {
    let n = lattice.pixels;
    let corners = lattice.corners;
    let weights = lattice.weight.chunks_exact(corners);
    for (p, (&simplex, weights)) in lattice.simplex.iter().zip(weights).enumerate() {
        let mut value = [0.0; L];
        for (value, plane) in value.iter_mut().zip(values.chunks_exact(n)) {
            *value = UNIT * plane[p];
        }
        let own = &lattice.corner[simplex as usize * corners..][..corners];
        for (&v, &w) in own.iter().zip(weights) {
            let (to, w) = (&mut to[v as usize], f32::from(w));
            for l in 0..L {
                to[l] += w * value[l];
            }
        }
    }
}

/// (½, 1, ½) along every direction in turn, as many rounds as the lattice asks for. `other` is of the same length.
#[inline(always)]
fn blur<const L: usize>(lattice: &Lattice, values: &mut [Vertex<L>], other: &mut [Vertex<L>], reverse: bool) {
    let (mut from, mut to) = (&mut *values, &mut *other);
    let directions = lattice.corners;
    for _ in 0..lattice.rounds {
        for step in 0..directions {
            let direction = if reverse { directions - 1 - step } else { step };
            let pairs = &lattice.neighbours[direction * lattice.vertices..][..lattice.vertices];
            for ((to, own), &[a, b]) in to.iter_mut().zip(&*from).zip(pairs) {
                let (a, b) = (&from[a as usize], &from[b as usize]);
                for l in 0..L {
                    to[l] = own[l] + 0.5 * (a[l] + b[l]);
                }
            }
            std::mem::swap(&mut from, &mut to);
        }
    }
    if lattice.rounds * directions % 2 == 1 {
        to.copy_from_slice(from);
    }
}

#[inline(always)]
fn slice<const L: usize>(lattice: &Lattice, from: &[Vertex<L>], out: &mut [f32]) {
    let n = lattice.pixels;
    let corners = lattice.corners;
    let weights = lattice.weight.chunks_exact(corners);
    for (p, (&simplex, weights)) in lattice.simplex.iter().zip(weights).enumerate() {
        let own = &lattice.corner[simplex as usize * corners..][..corners];
        let mut sum = [0.0; L];
        for (&v, &w) in own.iter().zip(weights) {
            let (from, w) = (&from[v as usize], UNIT * f32::from(w));
            for l in 0..L {
                sum[l] += w * from[l];
            }
        }
        for (&sum, plane) in sum.iter().zip(out.chunks_exact_mut(n)) {
            plane[p] = sum;
        }
    }
}
