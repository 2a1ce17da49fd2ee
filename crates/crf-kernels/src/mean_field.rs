//! Mean-field inference in a fully connected CRF with Potts labels (Krähenbühl and Koltun 2011).
//!
//! Q_i(k) ∝ exp(−U_i(k) + Σ_m w_m Σ_j W⁽ᵐ⁾_ij Q_j(k)), a few times over. With [`Normalisation::Symmetric`] W is
//! D^(−½) W D^(−½), D the kernel's mass, so that weights mean the same whatever the bandwidths and the size of the image.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::kernel::PairwiseKernel;

/// What becomes of a kernel's mass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Normalisation {
    /// W as it is.
    None,
    /// D^(−½) W D^(−½).
    #[default]
    Symmetric,
}

/// One pairwise term.
#[derive(Clone)]
pub struct Term {
    /// W.
    pub kernel: Arc<dyn PairwiseKernel>,
    /// w: how strongly pixels that are alike pull each other.
    pub weight: f32,
    /// What becomes of its mass.
    pub normalisation: Normalisation,
}

/// Smooths class probabilities: `probabilities` is planar `[class][pixel]`, sums to 1 over classes, and so does the result.
///
/// Unary terms are −log of the probabilities, held to at least 1e-6. As in the reference implementation a pixel also
/// pulls on itself (W_ii is not taken out).
///
/// # Errors
/// [`Error::Length`] when the terms' images differ in size or the probabilities are not whole planes of it,
/// [`Error::Bandwidth`] for a weight that is not finite, [`Error::NotFinite`] for a probability that is not, or an energy that a huge
/// weight drives out of range.
pub fn mean_field(probabilities: &[f32], terms: &[Term], iterations: usize) -> Result<Vec<f32>> {
    let Some(first) = terms.first() else { return Ok(probabilities.to_vec()) };
    let n = first.kernel.pixels();
    for term in terms {
        if term.kernel.pixels() != n {
            return Err(Error::Length { what: "pixels of a term", expected: n, found: term.kernel.pixels() });
        }
        if !term.weight.is_finite() {
            return Err(Error::Bandwidth { name: "weight", found: term.weight });
        }
    }
    if n == 0 || !probabilities.len().is_multiple_of(n) {
        let expected = probabilities.len().next_multiple_of(n.max(1));
        return Err(Error::Length { what: "class probabilities", expected, found: probabilities.len() });
    }
    if let Some(i) = probabilities.iter().position(|p| !p.is_finite()) {
        return Err(Error::NotFinite { pixel: i % n, feature: i / n, found: probabilities[i] });
    }
    let classes = probabilities.len() / n;
    let unary: Vec<f32> = probabilities.iter().map(|p| p.max(1e-6).ln()).collect();
    let scales: Vec<Option<Vec<f32>>> = terms
        .iter()
        .map(|term| match term.normalisation {
            Normalisation::None => None,
            Normalisation::Symmetric => {
                Some(term.kernel.mass().iter().map(|m| 1.0 / m.max(f32::MIN_POSITIVE).sqrt()).collect())
            }
        })
        .collect();
    let mut q = probabilities.to_vec();
    let (mut scaled, mut filtered) = (vec![0.0; q.len()], vec![0.0; q.len()]);
    for _ in 0..iterations {
        let mut energy = unary.clone();
        for (term, scale) in terms.iter().zip(&scales) {
            let factor = |p: usize| scale.as_ref().map_or(1.0, |s| s[p]);
            for (i, (to, &from)) in scaled.iter_mut().zip(&q).enumerate() {
                *to = factor(i % n) * from;
            }
            term.kernel.filter(classes, &scaled, &mut filtered)?;
            for (i, (energy, &pull)) in energy.iter_mut().zip(&filtered).enumerate() {
                *energy += term.weight * factor(i % n) * pull;
            }
        }
        if let Some(i) = energy.iter().position(|e| !e.is_finite()) {
            return Err(Error::NotFinite { pixel: i % n, feature: i / n, found: energy[i] });
        }
        for p in 0..n {
            let largest = (0..classes).map(|k| energy[k * n + p]).fold(f32::NEG_INFINITY, f32::max);
            let mut total = 0.0;
            for k in 0..classes {
                let e = (energy[k * n + p] - largest).exp();
                q[k * n + p] = e;
                total += e;
            }
            for k in 0..classes {
                q[k * n + p] /= total;
            }
        }
    }
    Ok(q)
}
