//! What becomes of figures that are undefined because a mask is empty.

use serde::{Deserialize, Serialize};

use crate::case::Emptiness;

/// What becomes of a scan whose reference or prediction has no voxel in a region.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmptyPolicy {
    /// As the BraTS challenge: both empty is perfect (Dice, precision, recall and lesion-wise Dice 1, HD95 0 mm), one
    /// empty is a total miss (0, and [`HD95_PENALTY_MM`](crate::HD95_PENALTY_MM)).
    #[default]
    Brats,
    /// Scans whose reference is empty are left out of every mean. A prediction that is empty where there is something
    /// to find is a miss, its Dice and recall are 0 by their definition and count; its precision and HD95 are
    /// undefined and left out.
    Skip,
}

impl EmptyPolicy {
    /// One sentence for a report.
    pub fn description(self) -> &'static str {
        match self {
            Self::Brats => {
                "BraTS: where reference and prediction are both empty a score is 1 and HD95 0 mm; where one is empty it is 0 and HD95 373.13 mm."
            }
            Self::Skip => {
                "Skip: scans with an empty reference are left out; an empty prediction of something present scores 0 and has no HD95."
            }
        }
    }

    /// The value that enters the mean: `perfect` and `miss` are what two empty masks and one count as.
    pub(crate) fn apply(
        self,
        value: Option<f64>,
        empty: Option<Emptiness>,
        perfect: f64,
        miss: f64,
    ) -> Option<f64> {
        match (self, empty) {
            (_, None) => value,
            (Self::Brats, Some(Emptiness::Both)) => Some(perfect),
            (Self::Brats, Some(_)) => Some(miss),
            (Self::Skip, Some(Emptiness::Prediction)) => value,
            (Self::Skip, Some(_)) => None,
        }
    }
}
