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

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, Device, Error, Layout, Result, Shape, Storage, Tensor};
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
    gradient: Mutex<Option<Tensor>>,
}

/// What goes into a filter and what comes out, kept for the next image.
#[derive(Default)]
struct Workspace {
    values: Vec<f32>,
    filtered: Vec<f32>,
}

thread_local! {
    static WORKSPACE: Cell<Workspace> = Cell::default();
}

/// Sums taken side by side, so that a loop need not wait for its last addition.
const LANES: usize = 8;

impl CrfLoss {
    /// Loss of one image; its gradient times `share`.
    fn image(
        &self,
        index: usize,
        y: &[f32],
        share: f32,
        gradient: &mut [f32],
    ) -> std::result::Result<f64, crate::Error> {
        // Taken out rather than borrowed: a kernel that waits for other threads may run the next image meanwhile.
        let mut workspace = WORKSPACE.take();
        let loss = self.image_with(index, y, share, gradient, &mut workspace);
        WORKSPACE.set(workspace);
        loss
    }

    fn image_with(
        &self,
        index: usize,
        y: &[f32],
        share: f32,
        gradient: &mut [f32],
        workspace: &mut Workspace,
    ) -> std::result::Result<f64, crate::Error> {
        let kernel = &self.kernels[index];
        let n = kernel.pixels();
        if n == 0 {
            return Ok(0.0);
        }
        let k = y.len() / n;
        let [roi, gate] = [&self.roi, &self.gate].map(|of| of.as_ref().map(|v| &v[index * n..][..n]));
        let wants_mass = self.form == LossForm::NonNegative;
        let Workspace { values, filtered } = workspace;
        // Channels: r ⊙ y_k, then with a gate g ⊙ r ⊙ y_k.
        let channels = k * (1 + usize::from(gate.is_some()));
        filtered.resize(channels * n, 0.0);
        let inputs: &[f32] = if roi.is_none() && gate.is_none() {
            y
        } else {
            values.clear();
            match roi {
                None => values.extend_from_slice(y),
                Some(roi) => {
                    y.chunks_exact(n).for_each(|y| values.extend(y.iter().zip(roi).map(|(y, r)| y * r)))
                }
            }
            if let Some(gate) = gate {
                for class in 0..k {
                    values.extend_from_within(class * n..(class + 1) * n);
                    let gated = &mut values[(k + class) * n..];
                    gated.iter_mut().zip(gate).for_each(|(v, g)| *v *= g);
                }
            }
            values
        };
        kernel.filter(channels, inputs, filtered)?;
        let within = roi.filter(|_| wants_mass).map(|roi| kernel.mass_within(roi)).transpose()?;
        let mass = match (wants_mass, &within) {
            (false, _) => None,
            (true, None) => Some(kernel.mass()),
            (true, Some(within)) => Some(&within[..]),
        };
        let mut sums = [0.0f64; LANES];
        for class in 0..k {
            let input = &inputs[class * n..][..n];
            let own = &filtered[class * n..][..n];
            let other = if gate.is_some() { &filtered[(k + class) * n..][..n] } else { own };
            let gradient = &mut gradient[class * n..][..n];
            let at = |of: Option<&[f32]>, p: usize, without: f32| of.map_or(without, |v| v[p]);
            let mut pixel = |p: usize, sum: &mut f64| {
                let (r, g) = (at(roi, p, 1.0), at(gate, p, 1.0));
                let rest = at(mass, p, 0.0) - own[p];
                *sum += f64::from(g * input[p]) * f64::from(rest);
                gradient[p] = share * (r * (g * rest - other[p]));
            };
            let whole = n - n % LANES;
            for p in (0..whole).step_by(LANES) {
                for (lane, sum) in sums.iter_mut().enumerate() {
                    pixel(p + lane, sum);
                }
            }
            for p in whole..n {
                pixel(p, &mut sums[p - whole]);
            }
        }
        Ok(sums.iter().sum())
    }
}

impl CustomOp1 for CrfLoss {
    fn name(&self) -> &'static str {
        "crf_loss"
    }

    fn cpu_fwd(&self, y: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (start, end) = layout
            .contiguous_offsets()
            .ok_or_else(|| Error::Msg("crf_loss: expected a contiguous tensor".into()))?;
        let y = &y.as_slice::<f32>()?[start..end];
        let mut gradient = vec![0.0; y.len()];
        let images = self.kernels.len().max(1);
        let (size, scale) = ((y.len() / images).max(1), 1.0 / images as f64);
        let losses = gradient
            .par_chunks_mut(size)
            .zip(y.par_chunks(size))
            .enumerate()
            .map(|(i, (gradient, y))| self.image(i, y, scale as f32, gradient))
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(Error::wrap)?;
        let gradient = Tensor::from_vec(gradient, layout.shape(), &Device::Cpu)?;
        *self.gradient.lock().unwrap_or_else(PoisonError::into_inner) = Some(gradient);
        Ok((CpuStorage::F32(vec![(losses.iter().sum::<f64>() * scale) as f32]), Shape::from(())))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let gradient = self.gradient.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (gradient, g.to_scalar::<f32>()?) {
            (Some(gradient), 1.0) => Ok(Some(gradient)),
            (gradient, g) => gradient.map(|gradient| gradient.affine(f64::from(g), 0.0)).transpose(),
        }
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
/// `probabilities` `[B, K, H, W]` or, of volumes, `[B, K, D, H, W]`, f32, summing to 1 over K; `kernels` one an image. `roi` `[B, H, W]` or
/// `[B, D, H, W]`, f32 in 0..=1: pixels at 0 take no part on either side. `gate`, of the same shape and range, weighs pixel i as the one that is
/// compared, not as the one compared with: at 0 it still pulls on others.
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
    let dims = probabilities.dims();
    if !(4..=5).contains(&dims.len()) {
        return Err(Error::Msg(format!(
            "crf_loss: expected [B, K, H, W] or [B, K, D, H, W], found {dims:?}"
        )));
    }
    // Of a weight for each pixel.
    let shape = [&dims[..1], &dims[2..]].concat();
    let (b, pixels) = (dims[0], dims[2..].iter().product::<usize>());
    if kernels.len() != b {
        return Err(Error::Msg(format!(
            "crf_loss: expected one kernel an image ({b}), found {}",
            kernels.len()
        )));
    }
    if let Some(k) = kernels.iter().find(|k| k.pixels() != pixels) {
        return Err(Error::Msg(format!(
            "crf_loss: images have {pixels} pixels, a kernel has {}",
            k.pixels()
        )));
    }
    for (name, weights) in [("roi", roi), ("gate", gate)] {
        if let Some(dims) = weights.map(Tensor::dims).filter(|dims| *dims != shape) {
            return Err(Error::Msg(format!("crf_loss: {name} must be {shape:?}, found {dims:?}")));
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
    y.apply_op1(CrfLoss { kernels: kernels.to_vec(), form, roi, gate, gradient: Mutex::new(None) })
}
