//! A kernel of an image seen flipped or turned: the same operator with its pixels in another order.
//!
//! Features of a flipped image are those of the image in another order, but for positions, and W depends on
//! differences of positions alone. So a lattice that is cached once serves all eight views of a square slice.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::kernel::{PairwiseKernel, Within, check_lengths};

/// One of the eight symmetries of a grid: first flipped along the rows' order, then along the columns', then
/// transposed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct View {
    /// The last row comes first.
    pub flip_rows: bool,
    /// The last column comes first.
    pub flip_columns: bool,
    /// Rows become columns, after the flips. A quarter turn is this with one flip.
    pub transpose: bool,
}

impl View {
    /// All eight.
    pub const ALL: [Self; 8] = {
        let mut all = [Self { flip_rows: false, flip_columns: false, transpose: false }; 8];
        let mut i = 0;
        while i < 8 {
            all[i] = Self { flip_rows: i & 1 != 0, flip_columns: i & 2 != 0, transpose: i & 4 != 0 };
            i += 1;
        }
        all
    };

    /// As `Job::view` in `kernels.cu`.
    #[cfg(any(test, feature = "cuda"))]
    pub(crate) fn bits(self) -> u32 {
        u32::from(self.flip_rows) | u32::from(self.flip_columns) << 1 | u32::from(self.transpose) << 2
    }

    /// For each pixel of the view of a `height × width` image, row by row, its index in the image.
    pub fn indices(self, height: usize, width: usize) -> Vec<u32> {
        let source = |y: usize, x: usize| {
            let y = if self.flip_rows { height - 1 - y } else { y };
            let x = if self.flip_columns { width - 1 - x } else { x };
            (y * width + x) as u32
        };
        if self.transpose {
            (0..width).flat_map(|x| (0..height).map(move |y| (y, x))).map(|(y, x)| source(y, x)).collect()
        } else {
            (0..height).flat_map(|y| (0..width).map(move |x| (y, x))).map(|(y, x)| source(y, x)).collect()
        }
    }

    /// The view of planar values `[plane][y][x]`; what is left beyond whole planes is dropped.
    pub fn apply<T: Copy>(self, values: &[T], height: usize, width: usize) -> Vec<T> {
        let plane = height.saturating_mul(width);
        if plane == 0 || plane > values.len() {
            return Vec::new();
        }
        let indices = self.indices(height, width);
        let planes = values.chunks_exact(plane);
        planes.flat_map(|plane| indices.iter().map(move |&i| plane[i as usize])).collect()
    }
}

/// A kernel of a view of the image that another kernel was built for.
pub struct Oriented {
    kernel: Arc<dyn PairwiseKernel>,
    /// Pixel of the kernel's image behind each pixel of the view.
    indices: Vec<u32>,
    mass: Vec<f32>,
    within: Within,
    /// The view, and the rows and columns that it has.
    #[cfg(feature = "cuda")]
    shown: (View, [usize; 2]),
}

impl Oriented {
    /// `kernel` of a `height × width` image as the kernel of its `view`. Pixels must be square if the view transposes.
    ///
    /// # Errors
    /// [`Error::Length`] when the kernel has another number of pixels.
    pub fn new(kernel: Arc<dyn PairwiseKernel>, view: View, height: usize, width: usize) -> Result<Self> {
        let expected = height.saturating_mul(width);
        if kernel.pixels() != expected {
            return Err(Error::Length { what: "pixels of a view", expected, found: kernel.pixels() });
        }
        let mass = view.apply(kernel.mass(), height, width);
        Ok(Self {
            indices: view.indices(height, width),
            kernel,
            mass,
            within: Within::default(),
            #[cfg(feature = "cuda")]
            shown: (view, if view.transpose { [width, height] } else { [height, width] }),
        })
    }
}

impl PairwiseKernel for Oriented {
    fn pixels(&self) -> usize {
        self.indices.len()
    }

    fn filter(&self, channels: usize, values: &[f32], out: &mut [f32]) -> Result<()> {
        let n = self.pixels();
        check_lengths(n, channels, values, out)?;
        if n == 0 {
            return Ok(());
        }
        let mut turned = vec![0.0; values.len()];
        for (to, from) in turned.chunks_exact_mut(n).zip(values.chunks_exact(n)) {
            for (&i, &v) in self.indices.iter().zip(from) {
                to[i as usize] = v;
            }
        }
        let mut filtered = vec![0.0; values.len()];
        self.kernel.filter(channels, &turned, &mut filtered)?;
        for (to, from) in out.chunks_exact_mut(n).zip(filtered.chunks_exact(n)) {
            for (&i, to) in self.indices.iter().zip(to) {
                *to = from[i as usize];
            }
        }
        Ok(())
    }

    fn mass(&self) -> &[f32] {
        &self.mass
    }

    fn mass_within(&self, region: &[f32]) -> Result<Arc<[f32]>> {
        self.within.mass(region, |mass| self.filter(1, region, mass))
    }

    fn bytes(&self) -> usize {
        // The kernel itself is held by whoever caches it.
        4 * (self.indices.len() + self.mass.len()) + Within::bytes(self.mass.len())
    }

    #[cfg(feature = "cuda")]
    fn resident(&self) -> Option<crate::Shown<'_>> {
        // A view of a view is none: it would have to be composed.
        let inner = self.kernel.resident().filter(|inner| inner.view == View::default())?;
        let (view, shape) = self.shown;
        Some(crate::Shown { kernel: inner.kernel, view, shape: Some(shape) })
    }
}
