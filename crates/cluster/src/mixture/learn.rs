//! How a [`Prior`] is learned from tumours whose structures are known: phantoms.

use ndarray::{ArrayView3, ArrayView4};
use rand_linfa::Xoshiro256Plus;
use rand_linfa::rand_core::{RngCore, SeedableRng};
use rayon::prelude::*;

use super::em::{Place, log_sum};
use super::evidence::{LENGTH, Piece, evidence};
use super::gaussian::{D, Matrix, Vector};
use super::prior::{CLASSES, PLACES, Prior};
use super::reader::{HIDDEN, Reader};
use super::{Tumour, label};
use crate::Error;
use crate::features;

/// Fewest voxels of a structure in a scan that its mean and covariance are taken from.
const FEWEST: usize = 30;
/// Share of the scatter's covariances that is not believed: so many scans do not tell all of them.
const SHRUNK: f64 = 0.1;
/// Variance added within a scan.
const RIDGE: f64 = 1e-2;
/// Voxels of a scan that places and reader are learned from.
const VOXELS: usize = 1500;
/// Steps of the prior over places, and their length.
const STEPS: (usize, f64) = (400, 2.0);
/// Epochs of the reader, voxels a step, the first step's length (it falls to nothing), weight decay.
const EPOCHS: usize = 30;
const BATCH: usize = 200;
const RATE: f64 = 1e-3;
const DECAY: f64 = 5e-3;

struct Example {
    tumour: Tumour,
    /// Index of each voxel's structure.
    truth: Vec<usize>,
}

/// Tumours whose structures are known, from which a [`Prior`] is learned.
#[derive(Default)]
pub struct Learner {
    examples: Vec<Example>,
}

impl Learner {
    /// Adds a tumour: modalities as for [`mixture`](super::mixture), labels 1 NCR/NET, 2 ED, 3 ET, 0 outside.
    ///
    /// # Errors
    /// As [`mixture`](super::mixture); labels above 3 are taken to be outside.
    pub fn add(
        &mut self,
        modalities: ArrayView4<'_, f32>,
        labels: ArrayView3<'_, u8>,
        spacing: [f64; 3],
    ) -> Result<(), Error> {
        let index = |found: u8| (0..CLASSES).find(|&k| label(k) == found);
        let (voxels, _) = features::voxels(modalities, labels.mapv(|l| index(l).is_some()).view())?;
        let truth = voxels.iter().filter_map(|&v| index(labels[v])).collect();
        if !voxels.is_empty() {
            self.examples.push(Example { tumour: Tumour::new(modalities, &voxels, spacing)?, truth });
        }
        Ok(())
    }

    /// Learns. The same examples and seed give the same prior, at any number of threads.
    ///
    /// # Errors
    /// When a structure is in fewer than two scans.
    pub fn learn(&self, seed: u64) -> Result<Prior, Error> {
        self.learn_without(seed, &[])
    }

    /// Learns a prior whose reader does without pieces of the evidence, to see what they are worth.
    ///
    /// # Errors
    /// As [`learn`](Self::learn).
    pub fn learn_without(&self, seed: u64, without: &[Piece]) -> Result<Prior, Error> {
        let mut rng = Xoshiro256Plus::seed_from_u64(seed);
        let mut prior = self.moments()?;
        prior.places = self.places(&mut rng);
        let read = |example: &Example| {
            let present = std::array::from_fn(|k| example.truth.contains(&k));
            let Tumour { region, points, places } = &example.tumour;
            evidence(region, points, places, present, &prior)
        };
        let evidence: Vec<Vec<[f64; LENGTH]>> =
            self.examples.par_iter().map(read).collect::<Result<_, _>>()?;
        let mut chosen = Vec::new();
        for (example, evidence) in self.examples.iter().zip(&evidence) {
            let picks = pick(example.truth.len(), &mut rng);
            chosen.extend(picks.into_iter().map(|i| (evidence[i], example.truth[i])));
        }
        prior.reader = reader(&chosen, without, &mut rng);
        Ok(prior)
    }

