//! One scan on the working grid: z-scored, cut to the axial centre crop, with the way back to the scan's own grid.

use ndarray::{Array2, Array3, Array4, ArrayView3, ArrayViewMut3, Axis, Zip, s};
use rayon::prelude::*;
use scribseg_io::{Geometry, LoadedCase};

use crate::config::Config;
use crate::error::{Error, Result};

/// A prepared scan. Arrays are `[z, y, x]` in LPS orientation, cut to the crop.
pub struct Scan {
    /// The case's name.
    pub id: String,
    /// `[T1, T1ce, T2, FLAIR]`, z-scored over the brain, 0 outside.
    pub image: Array4<f32>,
    /// Non-zero in any modality.
    pub brain: Array3<bool>,
    /// Reference sub-structure codes on the *whole* grid, where the cohort has them.
    pub reference: Option<Array3<u8>>,
    /// Voxel edges in mm, `[z, y, x]`.
    pub spacing: [f64; 3],
    /// Per modality, the z-scores of the brain's 0.5 and 99.5 percentiles: they become 0 and 255 for the CRF.
    pub window: [[f32; 2]; 4],
    /// The whole grid.
    pub shape: [usize; 3],
    /// The scan's own grid on disk.
    pub geometry: Geometry,
    /// Part of the voxels on the four side faces of the whole grid that count as brain.
    pub(crate) rim: f64,
    /// First row and column of the crop on the whole grid (negative: the crop is padded).
    pub(crate) offset: [isize; 2],
}

/// What to say of a scan that [is filled to the rim](Scan::is_filled_to_the_rim).
pub(crate) const FILLED: &str = "most of its outer voxels are not 0, so that all of it counts as brain; strip the skull and set the background to 0";

/// Part of the voxels on the four side faces of a `[z, y, x]` volume that are set.
fn rim(brain: &Array3<bool>) -> f64 {
    let faces = [1, 2].into_iter().flat_map(|axis| {
        let last = brain.len_of(Axis(axis)).saturating_sub(1);
        [brain.index_axis(Axis(axis), 0), brain.index_axis(Axis(axis), last)]
    });
    let (set, all) =
        faces.fold((0, 0), |(set, all), face| (set + face.iter().filter(|&&b| b).count(), all + face.len()));
    set as f64 / all.max(1) as f64
}

/// Pixels of `mm` that a crop of `crop_mm` is wide, rounded up to a multiple of `stride`.
pub(crate) fn crop_side(crop_mm: f64, mm: f64, stride: usize) -> usize {
    let pixels = (crop_mm / mm).round().max(1.0) as usize;
    pixels.div_ceil(stride) * stride
}

impl Scan {
    /// Normalises (z-score per modality over the brain, DESIGN §3) and crops.
    ///
    /// `stride`: the crop's sides are rounded up to a multiple of it.
    ///
    /// # Errors
    /// [`Error::Case`] when the brain is empty or a modality is constant in it.
    pub fn prepare(case: LoadedCase, config: &Config, stride: usize) -> Result<Self> {
        let LoadedCase { id, mut modalities, brain, reference, geometry, .. } = case;
        let spacing = geometry.spacing();
        let inside = brain.iter().filter(|&&b| b).count();
        if inside < 2 {
            return Err(Error::case(
                &id,
                "expected a brain (voxels non-zero in any modality), found none; export the scan again or leave the case out",
            ));
        }
        let each: Vec<_> = modalities.axis_iter_mut(Axis(0)).enumerate().collect();
        let windows: Vec<Result<[f32; 2]>> = each
            .into_par_iter()
            .map(|(m, mut volume)| {
                let mut values: Vec<f32> = Vec::with_capacity(inside);
                values.extend(volume.iter().zip(&brain).filter_map(|(&v, &b)| b.then_some(v)));
                let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / inside as f64;
                let variance =
                    values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / inside as f64;
                let sd = variance.sqrt();
                if !sd.is_finite() || sd <= 0.0 {
                    let name = crate::MODALITIES[m];
                    return Err(Error::case(
                        &id,
                        format!(
                            "expected a modality {name} that varies over the brain, found one value; export it again or leave the case out"
                        ),
                    ));
                }
                let z = |v: f32| ((f64::from(v) - mean) / sd) as f32;
                let mut percentile = |q: f64| {
                    let k = ((inside - 1) as f64 * q).round() as usize;
                    *values.select_nth_unstable_by(k, f32::total_cmp).1
                };
                let window = [z(percentile(0.005)), z(percentile(0.995))];
                Zip::from(&mut volume).and(&brain).for_each(|v, &b| *v = if b { z(*v) } else { 0.0 });
                Ok(if window[1] <= window[0] { [-1.0, 1.0] } else { window })
            })
            .collect();
        let mut window = [[0.0; 2]; 4];
        for (to, from) in window.iter_mut().zip(windows) {
            // The first fault in the order of the modalities.
            *to = from?;
        }
        let (depth, height, width) = brain.dim();
        let side = |mm: f64| crop_side(config.input.crop_mm, mm, stride);
        let (h, w) = (side(spacing[1]), side(spacing[2]));
        let offset =
            [(height as isize - h as isize).div_euclid(2), (width as isize - w as isize).div_euclid(2)];
        let mut scan = Self {
            image: Array4::zeros((0, 0, 0, 0)),
            brain: Array3::default((depth, h, w)),
            reference,
            spacing,
            window,
            shape: [depth, height, width],
            geometry,
            rim: rim(&brain),
            offset,
            id,
        };
        let mut image = Array4::zeros((4, depth, h, w));
        for (from, to) in modalities.axis_iter(Axis(0)).zip(image.axis_iter_mut(Axis(0))) {
            scan.crop_into(from, to);
        }
        scan.brain = scan.crop(brain.view(), false);
        scan.image = image;
        Ok(scan)
    }

