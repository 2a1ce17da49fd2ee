//! What holds for every scribble.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use ndarray::{Array2, Array3, Axis, s};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use scribseg_morphology::{Connectivity, erode, label_components, largest_component, skeletonize};
use scribseg_scribble::{
    Error, MIN_HEALTHY_PIXELS, Params, healthy_slice, labelled_fraction, simulate, skeleton_scribbles,
    tumour_slice,
};

fn disc((height, width): (usize, usize), centre: (f64, f64), radius: f64) -> Array2<bool> {
    Array2::from_shape_fn((height, width), |(y, x)| (y as f64 - centre.0).hypot(x as f64 - centre.1) < radius)
}

/// A round brain with an elliptic tumour, four slices, each a little smaller.
fn head() -> impl Strategy<Value = (Array3<bool>, Array3<bool>)> {
    (40_usize..90, 40_usize..90, 0.2_f64..0.8, 0.2_f64..0.8, 0.5_f64..16.0).prop_map(
        |(height, width, v, u, radius)| {
            let middle = (height as f64 / 2.0, width as f64 / 2.0);
            let mut brain = Array3::from_elem((4, height, width), false);
            let mut tumour = brain.clone();
            for z in 0..4 {
                let scale = 1.0 - 0.2 * z as f64;
                let inner = disc((height, width), middle, 0.45 * height.min(width) as f64 * scale);
                let centre = (v * height as f64, u * width as f64);
                tumour.index_axis_mut(Axis(0), z).assign(&disc((height, width), centre, radius * scale));
                brain.index_axis_mut(Axis(0), z).assign(&inner);
            }
            (tumour, brain)
        },
    )
}

/// Any mask at all, connected or not.
fn noise() -> impl Strategy<Value = Array2<bool>> {
    (1_usize..24, 1_usize..24, 0.02_f64..0.98).prop_flat_map(|(height, width, share)| {
        proptest::collection::vec(proptest::bool::weighted(share), height * width)
            .prop_map(move |data| Array2::from_shape_vec((height, width), data).unwrap())
    })
}

fn params() -> impl Strategy<Value = Params> {
    (0.2_f64..7.0, 0.0_f64..60.0, 0.0_f64..180.0, 0.0_f64..9.0, 0.0_f64..60.0, 1_usize..5).prop_map(
        |(width_mm, shift_mm, rotation_deg, erode_tumour_mm, erode_healthy_mm, tries)| Params {
            width_mm,
            shift_mm,
            rotation_deg,
            erode_tumour_mm,
            erode_healthy_mm,
            tries,
        },
    )
}

fn set(mask: &Array2<bool>) -> usize {
    mask.iter().filter(|&&set| set).count()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn scribbles_lie_inside_their_class_and_every_slice_gets_its_own(
        (tumour, brain) in head(),
        params in params(),
        spacing in prop::array::uniform3(0.4_f64..3.0),
        seed: u64,
    ) {
        let scribbles = simulate(tumour.view(), brain.view(), spacing, &params, seed).unwrap();
        for (index, &code) in scribbles.indexed_iter() {
            match code {
                0 => {}
                1 => prop_assert!(tumour[index]),
                2 => prop_assert!(brain[index] && !tumour[index]),
                other => prop_assert!(false, "code {}", other),
            }
        }
        for z in 0..4 {
            let codes = scribbles.index_axis(Axis(0), z);
            let has = |code: u8| codes.iter().any(|&found| found == code);
            let wt = tumour.index_axis(Axis(0), z);
            prop_assert_eq!(has(1), wt.iter().any(|&set| set));
            let healthy = wt.iter().zip(brain.index_axis(Axis(0), z)).filter(|&(&t, &b)| b && !t).count();
            prop_assert_eq!(has(2), healthy >= MIN_HEALTHY_PIXELS);
        }
    }

    #[test]
    fn any_mask_gets_a_scribble_inside(mask in noise(), params in params(), seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let tumour = tumour_slice(mask.view(), &params, &mut rng).unwrap();
        prop_assert!(tumour.iter().zip(&mask).all(|(drawn, set)| drawn <= set));
        prop_assert_eq!(set(&tumour) > 0, set(&mask) > 0);
        let healthy = healthy_slice(mask.view(), &params, &mut rng).unwrap();
        prop_assert!(healthy.iter().zip(&mask).all(|(drawn, set)| drawn <= set));
        prop_assert_eq!(set(&healthy) > 0, set(&mask) >= MIN_HEALTHY_PIXELS);
    }

    #[test]
    fn class_scribbles_lie_inside_and_cover_what_erosion_leaves(mask in noise(), other in noise(), side in 0_usize..3) {
        let dim = (mask.dim().0.min(other.dim().0), mask.dim().1.min(other.dim().1));
        let labels = Array3::from_shape_fn((1, dim.0, dim.1), |(_, y, x)| {
            if mask[[y, x]] { 1 } else { 2 * u8::from(other[[y, x]]) }
        });
        let scribbles = skeleton_scribbles(labels.view(), 3, side).unwrap();
        for (&code, &label) in scribbles.iter().zip(&labels) {
            prop_assert!(code == 0 || code == label);
        }
        for class in 1..=3 {
            let body = labels.index_axis(Axis(0), 0).mapv(|label| label == class);
            let core = erode(body.view(), &[2 * side + 1; 2]).unwrap();
            let thin = skeletonize(core.view());
            for ((y, x), _) in thin.indexed_iter().filter(|&(_, &thin)| thin) {
                prop_assert_eq!(scribbles[[0, y, x]], class);
            }
            prop_assert_eq!(scribbles.iter().any(|&code| code == class), set(&core) > 0);
        }
    }
}

