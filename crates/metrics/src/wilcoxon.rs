//! Wilcoxon's signed-rank test of paired differences.

use serde::{Deserialize, Serialize};

/// The outcome of the two-sided test that differences are symmetric about 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SignedRank {
    /// The smaller of the rank sums of positive and negative differences, SciPy's `statistic`.
    pub statistic: f64,
    /// The rank sum of the positive differences.
    pub positive: f64,
    /// The two-sided p-value, not corrected for testing several figures or regions.
    pub p: f64,
    /// Differences that are not 0: the ones that are ranked.
    pub n: usize,
    /// Differences of 0, which are left out.
    pub zeros: usize,
    /// Whether `p` is from the exact distribution; from the normal approximation otherwise.
    pub exact: bool,
}

/// At most so many differences are tested exactly.
const EXACT: usize = 50;

/// Tests paired differences, two-sided.
///
/// Differences of 0 are left out and counted (Wilcoxon's own way; SciPy's `zero_method="wilcox"`), the others ranked
/// by magnitude, equal ones at the mean of their ranks. With at most 50 of them and no two of equal magnitude the
/// p-value is exact: the share of all 2ⁿ assignments of signs that are as extreme. Otherwise it is the normal
/// approximation with the variance corrected for ties and no correction for continuity. The same as
/// `scipy.stats.wilcoxon(…, method="exact" | "asymptotic")`. `None` if no difference is a finite number other than 0.
///
/// Wilcoxon, "Individual Comparisons by Ranking Methods", Biometrics Bulletin 1 (1945).
pub fn wilcoxon(differences: &[f64]) -> Option<SignedRank> {
    let finite = || differences.iter().copied().filter(|d| d.is_finite());
    let zeros = finite().filter(|&d| d == 0.0).count();
    let mut ranked: Vec<f64> = finite().filter(|&d| d != 0.0).collect();
    ranked.sort_unstable_by(|a, b| a.abs().total_cmp(&b.abs()));
    let n = ranked.len();
    if n == 0 {
        return None;
    }
    let (mut positive, mut ties, mut before) = (0.0, 0.0, 0usize);
    for equal in ranked.chunk_by(|a, b| a.abs() == b.abs()) {
        let t = equal.len();
        // Ranks before + 1 ..= before + t, shared.
        let rank = before as f64 + (t + 1) as f64 / 2.0;
        positive += rank * equal.iter().filter(|&&d| d > 0.0).count() as f64;
        ties += (t * t * t - t) as f64;
        before += t;
    }
    let total = (n * (n + 1)) as f64 / 2.0;
    let statistic = positive.min(total - positive);
    let exact = n <= EXACT && ties == 0.0;
    let p = if exact {
        // Without ties the rank sum is a whole number.
        (2.0 * share_at_most(n, statistic as usize)).min(1.0)
    } else {
        let nf = n as f64;
        let variance = (nf * (nf + 1.0) * (2.0 * nf + 1.0) - ties / 2.0) / 24.0;
        // 2 Φ(−|z|) = erfc(|z| / √2)
        libm::erfc((statistic - total / 2.0).abs() / variance.sqrt() / std::f64::consts::SQRT_2)
    };
    Some(SignedRank { statistic, positive, p, n, zeros, exact })
}

/// The share of the 2ⁿ subsets of the ranks 1..=n whose sum is at most `bound`.
fn share_at_most(n: usize, bound: usize) -> f64 {
    // Subsets by sum; they number at most 2⁵⁰, which an f64 counts without rounding.
    let mut subsets = vec![0.0; bound + 1];
    subsets[0] = 1.0;
    for rank in 1..=n.min(bound) {
        for sum in (rank..=bound).rev() {
            subsets[sum] += subsets[sum - rank];
        }
    }
    subsets.iter().sum::<f64>() / 2.0f64.powi(n as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_share_is_what_listing_all_signs_gives() {
        for n in 1..=10usize {
            for bound in 0..=n * (n + 1) / 4 {
                let sum = |signs: u32| (1..=n).filter(|&r| signs >> (r - 1) & 1 == 1).sum::<usize>();
                let listed = (0..1u32 << n).filter(|&signs| sum(signs) <= bound).count();
                assert_eq!(share_at_most(n, bound), listed as f64 / f64::from(1u32 << n), "{n} {bound}");
            }
        }
    }

    #[test]
    fn nothing_but_zeros_is_not_tested() {
        assert_eq!(wilcoxon(&[]), None);
        assert_eq!(wilcoxon(&[0.0, -0.0, f64::NAN]), None);
        let one = wilcoxon(&[0.0, 0.25]).unwrap();
        assert_eq!((one.statistic, one.positive, one.p, one.n, one.zeros), (0.0, 1.0, 1.0, 1, 1));
    }
}
