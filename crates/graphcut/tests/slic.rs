//! What every partition into supervoxels must hold.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use ndarray::{Array3, Array4};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scribseg_graphcut::{Error, SlicParams, region_graph, slic};

fn noise(shape: (usize, usize, usize, usize), seed: u64) -> Array4<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array4::from_shape_simple_fn(shape, || rng.random_range(-1.0..1.0))
}

fn ball(shape: (usize, usize, usize)) -> Array3<bool> {
    let half = [shape.0, shape.1, shape.2].map(|n| n as f64 / 2.0);
    Array3::from_shape_fn(shape, |(z, y, x)| {
        [z, y, x].iter().zip(half).map(|(&p, h)| ((p as f64 + 0.5 - h) / h).powi(2)).sum::<f64>() < 1.0
    })
}

// The sizes of the face-connected pieces of a mask.
fn pieces(mask: &Array3<bool>) -> Vec<usize> {
    let mut left = mask.clone();
    let mut sizes = Vec::new();
    while let Some(start) = left.indexed_iter().find(|(_, inside)| **inside).map(|(at, _)| at) {
        let (mut stack, mut size) = (vec![start], 0);
        left[start] = false;
        while let Some((z, y, x)) = stack.pop() {
            size += 1;
            let around = [(-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1)];
            for (dz, dy, dx) in around {
                let step = |at: usize, by| at.checked_add_signed(by);
                if let (Some(z), Some(y), Some(x)) = (step(z, dz), step(y, dy), step(x, dx))
                    && left.get((z, y, x)) == Some(&true)
                {
                    left[(z, y, x)] = false;
                    stack.push((z, y, x));
                }
            }
        }
        sizes.push(size);
    }
    sizes
}

fn check(labels: &Array3<u32>, count: usize, mask: &Array3<bool>, smallest: f64) {
    let mut sizes = BTreeMap::new();
    for (&label, &inside) in labels.iter().zip(mask) {
        assert_eq!(label != 0, inside, "the supervoxels cover the mask and nothing else");
        if inside {
            *sizes.entry(label).or_insert(0usize) += 1;
        }
    }
    assert_eq!(sizes.keys().copied().collect::<Vec<_>>(), (1..=count as u32).collect::<Vec<_>>());
    for (&label, &size) in &sizes {
        let own = labels.mapv(|l| l == label);
        assert_eq!(pieces(&own).len(), 1, "supervoxel {label} is connected");
        if (size as f64) < smallest {
            // Small is allowed only where nothing else of the mask touches it.
            let touching = labels.indexed_iter().filter(|(_, l)| **l == label).any(|((z, y, x), _)| {
                [(z.wrapping_sub(1), y, x), (z + 1, y, x), (z, y.wrapping_sub(1), x), (z, y + 1, x)]
                    .into_iter()
                    .chain([(z, y, x.wrapping_sub(1)), (z, y, x + 1)])
                    .any(|at| labels.get(at).is_some_and(|l| *l != 0 && *l != label))
            });
            assert!(!touching, "supervoxel {label} of {size} voxels is small but has neighbours");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn partitions_are_connected_complete_and_bounded(
        shape in (3..14usize, 3..14usize, 3..14usize),
        spacing in prop::array::uniform3(0.5..3.0f64),
        edge_mm in 1.0..6.0f64,
        compactness in 0.0..2.0f64,
        channels in 1..3usize,
        holes in 0.0..0.6f64,
        seed in any::<u64>(),
    ) {
        let features = noise((channels, shape.0, shape.1, shape.2), seed);
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 1);
        let mask = Array3::from_shape_simple_fn(shape, || rng.random_range(0.0..1.0) >= holes);
        let params = SlicParams { edge_mm, compactness, iterations: 3, min_fraction: 0.3 };
        let found = slic(features.view(), mask.view(), spacing, &params).unwrap();
        let smallest = 0.3 * edge_mm.powi(3) / spacing.iter().product::<f64>();
        check(&found.labels, found.count, &mask, smallest);
    }
}

#[test]
fn a_flat_image_gives_cubes_of_the_asked_size() {
    let mask = Array3::from_elem((16, 24, 24), true);
    let found =
        slic(Array4::zeros((1, 16, 24, 24)).view(), mask.view(), [2.0, 1.0, 1.0], &SlicParams::default())
            .unwrap();
    // 32 x 24 x 24 mm in cubes of 4 mm.
    assert_eq!(found.count, 8 * 6 * 6);
    check(&found.labels, found.count, &mask, 32.0);
}

#[test]
fn supervoxels_follow_a_strong_edge() {
    let mask = ball((24, 24, 24));
    // The edge does not lie on the initial grid.
    let bright = |z: usize, y: usize, x: usize| 2 * x + y + z > 47;
    let features =
        Array4::from_shape_fn((1, 24, 24, 24), |(_, z, y, x)| if bright(z, y, x) { 3.0 } else { 0.0 });
    let found = slic(features.view(), mask.view(), [1.0; 3], &SlicParams::default()).unwrap();
    let mut sides = vec![[0usize; 2]; found.count + 1];
    for ((z, y, x), &label) in found.labels.indexed_iter() {
        sides[label as usize][usize::from(bright(z, y, x))] += usize::from(label != 0);
    }
    let wrong: usize = sides.iter().map(|s| s[0].min(s[1])).sum();
    let all: usize = sides.iter().flatten().sum();
    assert!(wrong * 200 < all, "{wrong} of {all} voxels lie in a supervoxel of the other side");
}

#[test]
fn any_number_of_threads_gives_the_same_supervoxels() {
    let (features, mask) = (noise((2, 20, 22, 24), 5), ball((20, 22, 24)));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| slic(features.view(), mask.view(), [1.0; 3], &SlicParams::default()).unwrap())
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
}

