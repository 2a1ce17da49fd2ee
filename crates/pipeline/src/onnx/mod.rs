//! Networks as ONNX, for programs that know nothing of scribseg.
//!
//! A run becomes three files: `wt.onnx` and `sub.onnx` take normalised axial slices to class probabilities; `scan.onnx` takes a whole scan, as the
//! scanner gave it, to labels, with normalisation, crop, both networks and the merge inside. Each says what goes in and comes out in its metadata,
//! under the key `scribseg`, and in a `.json` of the same name. The files are written by an encoder of our own ([opset 17](OPSET)).
//!
//! Batch norms are folded into the convolutions before them; all is computed in `f32`, the z-score in `f64`.

mod about;
mod graph;
mod proto;

use std::path::{Path, PathBuf};

use candle_core::Device;

use crate::error::{Error, Result};
use crate::model;
use crate::models::{Model, Models};
use crate::progress::Progress;
use about::About;
use graph::Network;
pub use proto::{IR_VERSION, OPSET};

/// What made the files; by this they are known as ours.
const PRODUCER: &str = "scribseg";

/// The longest file that readers of protocol buffers take.
const LONGEST: usize = i32::MAX as usize;

/// Writes the networks of a run, or of one model file, and what they expect, to the folder `out`.
///
/// # Errors
/// When models cannot be read or files not be written; a file that scribseg did not write is not replaced.
pub fn export(model: &Path, out: &Path, progress: &dyn Progress) -> Result<Vec<PathBuf>> {
    let models = Models::read(&[model.to_owned()], &Device::Cpu)?;
    for line in models.expectations()? {
        progress.log(&line);
    }
    let named = [("wt", &models.tumour), ("sub", &models.sub)];
    let named = named.into_iter().filter_map(|(name, model)| Some((name, model.as_ref()?)));
    let mut files = Vec::new();
    let mut add = |name: &str, about: About, graph: &dyn Fn([String; 2]) -> Result<proto::Graph>| {
        let record = serde_json::to_string(&about);
        let pretty = serde_json::to_string_pretty(&about);
        let (Ok(record), Ok(pretty)) = (record, pretty) else {
            return Err(Error::Config(format!("{name}: its record cannot be written as JSON")));
        };
        let graph = graph(about.ports())?;
        let file = proto::Model { graph, about: about.summary(), metadata: vec![(PRODUCER, record)] };
        files.push((out.join(format!("{name}.onnx")), file.encode()));
        files.push((out.join(format!("{name}.json")), (pretty + "\n").into_bytes()));
        Ok(())
    };
    for (name, model) in named {
        let about = About::of_slices(model, format!("{name}.onnx"))?;
        add(name, about, &|ports| graph::of_slices(name, &network(model)?, ports))?;
    }
    if let (Some(tumour), Some(sub)) = (&models.tumour, &models.sub) {
        let about = About::of_scan(tumour, sub, "scan.onnx".into())?;
        let (crop, values) = (about::crop_of(&tumour.card), about::values_of(sub)?);
        add("scan", about, &|ports| graph::of_scan(&network(tumour)?, &network(sub)?, crop, values, ports))?;
    }
    for (path, bytes) in &files {
        spare_foreign_file(path)?;
        if bytes.len() > LONGEST {
            return Err(Error::RunDirectory {
                path: path.clone(),
                problem: format!(
                    "expected at most 2 GiB, as a file of protocol buffers may have, found {} bytes; train a narrower network",
                    bytes.len()
                ),
            });
        }
    }
    crate::verbs::make_folder(out)?;
    for (path, bytes) in &files {
        scribseg_io::write_atomic(path, bytes)?;
    }
    progress.log(&format!("written as ONNX: opset {OPSET}, IR version {IR_VERSION}"));
    if models.each().any(|model| model.card.config.network.precision != "f32") {
        progress.log("their products are in f32 there: answers differ from `predict`'s by as much as the rounding of the training's precision");
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

/// Shape and parameters of a model.
fn network(model: &Model) -> Result<Network> {
    let shape = scribseg_unet::Config {
        in_channels: model.card.channels.len(),
        out_channels: model.card.classes.len(),
        width: model.card.config.network.width,
        depth: model.card.config.network.depth,
    };
    let tensors = model::tensors(&model.weights).into_iter();
    let parameters = tensors.map(|(name, tensor)| Ok((name, tensor.flatten_all()?.to_vec1::<f32>()?)));
    Ok(Network { shape, parameters: parameters.collect::<Result<_>>()? })
}

/// An error if a file is there that is none of ours.
fn spare_foreign_file(path: &Path) -> Result<()> {
    let ours = match std::fs::read(path) {
        // Both kinds name who made them at their beginning.
        Ok(bytes) => {
            let start = &bytes[..bytes.len().min(64)];
            start.windows(PRODUCER.len()).any(|word| word == PRODUCER.as_bytes())
        }
        Err(_) => !path.exists(),
    };
    match ours {
        true => Ok(()),
        false => Err(Error::RunDirectory {
            path: path.to_owned(),
            problem: "was not written by scribseg and would be replaced; choose another `--out`, or move the file away".into(),
        }),
    }
}
