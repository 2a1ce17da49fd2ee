//! What each method of Table 1 tells the network: S and G of eq. 1 from masks and scribbles.
//!
//! Phase 1 knows the classes 0 healthy and 1 tumour, phase 2 the classes 0 background, 1 NCR/NET, 2 ED, 3 ET.
//! The background of phase 2 comes from the healthy scribbles (in S') and from what the weak masks of phase 1 call
//! healthy (in G'), so that Unet-sub keeps what Unet-WT learnt about healthy tissue.

use ndarray::{Array3, ArrayView3, Zip};

use crate::batches::UNLABELLED;
use crate::error::{Error, Result};
use crate::scan::Scan;

/// No pixel labelled.
pub(crate) fn nothing(like: &Array3<u8>) -> Array3<u8> {
    Array3::from_elem(like.dim(), UNLABELLED)
}

/// The reference as whole tumour.
pub(crate) fn full_tumour(reference: &Array3<u8>) -> Array3<u8> {
    reference.mapv(|v| u8::from(v != 0))
}

/// Every pixel of the brain labelled. Outside it prediction is background by definition, so no method is told about it:
/// the mean over labelled pixels then has the same scale for masks as for scribbles.
pub(crate) fn inside_brain(masks: &Array3<u8>, brain: &Array3<bool>) -> Array3<u8> {
    Zip::from(masks).and(brain).map_collect(|&m, &inside| if inside { m } else { UNLABELLED })
}

/// 0 unknown, 1 tumour, 2 healthy → classes of phase 1.
pub(crate) fn tumour_classes(scribble: ArrayView3<'_, u8>) -> Array3<u8> {
    scribble.mapv(|v| match v {
        1 => 1,
        2 => 0,
        _ => UNLABELLED,
    })
}

/// S' of phase 2: the sub-structure masks eroded and skeletonised per slice, and the healthy scribbles as background.
///
/// `erode_mm` is the side of the box that erodes, as in phase 1: 3 × 3 pixels at 1 mm, nothing at 2 mm, where a box of
/// 3 pixels would take every enhancing rim away.
pub(crate) fn substructure_scribbles(
    masks: &Array3<u8>,
    tumour_scribbles: &Array3<u8>,
    scan: &Scan,
    erode_mm: f64,
) -> Result<Array3<u8>> {
    let pixel = (scan.spacing[1] * scan.spacing[2]).sqrt();
    let radius = ((erode_mm / pixel - 1.0) / 2.0).round().max(0.0) as usize;
    let mut strong = scribseg_scribble::skeleton_scribbles(masks.view(), 3, radius)
        .map_err(|e| Error::case(&scan.id, e))?;
    Zip::from(&mut strong).and(tumour_scribbles).for_each(|s, &t| {
        *s = match (*s, t) {
            (0, 2) => 0,
            (0, _) => UNLABELLED,
            (class, _) => class,
        }
    });
    Ok(strong)
}

/// G' of phase 2: the sub-structure masks inside `tumour`, and as background what phase 1's weak masks call healthy
/// outside it. G' excludes S'.
pub(crate) fn substructure_masks(masks: &Array3<u8>, weak: &Array3<u8>, strong: &Array3<u8>) -> Array3<u8> {
    Zip::from(masks).and(weak).and(strong).map_collect(|&m, &g, &s| match (m, g, s) {
        (_, _, s) if s != UNLABELLED => UNLABELLED,
        (0, 2, _) => 0,
        (0, _, _) => UNLABELLED,
        (class, _, _) => class,
    })
}

/// G' without sub-structures: the background alone, for the row that has true scribbles and no k-means.
pub(crate) fn background_only(masks: &Array3<u8>, weak: &Array3<u8>, strong: &Array3<u8>) -> Array3<u8> {
    substructure_masks(masks, weak, strong).mapv(|v| if v == 0 { 0 } else { UNLABELLED })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_masks_exclude_scribbles_and_keep_background_outside_the_tumour() {
        let masks = Array3::from_shape_vec((1, 1, 5), vec![0, 1, 2, 3, 0]).unwrap();
        let weak = Array3::from_shape_vec((1, 1, 5), vec![2, 2, 1, 0, 0]).unwrap();
        let strong =
            Array3::from_shape_vec((1, 1, 5), vec![UNLABELLED, UNLABELLED, 2, UNLABELLED, UNLABELLED])
                .unwrap();
        let g = substructure_masks(&masks, &weak, &strong);
        assert_eq!(g.into_raw_vec_and_offset().0, [0, 1, UNLABELLED, 3, UNLABELLED]);
        let b = background_only(&masks, &weak, &strong);
        assert_eq!(b.into_raw_vec_and_offset().0, [0, UNLABELLED, UNLABELLED, UNLABELLED, UNLABELLED]);
    }
}
