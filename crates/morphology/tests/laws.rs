//! Laws that hold for every mask, and brute force.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use ndarray::{Array1, Array2, Array3, ArrayView2, Axis, s};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scribseg_morphology::{
    Connectivity, Error, dilate, distance_transform, erode, fill_holes, label_components, largest_component,
    longest_path, skeletonize,
};

fn mask2() -> impl Strategy<Value = Array2<bool>> {
    (1_usize..18, 1_usize..18, 0.05_f64..0.98).prop_flat_map(|(height, width, share)| {
        proptest::collection::vec(proptest::bool::weighted(share), height * width)
            .prop_map(move |data| Array2::from_shape_vec((height, width), data).unwrap())
    })
}

fn mask3() -> impl Strategy<Value = Array3<bool>> {
    (1_usize..6, 1_usize..8, 1_usize..8, 0.05_f64..0.98).prop_flat_map(|(depth, height, width, share)| {
        proptest::collection::vec(proptest::bool::weighted(share), depth * height * width)
            .prop_map(move |data| Array3::from_shape_vec((depth, height, width), data).unwrap())
    })
}

fn sides() -> impl Strategy<Value = [usize; 3]> {
    prop::array::uniform3(1_usize..9)
}

/// Every element against its whole box.
fn eroded_by_definition(mask: &Array3<bool>, size: [usize; 3]) -> Array3<bool> {
    Array3::from_shape_fn(mask.dim(), |(z, y, x)| {
        (0..size[0]).all(|dz| {
            (0..size[1]).all(|dy| {
                (0..size[2]).all(|dx| {
                    let at = |index: usize, step: usize, side: usize| (index + step).checked_sub(side / 2);
                    let (Some(z), Some(y), Some(x)) =
                        (at(z, dz, size[0]), at(y, dy, size[1]), at(x, dx, size[2]))
                    else {
                        return false;
                    };
                    mask.get([z, y, x]).copied().unwrap_or(false)
                })
            })
        })
    })
}

fn nearest_by_definition(mask: &Array3<bool>, spacing: [f64; 3]) -> Array3<f64> {
    let background: Vec<_> = mask.indexed_iter().filter(|&(_, &set)| !set).map(|(index, _)| index).collect();
    Array3::from_shape_fn(mask.dim(), |(z, y, x)| {
        background
            .iter()
            .map(|&(v, u, t)| {
                let along = |one: usize, two: usize, step: f64| ((one as f64 - two as f64) * step).powi(2);
                along(z, v, spacing[0]) + along(y, u, spacing[1]) + along(x, t, spacing[2])
            })
            .fold(f64::INFINITY, f64::min)
            .sqrt()
    })
}

/// Lengths of all shortest paths (Floyd and Warshall); the longest that is finite.
fn longest_by_definition(mask: ArrayView2<'_, bool>) -> f64 {
    let pixels: Vec<_> = mask.indexed_iter().filter(|&(_, &set)| set).map(|(index, _)| index).collect();
    let n = pixels.len();
    let mut lengths = Array2::from_shape_fn((n, n), |(i, j)| {
        let ((y, x), (v, u)) = (pixels[i], pixels[j]);
        match (y.abs_diff(v), x.abs_diff(u)) {
            near @ (0 | 1, 0 | 1) => length(near),
            _ => f64::INFINITY,
        }
    });
    for k in 0..n {
        for i in 0..n {
            for j in 0..n {
                lengths[[i, j]] = lengths[[i, j]].min(lengths[[i, k]] + lengths[[k, j]]);
            }
        }
    }
    lengths.iter().copied().filter(|length| length.is_finite()).fold(0.0, f64::max)
}

fn length((dy, dx): (usize, usize)) -> f64 {
    (dy as f64).hypot(dx as f64)
}

