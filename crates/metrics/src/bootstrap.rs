//! Percentile bootstrap of a mean over scans.

use rand::{Rng, RngExt};

/// Resamples behind an interval in `metrics.json`.
pub const RESAMPLES: usize = 10_000;

/// The 95 % bootstrap interval of the mean of `values`, low then high: the percentile method.
///
/// `resamples` times as many values as there are are drawn with replacement, and their means' 2.5th and 97.5th
/// percentiles taken, with linear interpolation between order statistics (as `scipy.stats.bootstrap` does with
/// `method="percentile"`). The generator's stream alone decides the draws, so that a seed gives the same bytes at any
/// thread count. `None` below two values or two resamples. Of few scans (under 20, say) the interval is too narrow:
/// its bounds cannot leave the range of the values seen.
///
/// Efron, Tibshirani, *An Introduction to the Bootstrap* (1993), chapter 13.
///
/// ```
/// use rand::SeedableRng;
/// let dice = [0.91, 0.88, 0.79, 0.93, 0.85];
/// let mut generator = rand_chacha::ChaCha8Rng::seed_from_u64(1);
/// let [low, high] = scribseg_metrics::bootstrap_mean(&dice, 10_000, &mut generator).unwrap();
/// assert!(0.79 < low && low < 0.872 && 0.872 < high && high < 0.93);
/// ```
pub fn bootstrap_mean(values: &[f64], resamples: usize, generator: &mut impl Rng) -> Option<[f64; 2]> {
    if values.len() < 2 || resamples < 2 {
        return None;
    }
    // 32 bits suffice to number scans, and take half the random words.
    let count = u32::try_from(values.len()).ok()?;
    let mut means: Vec<f64> = (0..resamples)
        .map(|_| {
            let sum: f64 = (0..count).map(|_| values[generator.random_range(0..count) as usize]).sum();
            sum / f64::from(count)
        })
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    Some([0.025, 0.975].map(|q| quantile(&means, q)))
}

/// The `q`-quantile of sorted values with linear interpolation.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let position = q * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * position.fract()
}
