//! A few scans taken through the whole chain in memory, with a clock beside them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use ndarray::Array3;
use rayon::prelude::*;
use scribseg_io::{Case, Cohort, PresenceTable};

use super::stages_of;
use crate::batches::{Sampler, Supervision};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::evidence::{Labels, Sources};
use crate::kernels::Kernels;
use crate::methods::Methods;
use crate::presence::{presence_shown, table_of};
use crate::progress::{Progress, Silent};
use crate::run::RunDir;
use crate::scan::Scan;
use crate::schedule::Team;
use crate::scribbles::{scribble_of, simulate};
use crate::split::Split;
use crate::study::{CRF_SUBSTRUCTURES, CRF_TUMOUR, Part, Study};
use crate::supervision as labels;
use crate::train::{Stage, Start, StepCost, Trainer};

/// Scans that are looked at, at most: one a thread tells how they share the threads.
const SCANS: usize = 4;
/// What one stage's steps may take, the first of them aside.
const PATIENCE: Duration = Duration::from_secs(3);
/// Bytes of activations that a trial step on a CPU may ask for: of wider networks fewer slices are tried.
const TRIAL: usize = 1 << 30;

/// What was measured. Seconds are a scan's or a step's with all threads at work.
pub(crate) struct Sample {
    /// To read, normalise and crop.
    pub(crate) prepare: f64,
    /// Scribble, graph cut, clustering.
    pub(crate) labels: f64,
    /// One network's answer.
    pub(crate) predict: f64,
    /// Of each stage, for a whole batch.
    pub(crate) steps: Vec<StepCost>,
    /// Slices of the batches that were tried, and of the real ones.
    pub(crate) batch: [usize; 2],
    /// Labelled slices a scan, in phase 1 and 2.
    pub(crate) labelled: [f64; 2],
    /// Values of a network's parameters, in phase 1 and 2.
    pub(crate) parameters: [usize; 2],
    /// Rows and columns of the crop.
    pub(crate) crop: [usize; 2],
    /// Slices.
    pub(crate) depth: usize,
    /// Voxels of the whole grid.
    pub(crate) voxels: usize,
}

/// Activations of a training step in bytes: of each layer the convolution's result and what batch norm makes of it, and the
/// gradients under way.
pub(crate) fn activations(config: &Config, [rows, columns]: [usize; 2], slices: usize) -> usize {
    let (width, depth) = (config.network.width, config.network.depth);
    let level = |l: usize| {
        let values = (width << l) * (rows >> l) * (columns >> l);
        // Two layers on the way down and two on the way up, two buffers each; at the bottom two layers alone. Three more for gradients.
        values * if l < depth { 4 * 2 + 3 } else { 2 * 2 + 2 }
    };
    4 * slices * ((0..=depth).map(level).sum::<usize>() + 4 * rows * columns)
}

