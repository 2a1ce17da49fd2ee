//! Laws of the metrics, the policy, the formats and the errors.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use ndarray::{Array3, s};
use proptest::prelude::*;
use scribseg_metrics::{
    CaseMetrics, EmptyPolicy, Error, Evaluation, HD95_PENALTY_MM, LESION_PENALTY_MM, LesionParams, Metric,
    Summary, dice, evaluate_case, hd95, hd95_by_area, lesion_scores, precision, recall, summarise,
};

fn masks() -> impl Strategy<Value = (Array3<bool>, Array3<bool>)> {
    (1usize..5, 1usize..8, 1usize..8).prop_flat_map(|shape| {
        let len = shape.0 * shape.1 * shape.2;
        let mask = move || {
            prop::collection::vec(prop::bool::weighted(0.3), len)
                .prop_map(move |v| Array3::from_shape_vec(shape, v).unwrap())
        };
        (mask(), mask())
    })
}

proptest! {
    #[test]
    fn dice_and_hd95_are_symmetric((a, b) in masks()) {
        prop_assert_eq!(dice(a.view(), b.view()).unwrap(), dice(b.view(), a.view()).unwrap());
        let spacing = [3.0, 0.7, 1.1];
        prop_assert_eq!(hd95(a.view(), b.view(), spacing).unwrap(), hd95(b.view(), a.view(), spacing).unwrap());
        let by_area = |a: &Array3<bool>, b: &Array3<bool>| hd95_by_area(a.view(), b.view(), spacing).unwrap();
        prop_assert_eq!(by_area(&a, &b), by_area(&b, &a));
    }

    #[test]
    fn changing_places_swaps_precision_and_recall((a, b) in masks()) {
        let (a, b) = (a.view(), b.view());
        prop_assert_eq!(precision(a, b).unwrap(), recall(b, a).unwrap());
        prop_assert_eq!(recall(a, b).unwrap(), precision(b, a).unwrap());
    }

    #[test]
    fn nothing_depends_on_how_the_volume_lies((a, b) in masks(), flips in 0usize..8, turn in 0usize..6) {
        let axes = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]][turn];
        let spacing = [3.0, 0.7, 1.1];
        let lay = |mask: &Array3<bool>| {
            let mut mask = mask.view().permuted_axes(axes);
            (0..3).filter(|axis| flips >> axis & 1 == 1).for_each(|axis| mask.invert_axis(ndarray::Axis(axis)));
            mask.as_standard_layout().into_owned()
        };
        let (c, d) = (lay(&a), lay(&b));
        let laid = axes.map(|axis| spacing[axis]);
        prop_assert_eq!(dice(a.view(), b.view()).unwrap(), dice(c.view(), d.view()).unwrap());
        let near = |x: Option<f64>, y: Option<f64>| match (x, y) {
            (Some(x), Some(y)) => (x - y).abs() < 1e-9,
            _ => x == y,
        };
        prop_assert!(near(
            hd95(a.view(), b.view(), spacing).unwrap(),
            hd95(c.view(), d.view(), laid).unwrap()
        ));
        prop_assert!(near(
            hd95_by_area(a.view(), b.view(), spacing).unwrap(),
            hd95_by_area(c.view(), d.view(), laid).unwrap()
        ));
        let params = LesionParams { dilation: 1, min_volume_mm3: 3.0 };
        let one = lesion_scores(a.view(), b.view(), spacing, &params).unwrap();
        let other = lesion_scores(c.view(), d.view(), laid, &params).unwrap();
        prop_assert_eq!(one.map(|l| l.counts()), other.map(|l| l.counts()));
        prop_assert!(near(one.map(|l| l.dice), other.map(|l| l.dice)));
        prop_assert!(near(one.map(|l| l.hd95), other.map(|l| l.hd95)));
    }

    #[test]
    fn hd95_scales_with_the_spacing((a, b) in masks(), factor in 0.1f64..10.0) {
        let one = hd95(a.view(), b.view(), [3.0, 0.7, 1.1]).unwrap();
        let many = hd95(a.view(), b.view(), [3.0 * factor, 0.7 * factor, 1.1 * factor]).unwrap();
        match (one, many) {
            (Some(one), Some(many)) => prop_assert!((one * factor - many).abs() <= 1e-9 * many.max(1.0)),
            _ => prop_assert_eq!(one, many),
        }
        let one = hd95_by_area(a.view(), b.view(), [3.0, 0.7, 1.1]).unwrap();
        let many = hd95_by_area(a.view(), b.view(), [3.0 * factor, 0.7 * factor, 1.1 * factor]).unwrap();
        match (one, many) {
            (Some(one), Some(many)) => prop_assert!((one * factor - many).abs() <= 1e-9 * many.max(1.0)),
            _ => prop_assert_eq!(one, many),
        }
    }

    #[test]
    fn padding_with_background_changes_nothing((a, b) in masks()) {
        let pad = |m: &Array3<bool>| {
            let (d, h, w) = m.dim();
            let mut out = Array3::from_elem((d + 2, h + 3, w + 4), false);
            out.slice_mut(s![1..=d, 2..h + 2, 1..=w]).assign(m);
            out
        };
        let spacing = [2.0, 1.0, 1.0];
        prop_assert_eq!(
            hd95(a.view(), b.view(), spacing).unwrap(),
            hd95(pad(&a).view(), pad(&b).view(), spacing).unwrap()
        );
        prop_assert_eq!(dice(a.view(), b.view()).unwrap(), dice(pad(&a).view(), pad(&b).view()).unwrap());
    }

    #[test]
    fn a_mask_agrees_with_itself((a, _) in masks()) {
        let params = LesionParams { min_volume_mm3: 0.0, ..LesionParams::default() };
        let full = a.iter().any(|&v| v);
        prop_assert_eq!(dice(a.view(), a.view()).unwrap(), full.then_some(1.0));
        prop_assert_eq!(hd95(a.view(), a.view(), [1.0; 3]).unwrap(), full.then_some(0.0));
        let scores = lesion_scores(a.view(), a.view(), [1.0; 3], &params).unwrap();
        prop_assert_eq!(scores.map(|l| (l.missed, l.spurious)), full.then_some((0, 0)));
    }
}

