//! The gradient of the kernels: a product over pixels, with channels of the input as the left factor and those of the gradient as the right one.

use super::blocks::{ACROSS, GRAM, Pixels, TILE, gram};
use super::pairs::{channel_pairs, pixel_pairs};
use super::tiles::{COLUMNS, ROWS, Tiles};
use super::{Input, Row, SCRATCH, TAPS, aligned, row};
use crate::CpuPath;
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

/// Values of all partial sums together, or twice their own if that is more.
const PARTIAL_SUMS: usize = 1 << 19;
/// Pairs of pixels that sums run over from when they are read until they are written, at least, even if the pairs do not stay in the cache.
const LEAST: usize = 320;

/// Room for the pairs of the input and of the gradient, and for a row of the latter.
type Room = [Vec<u32>; 3];

thread_local! {
    /// Each thread keeps its room from one gradient to the next.
    static ROOM: RefCell<Room> = RefCell::default();
}

/// How the rows of all images are cut into segments; the number of threads plays no part in it.
#[derive(Debug, Clone, Copy)]
struct Segments {
    /// Segments of an image.
    an_image: usize,
    /// Rows of a segment; an image's last one may have fewer.
    rows: usize,
    /// Segments in total.
    count: usize,
    /// Segments whose pairs are in the cache together.
    together: usize,
    /// Of as many.
    pixels: Pixels,
}

impl Segments {
    fn new(input: &Input<'_>, outputs: usize) -> Self {
        let d = input.d;
        // Rows are apart by two zeros, the left neighbours of one and the right ones of another.
        let pitch = 1 + d.w.div_ceil(2);
        let bytes = size_of::<u32>() * (d.c + outputs);
        let an_image = d.h.div_ceil((SCRATCH / (bytes * pitch)).clamp(1, d.h));
        let rows = d.h.div_ceil(an_image);
        let an_image = d.h.div_ceil(rows);
        let pairs = (rows * pitch).next_multiple_of(ROWS);
        let count = d.n * an_image;
        let fit = SCRATCH / (bytes * (pairs + 2 * pitch));
        let together = fit.max(LEAST.div_ceil(pairs)).min(count);
        Self { an_image, rows, count, together, pixels: Pixels { pitch, pairs, segments: together } }
    }

    /// Image and rows of a segment.
    fn get(&self, segment: usize, h: usize) -> (usize, Range<usize>) {
        let first = segment % self.an_image * self.rows;
        (segment / self.an_image, first..(first + self.rows).min(h))
    }
}

pub(super) fn weight_gradient<T: Tiles>(
    path: CpuPath,
    input: Input<'_>,
    g: &[f32],
    outputs: usize,
    d_weight: &mut [f32],
) {
    let (c, segments) = (input.d.c, Segments::new(&input, outputs));
    let (inner, outer) = (c.div_ceil(ROWS), outputs.div_ceil(COLUMNS));
    let len = inner * outer * GRAM;
    let parts = (PARTIAL_SUMS / len).clamp(2, 16).min(segments.count);
    // Which channels of the input a thread takes changes no sum: where the parts are fewer than the threads, they are shared out too.
    let share = inner.div_ceil(rayon::current_num_threads().div_ceil(parts).min(inner));
    let partial = (0..parts).into_par_iter().map(|part| {
        let range = part * segments.count / parts..(part + 1) * segments.count / parts;
        // `[16 channels of the input][16 of the gradient][tap][16][16]`
        let mut sums = vec![0f32; len];
        sums.par_chunks_mut(share * outer * GRAM).enumerate().for_each(|(n, sums)| {
            let channels = n * share * ROWS..((n + 1) * share * ROWS).min(c);
            ROOM.with_borrow_mut(|room| {
                for first in range.clone().step_by(segments.together) {
                    let range = first..(first + segments.together).min(range.end);
                    add::<T>(path, &input, (g, outputs), &segments, range, channels.clone(), room, sums);
                }
            });
        });
        sums
    });
    let partial: Vec<Vec<f32>> = partial.collect();
    unpack(&partial, c, outputs, d_weight);
}

