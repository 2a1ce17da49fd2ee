//! Which scans train and which test: one split, or the folds of a cross-validation.

use std::collections::BTreeMap;

use rand::seq::SliceRandom;
use scribseg_io::{Cohort, Presence};
use serde::{Deserialize, Serialize};

use crate::batches::generator;
use crate::config::Config;
use crate::error::{Error, Result};

/// Which cases train and which test.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Training cases in name order; of a cross-validation, all that train in some fold.
    pub train: Vec<String>,
    /// Held-out cases in name order; only cases with a reference are held out.
    pub test: Vec<String>,
    /// The folds of a cross-validation: every case of `test` is held out in one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folds: Vec<Split>,
}

/// What folds are to have alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Stratum {
    /// The case.
    pub id: String,
    /// Which sub-structures it has.
    pub presence: Presence,
    /// Volume of the whole tumour in ml, where a reference tells it; cases without one are never held out.
    pub tumour_ml: Option<f64>,
}

impl Split {
    /// A seeded random split: `1 − train_fraction` of the cases with a reference are held out, at least one and never
    /// all of the cohort.
    pub fn draw(cases: &[(String, bool)], train_fraction: f64, seed: u64) -> Self {
        let mut with_reference: Vec<&String> = cases.iter().filter(|c| c.1).map(|c| &c.0).collect();
        with_reference.shuffle(&mut generator(seed, "split", 0));
        let wanted = (with_reference.len() as f64 * (1.0 - train_fraction)).round() as usize;
        let held = wanted.clamp(1, cases.len().saturating_sub(1).max(1)).min(with_reference.len());
        let test: Vec<String> = with_reference.into_iter().take(held).cloned().collect();
        Self::holding_out(test, cases.iter().map(|c| &c.0))
    }

    /// The one split of a cohort: the cases of `input.held_out`, or a draw by `input.train_fraction`.
    ///
    /// # Errors
    /// Cases to hold out that are not there, have no reference, or leave none to train on.
    pub fn of(cohort: &Cohort, config: &Config) -> Result<Self> {
        if !config.input.held_out.is_empty() {
            return Self::held_out(cohort, &config.input.held_out);
        }
        let cases: Vec<_> = cohort.cases.iter().map(|c| (c.id.clone(), c.reference.is_some())).collect();
        Ok(Self::draw(&cases, config.input.train_fraction, config.seed))
    }

    /// The split that holds out these cases.
    fn held_out(cohort: &Cohort, ids: &[String]) -> Result<Split> {
        let lacks = |id: &&String| !cohort.cases.iter().any(|c| &&c.id == id && c.reference.is_some());
        if let Some(id) = ids.iter().find(lacks) {
            return Err(Error::Config(format!(
                "key `input.held_out`: expected cases with a reference to measure them by, found `{id}`, which {} has not",
                cohort.root.display()
            )));
        }
        let split = Split::holding_out(ids.to_vec(), cohort.cases.iter().map(|c| &c.id));
        if split.train.is_empty() {
            return Err(Error::Config(
                "key `input.held_out`: expected a case that is left to train on, found none".into(),
            ));
        }
        Ok(split)
    }