fn volume(blocks: &[([usize; 3], [usize; 3], u8)]) -> Array3<u8> {
    let mut out = Array3::zeros((10, 20, 40));
    for &([z0, y0, x0], [z1, y1, x1], label) in blocks {
        out.slice_mut(s![z0..z1, y0..y1, x0..x1]).fill(label);
    }
    out
}

fn case(id: &str, reference: &Array3<u8>, prediction: &Array3<u8>) -> CaseMetrics {
    evaluate_case(reference.view(), prediction.view(), [1.0; 3]).unwrap().named(id)
}

/// One right case, one whose prediction has no ET, one whose reference has none, one where both have none.
fn four_cases() -> Vec<CaseMetrics> {
    let with = volume(&[([2, 2, 2], [8, 12, 12], 2), ([4, 4, 4], [8, 8, 8], 3)]);
    let without = volume(&[([2, 2, 2], [8, 12, 12], 2)]);
    vec![
        case("right", &with, &with),
        case("missed", &with, &without),
        case("spurious", &without, &with),
        case("none, \"quoted\"", &without, &without),
    ]
}

#[test]
fn the_brats_policy_scores_empty_masks() {
    let evaluation = summarise(&four_cases(), EmptyPolicy::Brats, "BraTS 2017");
    let et = evaluation.regions.et;
    assert_eq!((et.dice.mean, et.dice.n, et.dice.empty), (Some(0.5), 4, 3));
    assert_eq!((et.hd95.mean, et.hd95.median), (Some(HD95_PENALTY_MM / 2.0), Some(HD95_PENALTY_MM / 2.0)));
    assert_eq!(et.lesion_dice.mean, Some(0.5));
    assert_eq!(et.lesion_hd95.mean, Some(LESION_PENALTY_MM / 2.0));
    // Sample deviation of 1, 0, 0, 1.
    assert!((et.dice.std.unwrap() - (1.0f64 / 3.0).sqrt()).abs() < 1e-12);
    // Pooled over voxels: 64 right, 64 missed, 64 spurious.
    assert_eq!((et.precision, et.recall), (Some(0.5), Some(0.5)));
    assert_eq!(et.pooled.dice, Some(0.5));
    assert_eq!((et.pooled.volume_error_ml, et.pooled.relative_volume_error), (0.0, Some(0.0)));
    let lesions = et.pooled.lesions;
    assert_eq!((lesions.reference, lesions.missed, lesions.spurious), (2, 1, 1));
    // 64 mm³ too few, as many too many, twice none; relative to nothing there is no error but that of nothing.
    assert_eq!((et.volume_error_ml.mean, et.volume_error_ml.n), (Some(0.0), 4));
    assert_eq!(et.absolute_volume_error_ml.mean, Some(0.032));
    assert_eq!((et.relative_volume_error.mean, et.relative_volume_error.n), (Some(-1.0 / 3.0), 3));
    assert_eq!((et.absolute_relative_volume_error.mean, et.scan_recall.mean), (Some(1.0 / 3.0), Some(0.5)));
    let wt = evaluation.regions.wt;
    assert_eq!((wt.dice.mean, wt.dice.std, wt.dice.empty), (Some(1.0), Some(0.0), 0));
}

