//! Time of a whole tumour's division, beside linfa's k-means alone on the same features, one JSON line a case.

use std::hint::black_box;
use std::time::Instant;

use linfa::DatasetBase;
use linfa::traits::Fit;
use ndarray::{Array3, Array4};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_linfa::Xoshiro256Plus;
use rand_linfa::rand_core::SeedableRng as _;
use scribseg_cluster::{Params, Presence, Prior, kmeans, mixture};

/// Medians of two pieces of work that take turns.
fn medians_ms(runs: usize, mut ours: impl FnMut(), mut peer: impl FnMut()) -> (f64, f64) {
    let timed = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64() * 1e3
    };
    let (mut mine, mut theirs): (Vec<f64>, Vec<f64>) =
        (0..runs).map(|_| (timed(&mut ours), timed(&mut peer))).unzip();
    mine.sort_by(f64::total_cmp);
    theirs.sort_by(f64::total_cmp);
    (mine[runs / 2], theirs[runs / 2])
}

fn tumour(side: usize) -> (Array4<f32>, Array3<bool>) {
    let half = side as f64 / 2.0;
    let depth = |z: usize, y: usize, x: usize| {
        [z, y, x].iter().map(|&p| (p as f64 + 0.5 - half).powi(2)).sum::<f64>().sqrt() / half
    };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let image = Array4::from_shape_fn((4, side, side, side), |(m, z, y, x)| {
        let mean = match depth(z, y, x) {
            d if d < 0.4 => [-0.2, -0.1, 1.8, 1.9][m],
            d if d < 0.6 => [0.4, 2.6, 1.2, 2.1][m],
            _ => [0.2, 0.1, 0.9, 1.8][m],
        };
        mean + (0..3).map(|_| rng.random_range(-0.6..0.6f32)).sum::<f32>()
    });
    (image, Array3::from_shape_fn((side, side, side), |(z, y, x)| depth(z, y, x) <= 1.0))
}

fn main() {
    let quick = std::env::var_os("SCRIBSEG_BENCH_QUICK").is_some_and(|v| v == "1");
    let runs = if quick { 1 } else { 3 };
    for side in if quick { vec![24] } else { vec![36, 73] } {
        let (image, wt) = tumour(side);
        let voxels = wt.iter().filter(|w| **w).count();
        let presence = Presence { ncr: Some(true), ed: Some(true), et: Some(true) };
        let ours = || {
            let found = kmeans(image.view(), wt.view(), presence, [1.0; 3], &Params::default(), 1);
            black_box(found.is_ok());
        };
        // The features' weights do not matter for the time.
        let rows: Vec<[f64; 5]> = wt
            .indexed_iter()
            .filter(|(_, inside)| **inside)
            .map(|((z, y, x), _)| {
                let [t1, t1ce, t2, flair] = [0, 1, 2, 3].map(|m| f64::from(image[[m, z, y, x]]));
                [t1, 2.0 * t1ce, t2, flair, 2.0 * (t1ce - t1)]
            })
            .collect();
        let records = ndarray_linfa::Array2::from_shape_fn((voxels, 5), |(i, f)| rows[i][f]);
        let dataset = DatasetBase::from(records);
        let peer = || {
            let params =
                linfa_clustering::KMeans::params_with_rng(3, Xoshiro256Plus::seed_from_u64(1)).n_runs(10);
            black_box(params.fit(&dataset).is_ok());
        };
        let (ours, peer) = medians_ms(runs, ours, peer);
        let line = serde_json::json!({
            "bench": format!("cluster/kmeans/{voxels}x5-k3-r10"),
            "device": "cpu",
            "threads": 1,
            "ours_ms": ours,
            "peer": "linfa-clustering 0.8.1",
            "peer_ms": peer,
            "ratio": peer / ours,
        });
        println!("{line}");
        let prior = Prior::phantoms();
        let mixed = || {
            let found =
                prior.as_ref().map(|prior| mixture(image.view(), wt.view(), presence, [1.0; 3], prior));
            black_box(found.is_ok_and(|found| found.is_ok()));
        };
        let clustered = || {
            let found = kmeans(image.view(), wt.view(), presence, [1.0; 3], &Params::default(), 1);
            black_box(found.is_ok());
        };
        let (mixed, clustered) = medians_ms(runs, mixed, clustered);
        let line = serde_json::json!({
            "bench": format!("cluster/mixture/{voxels}"),
            "device": "cpu",
            "threads": rayon::current_num_threads(),
            "ours_ms": mixed,
            "peer": "our k-means",
            "peer_ms": clustered,
            "ratio": clustered / mixed,
        });
        println!("{line}");
    }
}
