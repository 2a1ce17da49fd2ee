//! The features of the paper: `[T1, 2·T1ce, w_t2·T2, w_fl·FLAIR, 2·(T1ce − T1)]` with `w_m = min(1, var_T1ce / var_m)`, the
//! variances over the tumour. Contrast enhancement counts twice, and a modality that varies more than T1ce, through oedema
//! say, cannot drown it.

use ndarray::{ArrayView3, ArrayView4, Axis};

use crate::Error;

/// Number of features of a voxel.
pub const FEATURES: usize = 5;

const NAMES: [&str; 4] = ["T1", "T1ce", "T2", "FLAIR"];

/// The tumour's voxels in scan order.
pub(crate) struct Points {
    /// `[z, y, x]` of each voxel.
    pub(crate) voxels: Vec<[usize; 3]>,
    /// One column a feature, one value a voxel.
    pub(crate) columns: [Vec<f64>; FEATURES],
    /// T1ce of each voxel, unweighted.
    pub(crate) t1ce: Vec<f64>,
}

/// Where a tumour's voxels are, `[z, y, x]` in scan order, and their values, one column a modality.
type Voxels = (Vec<[usize; 3]>, [Vec<f64>; 4]);

/// The voxels of a tumour, once modalities and mask are found to fit.
pub(crate) fn voxels(modalities: ArrayView4<'_, f32>, wt: ArrayView3<'_, bool>) -> Result<Voxels, Error> {
    let (channels, z, y, x) = modalities.dim();
    if channels != NAMES.len() {
        return Err(Error::Modalities { found: channels });
    }
    if wt.dim() != (z, y, x) {
        let found = wt.dim();
        return Err(Error::Shape { expected: [z, y, x], found: [found.0, found.1, found.2] });
    }
    let mut voxels = Vec::new();
    for (z, slice) in wt.outer_iter().enumerate() {
        for (y, line) in slice.outer_iter().enumerate() {
            voxels.extend(line.iter().enumerate().filter(|(_, inside)| **inside).map(|(x, _)| [z, y, x]));
        }
    }
    let mut values: [Vec<f64>; 4] = Default::default();
    for ((volume, column), modality) in modalities.axis_iter(Axis(0)).zip(&mut values).zip(NAMES) {
        column.reserve_exact(voxels.len());
        for &voxel in &voxels {
            let value = volume[voxel];
            if !value.is_finite() {
                return Err(Error::NotFinite { modality, voxel, value });
            }
            column.push(f64::from(value));
        }
    }
    Ok((voxels, values))
}

impl Points {
    pub(crate) fn new(modalities: ArrayView4<'_, f32>, wt: ArrayView3<'_, bool>) -> Result<Self, Error> {
        let (voxels, values) = voxels(modalities, wt)?;
        let variances = values.each_ref().map(|column| variance(column));
        let weight = |m: usize| if variances[m] > 0.0 { (variances[1] / variances[m]).min(1.0) } else { 1.0 };
        let (w_t2, w_flair) = (weight(2), weight(3));
        let [t1, t1ce, mut t2, mut flair] = values;
        let enhancement = t1ce.iter().zip(&t1).map(|(ce, t)| 2.0 * (ce - t)).collect();
        t2.iter_mut().for_each(|v| *v *= w_t2);
        flair.iter_mut().for_each(|v| *v *= w_flair);
        let doubled = t1ce.iter().map(|v| 2.0 * v).collect();
        Ok(Self { voxels, columns: [t1, doubled, t2, flair, enhancement], t1ce })
    }

    pub(crate) fn len(&self) -> usize {
        self.voxels.len()
    }

    pub(crate) fn row(&self, i: usize) -> [f64; FEATURES] {
        self.columns.each_ref().map(|column| column[i])
    }
}

fn variance(values: &[f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array3, Array4};

    #[test]
    fn features_are_weighted_as_in_the_paper() {
        // Variances over the two voxels: T1 1, T1ce 4, T2 16, FLAIR 1.
        let values = [[0.0, 2.0], [1.0, 5.0], [0.0, 8.0], [3.0, 5.0]];
        let image =
            Array4::from_shape_fn((4, 1, 1, 3), |(c, _, _, x)| if x < 2 { values[c][x] } else { f32::NAN });
        let mask = Array3::from_shape_vec((1, 1, 3), vec![true, true, false]).unwrap();
        let points = Points::new(image.view(), mask.view()).unwrap();
        assert_eq!(points.row(0), [0.0, 2.0, 0.0, 3.0, 2.0]);
        assert_eq!(points.row(1), [2.0, 10.0, 2.0, 5.0, 6.0]);
        assert_eq!(points.voxels, [[0, 0, 0], [0, 0, 1]]);
    }

    #[test]
    fn a_modality_without_variance_keeps_its_weight() {
        let image = Array4::from_shape_fn((4, 1, 1, 2), |(c, _, _, x)| if c == 2 { 7.0 } else { x as f32 });
        let points = Points::new(image.view(), Array3::from_elem((1, 1, 2), true).view()).unwrap();
        assert_eq!(points.row(0)[2], 7.0);
    }
}