    /// Means, scatter and covariances.
    fn moments(&self) -> Result<Prior, Error> {
        let mut prior = Prior {
            means: [[0.0; D]; CLASSES],
            scatter: [[[0.0; D]; D]; CLASSES],
            within: [[[0.0; D]; D]; CLASSES],
            places: [[0.0; PLACES]; CLASSES],
            reader: Reader::blank(),
        };
        for k in 0..CLASSES {
            let of = |example: &Example| -> Option<(Vector, Matrix)> {
                let all = example.tumour.points.iter().zip(&example.truth);
                let rows: Vec<&Vector> = all.filter(|(_, t)| **t == k).map(|(x, _)| x).collect();
                (rows.len() >= FEWEST).then(|| moments(&rows))
            };
            let scans: Vec<(Vector, Matrix)> = self.examples.iter().filter_map(of).collect();
            if scans.len() < 2 {
                let scans = scans.len();
                return Err(Error::Prior(format!(
                    "expected label {} in at least two tumours, found it in {scans}",
                    label(k)
                )));
            }
            let (mean, scatter) = moments(&scans.iter().map(|(mean, _)| mean).collect::<Vec<_>>());
            prior.means[k] = mean;
            for i in 0..D {
                for j in 0..D {
                    let kept = if i == j { 1.0 } else { 1.0 - SHRUNK };
                    prior.scatter[k][i][j] = kept * scatter[i][j];
                    let within = scans.iter().map(|(_, s)| s[i][j]).sum::<f64>() / scans.len() as f64;
                    prior.within[k][i][j] = within + if i == j { RIDGE } else { 0.0 };
                }
            }
        }
        Ok(prior)
    }

    /// Logistic regression of the structure on the place.
    fn places(&self, rng: &mut Xoshiro256Plus) -> [[f64; PLACES]; CLASSES] {
        let mut chosen: Vec<(Place, usize)> = Vec::new();
        for Example { tumour, truth } in &self.examples {
            chosen.extend(pick(truth.len(), rng).into_iter().map(|i| (tumour.places[i], truth[i])));
        }
        let mut weights = [[0.0; PLACES]; CLASSES];
        for _ in 0..STEPS.0 {
            let mut slope = [[0.0; PLACES]; CLASSES];
            for (place, truth) in &chosen {
                let logits: [f64; CLASSES] =
                    weights.map(|row: [f64; PLACES]| row.iter().zip(place).map(|(w, u)| w * u).sum());
                let total = log_sum(&logits);
                for k in 0..CLASSES {
                    let off = f64::from(u8::from(*truth == k)) - (logits[k] - total).exp();
                    (0..PLACES).for_each(|i| slope[k][i] += off * place[i]);
                }
            }
            for k in 0..CLASSES {
                (0..PLACES).for_each(|i| weights[k][i] += STEPS.1 * slope[k][i] / chosen.len().max(1) as f64);
            }
        }
        weights
    }
}

/// Mean and covariance (of n − 1) of at least two rows.
fn moments(rows: &[&Vector]) -> (Vector, Matrix) {
    let n = rows.len() as f64;
    let mean: Vector = std::array::from_fn(|i| rows.iter().map(|x| x[i]).sum::<f64>() / n);
    let mut covariance = [[0.0; D]; D];
    for x in rows {
        for i in 0..D {
            (0..D).for_each(|j| covariance[i][j] += (x[i] - mean[i]) * (x[j] - mean[j]) / (n - 1.0));
        }
    }
    (mean, covariance)
}

/// A number from 0 to below `below`.
fn draw(below: usize, rng: &mut Xoshiro256Plus) -> usize {
    ((u128::from(rng.next_u64()) * below as u128) >> 64) as usize
}

/// At most [`VOXELS`] of `n`, each at most once.
fn pick(n: usize, rng: &mut Xoshiro256Plus) -> Vec<usize> {
    let mut all: Vec<usize> = (0..n).collect();
    let most = n.min(VOXELS);
    for i in 0..most {
        all.swap(i, i + draw(n - i, rng));
    }
    all.truncate(most);
    all
}

