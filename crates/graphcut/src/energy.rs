//! The energy over supervoxels and its alternate minimisation.
//!
//! With `x_s` the class of supervoxel `s`, `θ` the intensity models, `A_st` the boundary that `s` and `t` share (mm²),
//! `Δ_st` the difference of their mean intensities and `δ³` the volume of a voxel (mm³), the energy is
//!
//! `E(x, θ, π) = δ³ Σ_s Σ_{v ∈ s} [−log θ_{x_s}(I_v) − w log π_{x_s} + γ/2 (1 ∓ g_s)]
//!            + λ Σ_{s ~ t} A_st exp(−|Δ_st|² / 2σ²) [x_s ≠ x_t] + pseudo-counts`
//!
//! subject to the scribbles. `π` are the classes' shares of the brain (their weight `w` is `Params::share`), and `g_s`, in
//! −1..=1, says how much nearer `s` is to the tumour scribbles than to the healthy ones along paths over the image (`γ` is
//! `Params::position`; the sign is − for tumour). A round cuts the graph, which is the smallest `E` over `x` for fixed `θ`, and fits the
//! models and shares again, which is the smallest `E` over `θ` and `π` for fixed `x`: the energy never rises.

use crate::geodesic::Steps;
use crate::maxflow::{Link, Network};
use crate::model::{Binning, Model};
use crate::region::region_graph;
use crate::slic::position;
use crate::{Error, HEALTHY, Params, TUMOUR};

/// A brain cut into supervoxels: arrays in C order with `shape`.
pub(crate) struct Volume<'a> {
    pub(crate) shape: [usize; 3],
    pub(crate) spacing: [f64; 3],
    /// 0 outside the brain, 1..=`count` inside.
    pub(crate) labels: &'a [u32],
    pub(crate) count: usize,
    /// What neighbours are compared by, one channel after the other.
    pub(crate) features: &'a [f32],
    /// Cells of the joint histogram.
    pub(crate) codes: &'a [u32],
    pub(crate) scribbles: &'a [u8],
}

/// The energy over supervoxels, numbered from 0.
pub(crate) struct Problem {
    // Voxels' histogram cells, those of one supervoxel side by side, and where each supervoxel starts.
    cells: Vec<u32>,
    first: Vec<usize>,
    seeds: Vec<u8>,
    nearness: Vec<f64>,
    // Pairs of supervoxels and the boundary between them, weighted by contrast.
    links: Vec<(u32, u32, f64)>,
    binning: Binning,
    voxel_mm3: f64,
}

impl Problem {
    pub(crate) fn new(volume: &Volume<'_>, binning: Binning, params: &Params) -> Self {
        let count = volume.count;
        let mut first = vec![0usize; count + 1];
        for &label in volume.labels.iter().filter(|&&l| l != 0) {
            first[label as usize] += 1;
        }
        for i in 0..count {
            first[i + 1] += first[i];
        }
        let mut cells = vec![0; first[count]];
        let mut next = first.clone();
        let mut seeds = vec![0; count];
        for (i, &label) in volume.labels.iter().enumerate().filter(|(_, l)| **l != 0) {
            let node = label as usize - 1;
            cells[next[node]] = volume.codes[i];
            next[node] += 1;
            if volume.scribbles[i] != 0 {
                seeds[node] = volume.scribbles[i];
            }
        }
        let pairs = pairs(volume, &first);
        let nearness = nearness(&pairs, &seeds, params.path_contrast);
        let links = contrast_links(&pairs);
        Self { cells, first, seeds, nearness, links, binning, voxel_mm3: volume.spacing.iter().product() }
    }

    /// Alternates cuts and fits: the class of each supervoxel, and the energy after each round.
    pub(crate) fn minimise(&self, params: &Params) -> Result<(Vec<u8>, Vec<f64>), Error> {
        let mut classes = self.seeds.clone();
        let mut energies: Vec<f64> = Vec::new();
        let mut models = self.fit(&classes, params);
        for _ in 0..params.rounds {
            let next = self.cut(&models, params)?;
            let fitted = self.fit(&next, params);
            let energy = self.energy(&next, &fitted, params);
            // Equal up to rounding: the last round found nothing better.
            if energies.last().is_some_and(|last| energy > *last) {
                break;
            }
            let before = energies.last().copied();
            energies.push(energy);
            let settled = next == classes;
            (classes, models) = (next, fitted);
            if settled || before.is_some_and(|before| before - energy <= params.tolerance * before.abs()) {
                break;
            }
        }
        Ok((classes, energies))
    }

    fn voxels(&self, node: usize) -> &[u32] {
        &self.cells[self.first[node]..self.first[node + 1]]
    }

