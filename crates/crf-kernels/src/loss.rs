//! The dense CRF loss, eq. 2 of Ji et al. 2019, as a candle operator with its gradient.
//!
//! For each image, with g the gate and r the region of interest (both 1 everywhere when not given):
//!
//! L = Σ_k Σ_i g_i r_i y_ik Σ_j W_ij r_j (1 − y_jk).
//!
//! [`LossForm::NonNegative`] is L itself. [`LossForm::ConstantFree`] drops Σ_i g_i r_i (W r)_i Σ_k y_ik, a constant where y
//! sums to 1 over the classes (Tang et al. 2018): it is negative, and its gradient is the same but for a term that is equal in all classes, which a softmax
//! removes. W is symmetric, so the gradient is the true one:
//! ∂L/∂y_k = r ⊙ (g ⊙ W r − g ⊙ W(r ⊙ y_k) − W(g ⊙ r ⊙ y_k)).

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, Error, Layout, Result, Shape, Storage, Tensor};
use rayon::prelude::*;

use crate::kernel::PairwiseKernel;

/// Which constant the loss carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossForm {
    /// Eq. 2 itself: never negative for probabilities.
    NonNegative,
    /// −Σ_k y_kᵀ W y_k: the same gradient through a softmax, one filter channel less.
    ConstantFree,
}

struct CrfLoss {
    kernels: Vec<Arc<dyn PairwiseKernel>>,
    form: LossForm,
    roi: Option<Vec<f32>>,
    gate: Option<Vec<f32>>,
    /// ∂L/∂y, kept from the forward pass, which has all that it takes.
    gradient: Mutex<Vec<f32>>,
}

impl CrfLoss {
    /// Loss and gradient of one image.
    fn image(&self, index: usize, y: &[f32], gradient: &mut [f32]) -> std::result::Result<f64, crate::Error> {
        let kernel = &self.kernels[index];
        let n = kernel.pixels();
        let k = y.len() / n.max(1);
        let part = |of: &Option<Vec<f32>>| of.as_ref().map(|v| v[index * n..][..n].to_vec());
        let (roi, gate) = (part(&self.roi), part(&self.gate));
        let at = |of: &Option<Vec<f32>>, p: usize| of.as_ref().map_or(1.0, |v| v[p]);
        // Channels: r ⊙ y_k, then with a gate g ⊙ r ⊙ y_k, then for the constant's sake r.
        let mut values: Vec<f32> = y.iter().enumerate().map(|(i, &v)| v * at(&roi, i % n)).collect();
        if gate.is_some() {
            let gated: Vec<f32> = values.iter().enumerate().map(|(i, &v)| v * at(&gate, i % n)).collect();
            values.extend(gated);
        }
        let wants_mass = self.form == LossForm::NonNegative;
        if let (Some(roi), true) = (&roi, wants_mass) {
            values.extend(roi);
        }
        let channels = values.len() / n.max(1);
        let mut filtered = vec![0.0; values.len()];
        kernel.filter(channels, &values, &mut filtered)?;
        let mass = match (wants_mass, &roi) {
            (false, _) => None,
            (true, None) => Some(kernel.mass()),
            (true, Some(_)) => Some(&filtered[(channels - 1) * n..]),
        };
        let mut loss = 0.0f64;
        for class in 0..k {
            let own = &filtered[class * n..][..n];
            let other = if gate.is_some() { &filtered[(k + class) * n..][..n] } else { own };
            for p in 0..n {
                let (r, g) = (at(&roi, p), at(&gate, p));
                let constant = mass.map_or(0.0, |m| m[p]);
                loss += f64::from(g * values[class * n + p]) * f64::from(constant - own[p]);
                gradient[class * n + p] = r * (g * (constant - own[p]) - other[p]);
            }
        }
        Ok(loss)
    }
}

