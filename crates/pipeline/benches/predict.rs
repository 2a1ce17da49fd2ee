//! One scan through `predict`: reading and normalising it, then both networks; one JSON line a case.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use candle_core::Device;
use scribseg_io::Cohort;
use scribseg_phantom::Size;
use scribseg_pipeline::methods::Methods;
use scribseg_pipeline::{Config, Scan, Silent, classes, merge, verbs};

fn case(
    name: &str,
    runs: usize,
    mut work: impl FnMut() -> scribseg_pipeline::Result<()>,
) -> Result<(), Box<dyn Error>> {
    work()?;
    let mut times = Vec::new();
    for _ in 0..runs {
        let begun = Instant::now();
        work()?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let line = serde_json::json!({
        "bench": format!("predict/{name}"), "device": "cpu", "threads": rayon::current_num_threads(),
        "ours_ms": times[runs / 2], "peer": null, "peer_ms": null, "ratio": null,
    });
    println!("{line}");
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let quick = std::env::var_os("SCRIBSEG_BENCH_QUICK").is_some();
    let (size, name, runs) = if quick { (Size::Half, "half", 1) } else { (Size::Full, "full", 3) };
    let folder = tempfile::tempdir()?;
    verbs::write_phantom(folder.path(), 1, 1, size, &Silent)?;
    let cohort = Cohort::open(folder.path(), None)?;
    let mut config = Config::default();
    config.set("network.width=16")?;
    let methods = Methods::paper(&config);
    let prepare = || Scan::prepare(cohort.cases[0].load_images()?, &config, methods.network.stride());
    case(&format!("read-{name}"), runs, || {
        black_box(prepare()?);
        Ok(())
    })?;
    let scan = prepare()?;
    let weights = [2, 4].map(|outputs| methods.network.init(outputs, 1, &Device::Cpu));
    let [tumour, sub] = weights;
    let (tumour, sub) = (tumour?, sub?);
    case(&format!("networks-{name}-w16"), runs, || {
        let wt = classes(&*methods.network.load(2, &tumour, &Device::Cpu)?, &scan, &Device::Cpu)?;
        let own = classes(&*methods.network.load(4, &sub, &Device::Cpu)?, &scan, &Device::Cpu)?;
        black_box(merge(&wt.mapv(|v| v != 0), &own));
        Ok(())
    })
}
