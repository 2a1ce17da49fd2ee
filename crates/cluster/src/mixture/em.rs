//! A normal mixture of the structures, fitted to one scan from where the prior says they are: maximum a posteriori by EM.
//!
//! With x the features of voxel i, u its place and a structure k out of those that are present, the mixture maximises
//!
//! ```text
//! s·Σ_i log Σ_k π_k(u_i)·N(x_i; μ_k, S_k) + Σ_k log N(μ_k; m_k, B_k) − ν/2·Σ_k (log det S_k + tr W_k·S_k⁻¹) + s·α·n·Σ_k log softmax_k(ω)
//! π_k(u) = softmax_k(T·u + ω)
//! ```
//!
//! m, B (`scatter`), W (`within`) and T (`places`) are the prior's. Neighbouring voxels tell much the same: s makes them count as so many
//! independent ones a millilitre, whatever the voxel's size. Means and covariances have closed M-steps, one after the other (ECM); the
//! offsets ω take a step of generalised iterative scaling. None of the three can lower the objective.

use rayon::prelude::*;

use super::gaussian::{D, Gaussian, Matrix, Vector, inverse, plus, times};
use super::prior::{CLASSES, PLACES, Prior};

/// ν: how many independent voxels the prior's covariance is worth.
const STRENGTH: f64 = 200.0;
/// At the start a structure is as wide as within a scan and this share of how it scatters between scans.
const WIDENED: f64 = 0.5;
/// Rounds of EM.
const ROUNDS: usize = 12;
/// α: pseudo-voxels of each structure, as a share of all.
const PSEUDO: f64 = 0.02;
/// Most voxels that the mixture is fitted on, evenly spread over the scan order.
const MOST: usize = 12_000;
/// Depth in mm beyond which deeper is no deeper.
const DEEP: f64 = 15.0;

/// Where a voxel is: 1, its depth as a share of 15 mm, and as a share of the tumour's greatest.
pub(crate) type Place = [f64; PLACES];

/// The places of voxels at these depths in mm.
pub(crate) fn places(depths: &[f64]) -> Vec<Place> {
    let deepest = depths.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    depths.iter().map(|&d| [1.0, d.min(DEEP) / DEEP, d / deepest]).collect()
}

/// `log Σ exp`, which −∞ does not disturb.
pub(crate) fn log_sum(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        return most;
    }
    most + values.iter().map(|v| (v - most).exp()).sum::<f64>().ln()
}

fn softmax(logits: &[f64; CLASSES]) -> [f64; CLASSES] {
    let total = log_sum(logits);
    logits.map(|l| (l - total).exp())
}

/// A mixture; a structure that is absent has no density.
pub(crate) struct Mixture<'a> {
    prior: &'a Prior,
    present: [bool; CLASSES],
    means: [Vector; CLASSES],
    covariances: [Matrix; CLASSES],
    /// ω; −∞ for what is absent.
    offsets: [f64; CLASSES],
}

impl<'a> Mixture<'a> {
    /// The prior's own.
    pub(crate) fn start(prior: &'a Prior, present: [bool; CLASSES]) -> Self {
        let covariances = std::array::from_fn(|k| plus(&prior.within[k], WIDENED, &prior.scatter[k]));
        let offsets = present.map(|there| if there { 0.0 } else { f64::NEG_INFINITY });
        Self { prior, present, means: prior.means, covariances, offsets }
    }

    /// Fitted to a scan's voxels, of `ml` millilitres each, that count as `per_ml` independent ones a millilitre.
    pub(crate) fn fit(mut self, points: &[Vector], places: &[Place], ml: f64, per_ml: f64) -> Self {
        let n = points.len().min(MOST);
        // They stand for the whole tumour.
        let weight = per_ml * ml * points.len() as f64 / n.max(1) as f64;
        let chosen = (0..n).map(|i| if n > 1 { i * (points.len() - 1) / (n - 1) } else { 0 });
        let (points, places): (Vec<Vector>, Vec<Place>) = chosen.map(|i| (points[i], places[i])).unzip();
        for _ in 0..ROUNDS {
            self.round(&points, &places, weight);
        }
        self
    }

    fn densities(&self) -> [Gaussian; CLASSES] {
        std::array::from_fn(|k| Gaussian::new(self.means[k], &self.covariances[k]))
    }

    /// `T·u + ω`.
    fn logits(&self, place: &Place) -> [f64; CLASSES] {
        let at = |k: usize| self.prior.places[k].iter().zip(place).map(|(t, u)| t * u).sum::<f64>();
        std::array::from_fn(|k| if self.present[k] { at(k) + self.offsets[k] } else { f64::NEG_INFINITY })
    }