/// Adam on the cross-entropy, in batches; the steps' length falls in a straight line.
fn reader(chosen: &[([f64; LENGTH], usize)], without: &[Piece], rng: &mut Xoshiro256Plus) -> Reader {
    let mut reader = Reader::blank();
    let n = chosen.len().max(1) as f64;
    for i in 0..LENGTH {
        let mean = chosen.iter().map(|(x, _)| x[i]).sum::<f64>() / n;
        let variance = chosen.iter().map(|(x, _)| (x[i] - mean).powi(2)).sum::<f64>() / n;
        reader.mean[i] = mean;
        // Whatever is divided by that is 0.
        let dropped = without.iter().any(|piece| piece.holds(i));
        reader.scale[i] = if dropped { 1e300 } else { variance.sqrt() + 1e-6 };
    }
    // Glorot and Bengio 2010: uniform, by fan-in and fan-out.
    let mut glorot = |weights: &mut [f64], fan: usize| {
        let bound = (6.0 / fan as f64).sqrt();
        for w in weights {
            *w = bound * (2.0 * (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64 - 1.0);
        }
    };
    glorot(&mut reader.hidden, LENGTH + HIDDEN);
    glorot(&mut reader.output, HIDDEN + CLASSES);
    let mut adam = Adam::new(&reader);
    let mut order: Vec<usize> = (0..chosen.len()).collect();
    let steps = (EPOCHS * order.len().div_ceil(BATCH)).max(1);
    let mut step = 0;
    for _ in 0..EPOCHS {
        for i in 0..order.len() {
            let other = i + draw(order.len() - i, rng);
            order.swap(i, other);
        }
        for batch in order.chunks(BATCH) {
            let slope = slope(&reader, batch.iter().map(|&i| &chosen[i]), batch.len());
            let rate = RATE * (1.0 - f64::from(step) / steps as f64);
            step += 1;
            adam.step(&mut reader, &slope, rate, step);
        }
    }
    reader
}

/// The gradient of the mean cross-entropy and the weight decay, by hidden, its bias, output, its bias.
fn slope<'a>(
    reader: &Reader,
    batch: impl Iterator<Item = &'a ([f64; LENGTH], usize)>,
    size: usize,
) -> [Vec<f64>; 4] {
    let mut slope = [
        reader.hidden.iter().map(|w| DECAY * w).collect::<Vec<f64>>(),
        vec![0.0; HIDDEN],
        reader.output.iter().map(|w| DECAY * w).collect(),
        vec![0.0; CLASSES],
    ];
    let part = 1.0 / size.max(1) as f64;
    for (evidence, truth) in batch {
        let x = reader.standardised(evidence);
        let hidden = reader.hidden_units(&x);
        let read = reader.log_probabilities(&hidden);
        let mut back = [0.0; HIDDEN];
        for k in 0..CLASSES {
            let off = part * (read[k].exp() - f64::from(u8::from(*truth == k)));
            slope[3][k] += off;
            for h in 0..HIDDEN {
                slope[2][k * HIDDEN + h] += off * hidden[h];
                back[h] += off * reader.output[k * HIDDEN + h];
            }
        }
        for h in (0..HIDDEN).filter(|&h| hidden[h] > 0.0) {
            slope[1][h] += back[h];
            let row = &mut slope[0][h * LENGTH..(h + 1) * LENGTH];
            row.iter_mut().zip(&x).for_each(|(s, x)| *s += back[h] * x);
        }
    }
    slope
}

/// Kingma and Ba 2015.
struct Adam {
    first: [Vec<f64>; 4],
    second: [Vec<f64>; 4],
}

impl Adam {
    fn new(reader: &Reader) -> Self {
        let zeros = [reader.hidden.len(), HIDDEN, reader.output.len(), CLASSES].map(|n| vec![0.0; n]);
        Self { first: zeros.clone(), second: zeros }
    }

