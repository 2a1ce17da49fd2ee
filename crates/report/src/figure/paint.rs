//! One panel: the enlarged slice, its contours and its errors.

use ndarray::Array2;

use super::{FigureCase, FigureKind};
use crate::canvas::{Canvas, Rgb};

// The palette of Okabe and Ito, made to be told apart with any colour vision.
const ORANGE: Rgb = [230, 159, 0];
const SKY: Rgb = [86, 180, 233];
const GREEN: Rgb = [0, 158, 115];
const YELLOW: Rgb = [240, 228, 66];
const VERMILLION: Rgb = [213, 94, 0];
const PURPLE: Rgb = [204, 121, 167];
const WHITE: Rgb = [255, 255, 255];

/// How a mark looks, in a panel and in the legend.
#[derive(Clone, Copy)]
pub(super) enum Mark {
    Outline(Rgb),
    Fill(Rgb),
    /// Stripes falling (1) or rising (−1) to the right, or dots (0).
    Hatch(Rgb, i8),
}

const REFERENCE: Mark = Mark::Outline(GREEN);
const PREDICTION: Mark = Mark::Outline(YELLOW);
/// Labels 1, 2 and 3.
const CLASSES: [Mark; 3] = [Mark::Fill(PURPLE), Mark::Fill(GREEN), Mark::Fill(YELLOW)];
const MISSED: [Mark; 2] = [Mark::Fill(SKY), Mark::Hatch(SKY, 1)];
const SPURIOUS: [Mark; 2] = [Mark::Fill(VERMILLION), Mark::Hatch(ORANGE, -1)];
const CONFUSED: Mark = Mark::Hatch(WHITE, 0);

/// The marks of a figure with their names.
pub(super) fn legend(kind: FigureKind) -> Vec<(Mark, &'static str)> {
    match kind {
        FigureKind::WholeTumour => vec![
            (REFERENCE, "reference"),
            (PREDICTION, "prediction"),
            (MISSED[0], "false negative"),
            (SPURIOUS[0], "false positive"),
        ],
        FigureKind::Substructures => vec![
            (CLASSES[2], "ET"),
            (CLASSES[0], "NCR/NET"),
            (CLASSES[1], "ED"),
            (MISSED[1], "false negative"),
            (SPURIOUS[1], "false positive"),
            (CONFUSED, "wrong sub-structure"),
        ],
    }
}

impl Mark {
    /// Whether the mark covers pixel (x, y) of an area it fills, and how strongly.
    fn share(self, x: usize, y: usize) -> f32 {
        match self {
            Self::Outline(_) => 0.0,
            Self::Fill(_) => 0.5,
            Self::Hatch(_, 0) => {
                if x % 6 < 2 && y % 6 < 2 {
                    0.95
                } else {
                    0.0
                }
            }
            Self::Hatch(_, slope) => {
                let across = if slope > 0 { x + 7 * y } else { x + y };
                if across % 8 < 3 { 0.95 } else { 0.0 }
            }
        }
    }

    fn colour(self) -> Rgb {
        match self {
            Self::Outline(colour) | Self::Fill(colour) | Self::Hatch(colour, _) => colour,
        }
    }

    /// A sample of the mark on the grey of tissue.
    pub(super) fn sample(self, canvas: &mut Canvas, x: usize, y: usize, width: usize, height: usize) {
        canvas.fill(x, y, width, height, [70, 70, 70], 1.0);
        for py in 0..height {
            for px in 0..width {
                let edge = px < 2 || py < 2 || px + 2 >= width || py + 2 >= height;
                let share = match self {
                    Self::Outline(_) => f32::from(u8::from(edge)),
                    Self::Fill(_) => {
                        if edge {
                            1.0
                        } else {
                            0.7
                        }
                    }
                    Self::Hatch(..) => self.share(px, py),
                };
                canvas.blend(x + px, y + py, self.colour(), share);
            }
        }
    }
}

/// Where a panel lies in the slice and on the canvas.
#[derive(Clone, Copy)]
pub(super) struct View {
    /// The slice's pixel at the panel's top left, `[y, x]`; may lie outside.
    pub(super) origin: [isize; 2],
    /// Pixels of the slice, `[y, x]`.
    pub(super) size: [usize; 2],
    /// Canvas pixels a slice pixel.
    pub(super) scale: usize,
}