#[test]
fn the_skip_policy_leaves_undefined_values_out() {
    let evaluation = summarise(&four_cases(), EmptyPolicy::Skip, "BraTS 2017");
    let et = evaluation.regions.et;
    // The missed ET is a Dice of 0; scans without ET do not count.
    assert_eq!((et.dice.mean, et.dice.n, et.dice.empty), (Some(0.5), 2, 3));
    assert_eq!((et.hd95.mean, et.hd95.n, et.hd95.std), (Some(0.0), 1, None));
    assert_eq!((et.lesion_dice.mean, et.lesion_dice.n), (Some(0.5), 2));
    assert_eq!((et.volume_error_ml.mean, et.volume_error_ml.n), (Some(-0.032), 2));
    assert_eq!((et.relative_volume_error.mean, et.relative_volume_error.n), (Some(-0.5), 2));
}

#[test]
fn lesions_are_counted() {
    // Two lesions 6 voxels apart are one under three dilations; one 9 voxels on is another; a speck does not count.
    let reference = volume(&[
        ([2, 2, 1], [8, 8, 5], 3),
        ([2, 2, 11], [8, 8, 15], 3),
        ([2, 2, 24], [8, 8, 28], 3),
        ([9, 19, 39], [10, 20, 40], 3),
    ]);
    // The middle block is found, and something that is not there.
    let prediction = volume(&[([2, 2, 11], [8, 8, 15], 3), ([0, 17, 20], [2, 19, 22], 3)]);
    let (r, p) = (reference.mapv(|v| v > 0), prediction.mapv(|v| v > 0));
    let l = lesion_scores(r.view(), p.view(), [1.0; 3], &LesionParams::default()).unwrap().unwrap();
    assert_eq!((l.reference, l.missed, l.spurious, l.ignored), (2, 1, 1, 1));
    // Half of the first lesion: Dice 2·144 / (288 + 144) = 2/3, then two zeros.
    assert!((l.dice - 2.0 / 9.0).abs() < 1e-12);
    let params = LesionParams { dilation: 2, min_volume_mm3: 0.0 };
    let l = lesion_scores(r.view(), p.view(), [1.0; 3], &params).unwrap().unwrap();
    assert_eq!((l.reference, l.missed, l.spurious, l.ignored), (4, 3, 1, 0));
}

#[test]
fn a_speck_alone_is_nothing_to_score() {
    let speck = volume(&[([1, 1, 1], [2, 2, 2], 3)]);
    let found = case("speck", &speck, &speck);
    let lost = case("lost", &speck, &volume(&[]));
    assert!(found.et.lesions.is_none() && lost.et.lesions.is_none());
    let brats = summarise(&[found.clone(), lost.clone()], EmptyPolicy::Brats, "x");
    assert_eq!(brats.regions.et.lesion_dice.mean, Some(1.0));
    assert_eq!(brats.regions.et.dice.mean, Some(0.5));
    let skip = summarise(&[found, lost], EmptyPolicy::Skip, "x");
    assert_eq!(skip.regions.et.lesion_dice.n, 0);
}