    fn step(&mut self, reader: &mut Reader, slope: &[Vec<f64>; 4], rate: f64, step: i32) {
        let weights =
            [&mut reader.hidden, &mut reader.hidden_bias, &mut reader.output, &mut reader.output_bias];
        let (b1, b2) = (0.9f64, 0.999f64);
        let rate = rate * (1.0 - b2.powi(step)).sqrt() / (1.0 - b1.powi(step));
        for (((weights, slope), first), second) in
            weights.into_iter().zip(slope).zip(&mut self.first).zip(&mut self.second)
        {
            for (((w, s), m), v) in weights.iter_mut().zip(slope).zip(first).zip(second) {
                *m = b1 * *m + (1.0 - b1) * s;
                *v = b2 * *v + (1.0 - b2) * s * s;
                *w -= rate * *m / (v.sqrt() + 1e-8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only two of the inputs tell anything, one of them by its distance from 0: nothing linear finds that.
    fn made_up(n: usize) -> Vec<([f64; LENGTH], usize)> {
        let mut rng = Xoshiro256Plus::seed_from_u64(3);
        let mut one = || -> ([f64; LENGTH], usize) {
            let x: [f64; LENGTH] = std::array::from_fn(|_| draw(2000, &mut rng) as f64 / 1000.0 - 1.0);
            let truth = if x[0].abs() > 0.6 { 0 } else { 1 + usize::from(x[2] > 0.0) };
            (x, truth)
        };
        (0..n).map(|_| one()).collect()
    }

    #[test]
    fn the_gradient_is_the_difference_of_the_loss() {
        let data = made_up(40);
        let mut reader = reader(&data, &[], &mut Xoshiro256Plus::seed_from_u64(1));
        let loss = |r: &Reader| {
            let seen: f64 = data.iter().map(|(x, t)| -r.read(x)[*t]).sum::<f64>() / data.len() as f64;
            let squares = |w: &[f64]| w.iter().map(|w| w * w).sum::<f64>();
            seen + 0.5 * DECAY * (squares(&r.hidden) + squares(&r.output))
        };
        let slope = slope(&reader, data.iter(), data.len());
        let step = 1e-5;
        for (part, slope) in slope.iter().enumerate() {
            for i in (0..slope.len()).step_by(7) {
                let mut at = |by: f64| {
                    let all = [
                        &mut reader.hidden,
                        &mut reader.hidden_bias,
                        &mut reader.output,
                        &mut reader.output_bias,
                    ];
                    all.into_iter().nth(part).unwrap()[i] += by;
                    loss(&reader)
                };
                let (up, down) = (at(step), at(-2.0 * step));
                at(step);
                let difference = (up - down) / (2.0 * step);
                assert!((difference - slope[i]).abs() < 1e-6, "{part} {i}: {difference} beside {}", slope[i]);
            }
        }
    }

    #[test]
    fn the_reader_learns_what_is_not_linear() {
        let data = made_up(21000);
        let reader = reader(&data[..20000], &[], &mut Xoshiro256Plus::seed_from_u64(1));
        let right = data[20000..]
            .iter()
            .filter(|(x, truth)| {
                let read = reader.read(x);
                (0..CLASSES).all(|k| read[k] <= read[*truth])
            })
            .count();
        assert!(right > 800, "{right} of 1000");
    }

    #[test]
    fn a_reader_does_not_see_what_it_does_without() {
        let data = made_up(400);
        let reader = reader(&data, &[Piece::Features, Piece::Places], &mut Xoshiro256Plus::seed_from_u64(1));
        let mut other = data[0].0;
        let kept = (0..LENGTH).filter(|&i| ![Piece::Features, Piece::Places].iter().any(|p| p.holds(i)));
        let kept: Vec<usize> = kept.collect();
        assert_eq!(kept.len(), CLASSES);
        (0..LENGTH).filter(|i| !kept.contains(i)).for_each(|i| other[i] += 0.5);
        assert_eq!(reader.read(&other), reader.read(&data[0].0));
        other[kept[0]] += 0.5;
        assert_ne!(reader.read(&other), reader.read(&data[0].0));
        assert!((0..LENGTH).all(|i| Piece::ALL.iter().any(|piece| piece.holds(i))));
    }

    #[test]
    fn picks_differ_and_are_spread_over_all() {
        let mut rng = Xoshiro256Plus::seed_from_u64(1);
        let mut picks = pick(4000, &mut rng);
        picks.sort_unstable();
        picks.dedup();
        assert_eq!(picks.len(), VOXELS);
        let mean = picks.iter().sum::<usize>() as f64 / VOXELS as f64;
        assert!((mean - 2000.0).abs() < 150.0, "{mean}");
        assert_eq!(pick(3, &mut rng).len(), 3);
    }
}
