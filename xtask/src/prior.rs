//! Learns what the clustering `mixture` knows before it sees a scan, on phantoms alone.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use ndarray::{Array3, Array4, Axis, Zip};
use rayon::prelude::*;
use scribseg_cluster::{Input, KMeans, Learner, Method, Piece, Presence, Prior};
use scribseg_io::Cohort;
use scribseg_phantom::{Size, generate_case};

/// Seed, cases and sampling of the cohorts that are learned from. Other seeds are left to tests, benchmarks and studies.
const COHORTS: [(u64, usize, Size); 2] = [(7101, 60, Size::Half), (7102, 40, Size::Full)];
/// Cohorts of 20 that the ablation is made on; nothing is learned from them.
const HELD_OUT: [u64; 3] = [9001, 9002, 9003];
/// Of the draws and the reader's start.
const SEED: u64 = 7100;

/// Where the prior goes
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "crates/cluster/src/mixture/phantoms.txt")]
    out: PathBuf,
    /// Fails unless the file already holds what is learned, and writes nothing
    #[arg(long)]
    check: bool,
    /// Writes nothing, but prints what each piece of the method is worth on held-out phantoms
    #[arg(long, conflicts_with = "check")]
    ablation: bool,
    /// A cohort with references, for the ablation's last column
    #[arg(long, value_name = "DIR", requires = "ablation")]
    cohort: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut learner = Learner::default();
    for (seed, cases, size) in COHORTS {
        eprintln!("{cases} phantoms of seed {seed}, {} mm", size.spacing()[0]);
        for index in 0..cases {
            let case = generate_case(index, seed, size);
            learner.add(z_scored(case.modalities).view(), case.labels.view(), case.spacing)?;
        }
    }
    eprintln!("learning");
    if arguments.ablation {
        return ablation(&learner, arguments.cohort.as_deref());
    }
    let learned: String = learner.learn(SEED)?.to_text();
    let cohorts =
        COHORTS.map(|(seed, cases, size)| format!("{cases} of seed {seed} at {} mm", size.spacing()[0]));
    let text = format!("# Learned by `cargo xtask prior` on phantoms: {}.\n{learned}", cohorts.join(", "));
    let out: &Path = &arguments.out;
    if arguments.check {
        let there = std::fs::read_to_string(out).with_context(|| out.display().to_string())?;
        anyhow::ensure!(there == text, "{}: is not what `cargo xtask prior` learns; run it", out.display());
        return Ok(ExitCode::SUCCESS);
    }
    std::fs::write(out, text).with_context(|| out.display().to_string())?;
    eprintln!("{} written", out.display());
    Ok(ExitCode::SUCCESS)
}

/// A scan inside whose true whole tumour methods are compared.
struct Known {
    modalities: Array4<f32>,
    labels: Array3<u8>,
    spacing: [f64; 3],
}

impl Known {
    /// Dice of the tumour core and, where there is any, of the enhancing tumour.
    fn dice(&self, divide: &Divide<'_>) -> Result<[Option<f64>; 2]> {
        let [ncr, ed, et] = [1, 2, 3].map(|label| Some(self.labels.iter().any(|&l| l == label)));
        let wt = self.labels.mapv(|l| l != 0);
        let input = Input {
            modalities: self.modalities.view(),
            wt: wt.view(),
            presence: Presence { ncr, ed, et },
            spacing: self.spacing,
        };
        let found = divide(&input)?;
        let of = |region: &dyn Fn(u8) -> bool| {
            let count = |labels: &Array3<u8>| labels.iter().filter(|l| region(**l)).count();
            let both = found.iter().zip(&self.labels).filter(|(a, b)| region(**a) && region(**b)).count();
            (count(&self.labels) > 0)
                .then(|| 2.0 * both as f64 / (count(&found) + count(&self.labels)) as f64)
        };
        Ok([of(&|l| l == 1 || l == 3), of(&|l| l == 3)])
    }
}

type Divide<'a> = dyn Fn(&Input<'_>) -> Result<Array3<u8>> + Sync + 'a;

