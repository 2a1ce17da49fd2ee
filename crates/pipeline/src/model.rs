//! Model files: weights as safetensors, and in the metadata all that prediction needs.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor, Var};
use candle_nn::VarMap;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::models::turned_degrees_of;
use crate::scan::Scan;

/// What a model file says of itself; held as JSON under one metadata key, so that its bytes do not depend on the
/// order in which a map is walked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Version of this record.
    pub format: u32,
    /// The network's outputs in order: `healthy tumour`, or `background NCR/NET ED ET`.
    pub classes: Vec<String>,
    /// The input channels in order.
    pub channels: Vec<String>,
    /// How a scan is normalised before the network.
    pub normalisation: String,
    /// Side of the axial centre crop in mm.
    pub crop_mm: f64,
    /// Voxel edges of the scans it was trained on in mm, `[z, y, x]`.
    pub spacing_mm: [f64; 3],
    /// What else their grids had in common; absent from files of early versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grids: Option<Grids>,
    /// Label scheme of the cohort it was trained on.
    pub label_scheme: String,
    /// The stage that made it.
    pub stage: String,
    /// Fingerprint of the configuration.
    pub config_hash: String,
    /// Every value in force, crop and network included.
    pub config: Config,
}

/// What the grids of the training scans had in common.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Grids {
    /// The thinnest and the thickest slices in mm.
    pub thickness_mm: [f64; 2],
    /// How far the axes of any were turned from the patient's, in degrees.
    pub turned_degrees: f64,
    /// Whether any was [filled to the rim](crate::Scan::is_filled_to_the_rim).
    pub filled: bool,
}

/// Outputs of Unet-WT.
pub(crate) const TUMOUR_CLASSES: [&str; 2] = ["healthy", "tumour"];

/// Outputs of Unet-sub.
pub(crate) const SUB_CLASSES: [&str; 4] = ["background", "NCR/NET", "ED", "ET"];

/// Version of [`Card`].
const FORMAT: u32 = 1;

impl Card {
    /// The card of a network with 2 (phase 1) or 4 (phase 2) outputs, for scans with voxels of `spacing_mm`.
    pub fn new(stage: &str, outputs: usize, spacing_mm: [f64; 3], config: &Config) -> Self {
        let classes = if outputs == 2 { &TUMOUR_CLASSES[..] } else { &SUB_CLASSES };
        Self {
            format: FORMAT,
            classes: classes.iter().map(|&c| c.to_owned()).collect(),
            channels: crate::MODALITIES.iter().map(|&c| c.to_owned()).collect(),
            normalisation: "z-score per scan and modality over voxels non-zero in any modality; background 0"
                .into(),
            crop_mm: config.input.crop_mm,
            spacing_mm,
            grids: None,
            label_scheme: config.input.label_scheme.clone(),
            stage: stage.to_owned(),
            config_hash: config.hash(),
            config: config.clone(),
        }
    }

    /// What is known of the training scans' grids: of a file that does not say, what the first one's voxels say.
    pub(crate) fn grids(&self) -> Grids {
        let [thickness, ..] = self.spacing_mm;
        let upright = Grids { thickness_mm: [thickness; 2], turned_degrees: 0.0, filled: false };
        self.grids.unwrap_or(upright)
    }
}

impl Grids {
    /// Those of `scans`; `None` without any.
    pub(crate) fn of<'a>(scans: impl IntoIterator<Item = &'a Scan>) -> Option<Self> {
        let each = scans.into_iter().map(|scan| Self {
            thickness_mm: [scan.spacing[0]; 2],
            turned_degrees: turned_degrees_of(&scan.geometry),
            filled: scan.is_filled_to_the_rim(),
        });
        each.reduce(|a, b| Self {
            thickness_mm: [
                a.thickness_mm[0].min(b.thickness_mm[0]),
                a.thickness_mm[1].max(b.thickness_mm[1]),
            ],
            turned_degrees: a.turned_degrees.max(b.turned_degrees),
            filled: a.filled || b.filled,
        })
    }
}

const KEY: &str = "scribseg";

