//! The partial cross-entropy (eq. 1 of the paper): only labelled pixels count.
//!
//! L = (1/|S|) Σ_{i∈S} −log p_i(s_i) + λ·(1/|G|) Σ_{i∈G} −log p_i(g_i)
//!
//! S are the pixels with a scribble, G those with a weak label from the graph cut or the clustering; both are taken
//! over the whole batch. A term whose set is empty is 0.

use crate::init::lock;
use crate::kernels::Dims;
use crate::kernels::classes::{Term, cross_entropy};
use crate::ops::{dims, expect_shape, prepare_on_any, values};
use crate::{CpuPath, Error, Result};
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Shape, Tensor};
use rayon::prelude::*;
use std::sync::Mutex;

/// The label of a pixel that nobody has labelled.
pub const UNKNOWN: u8 = 255;

/// Partial cross-entropy of logits against scribbles and weak labels.
///
/// `logits` is `f32` `[B, K, H, W]`; `scribble` and `weak` are `u8` `[B, H, W]` with classes 0..K, or 255
/// ([`UNKNOWN`]) for unlabelled pixels. The result is a scalar `f32` tensor; exponentials are in `f32`, sums in `f64`. An unlabelled pixel contributes
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
    Ok(logits.apply_op1(PartialCrossEntropy {
        path: CpuPath::detect()?,
        terms,
        gradient: Mutex::default(),
    })?)
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
    path: CpuPath,
    terms: [(f64, Vec<u8>); 2],
    /// By the logits, kept from the forward pass, which has all that it takes.
    gradient: Mutex<Option<Tensor>>,
}

impl CustomOp1 for PartialCrossEntropy {
    fn name(&self) -> &'static str {
        "partial-cross-entropy"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (_, classes, h, w) = layout.shape().dims4()?;
        let (plane, x) = (h * w, values(x, layout)?);
        let mut dx = vec![0f32; x.len()];
        let images = dx.par_chunks_mut(classes * plane).zip(x.par_chunks(classes * plane));
        let per_image: Vec<f64> = (images.enumerate())
            .map(|(image, (dx, x))| {
                let term = |n: usize| {
                    let (weight, labels) = &self.terms[n];
                    Term { weight: *weight, labels: &labels[image * plane..][..plane] }
                };
                cross_entropy(self.path, x, plane, [term(0), term(1)], dx)
            })
            .collect();
        *lock(&self.gradient) = Some(Tensor::from_vec(dx, layout.shape(), &Device::Cpu)?);
        let loss: f64 = per_image.iter().sum();
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, g: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let gradient = lock(&self.gradient).clone();
        match (gradient, g.to_scalar::<f32>()?) {
            (Some(gradient), 1.0) => Ok(Some(gradient)),
            (gradient, g) => gradient.map(|gradient| gradient.affine(f64::from(g), 0.0)).transpose(),
        }
    }
}
