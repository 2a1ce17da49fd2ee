//! The whole way from scribbles to weak masks, on a made-up brain.
#![allow(clippy::unwrap_used)]

use ndarray::{Array3, Array4, Axis, s};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scribseg_graphcut::{Error, HEALTHY, Outcome, Params, TUMOUR, propagate};

const SHAPE: (usize, usize, usize) = (24, 40, 36);

struct Scan {
    image: Array4<f32>,
    brain: Array3<bool>,
    tumour: Array3<bool>,
    scribble: Array3<u8>,
}

fn ball(centre: [f64; 3], radii: [f64; 3]) -> Array3<bool> {
    Array3::from_shape_fn(SHAPE, |(z, y, x)| {
        let at = [z, y, x];
        (0..3).map(|a| ((at[a] as f64 - centre[a]) / radii[a]).powi(2)).sum::<f64>() <= 1.0
    })
}

// A brain with one bright ball and a scribble across the middle slice of each.
fn scan(contrast: f32, seed: u64) -> Scan {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let brain = ball([11.5, 19.5, 17.5], [11.0, 18.0, 16.0]);
    let tumour = ball([12.0, 24.0, 22.0], [6.0, 7.0, 6.0]);
    let mut image = Array4::zeros((2, SHAPE.0, SHAPE.1, SHAPE.2));
    for mut channel in image.axis_iter_mut(Axis(0)) {
        channel.iter_mut().zip(brain.iter().zip(&tumour)).for_each(|(v, (&b, &t))| {
            let noise: f32 = (0..4).map(|_| rng.random_range(-0.5..0.5f32)).sum();
            *v = if b { noise + if t { contrast } else { 0.0 } } else { 0.0 };
        });
    }
    let mut scribble = Array3::zeros(SHAPE);
    scribble.slice_mut(s![12, 23..26, 20..25]).fill(TUMOUR);
    scribble.slice_mut(s![12, 8..32, 8..10]).fill(HEALTHY);
    Scan { image, brain, tumour, scribble }
}

fn params() -> Params {
    Params::for_channels(&[0], &[0, 1])
}

fn run(scan: &Scan, params: &Params) -> Result<Outcome, Error> {
    propagate(scan.image.view(), scan.brain.view(), scan.scribble.view(), [1.0; 3], params)
}

fn dice(mask: &Array3<bool>, reference: &Array3<bool>) -> f64 {
    let both = mask.iter().zip(reference).filter(|(a, b)| **a && **b).count();
    let count = |m: &Array3<bool>| m.iter().filter(|v| **v).count();
    2.0 * both as f64 / (count(mask) + count(reference)) as f64
}

#[test]
fn two_short_scribbles_find_the_whole_ball() {
    let scan = scan(3.0, 1);
    let found = run(&scan, &params()).unwrap();
    let score = dice(&found.cut.mapv(|c| c == TUMOUR), &scan.tumour);
    assert!(score > 0.95, "Dice of the cut {score}");
    for (class, truth) in [(TUMOUR, true), (HEALTHY, false)] {
        let right = found.weak.iter().zip(&scan.tumour).filter(|(w, t)| **w == class && **t == truth).count();
        let all = found.weak.iter().filter(|w| **w == class).count();
        assert!(
            all > 200 && right * 100 >= all * 99,
            "class {class}: {right} of {all} weak voxels are right"
        );
    }
}

#[test]
fn the_weak_mask_is_the_eroded_cut_without_the_scribbles() {
    let scan = scan(2.0, 2);
    let found = run(&scan, &params()).unwrap();
    for ((z, y, x), &weak) in found.weak.indexed_iter() {
        let at = (z, y, x);
        assert_eq!(found.cut[at] == 0, !scan.brain[at]);
        let around = s![
            z.saturating_sub(1)..(z + 2).min(SHAPE.0),
            y.saturating_sub(1)..(y + 2).min(SHAPE.1),
            x.saturating_sub(1)..(x + 2).min(SHAPE.2)
        ];
        let uniform = found.cut.slice(around).iter().all(|c| *c == found.cut[at]);
        let inside = z > 0 && y > 0 && x > 0 && z + 1 < SHAPE.0 && y + 1 < SHAPE.1 && x + 1 < SHAPE.2;
        let expected = if uniform && inside && scan.scribble[at] == 0 { found.cut[at] } else { 0 };
        assert_eq!(weak, expected, "at {at:?}");
    }
    let whole = run(&scan, &Params { rim_mm: 0.0, ..params() }).unwrap();
    let mut expected = whole.cut.clone();
    expected.zip_mut_with(&scan.scribble, |c, s| *c = if *s == 0 { *c } else { 0 });
    assert_eq!(whole.weak, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    // Scribbles here are noise, so most supervoxels hold both kinds.
    #[test]
    fn scribbles_are_kept_and_the_energy_never_rises(
        seed in any::<u64>(),
        contrast in 0.0..2.0f32,
        density in 0.0005..0.3f64,
        smoothness_mm in 0.0..20.0f64,
        position in 0.0..4.0f64,
        share in 0.0..1.5f64,
    ) {
        let mut scan = scan(contrast, seed);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        scan.scribble.iter_mut().for_each(|s| {
            if rng.random_range(0.0..1.0) < density {
                *s = rng.random_range(1..3);
            }
        });
        let params = Params { smoothness_mm, position, share, tolerance: 0.0, rounds: 30, ..params() };
        let found = run(&scan, &params).unwrap();
        for ((cut, scribble), &inside) in found.cut.iter().zip(&scan.scribble).zip(&scan.brain) {
            prop_assert!(!inside || *scribble == 0 || cut == scribble);
        }
        prop_assert!(!found.energies.is_empty());
        for pair in found.energies.windows(2) {
            prop_assert!(pair[1] <= pair[0], "{:?}", found.energies);
        }
    }
}

#[test]
fn more_rounds_lower_the_energy_where_the_first_models_are_poor() {
    let mut lowered = 0;
    for seed in 0..6 {
        let scan = scan(0.7, seed);
        let params = Params { tolerance: 0.0, rounds: 50, position: 0.0, smoothness_mm: 1.0, ..params() };
        let found = run(&scan, &params).unwrap();
        assert!(found.energies.len() < 50, "settles: {:?}", found.energies);
        lowered += usize::from(found.energies.last() < found.energies.first());
    }
    assert!(lowered >= 3, "only {lowered} of 6 got below the first round");
}

#[test]
fn any_number_of_threads_gives_the_same_masks() {
    let scan = scan(1.5, 3);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&scan, &params()).unwrap())
    };
    let (one, four) = (with(1), with(4));
    assert_eq!(one.weak, four.weak);
    assert_eq!(one.cut, four.cut);
    assert_eq!(one.energies, four.energies);
}