/// Named tensors in name order.
pub(crate) fn tensors(weights: &VarMap) -> Vec<(String, Tensor)> {
    let mut all: Vec<_> = match weights.data().lock() {
        Ok(data) => data.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect(),
        Err(poisoned) => {
            poisoned.into_inner().iter().map(|(n, v)| (n.clone(), v.as_tensor().clone())).collect()
        }
    };
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Writes tensors with one JSON record, aside and renamed.
pub(crate) fn write(path: &Path, tensors: &[(String, Tensor)], record: &impl Serialize) -> Result<()> {
    let fault = |e: &dyn std::fmt::Display| Error::Model { path: path.to_owned(), problem: e.to_string() };
    let record = serde_json::to_string(record).map_err(|e| fault(&e))?;
    let host = tensors
        .iter()
        .map(|(name, t)| Ok((name.as_str(), t.to_device(&Device::Cpu)?.contiguous()?)))
        .collect::<Result<Vec<_>>>()?;
    let views = host.iter().map(|(name, t)| (*name, t));
    let bytes = safetensors::serialize(views, Some(HashMap::from([(KEY.to_owned(), record)])))
        .map_err(|e| fault(&e))?;
    Ok(scribseg_io::write_atomic(path, &bytes)?)
}

/// Reads tensors in name order and the JSON record.
pub(crate) fn read<R: serde::de::DeserializeOwned>(
    path: &Path,
    device: &Device,
) -> Result<(Vec<(String, Tensor)>, R)> {
    let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let fault = |e: &dyn std::fmt::Display| Error::Model {
        path: path.to_owned(),
        problem: format!("expected a safetensors file written by scribseg, found: {e}"),
    };
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| fault(&e))?;
    let record = metadata
        .metadata()
        .as_ref()
        .and_then(|m| m.get(KEY))
        .ok_or_else(|| fault(&"no `scribseg` record in its metadata"))?;
    let record = serde_json::from_str(record).map_err(|e| fault(&e))?;
    let mut tensors: Vec<_> =
        candle_core::safetensors::load_buffer(&bytes, device).map_err(|e| fault(&e))?.into_iter().collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    Ok((tensors, record))
}

/// Puts tensors into a fresh variable map.
pub(crate) fn var_map(tensors: Vec<(String, Tensor)>) -> Result<VarMap> {
    let map = VarMap::new();
    {
        let mut data = map.data().lock().map_err(|e| Error::Network(e.to_string()))?;
        for (name, tensor) in tensors {
            // Detached, for a variable made from a variable shares its storage: two stages would train one set of weights.
            data.insert(name, Var::from_tensor(&tensor.detach())?);
        }
    }
    Ok(map)
}

/// Writes a model file, aside and renamed.
///
/// # Errors
/// What the disk refuses.
pub fn save(path: &Path, weights: &VarMap, card: &Card) -> Result<()> {
    write(path, &tensors(weights), card)
}

/// A model file's weights and card.
///
/// # Errors
/// [`Error::Read`] or [`Error::Model`] when the file is missing or not ours, or holds values that are not finite.
pub fn load(path: &Path, device: &Device) -> Result<(VarMap, Card)> {
    let (tensors, card): (_, Card) = read(path, device)?;
    if card.format > FORMAT {
        return Err(Error::Model {
            path: path.to_owned(),
            problem: format!(
                "expected a record of version {FORMAT}, found {}; it is of a later scribseg, which is to be installed",
                card.format
            ),
        });
    }
    for (name, tensor) in &tensors {
        let values = tensor.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
        if values.iter().any(|v| !v.is_finite()) {
            return Err(Error::Model {
                path: path.to_owned(),
                problem: format!("expected finite weights, found NaN or infinity in `{name}`; train it anew"),
            });
        }
    }
    Ok((var_map(tensors)?, card))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_made_from_another_has_weights_of_its_own() {
        let first = var_map(vec![("w".into(), Tensor::new(&[1.0f32, 2.0], &Device::Cpu).unwrap())]).unwrap();
        let second = var_map(tensors(&first)).unwrap();
        let var = second.data().lock().unwrap()["w"].clone();
        var.set(&Tensor::new(&[7.0f32, 8.0], &Device::Cpu).unwrap()).unwrap();
        assert_eq!(tensors(&first)[0].1.to_vec1::<f32>().unwrap(), [1.0, 2.0]);
    }
}
