//! From networks to masks: slice by slice, the most probable class inside the brain; and the merge of the two phases.

use candle_core::{Device, IndexOp, Tensor};
use ndarray::{Array3, Axis, Zip, s};

use scribseg_crf_kernels::{Normalisation, Term, mean_field};

use crate::batches::{UNLABELLED, append};
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
    let mut out = Array3::zeros(scan.brain.dim());
    each_slice(network, scan, device, |z, mut values| {
        if let Some(smoothing) = smoothing {
            smoothing.apply(scan, z, &mut values)?;
        }
        for_brain(scan, z, &mut out, |p, n| best(&values, p, n) as u8);
        Ok(())
    })?;
    Ok(out)
}

/// [`classes`] where the network is at least `least` sure; elsewhere in the brain [`UNLABELLED`].
///
/// # Errors
/// What the tensors refuse.
pub(crate) fn sure_classes(
    network: &dyn Segmenter,
    scan: &Scan,
    device: &Device,
    least: f32,
) -> Result<Array3<u8>> {
    let mut out = Array3::zeros(scan.brain.dim());
    each_slice(network, scan, device, |z, values| {
        for_brain(scan, z, &mut out, |p, n| sure(&values, p, n, least));
        Ok(())
    })?;
    Ok(out)
}

/// The likeliest class of pixel `p` of `n`; of equals the lower.
fn best(values: &[f32], p: usize, n: usize) -> usize {
    (1..values.len() / n).fold(0, |b, c| if values[c * n + p] > values[b * n + p] { c } else { b })
}

/// The same where its probability is `least` or more, else [`UNLABELLED`].
fn sure(values: &[f32], p: usize, n: usize, least: f32) -> u8 {
    let best = best(values, p, n);
    // Of the best class it is 1 / Σ exp(x_k − x_best).
    let total: f32 = values[p..].iter().step_by(n).map(|x| (x - values[best * n + p]).exp()).sum();
    if 1.0 / total >= least { best as u8 } else { UNLABELLED }
}

/// Sets the pixels of slice `z` that are brain; `class` gets a pixel's place and how many there are.
fn for_brain(scan: &Scan, z: usize, out: &mut Array3<u8>, class: impl Fn(usize, usize) -> u8) {
    let brain = scan.brain.index_axis(Axis(0), z);
    let n = brain.len();
    for (p, (out, &inside)) in out.index_axis_mut(Axis(0), z).iter_mut().zip(brain).enumerate() {
        if inside {
            *out = class(p, n);
        }
    }
}

/// Hands the logits `[class][pixel]` of every slice with brain to `each`.
fn each_slice(
    network: &dyn Segmenter,
    scan: &Scan,
    device: &Device,
    mut each: impl FnMut(usize, Vec<f32>) -> Result<()>,
) -> Result<()> {
    let (depth, h, w) = scan.brain.dim();
    let with_brain: Vec<usize> =
        (0..depth).filter(|&z| scan.brain.index_axis(Axis(0), z).iter().any(|&b| b)).collect();
    for group in with_brain.chunks(SLICES) {
        let mut images: Vec<f32> = Vec::with_capacity(group.len() * 4 * h * w);
        for &z in group {
            append(&mut images, scan.image.slice(s![.., z, .., ..]));
        }
        let images = Tensor::from_vec(images, (group.len(), 4, h, w), device)?;
        let logits = network.logits(&images, false)?.to_device(&Device::Cpu)?;
        for (i, &z) in group.iter().enumerate() {
            each(z, logits.i(i)?.flatten_all()?.to_vec1()?)?;
        }
    }
    Ok(())
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
    fn a_class_is_sure_from_its_probability_on() {
        // Three classes of two pixels; probabilities of 1/6, 4/6, 1/6 and of thirds.
        let values = [0.0, 7.0, 4f32.ln(), 7.0, 0.0, 7.0];
        let sure = |p: usize, least: f32| sure(&values, p, 2, least);
        assert_eq!([sure(0, 0.66), sure(0, 0.67)], [1, UNLABELLED]);
        assert_eq!([sure(1, 0.33), sure(1, 0.34)], [0, UNLABELLED], "of equals the lower");
    }

    #[test]
    fn merge_follows_the_whole_tumour() {
        let tumour = Array3::from_shape_vec((1, 1, 5), vec![true, true, true, true, false]).unwrap();
        let sub = Array3::from_shape_vec((1, 1, 5), vec![0, 1, 2, 3, 3]).unwrap();
        assert_eq!(merge(&tumour, &sub).into_raw_vec_and_offset().0, [2, 1, 2, 3, 0]);
    }
}
