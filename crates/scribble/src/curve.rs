//! One curve: found in a mask, moved, drawn.

use ndarray::{Array2, ArrayView2};
use rand::{Rng, RngExt};
use scribseg_morphology::{longest_path, skeletonize};

use crate::params::{Params, pixels};

/// An ordered curve through pixel centres, and where it may be drawn.
pub(crate) struct Curve<'a> {
    points: Vec<[usize; 2]>,
    mask: ArrayView2<'a, bool>,
    pixel_mm: [f64; 2],
}

impl<'a> Curve<'a> {
    /// The middle of `core`, to be drawn inside `mask`.
    pub(crate) fn through(
        core: ArrayView2<'_, bool>,
        mask: ArrayView2<'a, bool>,
        pixel_mm: [f64; 2],
    ) -> Self {
        Self { points: longest_path(skeletonize(core).view()), mask, pixel_mm }
    }

    /// Moves and draws the curve; if nothing of it lies inside the mask, draws lots again, and after as many tries as
    /// allowed leaves the curve where it was.
    pub(crate) fn scribble(&self, params: &Params, rng: &mut impl Rng) -> Array2<bool> {
        let width = pixels(params.width_mm, self.pixel_mm);
        for _ in 0..params.tries {
            let moved = self.moved(params, rng);
            let drawn = self.draw(&moved, width);
            if drawn.iter().any(|&set| set) {
                return drawn;
            }
        }
        let unmoved: Vec<[i64; 2]> = self.points.iter().map(|point| point.map(|at| at as i64)).collect();
        self.draw(&unmoved, width)
    }

    /// The points after a random turn about their centroid and a random shift, both in mm, to whole pixels.
    fn moved(&self, params: &Params, rng: &mut impl Rng) -> Vec<[i64; 2]> {
        let mut symmetric = |limit: f64| limit * (2.0 * rng.random::<f64>() - 1.0);
        let shift_x = symmetric(params.shift_mm);
        let shift_y = symmetric(params.shift_mm);
        let (sine, cosine) = symmetric(params.rotation_deg).to_radians().sin_cos();
        let [height, width] = self.pixel_mm;
        let count = self.points.len().max(1) as f64;
        let centre_y = self.points.iter().map(|&[y, _]| y as f64 * height).sum::<f64>() / count;
        let centre_x = self.points.iter().map(|&[_, x]| x as f64 * width).sum::<f64>() / count;
        self.points
            .iter()
            .map(|&[y, x]| {
                let (v, u) = (y as f64 * height - centre_y, x as f64 * width - centre_x);
                let y = centre_y + shift_y + sine * u + cosine * v;
                let x = centre_x + shift_x + cosine * u - sine * v;
                [(y / height).round() as i64, (x / width).round() as i64]
            })
            .collect()
    }

    /// Draws straight strokes from point to point with a pen of `width` pixels, inside the mask only.
    fn draw(&self, points: &[[i64; 2]], width: [usize; 2]) -> Array2<bool> {
        let mut drawn = Array2::from_elem(self.mask.dim(), false);
        let mut dot = |point: [i64; 2]| {
            let [rows, columns] = pen(point, width, self.mask.dim());
            for y in rows {
                for x in columns.clone() {
                    drawn[[y, x]] = self.mask[[y, x]];
                }
            }
        };
        if let Some(&first) = points.first() {
            dot(first);
        }
        // Neighbouring points can come to lie apart when the curve turns; a stroke has no gaps.
        for (&[y, x], &[v, u]) in points.iter().zip(points.iter().skip(1)) {
            let steps = (v - y).abs().max((u - x).abs());
            for step in 1..=steps {
                let along = |from: i64, to: i64| from + ((to - from) * step + steps / 2).div_euclid(steps);
                dot([along(y, v), along(x, u)]);
            }
        }
        drawn
    }
}

/// Rows and columns under a pen at `point`, cut to the image. A pen of even width reaches one further up and left than
/// down and right, against the shift that erosion by an even box gives the curve.
fn pen(point: [i64; 2], width: [usize; 2], dim: (usize, usize)) -> [std::ops::Range<usize>; 2] {
    let cover = |at: i64, width: usize, length: usize| {
        let width = i64::try_from(width).unwrap_or(i64::MAX);
        let first = at.saturating_sub(width / 2);
        let clamp = |index: i64| usize::try_from(index).unwrap_or(0).min(length);
        clamp(first)..clamp(first.saturating_add(width))
    };
    let [y, x] = point;
    [cover(y, width[0], dim.0), cover(x, width[1], dim.1)]
}
