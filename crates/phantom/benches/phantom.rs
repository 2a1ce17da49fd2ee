//! Time to make a case, on the current rayon pool: one JSON line per size. `SCRIBSEG_BENCH_QUICK=1` takes fewer repeats.

use scribseg_phantom::{Size, generate_case};
use std::time::Instant;

fn main() {
    let quick = std::env::var_os("SCRIBSEG_BENCH_QUICK").is_some_and(|v| v == "1");
    for (name, size, repeats) in [("half", Size::Half, 7), ("full", Size::Full, 3)] {
        let repeats = if quick { 1 } else { repeats };
        let mut ms: Vec<f64> = (0..repeats)
            .map(|i| {
                let start = Instant::now();
                std::hint::black_box(generate_case(i, 1, size));
                start.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        ms.sort_by(f64::total_cmp);
        println!(
            "{{\"bench\":\"phantom/case/{name}\",\"device\":\"cpu\",\"threads\":{},\"ours_ms\":{:.1},\"peer\":null,\"peer_ms\":null,\"ratio\":null}}",
            rayon::current_num_threads(),
            ms[ms.len() / 2]
        );
    }
}
