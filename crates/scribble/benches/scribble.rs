//! Times on a volume of BraTS size. One JSON line per case; `SCRIBSEG_BENCH_QUICK=1` for a smaller volume.

use ndarray::Array3;
use scribseg_scribble::{Error, Params, simulate, skeleton_scribbles};
use std::hint::black_box;
use std::time::Instant;

fn main() -> Result<(), Error> {
    let quick = std::env::var("SCRIBSEG_BENCH_QUICK").is_ok_and(|value| value == "1");
    let (dim, rounds) = if quick { ((20, 120, 120), 3) } else { ((155, 240, 240), 7) };
    let ball = |middle: [f64; 3], radius: f64| {
        Array3::from_shape_fn(dim, |(z, y, x)| {
            let along = |index: usize, length: usize, middle: f64| index as f64 / length as f64 - middle;
            let (w, v, u) =
                (along(z, dim.0, middle[0]), along(y, dim.1, middle[1]), along(x, dim.2, middle[2]));
            (w * w + v * v + u * u).sqrt() < radius + 0.02 * (11.0 * v.atan2(u)).sin()
        })
    };
    let brain = ball([0.5, 0.5, 0.5], 0.38);
    let tumour = ball([0.55, 0.42, 0.6], 0.16);
    let labels = tumour.mapv(u8::from) + ball([0.55, 0.42, 0.6], 0.08).mapv(u8::from);
    let params = Params::default();
    let case = |name: &str, work: &dyn Fn() -> Result<(), Error>| -> Result<(), Error> {
        let mut times = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let start = Instant::now();
            work()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        println!(
            r#"{{"bench":"scribble/{name}/{}x{}x{}","device":"cpu","threads":{},"ours_ms":{:.3},"peer":null,"peer_ms":null,"ratio":null}}"#,
            dim.2,
            dim.1,
            dim.0,
            rayon::current_num_threads(),
            times[rounds / 2],
        );
        Ok(())
    };
    case("simulate", &|| {
        simulate(tumour.view(), brain.view(), [1.0; 3], &params, 1).map(|result| drop(black_box(result)))
    })?;
    case("skeletons", &|| skeleton_scribbles(labels.view(), 2, 1).map(|result| drop(black_box(result))))
}
