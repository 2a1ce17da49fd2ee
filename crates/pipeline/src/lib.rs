//! Trains brain-tumour segmentation from scribbles and presence labels: the two phases of Ji et al., MICCAI 2019.
//!
//! This is the one place where the crates of the toolkit meet. [`fit()`] is the main job on a cohort of one's own,
//! [`reproduce`] runs Table 1, [`verbs`] holds the single steps, and [`onnx`] writes networks for other programs. The four seams where a crate can be swapped are
//! the traits of [`methods`].
//!
//! ```no_run
//! use scribseg_pipeline::{Config, FitOptions, Labels, Preset, Silent, fit};
//!
//! let config = Config::preset(Preset::Phantom)?;
//! let options = FitOptions {
//!     cohort: "scans".into(),
//!     out: "runs/first".into(),
//!     labels: Labels { scribbles: Some("scribbles".into()), ..Labels::default() },
//!     config,
//!     device: candle_core::Device::Cpu,
//! };
//! println!("{} scans trained", fit(&options, &Silent)?.train.len());
//! # Ok::<(), scribseg_pipeline::Error>(())
//! ```
//!
//! # When not to use it
//! With dense masks for every scan a fully supervised tool (nnU-Net) is the better choice: this one is for labels
//! that cost minutes a scan.

pub mod batches;
mod cohorts;
mod config;
mod error;
mod evaluation;
mod events;
pub mod evidence;
mod experiments;
mod feed;
mod fit;
mod inputs;
mod kernels;
mod kinds;
mod losses;
pub mod methods;
mod mixed;
mod model;
mod models;
pub mod onnx;
mod plan;
mod prepared;
mod presence;
mod progress;
mod rows;
mod run;
mod scan;
mod schedule;
mod scribbles;
mod segment;
mod slices;
mod split;
mod study;
mod supervision;
pub mod train;
pub mod verbs;

/// The modalities in channel order, as BraTS names its files.
pub const MODALITIES: [&str; 4] = ["t1", "t1ce", "t2", "flair"];

pub use cohorts::declared;
pub use config::{
    Cluster, Config, Crf, Evaluate, GraphCut, Input, MaskValues, Network, PhantomCohort, Phase, Preset,
    Scribble, ScribbleValues, Train,
    keys::{Expected, Key},
    origins::{Origin, Resolved},
};
pub use error::{Error, Result};
pub use evidence::{Labels, Masks, Sources, Used, enough};
pub use experiments::{
    FigureCase, ROWS, RegionFigures, ReproduceOptions, Reproduced, Row, RowId, Table1, parse_rows, reproduce,
};
pub use fit::{FitOptions, FitSummary, fit, fit_with};
pub use inputs::Inputs;
pub use model::{Card, Grids, load as load_model, save as save_model};
pub use plan::{Estimate, Plan, PlannedRun, PlannedScan, PlannedStage, plan};
pub use presence::contradictions;
pub use progress::{Progress, Silent};
pub use run::{RunDir, program};
pub use scan::Scan;
pub use scribseg_unet::{Precision, check_device};
pub use segment::{Smoothing, classes, merge, smoothed_classes};
pub use slices::{Slice, slices};
pub use split::{Split, Stratum};
