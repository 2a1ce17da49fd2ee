//! The partial cross-entropy (eq. 1 of the paper): only labelled pixels count.
//!
//! L = (1/|S|) Σ_{i∈S} −log p_i(s_i) + λ·(1/|G|) Σ_{i∈G} −log p_i(g_i)
//!
//! S are the pixels with a scribble, G those with a weak label from the graph cut or the clustering; both are taken
//! over the whole batch. A term whose set is empty is 0.

use crate::kernels::Dims;
use crate::ops::{dims, expect_shape, prepare_on_any, values, with_values};
use crate::{Error, Result};
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Shape, Tensor};
use rayon::prelude::*;

/// The label of a pixel that nobody has labelled.
pub const UNKNOWN: u8 = 255;

/// Partial cross-entropy of logits against scribbles and weak labels.
///
/// `logits` is `f32` `[B, K, H, W]`; `scribble` and `weak` are `u8` `[B, H, W]` with classes 0..K, or 255
/// ([`UNKNOWN`]) for unlabelled pixels. The result is a scalar `f32` tensor; sums are kept in `f64`. An unlabelled pixel contributes
/// exactly 0 to the loss and to the gradient. On a CUDA device sums over pixels are in `f64`, each pixel's term in `f32`.
///
/// # Errors
/// Wrong shapes, element types or devices; a label that is neither a class nor 255 (on a CUDA device, where nobody waits for
/// labels to be looked at, the loss is not a number instead); a `lambda` that is negative or not finite.
pub fn partial_cross_entropy(
    logits: &Tensor,
    scribble: &Tensor,
    weak: &Tensor,
    lambda: f64,
) -> Result<Tensor> {
    if !(lambda.is_finite() && lambda >= 0.0) {
        return Err(Error::Value {
            what: "lambda",
            value: lambda,
            expected: "a finite number of at least 0",
        });
    }
    let logits = prepare_on_any(logits, "partial cross-entropy logits")?;
    let d = dims(&logits, "partial cross-entropy logits")?;
    #[cfg(feature = "cuda")]
    if logits.device().is_cuda() {
        return crate::cuda::ops::partial_cross_entropy(&logits, scribble, weak, lambda);
    }
    let scribble = labels(scribble, "scribble", d)?;
    let weak = labels(weak, "weak", d)?;
    let scale = |labels: &[u8], factor: f64| match labels.iter().filter(|&&l| l != UNKNOWN).count() {
        0 => 0.0,
        count => factor / count as f64,
    };
    let terms = [(scale(&scribble, 1.0), scribble), (scale(&weak, lambda), weak)];
    Ok(logits.apply_op1(PartialCrossEntropy { terms })?)
}

/// Labels `[B, H, W]` of logits or probabilities of dimensions `d`, checked.
pub(crate) fn labels(tensor: &Tensor, what: &'static str, d: Dims) -> Result<Vec<u8>> {
    expect_shape(tensor, what, &[d.n, d.h, d.w])?;
    if tensor.dtype() != DType::U8 {
        return Err(Error::DType { what, expected: DType::U8, found: tensor.dtype() });
    }
    let labels = tensor.flatten_all()?.to_vec1::<u8>()?;
    match labels.iter().position(|&l| l != UNKNOWN && usize::from(l) >= d.c) {
        Some(index) => Err(Error::Label { what, label: labels[index], index, classes: d.c }),
        None => Ok(labels),
    }
}

/// One (weight of a labelled pixel, labels) for each of the two terms.
struct PartialCrossEntropy {
    terms: [(f64, Vec<u8>); 2],
}

/// log Σ exp of the logits of one pixel.
fn log_sum_exp(x: &[f32], plane: usize, p: usize, classes: usize) -> f64 {
    let logit = |k: usize| f64::from(x[k * plane + p]);
    let largest = (0..classes).map(logit).fold(f64::NEG_INFINITY, f64::max);
    largest + (0..classes).map(|k| (logit(k) - largest).exp()).sum::<f64>().ln()
}

impl CustomOp1 for PartialCrossEntropy {
    fn name(&self) -> &'static str {
        "partial-cross-entropy"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (_, classes, h, w) = layout.shape().dims4()?;
        let plane = h * w;
        let per_image: Vec<f64> = (values(x, layout)?.par_chunks(classes * plane).enumerate())
            .map(|(image, x)| {
                let mut sums = [0f64; 2];
                for p in 0..plane {
                    let at = image * plane + p;
                    let label = [self.terms[0].1[at], self.terms[1].1[at]];
                    if label == [UNKNOWN; 2] {
                        continue;
                    }
                    let total = log_sum_exp(x, plane, p, classes);
                    for (sum, &label) in sums.iter_mut().zip(&label) {
                        if label != UNKNOWN {
                            *sum += total - f64::from(x[usize::from(label) * plane + p]);
                        }
                    }
                }
                self.terms[0].0 * sums[0] + self.terms[1].0 * sums[1]
            })
            .collect();
        let loss: f64 = per_image.iter().sum();
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let (_, classes, h, w) = x.dims4()?;
        let plane = h * w;
        let outer = f64::from(g.to_scalar::<f32>()?);
        let mut dx = vec![0f32; x.elem_count()];
        with_values(x, |x| {
            let images = dx.par_chunks_mut(classes * plane).zip(x.par_chunks(classes * plane));
            images.enumerate().for_each(|(image, (dx, x))| {
                let mut exponentials = vec![0f64; classes];
                for p in 0..plane {
                    let at = image * plane + p;
                    let label = [self.terms[0].1[at], self.terms[1].1[at]];
                    if label == [UNKNOWN; 2] {
                        continue;
                    }
                    let logit = |k: usize| f64::from(x[k * plane + p]);
                    let largest = (0..classes).map(logit).fold(f64::NEG_INFINITY, f64::max);
                    let mut total = 0.0;
                    for (k, e) in exponentials.iter_mut().enumerate() {
                        *e = (logit(k) - largest).exp();
                        total += *e;
                    }
                    let weight = |term: usize| if label[term] == UNKNOWN { 0.0 } else { self.terms[term].0 };
                    let (first, second) = (weight(0), weight(1));
                    for (k, e) in exponentials.iter().enumerate() {
                        let probability = e / total;
                        let mut slope = (first + second) * probability;
                        slope -= if usize::from(label[0]) == k { first } else { 0.0 };
                        slope -= if usize::from(label[1]) == k { second } else { 0.0 };
                        dx[k * plane + p] = (outer * slope) as f32;
                    }
                }
            });
            Ok(())
        })?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), &Device::Cpu)?))
    }
}
