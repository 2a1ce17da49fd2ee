//! The kernels of a convolution as Winograd's filtering multiplies them: G g Gᵀ, and the way back for their gradients, Gᵀ s G.

use super::gemm;
use super::lanes::{Lanes, TAPS, WIDEST, lanes};
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
        .for_each(|(b, block)| pack_rows(path, kernels.round, kernels, packing, b * packing.together, block));
}

/// The gradients `[row, line, 3, 3]` of the kernels from the `partial` sums of the transformed ones'.
pub(super) fn unpack(path: CpuPath, partial: &[Vec<f32>], packing: &Packing, d_weight: &mut [f32]) {
    assert_eq!(d_weight.len(), packing.rows * packing.lines * TAPS);
    d_weight
        .par_chunks_mut(packing.together * packing.lines * TAPS)
        .enumerate()
        .for_each(|(b, kernels)| unpack_rows(path, partial, packing, b * packing.together, kernels));
}

/// (a, ½(a + b + c), ½(a − b + c), c)
#[inline(always)]
fn spread<L: Lanes>(a: L, b: L, c: L) -> [L; 4] {
    let ends = a.plus(c);
    [a, ends.plus(b).halved(), ends.minus(b).halved(), c]
}

/// The transpose of [`spread`].
#[inline(always)]
fn gather<L: Lanes>(a: L, b: L, c: L, d: L) -> [L; 3] {
    let middle = b.plus(c).halved();
    [a.plus(middle), b.minus(c).halved(), d.plus(middle)]
}

lanes! {
    /// G g Gᵀ of R rows from `first` on; the kernels of R rows and one or more lines at once.
    fn pack_rows<L, ROUND>(from: Kernels<'_>, packing: &Packing, first: usize, block: &mut [f32]) {
        let Packing { together, rows, lines, .. } = *packing;
        let (weight, _) = from.weight.as_chunks::<TAPS>();
        let count = together.min(rows - first);
        for line in (0..lines).step_by(L::COUNT / together) {
            let some = (lines - line).min(L::COUNT / together);
            let mut kernels = [&[0.0; TAPS]; WIDEST];
            for n in 0..some {
                for (r, kernel) in kernels[n * together..][..count].iter_mut().enumerate() {
                    *kernel = &weight[(first + r) * from.strides[0] + (line + n) * from.strides[1]];
                }
            }
            let mut g = L::of_kernels(&kernels);
            if from.turned {
                g.reverse();
            }
            let columns = [spread(g[0], g[3], g[6]), spread(g[1], g[4], g[7]), spread(g[2], g[5], g[8])];
            // Not a loop over three zipped iterators: plainer for the compiler.
            #[allow(clippy::needless_range_loop)]
            for i in 0..4 {
                let row = spread(columns[0][i], columns[1][i], columns[2][i]);
                for (j, value) in row.into_iter().enumerate() {
                    let value = if ROUND { value.rounded() } else { value };
                    let (skip, at) = packing.place(4 * i + j, line, some);
                    let to = &mut block[at..at + (some - skip) * together];
                    if skip == 0 {
                        value.store_some(to);
                    } else {
                        let mut values = [0.0; WIDEST];
                        value.store_some(&mut values);
                        to.copy_from_slice(&values[skip * together..some * together]);
                    }
                }
            }
        }
    }
}

lanes! {
    /// Gᵀ s G of R rows from `first` on, s the sum of `partial`.
    fn unpack_rows<L>(partial: &[Vec<f32>], packing: &Packing, first: usize, kernels: &mut [f32]) {
        let Packing { together, lines, .. } = *packing;
        let (kernels, _) = kernels.as_chunks_mut::<TAPS>();
        let (count, start) = (kernels.len() / lines, first / together * packing.block);
        for line in (0..lines).step_by(L::COUNT / together) {
            let some = (lines - line).min(L::COUNT / together);
            let mut s = [L::zero(); COMPONENTS];
            for (e, s) in s.iter_mut().enumerate() {
                // What the component leaves out stays zero.
                let (skip, at) = packing.place(e, line, some);
                for sums in partial {
                    let sums = &sums[start + at..][..(some - skip) * together];
                    let sums = match skip {
                        0 => L::load_some(sums),
                        _ => {
                            let mut values = [0.0; WIDEST];
                            values[skip * together..some * together].copy_from_slice(sums);
                            L::load_some(&values)
                        }
                    };
                    *s = s.plus(sums);
                }
            }
            let mut columns = [[L::zero(); 3]; 4];
            for (j, column) in columns.iter_mut().enumerate() {
                *column = gather(s[j], s[4 + j], s[8 + j], s[12 + j]);
            }
            let mut taps = [L::zero(); TAPS];
            for i in 0..3 {
                taps[3 * i..3 * i + 3].copy_from_slice(&gather(columns[0][i], columns[1][i], columns[2][i], columns[3][i]));
            }
            let mut all = [[0.0; TAPS]; WIDEST];
            L::to_kernels(taps, &mut all);
            for n in 0..some {
                for r in 0..count {
                    kernels[r * lines + line + n] = all[n * together + r];
                }
            }
        }
    }
}