#[test]
fn what_lies_outside_the_mask_is_never_read() {
    let (mut features, mask) = (noise((1, 12, 12, 12), 6), ball((12, 12, 12)));
    let before = slic(features.view(), mask.view(), [1.0; 3], &SlicParams::default()).unwrap();
    features.iter_mut().zip(&mask).for_each(|(f, inside)| {
        if !inside {
            *f = f32::NAN;
        }
    });
    assert_eq!(slic(features.view(), mask.view(), [1.0; 3], &SlicParams::default()).unwrap(), before);
}

#[test]
fn an_empty_mask_gives_no_supervoxel() {
    let found = slic(
        Array4::zeros((1, 4, 4, 4)).view(),
        Array3::from_elem((4, 4, 4), false).view(),
        [1.0; 3],
        &SlicParams::default(),
    );
    assert_eq!(found.unwrap().count, 0);
    let found = slic(
        Array4::zeros((1, 0, 4, 4)).view(),
        Array3::default((0, 4, 4)).view(),
        [1.0; 3],
        &SlicParams::default(),
    );
    assert_eq!(found.unwrap().count, 0);
}

#[test]
fn bad_input_is_refused_with_its_reason() {
    let (mut features, mask) = (noise((1, 4, 4, 4), 1), Array3::from_elem((4, 4, 4), true));
    let run = |f: &Array4<f32>, spacing, change: fn(&mut SlicParams)| {
        let mut params = SlicParams::default();
        change(&mut params);
        slic(f.view(), mask.view(), spacing, &params).unwrap_err()
    };
    assert!(matches!(run(&features, [1.0, 0.0, 1.0], |_| ()), Error::Spacing { .. }));
    assert!(matches!(run(&noise((1, 4, 4, 5), 1), [1.0; 3], |_| ()), Error::Shape { .. }));
    for change in [
        (|p| p.edge_mm = 0.0) as fn(&mut SlicParams),
        |p| p.compactness = f64::NAN,
        |p| p.iterations = 0,
        |p| p.min_fraction = 1.5,
    ] {
        assert!(matches!(run(&features, [1.0; 3], change), Error::Parameter { .. }));
    }
    features[[0, 1, 2, 3]] = f32::INFINITY;
    let error = run(&features, [1.0; 3], |_| ()).to_string();
    assert!(error.contains("[1, 2, 3]") && error.contains("channel 0"), "{error}");
}

#[test]
fn the_region_graph_counts_every_shared_face() {
    // Two by two blocks in one slice of 1 x 4 x 6 voxels of 3 x 2 x 1 mm, and a background voxel.
    let mut labels: Vec<u32> = (0..24).map(|i| 1 + (i / 6 / 2) * 2 + (i % 6) / 3).collect();
    labels[2] = 0;
    let graph = region_graph([1, 4, 6], [3.0, 2.0, 1.0], &labels);
    let edges: Vec<_> = graph.all_edges().map(|(a, b, w)| (a, b, *w)).collect();
    // Across x a face is 3 x 2 mm, across y 3 x 1 mm.
    assert_eq!(edges, [(1, 2, 6.0), (1, 3, 9.0), (2, 4, 9.0), (3, 4, 12.0)]);
}

proptest! {
    #[test]
    fn region_areas_equal_counting_faces_one_by_one(
        labels in prop::collection::vec(0..5u32, 60), spacing in prop::array::uniform3(0.5..3.0f64),
    ) {
        let volume = Array3::from_shape_vec((3, 4, 5), labels.clone()).unwrap();
        let mut areas = BTreeMap::<(u32, u32), f64>::new();
        for ((z, y, x), &a) in volume.indexed_iter() {
            for (to, area) in [
                ([z + 1, y, x], spacing[1] * spacing[2]),
                ([z, y + 1, x], spacing[0] * spacing[2]),
                ([z, y, x + 1], spacing[0] * spacing[1]),
            ] {
                if let Some(&b) = volume.get(to) && a != b && a * b != 0 {
                    *areas.entry((a.min(b), a.max(b))).or_default() += area;
                }
            }
        }
        let graph = region_graph([3, 4, 5], spacing, &labels);
        prop_assert_eq!(graph.edge_count(), areas.len());
        for (a, b, area) in graph.all_edges() {
            prop_assert!((areas[&(a.min(b), a.max(b))] - area).abs() < 1e-9);
        }
    }
}
