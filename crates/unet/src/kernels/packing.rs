//! The kernels of a convolution as Winograd's filtering multiplies them: G g Gᵀ, and the way back for their gradients, Gᵀ s G.

use super::conv::TAPS;
use super::gemm;
use super::lanes::{LANES, to_bf16};
use super::simd::multiversion;
use super::winograd::{COMPONENTS, UPSAMPLED};
use crate::CpuPath;
use rayon::prelude::*;

/// Where the values of transformed kernels are: `[rows / R][component][line][R rows]`. A row is a channel of the result, a line one that is read, and R the rows
/// computed together. Of a component that upsampled planes do not have, the first `up` lines are left out.
#[derive(Debug)]
pub(super) struct Packing {
    /// R
    pub(super) together: usize,
    rows: usize,
    lines: usize,
    /// Values of R rows.
    block: usize,
    /// Where each component starts in a block.
    starts: [usize; COMPONENTS + 1],
    /// Lines that each component leaves out.
    left_out: [usize; COMPONENTS],
}

impl Packing {
    pub(super) fn new(path: CpuPath, rows: usize, lines: usize, up: usize) -> Self {
        let together = gemm::rows_together(path);
        let left_out = UPSAMPLED.map(|present| if present { 0 } else { up });
        let mut starts = [0; COMPONENTS + 1];
        for (e, left_out) in left_out.iter().enumerate() {
            starts[e + 1] = starts[e] + (lines - left_out) * together;
        }
        Self { together, rows, lines, block: starts[COMPONENTS], starts, left_out }
    }

    /// Values in total.
    pub(super) fn len(&self) -> usize {
        self.rows.div_ceil(self.together) * self.block
    }

    /// First line that component `e` has.
    pub(super) fn first_line(&self, e: usize) -> usize {
        self.left_out[e]
    }

    /// Of `some` lines from `line` on: how many the component leaves out, and where the next one is in a block.
    fn place(&self, e: usize, line: usize, some: usize) -> (usize, usize) {
        let skip = self.left_out[e].saturating_sub(line).min(some);
        (skip, self.starts[e] + (line + skip).saturating_sub(self.left_out[e]) * self.together)
    }

    /// Where the values `[line][R rows]` of component `e` are for R rows from `row` on, a multiple of R.
    pub(super) fn part(&self, row: usize, e: usize) -> std::ops::Range<usize> {
        let block = row / self.together * self.block;
        block + self.starts[e]..block + self.starts[e + 1]
    }
}

/// Where the kernels of a convolution or of its transpose are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernels<'a> {
    pub(super) weight: &'a [f32],
    /// Kernels from a row to the next, and from a line to the next.
    pub(super) strides: [usize; 2],
    /// By 180°.
    pub(super) turned: bool,
    /// To `bf16`, once transformed.
    pub(super) round: bool,
}

/// Transforms all kernels into `packed`, zeros for rows beyond the last.
pub(super) fn pack(path: CpuPath, kernels: Kernels<'_>, packing: &Packing, packed: &mut [f32]) {
    assert_eq!(packed.len(), packing.len());
    packed
        .par_chunks_mut(packing.block)
        .enumerate()
        .for_each(|(b, block)| pack_rows(path, kernels, packing, b * packing.together, block));
}

/// The gradients `[row, line, 3, 3]` of the kernels from the `partial` sums of the transformed ones'.
pub(super) fn unpack(path: CpuPath, partial: &[Vec<f32>], packing: &Packing, d_weight: &mut [f32]) {
    assert_eq!(d_weight.len(), packing.rows * packing.lines * TAPS);
    d_weight
        .par_chunks_mut(packing.together * packing.lines * TAPS)
        .enumerate()
        .for_each(|(b, kernels)| unpack_rows(path, partial, packing, b * packing.together, kernels));
}

/// Kernels handled at once: R rows of one or more lines.
type Eight = [f32; LANES];

/// (a, ½(a + b + c), ½(a − b + c), c)
#[inline(always)]
fn spread(a: Eight, b: Eight, c: Eight) -> [Eight; 4] {
    let (mut plus, mut minus) = ([0.0; LANES], [0.0; LANES]);
    for l in 0..LANES {
        let ends = a[l] + c[l];
        plus[l] = 0.5 * (ends + b[l]);
        minus[l] = 0.5 * (ends - b[l]);
    }
    [a, plus, minus, c]
}

