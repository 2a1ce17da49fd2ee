//! Voxel counts and the ratios made of them.

use std::iter::Sum;
use std::ops::{Add, AddAssign};

use ndarray::ArrayView3;
use serde::{Deserialize, Serialize};

use crate::{Error, check_shapes};

/// Voxels by agreement of reference and prediction. Add the counts of several scans to pool them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// In both.
    pub true_positive: u64,
    /// In the prediction only.
    pub false_positive: u64,
    /// In the reference only.
    pub false_negative: u64,
    /// In neither.
    pub true_negative: u64,
}

impl Confusion {
    /// Voxels of the reference.
    pub fn reference(&self) -> u64 {
        self.true_positive + self.false_negative
    }

    /// Voxels of the prediction.
    pub fn prediction(&self) -> u64 {
        self.true_positive + self.false_positive
    }

    /// Dice's coefficient 2 TP / (2 TP + FP + FN), in 0..=1; `None` if both masks are empty.
    pub fn dice(&self) -> Option<f64> {
        ratio(2 * self.true_positive, self.reference() + self.prediction())
    }

    /// TP / (TP + FP), in 0..=1: the share of the prediction that is right; `None` if the prediction is empty.
    pub fn precision(&self) -> Option<f64> {
        ratio(self.true_positive, self.prediction())
    }

    /// TP / (TP + FN), in 0..=1: the share of the reference that is found; `None` if the reference is empty.
    pub fn recall(&self) -> Option<f64> {
        ratio(self.true_positive, self.reference())
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl Add for Confusion {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            true_positive: self.true_positive + other.true_positive,
            false_positive: self.false_positive + other.false_positive,
            false_negative: self.false_negative + other.false_negative,
            true_negative: self.true_negative + other.true_negative,
        }
    }
}

impl AddAssign for Confusion {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Confusion {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), Add::add)
    }
}

/// Counts the voxels of two masks by agreement. Errs if the shapes differ.
pub fn confusion(
    reference: ArrayView3<'_, bool>,
    prediction: ArrayView3<'_, bool>,
) -> Result<Confusion, Error> {
    check_shapes(reference.shape(), prediction.shape())?;
    let (mut both, mut in_reference, mut in_prediction) = (0u64, 0u64, 0u64);
    for (r, p) in reference.rows().into_iter().zip(prediction.rows()) {
        let row = match (r.to_slice(), p.to_slice()) {
            (Some(r), Some(p)) => count(r.iter().zip(p)),
            _ => count(r.iter().zip(&p)),
        };
        both += u64::from(row[0]);
        in_reference += u64::from(row[1]);
        in_prediction += u64::from(row[2]);
    }
    Ok(Confusion {
        true_positive: both,
        false_positive: in_prediction - both,
        false_negative: in_reference - both,
        true_negative: reference.len() as u64 + both - in_reference - in_prediction,
    })
}

/// Voxels in both, in the first, in the second: short counters, which the compiler makes wide additions of.
fn count<'a>(pairs: impl Iterator<Item = (&'a bool, &'a bool)>) -> [u32; 3] {
    pairs.fold([0; 3], |[both, first, second], (&a, &b)| {
        [both + u32::from(a & b), first + u32::from(a), second + u32::from(b)]
    })
}

/// Dice's coefficient of two masks; see [`Confusion::dice`].
pub fn dice(reference: ArrayView3<'_, bool>, prediction: ArrayView3<'_, bool>) -> Result<Option<f64>, Error> {
    Ok(confusion(reference, prediction)?.dice())
}

/// The share of the predicted voxels that are right; see [`Confusion::precision`].
pub fn precision(
    reference: ArrayView3<'_, bool>,
    prediction: ArrayView3<'_, bool>,
) -> Result<Option<f64>, Error> {
    Ok(confusion(reference, prediction)?.precision())
}

/// The share of the reference's voxels that are found; see [`Confusion::recall`].
pub fn recall(
    reference: ArrayView3<'_, bool>,
    prediction: ArrayView3<'_, bool>,
) -> Result<Option<f64>, Error> {
    Ok(confusion(reference, prediction)?.recall())
}
