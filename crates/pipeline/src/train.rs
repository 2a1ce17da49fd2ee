//! The training loop: SGD with momentum on eq. 1, and in the second part eq. 1 + α · eq. 2, with checkpoints.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use candle_nn::VarMap;
use scribseg_crf_kernels::{LossForm, crf_loss};
use scribseg_unet::{Sgd, soft_dice, softmax};
use serde::{Deserialize, Serialize};

use crate::batches::{Batch, Sampler, SliceId, Supervision, derived_seed};
use crate::config::{Config, Phase};
use crate::error::{Error, Result};
use crate::events::event_file;
use crate::feed::{Feed, Source};
use crate::kernels::{Kernel, Kernels};
use crate::kinds;
use crate::losses::Losses;
use crate::methods::{Methods, Pass, Segmenter};
use crate::model::{self, Card, Grids};
use crate::progress::Progress;
use crate::run::RunDir;
use crate::scan::Scan;
use crate::schedule::Team;

/// Where a stage's weights come from.
pub(crate) enum Start<'a> {
    /// The seeded generator.
    Random,
    /// Another stage's weights, all of them.
    From(&'a VarMap),
    /// Another stage's weights but for the last layer, which is new (Unet-sub from Unet-WT).
    NewHead(&'a VarMap),
}

/// One part of a phase's schedule.
pub(crate) struct Stage<'a> {
    /// File name of what it makes.
    pub name: &'a str,
    /// Classes.
    pub outputs: usize,
    /// Initial weights.
    pub start: Start<'a>,
    /// Labels of the training scans.
    pub supervision: &'a Supervision,
    /// Schedule and λ.
    pub phase: &'a Phase,
    /// Iterations, over which the learning rate falls to 0.
    pub iterations: usize,
    /// Weight of the soft Dice loss on the strong labels, for stages whose strong labels are full masks; 0 leaves it out.
    pub dice: f64,
    /// The dense CRF's kernels; without them the stage trains on eq. 1 alone.
    pub(crate) crf: Option<Arc<Kernels>>,
}

/// The points of one stage's training curves.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Curves {
    /// Iterations, from 1.
    pub iteration: Vec<u64>,
    /// Mean partial cross-entropy since the last point.
    pub cross_entropy: Vec<f32>,
    /// Mean weighted soft Dice loss since the last point; 0 in stages without.
    pub dice: Vec<f32>,
    /// Mean α-weighted CRF loss since the last point; 0 in stages without.
    pub crf: Vec<f32>,
    /// Learning rate.
    pub learning_rate: Vec<f32>,
}

#[derive(Serialize, Deserialize)]
struct Checkpoint {
    iteration: usize,
    sums: [f64; 3],
    curves: Curves,
    config_hash: String,
}

/// What a training step costs.
pub(crate) struct StepCost {
    /// The fastest step, the CRF's kernels being there.
    pub(crate) seconds: f64,
    /// Steps that were measured.
    pub(crate) steps: usize,
    /// To build one slice's kernel of the dense CRF, without its mass within the brain, which the first step adds; 0 in stages without.
    pub(crate) kernel_seconds: f64,
    /// Of one slice's kernel.
    pub(crate) kernel_bytes: usize,
}

/// What all stages of a run share.
pub(crate) struct Trainer<'a> {
    /// The run directory.
    pub run: &'a RunDir,
    /// Every value in force.
    pub config: &'a Config,
    /// One choice for each seam.
    pub methods: &'a Methods,
    /// The training scans.
    pub scans: &'a [Arc<Scan>],
    /// Where tensors live.
    pub device: &'a Device,
    /// Who listens.
    pub progress: &'a dyn Progress,
    /// Whose threads do it.
    pub(crate) team: Team,
}

