//! 3 × 3 convolution with zero padding of one pixel, its data gradient and its weight gradient, by
//! [Winograd's minimal filtering](super::winograd).
//!
//! out[n, o, y, x] = Σ_i Σ_ky Σ_kx weight[o, i, ky, kx] · in[n, i, y + ky − 1, x + kx − 1]
//!
//! In [`Precision::Bf16`] both factors of every product are rounded, once they are transformed; sums are `f32`. Where the processor has AMX, the
//! convolution is [`super::direct`] instead, and nothing is transformed.
//!
//! A task takes some rows of tiles, few enough for their transforms to stay in the second-level cache: it transforms all channels of
//! the input, multiplies them with the transformed kernels, one [product](super::gemm) a component, and transforms the result back.

use super::direct::{self, Unit};
use super::gemm::{self, Lines, SPARE_LINES};
use super::lanes::{TAPS, WIDEST};
use super::norm::{Affine, affine_relu};
use super::packing::{self, Kernels, Packing};
use super::winograd::{self, COMPONENTS, UPSAMPLED};
use super::{Aligned, Dims, Planes};
use crate::{CpuPath, Precision};
use rayon::prelude::*;
use std::cell::{Cell, RefCell};
use std::ops::Range;

/// Channels of a result that are computed and transformed back together.
const CHUNK: usize = 32;
/// Values of the transforms of one task, some 400 KB: most of a small second-level cache.
const SCRATCH: usize = 100_000;
/// Tiles of one task of the weight gradient, at most, even if their transforms do not stay in the cache: its sums are reduced once a task.
const GRADIENT_TILES: usize = 192;
/// Tasks of a small weight gradient, at most.
const GRADIENT_TASKS: usize = 4;
/// Tiles of each of them, at least: sums over few tiles are reduced more often than they are added to.
const LEAST_GRADIENT_TILES: usize = 96;
/// Values of all partial sums of a weight gradient together, or twice its own if that is more.
const PARTIAL_SUMS: usize = 1 << 19;
/// Channels of the result that share the transform of the input in a weight gradient, at least.
const GRADIENT_ROWS: usize = 64;
/// Values of transformed kernels that a thread keeps room for.
const KEPT: usize = 1 << 22;

/// What a convolution is computed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct How {
    pub(crate) path: CpuPath,
    pub(crate) precision: Precision,
    /// Tiles that are emulated where the processor has none.
    #[cfg(test)]
    pub(crate) emulated: bool,
}

impl How {
    pub(crate) fn new(path: CpuPath, precision: Precision) -> Self {
        Self {
            path,
            precision,
            #[cfg(test)]
            emulated: false,
        }
    }

    /// What multiplies tiles of `bf16`, if it is to be used.
    fn unit(self) -> Option<Unit> {
        match (self.precision, self.path) {
            #[cfg(test)]
            (Precision::Bf16, _) if self.emulated => Some(Unit::Emulated),
            #[cfg(target_arch = "x86_64")]
            (Precision::Bf16, CpuPath::Amx) => Some(Unit::Amx),
            _ => None,
        }
    }

    fn round(self) -> bool {
        self.precision == Precision::Bf16
    }
}

impl From<CpuPath> for How {
    fn from(path: CpuPath) -> Self {
        Self::new(path, Precision::F32)
    }
}

/// What a convolution reads: the first `up` of its channels have half the size and are upsampled (nearest neighbour) on the way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a> {
    /// The grid of the result, with all channels.
    pub(crate) d: Dims,
    /// Channels of half the size; `d` has even sides if there are any.
    pub(crate) up: usize,
    /// `[n, up, h / 2, w / 2]`
    pub(crate) low: &'a [f32],
    /// `[n, c − up, h, w]`
    pub(crate) same: &'a [f32],
}

impl<'a> Input<'a> {
    /// Without upsampled channels.
    pub(crate) fn plain(same: &'a [f32], d: Dims) -> Self {
        Self { d, up: 0, low: &[], same }
    }

