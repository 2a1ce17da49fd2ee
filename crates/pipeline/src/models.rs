//! The networks of a prediction: read from a run or from single files, what they expect, and whether a scan fits.

use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_nn::VarMap;
use scribseg_io::{Case, Cohort, Geometry, LabelScheme};

use crate::error::{Error, Result};
use crate::methods::Methods;
use crate::model::{self, Card, Grids, SUB_CLASSES, TUMOUR_CLASSES};
use crate::scan::{FILLED, Scan};

/// Part by which pixels may be larger or smaller than those trained on: networks have seen tissue at one scale alone.
const PIXEL_TOLERANCE: f64 = 0.05;

/// How many times thinner or thicker slices may be than any trained on. Networks see one slice at a time, but a thick one blurs what it shows.
const THICKNESS_FACTOR: f64 = 2.0;

/// Degrees by which a grid may be turned further from the patient's axes than any trained on.
const TURN_TOLERANCE: f64 = 15.0;

/// A network from disk.
pub(crate) struct Model {
    /// The file.
    pub(crate) path: PathBuf,
    /// Its parameters.
    pub(crate) weights: VarMap,
    /// What it says of itself.
    pub(crate) card: Card,
}

/// Unet-WT, Unet-sub, or both: there is one at least.
pub(crate) struct Models {
    /// Healthy or tumour.
    pub(crate) tumour: Option<Model>,
    /// Background and the three sub-structures.
    pub(crate) sub: Option<Model>,
}

