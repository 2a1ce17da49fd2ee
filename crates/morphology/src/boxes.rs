//! Erosion and dilation by a box, one axis after the other with running counts: the cost does not depend on the size.

use crate::Error;
use ndarray::{Array, ArrayView, Dimension};
use rayon::prelude::*;

/// Arrays below this many elements are not worth sharing out among threads.
const PARALLEL_FROM: usize = 1 << 17;

/// What a window must hold for its centre to be set.
#[derive(Clone, Copy)]
enum Rule {
    /// Every element of the whole window, which must lie inside the array.
    All,
    /// At least one element.
    Any,
}

/// Erodes `mask` by a box of `size` elements (one side per axis).
///
/// An element stays when the box around it is wholly set; outside the array counts as background, so the box eats from
/// the array's border too. The box around index `i` spans `i - size/2 ..= i - size/2 + size - 1`: even boxes reach one
/// further down than up, as in SciPy.
///
/// # Errors
/// [`Error::BoxLength`] when `size` has not one side per axis, [`Error::EmptyBox`] when a side is 0.
pub fn erode<D: Dimension>(mask: ArrayView<'_, bool, D>, size: &[usize]) -> Result<Array<bool, D>, Error> {
    separable(mask, size, Rule::All)
}

/// Dilates `mask` by a box of `size` elements (one side per axis); the adjoint of [`erode`].
///
/// An element is set when some set element's box, placed as [`erode`] places it, covers it: even boxes are therefore
/// mirrored here, as in SciPy, and opening and closing do not shift the mask.
///
/// # Errors
/// [`Error::BoxLength`] when `size` has not one side per axis, [`Error::EmptyBox`] when a side is 0.
pub fn dilate<D: Dimension>(mask: ArrayView<'_, bool, D>, size: &[usize]) -> Result<Array<bool, D>, Error> {
    separable(mask, size, Rule::Any)
}

fn separable<D: Dimension>(
    mask: ArrayView<'_, bool, D>,
    size: &[usize],
    rule: Rule,
) -> Result<Array<bool, D>, Error> {
    if size.len() != mask.ndim() {
        return Err(Error::BoxLength { expected: mask.ndim(), found: size.len() });
    }
    if let Some(axis) = size.iter().position(|&side| side == 0) {
        return Err(Error::EmptyBox { axis });
    }
    let mut result = mask.as_standard_layout().into_owned();
    let shape = result.shape().to_vec();
    let Some(mut data) = result.as_slice_mut() else { return Ok(result) };
    if data.is_empty() {
        return Ok(result);
    }
    let mut buffer = vec![false; data.len()];
    let mut other = buffer.as_mut_slice();
    let mut swapped = false;
    for (axis, (&length, &side)) in shape.iter().zip(size).enumerate() {
        if side == 1 {
            continue;
        }
        let inner: usize = shape.iter().skip(axis + 1).product();
        let (below, above) = match rule {
            Rule::All => (side / 2, side - 1 - side / 2),
            Rule::Any => (side - 1 - side / 2, side / 2),
        };
        along(data, other, Lines { length, inner, below, above, rule });
        std::mem::swap(&mut data, &mut other);
        swapped = !swapped;
    }
    if swapped {
        // The newest pass lies in the helper buffer, the result's own memory is `other`.
        other.copy_from_slice(data);
    }
    Ok(result)
}

/// One pass: the array seen as `[outer, length, inner]`, windows run along the middle axis.
#[derive(Clone, Copy)]
struct Lines {
    length: usize,
    inner: usize,
    below: usize,
    above: usize,
    rule: Rule,
}

fn along(input: &[bool], output: &mut [bool], lines: Lines) {
    let Lines { length, inner, .. } = lines;
    let block = length * inner;
    if input.len() < PARALLEL_FROM {
        for (source, target) in input.chunks_exact(block).zip(output.chunks_exact_mut(block)) {
            lines.rows(source, 0, target);
        }
    } else if inner == 1 {
        output
            .par_chunks_exact_mut(block)
            .with_min_len(256)
            .zip(input.par_chunks_exact(block))
            .for_each(|(target, source)| lines.rows(source, 0, target));
    } else {
        // A piece starts by counting its first window afresh, so pieces should not be much shorter than the window.
        let rows =
            length.div_ceil(rayon::current_num_threads()).max(lines.below + lines.above + 1).min(length);
        output.par_chunks_exact_mut(block).zip(input.par_chunks_exact(block)).for_each(|(target, source)| {
            target
                .par_chunks_mut(rows * inner)
                .enumerate()
                .for_each(|(piece, target)| lines.rows(source, piece * rows, target));
        });
    }
}

impl Lines {
    /// Fills `target`, the rows `first..` of the block `source`.
    fn rows(self, source: &[bool], first: usize, target: &mut [bool]) {
        if self.inner == 1 {
            self.single(source, target);
            return;
        }
        let Lines { length, inner, below, above, rule } = self;
        let row = |index: usize| source.get(index * inner..(index + 1) * inner).unwrap_or(&[]);
        let mut counts = vec![0_u32; inner];
        for index in first.saturating_sub(below)..(first + above).min(length) {
            for (count, &set) in counts.iter_mut().zip(row(index)) {
                *count += u32::from(set);
            }
        }
        for (step, target) in target.chunks_exact_mut(inner).enumerate() {
            let centre = first + step;
            if centre + above < length {
                for (count, &set) in counts.iter_mut().zip(row(centre + above)) {
                    *count += u32::from(set);
                }
            }
            match rule {
                Rule::All => {
                    let needed = u32::try_from(below + above + 1).unwrap_or(u32::MAX);
                    target.iter_mut().zip(&counts).for_each(|(out, &count)| *out = count == needed);
                }
                Rule::Any => target.iter_mut().zip(&counts).for_each(|(out, &count)| *out = count > 0),
            }
            if centre >= below {
                for (count, &set) in counts.iter_mut().zip(row(centre - below)) {
                    *count -= u32::from(set);
                }
            }
        }
    }

    /// The contiguous case: `source` and `target` are one whole line.
    fn single(self, source: &[bool], target: &mut [bool]) {
        let Lines { length, below, above, rule, .. } = self;
        target.fill(false);
        // Runs of set elements shrink or grow by the window, no counting needed.
        let mut start = 0;
        while start < length {
            if !source[start] {
                start += 1;
                continue;
            }
            let mut end = start + 1;
            while end < length && source[end] {
                end += 1;
            }
            let (from, to) = match rule {
                Rule::All => (start + below, end.saturating_sub(above)),
                Rule::Any => (start.saturating_sub(above), (end + below).min(length)),
            };
            if from < to {
                target[from..to].fill(true);
            }
            start = end;
        }
    }
}