impl Trainer<'_> {
    /// Trains `stage` to `models/<name>.safetensors`, or loads it when it is there; a checkpoint is taken up.
    ///
    /// # Errors
    /// [`Error::Diverged`] when the loss stops being finite; what the disk or the tensors refuse.
    pub(crate) fn train(&self, stage: &Stage<'_>) -> Result<VarMap> {
        // On one of the threads that share the parallel loops: from outside, each of them would wake a worker up and wait for it.
        rayon::scope(|_| self.run_stage(stage))
    }

    fn run_stage(&self, stage: &Stage<'_>) -> Result<VarMap> {
        let target = format!("models/{}.safetensors", stage.name);
        if self.run.has(&target) {
            self.progress.stage(stage.name, "done before");
            let path = self.run.path(&target);
            return match model::load(&path, self.device) {
                Ok((weights, _)) => Ok(weights),
                Err(e) => Err(Error::RunDirectory {
                    path,
                    problem: format!("was made by this run and is damaged; remove it and run again ({e})"),
                }),
            };
        }
        let iterations = stage.iterations;
        let seed = derived_seed(self.config.seed, "weights", stage.outputs as u64);
        let fresh = self.methods.network.init(stage.outputs, seed, self.device)?;
        let weights = match &stage.start {
            Start::Random => fresh,
            Start::From(other) => model::var_map(model::tensors(other))?,
            Start::NewHead(other) => {
                let heads: BTreeMap<_, _> =
                    model::tensors(&fresh).into_iter().filter(|(n, _)| n.starts_with("head.")).collect();
                let merged = model::tensors(other)
                    .into_iter()
                    .map(|(n, t)| {
                        let t = heads.get(&n).cloned().unwrap_or(t);
                        (n, t)
                    })
                    .collect();
                model::var_map(merged)?
            }
        };
        let checkpoint = format!("checkpoints/{}.safetensors", stage.name);
        let mut optimizer = Sgd::new(&weights, self.config.train.momentum, self.config.train.weight_decay)
            .map_err(|e| Error::Network(e.to_string()))?;
        let (mut from, mut losses, mut curves) = (0, Losses::default(), Curves::default());
        if self.run.has(&checkpoint) {
            let state;
            (from, losses.sums, curves, state) = self.resume(&checkpoint, &weights)?;
            optimizer.load_state(&state).map_err(|e| Error::Network(e.to_string()))?;
        }
        let network = self.methods.network.load(stage.outputs, &weights, self.device)?;
        let sampler =
            Sampler::new(stage.supervision, self.config.train.batch, self.config.train.tumour_fraction)?;
        let source = self.source(stage, &sampler);
        let detail = if from > 0 { format!("resumed at iteration {from}") } else { String::new() };
        self.progress.stage(stage.name, &detail);
        self.progress.begin(stage.name, iterations as u64);
        std::thread::scope(|scope| {
            let mut feed = Feed::new(source, from..iterations, self.device, scope)?;
            let point_every = (iterations / 100).max(1);
            for iteration in from..iterations {
                let rate_of =
                    |i: usize| self.config.train.learning_rate * (1.0 - i as f64 / iterations as f64);
                let rate = rate_of(iteration);
                let done = iteration + 1;
                let point = done % point_every == 0 || done == iterations;
                let stopped = self.progress.stopped();
                let save = (stopped || done % self.config.train.checkpoint_every == 0) && done < iterations;
                let (slices, batch) = feed.next(iteration)?;
                // On the CPU losses are read at each iteration; elsewhere that would mean waiting for the device.
                let read = self.device.is_cpu() || point || save || losses.many();
                self.team.run(|| {
                    let (pass, loss) = self.loss(stage, &*network, &slices, &batch, &mut losses)?;
                    if read {
                        losses.read(|loss, back| Error::Diverged {
                            stage: stage.name.to_owned(),
                            iteration: iteration - back,
                            loss,
                            learning_rate: rate_of(iteration - back),
                        })?;
                    }
                    let gradients = pass.gradients(&loss)?;
                    optimizer.step(&gradients, rate).map_err(|e| Error::Network(e.to_string()))
                })?;
                if point {
                    let since = done as u64 - curves.iteration.last().copied().unwrap_or(0);
                    let mean = losses.sums.map(|sum| (sum / since as f64) as f32);
                    curves.iteration.push(done as u64);
                    curves.cross_entropy.push(mean[0]);
                    curves.dice.push(mean[1]);
                    curves.crf.push(mean[2]);
                    curves.learning_rate.push(rate as f32);
                    losses.sums = [0.0; 3];
                }
                let [value, overlap, pairwise] = losses.last;
                self.progress.advance(done as u64, &format!("loss {:.4} crf {pairwise:.4}", value + overlap));
                if save {
                    self.save(stage.name, &checkpoint, &weights, &optimizer, done, losses.sums, &curves)?;
                    if stopped {
                        return Err(Error::Stopped { stage: stage.name.to_owned(), iteration: done });
                    }
                }
            }
            Ok::<(), Error>(())
        })?;
        self.progress.end();
        self.finish(stage, &target, &weights, &curves)?;
        self.progress.detail(&format!("{} written", self.run.path(&target).display()));
        let _ = std::fs::remove_file(self.run.path(&checkpoint));
        Ok(weights)
    }

    /// What a training step of `stage` takes on this machine: a few steps on one batch from new weights; nothing is written.
    pub(crate) fn measure(&self, stage: &Stage<'_>, patience: Duration) -> Result<StepCost> {
        rayon::scope(|_| {
            let weights = self.methods.network.init(stage.outputs, self.config.seed, self.device)?;
            let network = self.methods.network.load(stage.outputs, &weights, self.device)?;
            let sampler =
                Sampler::new(stage.supervision, self.config.train.batch, self.config.train.tumour_fraction)?;
            let source = self.source(stage, &sampler);
            let slices = source.slices(0);
            let batch = source.gather(&slices)?.onto(self.device)?;
            let mut optimizer = Sgd::new(&weights, self.config.train.momentum, 0.0)
                .map_err(|e| Error::Network(e.to_string()))?;
            let begun = Instant::now();
            let built = self.kernels(stage, &slices)?.map_or(Vec::new(), |(kernels, _)| kernels);
            let count = built.len().max(1);
            let kernel_seconds = begun.elapsed().as_secs_f64() / count as f64;
            let kernel_bytes = built.iter().map(|kernel| kernel.bytes()).sum::<usize>() / count;
            drop(built);
            let (mut losses, mut steps) = (Losses::default(), Vec::new());
            let begun = Instant::now();
            while steps.len() < 2 || (steps.len() < 6 && begun.elapsed() < patience) {
                let started = Instant::now();
                let (pass, loss) = self.loss(stage, &*network, &slices, &batch, &mut losses)?;
                // Looking at the losses waits for a device that is still at it.
                losses.read(|loss, _| Error::Network(format!("the loss of a trial step is {loss}")))?;
                optimizer.step(&pass.gradients(&loss)?, 1e-6).map_err(|e| Error::Network(e.to_string()))?;
                steps.push(started.elapsed().as_secs_f64());
                if steps.len() == 1 && begun.elapsed() > patience {
                    break;
                }
            }
            // The first also asks the system for memory; those after it do not.
            let measured = steps.get(1..).filter(|rest| !rest.is_empty()).unwrap_or(&steps);
            Ok(StepCost {
                seconds: measured.iter().copied().fold(f64::INFINITY, f64::min),
                steps: measured.len(),
                kernel_seconds,
                kernel_bytes,
            })
        })
    }

    /// Where a stage's batches come from.
    fn source<'s>(&'s self, stage: &'s Stage<'_>, sampler: &'s Sampler) -> Source<'s> {
        let with_crf = stage.crf.is_some();
        Source {
            scans: self.scans,
            supervision: stage.supervision,
            sampler,
            seed: self.config.seed,
            purpose: if with_crf { "batch-crf" } else { "batch" },
            with_brain: with_crf && self.config.crf.roi == "brain",
        }
    }

    /// The pass over a batch and its loss, whose parts are left in `losses`.
    fn loss(
        &self,
        stage: &Stage<'_>,
        network: &dyn Segmenter,
        slices: &[SliceId],
        batch: &Batch,
        losses: &mut Losses,
    ) -> Result<(Box<dyn Pass>, Tensor)> {
        let fault = |e: scribseg_unet::Error| Error::Network(e.to_string());
        let pass = network.pass(&batch.images)?;
        let logits = pass.logits();
        let supervised =
            kinds::supervised(logits, slices, batch, &stage.supervision.kinds, stage.phase.lambda)
                .map_err(fault)?;
        let (mut loss, mut overlap, mut pairwise) = (supervised.clone(), None, None);
        if stage.dice > 0.0 {
            let dice = softmax(logits).and_then(|y| soft_dice(&y, &batch.strong)).map_err(fault)?;
            let dice = (dice * stage.dice)?;
            overlap = Some(dice.clone());
            loss = (loss + dice)?;
        }
        if let Some((kernels, weight)) = self.kernels(stage, slices)? {
            let y = softmax(logits).map_err(fault)?;
            let crf = crf_loss(&y, &kernels, LossForm::NonNegative, batch.brain.as_ref(), None)?;
            let crf = (crf * weight)?;
            pairwise = Some(crf.clone());
            loss = (loss + crf)?;
        }
        losses.add([Some(supervised), overlap, pairwise]);
        Ok((pass, loss))
    }

    /// A kernel a slice and the weight of the loss: α times the squared pixel area in mm².
    fn kernels(&self, stage: &Stage<'_>, slices: &[SliceId]) -> Result<Option<(Vec<Kernel>, f64)>> {
        let Some(kernels) = &stage.crf else { return Ok(None) };
        let made = kernels.of(slices, self.scans, &*self.methods.pairwise, self.device)?;
        let spacing = slices.first().map_or([1.0; 3], |&(i, _)| self.scans[i].spacing);
        let area = spacing[1] * spacing[2];
        Ok(Some((made, self.config.crf.alpha * area * area)))
    }

    fn card(&self, stage: &Stage<'_>) -> Card {
        let spacing = self.scans.first().map_or([0.0; 3], |scan| scan.spacing);
        let card = Card::new(stage.name, stage.outputs, spacing, self.config);
        Card { grids: Grids::of(self.scans.iter().map(Arc::as_ref)), ..card }
    }

    fn save(
        &self,
        stage: &str,
        file: &str,
        weights: &VarMap,
        optimizer: &Sgd,
        iteration: usize,
        sums: [f64; 3],
        curves: &Curves,
    ) -> Result<()> {
        let path = self.run.path(file);
        self.run.make_parent(&path)?;
        let mut tensors: Vec<_> =
            model::tensors(weights).into_iter().map(|(n, t)| (format!("weight/{n}"), t)).collect();
        let state = optimizer.state().map_err(|e| Error::Network(e.to_string()))?;
        tensors.extend(state.into_iter().map(|(n, t)| (format!("momentum/{n}"), t)));
        self.write_events(stage, curves)?;
        let record = Checkpoint { iteration, sums, curves: curves.clone(), config_hash: self.config.hash() };
        model::write(&path, &tensors, &record)
    }

    #[allow(clippy::type_complexity)]
    fn resume(
        &self,
        file: &str,
        weights: &VarMap,
    ) -> Result<(usize, [f64; 3], Curves, Vec<(String, Tensor)>)> {
        let path = self.run.path(file);
        let (tensors, record): (_, Checkpoint) =
            model::read(&path, self.device).map_err(|e| Error::Model {
                path: path.clone(),
                problem: format!("is damaged; remove it, and the stage begins anew ({e})"),
            })?;
        if record.config_hash != self.config.hash() {
            return Err(Error::Model {
                path,
                problem: "belongs to another configuration; remove it to train anew".into(),
            });
        }
        let mut momentum = Vec::new();
        let data = weights.data().lock().map_err(|e| Error::Network(e.to_string()))?;
        for (name, tensor) in tensors {
            if let Some(name) = name.strip_prefix("momentum/") {
                momentum.push((name.to_owned(), tensor));
            } else if let Some(var) = name.strip_prefix("weight/").and_then(|n| data.get(n)) {
                var.set(&tensor)?;
            }
        }
        Ok((record.iteration, record.sums, record.curves, momentum))
    }

    /// The training curves so far, for TensorBoard.
    fn write_events(&self, stage: &str, curves: &Curves) -> Result<()> {
        let points = (curves.iteration.iter().enumerate()).map(|(i, &iteration)| {
            let values = [
                ("loss/partial_cross_entropy", curves.cross_entropy[i]),
                ("loss/soft_dice", curves.dice[i]),
                ("loss/crf", curves.crf[i]),
                ("learning_rate", curves.learning_rate[i]),
            ];
            (iteration, values)
        });
        let file = format!("events/{stage}/events.out.tfevents.0.scribseg");
        self.run.write(&file, &event_file(points))
    }

    fn finish(&self, stage: &Stage<'_>, target: &str, weights: &VarMap, curves: &Curves) -> Result<()> {
        self.write_events(stage.name, curves)?;
        self.run.write_json(&format!("curves/{}.json", stage.name), curves)?;
        let path = self.run.path(target);
        self.run.make_parent(&path)?;
        model::save(&path, weights, &self.card(stage))
    }
}