fn length_of(path: &[[usize; 2]]) -> f64 {
    path.windows(2)
        .map(|step| length((step[0][0].abs_diff(step[1][0]), step[0][1].abs_diff(step[1][1]))))
        .sum()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn erosion_is_its_definition(mask in mask3(), size in sides()) {
        prop_assert_eq!(erode(mask.view(), &size).unwrap(), eroded_by_definition(&mask, size));
    }

    #[test]
    fn erosion_shrinks_dilation_grows_and_they_are_adjoint(mask in mask3(), other in mask3(), size in sides()) {
        let odd = size.map(|side| side / 2 * 2 + 1);
        let eroded = erode(mask.view(), &odd).unwrap();
        let dilated = dilate(mask.view(), &odd).unwrap();
        for ((&inner, &set), &outer) in eroded.iter().zip(&mask).zip(&dilated) {
            prop_assert!(inner <= set && set <= outer);
        }
        // dilate(A) ⊆ B  ⇔  A ⊆ erode(B), away from the border, whatever the parity.
        let pad = 10;
        let (depth, height, width) = mask.dim();
        let place = |source: &Array3<bool>| {
            let mut framed = Array3::from_elem((depth + 2 * pad, height + 2 * pad, width + 2 * pad), false);
            for (index, &set) in source.indexed_iter() {
                if let Some(slot) = framed.get_mut([index.0 + pad, index.1 + pad, index.2 + pad]) {
                    *slot = set;
                }
            }
            framed
        };
        let within = |one: &Array3<bool>, two: &Array3<bool>| one.iter().zip(two).all(|(a, b)| a <= b);
        let (a, b) = (place(&mask), place(&other));
        prop_assert_eq!(
            within(&dilate(a.view(), &size).unwrap(), &b),
            within(&a, &erode(b.view(), &size).unwrap())
        );
        let opened = dilate(erode(a.view(), &size).unwrap().view(), &size).unwrap();
        prop_assert!(within(&opened, &a));
        let closed = erode(dilate(a.view(), &size).unwrap().view(), &size).unwrap();
        prop_assert!(within(&a, &closed));
    }

    #[test]
    fn erosion_is_dilation_of_the_complement(mask in mask2(), half in 0_usize..4) {
        let side = [2 * half + 1; 2];
        let framed = {
            let (height, width) = mask.dim();
            let mut framed = Array2::from_elem((height + 10, width + 10), false);
            framed.slice_mut(s![5..5 + height, 5..5 + width]).assign(&mask);
            framed
        };
        let grown = dilate(framed.mapv(|set| !set).view(), &side).unwrap();
        prop_assert_eq!(erode(framed.view(), &side).unwrap(), grown.mapv(|set| !set));
    }

    #[test]
    fn distances_are_those_of_brute_force(mask in mask3(), spacing in prop::array::uniform3(0.3_f64..4.0)) {
        let found = distance_transform(mask.view(), &spacing).unwrap();
        for (&found, &expected) in found.iter().zip(&nearest_by_definition(&mask, spacing)) {
            prop_assert!(found == expected || (found - expected).abs() < 1e-10, "{} {}", found, expected);
        }
    }

    #[test]
    fn skeletons_lie_inside_and_leave_something_of_every_component(mask in mask2()) {
        let skeleton = skeletonize(mask.view());
        prop_assert!(skeleton.iter().zip(&mask).all(|(thin, set)| thin <= set));
        prop_assert_eq!(skeletonize(skeleton.view()), skeleton.clone());
        let (labels, count) = label_components(mask.view(), Connectivity::Full);
        let mut left = vec![false; count + 1];
        for (&label, _) in labels.iter().zip(&skeleton).filter(|&(_, &thin)| thin) {
            left[label as usize] = true;
        }
        prop_assert!(left[1..].iter().all(|&left| left));
    }

    #[test]
    fn longest_paths_are_paths_and_as_long_as_can_be(mask in mask2()) {
        let skeleton = skeletonize(mask.view());
        let path = longest_path(skeleton.view());
        prop_assert_eq!(path.is_empty(), !skeleton.iter().any(|&set| set));
        prop_assert!(path.iter().all(|&pixel| skeleton[pixel]));
        for step in path.windows(2) {
            let [[y, x], [v, u]] = [step[0], step[1]];
            prop_assert_eq!(y.abs_diff(v).max(x.abs_diff(u)), 1);
        }
        let component = largest_component(skeleton.view(), Connectivity::Full);
        prop_assert!((length_of(&path) - longest_by_definition(component.view())).abs() < 1e-9);
        prop_assert!(path.first() <= path.last());
    }

    #[test]
    fn longest_paths_through_any_mask_are_as_long_as_can_be(mask in mask2()) {
        let component = largest_component(mask.view(), Connectivity::Full);
        let path = longest_path(mask.view());
        prop_assert!(path.iter().all(|&pixel| component[pixel]));
        prop_assert!((length_of(&path) - longest_by_definition(component.view())).abs() < 1e-9);
    }

    #[test]
    fn filled_masks_have_no_holes_and_gain_nothing_else(mask in mask3()) {
        let filled = fill_holes(mask.view());
        prop_assert!(mask.iter().zip(&filled).all(|(set, filled)| set <= filled));
        prop_assert_eq!(fill_holes(filled.view()), filled.clone());
        // A frame of background joins whatever is open: the rest of the background is one component.
        let (depth, height, width) = mask.dim();
        let mut framed = Array3::from_elem((depth + 2, height + 2, width + 2), true);
        framed.slice_mut(s![1..=depth, 1..=height, 1..=width]).assign(&filled.mapv(|set| !set));
        prop_assert_eq!(label_components(framed.view(), Connectivity::Face).1, 1);
    }

    #[test]
    fn neighbours_share_a_label(mask in mask2()) {
        let (labels, count) = label_components(mask.view(), Connectivity::Face);
        let mut seen = 0;
        for (&label, &set) in labels.iter().zip(&mask) {
            prop_assert_eq!(label != 0, set);
            prop_assert!(label <= seen + 1);
            seen = seen.max(label);
        }
        prop_assert_eq!(seen as usize, count);
        for axis in 0..2 {
            for lane in labels.lanes(Axis(axis)) {
                prop_assert!(lane.windows(2).into_iter().all(|w| w[0] == 0 || w[1] == 0 || w[0] == w[1]));
            }
        }
    }
}

