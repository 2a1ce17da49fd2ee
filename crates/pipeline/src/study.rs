//! A cohort, prepared and split, with the stages that both `fit` and `reproduce` are made of.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use candle_nn::VarMap;
use ndarray::{Array3, Zip};
use rayon::prelude::*;
use scribseg_io::{Cohort, LabelScheme, LabelVolume, Presence, companion};

use crate::batches::{Kind, Supervision, derived_seed};
use crate::config::{Config, Phase};
use crate::error::{Error, Result};
use crate::evidence::{Evidence, Labels, Masks, Sources, Used};
use crate::inputs::Inputs;
use crate::kernels::Kernels;
use crate::methods::{Methods, SubStructures};
use crate::mixed::SURE;
use crate::prepared;
use crate::presence::{note_unfound, presence_of};
use crate::progress::Progress;
use crate::run::RunDir;
use crate::scan::Scan;
use crate::schedule::Team;
use crate::scribbles::{drawn, has_tumour, scribble_of, simulate};
use crate::segment;
use crate::split::Split;
use crate::supervision as labels;
use crate::train::{Stage, Start, Trainer};

/// The channels of the CRF's features: T1, T2, FLAIR for the whole tumour.
pub(crate) const CRF_TUMOUR: [usize; 3] = [0, 2, 3];
/// The channels of the CRF's features: T1, T1ce, FLAIR for the sub-structures.
pub(crate) const CRF_SUBSTRUCTURES: [usize; 3] = [0, 1, 3];

/// The part of a phase's schedule that a stage trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The first: eq. 1 alone.
    Supervised,
    /// The second: eq. 1 with the CRF loss.
    Crf,
    /// Full reference masks, the upper bound: eq. 1, with soft Dice if the configuration says so, for as many
    /// iterations as both parts together, so that no row trains longer than the one it is measured against.
    Full,
}

impl Part {
    pub(crate) fn iterations(self, phase: &Phase) -> usize {
        match self {
            Part::Supervised => phase.iterations,
            Part::Crf => phase.crf_iterations,
            Part::Full => phase.iterations + phase.crf_iterations,
        }
    }
}

/// Where the training scans' scribbles come from.
pub(crate) enum Scribbles {
    Simulated,
    Folder(PathBuf),
    /// Whatever there is of each scan, masks and presence too.
    Mixed(Labels),
}

impl Scribbles {
    /// The user's own.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::Simulated => None,
            Self::Mixed(labels) => labels.scribbles.as_deref(),
        }
    }
}

/// One fold of a cross-validation: it is fitted in the folder `fold-<number>` of the run directory.
#[derive(Clone, Copy)]
pub(crate) struct Fold<'a> {
    /// All folds.
    pub(crate) whole: &'a Split,
    /// From 1.
    pub(crate) number: usize,
}

impl Fold<'_> {
    /// The run directory of fold `number`.
    pub(crate) fn folder(run: &Path, number: usize) -> PathBuf {
        run.join(format!("fold-{number}"))
    }
}

/// A prepared cohort and all that its stages share.
pub(crate) struct Study<'a> {
    pub(crate) run: RunDir,
    pub(crate) config: &'a Config,
    pub(crate) methods: &'a Methods,
    pub(crate) device: &'a Device,
    pub(crate) progress: &'a dyn Progress,
    /// Whose threads train and predict.
    pub(crate) team: Team,
    pub(crate) scheme: LabelScheme,
    pub(crate) train: Vec<Arc<Scan>>,
    pub(crate) test: Vec<Arc<Scan>>,
    pub(crate) presence: Vec<Presence>,
    /// The user's scribbles on the training scans' crops; without them they are simulated.
    given: Option<Arc<Vec<Array3<u8>>>>,
    /// Of a mixed fit, what there is of the training scans.
    evidence: Option<Arc<Vec<Evidence>>>,
    /// Of a mixed fit, what trains of each.
    pub(crate) used: Vec<Used>,
}

