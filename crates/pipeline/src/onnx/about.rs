//! What an ONNX file says of itself, for programs: the record in its metadata and in the `.json` beside it.

use serde::Serialize;

use super::graph;
use super::proto::{IR_VERSION, OPSET};
use crate::error::{Error, Result};
use crate::model::Card;
use crate::models::Model;

/// The record of one file.
#[derive(Serialize)]
pub(crate) struct About {
    /// Who wrote it.
    producer: &'static str,
    /// Version of this record.
    format: u32,
    /// The file's name.
    file: String,
    /// What it computes.
    computes: &'static str,
    opset: i64,
    ir_version: i64,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// The input's channels in order.
    channels: Vec<String>,
    /// Of the input's last axes.
    orientation: &'static str,
    normalisation: Normalisation,
    crop: Crop,
    /// `[z, y, x]` of the scans trained on.
    voxel_mm: [f64; 3],
    /// The value of each class in label files.
    labels: Vec<Label>,
    /// What `labels` goes by.
    label_scheme: String,
    /// How labels follow from probabilities.
    decision: &'static str,
    /// How the labels of both networks are joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    merge: Option<&'static str>,
    trained: Vec<Trained>,
}

/// One input or output.
#[derive(Serialize)]
struct Port {
    name: &'static str,
    r#type: &'static str,
    /// Lengths, or names of axes of any length.
    shape: Vec<serde_json::Value>,
    /// What each channel or value is, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    classes: Vec<String>,
    /// Height and width have to be multiples of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    multiple_of: Option<usize>,
}

#[derive(Serialize)]
struct Normalisation {
    /// Whether the graph does it.
    inside: bool,
    kind: &'static str,
    /// What mean and deviation are of.
    over: &'static str,
    /// `population`: divided by the number of voxels.
    deviation: &'static str,
    /// The value of all voxels that are not brain.
    background: f64,
}

#[derive(Serialize)]
struct Crop {
    inside: bool,
    kind: &'static str,
    mm: f64,
    /// Rows and columns.
    pixels: [usize; 2],
    /// The first row or column.
    offset: &'static str,
    /// Of what lies outside the scan.
    pad: f64,
}

#[derive(Serialize)]
struct Label {
    class: &'static str,
    value: u8,
}

/// The network that a file was made from.
#[derive(Serialize)]
struct Trained {
    stage: String,
    width: usize,
    depth: usize,
    /// What its convolutions multiplied in training; here `f32`.
    precision: String,
    config_hash: String,
}

/// Rows and columns of the crop, as for our own prediction of a scan with the pixels trained on.
pub(crate) fn crop_of(card: &Card) -> [usize; 2] {
    let stride = 1 << card.config.network.depth;
    let [_, y, x] = card.spacing_mm;
    [y, x].map(|mm| crate::scan::crop_side(card.config.input.crop_mm, mm, stride))
}

/// The values of NCR/NET, ED and ET in the label scheme trained on.
pub(crate) fn values_of(model: &Model) -> Result<[u8; 3]> {
    let scheme = model.card.label_scheme.parse::<scribseg_io::LabelScheme>();
    Ok(scheme
        .map_err(|e| Error::Model {
            path: model.path.clone(),
            problem: format!(
                "its record does not say what label values mean ({e}); take the file of a finished `fit`"
            ),
        })?
        .values())
}

impl About {
    /// Of one network's file: normalised slices to probabilities.
    pub(crate) fn of_slices(model: &Model, file: String) -> Result<Self> {
        let card = &model.card;
        let plane = |channels: usize| vec!["batch".into(), channels.into(), "height".into(), "width".into()];
        let input = Port {
            name: graph::IMAGES,
            r#type: "float32",
            shape: plane(card.channels.len()),
            classes: Vec::new(),
            multiple_of: Some(1 << card.config.network.depth),
        };
        let output = Port {
            name: graph::PROBABILITIES,
            r#type: "float32",
            shape: plane(card.classes.len()),
            classes: card.classes.clone(),
            multiple_of: None,
        };
        let computes = "class probabilities of normalised axial slices";
        Self::of(&[model], file, computes, input, output, false)
    }

