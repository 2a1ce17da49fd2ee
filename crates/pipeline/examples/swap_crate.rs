//! Swaps the graph cut for a seed expansion of one's own, and trains a tiny cohort with it.
//!
//! `cargo run -p scribseg-pipeline --example swap_crate`

use ndarray::{Array3, ArrayView3, Zip};
use scribseg_pipeline::methods::{Methods, SeedExpansion};
use scribseg_pipeline::{Config, Labels, Preset, Result, Scan, Silent, fit_with, verbs};

/// Weak labels by FLAIR alone: what is as bright as the tumour scribble's mean is tumour, what is dark is healthy.
struct Brightness;

impl SeedExpansion for Brightness {
    fn expand(&self, scan: &Scan, scribble: ArrayView3<'_, u8>) -> Result<Array3<u8>> {
        let flair = scan.image.index_axis(ndarray::Axis(0), 3);
        let seeds: Vec<f32> = flair.iter().zip(scribble).filter(|(_, s)| **s == 1).map(|(v, _)| *v).collect();
        let bright = seeds.iter().sum::<f32>() / seeds.len().max(1) as f32;
        Ok(Zip::from(flair).and(scribble).and(&scan.brain).map_collect(|&v, &s, &brain| match (brain, s) {
            (true, 0) if v > bright => 1,
            (true, 0) if v < 0.0 => 2,
            _ => 0,
        }))
    }
}

fn main() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("scribseg-swap-{}", std::process::id()));
    let (cohort, run) = (folder.join("cohort"), folder.join("run"));
    verbs::write_phantom(&cohort, 3, 1, scribseg_phantom::Size::Half, &Silent)?;
    let mut config = Config::preset(Preset::Smoke)?;
    for change in ["wt.iterations=4", "wt.crf_iterations=2", "sub.iterations=4", "sub.crf_iterations=2"] {
        config.set(change)?;
    }
    let methods = Methods { seeds: Box::new(Brightness), ..Methods::paper(&config) };
    let done =
        fit_with(&methods, &cohort, &run, &Labels::default(), &config, &candle_core::Device::Cpu, &Silent)?;
    println!("trained on {} scans with weak masks of our own", done.train.len());
    let _ = std::fs::remove_dir_all(folder);
    Ok(())
}
