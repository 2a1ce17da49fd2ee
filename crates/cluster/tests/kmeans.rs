//! k-means against scikit-learn, and what it does at the edges.
#![allow(clippy::unwrap_used)]

use ndarray::{Array3, Array4};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scribseg_cluster::{
    Clustering, ED, ET, Error, Input, KMeans, METHODS, Method, NCR, Params, Presence, kmeans, method,
};
use serde::Deserialize;

const ALL: Presence = Presence { ncr: Some(true), ed: Some(true), et: Some(true) };

#[derive(Deserialize)]
struct Declared {
    et: Option<bool>,
    ed: Option<bool>,
    ncr: Option<bool>,
}

#[derive(Deserialize)]
struct Fixture {
    shape: [usize; 3],
    spacing: [f64; 3],
    presence: Declared,
    image: Vec<i32>,
    k: usize,
    inertia: f64,
    labels: String,
}

#[test]
fn inertia_and_labels_are_scikit_learns() {
    let cases: Vec<Fixture> = serde_json::from_str(include_str!("fixtures/kmeans.json")).unwrap();
    assert_eq!(cases.len(), 5);
    for (i, case) in cases.iter().enumerate() {
        let [z, y, x] = case.shape;
        let values = case.image.iter().map(|&v| (f64::from(v) / 100.0) as f32).collect();
        let image = Array4::from_shape_vec((4, z, y, x), values).unwrap();
        let expected =
            Array3::from_shape_vec(case.shape, case.labels.bytes().map(|b| b - b'0').collect()).unwrap();
        let wt = expected.mapv(|l| l != 0);
        let presence = Presence { ncr: case.presence.ncr, ed: case.presence.ed, et: case.presence.et };
        // With the starts found on all voxels and on a small part of them.
        for sample in [10_000, 100] {
            let params = Params { sample, ..Params::default() };
            let found = kmeans(image.view(), wt.view(), presence, case.spacing, &params, 7).unwrap();
            assert_eq!((found.k, found.features), (case.k, 5), "case {i}");
            assert!(
                (found.inertia / case.inertia - 1.0).abs() < 1e-3,
                "case {i}: inertia {} but scikit-learn has {}",
                found.inertia,
                case.inertia
            );
            let same = found.labels.iter().zip(&expected).filter(|(a, b)| a == b && **b != 0).count();
            let all = wt.iter().filter(|w| **w).count();
            assert!(same * 200 >= all * 199, "case {i}: {same} of {all} voxels agree");
        }
    }
}

