//! What can go wrong between a cohort on disk and a trained model.

use std::path::PathBuf;

/// The result of a pipeline step.
pub type Result<T> = std::result::Result<T, Error>;

/// Every way a pipeline step can fail; each message says what was expected, what was found and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration key that does not exist, or a value of the wrong type or out of range.
    #[error("config: {0}")]
    Config(String),
    /// A run directory or output folder, or a file in it, that cannot be used as asked.
    #[error("{}: {problem}", path.display())]
    RunDirectory {
        /// The directory.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A cohort or a table beside it that does not suffice for what was asked.
    #[error("{}: {problem}", path.display())]
    Cohort {
        /// The cohort's folder or the table.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A model file that is no model of ours or does not fit the scan.
    #[error("model {}: {problem}", path.display())]
    Model {
        /// The model file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Training left the range of finite numbers.
    #[error(
        "stage `{stage}`, iteration {iteration}: the loss is {loss}; lower `train.learning_rate` (now {learning_rate}) or `crf.alpha`"
    )]
    Diverged {
        /// The training stage.
        stage: String,
        /// The iteration, from 0.
        iteration: usize,
        /// The loss found.
        loss: f32,
        /// The learning rate in force.
        learning_rate: f64,
    },
    /// Training was asked to end before it was done.
    #[error("stage `{stage}` was stopped at iteration {iteration}; the same command takes it up there")]
    Stopped {
        /// The training stage.
        stage: String,
        /// Iterations that are done.
        iteration: usize,
    },
    /// A scan that one of the steps refuses.
    #[error("case {id}: {problem}")]
    Case {
        /// The case.
        id: String,
        /// What is wrong.
        problem: String,
    },
    /// Reading or writing a cohort file.
    #[error(transparent)]
    Io(#[from] scribseg_io::Error),
    /// A file that could not be read.
    #[error("{}: cannot be read: {source}; see whether it is there and may be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A step of tensor arithmetic.
    #[error("tensor arithmetic: {0}")]
    Tensor(#[from] candle_core::Error),
    /// The network.
    #[error("network: {0}")]
    Network(String),
}

impl Error {
    /// A refusal that concerns one case.
    pub(crate) fn case(id: &str, problem: impl std::fmt::Display) -> Self {
        Self::Case { id: id.to_owned(), problem: problem.to_string() }
    }
}
