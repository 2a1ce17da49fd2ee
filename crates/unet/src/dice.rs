//! The soft Dice loss: overlap of probabilities with masks, for networks trained on full reference masks.
//!
//! L = 1/(K−1) Σ_k (1 − 2 Σ_i p_ik g_ik / (Σ_i p_ik + Σ_i g_ik)) over the classes k ≥ 1 that the batch's labels hold
//! (Milletari et al., V-Net, 2016; over the whole batch as in nnU-Net, Isensee et al., 2021). Cross-entropy weighs
//! pixels, so that a class of few pixels is learnt last; this weighs classes.

use crate::kernels::Dims;
use crate::loss::{UNKNOWN, labels};
use crate::ops::{dims, prepare_on_any, values, with_values};
use crate::{Error, Result};
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Shape, Tensor};
use rayon::prelude::*;

/// Soft Dice loss of probabilities against a mask, in 0..=1.
///
/// `probabilities` is `f32` `[B, K, H, W]` with K ≥ 2, as [`softmax`](crate::softmax) gives it; `mask` is `u8`
/// `[B, H, W]` with classes 0..K, or 255 ([`UNKNOWN`]) where nothing is known. Class 0, the background, has no term of
/// its own. A class without a pixel in the batch, and a pixel without a label, contribute exactly 0 to the loss and to
/// the gradient. The result is a scalar `f32` tensor; sums are kept in `f64`.
///
/// # Errors
/// Wrong shapes, element types or devices; a single class; a label that is neither a class nor 255 (on a CUDA device the loss is
/// not a number instead).
pub fn soft_dice(probabilities: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let probabilities = prepare_on_any(probabilities, "soft Dice probabilities")?;
    let d = dims(&probabilities, "soft Dice probabilities")?;
    if d.c < 2 {
        return Err(Error::Value { what: "classes of soft Dice", value: 1.0, expected: "at least 2" });
    }
    #[cfg(feature = "cuda")]
    if probabilities.device().is_cuda() {
        return crate::cuda::ops::soft_dice(&probabilities, mask);
    }
    let mask = labels(mask, "mask", d)?;
    Ok(probabilities.apply_op1(SoftDice { mask })?)
}

struct SoftDice {
    mask: Vec<u8>,
}

/// Over the labelled pixels of a batch: Σ p g and Σ p + Σ g of one class.
#[derive(Clone, Copy, Default)]
struct Overlap {
    shared: f64,
    total: f64,
    pixels: usize,
}

impl SoftDice {
    /// One for each class from 1; images in parallel, their sums in order.
    fn overlaps(&self, p: &[f32], d: Dims) -> Vec<Overlap> {
        let plane = d.h * d.w;
        let per_image: Vec<Vec<Overlap>> = (p.par_chunks(d.c * plane).zip(self.mask.par_chunks(plane)))
            .map(|(p, mask)| {
                (1..d.c)
                    .map(|k| {
                        let mut sums = Overlap::default();
                        for (&p, &label) in p[k * plane..(k + 1) * plane].iter().zip(mask) {
                            if label == UNKNOWN {
                                continue;
                            }
                            let inside = usize::from(label) == k;
                            sums.total += f64::from(p) + f64::from(u8::from(inside));
                            if inside {
                                sums.shared += f64::from(p);
                                sums.pixels += 1;
                            }
                        }
                        sums
                    })
                    .collect()
            })
            .collect();
        let mut sums = vec![Overlap::default(); d.c - 1];
        for image in per_image {
            for (sum, part) in sums.iter_mut().zip(image) {
                sum.shared += part.shared;
                sum.total += part.total;
                sum.pixels += part.pixels;
            }
        }
        sums
    }
}

fn shape_of(shape: &Shape) -> candle_core::Result<Dims> {
    let (n, c, h, w) = shape.dims4()?;
    Ok(Dims { n, c, h, w })
}

impl CustomOp1 for SoftDice {
    fn name(&self) -> &'static str {
        "soft-dice"
    }

    fn cpu_fwd(&self, p: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let d = shape_of(layout.shape())?;
        let present = self.overlaps(values(p, layout)?, d).into_iter().filter(|o| o.pixels > 0);
        let loss: f64 = present.map(|o| 1.0 - 2.0 * o.shared / o.total).sum();
        Ok((CpuStorage::F32(vec![(loss / (d.c - 1) as f64) as f32]), Shape::from(())))
    }

    fn bwd(&self, p: &Tensor, _: &Tensor, g: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let d = shape_of(p.shape())?;
        let plane = d.h * d.w;
        let outer = f64::from(g.to_scalar::<f32>()?) / (d.c - 1) as f64;
        let mut dp = vec![0f32; d.len()];
        with_values(p, |p| {
            // ∂L/∂p_ik is −2 (g_ik T_k − S_k) / T_k² with S = Σ p g, T = Σ p + Σ g: one value inside, one outside.
            let slopes: Vec<Option<[f32; 2]>> = (self.overlaps(p, d).into_iter())
                .map(|o| {
                    let slope = |inside: f64| {
                        (-2.0 * outer * (inside * o.total - o.shared) / (o.total * o.total)) as f32
                    };
                    (o.pixels > 0).then(|| [slope(0.0), slope(1.0)])
                })
                .collect();
            let images = dp.par_chunks_mut(d.c * plane).zip(self.mask.par_chunks(plane));
            images.for_each(|(dp, mask)| {
                for (k, slope) in (1..d.c).zip(&slopes) {
                    let Some([outside, inside]) = *slope else { continue };
                    for (dp, &label) in dp[k * plane..(k + 1) * plane].iter_mut().zip(mask) {
                        *dp = match label {
                            UNKNOWN => 0.0,
                            label if usize::from(label) == k => inside,
                            _ => outside,
                        };
                    }
                }
            });
            Ok(())
        })?;
        Ok(Some(Tensor::from_vec(dp, p.shape(), &Device::Cpu)?))
    }
}
