//! Exact Euclidean distances, one axis after the other (lower envelopes of parabolas).

use crate::Error;
use ndarray::{Array, ArrayView, ArrayViewMut2, ArrayViewMut3, Axis, Dimension};
use rayon::prelude::*;

/// Lines taken together in a pass across the memory order: enough to use whole cache lines.
const STRIP: usize = 32;

/// The Euclidean distance of every set element to the nearest background element; 0 on the background.
///
/// `spacing` is the length of one step along each axis (mm, say), the result has its unit. Distances run between
/// element centres. Outside the array there is nothing: a mask without background has no nearest element and gives
/// infinity everywhere (SciPy leaves that case undefined).
///
/// The method is the separable one of Felzenszwalb and Huttenlocher, "Distance Transforms of Sampled Functions",
/// Theory of Computing 8 (2012): linear time, exact up to rounding.
///
/// # Errors
/// [`Error::SpacingLength`] when `spacing` has not one value per axis, [`Error::Spacing`] when one is not a finite
/// length above 0.
pub fn distance_transform<D: Dimension>(
    mask: ArrayView<'_, bool, D>,
    spacing: &[f64],
) -> Result<Array<f64, D>, Error> {
    if spacing.len() != mask.ndim() {
        return Err(Error::SpacingLength { expected: mask.ndim(), found: spacing.len() });
    }
    if let Some((axis, &value)) =
        spacing.iter().enumerate().find(|&(_, &value)| !(value.is_finite() && value > 0.0))
    {
        return Err(Error::Spacing { axis, value });
    }
    let shape = mask.shape().to_vec();
    let mut result = Array::from_elem(mask.raw_dim(), f64::INFINITY);
    ndarray::Zip::from(&mut result).and(&mask).for_each(|distance, &set| {
        if !set {
            *distance = 0.0;
        }
    });
    if result.is_empty() {
        return Ok(result);
    }
    let Some(data) = result.as_slice_mut() else { return Ok(result) };
    let mut inner = 1;
    for (&length, &step) in shape.iter().zip(spacing).rev() {
        if inner == 1 {
            data.par_chunks_exact_mut(length).with_min_len(64).for_each(|line| sweep(line, step));
        } else if let Ok(view) =
            ArrayViewMut3::from_shape((data.len() / (length * inner), length, inner), &mut *data)
        {
            along_middle(view, step);
        }
        inner *= length;
    }
    data.par_chunks_mut(1 << 14).for_each(|part| part.iter_mut().for_each(|value| *value = value.sqrt()));
    Ok(result)
}

/// One pass along the middle axis, in strips that are brought into lines and back.
fn along_middle(mut data: ArrayViewMut3<'_, f64>, step: f64) {
    let length = data.len_of(Axis(1));
    let strips: Vec<ArrayViewMut2<'_, f64>> = data
        .axis_iter_mut(Axis(0))
        .flat_map(|block| {
            let mut rest = Some(block);
            std::iter::from_fn(move || {
                let block = rest.take()?;
                if block.len_of(Axis(1)) <= STRIP {
                    return Some(block);
                }
                let (strip, others) = block.split_at(Axis(1), STRIP);
                rest = Some(others);
                Some(strip)
            })
        })
        .collect();
    strips.into_par_iter().for_each_init(
        || (vec![0.0; length * STRIP], Envelope::with_capacity(length)),
        |(lines, envelope), mut strip| {
            for (index, row) in strip.rows().into_iter().enumerate() {
                for (line, &value) in lines.chunks_exact_mut(length).zip(row) {
                    line[index] = value;
                }
            }
            for line in lines.chunks_exact_mut(length).take(strip.len_of(Axis(1))) {
                // Background alone stays as it is: of a head's volume the greater part.
                if line.iter().any(|&value| value != 0.0) {
                    envelope.lower(line, step);
                }
            }
            for (index, mut row) in strip.rows_mut().into_iter().enumerate() {
                for (line, value) in lines.chunks_exact(length).zip(&mut row) {
                    *value = line[index];
                }
            }
        },
    );
}

/// Squared distances along one line of zeros and infinities.
fn sweep(line: &mut [f64], step: f64) {
    let mut since = usize::MAX;
    let squared = |steps: usize| {
        let length = steps as f64 * step;
        length * length
    };
    for value in line.iter_mut() {
        if *value == 0.0 {
            since = 0;
        } else if since != usize::MAX {
            since += 1;
            *value = squared(since);
        }
    }
    since = usize::MAX;
    for value in line.iter_mut().rev() {
        if *value == 0.0 {
            since = 0;
        } else if since != usize::MAX {
            since += 1;
            *value = value.min(squared(since));
        }
    }
}

/// Working memory for the lower envelope of the parabolas `value[q] + (x − q·step)²`.
struct Envelope {
    /// Indices of the parabolas on the envelope, left to right, with their apex heights.
    parabolas: Vec<(usize, f64)>,
    /// From which position on each is the lowest.
    starts: Vec<f64>,
}

impl Envelope {
    fn with_capacity(length: usize) -> Self {
        Self { parabolas: Vec::with_capacity(length), starts: Vec::with_capacity(length) }
    }

    fn lower(&mut self, line: &mut [f64], step: f64) {
        self.parabolas.clear();
        self.starts.clear();
        for (index, &height) in line.iter().enumerate() {
            if height == f64::INFINITY {
                continue;
            }
            let start = loop {
                let (Some(&(last, apex)), Some(&since)) = (self.parabolas.last(), self.starts.last()) else {
                    break f64::NEG_INFINITY;
                };
                let (here, there) = (index as f64 * step, last as f64 * step);
                let meet = ((height + here * here) - (apex + there * there)) / (2.0 * (here - there));
                if meet > since {
                    break meet;
                }
                self.parabolas.pop();
                self.starts.pop();
            };
            self.parabolas.push((index, height));
            self.starts.push(start);
        }
        if self.parabolas.is_empty() {
            return;
        }
        let mut current = 0;
        for (index, value) in line.iter_mut().enumerate() {
            let here = index as f64 * step;
            while self.starts.get(current + 1).is_some_and(|&start| start < here) {
                current += 1;
            }
            let (apex_index, apex) = self.parabolas[current];
            let offset = (index as f64 - apex_index as f64) * step;
            *value = apex + offset * offset;
        }
    }
}
