//! The convolution: a product over the lines of three rows of pixels, with kernels as the left factor.

use super::blocks::{ACROSS, Depth, TILE, product};
use super::pairs::{channel_pairs, channel_pairs_twice, pair};
use super::tiles::{COLUMNS, ROWS, Tiles};
use super::{Input, Kernels, Row, SCRATCH, TAPS, Target, aligned, row};
use crate::CpuPath;
use crate::kernels::norm::affine_relu;
use rayon::prelude::*;
use std::cell::{Cell, RefCell};
use std::ops::Range;

/// Channels of the result that are computed together: two tiles.
const CHUNK: usize = 2 * ROWS;
/// Tasks of a thread, at least, where images have the rows for it.
const TASKS: usize = 4;
/// Rows of such a small task: two more have to be prepared for it.
const FEWEST: usize = 8;
/// Pairs of kernels that a thread keeps room for.
const KEPT: usize = 1 << 22;

thread_local! {
    /// Each thread keeps its room from one convolution to the next.
    static ROOM: RefCell<(Vec<u32>, Vec<f32>)> = RefCell::default();
    /// Kernels as pairs. A pass that begins while another waits finds nothing, and gets room of its own.
    static PACKED: Cell<Vec<u32>> = const { Cell::new(Vec::new()) };
}

/// Channels in pairs, those that are upsampled apart from the others.
#[derive(Debug, Clone, Copy)]
struct Pairs {
    up: usize,
    channels: usize,
}

impl Pairs {
    fn count(self) -> usize {
        self.up.div_ceil(2) + (self.channels - self.up).div_ceil(2)
    }

    /// The first channel of a pair, and the second if there is one.
    fn channels(self, pair: usize) -> (usize, Option<usize>) {
        let (first, end) = match pair.checked_sub(self.up.div_ceil(2)) {
            None => (2 * pair, self.up),
            Some(pair) => (self.up + 2 * pair, self.channels),
        };
        (first, Some(first + 1).filter(|&second| second < end))
    }
}

/// How lines lie.
#[derive(Debug, Clone, Copy)]
struct Layout {
    pairs: Pairs,
    depth: Depth,
    /// Columns of the result, whole tiles.
    columns: usize,
    /// Values from a line to the next: room for what the taps across read, and no power of 2, which would send all lines to the same places of
    /// a cache.
    pitch: usize,
}

impl Layout {
    fn new(input: &Input<'_>) -> Self {
        let pairs = Pairs { up: input.up, channels: input.d.c };
        let columns = input.d.w.next_multiple_of(COLUMNS);
        let pitch = columns + COLUMNS;
        let pitch = if pitch.is_power_of_two() { pitch + COLUMNS } else { pitch };
        Self { pairs, depth: Depth::new(ACROSS * pairs.count()), columns, pitch }
    }

    /// Lines for some rows of the result, with those that the last step reads too much.
    fn lines(&self, rows: usize) -> usize {
        (rows - 1) * self.pairs.count() + self.depth.total().max(ACROSS * self.pairs.count())
    }

    /// Rows of an image in a task, an even number: its lines should stay in the cache, and every thread should have some tasks. A pixel of the result does not depend on
    /// it, so that it may depend on the number of threads.
    fn rows(&self, images: usize, h: usize, threads: usize) -> usize {
        let fit = (SCRATCH / (size_of::<u32>() * self.pairs.count() * self.pitch)).saturating_sub(2).max(2);
        let wanted = (TASKS * threads).div_ceil(images).min(h.div_ceil(FEWEST));
        h.div_ceil(h.div_ceil(fit).max(wanted)).next_multiple_of(2)
    }
}

pub(super) fn convolve<T: Tiles>(
    path: CpuPath,
    input: Input<'_>,
    kernels: Kernels<'_>,
    outputs: usize,
    target: &Target<'_>,
) {
    let (d, layout) = (input.d, Layout::new(&input));
    let mut packed = PACKED.take();
    let weights = aligned(&mut packed, outputs.div_ceil(ROWS) * layout.depth.block());
    pack(kernels, &layout, outputs, weights);
    let rows = layout.rows(d.n, d.h, rayon::current_num_threads());
    let bands = d.h.div_ceil(rows);
    let out_pitch = 2 * layout.columns + COLUMNS;
    (0..d.n * bands).into_par_iter().for_each(|task| {
        let (image, first) = (task / bands, task % bands * rows);
        let band = first..(first + rows).min(d.h);
        ROOM.with_borrow_mut(|(room, out)| {
            let lines = aligned(room, layout.lines(rows) * layout.pitch);
            fill(path, &input, &layout, image, &band, lines);
            out.resize(out.len().max(CHUNK * out_pitch), 0.0);
            let mut tiles = T::new(layout.depth.lines);
            for first in (0..outputs).step_by(CHUNK) {
                let count = CHUNK.min(outputs - first);
                let blocks = first / ROWS..(first + count).div_ceil(ROWS);
                let weights =
                    &weights[blocks.start * layout.depth.block()..blocks.end * layout.depth.block()];
                for y in band.clone().step_by(2) {
                    let (line, height) = ((y - band.start) * layout.pairs.count(), 2.min(band.end - y));
                    let lines = &lines[line * layout.pitch..];
                    two_rows(&mut tiles, &layout, weights, lines, height, (out, out_pitch));
                    for o in 0..count {
                        let from = &out[o * out_pitch..(o + 1) * out_pitch];
                        // SAFETY: this task alone writes these rows.
                        unsafe { write(path, &input, target, [image, first + o, outputs], y, height, from) };
                    }
                }
            }
        });
    });
    if packed.len() <= KEPT {
        PACKED.set(packed);
    }
}

