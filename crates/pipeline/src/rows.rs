//! The rows of Table 1: the stages they are made of, trained and measured, several at a time where the network is small.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use candle_core::Device;
use candle_nn::VarMap;
use ndarray::Array3;
use rayon::prelude::*;
use scribseg_metrics::{CaseMetrics, Evaluation, RegionSummary};

use crate::batches::Supervision;
use crate::error::{Error, Result};
use crate::evaluation::{self, measure, policy};
use crate::experiments::{ROWS, RegionFigures, Row, RowId};
use crate::kernels::Kernels;
use crate::methods::clustering;
use crate::progress::Progress;
use crate::schedule::{self, Task, Team};
use crate::segment::{classes, merge};
use crate::study::{Part, Study};
use crate::supervision as labels;
use crate::train::Start;

/// Values of a network's first feature maps, over a batch, that keep one thread busy. Two cores took 25 steps a second of one row with
/// 295 thousand of them, and 33 of two rows at once.
const PER_THREAD: usize = 250_000;
/// Rows at once, each with its own activations in memory, unless the user wants more.
const MOST_AT_ONCE: usize = 4;

/// A network of Table 1.
struct Stage {
    name: &'static str,
    /// The stage whose weights it starts with.
    from: Option<&'static str>,
    /// Classes.
    outputs: usize,
    part: Part,
}

const fn stage(name: &'static str, from: Option<&'static str>, outputs: usize, part: Part) -> Stage {
    Stage { name, from, outputs, part }
}

/// All of them, each after what it starts from.
const STAGES: [Stage; 13] = [
    stage("wt-full", None, 2, Part::Full),
    stage("wt-sc", None, 2, Part::Supervised),
    stage("wt-sc-crf", Some("wt-sc"), 2, Part::Crf),
    stage("wt-sc-gc", None, 2, Part::Supervised),
    stage("wt", Some("wt-sc-gc"), 2, Part::Crf),
    stage("sub-full", Some("wt-full"), 4, Part::Full),
    stage("sub-truesc", Some("wt"), 4, Part::Supervised),
    stage("sub-truesc-crf", Some("sub-truesc"), 4, Part::Crf),
    stage("sub-mx-sc", Some("wt"), 4, Part::Supervised),
    stage("sub-mx-sc-crf", Some("sub-mx-sc"), 4, Part::Crf),
    stage("sub-km", Some("wt"), 4, Part::Supervised),
    stage("sub-km-sc", Some("wt"), 4, Part::Supervised),
    stage("sub", Some("sub-km-sc"), 4, Part::Crf),
];

/// Where a row's predictions are.
pub(crate) fn folder(row: RowId) -> String {
    format!("predictions/{}", row.stage)
}

/// Where a stage's model is once it is trained.
fn model_of(stage: &str) -> String {
    format!("models/{stage}.safetensors")
}

/// The network whose whole tumours a row of phase 2 divides.
fn tumours_of(row: RowId) -> Option<&'static str> {
    (row.phase == 2).then_some(if row.stage == "sub-full" { "wt-full" } else { "wt" })
}

/// The stages that `rows` need, in order.
fn stages_of(rows: &[RowId]) -> Vec<&'static Stage> {
    let mut needed: Vec<&str> = rows.iter().map(|row| row.stage).collect();
    for stage in STAGES.iter().rev() {
        if needed.contains(&stage.name) {
            needed.extend(stage.from);
        }
    }
    STAGES.iter().filter(|stage| needed.contains(&stage.name)).collect()
}

/// A row's figures and its full evaluation.
type Measured = (Row, Evaluation);