/// What each piece is worth, inside the true whole tumour: a table on stdout.
fn ablation(learner: &Learner, cohort: Option<&Path>) -> Result<ExitCode> {
    let without: Vec<Vec<Piece>> = std::iter::once(vec![])
        .chain(Piece::ALL.map(|piece| vec![piece]))
        .chain([vec![Piece::Features, Piece::Places]])
        .collect();
    let priors: Vec<Prior> =
        without.par_iter().map(|without| learner.learn_without(SEED, without)).collect::<Result<_, _>>()?;
    let mut cohorts: Vec<(String, Vec<Known>)> = HELD_OUT
        .map(|seed| {
            let known = (0..20).map(|index| {
                let case = generate_case(index, seed, Size::Half);
                Known { modalities: z_scored(case.modalities), labels: case.labels, spacing: case.spacing }
            });
            (format!("phantoms {seed}"), known.collect())
        })
        .into();
    if let Some(root) = cohort {
        cohorts.push((root.file_name().unwrap_or_default().to_string_lossy().into_owned(), scans(root)?));
    }
    let kmeans = KMeans::default();
    let mut rows: Vec<(String, Box<Divide<'_>>)> =
        vec![("k-means".to_owned(), Box::new(|input| Ok(kmeans.divide(input, 1)?.labels)))];
    for (without, prior) in without.iter().zip(&priors) {
        let words: Vec<String> = without.iter().map(|piece| format!("{piece:?}").to_lowercase()).collect();
        let name =
            if words.is_empty() { "mixture".to_owned() } else { format!("without {}", words.join(", ")) };
        rows.push((
            name,
            Box::new(move |i| {
                Ok(scribseg_cluster::mixture(i.modalities, i.wt, i.presence, i.spacing, prior)?.labels)
            }),
        ));
    }
    println!(
        "| TC / ET | {} |",
        cohorts.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" | ")
    );
    println!("|---|{}", "---|".repeat(cohorts.len()));
    for (name, divide) in rows {
        let mut cells = Vec::new();
        for (_, scans) in &cohorts {
            let dice: Vec<[Option<f64>; 2]> =
                scans.par_iter().map(|scan| scan.dice(&*divide)).collect::<Result<_>>()?;
            let mean = |region: usize| {
                let there: Vec<f64> = dice.iter().filter_map(|d| d[region]).collect();
                there.iter().sum::<f64>() / there.len().max(1) as f64
            };
            cells.push(format!("{:.3} / {:.3}", mean(0), mean(1)));
        }
        println!("| {name} | {} |", cells.join(" | "));
    }
    Ok(ExitCode::SUCCESS)
}

/// The scans of a cohort of one's own that have a reference.
fn scans(root: &Path) -> Result<Vec<Known>> {
    let cohort = Cohort::open(root, None)?;
    let read = |case: &scribseg_io::Case| -> Result<Known> {
        let loaded = case.load()?;
        let labels = loaded.reference.with_context(|| format!("{}: has no reference", case.id))?;
        Ok(Known { modalities: z_scored(loaded.modalities), labels, spacing: loaded.geometry.spacing() })
    };
    cohort.cases.iter().map(read).collect()
}

/// Every modality less its mean over the brain, by its standard deviation there: as a scan is prepared.
fn z_scored(mut modalities: Array4<f32>) -> Array4<f32> {
    let brain = modalities.map_axis(Axis(0), |values| values.iter().any(|&v| v != 0.0));
    let volumes: Vec<_> = modalities.axis_iter_mut(Axis(0)).collect();
    volumes.into_par_iter().for_each(|mut volume| {
        let (mut n, mut sum, mut squares) = (0usize, 0f64, 0f64);
        Zip::from(&volume).and(&brain).for_each(|&v, &inside| {
            if inside {
                n += 1;
                sum += f64::from(v);
                squares += f64::from(v).powi(2);
            }
        });
        let mean = sum / n.max(1) as f64;
        let sd = (squares / n.max(1) as f64 - mean * mean).max(f64::MIN_POSITIVE).sqrt();
        Zip::from(&mut volume).and(&brain).for_each(|v, &inside| {
            *v = if inside { ((f64::from(*v) - mean) / sd) as f32 } else { 0.0 };
        });
    });
    modalities
}
