use thiserror::Error;

/// What can be wrong with the input of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// Two arrays that must lie on the same grid do not.
    #[error("{what}: expected shape {expected:?} (z, y, x), found {found:?}; resample onto the scan's grid")]
    Shape {
        /// The array at fault.
        what: &'static str,
        /// Shape of the image grid.
        expected: [usize; 3],
        /// Shape of the array at fault.
        found: [usize; 3],
    },
    /// A channel index of the parameters is not in the image.
    #[error(
        "{what} asks for channel {channel}, the image has {channels}; set it to channels that exist \
         (Params::for_channels)"
    )]
    Channel {
        /// The parameter that names the channel.
        what: &'static str,
        /// The channel asked for.
        channel: usize,
        /// Channels of the image.
        channels: usize,
    },
    /// A parameter is outside the range in which it has a meaning.
    #[error("parameter {name}: expected {expected}, found {found}")]
    Parameter {
        /// Name of the parameter.
        name: &'static str,
        /// The accepted range, in words.
        expected: &'static str,
        /// The value given.
        found: String,
    },
    /// A voxel size is not a positive number.
    #[error("spacing: expected three positive finite lengths in mm (z, y, x), found {found:?}")]
    Spacing {
        /// The spacing given.
        found: [f64; 3],
    },
    /// An intensity inside the brain is NaN or infinite.
    #[error(
        "channel {channel} holds {value} at voxel {voxel:?} (z, y, x) inside the brain; expected finite \
         intensities, repair the image or take the voxel out of the brain mask"
    )]
    NotFinite {
        /// Channel of the value.
        channel: usize,
        /// Position of the value.
        voxel: [usize; 3],
        /// The value.
        value: f32,
    },
    /// The brain mask is empty.
    #[error("the brain mask holds no voxel; expected the voxels that are non-zero in any modality")]
    EmptyBrain,
    /// A scribble value other than 0, 1 and 2.
    #[error(
        "scribble value {value} at voxel {voxel:?} (z, y, x); expected 0 unknown, 1 tumour or 2 healthy: \
         declare a mapping for other values"
    )]
    ScribbleValue {
        /// The value found.
        value: u8,
        /// Where it was found.
        voxel: [usize; 3],
    },
    /// One of the two kinds of scribble is missing.
    #[error(
        "no {class} scribble (value {value}) inside the brain mask; both kinds are needed, draw at least one \
         of each"
    )]
    MissingScribble {
        /// `tumour` or `healthy`.
        class: &'static str,
        /// The label value of that class.
        value: u8,
    },
    /// A flow network is malformed.
    #[error("flow network: {0}")]
    Network(String),
    /// Morphology refused the masks.
    #[error("eroding the masks: {0}")]
    Morphology(#[from] scribseg_morphology::Error),
}
