//! `export`: networks for other programs.

use anyhow::Result;
use scribseg_pipeline::{Progress, onnx};

use super::written;
use crate::arguments::Export;
use crate::outcome::Outcome;

pub(crate) fn run(arguments: &Export, progress: &dyn Progress) -> Result<Outcome> {
    let Export { model, out, json, .. } = arguments;
    written(&onnx::export(model, out, progress)?, *json)
}