/// Adds what some segments give to the sums of some channels of the input.
fn add<T: Tiles>(
    path: CpuPath,
    input: &Input<'_>,
    (g, outputs): (&[f32], usize),
    segments: &Segments,
    range: Range<usize>,
    channels: Range<usize>,
    [x_room, g_room, line]: &mut Room,
    sums: &mut [f32],
) {
    let pixels = Pixels { segments: range.len(), ..segments.pixels };
    let outer = outputs.div_ceil(COLUMNS);
    // Of channels that round up to whole tiles, any values will do: nobody reads their sums.
    let x = aligned(x_room, channels.len().next_multiple_of(ROWS) * pixels.channel());
    let pairs = aligned(g_room, outer * pixels.gradient());
    line.resize(line.len().max(pixels.pitch), 0);
    for (n, segment) in range.enumerate() {
        let (image, rows) = segments.get(segment, input.d.h);
        for (i, channel) in channels.clone().enumerate() {
            let to = &mut x[i * pixels.channel() + n * pixels.input_pairs()..][..pixels.input_pairs()];
            fill_input(path, input, pixels.pitch, [image, channel], rows.start, segments.rows, to);
        }
        for o in 0..outputs {
            let plane = &g[(image * outputs + o) * input.d.plane()..][..input.d.plane()];
            let rows = &plane[rows.start * input.d.w..rows.end * input.d.w];
            let start = o / COLUMNS * pixels.gradient() + n * pixels.pairs * COLUMNS;
            let to = &mut pairs[start..start + pixels.pairs * COLUMNS];
            fill_gradient(path, rows, input.d.w, pixels.pitch, o % COLUMNS, line, to);
        }
    }
    let mut tiles = T::new(ROWS);
    let x = x.chunks_exact(ROWS * pixels.channel());
    for (x, sums) in x.zip(sums.chunks_exact_mut(outer * GRAM)) {
        let g = pairs.chunks_exact(pixels.gradient());
        for (g, sums) in g.zip(sums.chunks_exact_mut(GRAM)) {
            gram(&mut tiles, pixels, x, g, sums);
        }
    }
}

/// Pairs of a channel: the row above the first of `rows` rows, those, and the one below, each after two zeros; zeros to the end.
fn fill_input(
    path: CpuPath,
    input: &Input<'_>,
    pitch: usize,
    [image, channel]: [usize; 2],
    first: usize,
    rows: usize,
    to: &mut [u32],
) {
    let (lines, rest) = to.split_at_mut((rows + 2) * pitch);
    for (n, line) in lines.chunks_exact_mut(pitch).enumerate() {
        line[0] = 0;
        let line = &mut line[1..];
        match row(input, image, channel, (first + n).checked_sub(1)) {
            Row::Outside => line.fill(0),
            Row::Low(values) => channel_pairs(path, values, values, line),
            Row::Same(values) => pixel_pairs(path, values, line),
        }
    }
    rest.fill(0);
}

/// Column `o` of `to`: the pairs of rows of `w` values, a zero after each row, zeros to the end.
fn fill_gradient(
    path: CpuPath,
    rows: &[f32],
    w: usize,
    pitch: usize,
    o: usize,
    line: &mut [u32],
    to: &mut [u32],
) {
    let to = to.as_chunks_mut::<COLUMNS>().0;
    let (lines, rest) = to.split_at_mut(rows.len() / w * pitch);
    for (to, values) in lines.chunks_exact_mut(pitch).zip(rows.chunks_exact(w)) {
        pixel_pairs(path, values, &mut line[..pitch - 1]);
        line[pitch - 1] = 0;
        to.iter_mut().zip(&*line).for_each(|(to, &pair)| to[o] = pair);
    }
    rest.iter_mut().for_each(|to| to[o] = 0);
}

/// The gradients `[outputs, c, 3, 3]` from the partial sums, which are added in their order.
fn unpack(partial: &[Vec<f32>], c: usize, outputs: usize, d_weight: &mut [f32]) {
    let outer = outputs.div_ceil(COLUMNS);
    d_weight.par_chunks_mut(COLUMNS * c * TAPS).enumerate().for_each(|(block, kernels)| {
        let mut total = [0f32; GRAM];
        for (n, first) in (0..c).step_by(ROWS).enumerate() {
            let start = (n * outer + block) * GRAM;
            total.fill(0.0);
            for sums in partial {
                total.iter_mut().zip(&sums[start..start + GRAM]).for_each(|(total, sum)| *total += sum);
            }
            for (o, kernels) in kernels.chunks_exact_mut(c * TAPS).enumerate() {
                let kernels = kernels[first * TAPS..].as_chunks_mut::<{ ACROSS * ACROSS }>().0;
                for (i, kernel) in kernels.iter_mut().take(ROWS).enumerate() {
                    for (tap, value) in kernel.iter_mut().enumerate() {
                        *value = total[tap * TILE + i * COLUMNS + o];
                    }
                }
            }
        }
    });
}
