//! The mixture against its second implementation in NumPy and SciPy, and what it does at the edges.
#![allow(clippy::unwrap_used)]

use ndarray::{Array3, Array4, Axis, Slice};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scribseg_cluster::{
    Clustering, ED, ET, Error, Input, Learner, Method, Mixture, NCR, Presence, Prior, method, mixture,
};
use serde::Deserialize;

const ALL: Presence = Presence { ncr: Some(true), ed: Some(true), et: Some(true) };

#[derive(Deserialize)]
struct Fixture {
    shape: [usize; 3],
    spacing: [f64; 3],
    /// NCR/NET, ED, ET.
    present: [bool; 3],
    /// Hundredths, of the tumour's voxels alone, a modality after the other.
    image: Vec<i32>,
    labels: String,
}

#[test]
fn labels_are_those_of_the_second_implementation() {
    let cases: Vec<Fixture> = serde_json::from_str(include_str!("fixtures/mixture.json")).unwrap();
    assert_eq!(cases.len(), 5);
    for (i, case) in cases.iter().enumerate() {
        let [z, y, x] = case.shape;
        let expected =
            Array3::from_shape_vec(case.shape, case.labels.bytes().map(|b| b - b'0').collect()).unwrap();
        let wt = expected.mapv(|l| l != 0);
        // What is outside must not matter.
        let mut image = Array4::from_elem((4, z, y, x), 7.0f32);
        let mut values = case.image.iter().map(|&v| (f64::from(v) / 100.0) as f32);
        for mut volume in image.axis_iter_mut(Axis(0)) {
            for (v, _) in volume.iter_mut().zip(&wt).filter(|(_, inside)| **inside) {
                *v = values.next().unwrap();
            }
        }
        let [ncr, ed, et] = case.present.map(Some);
        let presence = Presence { ncr, ed, et };
        let found =
            mixture(image.view(), wt.view(), presence, case.spacing, Prior::phantoms().unwrap()).unwrap();
        let all = wt.iter().filter(|inside| **inside).count();
        let other = found.labels.iter().zip(&expected).filter(|(a, b)| a != b).count();
        // Single precision in the smoothing may turn a voxel that is undecided.
        assert!(other * 500 <= all, "case {i}: {other} of {all} voxels differ");
        assert_eq!((found.k, found.features), (case.present.iter().filter(|p| **p).count(), 7));
    }
}

#[test]
fn voxels_of_no_scanner_are_refused() {
    let (image, labels) = shells(3, 12);
    let wt = labels.mapv(|l| l != 0);
    for bad in [1e-300, 1e-5, 0.0, -1.0, 51.0, f64::NAN, f64::INFINITY] {
        let spacing = [1.0, bad, 1.0];
        let found = mixture(image.view(), wt.view(), ALL, spacing, Prior::phantoms().unwrap());
        assert!(matches!(found, Err(Error::Spacing { .. })), "{bad}");
    }
}

/// A lumpy tumour of three shells, with its labels.
fn shells(seed: u64, side: usize) -> (Array4<f32>, Array3<u8>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let half = side as f64 / 2.0;
    let wobble = [0; 6].map(|_| rng.random_range(0.5..2.0));
    let depth = |[z, y, x]: [usize; 3]| {
        let at = [z, y, x].map(|i| i as f64 + 0.5 - half);
        let lump = (at[0] / wobble[0]).sin() + (at[1] / wobble[1]).sin() + (at[2] / wobble[2]).cos();
        (at.iter().map(|d| d * d).sum::<f64>().sqrt() + 0.4 * lump) / half
    };
    let image = Array4::from_shape_fn((4, side, side, side), |(m, z, y, x)| {
        let mean = match depth([z, y, x]) {
            d if d < 0.45 => [-0.2, -0.1, 1.8, 1.9][m],
            d if d < 0.65 => [0.4, 2.6, 1.2, 2.1][m],
            _ => [0.2, 0.0, 0.8, 1.8][m],
        };
        (mean + 1.2 * (rng.random::<f64>() - 0.5)) as f32
    });
    let label = |(z, y, x)| match depth([z, y, x]) {
        d if d < 0.45 => NCR,
        d if d < 0.65 => ET,
        d if d < 0.95 => ED,
        _ => 0,
    };
    (image, Array3::from_shape_fn((side, side, side), label))
}

fn tumour(seed: u64, side: usize) -> (Array4<f32>, Array3<bool>) {
    let (image, labels) = shells(seed, side);
    (image, labels.mapv(|l| l != 0))
}