/// The rows under way.
pub(crate) struct Rows<'a> {
    study: &'a Study<'a>,
    rows: &'a [RowId],
    stages: Vec<&'static Stage>,
    /// Of stages that are trained.
    weights: Mutex<BTreeMap<&'static str, Arc<VarMap>>>,
    /// What the networks of phase 1 that phase 2 builds on say of the held-out scans.
    tumours: Mutex<BTreeMap<&'static str, Arc<Vec<Array3<u8>>>>>,
    /// The dense CRF's, by the classes of the stages that train with them.
    kernels: Mutex<BTreeMap<usize, Arc<Kernels>>>,
    /// Of each stage's training.
    seconds: Mutex<BTreeMap<String, f64>>,
    measured: Mutex<BTreeMap<RowId, Measured>>,
    /// Iterations behind us, of all stages together.
    done: AtomicU64,
    stop: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Trains and measures `rows`, `jobs` of them at once or, without a wish, as many as keep the threads busy. In the table's order.
pub(crate) fn run(study: &Study<'_>, rows: &[RowId], jobs: Option<usize>) -> Result<Vec<Measured>> {
    let seconds =
        if study.run.has("timings.json") { study.run.read_json("timings.json")? } else { BTreeMap::new() };
    let all = Rows {
        study,
        rows,
        stages: stages_of(rows),
        weights: Mutex::default(),
        tumours: Mutex::default(),
        kernels: Mutex::default(),
        seconds: Mutex::new(seconds),
        measured: Mutex::default(),
        done: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    };
    // What they share is made once, on all threads.
    if all.stages.iter().any(|stage| !["wt-full", "wt-sc", "wt-sc-crf", "sub-full"].contains(&stage.name)) {
        study.weak_masks(&study.scribbles()?)?;
    }
    let place = |name| all.stages.iter().position(|stage| stage.name == name);
    let tasks: Vec<Task> = (all.stages.iter())
        .map(|stage| Task {
            needs: stage.from.and_then(place).into_iter().collect(),
            cost: if study.run.has(&model_of(stage.name)) { 0 } else { all.iterations(stage) },
        })
        .collect();
    let total = tasks.iter().map(|task| task.cost).sum();
    study.progress.begin("training", total);
    let jobs = jobs.unwrap_or_else(|| at_once(study));
    let outcome = schedule::run(&tasks, jobs, &all.stop, |i, team| all.stage(all.stages[i], team));
    study.progress.end();
    outcome?;
    let measured = all.measured.into_inner().unwrap_or_else(PoisonError::into_inner);
    let in_order = rows.iter().filter_map(|row| measured.get(row).cloned());
    Ok(in_order.collect())
}

/// As many rows as keep the threads busy, given the size of the network; one on another device than the CPU.
fn at_once(study: &Study<'_>) -> usize {
    let [h, w] = study.train.first().map_or([0; 2], |scan| scan.crop_size());
    let values = study.config.train.batch * h * w * study.config.network.width;
    let busy = (values / PER_THREAD).max(1);
    match study.device {
        Device::Cpu => (rayon::current_num_threads() / busy).clamp(1, MOST_AT_ONCE),
        _ => 1,
    }
}

