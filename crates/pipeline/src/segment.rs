//! From networks to masks: slice by slice, the most probable class inside the brain; and the merge of the two phases.

use candle_core::{Device, IndexOp, Tensor};
use ndarray::{Array3, Axis, Zip, s};

use scribseg_crf_kernels::{Normalisation, Term, mean_field};

use crate::error::{Error, Result};
use crate::methods::{PairwiseLoss, Segmenter};
use crate::scan::Scan;

/// Slices that go through the network together.
const SLICES: usize = 8;

/// Mean-field smoothing of a network's class probabilities (`predict --crf`), slice by slice.
pub struct Smoothing<'a> {
    /// Makes the kernels.
    pub pairwise: &'a dyn PairwiseLoss,
    /// Channels of the kernels' features.
    pub channels: [usize; 3],
    /// Strength.
    pub weight: f64,
    /// Mean-field iterations.
    pub iterations: usize,
}

impl Smoothing<'_> {
    /// Replaces the logits `[class][pixel]` of slice `z` by smoothed probabilities.
    fn apply(&self, scan: &Scan, z: usize, logits: &mut Vec<f32>) -> Result<()> {
        let [h, w] = scan.crop_size();
        let features: Vec<f32> =
            self.channels.iter().flat_map(|&c| scan.crf_channel(c, z).into_iter()).collect();
        let kernel = self.pairwise.kernel(&features, h, w, [scan.spacing[1], scan.spacing[2]])?;
        let (n, classes) = (h * w, logits.len() / (h * w));
        for p in 0..n {
            let largest = (0..classes).map(|k| logits[k * n + p]).fold(f32::NEG_INFINITY, f32::max);
            let total: f32 = (0..classes).map(|k| (logits[k * n + p] - largest).exp()).sum();
            for k in 0..classes {
                logits[k * n + p] = (logits[k * n + p] - largest).exp() / total;
            }
        }
        let term = Term { kernel, weight: self.weight as f32, normalisation: Normalisation::Symmetric };
        *logits = mean_field(logits, &[term], self.iterations)
            .map_err(|e| Error::case(&scan.id, format!("dense CRF, slice {z}: {e}")))?;
        Ok(())
    }
}

/// The most probable class of every pixel of the crop; 0 outside the brain. Ties go to the lower class.
///
/// # Errors
/// What the tensors refuse.
pub fn classes(network: &dyn Segmenter, scan: &Scan, device: &Device) -> Result<Array3<u8>> {
    smoothed_classes(network, scan, device, None)
}

/// [`classes`] after `smoothing`, if any is asked for.
///
/// # Errors
/// What the tensors or the kernels refuse.
pub fn smoothed_classes(
    network: &dyn Segmenter,
    scan: &Scan,
    device: &Device,
    smoothing: Option<&Smoothing<'_>>,
) -> Result<Array3<u8>> {
    let (depth, h, w) = scan.brain.dim();
    let mut out = Array3::zeros((depth, h, w));
    let with_brain: Vec<usize> =
        (0..depth).filter(|&z| scan.brain.index_axis(Axis(0), z).iter().any(|&b| b)).collect();
    for group in with_brain.chunks(SLICES) {
        let mut images: Vec<f32> = Vec::with_capacity(group.len() * 4 * h * w);
        for &z in group {
            images.extend(scan.image.slice(s![.., z, .., ..]).iter());
        }
        let images = Tensor::from_vec(images, (group.len(), 4, h, w), device)?;
        let logits = network.logits(&images, false)?.to_device(&Device::Cpu)?;
        let k = logits.dim(1)?;
        for (i, &z) in group.iter().enumerate() {
            let mut values: Vec<f32> = logits.i(i)?.flatten_all()?.to_vec1()?;
            if let Some(smoothing) = smoothing {
                smoothing.apply(scan, z, &mut values)?;
            }
            let n = h * w;
            for (p, (out, &inside)) in
                out.index_axis_mut(Axis(0), z).iter_mut().zip(scan.brain.index_axis(Axis(0), z)).enumerate()
            {
                if inside {
                    let best =
                        (1..k).fold(0, |b, c| if values[c * n + p] > values[b * n + p] { c } else { b });
                    *out = best as u8;
                }
            }
        }
    }
    Ok(out)
}

/// DESIGN §3 "Merge": inside the whole tumour Unet-sub's ET and NCR/NET, everything else ED; outside, background.
pub fn merge(tumour: &Array3<bool>, substructures: &Array3<u8>) -> Array3<u8> {
    Zip::from(tumour).and(substructures).map_collect(|&inside, &class| match (inside, class) {
        (false, _) => 0,
        (true, 1 | 3) => class,
        (true, _) => 2,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merge_follows_the_whole_tumour() {
        let tumour = Array3::from_shape_vec((1, 1, 5), vec![true, true, true, true, false]).unwrap();
        let sub = Array3::from_shape_vec((1, 1, 5), vec![0, 1, 2, 3, 3]).unwrap();
        assert_eq!(merge(&tumour, &sub).into_raw_vec_and_offset().0, [2, 1, 2, 3, 0]);
    }
}