fn divided(image: &Array4<f32>, wt: &Array3<bool>, presence: Presence) -> Clustering {
    let input = Input { modalities: image.view(), wt: wt.view(), presence, spacing: [2.0; 3] };
    method("mixture").unwrap().divide(&input, 1).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_voxel_of_the_tumour_gets_a_structure_that_may_be_there(
        seed in 0u64..1000, side in 1usize..14, known in prop::array::uniform3(prop::option::of(any::<bool>()))
    ) {
        let presence = Presence { ncr: known[0], ed: known[1], et: known[2] };
        let (image, wt) = tumour(seed, side);
        let allowed = presence.structures();
        let input = Input { modalities: image.view(), wt: wt.view(), presence, spacing: [2.0, 1.0, 1.5] };
        match Mixture.divide(&input, seed) {
            Ok(found) => {
                for (label, inside) in found.labels.iter().zip(&wt) {
                    let fits = if *inside { allowed.contains(label) } else { *label == 0 };
                    prop_assert!(fits, "label {}", label);
                }
                prop_assert!(found.inertia.is_finite() && found.inertia >= 0.0);
            }
            Err(Error::NothingPresent { voxels }) => prop_assert!(allowed.is_empty() && voxels > 0),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn a_mirrored_scan_gets_mirrored_labels(seed in 0u64..1000, axis in 1usize..4) {
        let (mut image, mut wt) = tumour(seed, 13);
        let mut there = divided(&image, &wt, ALL).labels;
        image.invert_axis(Axis(axis));
        wt.invert_axis(Axis(axis - 1));
        there.invert_axis(Axis(axis - 1));
        let here = divided(&image.as_standard_layout().into_owned(), &wt.as_standard_layout().into_owned(), ALL).labels;
        let other = here.iter().zip(&there).filter(|(a, b)| a != b).count();
        prop_assert!(other <= 2, "{other} voxels");
    }
}

#[test]
fn the_bytes_do_not_depend_on_threads_nor_on_the_seed() {
    let (image, wt) = tumour(3, 24);
    let input = Input { modalities: image.view(), wt: wt.view(), presence: ALL, spacing: [2.0; 3] };
    let with = |threads: usize, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| Mixture.divide(&input, seed)).unwrap()
    };
    let one = with(1, 1);
    assert_eq!(one, with(2, 1));
    assert_eq!(one, with(5, 99));
    assert!([NCR, ED, ET].iter().all(|label| one.labels.iter().any(|l| l == label)));
}

#[test]
fn a_tumour_in_a_larger_volume_is_the_same_tumour() {
    let (image, wt) = tumour(4, 14);
    let alone = divided(&image, &wt, ALL).labels;
    let mut large = Array4::from_elem((4, 30, 25, 20), f32::NAN);
    let mut mask = Array3::from_elem((30, 25, 20), false);
    let place = |a: Axis, from: [usize; 3]| Slice::from(from[a.0] as isize..(from[a.0] + 14) as isize);
    large
        .slice_each_axis_mut(|a| {
            if a.axis.0 == 0 { Slice::from(..) } else { place(Axis(a.axis.0 - 1), [9, 5, 3]) }
        })
        .assign(&image);
    mask.slice_each_axis_mut(|a| place(a.axis, [9, 5, 3])).assign(&wt);
    let found = divided(&large, &mask, ALL).labels;
    assert_eq!(found.slice_each_axis(|a| place(a.axis, [9, 5, 3])), alone);
}

#[test]
fn empty_small_and_wrong_inputs() {
    let (image, wt) = tumour(5, 8);
    let nothing = divided(&image, &wt.mapv(|_| false), ALL);
    assert!(nothing.labels.iter().all(|&l| l == 0) && nothing.inertia == 0.0);
    let mut single = wt.mapv(|_| false);
    single[[4, 4, 4]] = true;
    assert_eq!(divided(&image, &single, ALL).labels.iter().filter(|l| **l != 0).count(), 1);
    // Of one value everywhere.
    let flat = image.mapv(|_| 1.5);
    assert_eq!(divided(&flat, &wt, ALL).labels.mapv(|l| l != 0), wt);
    let only = Presence { ncr: Some(false), ed: Some(false), et: Some(true) };
    assert!(divided(&image, &wt, only).labels.iter().all(|&l| l == 0 || l == ET));

    let run = |image: &Array4<f32>, spacing: [f64; 3]| {
        mixture(image.view(), wt.view(), ALL, spacing, Prior::phantoms().unwrap()).unwrap_err()
    };
    let mut broken = image.clone();
    broken[[1, 4, 4, 4]] = f32::NAN;
    assert!(matches!(run(&broken, [1.0; 3]), Error::NotFinite { modality: "T1ce", voxel: [4, 4, 4], .. }));
    assert!(matches!(run(&image, [1.0, 0.0, 1.0]), Error::Spacing { .. }));
    let three = image.slice_axis(Axis(0), Slice::from(..3)).to_owned();
    assert!(matches!(run(&three, [1.0; 3]), Error::Modalities { found: 3 }));
}

#[test]
fn a_prior_is_learned_from_tumours_that_are_known_and_divides_others_like_them() {
    let learn = |threads: usize| {
        let mut learner = Learner::default();
        for seed in 0..6 {
            let (image, labels) = shells(seed, 16);
            learner.add(image.view(), labels.view(), [2.0; 3]).unwrap();
        }
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
            .install(|| learner.learn(7))
            .unwrap()
    };
    let prior = learn(1);
    assert_eq!(prior, learn(3));
    let (image, labels) = shells(20, 16);
    let found = mixture(image.view(), labels.mapv(|l| l != 0).view(), ALL, [2.0; 3], &prior).unwrap().labels;
    for label in [NCR, ED, ET] {
        let both = found.iter().zip(&labels).filter(|(a, b)| **a == label && **b == label).count();
        let either = found.iter().chain(&labels).filter(|l| **l == label).count();
        assert!(2 * both * 10 > 9 * either, "label {label}: Dice {:.3}", 2.0 * both as f64 / either as f64);
    }
    let alone = Learner::default().learn(1).unwrap_err().to_string();
    assert!(alone.contains("at least two tumours"), "{alone}");
}
