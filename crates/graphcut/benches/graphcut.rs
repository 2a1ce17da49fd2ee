//! Times of the solver, the supervoxels and the whole way, one JSON line a case.

use std::hint::black_box;
use std::time::Instant;

use ndarray::{Array3, Array4, ArrayView4, Axis, s};
use petgraph::algo::dinics;
use petgraph::graph::DiGraph;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scribseg_graphcut::maxflow::{Link, Network};
use scribseg_graphcut::{Params, SlicParams, propagate, slic};

fn timed<T>(work: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    black_box(work());
    start.elapsed().as_secs_f64() * 1e3
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn median_ms(runs: usize, mut work: impl FnMut()) -> f64 {
    median((0..runs).map(|_| timed(&mut work)).collect())
}

fn report(case: &str, ours: f64, peer: Option<(&str, f64)>) {
    let threads = rayon::current_num_threads();
    let line = serde_json::json!({
        "bench": format!("graphcut/{case}"),
        "device": "cpu",
        "threads": threads,
        "ours_ms": ours,
        "peer": peer.map(|p| p.0),
        "peer_ms": peer.map(|p| p.1),
        "ratio": peer.map(|p| p.1 / ours),
    });
    println!("{line}");
}

// A cube whose nodes carry noisy supplies and demands with a bright ball in the middle, like an image's.
fn grid(side: u32) -> (Vec<f64>, Vec<f64>, Vec<Link>) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let at = |z: u32, y: u32, x: u32| (z * side + y) * side + x;
    let (mut source, mut sink, mut links) = (Vec::new(), Vec::new(), Vec::new());
    let half = f64::from(side) / 2.0;
    for z in 0..side {
        for y in 0..side {
            for x in 0..side {
                let radius =
                    [z, y, x].iter().map(|&p| (f64::from(p) - half).powi(2)).sum::<f64>().sqrt() / half;
                let pull = if radius < 0.6 { 4.0 } else { -4.0 } + f64::from(rng.random_range(-10..=10));
                source.push(pull.max(0.0));
                sink.push((-pull).max(0.0));
                for (dz, dy, dx) in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
                    if z + dz < side && y + dy < side && x + dx < side {
                        let capacity = f64::from(rng.random_range(1..5));
                        links.push(Link {
                            a: at(z, y, x),
                            b: at(z + dz, y + dy, x + dx),
                            forward: capacity,
                            backward: capacity,
                        });
                    }
                }
            }
        }
    }
    (source, sink, links)
}

fn ours(source: &[f64], sink: &[f64], links: &[Link]) -> f64 {
    Network::new(source, sink, links).map_or(f64::NAN, |mut network| network.solve())
}

fn petgraph(source: &[f64], sink: &[f64], links: &[Link]) -> f64 {
    let mut graph = DiGraph::<(), u32>::new();
    let nodes: Vec<_> = source.iter().map(|_| graph.add_node(())).collect();
    let (from, to) = (graph.add_node(()), graph.add_node(()));
    for (i, &node) in nodes.iter().enumerate() {
        graph.add_edge(from, node, source[i] as u32);
        graph.add_edge(node, to, sink[i] as u32);
    }
    for link in links {
        graph.add_edge(nodes[link.a as usize], nodes[link.b as usize], link.forward as u32);
        graph.add_edge(nodes[link.b as usize], nodes[link.a as usize], link.backward as u32);
    }
    f64::from(dinics(&graph, from, to).0)
}

struct Scan {
    image: Array4<f32>,
    brain: Array3<bool>,
    scribble: Array3<u8>,
    spacing: [f64; 3],
}

// An ellipsoid of a brain's size at 1 mm, folded texture, noise, and a bright lesion with a stroke in each slice.
fn scan(step: usize) -> Scan {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let shape = [155, 240, 240].map(|n| n / step);
    let mm = |i: usize| (i * step) as f64;
    let within = |at: [usize; 3], centre: [f64; 3], radius: [f64; 3]| {
        (0..3).map(|a| ((mm(at[a]) - centre[a]) / radius[a]).powi(2)).sum::<f64>() <= 1.0
    };
    let brain =
        Array3::from_shape_fn(shape, |(z, y, x)| within([z, y, x], [75.0, 120.0, 120.0], [68.0, 86.0, 68.0]));
    let lesion =
        Array3::from_shape_fn(shape, |(z, y, x)| within([z, y, x], [85.0, 140.0, 90.0], [26.0, 30.0, 28.0]));
    let image = Array4::from_shape_fn((4, shape[0], shape[1], shape[2]), |(c, z, y, x)| {
        if !brain[[z, y, x]] {
            return 0.0;
        }
        let fold = (mm(z) * 0.21).sin() + (mm(y) * 0.17 + c as f64).sin() + (mm(x) * 0.23).cos();
        let noise: f64 = (0..3).map(|_| rng.random_range(-0.6..0.6)).sum();
        (0.5 * fold + noise + if lesion[[z, y, x]] { 1.6 } else { 0.0 }) as f32
    });
    let mut scribble = Array3::zeros(shape);
    for (z, mut slice) in scribble.axis_iter_mut(Axis(0)).enumerate() {
        if (62..108).contains(&(z * step)) {
            slice.slice_mut(s![132 / step..148 / step, 88 / step..92 / step]).fill(1);
        }
        if (30..120).contains(&(z * step)) {
            slice.slice_mut(s![80 / step..160 / step, 148 / step..152 / step]).fill(2);
        }
    }
    Scan { image, brain, scribble, spacing: [step as f64; 3] }
}

fn flair(scan: &Scan) -> ArrayView4<'_, f32> {
    scan.image.slice(s![3.., .., .., ..])
}

fn main() {
    let quick = std::env::var_os("SCRIBSEG_BENCH_QUICK").is_some_and(|v| v == "1");
    let runs = if quick { 1 } else { 5 };

    // petgraph needs the better part of a minute on the large grid, so the two meet on a small one.
    let side = if quick { 8 } else { 14 };
    let (source, sink, links) = grid(side);
    assert_eq!(ours(&source, &sink, &links), petgraph(&source, &sink, &links));
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        mine.push(timed(|| ours(&source, &sink, &links)));
        theirs.push(timed(|| petgraph(&source, &sink, &links)));
    }
    let (mine, theirs) = (median(mine), median(theirs));
    report(&format!("maxflow/{side}x{side}x{side}"), mine, Some(("petgraph 0.8.3 dinics", theirs)));

    let side = if quick { 24 } else { 46 };
    let (source, sink, links) = grid(side);
    let mine = median_ms(runs, || {
        black_box(ours(&source, &sink, &links));
    });
    report(&format!("maxflow/{side}x{side}x{side}"), mine, None);

    for step in if quick { vec![4] } else { vec![2, 1] } {
        let scan = scan(step);
        let [z, y, x] = [155, 240, 240].map(|n| n / step);
        let mine = median_ms(runs, || {
            black_box(slic(flair(&scan), scan.brain.view(), scan.spacing, &SlicParams::default()).is_ok());
        });
        report(&format!("slic/{y}x{x}x{z}"), mine, None);
        let mine = median_ms(runs, || {
            let found = propagate(
                scan.image.view(),
                scan.brain.view(),
                scan.scribble.view(),
                scan.spacing,
                &Params::default(),
            );
            black_box(found.is_ok());
        });
        report(&format!("propagate/{y}x{x}x{z}"), mine, None);
    }
}