impl<'a> Study<'a> {
    /// Reads, normalises, crops and splits the cohort; finds the presence labels and the scribbles of the training
    /// scans. The run directory is claimed last, when every input was found to be usable; that of a fold lies in `out`,
    /// which is claimed for all of them.
    pub(crate) fn open(
        out: &Path,
        fold: Option<Fold<'_>>,
        cohort: &Cohort,
        scribbles: &Scribbles,
        presence: Option<&Path>,
        config: &'a Config,
        methods: &'a Methods,
        device: &'a Device,
        progress: &'a dyn Progress,
    ) -> Result<Self> {
        let folder = scribbles.folder();
        scribseg_crf_kernels::CpuPath::detect().map_err(|e| Error::Config(e.to_string()))?;
        for folder in &cohort.strange {
            progress.log(&format!(
                "{}: NIfTI files with names that the layout does not know, or deeper than it goes; they are left out",
                folder.display()
            ));
        }
        let mut inputs = Inputs::of(cohort, folder, presence)?;
        let sources = match scribbles {
            Scribbles::Mixed(labels) => {
                if let Some(Masks::Folder(masks)) = &labels.masks {
                    inputs = inputs.with_masks(cohort, Some(masks))?;
                }
                Some(Sources::open(cohort, labels, config)?)
            }
            _ => None,
        };
        let whole_run = out;
        RunDir::examine(whole_run, config, &inputs)?;
        let fold_folder = fold.map(|fold| Fold::folder(out, fold.number));
        let out = fold_folder.as_deref().unwrap_or(out);
        RunDir::examine(out, config, &inputs)?;
        let split = match fold.and_then(|fold| fold.whole.folds.get(fold.number - 1)) {
            Some(split) => split.clone(),
            None => Split::of(cohort, config)?,
        };
        progress.stage(
            "prepare",
            &format!(
                "{} training and {} held-out scans, label scheme {}",
                split.train.len(),
                split.test.len(),
                cohort.scheme.describe()
            ),
        );
        progress.begin("prepare", cohort.cases.len() as u64);
        let done = std::sync::atomic::AtomicU64::new(0);
        let stride = methods.network.stride();
        // Of the same configuration over the same files, as was just examined.
        let taken_up = RunDir::holds_run_of(out, config)?;
        let scans: Vec<Result<(Arc<Scan>, bool)>> = cohort
            .cases
            .par_iter()
            .map(|case| {
                let kept = if taken_up { prepared::read(out, case, stride)? } else { None };
                let is_kept = kept.is_some();
                let scan = match kept {
                    Some(scan) => scan,
                    None => Scan::prepare(case.load()?, config, stride)?,
                };
                let ([depth, height, width], [rows, columns]) = (scan.shape, scan.crop_size());
                let whence = if is_kept { "as kept" } else { "read" };
                progress.detail(&format!(
                    "{} {whence}: {depth} slices of {height} × {width} voxels, cut to {rows} × {columns}",
                    scan.id
                ));
                if scan.is_filled_to_the_rim() {
                    progress.log(&format!("{}: {}", scan.id, crate::scan::FILLED));
                }
                let n = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
                progress.advance(n, &scan.id);
                Ok((Arc::new(scan), is_kept))
            })
            .collect();
        // Of several faults the first in the cohort's order.
        let scans = scans.into_iter().collect::<Result<Vec<(Arc<Scan>, bool)>>>()?;
        progress.end();
        let anew: Vec<Arc<Scan>> =
            scans.iter().filter(|(_, is_kept)| !is_kept).map(|(scan, _)| Arc::clone(scan)).collect();
        let scans: Vec<Arc<Scan>> = scans.into_iter().map(|(scan, _)| scan).collect();
        if anew.len() < scans.len() {
            let kept = scans.len() - anew.len();
            progress.log(&format!("{kept} of {} scans as an earlier start prepared them", scans.len()));
        }
        let other_pixels = |a: &Scan, b: &Scan| {
            let off = |axis: usize| (a.spacing[axis] / b.spacing[axis] - 1.0).abs() >= 1e-3;
            a.crop_size() != b.crop_size() || off(1) || off(2)
        };
        if let Some((first, other)) =
            scans.first().and_then(|f| scans.iter().find(|s| other_pixels(s, f)).map(|o| (f, o)))
        {
            return Err(Error::case(
                &other.id,
                format!(
                    "expected the in-plane voxel size of {} ({:?} mm, z y x), found {:?}; resample the cohort to one grid",
                    first.id, first.spacing, other.spacing
                ),
            ));
        }
        let pick = |ids: &[String]| -> Vec<Arc<Scan>> {
            scans.iter().filter(|s| ids.contains(&s.id)).cloned().collect()
        };
        let (train, test) = (pick(&split.train), pick(&split.test));
        // What one fold holds out another trains on: told before the first, not hours into the second.
        let trained = if fold.is_some() { &scans } else { &train };
        if fold.is_some() {
            presence_of(cohort, presence, trained, &crate::progress::Silent)?;
        }
        let (evidence, used) = match &sources {
            Some(sources) => {
                let (evidence, used) =
                    sources.gather(cohort, &train.iter().map(|scan| &**scan).collect::<Vec<_>>())?;
                sources.strays(cohort).iter().for_each(|stray| progress.log(stray));
                used.iter().for_each(|used| progress.log(&format!("{}: {}", used.id, used.in_words())));
                (Some(evidence), used)
            }
            None => (None, Vec::new()),
        };
        let presence = match &evidence {
            Some(evidence) => evidence.iter().map(|e| e.presence).collect(),
            None => presence_of(cohort, presence, &train, progress)?,
        };
        let given = match (folder, &evidence) {
            (_, Some(evidence)) => {
                // A mask says more than the scribbles beside it.
                let drawn = |(e, scan): (&Evidence, &Arc<Scan>)| match (&e.scribble, &e.mask) {
                    (Some(scribble), None) => scribble.clone(),
                    _ => Array3::zeros(scan.brain.dim()),
                };
                Some(evidence.iter().zip(&train).map(drawn).collect())
            }
            (Some(folder), None) => {
                let values = config.input.scribble_values.mapping()?;
                // Of held-out scans those that are there are looked at too: a fault does not depend on the split.
                let there = |s: &&Arc<Scan>| fold.is_some() || companion(folder, &s.id, "scribble").is_file();
                let held_out: Vec<Result<()>> = test
                    .par_iter()
                    .filter(there)
                    .map(|s| scribble_of(folder, s, &values).map(|_| ()))
                    .collect();
                held_out.into_iter().collect::<Result<()>>()?;
                let read: Vec<_> = train.par_iter().map(|s| scribble_of(folder, s, &values)).collect();
                // Of several faults the first in the cohort's order is told, whichever was met first.
                Some(read.into_iter().collect::<Result<Vec<_>>>()?)
            }
            (None, None) => {
                progress.log("no --scribbles: scribbles are simulated from the reference segmentations");
                trained.iter().try_for_each(|scan| has_tumour(scan))?;
                None
            }
        };
        if let Some(fold) = fold {
            RunDir::open(whole_run, config, &inputs)?.write_json("split.json", fold.whole)?;
        }
        let run = RunDir::open(out, config, &inputs)?;
        run.write_json("split.json", &split)?;
        if evidence.is_some() {
            run.write_json("supervision.json", &used)?;
        }
        // A run that has its last model needs them no more. One after another: each takes its size in memory once more.
        let needed = !run.has("models/sub.safetensors");
        let mut keep = anew.iter().take_while(|_| needed);
        if let Err(problem) = keep.try_for_each(|scan| prepared::write(out, scan, stride)) {
            progress.log(&format!(
                "prepared scans are not kept, a run that is cut short prepares them again: {problem}"
            ));
            prepared::forget(out);
        }
        Ok(Self {
            run,
            config,
            methods,
            device,
            progress,
            team: Team::default(),
            scheme: cohort.scheme,
            train,
            test,
            presence,
            given: given.map(Arc::new),
            evidence: evidence.map(Arc::new),
            used,
        })
    }