    /// `log π_k(u)·N(x; μ_k, S_k)` of every voxel, up to a term that all structures share.
    pub(crate) fn log_joint(&self, points: &[Vector], places: &[Place]) -> Vec<[f64; CLASSES]> {
        let densities = self.densities();
        let joint = |(x, u): (&Vector, &Place)| {
            let logits = self.logits(u);
            std::array::from_fn(|k| {
                if self.present[k] { logits[k] + densities[k].log_density(x) } else { logits[k] }
            })
        };
        points.par_iter().zip(places).map(joint).collect()
    }

    /// One round of EM over voxels that count `weight` each.
    fn round(&mut self, points: &[Vector], places: &[Place], weight: f64) {
        let responsibilities: Vec<[f64; CLASSES]> =
            self.log_joint(points, places).iter().map(softmax).collect();
        let n = points.len().max(1) as f64;
        let mut shares = [0.0; CLASSES];
        for r in &responsibilities {
            (0..CLASSES).for_each(|k| shares[k] += r[k] / n);
        }
        for k in (0..CLASSES).filter(|&k| self.present[k]) {
            let of = || points.iter().zip(&responsibilities).map(move |(x, r)| (x, r[k]));
            let count: f64 = of().map(|(_, r)| r).sum();
            let mut sum = [0.0; D];
            for (x, r) in of() {
                (0..D).for_each(|i| sum[i] += r * x[i]);
            }
            // (B⁻¹ + s·N·S⁻¹)·μ = B⁻¹·m + s·S⁻¹·Σ r·x
            let (between, within) = (inverse(&self.prior.scatter[k]), inverse(&self.covariances[k]));
            let (known, seen) = (times(&between, &self.prior.means[k]), times(&within, &sum));
            let right: Vector = std::array::from_fn(|i| known[i] + weight * seen[i]);
            self.means[k] = times(&inverse(&plus(&between, weight * count, &within)), &right);
            // S = (ν·W + s·Σ r·(x − μ)(x − μ)ᵀ) / (ν + s·N)
            let mut scatter = [[0.0; D]; D];
            for (x, r) in of() {
                let away: Vector = std::array::from_fn(|i| x[i] - self.means[k][i]);
                for i in 0..D {
                    let scaled = r * away[i];
                    (0..D).for_each(|j| scatter[i][j] += scaled * away[j]);
                }
            }
            let all = STRENGTH + weight * count;
            self.covariances[k] = std::array::from_fn(|i| {
                std::array::from_fn(|j| {
                    (STRENGTH * self.prior.within[k][i][j] + weight * scatter[i][j]) / all
                })
            });
        }
        let mut expected = [0.0; CLASSES];
        for place in places {
            let prior = softmax(&self.logits(place));
            (0..CLASSES).for_each(|k| expected[k] += prior[k] / n);
        }
        let (bare, present) = (softmax(&self.offsets), self.present.iter().filter(|there| **there).count());
        for k in (0..CLASSES).filter(|&k| self.present[k]) {
            let pseudo = PSEUDO * present as f64 * bare[k];
            self.offsets[k] += ((shares[k] + PSEUDO) / (expected[k] + pseudo)).ln();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixture::gaussian::log_determinant;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// The objective of this module's equation.
    fn objective(mixture: &Mixture<'_>, points: &[Vector], places: &[Place], weight: f64) -> f64 {
        let prior = mixture.prior;
        let joint = mixture.log_joint(points, places);
        let seen: f64 = joint.iter().zip(places).map(|(j, u)| log_sum(j) - log_sum(&mixture.logits(u))).sum();
        let total = log_sum(&mixture.offsets);
        let mut value = weight * seen;
        for k in (0..CLASSES).filter(|&k| mixture.present[k]) {
            value += Gaussian::new(prior.means[k], &prior.scatter[k]).log_density(&mixture.means[k]);
            let precision = inverse(&mixture.covariances[k]);
            let trace: f64 = (0..D)
                .flat_map(|i| (0..D).map(move |j| (i, j)))
                .map(|(i, j)| prior.within[k][i][j] * precision[j][i])
                .sum();
            value -= 0.5 * STRENGTH * (log_determinant(&mixture.covariances[k]) + trace);
            value += weight * PSEUDO * points.len() as f64 * (mixture.offsets[k] - total);
        }
        value
    }

    /// Voxels of three structures where the prior has them, that look otherwise than there.
    fn tumour(seed: u64, n: usize, away: f64) -> (Vec<Vector>, Vec<Place>, Vec<usize>) {
        let prior = Prior::phantoms().unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let shift: [Vector; CLASSES] =
            std::array::from_fn(|_| std::array::from_fn(|_| away * (rng.random::<f64>() - 0.5)));
        let depths: Vec<f64> = (0..n).map(|_| 20.0 * rng.random::<f64>()).collect();
        let places = places(&depths);
        let truth: Vec<usize> = places
            .iter()
            .map(|u| {
                let shares = softmax(&Mixture::start(prior, [true; CLASSES]).logits(u));
                let drawn = rng.random::<f64>();
                usize::from(drawn > shares[0]) + usize::from(drawn > shares[0] + shares[1])
            })
            .collect();
        let point = |&k: &usize| {
            std::array::from_fn(|i| {
                let noise: f64 = (0..4).map(|_| rng.random::<f64>() - 0.5).sum();
                prior.means[k][i] + shift[k][i] + 0.8 * noise
            })
        };
        (truth.iter().map(point).collect(), places, truth)
    }

    proptest! {
        #[test]
        fn no_round_lowers_the_objective(seed in 0u64..1000, away in 0.0f64..4.0, weight in 0.001f64..1.0, absent in 0usize..4) {
            let (points, places, _) = tumour(seed, 400, away);
            let present = std::array::from_fn(|k| k != absent);
            let mut mixture = Mixture::start(Prior::phantoms().unwrap(), present);
            let mut before = objective(&mixture, &points, &places, weight);
            for round in 0..ROUNDS {
                mixture.round(&points, &places, weight);
                let after = objective(&mixture, &points, &places, weight);
                prop_assert!(after >= before - 1e-7 * before.abs(), "round {round}: {before} to {after}");
                before = after;
            }
        }

        #[test]
        fn what_is_absent_has_no_voxel(seed in 0u64..1000, absent in 0usize..3) {
            let (points, places, _) = tumour(seed, 300, 1.0);
            let present = std::array::from_fn(|k| k != absent);
            let mixture = Mixture::start(Prior::phantoms().unwrap(), present).fit(&points, &places, 0.008, 10.0);
            let joint = mixture.log_joint(&points, &places);
            prop_assert!(joint.iter().all(|j| j[absent] == f64::NEG_INFINITY));
            prop_assert!(joint.iter().all(|j| j.iter().enumerate().all(|(k, v)| k == absent || v.is_finite())));
        }
    }

    #[test]
    fn the_means_of_a_scan_are_found_where_it_has_many_voxels() {
        let (points, places, truth) = tumour(5, 6000, 1.0);
        let mut mixture = Mixture::start(Prior::phantoms().unwrap(), [true; CLASSES]);
        for _ in 0..100 {
            mixture.round(&points, &places, 1000.0);
        }
        for k in 0..CLASSES {
            let of: Vec<&Vector> =
                points.iter().zip(&truth).filter(|(_, t)| **t == k).map(|(x, _)| x).collect();
            for i in 0..D {
                let mean = of.iter().map(|x| x[i]).sum::<f64>() / of.len() as f64;
                assert!(
                    (mixture.means[k][i] - mean).abs() < 0.1,
                    "{k} {i}: {} beside {mean}",
                    mixture.means[k][i]
                );
            }
        }
    }

    #[test]
    fn how_finely_a_tumour_is_sampled_does_not_matter() {
        let (points, places, _) = tumour(6, 800, 1.0);
        let fit = |points: &[Vector], places: &[Place], ml: f64| {
            Mixture::start(Prior::phantoms().unwrap(), [true; CLASSES]).fit(points, places, ml, 10.0).means
        };
        let twice = |n: usize| (0..2 * n).map(|i| i / 2).collect::<Vec<_>>();
        let (finer, finer_places): (Vec<Vector>, Vec<Place>) =
            twice(points.len()).into_iter().map(|i| (points[i], places[i])).unzip();
        let (a, b) = (fit(&points, &places, 0.008), fit(&finer, &finer_places, 0.004));
        for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
            assert!((a - b).abs() < 1e-9, "{a} beside {b}");
        }
    }

    #[test]
    fn of_more_voxels_than_are_used_each_stands_for_several() {
        // Every voxel twice, half as large: half of them are left out, and what is found stays.
        let (points, places, _) = tumour(9, MOST, 1.5);
        let twice = |n: usize| (0..2 * n).map(|i| i / 2);
        let more: (Vec<Vector>, Vec<Place>) = twice(MOST).map(|i| (points[i], places[i])).unzip();
        let start = || Mixture::start(Prior::phantoms().unwrap(), [true; CLASSES]);
        let all = start().fit(&points, &places, 0.008, 10.0);
        let sampled = start().fit(&more.0, &more.1, 0.004, 10.0);
        assert_eq!(
            (all.means, all.covariances, all.offsets),
            (sampled.means, sampled.covariances, sampled.offsets)
        );
        assert_ne!(all.means, Prior::phantoms().unwrap().means);
    }
}
