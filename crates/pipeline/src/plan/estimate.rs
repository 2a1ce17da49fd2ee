//! From what was measured to time, memory and disk.

use serde::Serialize;

use super::PlannedRun;
use super::sample::{Sample, activations};
use crate::config::Config;

/// What a run would take on this machine: an estimate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Seconds to read, normalise and crop all scans.
    pub prepare_seconds: f64,
    /// Seconds for scribbles, graph cuts and clusterings.
    pub labels_seconds: f64,
    /// Seconds of training, as far as it is not done.
    pub training_seconds: f64,
    /// Seconds to segment training scans (for the clustering) and held-out ones.
    pub predict_seconds: f64,
    /// All of them.
    pub seconds: f64,
    /// Bytes of memory at the most, on the CPU's side.
    pub memory_bytes: u64,
    /// Bytes on disk when the run is done.
    pub disk_bytes: u64,
    /// Bytes on disk at the most, while it runs.
    pub disk_peak_bytes: u64,
    /// Whether the networks run on the CPU; a GPU's own memory is in none of these figures.
    pub networks_on_cpu: bool,
    /// Training steps that were measured.
    pub steps_measured: usize,
    /// Slices in their batches; the time is scaled to `train.batch`.
    pub batch_measured: usize,
}

/// The program itself, its threads and what the allocator holds back.
const PROGRAM: usize = 64 << 20;

pub(crate) fn of(runs: &[PlannedRun], sample: &Sample, config: &Config, on_cpu: bool) -> Estimate {
    let (mut prepare, mut labels, mut training, mut predict) = (0.0, 0.0, 0.0, 0.0);
    let (mut memory, mut disk, mut aside) = (0, 0, 0);
    for run in runs {
        let (train, test) = (run.train as f64, run.test as f64);
        let left = |stage: usize| run.stages[stage].iterations - run.stages[stage].done;
        let begun = run.stages.iter().any(|stage| stage.done > 0);
        prepare += sample.prepare * (train + test);
        labels += if begun { 0.0 } else { sample.labels * train };
        for (stage, cost) in sample.steps.iter().enumerate() {
            let builds = kernels(left(stage), train * sample.labelled[stage / 2], cost.kernel_bytes, config);
            training += left(stage) as f64 * cost.seconds + builds * cost.kernel_seconds;
        }
        // The whole tumours of the training scans once; of the held-out ones both networks.
        predict += sample.predict * (train + 2.0 * test);
        memory = memory.max(memory_of(run, sample, config, on_cpu));
        disk += disk_of(run, sample, config);
        aside = aside.max(aside_of(run, sample, config));
    }
    let steps_measured = sample.steps.iter().map(|cost| cost.steps).sum();
    Estimate {
        prepare_seconds: prepare,
        labels_seconds: labels,
        training_seconds: training,
        predict_seconds: predict,
        seconds: prepare + labels + training + predict,
        memory_bytes: memory as u64,
        disk_bytes: disk as u64,
        disk_peak_bytes: (disk + aside) as u64,
        networks_on_cpu: on_cpu,
        steps_measured,
        batch_measured: sample.batch[0],
    }
}

/// Kernels of the dense CRF that are built: each slice's once while the cache holds them, anew for those that it does not.
fn kernels(iterations: usize, slices: f64, bytes: usize, config: &Config) -> f64 {
    let drawn = (iterations * config.train.batch) as f64;
    if bytes == 0 || slices <= 0.0 {
        return 0.0;
    }
    let held = (((config.crf.cache_mib << 20) / bytes) as f64).min(slices);
    held.min(drawn) + (drawn - held).max(0.0) * (1.0 - held / slices)
}

/// A prepared scan: four modalities, the brain, the reference.
fn prepared(sample: &Sample) -> usize {
    let [rows, columns] = sample.crop;
    17 * rows * columns * sample.depth + sample.voxels
}

fn memory_of(run: &PlannedRun, sample: &Sample, config: &Config, on_cpu: bool) -> usize {
    let ([rows, columns], threads) = (sample.crop, rayon::current_num_threads());
    let cropped = rows * columns * sample.depth;
    let scans = (run.train + run.test) * prepared(sample);
    // Scribbles, weak masks, whole tumours, sub-structures, S and G of both phases.
    let labels = run.train * 8 * cropped;
    // Each thread that reads a scan holds its four modalities and one as it lay in the file.
    let reading = threads.min(run.train + run.test) * 24 * sample.voxels;
    let cost = sample.steps.iter().map(|cost| cost.kernel_bytes).max().unwrap_or(0);
    // No more kernels are kept than slices are drawn.
    let drawn = run.stages.iter().map(|stage| stage.iterations * config.train.batch).max().unwrap_or(0);
    let slices = (run.train as f64 * sample.labelled.iter().copied().fold(0.0, f64::max)).min(drawn as f64);
    let cache = ((slices * cost as f64) as usize).min(config.crf.cache_mib << 20);
    let weights = 4 * sample.parameters[1];
    // Values, momentum, gradients, and the networks of earlier stages.
    let network = 6 * weights;
    // On another device activations lie there.
    let step = if on_cpu { activations(config, sample.crop, config.train.batch) } else { 0 };
    // Each thread segments a scan, eight slices at a time, and of each level holds what the way up needs.
    let predicting = if on_cpu { threads * activations(config, sample.crop, 8) / 3 } else { 0 };
    PROGRAM + scans + labels.max(reading) + network + (cache + step).max(predicting)
}

/// What stays. A label file is compressed: the larger part of it is one run of zeros.
fn disk_of(run: &PlannedRun, sample: &Sample, config: &Config) -> usize {
    let [first, second] = sample.parameters;
    let models = 2 * 4 * (first + second) + run.stages.len() * 4096;
    let weak = run.train * sample.voxels / 35;
    let predictions = run.test * sample.voxels / 300;
    let points = |iterations: usize| iterations / (iterations / 100).max(1);
    let curves: usize = run.stages.iter().map(|stage| points(stage.iterations) * 330).sum();
    let tables = 8192 + 300 * (run.train + run.test) + 4096 * run.test;
    let slices = crate::slices::bytes(run.test, sample.crop, sample.depth);
    // In the page two of a slice's parts are compressed, and written as text.
    let page = 40_000 + config.to_toml().len() + slices / 2;
    models + weak + predictions + curves + tables + slices + page
}

/// What goes again: prepared scans and a checkpoint.
fn aside_of(run: &PlannedRun, sample: &Sample, config: &Config) -> usize {
    let longest = run.stages.iter().map(|stage| stage.iterations).max().unwrap_or(0);
    let checkpoint = if longest > config.train.checkpoint_every { 8 * sample.parameters[1] } else { 0 };
    (run.train + run.test) * prepared(sample) + checkpoint
}