    /// The same, telling somebody else where it is, for a team.
    pub(crate) fn reporting_to<'b>(&self, progress: &'b dyn Progress, team: &Team) -> Study<'b>
    where
        'a: 'b,
    {
        Study {
            run: self.run.clone(),
            progress,
            team: team.clone(),
            train: self.train.clone(),
            test: self.test.clone(),
            presence: self.presence.clone(),
            given: self.given.clone(),
            evidence: self.evidence.clone(),
            used: self.used.clone(),
            ..*self
        }
    }

    /// What this run predicted of a held-out scan, on its whole grid.
    pub(crate) fn read_prediction(&self, folder: &str, scan: &Scan) -> Result<Array3<u8>> {
        let path = self.run.path(&format!("{folder}/{}_seg.nii.gz", scan.id));
        Ok(scribseg_io::read_segmentation(&path, &scan.geometry, self.scheme)?)
    }

    /// Of a mixed fit, what there is of each training scan.
    pub(crate) fn evidence(&self) -> Option<&[Evidence]> {
        self.evidence.as_ref().map(|evidence| evidence.as_slice())
    }

    fn evidence_of(&self, scan: usize) -> Option<&Evidence> {
        self.evidence()?.get(scan)
    }

    /// The run is done: what only a further start would need goes.
    pub(crate) fn close(&self) {
        prepared::forget(self.run.root());
    }

    /// One label volume a training scan, made by `make` unless `weak/<case>/<name>.nii.gz` is there. `heading` is what
    /// a person reads meanwhile.
    fn volumes(
        &self,
        name: &str,
        heading: &str,
        make: impl Fn(usize, &Scan) -> Result<Array3<u8>> + Sync,
    ) -> Result<Vec<Array3<u8>>> {
        self.progress.stage(heading, "");
        self.progress.begin(heading, self.train.len() as u64);
        let done = std::sync::atomic::AtomicU64::new(0);
        let out = self
            .train
            .par_iter()
            .enumerate()
            .map(|(i, scan)| {
                let path = self.run.path(&format!("weak/{}/{name}.nii.gz", scan.id));
                let volume = if path.is_file() {
                    let whole = read_codes(&path, scan).map_err(|e| Error::RunDirectory {
                        path: path.clone(),
                        problem: format!(
                            "was made by this run and is damaged; remove it and run again ({e})"
                        ),
                    })?;
                    scan.crop(whole.view(), 0)
                } else {
                    let volume = make(i, scan)?;
                    self.run.make_parent(&path)?;
                    let whole = scan.uncrop(volume.view(), 0);
                    scribseg_io::write_labels(&path, whole.view(), &scan.geometry)?;
                    self.progress.detail(&format!("{} written", path.display()));
                    volume
                };
                let n = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
                self.progress.advance(n, &scan.id);
                Ok(volume)
            })
            .collect();
        self.progress.end();
        out
    }

    /// The training scans' scribbles: 0 unknown, 1 tumour, 2 healthy.
    pub(crate) fn scribbles(&self) -> Result<Vec<Array3<u8>>> {
        self.volumes("scribble", "scribbles", |i, scan| {
            let seed = derived_seed(self.config.seed, "scribble", i as u64);
            if let Some(mask) = self.evidence_of(i).and_then(|e| e.tumour_of_mask(&scan.brain)) {
                // What a person would draw who sees what the mask shows.
                let (tumour, known) = (mask.mapv(|v| v == 1), mask.mapv(|v| v != 0));
                return drawn(scan, &tumour, &known, self.config, seed);
            }
            match &self.given {
                Some(given) => Ok(given[i].clone()),
                None => simulate(scan, self.config, seed),
            }
        })
    }

    /// G: the graph cut of every training scan.
    pub(crate) fn weak_masks(&self, scribbles: &[Array3<u8>]) -> Result<Vec<Array3<u8>>> {
        self.volumes("graphcut", "graph cut", |i, scan| match self.evidence_of(i) {
            Some(e) if e.tumour_kind() != Kind::Scribbles => {
                Ok(e.tumour_of_mask(&scan.brain).unwrap_or_else(|| Array3::zeros(scan.brain.dim())))
            }
            _ => self.methods.seeds.expand(scan, scribbles[i].view()),
        })
    }

    /// The whole-tumour masks that a network gives on the training scans: 0 healthy, 1 tumour. Where it finds nothing, what scribbles and
    /// weak masks call tumour stands in: every training scan has a tumour. Of a scan that nobody drew on it is taken at its word where it is sure; elsewhere
    /// in the brain stands [`UNLABELLED`](crate::batches::UNLABELLED).
    pub(crate) fn tumour_masks(
        &self,
        weights: &VarMap,
        scribbles: &[Array3<u8>],
        weak: &[Array3<u8>],
    ) -> Result<Vec<Array3<u8>>> {
        self.volumes("wt", "whole tumours of the training scans", |i, scan| {
            if self.evidence_of(i).is_some_and(|e| e.tumour_kind() == Kind::Mask) {
                return Ok(weak[i].mapv(|v| u8::from(v == 1)));
            }
            let network = self.methods.network.load(2, weights, self.device)?;
            if self.evidence_of(i).is_some_and(|e| e.tumour_kind() == Kind::Prediction) {
                return segment::sure_classes(&*network, scan, self.device, SURE);
            }
            let mask = segment::classes(&*network, scan, self.device)?;
            if mask.iter().any(|&v| v != 0) {
                return Ok(mask);
            }
            self.progress.log(&format!("{}: the network finds no tumour; its weak mask stands in", scan.id));
            Ok(Zip::from(&scribbles[i]).and(&weak[i]).map_collect(|&s, &g| u8::from(s == 1 || g == 1)))
        })
    }

    /// Sub-structures inside the whole tumours of the training scans, by the clustering of that name.
    pub(crate) fn substructures(
        &self,
        name: &str,
        clustering: &dyn SubStructures,
        tumours: &[Array3<u8>],
    ) -> Result<Vec<Array3<u8>>> {
        let heading = if name == "kmeans" { "k-means" } else { name };
        self.volumes(name, heading, |i, scan| {
            if let Some(e) = self.evidence_of(i) {
                if let Some(mask) = e.substructure_mask() {
                    return Ok(mask.mapv(|v| if v <= 3 { v } else { 0 }));
                }
                if !e.tells_presence() || !tumours[i].iter().any(|&v| v == 1) {
                    return Ok(Array3::zeros(scan.brain.dim()));
                }
            }
            let seed = derived_seed(self.config.seed, "cluster", i as u64);
            let tumour = tumours[i].mapv(|v| v == 1);
            let labels = clustering.label(scan, tumour.view(), self.presence[i], seed)?;
            note_unfound(self.progress, &scan.id, self.presence[i], labels.view());
            Ok(labels)
        })
    }

    /// The reference of every training scan on its crop.
    pub(crate) fn references(&self) -> Result<Vec<Array3<u8>>> {
        self.train.iter().map(|s| s.reference_crop()).collect()
    }

    /// Room for the dense CRF's kernels of stages with so many classes.
    pub(crate) fn kernels(&self, outputs: usize) -> Arc<Kernels> {
        let channels = if outputs == 2 { CRF_TUMOUR } else { CRF_SUBSTRUCTURES };
        Kernels::new(channels, self.config.crf.cache_mib)
    }

    /// Trains one stage, with kernels of the dense CRF that others may use too or, without, its own.
    pub(crate) fn train(
        &self,
        name: &str,
        outputs: usize,
        start: Start<'_>,
        supervision: &Supervision,
        part: Part,
        kernels: Option<Arc<Kernels>>,
    ) -> Result<VarMap> {
        let phase = if outputs == 2 { &self.config.wt } else { &self.config.sub };
        Trainer {
            run: &self.run,
            config: self.config,
            methods: self.methods,
            scans: &self.train,
            device: self.device,
            progress: self.progress,
            team: self.team.clone(),
        }
        .train(&Stage {
            name,
            outputs,
            start,
            supervision,
            phase,
            iterations: part.iterations(phase),
            dice: if part == Part::Full { self.config.train.full_dice } else { 0.0 },
            crf: (part == Part::Crf).then(|| kernels.unwrap_or_else(|| self.kernels(outputs))),
        })
    }

    /// Phase 1's S and, if given, G.
    pub(crate) fn tumour_supervision(scribbles: &[Array3<u8>], weak: Option<&[Array3<u8>]>) -> Supervision {
        let strong = scribbles.iter().map(|s| labels::tumour_classes(s.view())).collect::<Vec<_>>();
        let weak = match weak {
            Some(weak) => weak.iter().map(|g| labels::tumour_classes(g.view())).collect(),
            None => scribbles.iter().map(labels::nothing).collect(),
        };
        Supervision { strong, weak, kinds: Vec::new() }
    }

    /// Phase 2's S' and G' from sub-structure masks.
    pub(crate) fn substructure_supervision(
        &self,
        masks: &[Array3<u8>],
        scribbles: &[Array3<u8>],
        weak: &[Array3<u8>],
    ) -> Result<Supervision> {
        let strong = (self.train.iter().zip(masks).zip(scribbles))
            .map(|((scan, m), s)| {
                labels::substructure_scribbles(m, s, scan, self.config.scribble.erode_tumour_mm)
            })
            .collect::<Result<Vec<_>>>()?;
        let weak = (masks.iter().zip(weak).zip(&strong))
            .map(|((m, g), s)| labels::substructure_masks(m, g, s))
            .collect();
        Ok(Supervision { strong, weak, kinds: Vec::new() })
    }
}

/// A label file of our own on the scan's grid, its values as they are (all of them 0 to 3).
pub(crate) fn read_codes(path: &Path, scan: &Scan) -> Result<Array3<u8>> {
    Ok(LabelVolume::read_on(path, &scan.geometry, "the scan")?.data.mapv(|v| v.clamp(0, 255) as u8))
}