    fn check(&self) {
        let Self { d, up, low, same } = self;
        assert!(*up <= d.c && (*up == 0 || (d.h.is_multiple_of(2) && d.w.is_multiple_of(2))));
        assert_eq!(low.len(), d.channels(*up).len() / 4);
        assert_eq!(same.len(), d.channels(d.c - up).len());
    }
}

/// Where a convolution writes: the first channels may be wanted as the sums over 2 × 2 pixels.
pub(super) struct Target<'a> {
    pub(super) up: usize,
    pub(super) low: Planes<'a>,
    pub(super) same: Planes<'a>,
    pub(super) affine: Option<&'a [Affine]>,
}

/// `out` = convolution of `input` with `weight` `[outputs, channels, 3, 3]`.
pub(crate) fn forward(how: How, input: Input<'_>, weight: &[f32], outputs: usize, out: &mut [f32]) {
    run(how, input, weight, outputs, None, out);
}

/// [`forward`] with one output channel an element of `affine`, and max(0, scale·y + shift) in place of every y, while it is still in
/// the nearest caches: the same bits as a pass of its own.
pub(crate) fn forward_affine_relu(
    how: How,
    input: Input<'_>,
    weight: &[f32],
    affine: &[Affine],
    out: &mut [f32],
) {
    run(how, input, weight, affine.len(), Some(affine), out);
}

fn run(
    how: How,
    input: Input<'_>,
    weight: &[f32],
    outputs: usize,
    affine: Option<&[Affine]>,
    out: &mut [f32],
) {
    let d = input.d;
    assert_eq!(weight.len(), outputs * d.c * TAPS);
    assert_eq!(out.len(), d.channels(outputs).len());
    let kernels = Kernels { weight, strides: [d.c, 1], turned: false, round: how.round() };
    let same = Planes::new(out, d.plane());
    convolve(how, input, kernels, outputs, &Target { up: 0, low: Planes::new(&mut [], 1), same, affine });
}

/// The gradients of an [`Input`]'s two parts, given its grid `d` and the gradient `g` of the result (`outputs` channels): the convolution with
/// the kernels turned by 180° and their channel axes swapped; upsampled values take the sums over their four pixels.
pub(crate) fn data_gradient(
    how: How,
    g: &[f32],
    weight: &[f32],
    d: Dims,
    outputs: usize,
    [d_low, d_same]: [&mut [f32]; 2],
) {
    let up = if d_low.is_empty() { 0 } else { 4 * d_low.len() / (d.n * d.plane()) };
    assert_eq!(weight.len(), outputs * d.c * TAPS);
    assert_eq!(d_low.len(), d.channels(up).len() / 4);
    assert_eq!(d_same.len(), d.channels(d.c - up).len());
    assert!(up == 0 || (d.h.is_multiple_of(2) && d.w.is_multiple_of(2)));
    let kernels = Kernels { weight, strides: [1, d.c], turned: true, round: how.round() };
    let (low, same) = (Planes::new(d_low, (d.plane() / 4).max(1)), Planes::new(d_same, d.plane()));
    let input = Input::plain(g, d.channels(outputs));
    convolve(how, input, kernels, d.c, &Target { up, low, same, affine: None });
}

/// How the rows of tiles of all images are shared out.
struct Grid {
    how: How,
    d: Dims,
    /// Rows of tiles of an image.
    rows: usize,
    /// Tiles of a row.
    tiles: usize,
    /// Rows of tiles of a task.
    per_task: usize,
    /// What the columns of a task's lines are rounded up to.
    multiple: usize,
}

impl Grid {
    /// Tasks of at most `tiles` tiles or one row, so many that `threads` threads are done soonest: the last round of tasks should not leave
    /// most of them idle, and columns that only round up should be few.
    fn new(how: How, d: Dims, tiles: usize, multiple: usize, threads: usize) -> Self {
        let mut grid = Self { how, d, rows: d.h.div_ceil(2), tiles: d.w.div_ceil(2), per_task: 1, multiple };
        let all = d.n * grid.rows;
        let fewest = all.div_ceil((tiles / grid.tiles).max(1));
        let time = |tasks: usize| {
            let rows = all.div_ceil(tasks);
            let columns = (rows * grid.tiles).next_multiple_of(multiple);
            all.div_ceil(rows).div_ceil(threads) * (columns + multiple)
        };
        let tasks = (fewest..=(fewest + 2 * threads).min(all)).min_by_key(|&tasks| time(tasks));
        grid.per_task = all.div_ceil(tasks.unwrap_or(fewest));
        grid
    }

