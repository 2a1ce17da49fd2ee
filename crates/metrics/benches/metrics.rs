//! Times the metrics on a volume of BraTS size, one JSON line a case.

use std::time::Instant;

use ndarray::Array3;
use rand::SeedableRng;
use scribseg_metrics::{
    LesionParams, RESAMPLES, bootstrap_mean, confusion, evaluate_case, hd95, hd95_by_area, lesion_scores,
};

fn ball(shape: (usize, usize, usize), centre: [f64; 3], radius: f64) -> Array3<u8> {
    Array3::from_shape_fn(shape, |(z, y, x)| {
        let d = ((z as f64 - centre[0]).powi(2)
            + (y as f64 - centre[1]).powi(2)
            + (x as f64 - centre[2]).powi(2))
        .sqrt();
        // A wavy rim, so that the surface is not smoother than a tumour's.
        let rim = radius * (1.0 + 0.15 * (z as f64 / 4.0).sin() * (x as f64 / 5.0).cos());
        [0, 2, 3, 1][usize::from(d < rim) + usize::from(d < 0.7 * rim) + usize::from(d < 0.4 * rim)]
    })
}

fn bench(name: &str, rounds: usize, mut run: impl FnMut()) {
    run();
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "{{\"bench\":\"metrics/{name}\",\"device\":\"cpu\",\"threads\":{threads},\"ours_ms\":{:.3},\"peer\":null,\"peer_ms\":null,\"ratio\":null}}",
        times[times.len() / 2]
    );
}

fn main() -> Result<(), scribseg_metrics::Error> {
    let quick = std::env::var_os("SCRIBSEG_BENCH_QUICK").is_some();
    let (shape, rounds) = if quick { ((40, 96, 96), 3) } else { ((155, 240, 240), 9) };
    let size = format!("{}x{}x{}", shape.2, shape.1, shape.0);
    let middle = [shape.0 as f64 / 2.0, shape.1 as f64 / 2.0, shape.2 as f64 / 2.5];
    let radius = shape.0 as f64 / 4.0;
    let reference = ball(shape, middle, radius);
    let prediction = ball(shape, [middle[0] + 2.0, middle[1] - 3.0, middle[2] + 2.0], 0.95 * radius);
    let (r, p) = (reference.mapv(|v| v > 0), prediction.mapv(|v| v > 0));
    let spacing = [1.0; 3];
    // Checked once; the timed calls are the same.
    evaluate_case(reference.view(), prediction.view(), spacing)?;
    bench(&format!("confusion/{size}"), rounds, || drop(std::hint::black_box(confusion(r.view(), p.view()))));
    bench(&format!("hd95/{size}"), rounds, || drop(std::hint::black_box(hd95(r.view(), p.view(), spacing))));
    bench(&format!("hd95-by-area/{size}"), rounds, || {
        drop(std::hint::black_box(hd95_by_area(r.view(), p.view(), spacing)));
    });
    bench(&format!("lesion/{size}"), rounds, || {
        drop(std::hint::black_box(lesion_scores(r.view(), p.view(), spacing, &LesionParams::default())));
    });
    bench(&format!("case/{size}"), rounds, || {
        drop(std::hint::black_box(evaluate_case(reference.view(), prediction.view(), spacing)));
    });
    // Metastases, rather than a glioma: a small lesion every 24 voxels, found one voxel aside.
    let specks = |aside: usize| {
        Array3::from_shape_fn(shape, |(z, y, x)| {
            let near = |v: usize| (v + 24 - aside) % 24 < 5;
            3 * u8::from(near(z) && near(y) && near(x))
        })
    };
    let (reference, prediction) = (specks(2), specks(3));
    bench(&format!("case-many-lesions/{size}"), rounds, || {
        drop(std::hint::black_box(evaluate_case(reference.view(), prediction.view(), spacing)));
    });
    let values: Vec<f64> = (0..285).map(|i| f64::from(i).sin().abs()).collect();
    bench("bootstrap/285", rounds, || {
        let mut generator = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let _ = std::hint::black_box(bootstrap_mean(&values, RESAMPLES, &mut generator));
    });
    Ok(())
}