impl Rows<'_> {
    fn iterations(&self, stage: &Stage) -> u64 {
        let config = self.study.config;
        stage.part.iterations(if stage.outputs == 2 { &config.wt } else { &config.sub }) as u64
    }

    /// The weights of a stage that was trained before.
    fn weights(&self, stage: &str) -> Result<Arc<VarMap>> {
        let weights = lock(&self.weights).get(stage).cloned();
        weights
            .ok_or_else(|| Error::Network(format!("expected stage `{stage}` to be trained, found it is not")))
    }

    /// Seconds that training took of what a row adds to other rows: its own stage, and those before it that are no row's.
    fn seconds(&self, row: RowId) -> Option<f64> {
        let seconds = lock(&self.seconds);
        let before =
            |stage: &&'static Stage| self.stages.iter().find(|s| Some(s.name) == stage.from).copied();
        let own = self.stages.iter().find(|stage| stage.name == row.stage).copied();
        let added = std::iter::successors(own, before)
            .take_while(|stage| stage.name == row.stage || ROWS.iter().all(|row| row.stage != stage.name));
        added.map(|stage| seconds.get(stage.name).copied()).sum()
    }

    /// Trains a stage whose start is there, then makes what others need of it, and measures its row.
    fn stage(&self, stage: &Stage, team: &Team) -> Result<()> {
        let heard = Heard { rows: self, stage: stage.name, counts: false, last: AtomicU64::new(0) };
        let study = &self.study.reporting_to(&heard, team);
        let weights = self.train(stage, study)?;
        let row = self.rows.iter().find(|row| row.stage == stage.name);
        let divided = self.rows.iter().any(|&row| tumours_of(row) == Some(stage.name));
        if row.is_none() && !divided {
            return Ok(());
        }
        let own = Arc::new(team.run(|| segment(study, &weights, stage))?);
        if divided {
            lock(&self.tumours).insert(stage.name, Arc::clone(&own));
        }
        if stage.name == "wt" {
            // All rows that start from one clustering find it on the disk.
            for (prefix, method) in [("sub-km", "kmeans"), ("sub-mx", "mixture")] {
                if self.stages.iter().any(|stage| stage.name.starts_with(prefix)) {
                    self.clusters(study, method)?;
                }
            }
        }
        if let Some(&row) = row {
            let measured = team.run(|| self.measure(study, row, &own))?;
            self.study.progress.log(&format!(
                "phase {} {:<11} {}",
                row.phase,
                row.method,
                in_words(&measured.0)
            ));
            lock(&self.measured).insert(row, measured);
        }
        Ok(())
    }

    fn train(&self, stage: &Stage, study: &Study<'_>) -> Result<Arc<VarMap>> {
        let begun = Instant::now();
        let was_there = study.run.has(&model_of(stage.name));
        let supervision = if was_there {
            Supervision { strong: vec![], weak: vec![], kinds: vec![] }
        } else {
            self.supervision(stage.name, study)?
        };
        let from = stage.from.map(|from| self.weights(from)).transpose()?;
        let start = match &from {
            None => Start::Random,
            Some(weights) if stage.outputs == 4 && stage.part != Part::Crf => Start::NewHead(weights),
            Some(weights) => Start::From(weights),
        };
        let heard = Heard { rows: self, stage: stage.name, counts: true, last: AtomicU64::new(0) };
        let study = study.reporting_to(&heard, &study.team);
        let weights = Arc::new(study.train(
            stage.name,
            stage.outputs,
            start,
            &supervision,
            stage.part,
            self.kernels(stage),
        )?);
        if !was_there {
            heard.advance_to(self.iterations(stage));
            let mut seconds = lock(&self.seconds);
            seconds.insert(stage.name.to_owned(), begun.elapsed().as_secs_f64());
            study.run.write_json("timings.json", &*seconds)?;
        }
        lock(&self.weights).insert(stage.name, Arc::clone(&weights));
        if !self.kernels_are_wanted(stage.outputs) {
            lock(&self.kernels).remove(&stage.outputs);
        }
        Ok(weights)
    }

    /// The dense CRF's kernels that a stage shares with others.
    fn kernels(&self, stage: &Stage) -> Option<Arc<Kernels>> {
        let shared = || {
            Arc::clone(
                lock(&self.kernels).entry(stage.outputs).or_insert_with(|| self.study.kernels(stage.outputs)),
            )
        };
        (stage.part == Part::Crf).then(shared)
    }

    /// Whether a stage with so many classes is still to train with the dense CRF.
    fn kernels_are_wanted(&self, outputs: usize) -> bool {
        let done = lock(&self.weights);
        self.stages.iter().any(|stage| {
            stage.part == Part::Crf && stage.outputs == outputs && !done.contains_key(stage.name)
        })
    }

    fn supervision(&self, stage: &str, study: &Study<'_>) -> Result<Supervision> {
        let dense = |masks: Vec<Array3<u8>>| Supervision {
            weak: masks.iter().map(labels::nothing).collect(),
            strong: (masks.iter().zip(&study.train))
                .map(|(m, s)| labels::inside_brain(m, &s.brain))
                .collect(),
            kinds: Vec::new(),
        };
        match stage {
            "wt-full" => Ok(dense(study.references()?.iter().map(labels::full_tumour).collect())),
            "sub-full" => Ok(dense(study.references()?)),
            "wt-sc" | "wt-sc-crf" => Ok(Study::tumour_supervision(&study.scribbles()?, None)),
            "wt-sc-gc" | "wt" => {
                let scribbles = study.scribbles()?;
                let weak = study.weak_masks(&scribbles)?;
                Ok(Study::tumour_supervision(&scribbles, Some(&weak)))
            }
            "sub-truesc" | "sub-truesc-crf" => {
                let (scribbles, truth) = (study.scribbles()?, study.references()?);
                let weak = study.weak_masks(&scribbles)?;
                let mut out = study.substructure_supervision(&truth, &scribbles, &weak)?;
                out.weak = (truth.iter().zip(&weak).zip(&out.strong))
                    .map(|((m, g), s)| labels::background_only(m, g, s))
                    .collect();
                Ok(out)
            }
            "sub-km" => Ok(dense(self.clusters(study, "kmeans")?)),
            _ => {
                let method = if stage.starts_with("sub-mx") { "mixture" } else { "kmeans" };
                let scribbles = study.scribbles()?;
                let weak = study.weak_masks(&scribbles)?;
                study.substructure_supervision(&self.clusters(study, method)?, &scribbles, &weak)
            }
        }
    }

    /// The sub-structures by a clustering inside what Unet-WT takes for tumours, on the training scans.
    fn clusters(&self, study: &Study<'_>, method: &str) -> Result<Vec<Array3<u8>>> {
        let scribbles = study.scribbles()?;
        let weak = study.weak_masks(&scribbles)?;
        let weights = self.weights("wt")?;
        let tumours = study.tumour_masks(&weights, &scribbles, &weak)?;
        study.substructures(method, &*clustering(method, study.config), &tumours)
    }

    /// Writes a row's predictions of the held-out scans, given its network's own, and measures them.
    fn measure(&self, study: &Study<'_>, row: RowId, own: &[Array3<u8>]) -> Result<Measured> {
        let run = &study.run;
        let tumours = match tumours_of(row) {
            None => None,
            Some(stage) => {
                let found = lock(&self.tumours).get(stage).cloned();
                let missing =
                    || Error::Network(format!("expected the whole tumours of stage `{stage}`, found none"));
                Some(found.ok_or_else(missing)?)
            }
        };
        let measured: Vec<(Option<CaseMetrics>, CaseMetrics)> = (study.test.par_iter().zip(own).enumerate())
            .map(|(i, (scan, own))| {
                let merged = match &tumours {
                    None => own.mapv(|v| v * 2),
                    Some(tumours) => merge(&tumours[i].mapv(|v| v != 0), own),
                };
                let path = run.path(&format!("{}/{}_seg.nii.gz", folder(row), scan.id));
                run.make_parent(&path)?;
                let whole = scan.uncrop(merged.view(), 0);
                let coded = study.scheme.from_internal(whole.view())?;
                scribseg_io::write_labels(&path, coded.view(), &scan.geometry)?;
                // Of Unet-sub's own masks the table shows the whole tumour alone.
                let tumour = own.mapv(|v| if v > 0 { 2 } else { 0 });
                let own =
                    if row.phase == 2 { Some(measure(scan, &scan.uncrop(tumour.view(), 0))?) } else { None };
                Ok((own, measure(scan, &whole)?))
            })
            .collect::<Result<_>>()?;
        let (own, merged): (Vec<_>, Vec<_>) = measured.into_iter().unzip();
        let own: Vec<CaseMetrics> = own.into_iter().flatten().collect();
        let policy = policy(study.config);
        let own = scribseg_metrics::summarise(&own, policy, &study.scheme.describe());
        let merged = evaluation::of(&merged, policy, study.scheme, study.config);
        let seconds = self.seconds(row).filter(|_| study.config.evaluate.seconds);
        let only =
            |region: &RegionSummary| RegionFigures { dice: region.dice.mean, recall: None, precision: None };
        let (wt, tc, et) = if row.phase == 1 {
            let wt = &merged.regions.wt;
            let wt = RegionFigures { dice: wt.dice.mean, recall: wt.recall, precision: wt.precision };
            (wt, None, None)
        } else {
            let regions = &merged.regions;
            (only(&own.regions.wt), Some(only(&regions.tc)), Some(only(&regions.et)))
        };
        Ok((Row { phase: row.phase, method: row.method.to_owned(), wt, tc, et, seconds }, merged))
    }
}