fn ellipses() -> (Array3<bool>, Array3<bool>) {
    let brain = Array3::from_shape_fn((9, 120, 110), |(z, y, x)| {
        let (w, v, u) = (z as f64 - 4.0, y as f64 - 60.0, x as f64 - 55.0);
        (w / 5.0).powi(2) + (v / 55.0).powi(2) + (u / 50.0).powi(2) < 1.0
    });
    let tumour = Array3::from_shape_fn((9, 120, 110), |(z, y, x)| {
        let (w, v, u) = (z as f64 - 4.0, y as f64 - 45.0, x as f64 - 40.0);
        (w / 4.0).powi(2) + (v / 22.0).powi(2) + (u / 12.0).powi(2) < 1.0
    });
    (tumour, brain)
}

#[test]
fn any_thread_count_gives_the_same_and_other_seeds_something_else() {
    let (tumour, brain) = ellipses();
    let run =
        |threads: usize, seed: u64| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
                simulate(tumour.view(), brain.view(), [1.0; 3], &Params::default(), seed).unwrap()
            })
        };
    let one = run(1, 3);
    assert_eq!(run(2, 3), one);
    assert_eq!(run(5, 3), one);
    assert_ne!(run(1, 4), one);
    // Slices draw their own lots: a slice alone is not the same slice of another number.
    let two = Array3::from_shape_fn((2, 120, 110), |(_, y, x)| tumour[[4, y, x]]);
    let scribbles = simulate(two.view(), two.view(), [1.0; 3], &Params::default(), 3).unwrap();
    assert_ne!(scribbles.index_axis(Axis(0), 0), scribbles.index_axis(Axis(0), 1));
}

#[test]
fn an_unmoved_curve_is_the_skeleton_drawn_as_wide_as_asked() {
    let mut tumour = Array2::from_elem((30, 60), false);
    tumour.slice_mut(s![10..21, 10..50]).fill(true);
    let still = Params { shift_mm: 0.0, rotation_deg: 0.0, ..Params::default() };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let drawn = tumour_slice(tumour.view(), &still, &mut rng).unwrap();
    assert_eq!(label_components(drawn.view(), Connectivity::Face).1, 1);
    // In the middle the bar's skeleton is its centre line, row 15; three pixels are rows 14 to 16.
    let column: Vec<usize> = (0..30).filter(|&y| drawn[[y, 30]]).collect();
    assert_eq!(column, [14, 15, 16]);
    let thin = tumour_slice(tumour.view(), &Params { width_mm: 1.0, ..still }, &mut rng).unwrap();
    assert!(thin.iter().zip(&drawn).all(|(thin, wide)| thin <= wide));
    assert!((0..30).filter(|&y| thin[[y, 30]]).eq([15]));
}

