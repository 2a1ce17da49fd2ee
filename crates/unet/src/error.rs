//! What can go wrong, in words that say what to do.

/// Result of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of the network, its operators, the loss and the optimiser.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration value is out of range.
    #[error("network configuration: {field} is {value}, expected {expected}")]
    Config {
        /// The field at fault.
        field: &'static str,
        /// Its value.
        value: usize,
        /// What is accepted.
        expected: String,
    },
    /// Rows or columns cannot be halved as often as the network needs.
    #[error(
        "input is {height} x {width} pixels, but a network of depth {depth} needs both to be positive multiples of \
         {multiple}: crop or pad the slices"
    )]
    InputSize {
        /// Rows found.
        height: usize,
        /// Columns found.
        width: usize,
        /// Number of poolings.
        depth: usize,
        /// 2^depth.
        multiple: usize,
    },
    /// The shape of a tensor does not fit.
    #[error("{what}: expected shape {expected}, found {found:?}")]
    Shape {
        /// Which tensor of which operator.
        what: &'static str,
        /// The shape that was expected.
        expected: String,
        /// The shape that came.
        found: Vec<usize>,
    },
    /// The element type of a tensor does not fit.
    #[error("{what}: expected {expected:?} values, found {found:?}; convert with to_dtype")]
    DType {
        /// Which tensor of which operator.
        what: &'static str,
        /// Accepted type.
        expected: candle_core::DType,
        /// Type that came.
        found: candle_core::DType,
    },
    /// The operator has no implementation on the tensor's device.
    #[error("{op} has no implementation on the device {device}; move the tensors and the model to the CPU")]
    Device {
        /// The operator.
        op: &'static str,
        /// The device the tensor is on.
        device: String,
    },
    /// A label lies outside the classes and is not [`UNKNOWN`](crate::UNKNOWN) either.
    #[error(
        "{what}: label {label} at flat index {index}, expected a class below {classes} or 255 for an unknown pixel"
    )]
    Label {
        /// `scribble` or `weak`.
        what: &'static str,
        /// The offending value.
        label: u8,
        /// Its index in the flattened `[B, H, W]` tensor.
        index: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A number given to the loss or to the optimiser is not usable.
    #[error("{what} is {value}, expected {expected}")]
    Value {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: f64,
        /// What is accepted.
        expected: &'static str,
    },
    /// `SCRIBSEG_CPU` or a caller asks for instructions that are unknown or not there.
    #[error("CPU path {requested:?}: {reason}")]
    CpuPath {
        /// What was asked for.
        requested: String,
        /// Why it cannot be had.
        reason: &'static str,
    },
    /// A precision that is unknown.
    #[error("precision {requested:?}: expected f32, bf16 or auto")]
    Precision {
        /// What was asked for.
        requested: String,
    },
    /// A parameter or a momentum tensor is absent.
    #[error("{name}: not found in {place}; was it saved from a network of another configuration?")]
    Missing {
        /// Name of the tensor.
        name: String,
        /// Where it was looked for.
        place: &'static str,
    },
    /// CUDA or cuDNN is not there, not the one that is needed, or refuses.
    #[error("CUDA: {what}")]
    Cuda {
        /// What was expected and found.
        what: String,
    },
    /// An error from candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(inner) => inner,
            other => candle_core::Error::wrap(other),
        }
    }
}
