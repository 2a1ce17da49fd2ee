//! Neighbours agree: a Potts field over the structures' probabilities, by mean field.
//!
//! `q_i(k) ∝ exp(L_i(k) + β·Σ_j G(i − j)·q_j(k))`, with a Gaussian G of 1 mm and sum 1 over the tumour's voxels.

use super::em::log_sum;
use super::prior::CLASSES;
use super::region::Region;

/// Standard deviation in mm of G.
const SIGMA: f64 = 1.0;
/// Updates of all voxels.
const ROUNDS: usize = 5;

/// The most probable structure of each voxel, as an index, given log-probabilities up to a constant a voxel (−∞: absent).
pub(crate) fn agreed(region: &Region, logits: &[[f64; CLASSES]], beta: f64) -> Vec<usize> {
    let probabilities = |sums: &[[f64; CLASSES]]| -> [Vec<f32>; CLASSES] {
        let totals: Vec<f64> = sums.iter().map(|s| log_sum(s)).collect();
        std::array::from_fn(|k| sums.iter().zip(&totals).map(|(s, t)| (s[k] - t).exp() as f32).collect())
    };
    let mut sums = logits.to_vec();
    for _ in 0..ROUNDS {
        let around = probabilities(&sums)
            .map(|q| if q.iter().all(|&q| q == 0.0) { q } else { region.blur(&q, SIGMA) });
        for (i, (sum, own)) in sums.iter_mut().zip(logits).enumerate() {
            *sum = std::array::from_fn(|k| own[k] + beta * f64::from(around[k][i]));
        }
    }
    let best =
        |sum: &[f64; CLASSES]| (1..CLASSES).fold(0, |best, k| if sum[k] > sum[best] { k } else { best });
    sums.iter().map(best).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cube(side: usize) -> (Region, Vec<[usize; 3]>) {
        let all = |i: usize| [i / (side * side), i / side % side, i % side];
        let voxels: Vec<[usize; 3]> = (0..side * side * side).map(all).collect();
        (Region::new(&voxels, [1.0; 3]).unwrap(), voxels)
    }

    #[test]
    fn a_lone_voxel_follows_its_neighbours_unless_it_is_sure() {
        let (region, voxels) = cube(9);
        let middle = voxels.iter().position(|v| *v == [4, 4, 4]).unwrap();
        let field = |sure: f64| {
            let logits: Vec<[f64; CLASSES]> =
                (0..region.len())
                    .map(|i| {
                        if i == middle {
                            [sure, 0.0, f64::NEG_INFINITY]
                        } else {
                            [0.0, 2.0, f64::NEG_INFINITY]
                        }
                    })
                    .collect();
            agreed(&region, &logits, 3.0)
        };
        assert!(field(1.0).iter().all(|&k| k == 1));
        let sure = field(6.0);
        assert!(sure.iter().enumerate().all(|(i, &k)| k == usize::from(i != middle)));
    }

    #[test]
    fn without_a_weight_each_voxel_is_on_its_own() {
        let (region, voxels) = cube(5);
        let logits: Vec<[f64; CLASSES]> = voxels
            .iter()
            .map(|v| std::array::from_fn(|k| ((v[0] + 3 * v[1] + 5 * v[2] + 7 * k) as f64).sin()))
            .collect();
        let own = |l: &[f64; CLASSES]| (0..CLASSES).max_by(|&a, &b| l[a].total_cmp(&l[b])).unwrap();
        assert_eq!(agreed(&region, &logits, 0.0), logits.iter().map(own).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_absent_stays_absent() {
        let (region, _) = cube(4);
        let logits = vec![[f64::NEG_INFINITY, f64::NEG_INFINITY, -5.0]; region.len()];
        assert!(agreed(&region, &logits, 2.0).iter().all(|&k| k == 2));
    }
}