/// Some rows of channels of the result, one or two of pixels beside one another, from the lines that start with those of the pixels above.
fn two_rows<T: Tiles>(
    tiles: &mut T,
    layout: &Layout,
    weights: &[u32],
    lines: &[u32],
    height: usize,
    (out, out_pitch): (&mut [f32], usize),
) {
    let across = layout.columns / COLUMNS;
    let at_once = if weights.len() == layout.depth.block() { 4 } else { 2 };
    for first in (0..height * across).step_by(at_once) {
        let count = at_once.min(height * across - first);
        let (mut starts, mut places) = ([0; 4], [0; 4]);
        for n in 0..count {
            let (below, column) = ((first + n) / across, (first + n) % across * COLUMNS);
            starts[n] = below * layout.pairs.count() * layout.pitch + column;
            places[n] = below * layout.columns + column;
        }
        let operands = (lines, layout.pitch);
        product(tiles, layout.depth, weights, operands, &starts[..count], (out, out_pitch), &places[..count]);
    }
}

/// Writes the pairs of kernels as [`Depth::block`] has them, zeros where there are none.
fn pack(kernels: Kernels<'_>, layout: &Layout, outputs: usize, packed: &mut [u32]) {
    let (depth, count) = (layout.depth, layout.pairs.count());
    packed.par_chunks_mut(depth.block()).enumerate().for_each(|(block, packed)| {
        packed.fill(0);
        for r in 0..ROWS.min(outputs - block * ROWS) {
            let kernel = |channel: usize| {
                let at = (block * ROWS + r) * kernels.strides[0] + channel * kernels.strides[1];
                &kernels.weight[TAPS * at..TAPS * (at + 1)]
            };
            for n in 0..count {
                let (first, second) = layout.pairs.channels(n);
                let (first, second) = (kernel(first), second.map(kernel));
                for tap in 0..TAPS {
                    let from = if kernels.turned { TAPS - 1 - tap } else { tap };
                    let line = tap / ACROSS * count + n;
                    let tile = (line / depth.lines * ACROSS + tap % ACROSS) * TILE;
                    packed[tile + r * COLUMNS + line % depth.lines] =
                        pair(first[from], second.map_or(0.0, |second| second[from]));
                }
            }
        }
    });
}

/// Writes the lines that the rows `band` of the result sum over.
fn fill(
    path: CpuPath,
    input: &Input<'_>,
    layout: &Layout,
    image: usize,
    band: &Range<usize>,
    lines: &mut [u32],
) {
    let (w, count) = (input.d.w, layout.pairs.count());
    let used = (band.len() + 2) * count;
    for (n, line) in lines.chunks_exact_mut(layout.pitch).take(used).enumerate() {
        let y = (band.start + n / count).checked_sub(1);
        let (first, second) = layout.pairs.channels(n % count);
        // Without a second channel its weights are zero: any finite values will do.
        let [first, second] = [first, second.unwrap_or(first)].map(|channel| row(input, image, channel, y));
        (line[0], line[w + 1]) = (0, 0);
        let line = &mut line[1..=w];
        match (first, second) {
            (Row::Low(first), Row::Low(second)) => channel_pairs_twice(path, first, second, line),
            (Row::Same(first), Row::Same(second)) => channel_pairs(path, first, second, line),
            _ => line.fill(0),
        }
    }
    // What the last step reads too much has weights of zero, and must be finite for its products to vanish.
    let end = layout.lines(band.len()).max(used);
    lines[used * layout.pitch..end * layout.pitch].fill(0);
}

/// Writes one or two rows of a channel to their place.
///
/// # Safety
/// Nobody else may use these rows of the target meanwhile.
unsafe fn write(
    path: CpuPath,
    input: &Input<'_>,
    target: &Target<'_>,
    [image, o, outputs]: [usize; 3],
    y: usize,
    height: usize,
    from: &[f32],
) {
    let w = input.d.w;
    let (top, bottom) = from.split_at(w.next_multiple_of(COLUMNS));
    if o < target.up {
        // SAFETY: as the caller promises.
        let out = unsafe { target.low.part(image * target.up + o, y / 2 * (w / 2), w / 2) };
        let pixels = top.as_chunks::<2>().0.iter().zip(bottom.as_chunks::<2>().0);
        for (out, ([a, b], [c, d])) in out.iter_mut().zip(pixels) {
            *out = (a + b) + (c + d);
        }
        return;
    }
    let plane = image * (outputs - target.up) + o - target.up;
    // SAFETY: as the caller promises.
    let out = unsafe { target.same.part(plane, y * w, height * w) };
    for (out, row) in out.chunks_exact_mut(w).zip([top, bottom]) {
        out.copy_from_slice(&row[..w]);
    }
    if let Some(affine) = target.affine {
        affine_relu(path, out, affine[o]);
    }
}
