//! Batch normalisation and ReLU as one operator.

use super::{dims, expect_shape, inner_dims, path, prepare, stored, tensor4, values, with_values};
use crate::init::lock;
use crate::kernels::norm::{self, Moments};
use crate::{CpuPath, Result};
use candle_core::{CpuStorage, CustomOp3, Device, Layout, Shape, Tensor};
use std::sync::{Arc, Mutex};

/// Mean and biased variance of each channel over images and pixels.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BatchMoments {
    /// Means.
    pub mean: Vec<f64>,
    /// Biased variances.
    pub variance: Vec<f64>,
}

/// Which statistics normalise.
#[derive(Debug, Clone, PartialEq)]
pub enum NormMode {
    /// Those of the batch itself; the gradient passes through them.
    Batch,
    /// Given constants, such as running statistics.
    Fixed(BatchMoments),
}

/// y = max(0, γ·(x − μ)/√(σ² + 1e-5) + β), per channel.
///
/// `x` is `[B, C, H, W]`; `gamma` and `beta` are `[C]`. Returns the result and the statistics that were used: for
/// [`NormMode::Batch`] those of the batch, from which the caller may keep running ones.
///
/// # Errors
/// Wrong shapes, element types or devices; `SCRIBSEG_CPU` not usable.
pub fn batch_norm_relu(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    mode: NormMode,
) -> Result<(Tensor, BatchMoments)> {
    batch_norm_relu_on(path()?, x, gamma, beta, mode)
}

pub(crate) fn batch_norm_relu_on(
    path: CpuPath,
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    mode: NormMode,
) -> Result<(Tensor, BatchMoments)> {
    let x = prepare(x, "batch norm input")?;
    let (gamma, beta) = (prepare(gamma, "batch norm scale")?, prepare(beta, "batch norm shift")?);
    let d = dims(&x, "batch norm input")?;
    expect_shape(&gamma, "batch norm scale", &[d.c])?;
    expect_shape(&beta, "batch norm shift", &[d.c])?;
    let fixed = match mode {
        NormMode::Batch => None,
        NormMode::Fixed(given) => {
            for part in [&given.mean, &given.variance] {
                if part.len() != d.c {
                    return Err(crate::Error::Shape {
                        what: "batch norm statistics",
                        expected: format!("[{}]", d.c),
                        found: vec![part.len()],
                    });
                }
            }
            let pairs = given.mean.into_iter().zip(given.variance);
            Some(pairs.map(|(mean, variance)| Moments { mean, variance }).collect::<Vec<_>>())
        }
    };
    let used = Arc::new(Mutex::new(Vec::new()));
    let op = BatchNormRelu { path, batch: fixed.is_none(), fixed, used: Arc::clone(&used) };
    let y = x.apply_op3(&gamma, &beta, op)?;
    let used = lock(&used);
    let moments = BatchMoments {
        mean: used.iter().map(|m| m.mean).collect(),
        variance: used.iter().map(|m| m.variance).collect(),
    };
    Ok((y, moments))
}

struct BatchNormRelu {
    path: CpuPath,
    batch: bool,
    fixed: Option<Vec<Moments>>,
    /// Filled by the forward pass, read by the backward pass.
    used: Arc<Mutex<Vec<Moments>>>,
}

impl CustomOp3 for BatchNormRelu {
    fn name(&self) -> &'static str {
        "batch-norm-relu"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        gamma: &CpuStorage,
        gamma_layout: &Layout,
        beta: &CpuStorage,
        beta_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let d = inner_dims(x_layout)?;
        let x = values(x, x_layout)?;
        let moments = self.fixed.clone().unwrap_or_else(|| norm::moments(self.path, x, d));
        let mut out = vec![0f32; d.len()];
        let (gamma, beta) = (values(gamma, gamma_layout)?, values(beta, beta_layout)?);
        norm::forward(self.path, x, d, &moments, gamma, beta, &mut out);
        *lock(&self.used) = moments;
        stored(out, d)
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let d = inner_dims(x.layout())?;
        let moments = lock(&self.used).clone();
        let mut dx = with_values(g, |g| Ok(g.to_vec()))?;
        let (d_gamma, d_beta) = with_values(x, |x| {
            with_values(gamma, |gamma| {
                with_values(beta, |beta| {
                    Ok(norm::backward(self.path, x, d, &moments, gamma, beta, self.batch, &mut dx))
                })
            })
        })?;
        let vector = |values| Tensor::from_vec(values, d.c, &Device::Cpu);
        Ok((Some(tensor4(dx, d)?), Some(vector(d_gamma)?), Some(vector(d_beta)?)))
    }
}