    fn fit(&self, classes: &[u8], params: &Params) -> [Model; 2] {
        let counts = [TUMOUR, HEALTHY].map(|class| {
            let mut counts = vec![0.0; self.binning.cells()];
            for node in (0..classes.len()).filter(|&n| classes[n] == class) {
                self.voxels(node).iter().for_each(|&cell| counts[cell as usize] += 1.0);
            }
            counts
        });
        let all = counts.iter().flatten().sum();
        counts.map(|counts| Model::fit(&self.binning, counts, params.pseudo_mm3 / self.voxel_mm3, all))
    }

    // The cost of a class for a supervoxel in mm³ of log-likelihood: its intensities and its place.
    fn data(&self, node: usize, class: u8, models: &[Model; 2], params: &Params) -> f64 {
        let cost = &models[usize::from(class) - 1].cost;
        let voxels = self.voxels(node);
        let against = if class == TUMOUR { 1.0 - self.nearness[node] } else { 1.0 + self.nearness[node] };
        let share = params.share * models[usize::from(class) - 1].share;
        let place = (0.5 * params.position * against + share) * voxels.len() as f64;
        self.voxel_mm3 * (place + voxels.iter().map(|&cell| cost[cell as usize]).sum::<f64>())
    }

    fn cut(&self, models: &[Model; 2], params: &Params) -> Result<Vec<u8>, Error> {
        let links: Vec<Link> = self
            .links
            .iter()
            .map(|&(a, b, weight)| {
                let capacity = params.smoothness_mm * weight;
                Link { a, b, forward: capacity, backward: capacity }
            })
            .collect();
        // A seed's terminal link outweighs all its other links, so it is never cut.
        let mut hard = vec![1.0; self.seeds.len()];
        for link in &links {
            hard[link.a as usize] += link.forward;
            hard[link.b as usize] += link.forward;
        }
        // Being tumour, on the source's side, cuts the link to the sink, and the other way round.
        let (source, sink): (Vec<f64>, Vec<f64>) = (0..self.seeds.len())
            .map(|node| match self.seeds[node] {
                TUMOUR => (hard[node], 0.0),
                HEALTHY => (0.0, hard[node]),
                _ => {
                    let excess =
                        self.data(node, HEALTHY, models, params) - self.data(node, TUMOUR, models, params);
                    (excess.max(0.0), (-excess).max(0.0))
                }
            })
            .unzip();
        let mut network = Network::new(&source, &sink, &links)?;
        network.solve();
        Ok((0..self.seeds.len()).map(|n| if network.on_source_side(n) { TUMOUR } else { HEALTHY }).collect())
    }

    fn energy(&self, classes: &[u8], models: &[Model; 2], params: &Params) -> f64 {
        let prior = self.voxel_mm3 * (models[0].prior + models[1].prior);
        let data: f64 = classes.iter().enumerate().map(|(n, &c)| self.data(n, c, models, params)).sum();
        let boundary: f64 =
            self.links.iter().filter(|l| classes[l.0 as usize] != classes[l.1 as usize]).map(|l| l.2).sum();
        prior + data + params.smoothness_mm * boundary
    }
}

// The mean of a quantity over the voxels of each supervoxel.
fn means(labels: &[u32], first: &[usize], value: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut sums = vec![0.0; first.len() - 1];
    for (i, &label) in labels.iter().enumerate().filter(|(_, l)| **l != 0) {
        sums[label as usize - 1] += value(i);
    }
    sums.iter().zip(first.windows(2)).map(|(sum, w)| sum / (w[1] - w[0]) as f64).collect()
}

// Two touching supervoxels, numbered from 0.
struct Pair {
    a: u32,
    b: u32,
    area: f64,
    // Squared difference of the mean intensities.
    contrast: f64,
    // Distance of the centroids in mm.
    apart: f64,
}

fn pairs(volume: &Volume<'_>, first: &[usize]) -> Vec<Pair> {
    let labels = volume.labels;
    let intensities: Vec<Vec<f64>> = volume
        .features
        .chunks(labels.len().max(1))
        .map(|channel| means(labels, first, |i| f64::from(channel[i])))
        .collect();
    let centroids = [0, 1, 2]
        .map(|axis| means(labels, first, |i| volume.spacing[axis] * position(volume.shape, i)[axis] as f64));
    let squared = |columns: &[Vec<f64>], a: u32, b: u32| {
        columns.iter().map(|m| (m[a as usize - 1] - m[b as usize - 1]).powi(2)).sum::<f64>()
    };
    region_graph(volume.shape, volume.spacing, labels)
        .all_edges()
        .map(|(a, b, &area)| Pair {
            a: a - 1,
            b: b - 1,
            area,
            contrast: squared(&intensities, a, b),
            apart: squared(&centroids, a, b).sqrt(),
        })
        .collect()
}

