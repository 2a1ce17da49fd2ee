//! Every verb and every option.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::device::Choice;
use crate::settings::Asked;

/// Learns to segment brain tumours in MRI from scribbles and presence labels
#[derive(Parser)]
#[command(name = "scribseg", version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What every verb takes.
#[derive(Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Common {
    /// Where the networks run: auto, cpu, cuda or cuda:N (the rest always runs on the CPU)
    #[arg(long, global = true, default_value = "auto", value_name = "DEVICE")]
    pub(crate) device: Choice,
    /// Threads of the CPU; results do not depend on it [default: all]
    #[arg(long, global = true, value_name = "N", value_parser = positive)]
    pub(crate) threads: Option<usize>,
    /// No progress on stderr: notes and errors alone
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// More on stderr: the settings that differ from the defaults, what each stage took, files as they are made
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Write a synthetic cohort in BraTS 2017 layout
    Phantom(Phantom),
    /// Read everything in a cohort and report each fault by file; exit status 1 if there is any
    Check(Check),
    /// Simulate tumour and healthy scribbles from reference masks
    Scribble(Scribble),
    /// Graph cut: from scribbles to weak masks
    Propagate(Propagate),
    /// Label sub-structures inside given whole tumours
    Cluster(Cluster),
    /// Train both phases on a cohort; a run that was cut short goes on where it was
    Fit(Fit),
    /// Segment scans with the models of a run
    Predict(Predict),
    /// Compare segmentations with references
    Evaluate(Evaluate),
    /// Lay a run out as one HTML file that opens offline
    Report(Report),
    /// Write the networks of a run in a format that other programs run
    Export(Export),
    /// Run Table 1 of the paper, all its rows and ours
    Reproduce(Reproduce),
    /// Show the values in force and where each came from
    Config {
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Print a script that completes commands in a shell
    Completions(Completions),
    /// Write manual pages, one a command
    Man(Man),
}

/// The values in force.
#[derive(Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct Settings {
    /// A TOML file with values that differ from the paper's
    #[arg(long, value_name = "TOML")]
    pub(crate) config: Option<PathBuf>,
    /// Changes one value, as in `--set train.batch=8`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// Scans that bring different labels.
#[derive(Args)]
pub(crate) struct Mixed {
    /// Masks to train on, of some of the cases: a folder of `<case>_seg.nii.gz`, or the word `reference` for the cohort's own; includes --mixed
    #[arg(long, value_name = "DIR|reference")]
    pub(crate) masks: Option<PathBuf>,
    /// Every scan trains on what there is of it: a mask, scribbles, or presence labels alone; the same as `--set input.mixed=true`
    #[arg(long)]
    pub(crate) mixed: bool,
}

/// Settings that come with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PresetName {
    /// Minutes on two cores; shows that everything runs, proves nothing about figures
    Smoke,
    /// Sized for two CPU cores
    Phantom,
    /// The paper's own: 60,000 iterations of batch 32, a task for a GPU
    Paper,
}

impl From<PresetName> for scribseg_pipeline::Preset {
    fn from(name: PresetName) -> Self {
        match name {
            PresetName::Smoke => Self::Smoke,
            PresetName::Phantom => Self::Phantom,
            PresetName::Paper => Self::Paper,
        }
    }
}

#[derive(Args)]
pub(crate) struct Phantom {
    /// The folder to write; cases that are there already are left alone
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Number of cases
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) cases: usize,
    /// Seed: the same seed makes the same cohort
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Voxel size and grid
    #[arg(long, value_enum, default_value_t = Size::Full)]
    pub(crate) size: Size,
    /// Prints what was written as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Size {
    /// 1 mm, 240 × 240 × 155
    Full,
    /// 2 mm, an eighth of the voxels
    Half,
}

#[derive(Args)]
pub(crate) struct Check {
    /// The cohort's folder
    pub(crate) cohort: PathBuf,
    /// Also reads `<case>_scribble.nii.gz` (or `.seg.nrrd`) in this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) scribbles: Option<PathBuf>,
    /// Also reads this presence table [default: the cohort's own participants.tsv, if there is one]
    #[arg(long, value_name = "TSV")]
    pub(crate) presence: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) mixed: Mixed,
    /// Prints the faults as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Args)]
