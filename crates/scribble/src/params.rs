use crate::Error;

/// How scribbles are drawn. Lengths are in mm, so that one setting serves scans of any resolution; they are rounded to
/// whole pixels, at least one, by the size of a pixel.
#[derive(Debug, Clone, PartialEq)]
pub struct Params {
    /// Width of the drawn curve in mm; default 3.
    pub width_mm: f64,
    /// The curve moves by up to this many mm each way in x and, drawn apart, in y; default 20.
    pub shift_mm: f64,
    /// The curve turns by up to this many degrees each way about its centroid; default 30.
    pub rotation_deg: f64,
    /// Side of the square that erodes the tumour before thinning, in mm; default 3.
    pub erode_tumour_mm: f64,
    /// Side of the square that erodes healthy brain before thinning, in mm; default 30. Halved until something is
    /// left.
    pub erode_healthy_mm: f64,
    /// How often a curve is moved anew when clipping left nothing of it, before the unmoved curve is taken;
    /// default 10.
    pub tries: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            width_mm: 3.0,
            shift_mm: 20.0,
            rotation_deg: 30.0,
            erode_tumour_mm: 3.0,
            erode_healthy_mm: 30.0,
            tries: 10,
        }
    }
}

impl Params {
    /// Checks the ranges: lengths finite, width above 0, the others at least 0, rotation at most 180°, tries at
    /// least 1.
    ///
    /// # Errors
    /// [`Error::Parameter`] names the first field out of range.
    pub fn validate(&self) -> Result<(), Error> {
        let check = |name, expected, found: f64, good: bool| {
            if good { Ok(()) } else { Err(Error::Parameter { name, expected, found }) }
        };
        check(
            "width_mm",
            "a finite length above 0 mm",
            self.width_mm,
            self.width_mm.is_finite() && self.width_mm > 0.0,
        )?;
        for (name, value) in [
            ("shift_mm", self.shift_mm),
            ("erode_tumour_mm", self.erode_tumour_mm),
            ("erode_healthy_mm", self.erode_healthy_mm),
        ] {
            check(name, "a finite length of at least 0 mm", value, value.is_finite() && value >= 0.0)?;
        }
        check(
            "rotation_deg",
            "an angle of 0 to 180 degrees",
            self.rotation_deg,
            (0.0..=180.0).contains(&self.rotation_deg),
        )?;
        check("tries", "at least 1", self.tries as f64, self.tries >= 1)
    }
}

/// A length along both image axes in whole pixels, at least one each.
pub(crate) fn pixels(length_mm: f64, pixel_mm: [f64; 2]) -> [usize; 2] {
    // The cast saturates: an absurd length erodes everything and draws over everything, as it should.
    pixel_mm.map(|size| ((length_mm / size).round() as usize).max(1))
}