    /// Of both networks' file: a scan to its labels.
    pub(crate) fn of_scan(tumour: &Model, sub: &Model, file: String) -> Result<Self> {
        let volume = || ["depth", "rows", "columns"].map(serde_json::Value::from);
        let shape = [tumour.card.channels.len().into()].into_iter().chain(volume()).collect();
        let (classes, multiple_of) = (Vec::new(), None);
        let input = Port { name: graph::SCAN, r#type: "float32", shape, classes, multiple_of };
        let output = Port {
            name: graph::LABELS,
            r#type: "uint8",
            shape: volume().to_vec(),
            classes: Vec::new(),
            multiple_of: None,
        };
        Self::of(&[tumour, sub], file, "the labels of a whole scan, on its own grid", input, output, true)
    }

    fn of(
        models: &[&Model],
        file: String,
        computes: &'static str,
        input: Port,
        output: Port,
        inside: bool,
    ) -> Result<Self> {
        let Some(&first) = models.first() else {
            return Err(Error::Config("expected a model, found none".into()));
        };
        let card = &first.card;
        let labels = match inside || !first.is_tumour() {
            true => {
                let [ncr, ed, et] = values_of(first)?;
                vec![("background", 0), ("NCR/NET", ncr), ("ED", ed), ("ET", et)]
            }
            false => vec![("healthy", 0), ("tumour", 1)],
        };
        let trained = |model: &&Model| Trained {
            stage: model.card.stage.clone(),
            width: model.card.config.network.width,
            depth: model.card.config.network.depth,
            precision: model.card.config.network.precision.clone(),
            config_hash: model.card.config_hash.clone(),
        };
        Ok(Self {
            producer: super::PRODUCER,
            format: 1,
            file,
            computes,
            opset: OPSET,
            ir_version: IR_VERSION,
            inputs: vec![input],
            outputs: vec![output],
            channels: card.channels.clone(),
            orientation: "axial slices [z, y, x]: z towards superior, y towards posterior, x towards the patient's left (LPS)",
            normalisation: Normalisation {
                inside,
                kind: "z-score",
                over: "each channel of the whole scan, over the voxels that are not 0 in at least one channel (the brain)",
                deviation: "population",
                background: 0.0,
            },
            crop: Crop {
                inside,
                kind: "axial centre",
                mm: card.config.input.crop_mm,
                pixels: crop_of(card),
                offset: "floor((size - pixels) / 2), negative where the scan is smaller",
                pad: 0.0,
            },
            voxel_mm: card.spacing_mm,
            labels: labels.into_iter().map(|(class, value)| Label { class, value }).collect(),
            label_scheme: if inside || !first.is_tumour() {
                card.label_scheme.clone()
            } else {
                "0 outside, 1 tumour".into()
            },
            decision: "the most probable class, the first of equals; 0 where it is not brain",
            merge: (models.len() == 1).then_some(
                "where wt says tumour, NCR/NET and ET of sub, all else ED; where it does not, background",
            ),
            trained: models.iter().map(trained).collect(),
        })
    }

    /// In a few words, for people who open the file.
    pub(crate) fn summary(&self) -> String {
        let inside = match self.normalisation.inside {
            true => "Normalisation, crop, both networks and their merge are inside.",
            false => "Slices are to be normalised and cropped as the record `scribseg` in the metadata says.",
        };
        format!(
            "scribseg: {} from {} in this order. {inside} Not a medical device.",
            self.computes,
            self.channels.join(", ")
        )
    }

    /// What the input and the output are, for people.
    pub(crate) fn ports(&self) -> [String; 2] {
        let values = self.labels.iter().map(|Label { class, value }| format!("{value} {class}"));
        let values = values.collect::<Vec<_>>().join(", ");
        let classes = self.outputs.iter().flat_map(|port| &port.classes).cloned().collect::<Vec<_>>();
        let input = match self.normalisation.inside {
            true => format!("{} in scanner units, 0 outside the brain", self.channels.join(", ")),
            false => format!("{} as z-scores over the brain, 0 outside", self.channels.join(", ")),
        };
        let output = if classes.is_empty() { values } else { format!("of {}", classes.join(", ")) };
        [input, output]
    }
}
