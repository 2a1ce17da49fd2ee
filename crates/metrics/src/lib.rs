//! Overlap, distance and lesion-wise metrics of a segmentation, with a declared policy for empty masks.
//!
//! Three questions are asked of a predicted segmentation, each in its own module:
//!
//! - how much of the volume agrees: [`dice`], [`precision`], [`recall`] and the [`Confusion`] they come from;
//! - how far apart the surfaces are: [`hd95`], and [`hd95_by_area`] as the BraTS 2023 tool has it;
//! - how many of the lesions were found: [`lesion_scores`], after the rules of the BraTS 2023 challenge.
//!
//! [`evaluate_case`] answers all of them for the regions WT, TC and ET of one scan, [`summarise`] condenses many
//! scans into an [`Evaluation`], which is the `metrics.json` of a run and, through [`Evaluation::to_csv`], its
//! `metrics.csv`. [`Evaluation::with_intervals`] adds bootstrap intervals, [`Evaluation::compared_with`] a paired test
//! ([`wilcoxon()`]) against another prediction of the same scans.
//!
//! A metric of an empty mask is not a number but a convention, and conventions differ by up to several points of
//! mean Dice. So the functions here return `None` where a value is undefined, and [`EmptyPolicy`], which has to be
//! named when cases are summarised, decides what becomes of it; how many cases were concerned is counted beside
//! each mean.
//!
//! ```
//! use ndarray::{Array3, s};
//! use scribseg_metrics::{EmptyPolicy, evaluate_case, summarise};
//!
//! let mut reference = Array3::<u8>::zeros((8, 16, 16));
//! reference.slice_mut(s![2..6, 4..12, 4..12]).fill(2); // oedema
//! reference.slice_mut(s![3..5, 6..10, 6..10]).fill(3); // enhancing tumour
//! let mut prediction = reference.clone();
//! prediction.slice_mut(s![.., .., 11..]).fill(0);
//!
//! let case = evaluate_case(reference.view(), prediction.view(), [1.0; 3])?.named("scan-1");
//! let evaluation = summarise(&[case], EmptyPolicy::Brats, "BraTS 2017");
//! assert_eq!(evaluation.regions.et.dice.mean, Some(1.0));
//! assert_eq!(evaluation.regions.wt.precision, Some(1.0));
//! # Ok::<(), scribseg_metrics::Error>(())
//! ```
//!
//! When not to use it: for label schemes other than this toolkit's codes (0 background, 1 NCR/NET, 2 ED, 3 ET) map
//! the labels first; for leaderboard figures run the challenge's own container: the rules are the same, the judge is not.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod bootstrap;
mod case;
mod compare;
mod crop;
mod csv;
mod lesion;
mod metric;
mod overlap;
mod policy;
mod record;
mod summary;
mod surface;
mod surfel;
mod wilcoxon;

pub use bootstrap::{RESAMPLES, bootstrap_mean};
pub use case::{CaseMetrics, Emptiness, RegionMetrics, evaluate_case};
pub use compare::{COMPARISON_HEADER, Comparison, Paired};
pub use lesion::{LESION_PENALTY_MM, LesionCounts, LesionParams, LesionScores, lesion_dice, lesion_scores};
pub use metric::Metric;
pub use overlap::{Confusion, confusion, dice, precision, recall};
pub use policy::EmptyPolicy;
pub use record::{CaseRecord, RegionRecord, Regions};
pub use summary::{Evaluation, Intervals, Pooled, RegionSummary, Summary, summarise};
pub use surface::{HD95_PENALTY_MM, hd95};
pub use surfel::hd95_by_area;
pub use wilcoxon::{SignedRank, wilcoxon};

/// What can be wrong with the inputs of a metric.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reference and prediction are on different grids.
    #[error(
        "reference and prediction must share a grid: the reference is {reference:?} voxels [z, y, x], the prediction {prediction:?}; resample the prediction to the reference"
    )]
    Shape {
        /// The reference's shape.
        reference: Vec<usize>,
        /// The prediction's shape.
        prediction: Vec<usize>,
    },
    /// A spacing that is no length.
    #[error("spacing on axis {axis} [z, y, x] must be a positive, finite length in mm, found {found}")]
    Spacing {
        /// The axis in `[z, y, x]`.
        axis: usize,
        /// The offending value.
        found: f64,
    },
    /// A label outside this toolkit's codes.
    #[error(
        "the {which} holds label {found}, expected 0 (background), 1 (NCR/NET), 2 (ED) or 3 (ET); map the file's label scheme first"
    )]
    Label {
        /// "reference" or "prediction".
        which: &'static str,
        /// The offending label.
        found: u8,
    },
    /// A minimum lesion volume that is not one.
    #[error("the minimum lesion volume must be a finite number of mm³, zero or more, found {found}")]
    Volume {
        /// The offending value.
        found: f64,
    },
    /// The distance transform, dilation or labelling of components failed.
    #[error(transparent)]
    Morphology(#[from] scribseg_morphology::Error),
}

fn check_shapes(reference: &[usize], prediction: &[usize]) -> Result<(), Error> {
    if reference == prediction {
        return Ok(());
    }
    Err(Error::Shape { reference: reference.to_vec(), prediction: prediction.to_vec() })
}

fn check_spacing(spacing: [f64; 3]) -> Result<(), Error> {
    for (axis, &found) in spacing.iter().enumerate() {
        if !(found.is_finite() && found > 0.0) {
            return Err(Error::Spacing { axis, found });
        }
    }
    Ok(())
}