/// What the network of a stage says of the held-out scans.
fn segment(study: &Study<'_>, weights: &VarMap, stage: &Stage) -> Result<Vec<Array3<u8>>> {
    let network = |scan| {
        let network = study.methods.network.load(stage.outputs, weights, study.device)?;
        classes(&*network, scan, study.device)
    };
    study.test.par_iter().map(|scan| network(scan)).collect()
}

/// `WT 0.8760  TC 0.7012  ET 0.6533`: the figures of a row on one line.
fn in_words(row: &Row) -> String {
    let regions = [("WT", Some(row.wt)), ("TC", row.tc), ("ET", row.et)];
    let words = regions.into_iter().filter_map(|(name, figures)| {
        let dice = figures?.dice.map_or_else(|| "undefined".to_owned(), |d| format!("{d:.4}"));
        Some(format!("{name} {dice}"))
    });
    words.collect::<Vec<_>>().join("  ")
}

/// What one stage tells, among others that are under way: its iterations count towards those of all.
struct Heard<'a> {
    rows: &'a Rows<'a>,
    stage: &'static str,
    /// Whether what advances are the iterations of training.
    counts: bool,
    last: AtomicU64,
}

impl Heard<'_> {
    /// So many iterations of the stage are done; those of all stages.
    fn advance_to(&self, done: u64) -> u64 {
        let new = done.saturating_sub(self.last.fetch_max(done, Ordering::Relaxed));
        self.rows.done.fetch_add(new, Ordering::Relaxed) + new
    }
}