/// The greys of a slice, 0..=255, with background black.
pub(super) fn greys(case: &FigureCase) -> Array2<f32> {
    let background = background(&case.image);
    let inside = |v: f32| v.is_finite() && Some(v.to_bits()) != background;
    let [low, high] = case.window.unwrap_or_else(|| {
        let mut values: Vec<f32> = case.image.iter().copied().filter(|&v| inside(v)).collect();
        values.sort_by(f32::total_cmp);
        let at = |share: f64| {
            let i = (share * values.len().saturating_sub(1) as f64).round() as usize;
            values.get(i).copied().unwrap_or(0.0)
        };
        [at(0.005), at(0.995)]
    });
    // One grey for a flat image: a window without width has no scale.
    let width = if high > low { high - low } else { 1.0 };
    case.image.mapv(|v| if inside(v) { 20.0 + 225.0 * ((v - low) / width).clamp(0.0, 1.0) } else { 0.0 })
}

/// The value of the background, as bits: that of the four corners if they agree.
pub(super) fn background(image: &Array2<f32>) -> Option<u32> {
    let (height, width) = image.dim();
    let corner = |y, x| image.get((y, x)).map(|v: &f32| v.to_bits());
    let first = corner(0, 0)?;
    [corner(0, width - 1), corner(height - 1, 0), corner(height - 1, width - 1)]
        .iter()
        .all(|&c| c == Some(first))
        .then_some(first)
}

/// Draws the slice enlarged between its pixels.
pub(super) fn image(canvas: &mut Canvas, at: [usize; 2], greys: &Array2<f32>, view: View) {
    let grey = |y: isize, x: isize| {
        let pixel = usize::try_from(y).ok().zip(usize::try_from(x).ok()).and_then(|at| greys.get(at));
        pixel.copied().unwrap_or(0.0)
    };
    let k = view.scale as f32;
    for py in 0..view.size[0] * view.scale {
        for px in 0..view.size[1] * view.scale {
            let y = (py as f32 + 0.5) / k - 0.5 + view.origin[0] as f32;
            let x = (px as f32 + 0.5) / k - 0.5 + view.origin[1] as f32;
            let (y0, x0) = (y.floor(), x.floor());
            let (fy, fx, y0, x0) = (y - y0, x - x0, y0 as isize, x0 as isize);
            let above = grey(y0, x0) * (1.0 - fx) + grey(y0, x0 + 1) * fx;
            let below = grey(y0 + 1, x0) * (1.0 - fx) + grey(y0 + 1, x0 + 1) * fx;
            let level = (above * (1.0 - fy) + below * fy).round() as u8;
            canvas.blend(at[1] + px, at[0] + py, [level; 3], 1.0);
        }
    }
}

/// Marks a prediction, or the reference itself where `prediction` is `None`.
pub(super) fn marks(
    canvas: &mut Canvas,
    at: [usize; 2],
    reference: &Array2<u8>,
    prediction: Option<&Array2<u8>>,
    kind: FigureKind,
    view: View,
) {
    let label = |labels: &Array2<u8>, py: isize, px: isize| -> u8 {
        let k = view.scale as isize;
        let (y, x) = (py.div_euclid(k) + view.origin[0], px.div_euclid(k) + view.origin[1]);
        let found =
            usize::try_from(y).ok().zip(usize::try_from(x).ok()).and_then(|at| labels.get(at)).copied();
        match kind {
            FigureKind::WholeTumour => u8::from(found.unwrap_or(0) > 0),
            FigureKind::Substructures => found.unwrap_or(0),
        }
    };
    let shown = prediction.unwrap_or(reference);
    // As wide as shows when the figure is shrunk to a page.
    let pen = if view.scale > 1 { 2 } else { 1 };
    let style = usize::from(kind == FigureKind::Substructures);
    for py in 0..view.size[0] * view.scale {
        for px in 0..view.size[1] * view.scale {
            let (iy, ix) = (py as isize, px as isize);
            let (truth, own) = (label(reference, iy, ix), label(shown, iy, ix));
            let (cx, cy) = (at[1] + px, at[0] + py);
            if style == 1 && own > 0 {
                let class = CLASSES[usize::from(own - 1).min(2)];
                canvas.blend(cx, cy, class.colour(), class.share(px, py));
            }
            let error = match (truth, own) {
                (t, o) if t == o => None,
                (_, 0) => Some(MISSED[style]),
                (0, _) => Some(SPURIOUS[style]),
                _ => Some(CONFUSED),
            };
            if let Some(mark) = error {
                canvas.blend(cx, cy, mark.colour(), mark.share(px, py));
            }
            let outline = match (style, prediction) {
                (1, _) => CLASSES[usize::from(own.saturating_sub(1)).min(2)],
                (_, None) => REFERENCE,
                (_, Some(_)) => PREDICTION,
            };
            let on_edge = own > 0
                && [(0, pen), (0, -pen), (pen, 0), (-pen, 0)]
                    .iter()
                    .any(|(dy, dx)| label(shown, iy + dy, ix + dx) != own);
            if on_edge {
                canvas.blend(cx, cy, outline.colour(), 1.0);
            }
        }
    }
}