// The contrast-sensitive boundary of each pair, `A_st exp(−|Δ_st|² / 2σ²)`, where `σ²` is the mean of `|Δ_st|²` over the
// boundary.
fn contrast_links(pairs: &[Pair]) -> Vec<(u32, u32, f64)> {
    let area: f64 = pairs.iter().map(|p| p.area).sum();
    let variance = pairs.iter().map(|p| p.area * p.contrast).sum::<f64>() / area.max(f64::MIN_POSITIVE);
    let scale = if variance > 0.0 { 0.5 / variance } else { 0.0 };
    pairs.iter().map(|p| (p.a, p.b, p.area * (-p.contrast * scale).exp())).collect()
}

// What nearness to the scribbles says for tumour, in −1..=1 for each supervoxel.
fn nearness(pairs: &[Pair], seeds: &[u8], path_contrast: f64) -> Vec<f64> {
    let steps: Vec<(u32, u32, f64)> =
        pairs.iter().map(|p| (p.a, p.b, p.apart * (1.0 + path_contrast * p.contrast.sqrt()))).collect();
    let steps = Steps::new(seeds.len(), &steps);
    let [tumour, healthy] = [TUMOUR, HEALTHY]
        .map(|class| steps.distances((0..seeds.len() as u32).filter(|&n| seeds[n as usize] == class)));
    tumour
        .iter()
        .zip(&healthy)
        .map(|(&t, &h)| match (t.is_finite(), h.is_finite()) {
            (true, true) if t + h > 0.0 => (h - t) / (h + t),
            (true, false) => 1.0,
            (false, true) => -1.0,
            _ => 0.0,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // A row of supervoxels of three voxels in a slab three voxels wide, so that neighbours share nine faces.
    fn problem(nodes: usize, seed: u32) -> (Problem, Params) {
        let shape = [3, 3, nodes];
        let mut noise = seed;
        let mut next = |below: u32| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 16) % below
        };
        let voxels = 9 * nodes;
        let labels: Vec<u32> = (0..voxels).map(|i| (i % nodes) as u32 + 1).collect();
        let codes: Vec<u32> = (0..voxels).map(|_| next(8)).collect();
        let features: Vec<f32> = codes.iter().map(|&c| c as f32).collect();
        let mut scribbles = vec![0; voxels];
        (scribbles[0], scribbles[nodes - 1]) = (TUMOUR, HEALTHY);
        let params = Params {
            smoothness_mm: f64::from(next(8)) / 4.0,
            share: f64::from(next(4)) / 2.0,
            pseudo_mm3: 4.0,
            ..Params::for_channels(&[0], &[0])
        };
        let volume = Volume {
            shape,
            spacing: [1.0, 2.0, 0.5],
            labels: &labels,
            count: nodes,
            features: &features,
            codes: &codes,
            scribbles: &scribbles,
        };
        (Problem::new(&volume, Binning::new(8, 1, 0.7), &params), params)
    }

    #[test]
    fn no_labelling_that_keeps_the_scribbles_costs_less_than_the_cut() {
        for seed in 0..40 {
            let (problem, params) = problem(9, seed);
            let start: Vec<u8> = (0..9).map(|i| if i < 4 { TUMOUR } else { HEALTHY }).collect();
            let models = problem.fit(&start, &params);
            let cut = problem.cut(&models, &params).unwrap();
            assert_eq!((cut[0], cut[8]), (TUMOUR, HEALTHY));
            let found = problem.energy(&cut, &models, &params);
            let least = (0..1u32 << 7)
                .map(|bits| {
                    let mut classes = vec![TUMOUR; 9];
                    classes[8] = HEALTHY;
                    (0..7).filter(|i| bits >> i & 1 == 1).for_each(|i| classes[i + 1] = HEALTHY);
                    problem.energy(&classes, &models, &params)
                })
                .fold(f64::INFINITY, f64::min);
            assert!(
                (found - least).abs() < 1e-9 * least.abs(),
                "seed {seed}: {found} but {least} is possible"
            );
        }
    }

    #[test]
    fn fitting_never_raises_the_energy_of_a_labelling() {
        for seed in 0..40u32 {
            let (problem, params) = problem(9, seed);
            let labelling = |bits: u32| -> Vec<u8> {
                let class = |i: u32| if bits >> i & 1 == 1 { HEALTHY } else { TUMOUR };
                (0..9)
                    .map(|i| {
                        if i == 0 {
                            TUMOUR
                        } else if i == 8 {
                            HEALTHY
                        } else {
                            class(i)
                        }
                    })
                    .collect()
            };
            let (here, there) = (labelling(seed * 7 % 128), labelling(seed * 31 % 128));
            let own = problem.energy(&here, &problem.fit(&here, &params), &params);
            let borrowed = problem.energy(&here, &problem.fit(&there, &params), &params);
            assert!(own <= borrowed + 1e-9 * own.abs(), "seed {seed}: {own} > {borrowed}");
        }
    }
}