    fn tasks(&self) -> usize {
        (self.d.n * self.rows).div_ceil(self.per_task)
    }

    /// Rows of tiles of a task, counted through all images.
    fn task(&self, index: usize) -> Range<usize> {
        index * self.per_task..((index + 1) * self.per_task).min(self.d.n * self.rows)
    }

    /// Lines for the tiles of a task: whole vectors, and room for what a transform writes too much.
    fn lines(&self) -> Lines {
        let columns = (self.per_task * self.tiles).next_multiple_of(self.multiple);
        Lines { columns, pitch: odd_lines(columns + WIDEST) }
    }

    /// Values from a component to the next, each of so many lines.
    fn component(&self, lines: usize) -> usize {
        odd_lines(lines * self.lines().pitch)
    }

    /// Calls `f` with (image, rows of tiles in it, first column in a line) of each image of a task.
    fn each_image(&self, task: &Range<usize>, mut f: impl FnMut(usize, Range<usize>, usize)) {
        let mut row = task.start;
        while row < task.end {
            let (image, first) = (row / self.rows, row % self.rows);
            let count = (self.rows - first).min(task.end - row);
            f(image, first..first + count, (row - task.start) * self.tiles);
            row += count;
        }
    }
}

/// The next odd multiple of a cache's line, so that what lies so far apart goes to all places of a cache, not to some.
fn odd_lines(values: usize) -> usize {
    let lines = values.div_ceil(WIDEST);
    (lines | 1) * WIDEST
}

/// A plane and the one after it, empty after the last.
fn two_planes(planes: &[f32], index: usize, len: usize) -> [&[f32]; 2] {
    let (plane, others) = planes[index * len..].split_at(len);
    [plane, others.get(..len).unwrap_or_default()]
}

/// Bᵀ d B of the tiles of a task: in each component, channel c is line c.
fn transform_input(grid: &Grid, input: &Input<'_>, task: &Range<usize>, v: &mut [f32]) {
    let Dims { c, h, w, .. } = grid.d.channels(input.d.c);
    let (pitch, stride, same) = (grid.lines().pitch, grid.component(c), c - input.up);
    let (path, round) = (grid.how.path, grid.how.round());
    for channel in 0..c {
        grid.each_image(task, |image, rows, column| {
            let v = &mut v[channel * pitch + column..];
            if channel < input.up {
                let planes = two_planes(input.low, image * input.up + channel, h * w / 4);
                winograd::upsampled_rows(path, round, planes, w / 2, rows, v, stride);
            } else {
                let planes = two_planes(input.same, image * same + channel - input.up, h * w);
                winograd::input_rows(path, round, planes, w, rows, v, stride);
            }
        });
    }
}

thread_local! {
    /// Each thread keeps its room from one convolution to the next: fresh memory has to be cleared first.
    static ROOM: RefCell<Scratch> = RefCell::default();
    /// Transformed kernels. A pass that begins while another waits finds nothing, and gets room of its own.
    static PACKED: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    /// Partial sums of weight gradients, in the same way.
    static SUMS: Cell<Vec<Vec<f32>>> = const { Cell::new(Vec::new()) };
}

/// Room for the transforms of a task.
#[derive(Default)]
struct Scratch {
    v: Aligned,
    m: Aligned,
}

impl Scratch {
    /// Components of so many lines of a task, of arbitrary contents.
    fn fit(&mut self, grid: &Grid, v_lines: usize, m_lines: usize) -> [&mut [f32]; 2] {
        let spare = SPARE_LINES * grid.lines().pitch;
        let (v, m) =
            (COMPONENTS * grid.component(v_lines) + spare, COMPONENTS * grid.component(m_lines) + spare);
        self.v.reserve(v);
        self.m.reserve(m);
        [&mut self.v[..v], &mut self.m[..m]]
    }
}