    /// `test` held out, all others in training.
    pub(crate) fn holding_out<'a>(mut test: Vec<String>, cases: impl Iterator<Item = &'a String>) -> Self {
        let mut train: Vec<String> = cases.filter(|id| !test.contains(id)).cloned().collect();
        test.sort();
        train.sort();
        Self { train, test, folds: Vec::new() }
    }

    /// `folds` seeded, stratified folds: every case with a reference is held out in one of them. The folds' sizes differ
    /// by at most one, and so do their numbers of cases of each presence pattern; within a pattern, cases of like tumour
    /// volume are spread over the folds.
    ///
    /// Each pattern's cases are ranked by volume and taken in blocks of one a fold, each block dealt out in random order,
    /// the last, incomplete one to the folds that have the fewest.
    ///
    /// # Errors
    /// [`Error::Config`] below two folds, or with more folds than cases with a reference.
    pub fn stratified(cases: &[Stratum], folds: usize, seed: u64) -> Result<Self> {
        let held_out: Vec<&Stratum> = cases.iter().filter(|c| c.tumour_ml.is_some()).collect();
        if held_out.len() < 2 {
            return Err(Error::Config(format!(
                "key `input.folds`: expected at least 2 cases with a reference, which folds hold out, found {}; add references, or leave `--folds` out",
                held_out.len()
            )));
        }
        if folds < 2 || folds > held_out.len() {
            return Err(Error::Config(format!(
                "key `input.folds`: expected 2 to {}, the number of cases with a reference, found {folds}; every fold holds some of these out",
                held_out.len()
            )));
        }
        let mut patterns: BTreeMap<[Option<bool>; 3], Vec<&Stratum>> = BTreeMap::new();
        for case in held_out {
            let Presence { ed, et, ncr } = case.presence;
            patterns.entry([ed, et, ncr]).or_default().push(case);
        }
        let mut generator = generator(seed, "folds", 0);
        let mut tests: Vec<Vec<String>> = vec![Vec::new(); folds];
        for cases in patterns.values_mut() {
            cases.sort_by(|a, b| {
                let ml = |case: &Stratum| case.tumour_ml.unwrap_or(0.0);
                ml(b).total_cmp(&ml(a)).then_with(|| a.id.cmp(&b.id))
            });
            for block in cases.chunks(folds) {
                let mut order: Vec<usize> = (0..folds).collect();
                order.shuffle(&mut generator);
                // Stable: folds of one size stay in random order.
                order.sort_by_key(|&fold| tests[fold].len());
                // A whole block gives every fold one; who gets the largest is left to chance, not to the folds' sizes.
                if block.len() == folds {
                    order.shuffle(&mut generator);
                }
                for (&fold, case) in order.iter().zip(block) {
                    tests[fold].push(case.id.clone());
                }
            }
        }
        let ids = || cases.iter().map(|case| &case.id);
        let mut whole = Self::holding_out(Vec::new(), ids());
        whole.test = tests.iter().flatten().cloned().collect();
        whole.test.sort();
        whole.folds = tests.into_iter().map(|test| Self::holding_out(test, ids())).collect();
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_is_seeded_disjoint_and_holds_out_cases_with_a_reference_only() {
        let cases: Vec<_> = (0..10).map(|i| (format!("c{i}"), i != 3)).collect();
        let split = Split::draw(&cases, 0.7, 1);
        assert_eq!(split, Split::draw(&cases, 0.7, 1));
        assert_eq!((split.train.len(), split.test.len()), (7, 3));
        assert!(split.test.iter().all(|t| !split.train.contains(t) && t != "c3"));
        assert!((2..9).any(|seed| Split::draw(&cases, 0.7, seed) != split));
    }

    /// Cases of three presence patterns with volumes of a wide range; every ninth has no reference.
    fn cohort(count: usize) -> Vec<Stratum> {
        (0..count)
            .map(|i| Stratum {
                id: format!("c{i:03}"),
                presence: Presence {
                    ed: Some(true),
                    et: Some(i % 5 != 0),
                    ncr: (i % 7 != 0).then_some(i % 3 == 0),
                },
                tumour_ml: (i % 9 != 8).then_some((i * 37 % 101) as f64),
            })
            .collect()
    }

    #[test]
    fn folds_hold_every_case_with_a_reference_out_once() {
        for (count, folds) in [(12, 5), (57, 5), (100, 3), (9, 8)] {
            for seed in 0..5 {
                let cases = cohort(count);
                let split = Split::stratified(&cases, folds, seed).unwrap();
                assert_eq!(split, Split::stratified(&cases, folds, seed).unwrap());
                assert_eq!(split.folds.len(), folds);
                let mut held: Vec<_> = split.folds.iter().flat_map(|f| f.test.clone()).collect();
                held.sort();
                let expected: Vec<_> =
                    cases.iter().filter(|c| c.tumour_ml.is_some()).map(|c| c.id.clone()).collect();
                assert_eq!(held, expected);
                assert_eq!(split.test, expected);
                assert_eq!(split.train.len(), count);
                for fold in &split.folds {
                    assert!(fold.test.iter().all(|id| !fold.train.contains(id)));
                    assert_eq!(fold.test.len() + fold.train.len(), count);
                }
            }
        }
        let other = |seed| Split::stratified(&cohort(57), 5, seed).unwrap();
        assert!((1..9).any(|seed| other(seed) != other(0)));
    }

    #[test]
    fn folds_are_alike_in_size_presence_and_volume() {
        let cases = cohort(120);
        for seed in 0..5 {
            let split = Split::stratified(&cases, 5, seed).unwrap();
            let spread = |counts: &[usize]| counts.iter().max().unwrap() - counts.iter().min().unwrap();
            let count = |wanted: &dyn Fn(&Stratum) -> bool| -> Vec<usize> {
                let of =
                    |fold: &Split| cases.iter().filter(|c| fold.test.contains(&c.id) && wanted(c)).count();
                split.folds.iter().map(of).collect()
            };
            assert!(spread(&count(&|_| true)) <= 1);
            for case in &cases {
                assert!(spread(&count(&|c| c.presence == case.presence)) <= 1);
            }
            // Volumes run from 0 to 100 with a mean near 50: a random split of this size strays by 6 and more.
            for fold in &split.folds {
                let volumes: Vec<f64> =
                    cases.iter().filter(|c| fold.test.contains(&c.id)).filter_map(|c| c.tumour_ml).collect();
                let mean = volumes.iter().sum::<f64>() / volumes.len() as f64;
                assert!((mean - 50.0).abs() < 6.0, "seed {seed}: {mean}");
            }
        }
    }

    #[test]
    fn more_folds_than_cases_with_a_reference_are_refused() {
        for folds in [0, 1, 9] {
            let message = Split::stratified(&cohort(9), folds, 0).unwrap_err().to_string();
            assert!(message.contains("2 to 8") && message.contains(&format!("found {folds}")), "{message}");
        }
    }
}