pub(crate) struct Scribble {
    /// The cohort's folder; every case needs a reference
    pub(crate) cohort: PathBuf,
    /// Where `<case>_scribble.nii.gz` goes: 0 unknown, 1 tumour, 2 healthy
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Prints what was written as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Args)]
pub(crate) struct Propagate {
    /// The cohort's folder
    pub(crate) cohort: PathBuf,
    /// Folder of `<case>_scribble.nii.gz`: 0 unknown, 1 tumour, 2 healthy
    #[arg(long, value_name = "DIR")]
    pub(crate) scribbles: PathBuf,
    /// Where `<case>_weak.nii.gz` goes: 0 unknown, 1 tumour, 2 healthy
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Prints what was written as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Args)]
pub(crate) struct Cluster {
    /// The cohort's folder
    pub(crate) cohort: PathBuf,
    /// Folder of `<case>_wt.nii.gz` (0 outside, 1 tumour), or the word `reference` for the true ones
    #[arg(long, value_name = "DIR|reference")]
    pub(crate) masks: PathBuf,
    /// Where `<case>_seg.nii.gz` goes, in the cohort's label scheme
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Presence table [default: the cohort's participants.tsv, else derived from the references]
    #[arg(long, value_name = "TSV")]
    pub(crate) presence: Option<PathBuf>,
    /// The clustering, `kmeans` or `mixture`; the same as `--set cluster.method=NAME`
    #[arg(long, value_name = "NAME")]
    pub(crate) method: Option<String>,
    /// Prints figures against the references
    #[arg(long)]
    pub(crate) evaluate: bool,
    /// Prints as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Args)]
pub(crate) struct Fit {
    /// The cohort's folder
    pub(crate) cohort: PathBuf,
    /// The run directory
    #[arg(long, value_name = "RUN")]
    pub(crate) out: PathBuf,
    /// Folder of `<case>_scribble.nii.gz` [default: simulated from the references]
    #[arg(long, value_name = "DIR")]
    pub(crate) scribbles: Option<PathBuf>,
    /// Presence table [default: the cohort's participants.tsv, else derived from the references]
    #[arg(long, value_name = "TSV")]
    pub(crate) presence: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) mixed: Mixed,
    /// Cross-validation: N stratified folds, each trained in `RUN/fold-<n>`, and figures of every scan with a reference; the
    /// same as `--set input.folds=N`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=100))]
    pub(crate) folds: Option<u64>,
    /// Settings to start from
    #[arg(long, value_enum, default_value_t = PresetName::Paper, conflicts_with = "config")]
    pub(crate) preset: PresetName,
    /// What the convolutions multiply: f32, bf16, or auto for the faster one on this machine [default: `network.precision` of the settings]
    #[arg(long, value_name = "PRECISION")]
    pub(crate) precision: Option<Asked>,
    /// Prints the plan (scans, stages, files) and an estimate of time, memory and disk from a few training steps; writes nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Prints split and figures as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Args)]
pub(crate) struct Predict {
    /// A run directory, a folder with wt.safetensors and sub.safetensors, or one such file (the whole tumour, or the sub-structures alone); may
    /// be repeated for one of each
    #[arg(long, required = true, value_name = "MODEL")]
    pub(crate) model: Vec<PathBuf>,
    /// Cohorts, or folders of one scan each
    #[arg(required = true, value_name = "INPUT")]
    pub(crate) inputs: Vec<PathBuf>,
    /// Where `<case>_seg.nii.gz` (`<case>_wt.nii.gz` for the whole tumour alone) goes, on the scan's own grid
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Smooths class probabilities by mean-field inference in the dense CRF of the training
    #[arg(long)]
    pub(crate) crf: bool,
    /// Declares what the inputs do not say: `input.layout`, `input.label_scheme` or `input.channels`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Prints what was written as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Evaluate {
    /// A cohort, or a folder of `<case>_seg.nii.gz`
    #[arg(long, value_name = "DIR")]
    pub(crate) reference: PathBuf,
    /// Folder of `<case>_seg.nii.gz`
    #[arg(long, value_name = "DIR")]
    pub(crate) prediction: PathBuf,
    /// Another folder of predictions of the same scans: prints differences by scan, their intervals and a paired test
    #[arg(long, value_name = "DIR")]
    pub(crate) compare: Option<PathBuf>,
    /// Where metrics.json and metrics.csv (and comparison.csv) go [default: the predictions' folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// What a region counts for that the reference or the prediction lacks [default: brats]
    #[arg(long, value_enum)]
    pub(crate) empty: Option<Empty>,
    /// Prints metrics.json
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Empty {
    /// Both empty: Dice 1; one empty: 0
    Brats,
    /// Left out of the mean
    Skip,
}

#[derive(Args)]
pub(crate) struct Report {
    /// The run directory
    pub(crate) run: PathBuf,
    /// Prints where the report lies as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Export {
    /// A run directory, a folder with wt.safetensors and sub.safetensors, or one such file
    pub(crate) model: PathBuf,
    /// As ONNX: wt.onnx, sub.onnx, and scan.onnx from a whole scan to its labels, each with a .json that says what goes in and comes out
    #[arg(long, required = true)]
    pub(crate) onnx: bool,
    /// The folder to write
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Prints what was written as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Reproduce {
    /// Size of the run
    #[arg(long, value_enum, default_value_t = PresetName::Phantom)]
    pub(crate) preset: PresetName,
    /// A cohort of one's own with reference masks, instead of the synthetic one
    #[arg(long, value_name = "DIR")]
    pub(crate) cohort: Option<PathBuf>,
    /// The rows to run, as in `SC,2:KM` [default: all]
    #[arg(long, value_name = "ROWS", value_delimiter = ',', num_args = 1..)]
    pub(crate) rows: Vec<String>,
    /// Rows that train at once, each on its share of the threads [default: as many as keep the threads busy, 4 at most]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) jobs: Option<usize>,
    /// The run directory; without it `runs/<preset>`
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Changes one value of the preset, as in `--set train.batch=8`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// What the convolutions multiply: f32, bf16, or auto for the faster one on this machine [default: `network.precision` of the settings]
    #[arg(long, value_name = "PRECISION")]
    pub(crate) precision: Option<Asked>,
    /// Prints the table as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
pub(crate) enum ConfigAction {
    /// Every value in force and where it came from, as a TOML file that `--config` takes
    Show(ConfigShow),
}

#[derive(Args)]
pub(crate) struct ConfigShow {
    /// Settings to start from
    #[arg(long, value_enum, default_value_t = PresetName::Paper, conflicts_with = "config")]
    pub(crate) preset: PresetName,
    /// Also shows what this cohort's layout declares in place of what is left to it
    #[arg(long, value_name = "DIR")]
    pub(crate) cohort: Option<PathBuf>,
    /// Prints as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Args)]
pub(crate) struct Man {
    /// The folder to write, as in `~/.local/share/man/man1`
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Prints what was written as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=1024).contains(&n) => Ok(n),
        _ => Err(format!("expected a whole number from 1 to 1024, found `{text}`")),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definitions_do_not_contradict_each_other() {
        use clap::CommandFactory;
        super::Arguments::command().debug_assert();
    }
}