fn convolve(how: How, input: Input<'_>, kernels: Kernels<'_>, outputs: usize, target: &Target<'_>) {
    input.check();
    let (Dims { c, .. }, path) = (input.d, how.path);
    if let Some(unit) = how.unit() {
        return direct::convolve(unit, path, input, kernels, outputs, target);
    }
    let packing = Packing::new(path, outputs, c, input.up);
    let together = packing.together;
    let mut packed = PACKED.take();
    packed.resize(packing.len(), 0.0);
    packing::pack(path, kernels, &packing, &mut packed);
    let chunk = CHUNK.min(outputs.next_multiple_of(together));
    let values = COMPONENTS * (c - input.up + chunk) + 9 * input.up;
    // Kernels that do not stay in the cache either are worth more tiles at a time.
    let least = if packed.len() > SCRATCH { 96 } else { 48 };
    // A pixel of the result does not depend on how they are shared out, so that may depend on the number of threads.
    let (tiles, threads) = ((SCRATCH / values).max(least), rayon::current_num_threads());
    let grid = Grid::new(how, input.d, tiles, gemm::columns_multiple(path), threads);
    let (lines, v_stride, m_stride) = (grid.lines(), grid.component(c), grid.component(chunk));
    let each = |task: Range<usize>, scratch: &mut Scratch| {
        let [v, m] = scratch.fit(&grid, c, chunk);
        transform_input(&grid, &input, &task, v);
        for first in (0..outputs).step_by(chunk) {
            let count = chunk.min(outputs - first);
            for e in 0..COMPONENTS {
                let v = &v[e * v_stride + packing.first_line(e) * lines.pitch..];
                for row in (first..first + count).step_by(together) {
                    if row + together <= target.up && !UPSAMPLED[e] {
                        continue;
                    }
                    let weight = &packed[packing.part(row, e)];
                    let m = &mut m[e * m_stride + (row - first) * lines.pitch..];
                    match weight.is_empty() {
                        // Upsampled channels only.
                        true => m[..together * lines.pitch].fill(0.0),
                        false => gemm::product(path, weight, v, lines, m),
                    }
                }
            }
            for o in first..first + count {
                grid.each_image(&task, |image, rows, column| {
                    let m = &m[(o - first) * lines.pitch + column..];
                    // SAFETY: this task alone writes these rows of tiles.
                    unsafe { write_rows(&grid, m, m_stride, target, [image, o, outputs], rows) };
                });
            }
        }
    };
    (0..grid.tasks())
        .into_par_iter()
        .for_each(|task| ROOM.with_borrow_mut(|scratch| each(grid.task(task), scratch)));
    if packed.len() <= KEPT {
        PACKED.set(packed);
    }
}

/// Transforms rows of tiles of one channel back into their place.
///
/// # Safety
/// Nobody else may use these rows of the target meanwhile.
unsafe fn write_rows(
    grid: &Grid,
    m: &[f32],
    stride: usize,
    target: &Target<'_>,
    [image, o, outputs]: [usize; 3],
    rows: Range<usize>,
) {
    let (path, tiles, Dims { h, w, .. }) = (grid.how.path, grid.tiles, grid.d);
    if o < target.up {
        // SAFETY: as the caller promises.
        let out = unsafe { target.low.part(image * target.up + o, rows.start * tiles, rows.len() * tiles) };
        return winograd::sum_rows(path, m, stride, out);
    }
    let plane = image * (outputs - target.up) + o - target.up;
    let (first, end) = (2 * rows.start, h.min(2 * rows.end));
    // SAFETY: as the caller promises.
    let out = unsafe { target.same.part(plane, first * w, (end - first) * w) };
    winograd::output_rows(path, m, stride, w, out);
    if let Some(affine) = target.affine {
        affine_relu(path, out, affine[o]);
    }
}