    /// Whether most of the volume's side faces count as brain: then its background is not 0, or its skull is on.
    pub fn is_filled_to_the_rim(&self) -> bool {
        self.rim > 0.5
    }

    /// Rows and columns of the crop.
    pub fn crop_size(&self) -> [usize; 2] {
        [self.brain.dim().1, self.brain.dim().2]
    }

    /// The range of the whole grid and of the crop that overlap, along one axis.
    fn overlap(
        offset: isize,
        whole: usize,
        cropped: usize,
    ) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let start = offset.max(0) as usize;
        let stop = (offset + cropped as isize).clamp(0, whole as isize) as usize;
        let stop = stop.max(start);
        let shift = (start as isize - offset) as usize;
        (start..stop, shift..shift + (stop - start))
    }

    /// Cuts a whole-grid volume to the crop; `outside` pads.
    pub fn crop<T: Copy>(&self, whole: ArrayView3<'_, T>, outside: T) -> Array3<T> {
        let (depth, [h, w]) = (whole.dim().0, self.crop_size());
        let mut out = Array3::from_elem((depth, h, w), outside);
        self.crop_into(whole, out.view_mut());
        out
    }

    /// [`crop`](Self::crop) into a volume that holds what pads.
    fn crop_into<T: Copy>(&self, whole: ArrayView3<'_, T>, mut out: ArrayViewMut3<'_, T>) {
        let (_, height, width) = whole.dim();
        let [h, w] = self.crop_size();
        let (fy, ty) = Self::overlap(self.offset[0], height, h);
        let (fx, tx) = Self::overlap(self.offset[1], width, w);
        out.slice_mut(s![.., ty, tx]).assign(&whole.slice(s![.., fy, fx]));
    }

    /// Puts a cropped volume back on the whole grid; `outside` fills the rest.
    pub fn uncrop<T: Copy>(&self, cropped: ArrayView3<'_, T>, outside: T) -> Array3<T> {
        let [depth, height, width] = self.shape;
        let [h, w] = self.crop_size();
        let mut out = Array3::from_elem((depth, height, width), outside);
        let (fy, ty) = Self::overlap(self.offset[0], height, h);
        let (fx, tx) = Self::overlap(self.offset[1], width, w);
        out.slice_mut(s![.., fy, fx]).assign(&cropped.slice(s![.., ty, tx]));
        out
    }

    /// The reference cut to the crop.
    ///
    /// # Errors
    /// [`Error::Case`] when the cohort brought none.
    pub fn reference_crop(&self) -> Result<Array3<u8>> {
        let reference = self.reference.as_ref().ok_or_else(|| {
            Error::case(
                &self.id,
                "needs a reference segmentation (`_seg`), found none; add it or leave the case out",
            )
        })?;
        Ok(self.crop(reference.view(), 0))
    }

    /// One slice of one modality on the CRF's 0–255 scale (linear between the brain's percentiles, kept as float,
    /// not clamped).
    pub fn crf_channel(&self, modality: usize, z: usize) -> Array2<f32> {
        let [low, high] = self.window[modality];
        self.image.slice(s![modality, z, .., ..]).mapv(|v| (v - low) / (high - low) * 255.0)
    }
}
