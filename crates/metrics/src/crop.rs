//! Boxes around masks: every costly metric works inside the joint bounding box of its two masks.

use ndarray::{Array3, ArrayView3, s};

/// A box of voxels, `low` inside, `high` outside, in `[z, y, x]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) low: [usize; 3],
    pub(crate) high: [usize; 3],
}

impl Bounds {
    /// The smallest box holding every voxel of either array for which `inside` holds; `None` if there is none.
    pub(crate) fn joint<T: Copy>(
        a: ArrayView3<'_, T>,
        b: ArrayView3<'_, T>,
        inside: impl Fn(T) -> bool,
    ) -> Option<Self> {
        let mut bounds: Option<Self> = None;
        let (depth, height, _) = a.dim();
        for z in 0..depth {
            for y in 0..height {
                for row in [a.slice(s![z, y, ..]), b.slice(s![z, y, ..])] {
                    // Most rows are empty: look at a whole row at once, without a branch a voxel, before searching.
                    let some = match row.to_slice() {
                        Some(row) => row.iter().fold(false, |some, &v| some | inside(v)),
                        None => true,
                    };
                    if !some {
                        continue;
                    }
                    let Some(first) = row.iter().position(|&v| inside(v)) else { continue };
                    let last = row.iter().rposition(|&v| inside(v)).unwrap_or(first);
                    bounds = Some(match bounds {
                        None => Self { low: [z, y, first], high: [z + 1, y + 1, last + 1] },
                        Some(Self { low, high }) => Self {
                            low: [low[0], low[1].min(y), low[2].min(first)],
                            high: [z + 1, high[1].max(y + 1), high[2].max(last + 1)],
                        },
                    });
                }
            }
        }
        bounds
    }

    /// The box grown by `margin` voxels on each side, kept within an array of `shape`.
    pub(crate) fn grown(self, margin: usize, shape: &[usize]) -> Self {
        Self {
            low: self.low.map(|v| v.saturating_sub(margin)),
            high: std::array::from_fn(|axis| (self.high[axis] + margin).min(shape[axis])),
        }
    }

    /// The smallest box that holds both.
    pub(crate) fn with(self, other: Self) -> Self {
        Self {
            low: std::array::from_fn(|axis| self.low[axis].min(other.low[axis])),
            high: std::array::from_fn(|axis| self.high[axis].max(other.high[axis])),
        }
    }

    /// The part of `array` in the box.
    pub(crate) fn of<'a, T>(&self, array: ArrayView3<'a, T>) -> ArrayView3<'a, T> {
        let ([z0, y0, x0], [z1, y1, x1]) = (self.low, self.high);
        array.slice_move(s![z0..z1, y0..y1, x0..x1])
    }

    /// Both masks, copied to the box: `None` if both are empty.
    pub(crate) fn crop_pair(
        a: ArrayView3<'_, bool>,
        b: ArrayView3<'_, bool>,
        margin: usize,
    ) -> Option<(Array3<bool>, Array3<bool>)> {
        let bounds = Self::joint(a, b, |v| v)?.grown(margin, a.shape());
        Some((owned(bounds.of(a)), owned(bounds.of(b))))
    }
}

/// A copy in C order, whatever the order of the view.
pub(crate) fn owned<T: Copy>(view: ArrayView3<'_, T>) -> Array3<T> {
    view.as_standard_layout().into_owned()
}