#[test]
fn a_curve_that_always_misses_stays_where_it_was() {
    let tumour = disc((200, 200), (100.0, 100.0), 3.0);
    let far = Params { shift_mm: 1e7, ..Params::default() };
    let still = Params { shift_mm: 0.0, rotation_deg: 0.0, ..Params::default() };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let missed = tumour_slice(tumour.view(), &far, &mut rng).unwrap();
    assert_eq!(missed, tumour_slice(tumour.view(), &still, &mut rng).unwrap());
}

#[test]
fn curves_move_by_as_much_as_asked_and_turn_about_their_centroid() {
    // A box nearly as large as the slice leaves a short curve in the middle, and the mask is so large that clipping
    // never touches it.
    let mut mask = Array2::from_elem((160, 160), true);
    mask.slice_mut(s![.., 0..1]).fill(false);
    let params = Params { erode_healthy_mm: 155.0, width_mm: 1.0, ..Params::default() };
    let still = Params { shift_mm: 0.0, rotation_deg: 0.0, ..params.clone() };
    let centroid = |drawn: &Array2<bool>| {
        let count = set(drawn) as f64;
        let sum = drawn
            .indexed_iter()
            .filter(|&(_, &set)| set)
            .fold((0.0, 0.0), |sum, ((y, x), _)| (sum.0 + y as f64, sum.1 + x as f64));
        (sum.0 / count, sum.1 / count)
    };
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let home = centroid(&healthy_slice(mask.view(), &still, &mut rng).unwrap());
    let (mut least, mut most) = ((f64::MAX, f64::MAX), (f64::MIN, f64::MIN));
    for _ in 0..400 {
        let at = centroid(&healthy_slice(mask.view(), &params, &mut rng).unwrap());
        let moved = (at.0 - home.0, at.1 - home.1);
        least = (least.0.min(moved.0), least.1.min(moved.1));
        most = (most.0.max(moved.0), most.1.max(moved.1));
    }
    for limit in [-least.0, -least.1, most.0, most.1] {
        assert!((18.0..=21.0).contains(&limit), "{limit}");
    }
    let turning = Params { shift_mm: 0.0, rotation_deg: 90.0, ..params };
    for _ in 0..50 {
        let at = centroid(&healthy_slice(mask.view(), &turning, &mut rng).unwrap());
        assert!((at.0 - home.0).hypot(at.1 - home.1) < 1.0);
    }
}

#[test]
fn lengths_follow_the_voxel_size() {
    let mut tumour = Array3::from_elem((1, 60, 120), false);
    tumour.slice_mut(s![0, 10..51, 20..100]).fill(true);
    let still = Params { shift_mm: 0.0, rotation_deg: 0.0, ..Params::default() };
    let width = |spacing| {
        let drawn = simulate(tumour.view(), tumour.view(), spacing, &still, 0).unwrap();
        (0..60).filter(|&y| drawn[[0, y, 60]] == 1).count()
    };
    assert_eq!(width([5.0, 1.0, 1.0]), 3);
    assert_eq!(width([5.0, 0.5, 1.0]), 6);
    assert_eq!(width([5.0, 8.0, 8.0]), 1);
}

#[test]
fn an_even_pen_draws_over_what_an_even_box_took() {
    // Two rows eroded by two pixels leave the second; drawn two pixels wide, the line is both rows again.
    let mut bar = Array2::from_elem((20, 40), false);
    bar.slice_mut(s![10..12, 5..35]).fill(true);
    let params =
        Params { shift_mm: 0.0, rotation_deg: 0.0, width_mm: 2.0, erode_tumour_mm: 2.0, ..Params::default() };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let drawn = tumour_slice(bar.view(), &params, &mut rng).unwrap();
    assert!((0..20).filter(|&y| drawn[[y, 20]]).eq([10, 11]));
}

