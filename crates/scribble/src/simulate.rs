//! Scribbles of a slice and of a volume.

use ndarray::{Array2, Array3, ArrayView2, ArrayView3, Axis, Zip};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use scribseg_morphology::erode;

use crate::curve::Curve;
use crate::params::pixels;
use crate::{Error, Params};

/// Code of a voxel without scribble.
pub const UNKNOWN: u8 = 0;
/// Code of a tumour scribble.
pub const TUMOUR: u8 = 1;
/// Code of a scribble on healthy brain.
pub const HEALTHY: u8 = 2;

/// A slice with less healthy brain than this gets no healthy scribble: there is no room for a person to draw one.
pub const MIN_HEALTHY_PIXELS: usize = 50;

/// A scribble on the tumour of one slice `[y, x]` with pixels of 1 mm.
///
/// The tumour is eroded (left as it is when nothing would remain), thinned and cut to one curve, which is moved at
/// random, drawn and clipped to the tumour. A slice with tumour always gets a scribble, one without an empty array.
///
/// # Errors
/// [`Error::Parameter`] when `params` is not valid.
pub fn tumour_slice(
    wt: ArrayView2<'_, bool>,
    params: &Params,
    rng: &mut impl Rng,
) -> Result<Array2<bool>, Error> {
    params.validate()?;
    tumour(wt, [1.0; 2], params, rng)
}

/// A scribble on the healthy brain of one slice `[y, x]` with pixels of 1 mm.
///
/// As [`tumour_slice`], but the box of the erosion is halved until something is left. A slice with fewer than
/// [`MIN_HEALTHY_PIXELS`] pixels of healthy brain gets an empty array.
///
/// # Errors
/// [`Error::Parameter`] when `params` is not valid.
pub fn healthy_slice(
    healthy_brain: ArrayView2<'_, bool>,
    params: &Params,
    rng: &mut impl Rng,
) -> Result<Array2<bool>, Error> {
    params.validate()?;
    healthy(healthy_brain, [1.0; 2], params, rng)
}

/// Scribbles on every axial slice of a volume: 0 unknown, 1 tumour, 2 healthy.
///
/// `wt` is the whole tumour and `brain` the brain, both `[z, y, x]`; healthy is `brain` without `wt`. `spacing` is the
/// voxel size in mm, `[z, y, x]`. Each slice draws from its own generator, seeded with `seed` and its number z: the
/// result is the same at any number of threads.
///
/// # Errors
/// [`Error::Parameter`] when `params` is not valid, [`Error::Shapes`] when the masks differ in shape,
/// [`Error::Spacing`] when a voxel size is not a finite length above 0 or a pixel's sides are more than 100-fold apart.
pub fn simulate(
    wt: ArrayView3<'_, bool>,
    brain: ArrayView3<'_, bool>,
    spacing: [f64; 3],
    params: &Params,
    seed: u64,
) -> Result<Array3<u8>, Error> {
    params.validate()?;
    if wt.dim() != brain.dim() {
        return Err(Error::Shapes { tumour: wt.dim().into(), brain: brain.dim().into() });
    }
    let [_, height, width] = spacing;
    // Where a pixel is far longer than wide, a turned curve would be strokes of any length between its points.
    if !spacing.iter().all(|size| size.is_finite() && *size > 0.0)
        || height.max(width) > 100.0 * height.min(width)
    {
        return Err(Error::Spacing { found: spacing });
    }
    let slices = (0..wt.len_of(Axis(0)))
        .into_par_iter()
        .map(|z| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(z as u64);
            slice(wt.index_axis(Axis(0), z), brain.index_axis(Axis(0), z), [height, width], params, &mut rng)
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let mut volume = Array3::from_elem(wt.dim(), UNKNOWN);
    for (mut target, slice) in volume.axis_iter_mut(Axis(0)).zip(&slices) {
        target.assign(slice);
    }
    Ok(volume)
}

/// Which part of `region` carries a scribble of any class, from 0 to 1; `None` for an empty region.
///
/// With the brain as region this is the share of voxels that an annotator would have to mark, with the whole tumour
/// the share of the tumour that is known.
///
/// # Errors
/// [`Error::Region`] when the two differ in shape.
pub fn labelled_fraction(
    scribbles: ArrayView3<'_, u8>,
    region: ArrayView3<'_, bool>,
) -> Result<Option<f64>, Error> {
    if scribbles.dim() != region.dim() {
        return Err(Error::Region { scribbles: scribbles.dim().into(), region: region.dim().into() });
    }
    let (labelled, all) =
        Zip::from(&scribbles).and(&region).fold((0_u64, 0_u64), |(labelled, all), &code, &inside| {
            (labelled + u64::from(inside && code != UNKNOWN), all + u64::from(inside))
        });
    Ok((all > 0).then(|| labelled as f64 / all as f64))
}

fn slice(
    wt: ArrayView2<'_, bool>,
    brain: ArrayView2<'_, bool>,
    pixel_mm: [f64; 2],
    params: &Params,
    rng: &mut impl Rng,
) -> Result<Array2<u8>, Error> {
    let rest = Zip::from(&wt).and(&brain).map_collect(|&tumour, &brain| brain && !tumour);
    let tumour = tumour(wt, pixel_mm, params, rng)?;
    let healthy = healthy(rest.view(), pixel_mm, params, rng)?;
    Ok(Zip::from(&tumour).and(&healthy).map_collect(|&tumour, &healthy| match (tumour, healthy) {
        (true, _) => TUMOUR,
        (false, true) => HEALTHY,
        (false, false) => UNKNOWN,
    }))
}

fn tumour(
    wt: ArrayView2<'_, bool>,
    pixel_mm: [f64; 2],
    params: &Params,
    rng: &mut impl Rng,
) -> Result<Array2<bool>, Error> {
    if count(wt) == 0 {
        return Ok(Array2::from_elem(wt.dim(), false));
    }
    let core = erode(wt, &pixels(params.erode_tumour_mm, pixel_mm))?;
    let core = if count(core.view()) > 0 { core.view() } else { wt };
    Ok(Curve::through(core, wt, pixel_mm).scribble(params, rng))
}

fn healthy(
    brain: ArrayView2<'_, bool>,
    pixel_mm: [f64; 2],
    params: &Params,
    rng: &mut impl Rng,
) -> Result<Array2<bool>, Error> {
    if count(brain) < MIN_HEALTHY_PIXELS {
        return Ok(Array2::from_elem(brain.dim(), false));
    }
    let mut side = pixels(params.erode_healthy_mm, pixel_mm);
    // Ends at the latest with a box of one pixel, which leaves the mask as it is.
    let core = loop {
        let core = erode(brain, &side)?;
        if side == [1; 2] || count(core.view()) > 0 {
            break core;
        }
        side = side.map(|side| (side / 2).max(1));
    };
    Ok(Curve::through(core.view(), brain, pixel_mm).scribble(params, rng))
}

fn count(mask: ArrayView2<'_, bool>) -> usize {
    mask.iter().filter(|&&set| set).count()
}
