//! Intervals and tests against SciPy (tests/fixtures/make_fixtures.py) and against laws.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use ndarray::{Array3, s};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use scribseg_metrics::{
    CaseMetrics, EmptyPolicy, Evaluation, Metric, RESAMPLES, bootstrap_mean, evaluate_case, summarise,
    wilcoxon,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Statistics {
    wilcoxon: Vec<Tested>,
    bootstrap: Vec<Resampled>,
}

#[derive(Deserialize)]
struct Tested {
    differences: Vec<f64>,
    statistic: f64,
    p: f64,
    exact: bool,
}

#[derive(Deserialize)]
struct Resampled {
    values: Vec<f64>,
    ci95: [f64; 2],
    /// What chance does to each end in 10,000 resamples: one standard error.
    error: [f64; 2],
}

fn scipy() -> Statistics {
    serde_json::from_str(include_str!("fixtures/statistics.json")).unwrap()
}

fn seeded(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

#[test]
fn the_signed_rank_test_is_scipys() {
    let cases = scipy().wilcoxon;
    assert!(cases.iter().filter(|c| c.exact).count() >= 8 && cases.iter().filter(|c| !c.exact).count() >= 4);
    for (i, case) in cases.iter().enumerate() {
        let ours = wilcoxon(&case.differences).unwrap();
        assert!((ours.statistic - case.statistic).abs() < 1e-9, "{i}: {ours:?}");
        assert!((ours.p - case.p).abs() < 1e-6 * case.p, "{i}: {ours:?}, p {} expected", case.p);
        assert_eq!(ours.exact, case.exact, "{i}");
        assert_eq!(ours.zeros + ours.n, case.differences.len(), "{i}");
    }
}

#[test]
fn intervals_are_scipys_within_what_chance_leaves_open() {
    for (i, case) in scipy().bootstrap.iter().enumerate() {
        for seed in 0..4 {
            let ours = bootstrap_mean(&case.values, RESAMPLES, &mut seeded(seed)).unwrap();
            for end in 0..2 {
                // The means of few distinct values lie on a grid: a step of it may come on top.
                let step = if case.values.iter().all(|v| v.fract() == 0.0) {
                    1.0 / case.values.len() as f64
                } else {
                    0.0
                };
                let off = (ours[end] - case.ci95[end]).abs();
                assert!(
                    off <= 5.0 * case.error[end] + step + 1e-12,
                    "{i}, seed {seed}: {ours:?}, {:?}",
                    case.ci95
                );
            }
        }
    }
}

/// All 4⁴ resamples of four values are equally likely: the percentiles of their means are known exactly.
#[test]
fn intervals_of_four_values_are_those_of_all_resamples() {
    let values = [0.1, 0.37, 0.62, 0.95];
    let mut means: Vec<f64> =
        (0..256usize).map(|k| (0..4).map(|i| values[k >> (2 * i) & 3]).sum::<f64>() / 4.0).collect();
    means.sort_by(f64::total_cmp);
    // The mean that has 2.5 % of all resamples below, and the one above: chance moves the share by 0.16 %.
    let around = |q: f64| {
        let at = |share: f64| means[((256.0 * share) as usize).min(255)];
        (at(q - 0.005), at(q + 0.005))
    };
    for seed in 0..8 {
        let found = bootstrap_mean(&values, RESAMPLES, &mut seeded(seed)).unwrap();
        for (end, q) in found.into_iter().zip([0.025, 0.975]) {
            let (low, high) = around(q);
            assert!(low - 1e-12 <= end && end <= high + 1e-12, "{end} not in {low}..={high}");
        }
    }
}

#[test]
fn a_seed_gives_the_same_interval_and_few_values_none() {
    let values: Vec<f64> = (0..30).map(|i| f64::from(i).sin()).collect();
    let of = |seed| bootstrap_mean(&values, RESAMPLES, &mut seeded(seed)).unwrap();
    assert_eq!(of(3), of(3));
    assert_ne!(of(3), of(4));
    assert_eq!(bootstrap_mean(&values[..1], RESAMPLES, &mut seeded(0)), None);
    assert_eq!(bootstrap_mean(&[0.5; 6], RESAMPLES, &mut seeded(0)), Some([0.5, 0.5]));
}

proptest! {
    #[test]
    fn changing_places_turns_the_test_round(differences in prop::collection::vec(-8i32..9, 1..70)) {
        let forth: Vec<f64> = differences.iter().map(|&d| f64::from(d) / 8.0).collect();
        let back: Vec<f64> = forth.iter().map(|d| -d).collect();
        match (wilcoxon(&forth), wilcoxon(&back)) {
            (Some(a), Some(b)) => {
                prop_assert_eq!((a.p, a.statistic, a.n, a.zeros), (b.p, b.statistic, b.n, b.zeros));
                prop_assert_eq!(a.positive + b.positive, (a.n * (a.n + 1) / 2) as f64);
                prop_assert!(0.0 < a.p && a.p <= 1.0);
            }
            (a, b) => prop_assert_eq!(a, b),
        }
    }

    #[test]
    fn the_test_knows_ranks_alone(differences in prop::collection::vec(-1.0f64..1.0, 1..60)) {
        let cubed: Vec<f64> = differences.iter().map(|d| 5.0 * d.powi(3)).collect();
        prop_assert_eq!(wilcoxon(&differences), wilcoxon(&cubed));
    }
}

/// Scans whose prediction lacks the last `lost` slices of a block.
fn evaluation(lost: &[usize], names: &[&str]) -> Evaluation {
    let mut reference = Array3::<u8>::zeros((12, 12, 12));
    reference.slice_mut(s![2..10, 2..10, 2..10]).fill(3);
    let cases: Vec<CaseMetrics> = (lost.iter().zip(names))
        .map(|(&lost, name)| {
            let mut prediction = reference.clone();
            prediction.slice_mut(s![10 - lost.., .., ..]).fill(0);
            evaluate_case(reference.view(), prediction.view(), [1.0; 3]).unwrap().named(*name)
        })
        .collect();
    summarise(&cases, EmptyPolicy::Brats, "internal")
}

#[test]
fn two_predictions_are_compared_on_the_scans_that_both_have() {
    let good = evaluation(&[0, 1, 0, 2, 1, 1], &["a", "b", "c", "d", "e", "only here"]);
    let bad = evaluation(&[2, 5, 3, 3, 8, 4], &["a", "b", "c", "d", "e", "only there"]);
    let found = good.compared_with(&bad, "other", &mut seeded(1));
    assert_eq!(found.with, "other");
    assert_eq!(found.scans, ["a", "b", "c", "d", "e"]);
    assert_eq!(
        (found.only_prediction[0].as_str(), found.only_compare[0].as_str()),
        ("only here", "only there")
    );
    let dice = found.regions.et[&Metric::Dice];
    let (first, second) = (dice.prediction.unwrap(), dice.compare.unwrap());
    assert!((dice.difference.unwrap() - (first - second)).abs() < 1e-12 && first > second);
    let [low, high] = dice.ci95.unwrap();
    assert!(0.0 < low && low <= dice.difference.unwrap() && dice.difference.unwrap() <= high);
    // Five differences of one sign: 2 of the 32 signings are as extreme.
    let test = dice.wilcoxon.unwrap();
    assert!(test.exact && (test.p - 2.0 / 32.0).abs() < 1e-12, "{test:?}");
    let back = bad.compared_with(&good, "good", &mut seeded(1)).regions.et[&Metric::Dice];
    assert_eq!(back.wilcoxon.unwrap().p, test.p);
    assert_eq!(back.difference.unwrap(), -dice.difference.unwrap());
    let same = good.compared_with(&good, "itself", &mut seeded(1)).regions.et[&Metric::Dice];
    assert_eq!((same.n, same.difference, same.ci95, same.wilcoxon), (6, Some(0.0), Some([0.0, 0.0]), None));

    let csv = good.comparison_csv(&bad);
    assert_eq!(csv.lines().count(), 1 + 5 * 3 * Metric::ALL.len());
    assert!(csv.contains("\na,ET,volume_error_ml,0,-0.128,0.128\n"), "{csv}");
    let text = serde_json::to_string(&found).unwrap();
    assert!(text.contains(r#""ET":{"dice":{"n":5,"prediction":"#), "{text}");
    let again: scribseg_metrics::Comparison = serde_json::from_str(&text).unwrap();
    // Numbers that are exact in binary: JSON's others come back to the last digit but one.
    assert_eq!(again.scans, found.scans);
    assert_eq!(
        again.regions.et[&Metric::ScanPrecision].wilcoxon,
        found.regions.et[&Metric::ScanPrecision].wilcoxon
    );
    assert_eq!(again.regions.et[&Metric::Dice].n, 5);
}

#[test]
fn every_mean_has_its_interval() {
    let plain = evaluation(&[0, 1, 3, 2], &["a", "b", "c", "d"]);
    let found = plain.clone().with_intervals(9, &mut seeded(9));
    for (region, summary) in found.regions.named() {
        for metric in Metric::ALL {
            let s = summary.by_scan(metric);
            let (mean, [low, high]) = (s.mean.unwrap(), s.ci95.unwrap());
            assert!(low <= mean && mean <= high, "{region} {}", metric.name());
        }
    }
    assert_eq!(found.intervals.as_ref().map(|i| (i.resamples, i.seed)), Some((RESAMPLES, 9)));
    assert_eq!(found, plain.clone().with_intervals(9, &mut seeded(9)));
    assert_eq!(found.cases, plain.cases);
}
