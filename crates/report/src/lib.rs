//! Figures, the table beside the paper's and a self-contained HTML report, from plain data to bytes and text.
//!
//! Nothing here reads or writes a file or looks at a clock: the caller hands over plain structs and stores what comes
//! back, so the same data give the same bytes.
//!
//! - [`Table1`] is `table1.json`; [`table1_markdown`] prints it beside [`PAPER`], the figures of Ji et al. 2019.
//! - [`figure()`] draws a [`Figure`], slices with the reference and each method's contour and Dice, as a PNG.
//! - [`html()`] lays a [`ReportData`] out as one HTML page that opens offline, on a phone and in a screen reader.
//!
//! ```
//! use scribseg_report::{ReportData, Table1, html, table1_markdown};
//!
//! let table: Table1 = serde_json::from_str(
//!     r#"{"preset":"phantom","cohort":"48 synthetic scans","rows":[
//!         {"phase":1,"method":"SC+GC+CRF","WT":{"dice":0.87,"recall":0.93,"precision":0.91},"seconds":412.0}]}"#,
//! )?;
//! assert!(table1_markdown(&table).contains("| SC+GC+CRF | 0.8700 | 0.8823 |"));
//! let page = html(&ReportData { title: "Reproduction".into(), table1: Some(table), ..ReportData::default() })?;
//! assert!(page.starts_with("<!doctype html>"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! When not to use it: for plots to be edited later take `metrics.csv` and the TensorBoard events to a plotting
//! library; the figures here are finished pictures.

mod canvas;
mod curves;
mod data;
mod figure;
mod font;
mod html;
mod markup;
mod sections;
mod table;
mod viewer;

pub use data::{
    CaseRow, Curve, Distribution, FigureImage, LabelScheme, Metrics, Pooled, Preset, RegionFigures,
    RegionScores, RegionTable, ReportData, Stage,
};
pub use figure::{Figure, FigureCase, FigureKind, Panel, figure};
pub use html::html;
pub use table::{Figures, PAPER, PaperRow, Row, Table1, table1_markdown};
pub use viewer::{ScanSlices, Slice};

/// What can be wrong with the data of a figure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No case, or a case without panels.
    #[error(
        "figure {title:?} has nothing to draw: expected at least one case with at least one panel, found {found}"
    )]
    Nothing {
        /// The figure's title.
        title: String,
        /// What is there.
        found: String,
    },
    /// Two arrays of a case differ in shape.
    #[error(
        "case {case:?}: the {what} must be on the image's grid of {expected:?} pixels [y, x], found {found:?}; take both from the same slice"
    )]
    Shape {
        /// The case's name.
        case: String,
        /// "reference" or "prediction of …".
        what: String,
        /// The image's shape.
        expected: [usize; 2],
        /// The other's shape.
        found: [usize; 2],
    },
    /// A slice without pixels or too large to draw.
    #[error("case {case:?}: an image must have 1 to 4096 pixels a side, found {found:?} [y, x]")]
    Size {
        /// The case's name.
        case: String,
        /// The image's shape.
        found: [usize; 2],
    },
    /// The columns are the methods, so every case has to show the same ones.
    #[error(
        "case {case:?} shows the methods {found:?}, the first case {expected:?}; give every case the same, in the same order"
    )]
    Methods {
        /// The case's name.
        case: String,
        /// The first case's methods.
        expected: Vec<String>,
        /// This case's methods.
        found: Vec<String>,
    },
    /// A label that is none of this toolkit's codes.
    #[error(
        "case {case:?}: the {what} holds label {found}, expected 0 (background), 1 (NCR/NET), 2 (ED) or 3 (ET)"
    )]
    Label {
        /// The case's name.
        case: String,
        /// "reference" or "prediction of …".
        what: String,
        /// The offending label.
        found: u8,
    },
    /// The PNG could not be encoded.
    #[error("the picture of {width} × {height} pixels could not be encoded as PNG: {source}")]
    Png {
        /// Pixels across.
        width: usize,
        /// Pixels down.
        height: usize,
        /// What the encoder says.
        source: png::EncodingError,
    },
}
