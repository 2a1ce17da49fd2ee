//! The scribbles of a scan: a user's, or simulated from its reference.

use std::path::Path;

use ndarray::{Array3, Zip};
use scribseg_io::{ScribbleMapping, companion};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::scan::Scan;

/// A user's scribble on a scan's crop: 0 unknown, 1 tumour, 2 healthy, some of each inside the brain.
pub(crate) fn scribble_of(folder: &Path, scan: &Scan, values: &ScribbleMapping) -> Result<Array3<u8>> {
    let path = companion(folder, &scan.id, "scribble");
    let refuse = |problem: String| Error::Cohort { path: path.clone(), problem };
    if !path.is_file() {
        return Err(refuse(format!(
            "expected the scribble of case {}, found no such file; draw it, or leave the case out",
            scan.id
        )));
    }
    scribseg_io::one_companion(folder, &scan.id, "scribble")?;
    let whole = scribseg_io::read_scribble(&path, &scan.geometry, values)?;
    let scribble = scan.crop(whole.view(), 0);
    for (code, what) in [(1, "the tumour"), (2, "healthy tissue")] {
        if !Zip::from(&scribble).and(&scan.brain).any(|&s, &inside| s == code && inside) {
            let outside = match whole.iter().any(|&v| v == code) {
                true => " there, some outside the brain or the crop (`input.crop_mm`)",
                false => "",
            };
            return Err(refuse(format!(
                "expected a scribble on {what} (value {}) inside the brain, found none{outside}; draw one, or leave the case out",
                values.values_of(code)
            )));
        }
    }
    Ok(scribble)
}

/// An error unless a scan has a tumour to simulate a scribble from.
pub(crate) fn has_tumour(scan: &Scan) -> Result<()> {
    let Some(reference) = &scan.reference else {
        return Err(Error::case(
            &scan.id,
            "expected a scribble, or a reference (`_seg`) to simulate one from, found neither; give `--scribbles DIR`, add the reference, or leave the case out",
        ));
    };
    if scan.reference_crop()?.iter().any(|&v| v != 0) {
        return Ok(());
    }
    let found = match reference.iter().any(|&v| v != 0) {
        true => "a tumour outside the crop alone; widen `input.crop_mm`",
        false => "background only; leave the case out, or give `--scribbles DIR`",
    };
    Err(Error::case(
        &scan.id,
        format!("expected a tumour in its reference (`_seg`) to simulate a scribble from, found {found}"),
    ))
}

/// Both kinds of scribble drawn from a scan's reference.
pub(crate) fn simulate(scan: &Scan, config: &Config, seed: u64) -> Result<Array3<u8>> {
    has_tumour(scan)?;
    let tumour = scan.reference_crop()?.mapv(|v| v != 0);
    let scribble = drawn(scan, &tumour, &scan.brain, config, seed)?;
    if !scribble.iter().any(|&s| s == 2) {
        return Err(Error::case(
            &scan.id,
            format!(
                "expected room for a scribble on healthy brain, found fewer than {} pixels of it in every slice; widen `input.crop_mm`, give `--scribbles DIR`, or leave the case out",
                scribseg_scribble::MIN_HEALTHY_PIXELS
            ),
        ));
    }
    Ok(scribble)
}

/// Scribbles as a person would draw them who sees `tumour`, inside the part of the brain that is known.
pub(crate) fn drawn(
    scan: &Scan,
    tumour: &Array3<bool>,
    known: &Array3<bool>,
    config: &Config,
    seed: u64,
) -> Result<Array3<u8>> {
    let params = scribseg_scribble::Params {
        width_mm: config.scribble.width_mm,
        shift_mm: config.scribble.shift_mm,
        rotation_deg: config.scribble.rotation_deg,
        erode_tumour_mm: config.scribble.erode_tumour_mm,
        erode_healthy_mm: config.scribble.erode_healthy_mm,
        ..scribseg_scribble::Params::default()
    };
    scribseg_scribble::simulate(tumour.view(), known.view(), scan.spacing, &params, seed)
        .map_err(|e| Error::case(&scan.id, e))
}
