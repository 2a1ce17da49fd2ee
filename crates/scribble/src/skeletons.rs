//! Scribbles from an automatic labelling.

use ndarray::{Array3, ArrayView3, Axis};
use rayon::prelude::*;
use scribseg_morphology::{dilate, skeletonize};

use crate::Error;

/// Thin scribbles in the middle of each class of a labelling `[z, y, x]`: the class on the curve, 0 elsewhere.
///
/// On each axial slice the mask of each class `1..=classes` loses `erode` pixels on every side, is thinned, and the
/// whole skeleton is drawn `2·erode + 1` pixels wide: as wide as can never leave the class. What erosion removes gets
/// no scribble, so the specks and thin rims where an automatic labelling is least sure stay unknown. Nothing is drawn
/// by lot.
///
/// # Errors
/// [`Error::Label`] when a label exceeds `classes`.
pub fn skeleton_scribbles(
    labels: ArrayView3<'_, u8>,
    classes: u8,
    erode: usize,
) -> Result<Array3<u8>, Error> {
    if let Some(&found) = labels.iter().find(|&&label| label > classes) {
        return Err(Error::Label { classes, found });
    }
    let side = [erode.saturating_mul(2).saturating_add(1); 2];
    let slices = (0..labels.len_of(Axis(0)))
        .into_par_iter()
        .map(|z| {
            let labels = labels.index_axis(Axis(0), z);
            let mut scribbles = labels.map(|_| 0);
            for class in 1..=classes {
                let mask = labels.map(|&label| label == class);
                if !mask.iter().any(|&set| set) {
                    continue;
                }
                let core = scribseg_morphology::erode(mask.view(), &side)?;
                let drawn = dilate(skeletonize(core.view()).view(), &side)?;
                scribbles.zip_mut_with(&drawn, |code, &drawn| {
                    if drawn {
                        *code = class;
                    }
                });
            }
            Ok(scribbles)
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let mut volume = Array3::zeros(labels.dim());
    for (mut target, slice) in volume.axis_iter_mut(Axis(0)).zip(&slices) {
        target.assign(slice);
    }
    Ok(volume)
}
