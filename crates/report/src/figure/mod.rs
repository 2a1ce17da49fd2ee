//! Figures 2 and 3: slices with the reference, one line a case and one column a method.

mod layout;
mod paint;

use ndarray::Array2;

use crate::Error;

/// What is compared, and so what is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FigureKind {
    /// Figure 2: every label above 0 is whole tumour. The contour is drawn, false negatives and false positives are
    /// tinted.
    WholeTumour,
    /// Figure 3: labels 1 (NCR/NET), 2 (ED) and 3 (ET) are filled, false negatives, false positives and tumour of
    /// the wrong kind are hatched.
    Substructures,
}

/// A grid of slices.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// The heading.
    pub title: String,
    /// What is compared.
    pub kind: FigureKind,
    /// One line each.
    pub cases: Vec<FigureCase>,
}

/// One line of a figure.
#[derive(Debug, Clone, PartialEq)]
pub struct FigureCase {
    /// The scan's name.
    pub id: String,
    /// The slice's index, from the bottom of the volume.
    pub slice: usize,
    /// The image under the contours, `[y, x]`, in any unit. If its four corners share one value, that is the
    /// background: drawn black, and cropped away.
    pub image: Array2<f32>,
    /// The values drawn black and white; by default the 0.5 and 99.5 percentiles of what is not background.
    pub window: Option<[f32; 2]>,
    /// Internal codes 0..=3 on the image's grid.
    pub reference: Array2<u8>,
    /// One column each.
    pub panels: Vec<Panel>,
}

/// What one method makes of a slice.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// The column's heading.
    pub method: String,
    /// Internal codes 0..=3 on the image's grid.
    pub prediction: Array2<u8>,
    /// The Dice printed in the corner, in 0..=1; "n/a" if not finite.
    pub dice: f64,
}

/// Draws a figure and returns the bytes of a PNG file.
///
/// The first column shows the reference, then one column a method. All slices are cropped to what is not background,
/// to one common size, and enlarged by a whole number so that contours fall between pixels. Errs if there is nothing
/// to draw, arrays differ in shape, cases differ in their methods or a label is above 3.
pub fn figure(figure: &Figure) -> Result<Vec<u8>, Error> {
    check(figure)?;
    layout::draw(figure)?.png()
}

fn check(figure: &Figure) -> Result<(), Error> {
    let nothing = |found: &str| Error::Nothing { title: figure.title.clone(), found: found.to_owned() };
    let first = figure.cases.first().ok_or_else(|| nothing("no case"))?;
    let methods =
        |case: &FigureCase| -> Vec<String> { case.panels.iter().map(|p| p.method.clone()).collect() };
    let expected = methods(first);
    if expected.is_empty() {
        return Err(nothing("a case without panels"));
    }
    for case in &figure.cases {
        let shape = case.image.dim();
        if ![shape.0, shape.1].iter().all(|side| (1..=4096).contains(side)) {
            return Err(Error::Size { case: case.id.clone(), found: shape.into() });
        }
        let found = methods(case);
        if found != expected {
            return Err(Error::Methods { case: case.id.clone(), expected, found });
        }
        let reference = std::iter::once(("reference".to_owned(), &case.reference));
        let predictions = case.panels.iter().map(|p| (format!("prediction of {}", p.method), &p.prediction));
        for (what, labels) in reference.chain(predictions) {
            if labels.dim() != shape {
                let (expected, found) = (shape.into(), labels.dim().into());
                return Err(Error::Shape { case: case.id.clone(), what, expected, found });
            }
            if let Some(&found) = labels.iter().find(|&&v| v > 3) {
                return Err(Error::Label { case: case.id.clone(), what, found });
            }
        }
    }
    Ok(())
}
