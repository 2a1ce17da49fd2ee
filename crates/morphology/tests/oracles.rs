//! Against SciPy and scikit-image (`tests/fixtures/make_fixtures.py`).
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use ndarray::{ArrayD, Ix2, IxDyn};
use scribseg_morphology::{
    Connectivity, component_sizes, dilate, distance_transform, erode, fill_holes, label_components,
    largest_component, longest_path, skeletonize,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Mask {
    shape: Vec<usize>,
    data: String,
}

impl Mask {
    fn array(&self) -> ArrayD<bool> {
        let data = self.data.bytes().map(|byte| byte == b'1').collect();
        ArrayD::from_shape_vec(IxDyn(&self.shape), data).unwrap()
    }
}

#[derive(Deserialize)]
struct Boxed {
    mask: Mask,
    size: Vec<usize>,
    eroded: Mask,
    dilated: Mask,
}

#[derive(Deserialize)]
struct Skeleton {
    mask: Mask,
    skeleton: Mask,
    longest: f64,
}

#[derive(Deserialize)]
struct Distance {
    mask: Mask,
    spacing: Vec<f64>,
    distance: Vec<f64>,
}

#[derive(Deserialize)]
struct Components {
    mask: Mask,
    face: Vec<u32>,
    n_face: usize,
    full: Vec<u32>,
    n_full: usize,
    filled: Mask,
}

#[derive(Deserialize)]
struct Fixtures {
    boxes: Vec<Boxed>,
    skeletons: Vec<Skeleton>,
    distances: Vec<Distance>,
    components: Vec<Components>,
}

fn fixtures() -> Fixtures {
    serde_json::from_str(include_str!("fixtures/morphology.json")).unwrap()
}

#[test]
fn boxes_match_scipy() {
    let cases = fixtures().boxes;
    assert_eq!(cases.len(), 8);
    for case in cases {
        let mask = case.mask.array();
        assert_eq!(
            erode(mask.view(), &case.size).unwrap(),
            case.eroded.array(),
            "erosion by {:?}",
            case.size
        );
        assert_eq!(
            dilate(mask.view(), &case.size).unwrap(),
            case.dilated.array(),
            "dilation by {:?}",
            case.size
        );
    }
}

#[test]
fn boxes_of_other_memory_orders_match_too() {
    let case = &fixtures().boxes[2];
    let mask = case.mask.array();
    let turned: Vec<usize> = case.size.iter().rev().copied().collect();
    let eroded = erode(mask.t(), &turned).unwrap();
    assert_eq!(eroded, case.eroded.array().reversed_axes());
}

#[test]
fn skeletons_match_scikit_image() {
    let cases = fixtures().skeletons;
    assert_eq!(cases.len(), 5);
    for case in cases {
        let mask = case.mask.array().into_dimensionality::<Ix2>().unwrap();
        let expected = case.skeleton.array().into_dimensionality::<Ix2>().unwrap();
        assert_eq!(skeletonize(mask.view()), expected);
    }
}

#[test]
fn longest_paths_are_as_long_as_scipy_says() {
    for case in fixtures().skeletons {
        let skeleton = case.skeleton.array().into_dimensionality::<Ix2>().unwrap();
        let path = longest_path(skeleton.view());
        let length: f64 = path
            .windows(2)
            .map(|step| {
                let along = |axis: usize| step[0][axis].abs_diff(step[1][axis]) as f64;
                along(0).hypot(along(1))
            })
            .sum();
        assert!((length - case.longest).abs() < 1e-8, "{length} instead of {}", case.longest);
    }
}

#[test]
fn distances_match_scipy() {
    let cases = fixtures().distances;
    assert_eq!(cases.len(), 3);
    for case in cases {
        let mask = case.mask.array();
        let found = distance_transform(mask.view(), &case.spacing).unwrap();
        for (found, expected) in found.iter().zip(&case.distance) {
            assert!((found - expected).abs() < 2e-9, "{found} instead of {expected}");
        }
        let turned: Vec<f64> = case.spacing.iter().rev().copied().collect();
        let transposed = distance_transform(mask.t(), &turned).unwrap();
        for (one, two) in transposed.t().iter().zip(&found) {
            assert!((one - two).abs() < 1e-12);
        }
    }
}

#[test]
fn components_match_scipy() {
    let cases = fixtures().components;
    assert_eq!(cases.len(), 4);
    for case in cases {
        let mask = case.mask.array();
        let (face, n_face) = label_components(mask.view(), Connectivity::Face);
        assert_eq!(n_face, case.n_face);
        assert_eq!(face.into_raw_vec_and_offset().0, case.face);
        let (full, n_full) = label_components(mask.view(), Connectivity::Full);
        assert_eq!(n_full, case.n_full);
        assert_eq!(full.into_raw_vec_and_offset().0, case.full);

        assert_eq!(fill_holes(mask.view()), case.filled.array());

        let largest = largest_component(mask.view(), Connectivity::Full);
        let size = |id: u32| case.full.iter().filter(|&&label| label == id).count();
        let sizes: Vec<usize> = (0..=case.n_full as u32).map(size).collect();
        let labels = ArrayD::from_shape_vec(mask.shape(), case.full.clone()).unwrap();
        assert_eq!(component_sizes(labels.view(), n_full), sizes);
        let expected = sizes[1..].iter().copied().max().unwrap();
        assert_eq!(largest.iter().filter(|&&set| set).count(), expected);
        assert_eq!(label_components(largest.view(), Connectivity::Full).1, 1);
    }
}
