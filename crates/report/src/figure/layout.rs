//! Where titles, panels and the legend stand.

use super::paint::{View, background, greys, image, legend, marks};
use super::{Figure, FigureCase};
use crate::Error;
use crate::canvas::{Canvas, Rgb, fitted, text_width};

const MARGIN: usize = 28;
const GUTTER: usize = 8;
const PAPER: Rgb = [255, 255, 255];
const INK: Rgb = [28, 30, 34];
const GREY: Rgb = [92, 98, 108];
const TITLE: f32 = 17.0;
const HEADING: f32 = 13.0;
const SMALL: f32 = 11.0;
/// Slice pixels kept around what is not background.
const RIM: usize = 3;
/// The width a panel is enlarged towards.
const PANEL: usize = 300;

pub(super) fn draw(figure: &Figure) -> Result<Canvas, Error> {
    let boxes: Vec<[usize; 4]> = figure.cases.iter().map(content).collect();
    let size = [0, 1].map(|axis| boxes.iter().map(|b| b[axis + 2] - b[axis]).max().unwrap_or(1));
    let scale = ((PANEL as f64 / size[1] as f64).round() as usize).clamp(1, 12);
    let panel = size.map(|side| side * scale);
    let columns = 1 + figure.cases.first().map_or(0, |case| case.panels.len());

    let grid = columns * panel[1] + (columns - 1) * GUTTER;
    let width = grid.max(text_width(&figure.title, TITLE).min(1200)) + 2 * MARGIN;
    let legend = legend_lines(figure, width - 2 * MARGIN);
    let top = MARGIN + 2 * TITLE as usize + 6;
    let header = 2 * HEADING as usize + 4;
    let strip = 2 * SMALL as usize;
    let line = strip + panel[0] + GUTTER;
    let rows = top + header + figure.cases.len() * line;
    let height = rows + GUTTER + legend.len() * 26 + MARGIN - 8;

    let mut canvas = Canvas::new(width, height, PAPER);
    canvas.text(MARGIN, MARGIN, TITLE, &fitted(&figure.title, TITLE, width - 2 * MARGIN), INK);
    let left = |column: usize| MARGIN + column * (panel[1] + GUTTER);
    let headings = std::iter::once("Reference")
        .chain(figure.cases.iter().take(1).flat_map(|case| case.panels.iter().map(|p| p.method.as_str())));
    for (column, heading) in headings.enumerate() {
        let heading = fitted(heading, HEADING, panel[1]);
        let centred = left(column) + (panel[1] - text_width(&heading, HEADING).min(panel[1])) / 2;
        canvas.text(centred, top + 6, HEADING, &heading, INK);
    }
    for (row, (case, found)) in figure.cases.iter().zip(&boxes).enumerate() {
        let y = top + header + row * line;
        let label = format!("{}, slice {}", case.id, case.slice);
        canvas.text(MARGIN, y + 3, SMALL, &fitted(&label, SMALL, grid), GREY);
        let y = y + strip;
        // The slice's content in the middle of its panel.
        let origin = [0, 1].map(|a| (found[a] + found[a + 2]) as isize / 2 - size[a] as isize / 2);
        let view = View { origin, size, scale };
        let greys = greys(case);
        let shown = std::iter::once(None).chain(case.panels.iter().map(Some));
        for (column, shown) in shown.enumerate() {
            let at = [y, left(column)];
            image(&mut canvas, at, &greys, view);
            marks(&mut canvas, at, &case.reference, shown.map(|p| &p.prediction), figure.kind, view);
            if let Some(shown) = shown {
                let dice = if shown.dice.is_finite() {
                    format!("Dice {:.3}", shown.dice)
                } else {
                    "Dice n/a".into()
                };
                let width = text_width(&dice, SMALL) + 12;
                let (x, y) = (at[1] + 6, at[0] + panel[0].saturating_sub(28));
                canvas.fill(x, y, width, 22, [0, 0, 0], 0.65);
                canvas.text(x + 6, y + 5, SMALL, &dice, [255, 255, 255]);
            }
        }
    }
    for (row, items) in legend.iter().enumerate() {
        let y = rows + GUTTER + row * 26;
        for &(x, mark, name) in items {
            mark.sample(&mut canvas, MARGIN + x, y, 28, 16);
            canvas.text(MARGIN + x + 36, y + 3, SMALL, name, INK);
        }
    }
    Ok(canvas)
}

/// The rows of the legend, each item with its distance from the left.
fn legend_lines(figure: &Figure, width: usize) -> Vec<Vec<(usize, super::paint::Mark, &'static str)>> {
    let (mut lines, mut x) = (vec![Vec::new()], 0);
    for (mark, name) in legend(figure.kind) {
        let own = 36 + text_width(name, SMALL) + 28;
        if x > 0 && x + own > width + 28 {
            lines.push(Vec::new());
            x = 0;
        }
        if let Some(line) = lines.last_mut() {
            line.push((x, mark, name));
        }
        x += own;
    }
    lines
}

/// The box `[y0, x0, y1, x1]` of a case's pixels that are not background or carry a label, and a rim.
fn content(case: &FigureCase) -> [usize; 4] {
    let (height, width) = case.image.dim();
    let background = background(&case.image);
    let mut found: Option<[usize; 4]> = None;
    for ((y, x), value) in case.image.indexed_iter() {
        let labelled = std::iter::once(&case.reference)
            .chain(case.panels.iter().map(|p| &p.prediction))
            .any(|labels| labels.get((y, x)).is_some_and(|&v| v > 0));
        if labelled || Some(value.to_bits()) != background {
            let [y0, x0, y1, x1] = found.unwrap_or([y, x, y + 1, x + 1]);
            found = Some([y0.min(y), x0.min(x), y1.max(y + 1), x1.max(x + 1)]);
        }
    }
    let [y0, x0, y1, x1] = found.unwrap_or([0, 0, height, width]);
    [y0.saturating_sub(RIM), x0.saturating_sub(RIM), (y1 + RIM).min(height), (x1 + RIM).min(width)]
}