// A ball with oedema outside, then an enhancing shell, then a core, and noise.
fn ball(seed: u64, noise: f32) -> (Array4<f32>, Array3<bool>) {
    let depth = |z: usize, y: usize, x: usize| {
        [z, y, x].iter().map(|&p| (p as f64 - 9.0).powi(2)).sum::<f64>().sqrt()
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let image = Array4::from_shape_fn((4, 19, 19, 19), |(m, z, y, x)| {
        let mean = match depth(z, y, x) {
            d if d < 3.0 => [-0.2, -0.1, 1.8, 1.9][m],
            d if d < 5.0 => [0.4, 2.6, 1.2, 2.1][m],
            _ => [0.2, 0.1, 0.9, 1.8][m],
        };
        mean + noise * rng.random_range(-1.0..1.0f32)
    });
    (image, Array3::from_shape_fn((19, 19, 19), |(z, y, x)| depth(z, y, x) < 8.5))
}

fn divide(image: &Array4<f32>, wt: &Array3<bool>, presence: Presence) -> Result<Clustering, Error> {
    kmeans(image.view(), wt.view(), presence, [1.0; 3], &Params::default(), 3)
}

fn labels_used(found: &Clustering) -> Vec<u8> {
    (1..=3).filter(|label| found.labels.iter().any(|l| l == label)).collect()
}

#[test]
fn presence_decides_how_many_clusters_and_which_labels() {
    let (image, wt) = ball(1, 0.4);
    let (yes, no) = (Some(true), Some(false));
    for (ncr, ed, et, labels) in [
        (yes, yes, yes, vec![NCR, ED, ET]),
        (None, None, None, vec![NCR, ED, ET]),
        (None, None, yes, vec![NCR, ED, ET]),
        (yes, yes, no, vec![NCR, ED]),
        (None, None, no, vec![NCR, ED]),
        (no, yes, yes, vec![ED, ET]),
        (yes, no, yes, vec![NCR, ET]),
        (no, no, yes, vec![ET]),
        (no, yes, no, vec![ED]),
        (yes, no, no, vec![NCR]),
    ] {
        let found = divide(&image, &wt, Presence { ncr, ed, et }).unwrap();
        assert_eq!(labels_used(&found), labels, "ncr {ncr:?} ed {ed:?} et {et:?}");
        assert_eq!(found.k, labels.len());
    }
    let none = divide(&image, &wt, Presence { ncr: no, ed: no, et: no });
    assert!(matches!(none, Err(Error::NothingPresent { .. })));
}

#[test]
fn clusters_get_the_names_of_what_they_are() {
    let (image, wt) = ball(2, 0.1);
    let found = divide(&image, &wt, ALL).unwrap();
    for ((z, y, x), &label) in found.labels.indexed_iter() {
        let d = [z, y, x].iter().map(|&p| (p as f64 - 9.0).powi(2)).sum::<f64>().sqrt();
        let expected = match d {
            d if d < 3.0 => NCR,
            d if d < 5.0 => ET,
            d if d < 8.5 => ED,
            _ => 0,
        };
        assert_eq!(label, expected, "at {d} voxels from the centre");
    }
}

#[test]
fn the_surface_is_measured_in_millimetres() {
    // A slab of five slices. Two bars run through its first and last slice: at the surface when slices are 1 mm apart, deep
    // when they are 10 mm apart and the nearest way out is in plane.
    let wt = Array3::from_shape_fn((7, 9, 24), |(z, y, x)| {
        (1..6).contains(&z) && (1..8).contains(&y) && (1..23).contains(&x)
    });
    let bar = |z: usize, y: usize| (z == 1 || z == 5) && (3..6).contains(&y);
    let image = Array4::from_shape_fn((4, 7, 9, 24), |(_, z, y, x)| {
        let mean = if bar(z, y) { 1.0 } else { 0.0 };
        mean + (x % 3) as f32 * 0.01
    });
    let presence = Presence { et: Some(false), ..ALL };
    for (between, in_bar, elsewhere) in [(1.0, ED, NCR), (10.0, NCR, ED)] {
        let spacing = [between, 1.0, 1.0];
        let found = kmeans(image.view(), wt.view(), presence, spacing, &Params::default(), 1).unwrap();
        assert_eq!([found.labels[[1, 4, 12]], found.labels[[3, 4, 12]]], [in_bar, elsewhere], "{between} mm");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn labels_cover_the_tumour_and_depend_on_nothing_outside(
        seed in any::<u64>(), noise in 0.0..2.0f32, keep in 0.0..1.0f64,
    ) {
        let (mut image, mut wt) = ball(seed, noise);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        wt.mapv_inplace(|w| w && rng.random_range(0.0..1.0) < keep);
        let found = divide(&image, &wt, ALL).unwrap();
        for (&label, &inside) in found.labels.iter().zip(&wt) {
            prop_assert_eq!(label != 0, inside);
        }
        prop_assert!(found.inertia.is_finite() && found.inertia >= 0.0);
        for mut volume in image.outer_iter_mut() {
            volume.iter_mut().zip(&wt).filter(|(_, w)| !**w).for_each(|(v, _)| *v = f32::NAN);
        }
        prop_assert_eq!(divide(&image, &wt, ALL).unwrap(), found);
    }
}

#[test]
fn the_layout_of_the_arrays_does_not_matter() {
    let (image, wt) = ball(4, 0.5);
    let expected = divide(&image, &wt, ALL).unwrap();
    let mut fortran = ndarray::Array4::zeros(ndarray::ShapeBuilder::f((4, 19, 19, 19)));
    fortran.assign(&image);
    assert_eq!(divide(&fortran, &wt, ALL).unwrap(), expected);
}

#[test]
fn an_empty_tumour_gives_empty_labels() {
    let (image, wt) = ball(5, 0.5);
    let none = Presence { ncr: Some(false), ed: Some(false), et: Some(false) };
    for presence in [ALL, none] {
        let found = divide(&image, &wt.mapv(|_| false), presence).unwrap();
        assert!(found.labels.iter().all(|l| *l == 0));
        assert_eq!(found.inertia, 0.0);
    }
}

#[test]
fn what_cannot_be_divided_is_oedema() {
    let (image, wt) = ball(6, 0.5);
    let mut two = wt.mapv(|_| false);
    (two[[9, 9, 9]], two[[9, 9, 10]]) = (true, true);
    let found = divide(&image, &two, ALL).unwrap();
    assert_eq!((found.labels[[9, 9, 9]], found.labels[[9, 9, 10]]), (ED, ED));
    let flat = Array4::from_elem(image.dim(), 2.5);
    assert_eq!(labels_used(&divide(&flat, &wt, ALL).unwrap()), [ED]);
    assert_eq!(divide(&flat, &wt, ALL).unwrap().inertia, 0.0);
    let without = Presence { ed: Some(false), ..ALL };
    assert_eq!(labels_used(&divide(&flat, &wt, without).unwrap()), [ET]);
}

#[test]
fn input_at_fault_is_refused_with_its_reason() {
    let (mut image, wt) = ball(7, 0.5);
    let three = image.slice(ndarray::s![..3, .., .., ..]).to_owned();
    assert!(matches!(divide(&three, &wt, ALL), Err(Error::Modalities { found: 3 })));
    let other = Array3::from_elem((19, 19, 18), true);
    assert!(matches!(divide(&image, &other, ALL), Err(Error::Shape { found: [19, 19, 18], .. })));
    let spacing = kmeans(image.view(), wt.view(), ALL, [1.0, 0.0, 1.0], &Params::default(), 1);
    assert!(matches!(spacing, Err(Error::Morphology(_))));
    for params in [
        Params { restarts: 0, ..Params::default() },
        Params { max_iterations: 0, ..Params::default() },
        Params { sample: 0, ..Params::default() },
    ] {
        let refused = kmeans(image.view(), wt.view(), ALL, [1.0; 3], &params, 1);
        assert!(matches!(refused, Err(Error::Parameter { .. })));
    }
    image[[3, 9, 9, 9]] = f32::NAN;
    let message = divide(&image, &wt, ALL).unwrap_err().to_string();
    assert!(message.contains("FLAIR") && message.contains("[9, 9, 9]"), "{message}");
}

#[test]
fn methods_are_found_by_name() {
    let (image, wt) = ball(8, 0.5);
    for name in METHODS {
        let method = method(name).unwrap();
        assert_eq!(method.name(), *name);
        let input = Input { modalities: image.view(), wt: wt.view(), presence: ALL, spacing: [1.0; 3] };
        assert_eq!(method.divide(&input, 3).unwrap().labels.dim(), wt.dim());
    }
    let input = Input { modalities: image.view(), wt: wt.view(), presence: ALL, spacing: [1.0; 3] };
    assert_eq!(KMeans::default().divide(&input, 3).unwrap(), divide(&image, &wt, ALL).unwrap());
    assert!(matches!(method("dbscan"), Err(Error::Method { .. })));
}