pub(crate) fn take(
    cohort: &Cohort,
    split: &Split,
    given: &Labels,
    sources: Option<&Sources>,
    config: &Config,
    methods: &Methods,
    device: &Device,
    progress: &dyn Progress,
) -> Result<Sample> {
    let wanted = rayon::current_num_threads().clamp(1, SCANS);
    let mut cases: Vec<&Case> = cohort.cases.iter().filter(|case| split.train.contains(&case.id)).collect();
    if let Some(sources) = sources {
        // Without a mask or scribbles there is nothing to try the first stage on.
        let is_drawn = |case: &&Case| {
            sources.scribble_file(&case.id).is_some() || !matches!(sources.mask_of(case), Ok(None))
        };
        cases.retain(is_drawn);
        if cases.is_empty() {
            return Err(Error::Cohort {
                path: cohort.root.clone(),
                problem: "expected a mask or scribbles of at least one training scan, found none; give `--masks` or `--scribbles`".into(),
            });
        }
    }
    cases.truncate(wanted);
    let count = cases.len().max(1) as f64;
    progress.stage("trial", &format!("{} scans and a few training steps, in memory", cases.len()));
    let stride = methods.network.stride();
    let begun = Instant::now();
    let scans: Vec<Arc<Scan>> = cases
        .par_iter()
        .map(|case| Ok(Arc::new(Scan::prepare(case.load()?, config, stride)?)))
        .collect::<Result<_>>()?;
    let prepare = begun.elapsed().as_secs_f64() / count;

    let begun = Instant::now();
    let values = config.input.scribble_values.mapping()?;
    let table = table_of(cohort, given.presence.as_deref()).map(PresenceTable::read).transpose()?;
    let labelled: Vec<[Array3<u8>; 3]> = scans
        .par_iter()
        .zip(&cases)
        .map(|(scan, case)| {
            let evidence = sources.map(|sources| sources.evidence(case, scan)).transpose()?;
            let drawn = match evidence.as_ref().and_then(|evidence| evidence.tumour_of_mask(&scan.brain)) {
                // What a mask says is not grown.
                Some(mask) => (mask.clone(), mask),
                None => {
                    let scribble =
                        match (evidence.as_ref().and_then(|e| e.scribble.clone()), &given.scribbles) {
                            (Some(scribble), _) => scribble,
                            (None, Some(folder)) => scribble_of(folder, scan, &values)?,
                            (None, None) => simulate(scan, config, config.seed)?,
                        };
                    let weak = methods.seeds.expand(scan, scribble.view())?;
                    (scribble, weak)
                }
            };
            let (scribble, weak) = drawn;
            let tumour = ndarray::Zip::from(&scribble).and(&weak).map_collect(|&s, &g| s == 1 || g == 1);
            let presence = match (&evidence, &table) {
                (Some(evidence), _) => evidence.presence,
                (None, Some(table)) => table.for_cases([scan.id.as_str()])?[0],
                (None, None) => presence_shown(scan)?,
            };
            let masks = methods.substructures.label(scan, tumour.view(), presence, config.seed)?;
            Ok([scribble, weak, masks])
        })
        .collect::<Result<_>>()?;
    let labels = begun.elapsed().as_secs_f64() / count;

    let (scribbles, weak): (Vec<_>, Vec<_>) = labelled.iter().map(|[s, w, _]| (s.clone(), w.clone())).unzip();
    let phase1 = Study::tumour_supervision(&scribbles, Some(&weak));
    let phase2 = substructures(&scans, &labelled, config)?;
    let crop = scans.first().map_or([0; 2], |scan| scan.crop_size());
    let mut small = config.clone();
    if device.is_cpu() {
        let most = (TRIAL / activations(config, crop, 1).max(1)).max(1);
        small.train.batch = config.train.batch.min(most);
    }
    let run = RunDir::unopened(Path::new(""));
    let trainer = Trainer {
        run: &run,
        config: &small,
        methods,
        scans: &scans,
        device,
        progress: &Silent,
        team: Team::default(),
    };
    let scale = config.train.batch as f64 / small.train.batch as f64;
    let mut steps = Vec::new();
    for (name, outputs, part, _) in stages_of(config) {
        progress.detail(&format!("a few steps of {name}"));
        let (phase, supervision, channels) = match outputs {
            2 => (&config.wt, &phase1, CRF_TUMOUR),
            _ => (&config.sub, &phase2, CRF_SUBSTRUCTURES),
        };
        let mut cost = trainer.measure(
            &Stage {
                name,
                outputs,
                start: Start::Random,
                supervision,
                phase,
                iterations: part.iterations(phase),
                dice: 0.0,
                crf: (part == Part::Crf).then(|| Kernels::new(channels, config.crf.cache_mib)),
            },
            PATIENCE,
        )?;
        cost.seconds *= scale;
        steps.push(cost);
    }
    let slices = |supervision: &Supervision| -> Result<f64> {
        Ok(Sampler::new(supervision, 1, 0.0)?.labelled().len() as f64 / count)
    };
    let parameters = [2, 4].map(|outputs| -> Result<usize> {
        let weights = methods.network.init(outputs, 0, &Device::Cpu)?;
        Ok(crate::model::tensors(&weights).iter().map(|(_, tensor)| tensor.elem_count()).sum())
    });
    let [first, second] = parameters;
    Ok(Sample {
        prepare,
        labels,
        predict: predict(&scans, methods, device)?,
        steps,
        batch: [small.train.batch, config.train.batch],
        labelled: [slices(&phase1)?, slices(&phase2)?],
        parameters: [first?, second?],
        crop,
        depth: scans.iter().map(|scan| scan.shape[0]).max().unwrap_or(0),
        voxels: scans.iter().map(|scan| scan.shape.iter().product()).max().unwrap_or(0),
    })
}

/// S' and G' of phase 2, as the study makes them.
fn substructures(scans: &[Arc<Scan>], labelled: &[[Array3<u8>; 3]], config: &Config) -> Result<Supervision> {
    let (mut strong, mut weak) = (Vec::new(), Vec::new());
    for (scan, [scribble, grown, masks]) in scans.iter().zip(labelled) {
        let s = labels::substructure_scribbles(masks, scribble, scan, config.scribble.erode_tumour_mm)?;
        weak.push(labels::substructure_masks(masks, grown, &s));
        strong.push(s);
    }
    Ok(Supervision { strong, weak, kinds: Vec::new() })
}

/// Seconds for all slices of a scan, from a few of them.
fn predict(scans: &[Arc<Scan>], methods: &Methods, device: &Device) -> Result<f64> {
    let Some(scan) = scans.first() else { return Ok(0.0) };
    let ([h, w], slices) = (scan.crop_size(), scan.shape[0].clamp(1, 4));
    let weights = methods.network.init(2, 0, device)?;
    let network = methods.network.load(2, &weights, device)?;
    let images = Tensor::zeros((slices, 4, h, w), candle_core::DType::F32, device)?;
    let mut fastest = f64::INFINITY;
    for _ in 0..2 {
        let begun = Instant::now();
        network.logits(&images, false)?.to_device(&Device::Cpu)?;
        fastest = fastest.min(begun.elapsed().as_secs_f64());
    }
    Ok(fastest * scan.shape[0] as f64 / slices as f64)
}
