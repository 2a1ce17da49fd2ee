//! Positions and intensities, each divided by its bandwidth: the space in which the Gaussian is isotropic.

use crate::error::{Error, Result};
use crate::lattice::MAX_DIMENSIONS;

/// Features of every pixel, `[pixel][dimension]`, in units of their bandwidths.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    pub(crate) values: Vec<f32>,
    pub(crate) dimensions: usize,
}

fn bandwidth(name: &'static str, value: f32) -> Result<f32> {
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err(Error::Bandwidth { name, found: value }) }
}

impl Features {
    /// Features that are already divided by their bandwidths, `[pixel][dimension]`.
    ///
    /// # Errors
    /// [`Error::Dimensions`], [`Error::Length`], [`Error::NotFinite`].
    pub fn new(values: Vec<f32>, dimensions: usize) -> Result<Self> {
        if dimensions == 0 || dimensions > MAX_DIMENSIONS {
            return Err(Error::Dimensions { limit: MAX_DIMENSIONS, found: dimensions });
        }
        if !values.len().is_multiple_of(dimensions) {
            let expected = values.len().next_multiple_of(dimensions);
            return Err(Error::Length { what: "features", expected, found: values.len() });
        }
        few_enough(values.len() / dimensions)?;
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::NotFinite {
                pixel: i / dimensions,
                feature: i % dimensions,
                found: values[i],
            });
        }
        Ok(Self { values, dimensions })
    }

    /// Bilateral features of a slice: `(y, x)·pixel_mm / sigma_xy_mm`, then each channel divided by `sigma_intensity`.
    ///
    /// `channels` is planar `[channel][y][x]`, any number of channels up to 13, in the units of `sigma_intensity`.
    ///
    /// # Errors
    /// [`Error::Bandwidth`], [`Error::Length`], [`Error::Dimensions`], [`Error::Memory`], [`Error::NotFinite`].
    pub fn bilateral(
        channels: &[f32],
        height: usize,
        width: usize,
        pixel_mm: [f64; 2],
        sigma_xy_mm: f64,
        sigma_intensity: f64,
    ) -> Result<Self> {
        Self::of_grid(channels, [height, width], pixel_mm, sigma_xy_mm, sigma_intensity)
    }

    /// Bilateral features of a volume: `(z, y, x)·voxel_mm / sigma_mm`, then each channel divided by `sigma_intensity`.
    ///
    /// `channels` is planar `[channel][z][y][x]`, any number of channels up to 12.
    ///
    /// # Errors
    /// As [`bilateral`](Self::bilateral).
    pub fn bilateral_volume(
        channels: &[f32],
        shape: [usize; 3],
        voxel_mm: [f64; 3],
        sigma_mm: f64,
        sigma_intensity: f64,
    ) -> Result<Self> {
        Self::of_grid(channels, shape, voxel_mm, sigma_mm, sigma_intensity)
    }

    fn of_grid<const AXES: usize>(
        channels: &[f32],
        shape: [usize; AXES],
        voxel_mm: [f64; AXES],
        sigma_mm: f64,
        sigma_intensity: f64,
    ) -> Result<Self> {
        bandwidth("sigma of position", sigma_mm as f32)?;
        let intensity = bandwidth("sigma of intensity", sigma_intensity as f32)?;
        let mut step = [0.0; AXES];
        for (step, &mm) in step.iter_mut().zip(&voxel_mm) {
            *step = bandwidth("voxel size in sigmas", (mm / sigma_mm) as f32)?;
        }
        let pixels = shape.iter().fold(1usize, |product, &side| product.saturating_mul(side));
        if pixels == 0 {
            return Self::new(Vec::new(), AXES);
        }
        few_enough(pixels)?;
        if !channels.len().is_multiple_of(pixels) {
            let expected = channels.len().next_multiple_of(pixels);
            return Err(Error::Length { what: "channels of an image", expected, found: channels.len() });
        }
        let count = channels.len() / pixels;
        if AXES + count > MAX_DIMENSIONS {
            return Err(Error::Dimensions { limit: MAX_DIMENSIONS, found: AXES + count });
        }
        let mut values = Vec::new();
        let length = pixels.saturating_mul(AXES + count);
        let no_room = |_| Error::Memory { asked: length.saturating_mul(size_of::<f32>()) };
        values.try_reserve_exact(length).map_err(no_room)?;
        let mut index = [0usize; AXES];
        for p in 0..pixels {
            values.extend(index.iter().zip(&step).map(|(&i, &step)| i as f32 * step));
            values.extend((0..count).map(|c| channels[c * pixels + p] / intensity));
            for axis in (0..AXES).rev() {
                index[axis] += 1;
                if index[axis] < shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Self::new(values, AXES + count)
    }

    /// Number of pixels.
    pub fn pixels(&self) -> usize {
        self.values.len() / self.dimensions
    }

    /// Number of features a pixel.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }
}

/// Lattices count pixels' places in 32 bits.
fn few_enough(pixels: usize) -> Result<()> {
    const MOST: usize = u32::MAX as usize;
    if pixels > MOST {
        return Err(Error::Length { what: "pixels of an image", expected: MOST, found: pixels });
    }
    Ok(())
}