impl Models {
    /// Reads a run, a folder with wt.safetensors and sub.safetensors, or model files: which network one holds its card says, not its name.
    ///
    /// # Errors
    /// [`Error::Model`] when one is missing, is none of ours or does not fit the network it describes, when two are of one kind, or come from two
    /// configurations.
    pub(crate) fn read(paths: &[PathBuf], device: &Device) -> Result<Self> {
        let mut models = Self { tumour: None, sub: None };
        for path in paths {
            let files = if path.is_file() { vec![path.clone()] } else { of_run(path)?.to_vec() };
            for file in files {
                let model = read_one(file, device)?;
                let place = if model.is_tumour() { &mut models.tumour } else { &mut models.sub };
                if let Some(other) = place {
                    return Err(Error::Model {
                        problem: format!(
                            "expected one network for {}, found {} too; give one run, or one file of each kind",
                            other.card.classes.join(", "),
                            other.path.display()
                        ),
                        path: model.path,
                    });
                }
                *place = Some(model);
            }
        }
        if let (Some(tumour), Some(sub)) = (&models.tumour, &models.sub)
            && tumour.card.config_hash != sub.card.config_hash
        {
            return Err(Error::Model {
                path: sub.path.clone(),
                problem: format!(
                    "comes from another configuration than {}; take both from one run",
                    tumour.path.display()
                ),
            });
        }
        match models.tumour.is_some() || models.sub.is_some() {
            true => Ok(models),
            false => Err(Error::Config("expected a run or a model file, found none".into())),
        }
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = &Model> {
        self.tumour.iter().chain(&self.sub)
    }

    /// What both say alike.
    pub(crate) fn card(&self) -> Result<&Card> {
        let first = self.each().next().map(|model| &model.card);
        first.ok_or_else(|| Error::Config("expected a run or a model file, found none".into()))
    }

    /// What a scan has to be, a line each.
    pub(crate) fn expectations(&self) -> Result<Vec<String>> {
        let card = self.card()?;
        let [_, height, width] = card.spacing_mm;
        let Grids { thickness_mm: [thin, thick], turned_degrees, .. } = card.grids();
        let mut lines: Vec<String> = self
            .each()
            .map(|Model { path, card, .. }| {
                let network = &card.config.network;
                format!(
                    "model {}: {} ({}), a U-Net of width {} and depth {}, trained in {} as {}, configuration {}",
                    path.display(),
                    if card.classes == TUMOUR_CLASSES { "whole tumour" } else { "sub-structures" },
                    card.classes.join(", "),
                    network.width,
                    network.depth,
                    network.precision,
                    card.stage,
                    card.config_hash
                )
            })
            .collect();
        lines.push(format!(
            "expected of a scan: {}, skull-stripped and on one grid, in the scanner's own units; normalised here ({})",
            card.channels.join(", "),
            card.normalisation
        ));
        let depth = if thin == thick { format!("{thin:.2}") } else { format!("{thin:.2} to {thick:.2}") };
        lines.push(format!(
            "expected of its grid: axial pixels of {height:.2} × {width:.2} mm (± {:.0} %), slices {:.2} to {:.2} mm apart (trained on {depth}), axes turned by at most {:.0}°; {crop} × {crop} mm of it are looked at",
            100.0 * PIXEL_TOLERANCE,
            thin / THICKNESS_FACTOR,
            thick * THICKNESS_FACTOR,
            turned_degrees + TURN_TOLERANCE,
            crop = card.config.input.crop_mm
        ));
        let trained = match card.label_scheme.parse::<LabelScheme>() {
            Ok(scheme) => scheme.describe(),
            Err(_) => card.label_scheme.clone(),
        };
        lines.push(match (&self.tumour, &self.sub) {
            (Some(_), None) => "the answer: the whole tumour alone, 0 outside, 1 inside".to_owned(),
            (sub, _) => format!(
                "the answer: sub-structures in the scan's own label scheme; trained on {trained}{}",
                if sub.is_none() {
                    "; without a network for the whole tumour, wherever this one sees no background"
                } else {
                    ""
                }
            ),
        });
        Ok(lines)
    }

    /// An error unless every case of `cohort` is a scan as those trained on were, as far as headers say it.
    ///
    /// # Errors
    /// [`Error::Case`] with what was expected, what was found and what to do.
    pub(crate) fn fit(&self, cohort: &Cohort) -> Result<()> {
        cohort.require_modalities()?;
        let card = self.card()?;
        cohort.cases.iter().try_for_each(|case| fits(case, card))
    }

    /// An error when the scan, unlike those trained on, has its skull or a background that is not 0.
    ///
    /// # Errors
    /// [`Error::Case`].
    pub(crate) fn fits_voxels(&self, scan: &Scan) -> Result<()> {
        match scan.is_filled_to_the_rim() && !self.card()?.grids().filled {
            true => Err(Error::case(
                &scan.id,
                format!("expected a skull-stripped scan, as the models were trained on; {FILLED}"),
            )),
            false => Ok(()),
        }
    }
}

impl Model {
    /// Whether it is Unet-WT.
    pub(crate) fn is_tumour(&self) -> bool {
        self.card.classes.len() == TUMOUR_CLASSES.len()
    }
}

/// Both model files of a run, or of a folder that holds nothing else.
fn of_run(model: &Path) -> Result<[PathBuf; 2]> {
    let folder = if model.join("models").is_dir() { model.join("models") } else { model.to_owned() };
    let paths = ["wt", "sub"].map(|name| folder.join(format!("{name}.safetensors")));
    let Some(missing) = paths.iter().find(|path| !path.is_file()) else { return Ok(paths) };
    let (path, problem) = match folder.join("fold-1/models").is_dir() {
        true => (
            folder,
            "expected one run, found the folds of a cross-validation; take one of them (`--model RUN/fold-1`), or `fit` all scans without `--folds`",
        ),
        false => (
            missing.clone(),
            "expected a model here, found no such file; `--model` takes the `--out` of a finished `fit`, a folder with wt.safetensors and sub.safetensors, or such a file",
        ),
    };
    Err(Error::Model { path, problem: problem.into() })
}

fn read_one(path: PathBuf, device: &Device) -> Result<Model> {
    let (weights, card) = model::load(&path, device)?;
    let known = [&TUMOUR_CLASSES[..], &SUB_CLASSES].iter().any(|classes| card.classes == *classes);
    let refuse = |problem: String| Error::Model { path: path.clone(), problem };
    if !known {
        return Err(refuse(format!(
            "expected the classes {} or {}, found {}; take a model that this version trained",
            TUMOUR_CLASSES.join(", "),
            SUB_CLASSES.join(", "),
            card.classes.join(", ")
        )));
    }
    if card.channels != crate::MODALITIES {
        return Err(refuse(format!(
            "expected the input channels {}, found {}; take a model that this version trained",
            crate::MODALITIES.join(", "),
            card.channels.join(", ")
        )));
    }
    let sound = card.spacing_mm.iter().all(|mm| mm.is_finite() && *mm > 0.0);
    if !sound {
        return Err(refuse(format!(
            "expected voxel sizes above 0 mm, found {:?}; take the file of a finished `fit`",
            card.spacing_mm
        )));
    }
    card.config
        .validate()
        .and_then(|()| {
            Methods::paper(&card.config).network.load(card.classes.len(), &weights, device).map(drop)
        })
        .map_err(|e| {
            refuse(format!(
                "does not fit the network its card describes ({e}); take the file of a finished `fit`"
            ))
        })?;
    Ok(Model { path, weights, card })
}

/// By the headers, before hours of work on the cases before it.
fn fits(case: &Case, card: &Card) -> Result<()> {
    let geometry = case.geometry()?;
    let found = geometry.spacing();
    let trained = card.spacing_mm;
    let off = |axis: usize| (found[axis] / trained[axis] - 1.0).abs() > PIXEL_TOLERANCE;
    if off(1) || off(2) {
        return Err(Error::case(
            &case.id,
            format!(
                "expected pixels of {:.2} × {:.2} mm in the axial plane, as the models were trained on, found {:.2} × {:.2} mm; resample the scan",
                trained[1], trained[2], found[1], found[2]
            ),
        ));
    }
    let Grids { thickness_mm: [thin, thick], turned_degrees, .. } = card.grids();
    let (thin, thick) = (thin / THICKNESS_FACTOR, thick * THICKNESS_FACTOR);
    if !(thin..=thick).contains(&found[0]) {
        return Err(Error::case(
            &case.id,
            format!(
                "expected axial slices {thin:.2} to {thick:.2} mm apart, by what the models were trained on, found {:.2} mm; resample the scan",
                found[0]
            ),
        ));
    }
    let (most, turned) = (turned_degrees + TURN_TOLERANCE, turned_degrees_of(&geometry));
    if turned > most {
        return Err(Error::case(
            &case.id,
            format!(
                "expected axes turned from the patient's by at most {most:.0}°, by what the models were trained on, found {turned:.0}°; resample the scan to an upright axial grid"
            ),
        ));
    }
    Ok(())
}

/// The largest angle between an axis of the grid and the patient's axis that it stands for.
pub(crate) fn turned_degrees_of(geometry: &Geometry) -> f64 {
    let affine = geometry.canonical_affine();
    let angle = |axis: usize| {
        let column = [affine[0][axis], affine[1][axis], affine[2][axis]];
        let length = column.iter().map(|v| v * v).sum::<f64>().sqrt();
        // What is left of it across the axis: exact for small angles, which an arc cosine is not.
        let across = (0..3).filter(|&row| row != axis).map(|row| column[row].powi(2)).sum::<f64>().sqrt();
        (across / length).min(1.0).asin().to_degrees()
    };
    (0..3).map(angle).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_is_turned_by_the_largest_of_its_angles() {
        let upright = Geometry::from_spacing([3, 4, 5], [2.0, 1.0, 1.5]).unwrap();
        assert!(turned_degrees_of(&upright) < 1e-9);
        let (s, c) = 30f64.to_radians().sin_cos();
        let affine =
            [[-2.0, 0.0, 0.0, 0.0], [0.0, -c, -3.0 * s, 0.0], [0.0, -s, 3.0 * c, 0.0], [0.0, 0.0, 0.0, 1.0]];
        let turned = Geometry::from_affine([5, 4, 3], &affine).unwrap();
        assert!((turned_degrees_of(&turned) - 30.0).abs() < 1e-4, "{}", turned_degrees_of(&turned));
    }
}