/// The transpose of [`spread`].
#[inline(always)]
fn gather(a: Eight, b: Eight, c: Eight, d: Eight) -> [Eight; 3] {
    let (mut first, mut second, mut third) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    for l in 0..LANES {
        let middle = 0.5 * (b[l] + c[l]);
        first[l] = a[l] + middle;
        second[l] = 0.5 * (b[l] - c[l]);
        third[l] = d[l] + middle;
    }
    [first, second, third]
}

multiversion! {
    /// G g Gᵀ of R rows from `first` on.
    fn pack_rows(from: Kernels<'_>, packing: &Packing, first: usize, block: &mut [f32]) {
        let Packing { together, rows, lines, .. } = *packing;
        let count = together.min(rows - first);
        for line in (0..lines).step_by(LANES / together) {
            let some = (lines - line).min(LANES / together);
            let mut g = [[0.0; LANES]; TAPS];
            for n in 0..some {
                for r in 0..count {
                    let at = (first + r) * from.strides[0] + (line + n) * from.strides[1];
                    let kernel = &from.weight[TAPS * at..TAPS * (at + 1)];
                    for (k, g) in g.iter_mut().enumerate() {
                        g[n * together + r] = kernel[if from.turned { TAPS - 1 - k } else { k }];
                    }
                }
            }
            let columns = [spread(g[0], g[3], g[6]), spread(g[1], g[4], g[7]), spread(g[2], g[5], g[8])];
            // Not a loop over three zipped iterators: plainer for the compiler.
            #[allow(clippy::needless_range_loop)]
            for i in 0..4 {
                let row = spread(columns[0][i], columns[1][i], columns[2][i]);
                for (j, values) in row.iter().enumerate() {
                    let e = 4 * i + j;
                    let (skip, at) = packing.place(e, line, some);
                    let mut values = *values;
                    if from.round {
                        values = values.map(to_bf16);
                    }
                    if (skip, some * together) == (0, LANES) {
                        // The usual case by itself: a copy of a known length.
                        block[at..at + LANES].copy_from_slice(&values);
                    } else {
                        let values = &values[skip * together..some * together];
                        block[at..at + values.len()].copy_from_slice(values);
                    }
                }
            }
        }
    }
}

multiversion! {
    /// Gᵀ s G of R rows from `first` on, s the sum of `partial`.
    fn unpack_rows(partial: &[Vec<f32>], packing: &Packing, first: usize, kernels: &mut [f32]) {
        let Packing { together, lines, .. } = *packing;
        let (count, start) = (kernels.len() / (lines * TAPS), first / together * packing.block);
        for line in (0..lines).step_by(LANES / together) {
            let some = (lines - line).min(LANES / together);
            let mut s = [[0f32; LANES]; COMPONENTS];
            for (e, s) in s.iter_mut().enumerate() {
                // What the component leaves out stays zero.
                let (skip, at) = packing.place(e, line, some);
                if (skip, some * together) == (0, LANES) {
                    // The usual case by itself: a sum of a known length.
                    for sums in partial {
                        let sums = &sums[start + at..][..LANES];
                        (0..LANES).for_each(|l| s[l] += sums[l]);
                    }
                    continue;
                }
                let s = &mut s[skip * together..some * together];
                for sums in partial {
                    let sums = &sums[start + at..][..s.len()];
                    s.iter_mut().zip(sums).for_each(|(s, sum)| *s += sum);
                }
            }
            let mut columns = [[[0.0; LANES]; 3]; 4];
            for (j, column) in columns.iter_mut().enumerate() {
                *column = gather(s[j], s[4 + j], s[8 + j], s[12 + j]);
            }
            for i in 0..3 {
                let row = gather(columns[0][i], columns[1][i], columns[2][i], columns[3][i]);
                for (j, values) in row.iter().enumerate() {
                    for n in 0..some {
                        for r in 0..count {
                            kernels[TAPS * (r * lines + line + n) + 3 * i + j] = values[n * together + r];
                        }
                    }
                }
            }
        }
    }
}