impl Progress for Heard<'_> {
    fn stage(&self, name: &str, detail: &str) {
        if self.counts {
            self.rows.study.progress.stage(name, detail);
        }
    }

    fn begin(&self, _: &str, _: u64) {}

    fn advance(&self, done: u64, message: &str) {
        if self.counts {
            let all = self.advance_to(done);
            self.rows.study.progress.advance(all, &format!("{} {done}, {message}", self.stage));
        }
    }

    fn end(&self) {}

    fn log(&self, line: &str) {
        self.rows.study.progress.log(line);
    }

    fn stopped(&self) -> bool {
        self.rows.stop.load(Ordering::Relaxed) || self.rows.study.progress.stopped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_its_stage_and_every_stage_comes_after_its_start() {
        assert!(ROWS.iter().all(|row| STAGES.iter().any(|stage| stage.name == row.stage)));
        for (i, stage) in STAGES.iter().enumerate() {
            let before = &STAGES[..i];
            assert!(stage.from.is_none_or(|from| before.iter().any(|s| s.name == from)), "{}", stage.name);
        }
        assert_eq!(stages_of(&ROWS).len(), STAGES.len());
    }

    #[test]
    fn a_row_needs_what_it_starts_from_and_the_tumours_it_divides() {
        let names = |row: &RowId| stages_of(&[*row]).iter().map(|s| s.name).collect::<Vec<_>>();
        assert_eq!(names(&ROWS[2]), ["wt-sc", "wt-sc-crf"]);
        assert_eq!(names(&ROWS[11]), ["wt-sc-gc", "wt", "sub-km-sc", "sub"]);
        for row in &ROWS {
            assert!(tumours_of(*row).is_none_or(|stage| names(row).contains(&stage)), "{row:?}");
        }
    }
}
