//! What the networks of a run see of each scan of a cohort and what they answer, as `<case>.safetensors`: to hold other programs against.
//!
//! `cargo run -p scribseg-pipeline --example probabilities -- RUN COHORT OUT`

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use scribseg_io::Cohort;
use scribseg_pipeline::methods::Methods;
use scribseg_pipeline::{Scan, load_model};
use scribseg_unet::softmax;

/// Slices that go through a network together.
const SLICES: usize = 8;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [run, cohort, out] = paths.as_slice() else {
        return Err("expected RUN COHORT OUT".into());
    };
    std::fs::create_dir_all(out)?;
    let models =
        ["wt", "sub"].map(|name| load_model(&run.join(format!("models/{name}.safetensors")), &Device::Cpu));
    let [(wt, card), (sub, _)] = {
        let [wt, sub] = models;
        [wt?, sub?]
    };
    let network = Methods::paper(&card.config).network;
    for case in &Cohort::open(cohort, None)?.cases {
        let scan = Scan::prepare(case.load_images()?, &card.config, network.stride())?;
        // Slices first: `[z, channel, y, x]`.
        let image = scan.image.view().permuted_axes([1, 0, 2, 3]);
        let images = Tensor::from_vec(image.iter().copied().collect(), image.dim(), &Device::Cpu)?;
        let mut found = HashMap::from([("images", images.clone())]);
        for (name, weights, outputs) in [("wt", &wt, 2), ("sub", &sub, 4)] {
            let network = network.load(outputs, weights, &Device::Cpu)?;
            let parts = (0..image.dim().0).step_by(SLICES).map(|z| {
                let some = images.narrow(0, z, SLICES.min(image.dim().0 - z))?;
                Ok(softmax(&network.logits(&some, false)?)?)
            });
            found.insert(name, Tensor::cat(&parts.collect::<Result<Vec<_>, Failure>>()?, 0)?);
        }
        let path: &Path = &out.join(format!("{}.safetensors", scan.id));
        candle_core::safetensors::save(&found, path)?;
        println!("{}", path.display());
    }
    Ok(())
}
