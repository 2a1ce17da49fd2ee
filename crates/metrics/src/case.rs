//! All metrics of one scan, by region.

use ndarray::{Array3, ArrayView3, Zip};
use serde::{Deserialize, Serialize};

use crate::crop::{Bounds, owned};
use crate::lesion::{LesionParams, LesionScores, lesion_scores};
use crate::overlap::Confusion;
use crate::surface::hd95;
use crate::{Error, check_shapes, check_spacing};

/// Which of reference and prediction has no voxel in a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Emptiness {
    /// The scan has none of it, the prediction some.
    Reference,
    /// The scan has some, the prediction none.
    Prediction,
    /// Neither has any.
    Both,
}

/// The figures of one region of one scan, as measured: `None` where a value is undefined, before any
/// [`EmptyPolicy`](crate::EmptyPolicy).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RegionMetrics {
    /// Voxels by agreement, over the whole volume. Dice, precision and recall follow from them.
    pub confusion: Confusion,
    /// Pooled 95th percentile of surface distances in mm; see [`hd95`].
    pub hd95: Option<f64>,
    /// Lesion-wise figures; see [`lesion_scores`].
    pub lesions: Option<LesionScores>,
    /// Volume of the reference in ml.
    pub reference_ml: f64,
    /// Volume of the prediction in ml.
    pub prediction_ml: f64,
}

impl RegionMetrics {
    /// Which mask is empty, if one is.
    pub fn emptiness(&self) -> Option<Emptiness> {
        match (self.confusion.reference(), self.confusion.prediction()) {
            (0, 0) => Some(Emptiness::Both),
            (0, _) => Some(Emptiness::Reference),
            (_, 0) => Some(Emptiness::Prediction),
            _ => None,
        }
    }
}

/// The figures of one scan.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseMetrics {
    /// The scan's name; empty until [`named`](Self::named).
    pub id: String,
    /// Whole tumour: labels 1, 2 and 3.
    pub wt: RegionMetrics,
    /// Tumour core: labels 1 and 3.
    pub tc: RegionMetrics,
    /// Enhancing tumour: label 3.
    pub et: RegionMetrics,
}

impl CaseMetrics {
    /// The same figures under a scan's name.
    pub fn named(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }
}

/// Measures a predicted segmentation against the reference, for WT, TC and ET.
///
/// Both arrays are `[z, y, x]` of internal codes (0 background, 1 NCR/NET, 2 ED, 3 ET); `spacing` is in mm in the
/// same order. Lesions are told apart by [`LesionParams::default`]. Errs if the shapes differ, a spacing is not
/// positive or a label is above 3.
pub fn evaluate_case(
    reference: ArrayView3<'_, u8>,
    prediction: ArrayView3<'_, u8>,
    spacing: [f64; 3],
) -> Result<CaseMetrics, Error> {
    check_shapes(reference.shape(), prediction.shape())?;
    check_spacing(spacing)?;
    let background =
        background(reference.view(), "reference")? && background(prediction.view(), "prediction")?;
    let total = reference.len() as u64;
    let bounds = if background { None } else { Bounds::joint(reference, prediction, |v| v > 0) };
    // Tumours fill a few per cent of the volume: every region is measured in the tumour's box.
    let (reference, prediction) = match bounds {
        Some(bounds) => (owned(bounds.of(reference)), owned(bounds.of(prediction))),
        None => (Array3::zeros((0, 0, 0)), Array3::zeros((0, 0, 0))),
    };
    let mut counts = [[0u64; 4]; 4];
    Zip::from(&reference)
        .and(&prediction)
        .for_each(|&r, &p| counts[usize::from(r & 3)][usize::from(p & 3)] += 1);
    let region = |inside: [bool; 4]| -> Result<RegionMetrics, Error> {
        let mut confusion = Confusion::default();
        for (r, row) in counts.iter().enumerate() {
            for (p, &n) in row.iter().enumerate() {
                match (inside[r], inside[p]) {
                    (true, true) => confusion.true_positive += n,
                    (true, false) => confusion.false_negative += n,
                    (false, true) => confusion.false_positive += n,
                    (false, false) => {}
                }
            }
        }
        let Confusion { true_positive, false_positive, false_negative, .. } = confusion;
        confusion.true_negative = total - true_positive - false_positive - false_negative;
        let r = reference.mapv(|v| inside[usize::from(v & 3)]);
        let p = prediction.mapv(|v| inside[usize::from(v & 3)]);
        let ml = spacing.iter().product::<f64>() / 1000.0;
        let lesions = lesion_scores(r.view(), p.view(), spacing, &LesionParams::default())?;
        let hd95 = hd95(r.view(), p.view(), spacing)?;
        Ok(RegionMetrics {
            confusion,
            hd95,
            lesions,
            reference_ml: confusion.reference() as f64 * ml,
            prediction_ml: confusion.prediction() as f64 * ml,
        })
    };
    Ok(CaseMetrics {
        id: String::new(),
        wt: region([false, true, true, true])?,
        tc: region([false, true, false, true])?,
        et: region([false, false, false, true])?,
    })
}

/// Whether every voxel is 0. Errs at a label above 3.
fn background(labels: ArrayView3<'_, u8>, which: &'static str) -> Result<bool, Error> {
    let seen = labels.iter().fold(0u8, |seen, &v| seen.max(v));
    if seen > 3 {
        return Err(Error::Label { which, found: seen });
    }
    Ok(seen == 0)
}