fn volume() -> Array3<bool> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    Array3::from_shape_simple_fn((24, 80, 90), || rng.random_range(0.0..1.0) < 0.98)
}

#[test]
fn any_thread_count_gives_the_same() {
    let mask = volume();
    let all = || {
        let size = [3, 4, 5];
        (
            erode(mask.view(), &size).unwrap(),
            dilate(mask.mapv(|set| !set).view(), &size).unwrap(),
            distance_transform(mask.view(), &[3.0, 0.9, 1.1]).unwrap(),
        )
    };
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let one = pool(1).install(all);
    for threads in [2, 5] {
        assert_eq!(pool(threads).install(all), one);
    }
    assert_eq!(one.0, eroded_by_definition(&mask, [3, 4, 5]), "the parallel passes against the definition");
}

#[test]
fn edges_of_the_domain() {
    let full = Array2::from_elem((3, 4), true);
    let far = distance_transform(full.view(), &[1.0, 1.0]).unwrap();
    assert!(far.iter().all(|&distance| distance == f64::INFINITY));
    let huge = [usize::MAX / 2, 1];
    assert!(erode(full.view(), &huge).unwrap().iter().all(|&set| !set));
    assert!(dilate(full.view(), &huge).unwrap().iter().all(|&set| set));

    let none = Array2::from_elem((0, 4), true);
    assert_eq!(erode(none.view(), &[3, 3]).unwrap().dim(), (0, 4));
    assert_eq!(distance_transform(none.view(), &[1.0, 1.0]).unwrap().dim(), (0, 4));
    assert_eq!(skeletonize(none.view()).dim(), (0, 4));
    assert_eq!(label_components(none.view(), Connectivity::Full).1, 0);
    assert_eq!(fill_holes(none.view()).dim(), (0, 4));
    assert_eq!(longest_path(none.view()), Vec::<[usize; 2]>::new());
    let point = ndarray::arr0(true);
    assert_eq!(label_components(point.view(), Connectivity::Full), (ndarray::arr0(1), 1));
    assert_eq!(erode(point.view(), &[]).unwrap(), point);
    assert_eq!(longest_path(Array2::from_elem((1, 1), true).view()), vec![[0, 0]]);
}

#[test]
fn wrong_arguments_are_named() {
    let line = Array1::from_elem(4, true);
    assert_eq!(erode(line.view(), &[3, 3]), Err(Error::BoxLength { expected: 1, found: 2 }));
    assert_eq!(dilate(line.view(), &[0]), Err(Error::EmptyBox { axis: 0 }));
    assert_eq!(distance_transform(line.view(), &[]), Err(Error::SpacingLength { expected: 1, found: 0 }));
    for value in [0.0, -1.0, f64::INFINITY] {
        assert_eq!(distance_transform(line.view(), &[value]), Err(Error::Spacing { axis: 0, value }));
    }
    assert!(distance_transform(line.view(), &[f64::NAN]).is_err());
}

#[test]
fn long_curves_and_large_loops_are_searched_too() {
    let mut comb = Array2::from_elem((60, 121), false);
    comb.row_mut(59).fill(true);
    for x in (0..121).step_by(3) {
        comb.column_mut(x).fill(true);
    }
    let path = longest_path(comb.view());
    // Down the first tooth, along the back and up the last; diagonal steps cut the two corners.
    assert_eq!(path.len(), 59 + 121 + 59 - 2);
    assert_eq!((path[0], path[path.len() - 1]), ([0, 0], [0, 120]));

    // More pixels than can be searched from each: a frame, around which two pixels are at most half a round apart.
    let side = 1400;
    let mut frame = Array2::from_elem((side, side), true);
    frame.slice_mut(s![1..side - 1, 1..side - 1]).fill(false);
    let half = 0.5 * (4 * (side - 1)) as f64 - 2.0 * (2.0 - std::f64::consts::SQRT_2);
    assert!((length_of(&longest_path(frame.view())) - half).abs() < 1.0);
}

#[test]
fn a_diagonal_is_longer_than_a_row_of_as_many_pixels() {
    // A bar of 21 pixels with a diagonal stem of 8 below its middle: by number of steps the bar would be the longest
    // path (20 against 18), by length half of it and the stem (10 + 8 √2 = 21.3).
    let mut mask = Array2::from_elem((9, 21), false);
    mask.row_mut(0).fill(true);
    for step in 1..9 {
        mask[[step, 10 + step]] = true;
    }
    let path = longest_path(mask.view());
    assert_eq!((path[0], path[path.len() - 1]), ([0, 0], [8, 18]));
    assert_eq!(path.len(), 19);
}