#[test]
fn metrics_json_has_the_declared_shape() {
    let evaluation = summarise(&four_cases(), EmptyPolicy::Skip, "BraTS 2017");
    let text = serde_json::to_string(&evaluation).unwrap();
    assert!(text.starts_with(r#"{"label_scheme":"BraTS 2017","empty_policy":"skip","regions":{"WT":{"dice":{"mean":1.0,"median":1.0,"std":0.0,"n":4,"empty":0,"ci95":null},"precision":1.0,"recall":1.0,"hd95":{"mean":0.0,"#), "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let keys = |v: &serde_json::Value| {
        let mut keys: Vec<String> = v.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&json), ["cases", "empty_policy", "label_scheme", "regions"]);
    for region in ["WT", "TC", "ET"] {
        let figures = &json["regions"][region];
        assert_eq!(
            keys(figures),
            [
                "absolute_relative_volume_error",
                "absolute_volume_error_ml",
                "dice",
                "hd95",
                "lesion_dice",
                "lesion_hd95",
                "pooled",
                "precision",
                "recall",
                "relative_volume_error",
                "scan_precision",
                "scan_recall",
                "volume_error_ml"
            ]
        );
        assert_eq!(keys(&figures["hd95"]), ["ci95", "empty", "mean", "median", "n", "std"]);
        for metric in Metric::ALL {
            assert_eq!(keys(&figures[metric.name()]), ["ci95", "empty", "mean", "median", "n", "std"]);
        }
    }
    assert_eq!(keys(&json["cases"][0]), ["ET", "TC", "WT", "id"]);
    assert_eq!(json["cases"][2]["id"], "spurious");
    assert!(json["cases"][2]["ET"]["dice"].is_null());
    assert_eq!(json["cases"][2]["ET"]["empty"], "reference");
    assert!(json["cases"][0]["ET"]["empty"].is_null());
    assert!(!text.contains("NaN"));
    let back: Evaluation = serde_json::from_str(&text).unwrap();
    assert_eq!(back, evaluation);
}

#[test]
fn nothing_to_summarise_is_null_and_not_nan() {
    let evaluation = summarise(&[], EmptyPolicy::Brats, "BraTS 2017");
    assert_eq!(evaluation.regions.wt.dice, Summary::default());
    let text = serde_json::to_string(&evaluation).unwrap();
    assert!(text.contains(
        r#""dice":{"mean":null,"median":null,"std":null,"n":0,"empty":0,"ci95":null},"precision":null"#
    ));
    assert_eq!(Summary::of([Some(f64::NAN), Some(2.0), Some(4.0), None], 1).mean, Some(3.0));
}

#[test]
fn csv_has_a_row_a_case_and_region() {
    let csv = summarise(&four_cases(), EmptyPolicy::Skip, "BraTS 2017").to_csv();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 1 + 4 * 3);
    assert!(lines[0].starts_with("case,region,dice,precision,recall,hd95_mm,lesion_dice"));
    assert!(lines.iter().all(|line| line.split(',').count() == 21 || line.starts_with('"')));
    assert_eq!(lines[1], "right,WT,1,1,1,0,1,0,0.6,0.6,600,0,0,7400,,0,0,1,0,0,0");
    assert_eq!(lines[6], "missed,ET,0,,0,,0,374,0.064,0,0,0,64,7936,prediction,-0.064,-1,1,1,0,0");
    assert_eq!(lines[9], "spurious,ET,,,,,,,0,0.064,0,64,0,7936,reference,,,0,0,1,0");
    assert!(lines[12].starts_with("\"none, \"\"quoted\"\"\",ET,,,") && lines[12].ends_with(",both,,,,,,"));
}

#[test]
fn faulty_inputs_are_told() {
    let (a, b) = (Array3::<u8>::zeros((2, 3, 4)), Array3::<u8>::zeros((2, 3, 5)));
    let error = evaluate_case(a.view(), b.view(), [1.0; 3]).unwrap_err();
    assert!(error.to_string().contains("[2, 3, 4]") && error.to_string().contains("[2, 3, 5]"), "{error}");
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = evaluate_case(a.view(), a.view(), [1.0, bad, 1.0]).unwrap_err();
        assert!(matches!(error, Error::Spacing { axis: 1, .. }), "{error}");
    }
    let mut labels = a.clone();
    labels[[1, 2, 3]] = 4;
    let error = evaluate_case(a.view(), labels.view(), [1.0; 3]).unwrap_err();
    assert!(error.to_string().contains("prediction holds label 4"), "{error}");
    let mask = a.mapv(|v| v > 0);
    let params = LesionParams { min_volume_mm3: f64::NAN, ..LesionParams::default() };
    assert!(matches!(lesion_scores(mask.view(), mask.view(), [1.0; 3], &params), Err(Error::Volume { .. })));
    let empty = Array3::<u8>::zeros((0, 4, 4));
    assert!(evaluate_case(empty.view(), empty.view(), [1.0; 3]).unwrap().wt.hd95.is_none());
}