/// `d_weight` `[outputs, channels, 3, 3]` from the input and the gradient of the result.
pub(crate) fn weight_gradient(how: How, input: Input<'_>, g: &[f32], outputs: usize, d_weight: &mut [f32]) {
    input.check();
    let (d, c, path) = (input.d, input.d.c, how.path);
    assert_eq!(g.len(), d.channels(outputs).len());
    assert_eq!(d_weight.len(), outputs * c * TAPS);
    if let Some(unit) = how.unit() {
        return direct::weight_gradient(unit, path, input, g, outputs, d_weight);
    }
    // How the sums are split does not depend on the number of threads.
    let tiles = (2 * SCRATCH / (COMPONENTS * (c + outputs))).max(GRADIENT_TILES);
    let all = d.n * d.h.div_ceil(2) * d.w.div_ceil(2);
    let tasks = (all / LEAST_GRADIENT_TILES).clamp(1, GRADIENT_TASKS);
    let grid = Grid::new(how, d, tiles, gemm::sum_multiple(path), tasks);
    let packing = Packing::new(path, outputs, c, input.up);
    let parts = (PARTIAL_SUMS / packing.len()).clamp(2, 16).min(grid.tasks());
    // Which channels of the result a thread takes changes no sum: where the parts are fewer than the threads, they are shared out too.
    let shares = rayon::current_num_threads().div_ceil(parts).min(outputs.div_ceil(GRADIENT_ROWS));
    let rows = outputs.div_ceil(shares).next_multiple_of(packing.together);
    let mut partial = SUMS.take();
    if partial.len() < parts {
        partial.resize_with(parts, Vec::new);
    }
    partial[..parts].par_iter_mut().enumerate().for_each(|(part, sums)| {
        let tasks = part * grid.tasks() / parts..(part + 1) * grid.tasks() / parts;
        sums.clear();
        sums.resize(packing.len(), 0.0);
        sums.par_chunks_mut(packing.part(rows, 0).start).enumerate().for_each(|(share, sums)| {
            let rows = share * rows..((share + 1) * rows).min(outputs);
            ROOM.with_borrow_mut(|scratch| {
                for task in tasks.clone() {
                    let sums = (&mut *sums, &packing);
                    add_task(&grid, &input, (g, outputs), rows.clone(), &grid.task(task), scratch, sums);
                }
            });
        });
    });
    packing::unpack(path, &partial[..parts], &packing, d_weight);
    if parts * packing.len() <= KEPT {
        SUMS.set(partial);
    }
}

/// Adds what the tiles of a task give to the sums, the gradients of the transformed kernels of some rows, channels of the result.
fn add_task(
    grid: &Grid,
    input: &Input<'_>,
    (g, outputs): (&[f32], usize),
    rows: Range<usize>,
    task: &Range<usize>,
    scratch: &mut Scratch,
    (sums, packing): (&mut [f32], &Packing),
) {
    let (Dims { c, h, w, .. }, lines) = (input.d, grid.lines());
    let (v_stride, y_stride) = (grid.component(c), grid.component(rows.len()));
    let [v, y] = scratch.fit(grid, c, rows.len());
    transform_input(grid, input, task, v);
    for (n, o) in rows.clone().enumerate() {
        grid.each_image(task, |image, rows, column| {
            let planes = two_planes(g, image * outputs + o, h * w);
            let y = &mut y[n * lines.pitch + column..];
            winograd::gradient_rows(grid.how.path, grid.how.round(), planes, w, rows, y, y_stride);
        });
    }
    let used = task.len() * grid.tiles;
    for (values, stride, count) in [(&mut *v, v_stride, c), (&mut *y, y_stride, rows.len())] {
        for component in values.chunks_mut(stride).take(COMPONENTS) {
            for line in component.chunks_exact_mut(lines.pitch).take(count) {
                line[used..lines.columns].fill(0.0);
            }
        }
    }
    for e in 0..COMPONENTS {
        let v = &v[e * v_stride + packing.first_line(e) * lines.pitch..];
        for row in (0..rows.len()).step_by(packing.together) {
            let y = &y[e * y_stride + row * lines.pitch..];
            gemm::gram(grid.how.path, y, v, lines, &mut sums[packing.part(row, e)]);
        }
    }
}
