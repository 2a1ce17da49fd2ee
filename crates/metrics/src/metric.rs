//! The figures that a scan's region has, by name, so that summaries, intervals, tests and tables treat them alike.

use serde::{Deserialize, Serialize};

use crate::record::RegionRecord;

/// A figure of one region of one scan. Serialises as its [`name`](Self::name).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Metric {
    /// Dice's coefficient, in 0..=1.
    Dice,
    /// Precision over the scan's voxels, in 0..=1.
    ScanPrecision,
    /// Recall over the scan's voxels, in 0..=1.
    ScanRecall,
    /// HD95 in mm; see [`hd95`](crate::hd95).
    Hd95,
    /// Lesion-wise Dice, in 0..=1; see [`lesion_scores`](crate::lesion_scores).
    LesionDice,
    /// Lesion-wise HD95 in mm.
    LesionHd95,
    /// Volume of the prediction less that of the reference, in ml.
    VolumeErrorMl,
    /// Its magnitude, in ml.
    AbsoluteVolumeErrorMl,
    /// Volume error as a part of the reference's volume.
    RelativeVolumeError,
    /// Its magnitude.
    AbsoluteRelativeVolumeError,
}

impl Metric {
    /// All of them, in the order of every table.
    pub const ALL: [Self; 10] = [
        Self::Dice,
        Self::ScanPrecision,
        Self::ScanRecall,
        Self::Hd95,
        Self::LesionDice,
        Self::LesionHd95,
        Self::VolumeErrorMl,
        Self::AbsoluteVolumeErrorMl,
        Self::RelativeVolumeError,
        Self::AbsoluteRelativeVolumeError,
    ];

    /// The name in `metrics.json` and `comparison.csv`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dice => "dice",
            Self::ScanPrecision => "scan_precision",
            Self::ScanRecall => "scan_recall",
            Self::Hd95 => "hd95",
            Self::LesionDice => "lesion_dice",
            Self::LesionHd95 => "lesion_hd95",
            Self::VolumeErrorMl => "volume_error_ml",
            Self::AbsoluteVolumeErrorMl => "absolute_volume_error_ml",
            Self::RelativeVolumeError => "relative_volume_error",
            Self::AbsoluteRelativeVolumeError => "absolute_relative_volume_error",
        }
    }

    /// Its value in a region of a scan; `None` where it is undefined or the policy leaves the scan out.
    pub fn of(self, record: &RegionRecord) -> Option<f64> {
        match self {
            Self::Dice => record.dice,
            Self::ScanPrecision => record.precision,
            Self::ScanRecall => record.recall,
            Self::Hd95 => record.hd95,
            Self::LesionDice => record.lesion_dice,
            Self::LesionHd95 => record.lesion_hd95,
            Self::VolumeErrorMl => record.volume_error_ml,
            Self::AbsoluteVolumeErrorMl => record.volume_error_ml.map(f64::abs),
            Self::RelativeVolumeError => record.relative_volume_error,
            Self::AbsoluteRelativeVolumeError => record.relative_volume_error.map(f64::abs),
        }
    }
}