#[test]
fn the_labelled_fraction_counts_the_region_alone() {
    let scribbles = Array3::from_shape_fn((2, 3, 4), |(z, y, _)| if z == 0 { y as u8 } else { 0 });
    let share = |region: &Array3<bool>| labelled_fraction(scribbles.view(), region.view()).unwrap();
    let all = Array3::from_elem((2, 3, 4), true);
    // Rows 1 and 2 of the first slice: 8 of 24 voxels.
    assert_eq!(share(&all), Some(8.0 / 24.0));
    assert_eq!(share(&Array3::from_shape_fn((2, 3, 4), |(z, y, _)| z == 0 && y > 0)), Some(1.0));
    assert_eq!(share(&Array3::from_shape_fn((2, 3, 4), |(z, _, _)| z == 1)), Some(0.0));
    assert_eq!(share(&all.mapv(|_| false)), None);
    assert_eq!(
        labelled_fraction(scribbles.view(), all.slice(s![.., .., ..3])),
        Err(Error::Region { scribbles: [2, 3, 4], region: [2, 3, 3] })
    );
}

#[test]
fn absurd_lengths_do_no_harm() {
    let (tumour, brain) = ellipses();
    let wild =
        Params { shift_mm: 1e300, width_mm: 1e300, rotation_deg: 180.0, tries: 2, ..Params::default() };
    for spacing in [[1.0, 1e-300, 1e-300], [1.0, 1e300, 1e300], [1e-9, 1.0, 100.0]] {
        for params in [&wild, &Params::default()] {
            let scribbles = simulate(tumour.view(), brain.view(), spacing, params, 0).unwrap();
            for z in 0..9 {
                let wt = tumour.index_axis(Axis(0), z);
                let has = scribbles.index_axis(Axis(0), z).iter().any(|&code| code == 1);
                assert_eq!(has, wt.iter().any(|&set| set), "slice {z} with pixels {spacing:?}");
            }
        }
    }
}

#[test]
fn the_healthy_box_is_halved_until_something_is_left() {
    // 12 × 12 pixels: boxes of 30 and 15 leave nothing, 7 does.
    let mut brain = Array2::from_elem((40, 40), false);
    brain.slice_mut(s![14..26, 14..26]).fill(true);
    let still = Params { shift_mm: 0.0, rotation_deg: 0.0, width_mm: 1.0, ..Params::default() };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let drawn = healthy_slice(brain.view(), &still, &mut rng).unwrap();
    assert!(set(&drawn) > 0);
    let core = erode(brain.view(), &[7, 7]).unwrap();
    let curve = largest_component(skeletonize(core.view()).view(), Connectivity::Full);
    assert!(drawn.iter().zip(&curve).all(|(drawn, curve)| drawn <= curve));
}

#[test]
fn wrong_input_is_named() {
    let (tumour, brain) = ellipses();
    let short = brain.slice(s![..8, .., ..]);
    let good = Params::default();
    assert_eq!(
        simulate(tumour.view(), short, [1.0; 3], &good, 0),
        Err(Error::Shapes { tumour: [9, 120, 110], brain: [8, 120, 110] })
    );
    assert_eq!(
        simulate(tumour.view(), brain.view(), [1.0, 0.0, 1.0], &good, 0),
        Err(Error::Spacing { found: [1.0, 0.0, 1.0] })
    );
    assert_eq!(
        simulate(tumour.view(), brain.view(), [1.0, 1.0, 0.009], &good, 0),
        Err(Error::Spacing { found: [1.0, 1.0, 0.009] })
    );
    assert_eq!(
        skeleton_scribbles(Array3::from_elem((1, 2, 2), 4).view(), 3, 1),
        Err(Error::Label { classes: 3, found: 4 })
    );
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let bad = [
        ("width_mm", Params { width_mm: 0.0, ..good.clone() }),
        ("shift_mm", Params { shift_mm: f64::NAN, ..good.clone() }),
        ("rotation_deg", Params { rotation_deg: 181.0, ..good.clone() }),
        ("erode_tumour_mm", Params { erode_tumour_mm: -1.0, ..good.clone() }),
        ("erode_healthy_mm", Params { erode_healthy_mm: f64::INFINITY, ..good.clone() }),
        ("tries", Params { tries: 0, ..good.clone() }),
    ];
    for (field, params) in bad {
        let mask = tumour.index_axis(Axis(0), 4);
        assert!(matches!(params.validate(), Err(Error::Parameter { name, .. }) if name == field));
        assert!(tumour_slice(mask, &params, &mut rng).is_err());
        assert!(healthy_slice(mask, &params, &mut rng).is_err());
        assert!(simulate(tumour.view(), brain.view(), [1.0; 3], &params, 0).is_err());
    }
    assert_eq!(good.validate(), Ok(()));
}