#[test]
fn a_scale_and_shift_of_the_intensities_change_nothing() {
    let mut scan = scan(2.0, 4);
    let before = run(&scan, &params()).unwrap();
    scan.image.mapv_inplace(|v| 256.0 * v + 1024.0);
    let after = run(&scan, &params()).unwrap();
    let differing = before.cut.iter().zip(&after.cut).filter(|(a, b)| a != b).count();
    assert!(differing < 20, "{differing} voxels changed class");
}

#[test]
fn the_default_channels_are_the_last_ones() {
    let scan = scan(2.0, 7);
    let same = |scan: &Scan, explicit: &Params| {
        let (found, expected) = (run(scan, &Params::default()).unwrap(), run(scan, explicit).unwrap());
        assert_eq!(found.cut, expected.cut);
    };
    same(&scan, &Params::for_channels(&[1], &[0, 1]));
    let one = Scan { image: scan.image.slice(s![..1, .., .., ..]).to_owned(), ..scan };
    same(&one, &Params::for_channels(&[0], &[0]));
}

#[test]
fn a_channel_without_contrast_is_harmless() {
    let mut scan = scan(2.0, 5);
    scan.image.index_axis_mut(Axis(0), 1).fill(7.0);
    let found = run(&scan, &params()).unwrap();
    assert!(dice(&found.cut.mapv(|c| c == TUMOUR), &scan.tumour) > 0.9);
    scan.image.fill(7.0);
    let found = run(&scan, &params()).unwrap();
    assert!(found.energies.iter().all(|e| e.is_finite()));
}

#[test]
fn input_at_fault_is_refused_with_its_reason() {
    let fault = |change: fn(&mut Scan), params: &Params| {
        let mut scan = scan(2.0, 6);
        change(&mut scan);
        run(&scan, params).unwrap_err()
    };
    let missing = fault(|s| s.scribble.mapv_inplace(|v| if v == TUMOUR { 0 } else { v }), &params());
    assert!(matches!(missing, Error::MissingScribble { class: "tumour", value: 1 }));
    let missing = fault(|s| s.scribble.mapv_inplace(|v| if v == HEALTHY { 0 } else { v }), &params());
    assert!(matches!(missing, Error::MissingScribble { class: "healthy", value: 2 }));
    // A scribble outside the brain does not count.
    let outside = fault(
        |s| {
            s.scribble.mapv_inplace(|v| if v == HEALTHY { 0 } else { v });
            s.scribble[[0, 0, 0]] = HEALTHY;
        },
        &params(),
    );
    assert!(matches!(outside, Error::MissingScribble { class: "healthy", .. }));
    let value = fault(|s| s.scribble[[1, 2, 3]] = 4, &params());
    assert!(matches!(value, Error::ScribbleValue { value: 4, voxel: [1, 2, 3] }));
    assert!(matches!(fault(|s| s.brain.fill(false), &params()), Error::EmptyBrain));
    let nan = fault(|s| s.image[[1, 12, 20, 18]] = f32::NAN, &params());
    assert!(matches!(nan, Error::NotFinite { channel: 1, voxel: [12, 20, 18], .. }), "{nan}");
    let shape = fault(|s| s.scribble = Array3::zeros((2, 2, 2)), &params());
    assert!(matches!(shape, Error::Shape { what: "scribble", found: [2, 2, 2], .. }));
    assert!(matches!(
        fault(|_| (), &Params::for_channels(&[3], &[0])),
        Error::Channel { channel: 3, channels: 2, .. }
    ));
    for change in [
        (|p| p.bins = 1) as fn(&mut Params),
        |p| p.bins = 257,
        |p| p.rounds = 0,
        |p| p.pseudo_mm3 = 0.0,
        |p| p.smoothness_mm = -1.0,
        |p| p.position = f64::NAN,
        |p| p.rim_mm = f64::INFINITY,
        |p| p.slic.edge_mm = -4.0,
        |p| p.model_channels = Some(vec![]),
        |p| p.model_channels = Some(vec![0, 1, 0, 1]),
    ] {
        let mut params = params();
        change(&mut params);
        assert!(matches!(fault(|_| (), &params), Error::Parameter { .. }));
    }
}
