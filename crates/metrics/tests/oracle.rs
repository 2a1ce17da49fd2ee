//! Fifty random and degenerate pairs against an independent Python implementation (tests/fixtures/make_fixtures.py).
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use ndarray::{Array3, ShapeBuilder};
use scribseg_metrics::{
    EmptyPolicy, LesionParams, RegionMetrics, dice, evaluate_case, hd95, lesion_dice, lesion_scores,
    precision, recall, summarise,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Pair {
    shape: [usize; 3],
    spacing: [f64; 3],
    reference: String,
    prediction: String,
    #[serde(rename = "WT")]
    wt: Expected,
    #[serde(rename = "TC")]
    tc: Expected,
    #[serde(rename = "ET")]
    et: Expected,
}

#[derive(Deserialize)]
struct Expected {
    dice: Option<f64>,
    precision: Option<f64>,
    recall: Option<f64>,
    hd95: Option<f64>,
    lesions: Option<ExpectedLesions>,
    reference_ml: f64,
    prediction_ml: f64,
    volume_error_ml: f64,
    relative_volume_error: Option<f64>,
}

#[derive(Deserialize)]
struct ExpectedLesions {
    dice: f64,
    hd95: f64,
    reference: usize,
    missed: usize,
    spurious: usize,
    ignored: usize,
}

fn pairs() -> Vec<Pair> {
    serde_json::from_str(include_str!("fixtures/pairs.json")).unwrap()
}

/// "12a3c" is twelve voxels of code 0, then three of code 2.
fn decode(shape: [usize; 3], text: &str) -> Array3<u8> {
    let (mut out, mut run) = (Vec::new(), 0usize);
    for c in text.chars() {
        match c.to_digit(10) {
            Some(digit) => run = run * 10 + digit as usize,
            None => {
                out.extend(std::iter::repeat_n(c as u8 - b'a', run));
                run = 0;
            }
        }
    }
    Array3::from_shape_vec(shape, out).unwrap()
}

#[track_caller]
fn same(what: &str, ours: Option<f64>, theirs: Option<f64>) {
    match (ours, theirs) {
        (Some(a), Some(b)) => assert!((a - b).abs() < 1e-6, "{what}: {a} ours, {b} expected"),
        _ => assert_eq!(ours, theirs, "{what}"),
    }
}

fn check(what: &str, ours: &RegionMetrics, theirs: &Expected) {
    same(&format!("{what} dice"), ours.confusion.dice(), theirs.dice);
    same(&format!("{what} precision"), ours.confusion.precision(), theirs.precision);
    same(&format!("{what} recall"), ours.confusion.recall(), theirs.recall);
    same(&format!("{what} hd95"), ours.hd95, theirs.hd95);
    same(&format!("{what} reference ml"), Some(ours.reference_ml), Some(theirs.reference_ml));
    same(&format!("{what} prediction ml"), Some(ours.prediction_ml), Some(theirs.prediction_ml));
    let (ours, theirs) = (&ours.lesions, &theirs.lesions);
    same(&format!("{what} lesion dice"), ours.as_ref().map(|l| l.dice), theirs.as_ref().map(|l| l.dice));
    same(&format!("{what} lesion hd95"), ours.as_ref().map(|l| l.hd95), theirs.as_ref().map(|l| l.hd95));
    assert_eq!(
        ours.as_ref().map(|l| [l.reference, l.missed, l.spurious, l.ignored]),
        theirs.as_ref().map(|l| [l.reference, l.missed, l.spurious, l.ignored]),
        "{what} lesions"
    );
}

#[test]
fn fifty_pairs_agree_with_scipy() {
    let pairs = pairs();
    assert_eq!(pairs.len(), 50);
    for (i, pair) in pairs.iter().enumerate() {
        let reference = decode(pair.shape, &pair.reference);
        let prediction = decode(pair.shape, &pair.prediction);
        let case = evaluate_case(reference.view(), prediction.view(), pair.spacing).unwrap();
        for (name, ours, theirs) in
            [("WT", &case.wt, &pair.wt), ("TC", &case.tc, &pair.tc), ("ET", &case.et, &pair.et)]
        {
            check(&format!("pair {i} {name}"), ours, theirs);
            let c = ours.confusion;
            let total = c.true_positive + c.false_positive + c.false_negative + c.true_negative;
            assert_eq!(total as usize, reference.len());
        }
    }
}

#[test]
fn single_functions_and_foreign_memory_order_agree_with_scipy() {
    for (i, pair) in pairs().iter().enumerate() {
        let labels = decode(pair.shape, &pair.reference);
        // The same mask in Fortran order: results must not depend on the layout of a view.
        let mut reference = Array3::from_elem(pair.shape.f(), false);
        reference.zip_mut_with(&labels, |mask, &v| *mask = v > 0);
        let prediction = decode(pair.shape, &pair.prediction).mapv(|v| v > 0);
        let (r, p, params) = (reference.view(), prediction.view(), LesionParams::default());
        same(&format!("pair {i}"), dice(r, p).unwrap(), pair.wt.dice);
        same(&format!("pair {i}"), precision(r, p).unwrap(), pair.wt.precision);
        same(&format!("pair {i}"), recall(r, p).unwrap(), pair.wt.recall);
        same(&format!("pair {i}"), hd95(r, p, pair.spacing).unwrap(), pair.wt.hd95);
        let expected = pair.wt.lesions.as_ref().map(|l| l.dice);
        same(&format!("pair {i}"), lesion_dice(r, p, pair.spacing, &params).unwrap(), expected);
        let scores = lesion_scores(r, p, pair.spacing, &params).unwrap();
        same(&format!("pair {i}"), scores.map(|l| l.hd95), pair.wt.lesions.as_ref().map(|l| l.hd95));
    }
}

#[test]
fn volume_errors_agree_with_numpy() {
    for (i, pair) in pairs().iter().enumerate() {
        let reference = decode(pair.shape, &pair.reference);
        let prediction = decode(pair.shape, &pair.prediction);
        let case = evaluate_case(reference.view(), prediction.view(), pair.spacing).unwrap();
        let evaluation = summarise(&[case], EmptyPolicy::Brats, "internal");
        for ((name, ours), theirs) in
            evaluation.cases[0].regions.named().into_iter().zip([&pair.wt, &pair.tc, &pair.et])
        {
            same(&format!("pair {i} {name} ml"), ours.volume_error_ml, Some(theirs.volume_error_ml));
            // Two empty masks have no error under this policy; what NumPy divides by is 0.
            let both = theirs.reference_ml == 0.0 && theirs.prediction_ml == 0.0;
            let relative = if both { Some(0.0) } else { theirs.relative_volume_error };
            same(&format!("pair {i} {name} relative"), ours.relative_volume_error, relative);
        }
    }
}