impl CustomOp1 for CrfLoss {
    fn name(&self) -> &'static str {
        "crf_loss"
    }

    fn cpu_fwd(&self, y: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, k, h, w) = layout.shape().dims4()?;
        let (start, end) = layout
            .contiguous_offsets()
            .ok_or_else(|| Error::Msg("crf_loss: expected a contiguous tensor".into()))?;
        let y = &y.as_slice::<f32>()?[start..end];
        let mut gradient = vec![0.0; y.len()];
        let size = (k * h * w).max(1);
        let losses = gradient
            .par_chunks_mut(size)
            .zip(y.par_chunks(size))
            .enumerate()
            .map(|(i, (gradient, y))| self.image(i, y, gradient))
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(Error::wrap)?;
        let scale = 1.0 / b.max(1) as f64;
        gradient.par_iter_mut().for_each(|g| *g *= scale as f32);
        *self.gradient.lock().unwrap_or_else(PoisonError::into_inner) = gradient;
        Ok((CpuStorage::F32(vec![(losses.iter().sum::<f64>() * scale) as f32]), Shape::from(())))
    }

    fn bwd(&self, y: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let g = g.to_scalar::<f32>()?;
        let gradient: Vec<f32> =
            self.gradient.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|v| g * v).collect();
        Ok(Some(Tensor::from_vec(gradient, y.shape(), y.device())?))
    }
}

fn weights(tensor: &Tensor, name: &str) -> Result<Vec<f32>> {
    let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
    match values.iter().find(|v| !(0.0..=1.0).contains(*v)) {
        Some(bad) => Err(Error::Msg(format!("crf_loss: {name} must lie in 0..=1, found {bad}"))),
        None => Ok(values),
    }
}

/// Eq. 2 summed over the images and divided by their number; α is the caller's factor.
///
/// `probabilities` `[B, K, H, W]` f32, summing to 1 over K; `kernels` one an image. `roi` `[B, H, W]` f32 in 0..=1: pixels at 0 take no part
/// on either side. `gate` `[B, H, W]` f32 in 0..=1 weighs pixel i as the one that is compared, not as the one compared with: at 0 it still pulls on others.
///
/// Tensors on a CUDA device (feature `candle-cuda`) need kernels that live there, `Resident` or a view of one; nothing is then copied to
/// the host, and weights are not checked for their range.
///
/// # Errors
/// When shapes do not fit, a weight is out of range, or a tensor is not where the kernels are.
pub fn crf_loss(
    probabilities: &Tensor,
    kernels: &[Arc<dyn PairwiseKernel>],
    form: LossForm,
    roi: Option<&Tensor>,
    gate: Option<&Tensor>,
) -> Result<Tensor> {
    let (b, _, h, w) = probabilities.dims4()?;
    if kernels.len() != b {
        return Err(Error::Msg(format!(
            "crf_loss: expected one kernel an image ({b}), found {}",
            kernels.len()
        )));
    }
    if let Some(k) = kernels.iter().find(|k| k.pixels() != h * w) {
        return Err(Error::Msg(format!(
            "crf_loss: images have {} pixels, a kernel has {}",
            h * w,
            k.pixels()
        )));
    }
    for (name, weights) in [("roi", roi), ("gate", gate)] {
        if let Some(dims) = weights.map(Tensor::dims).filter(|dims| *dims != [b, h, w]) {
            return Err(Error::Msg(format!("crf_loss: {name} must be {:?}, found {dims:?}", [b, h, w])));
        }
    }
    #[cfg(feature = "candle-cuda")]
    if probabilities.device().is_cuda() {
        return crate::cuda::crf_loss(probabilities, kernels, form, roi, gate);
    }
    let roi = roi.map(|t| weights(t, "roi")).transpose()?;
    let gate = gate.map(|t| weights(t, "gate")).transpose()?;
    let y = probabilities.contiguous()?;
    if !matches!(&*y.storage_and_layout().0, Storage::Cpu(_)) {
        return Err(Error::Msg(format!(
            "crf_loss: expected a CPU tensor, found one on {:?}; build with `--features candle-cuda`",
            y.device()
        )));
    }
    y.apply_op1(CrfLoss { kernels: kernels.to_vec(), form, roi, gate, gradient: Mutex::new(Vec::new()) })
}
