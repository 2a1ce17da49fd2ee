use thiserror::Error;

/// What can be wrong with the input of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The whole-tumour mask lies on another grid than the modalities.
    #[error(
        "whole-tumour mask: expected shape {expected:?} (z, y, x), found {found:?}; resample onto the scan's grid"
    )]
    Shape {
        /// Shape of the modalities' grid.
        expected: [usize; 3],
        /// Shape of the mask.
        found: [usize; 3],
    },
    /// Not the four modalities.
    #[error("expected the 4 modalities T1, T1ce, T2, FLAIR in that order, found {found} channels")]
    Modalities {
        /// Channels found.
        found: usize,
    },
    /// An intensity inside the tumour is NaN or infinite.
    #[error(
        "{modality} holds {value} at voxel {voxel:?} (z, y, x) inside the whole tumour; expected finite intensities, \
         repair the image"
    )]
    NotFinite {
        /// Name of the modality.
        modality: &'static str,
        /// Position of the value.
        voxel: [usize; 3],
        /// The value.
        value: f32,
    },
    /// Every sub-structure is declared absent, yet there is a tumour.
    #[error(
        "the whole tumour has {voxels} voxels but ED, ET and NCR are all declared absent; correct the presence table \
         or the mask"
    )]
    NothingPresent {
        /// Voxels of the mask.
        voxels: usize,
    },
    /// Voxels no scanner makes, at which the mixture's distances in mm have no meaning.
    #[error(
        "voxel size: expected 0.05 to 50 mm along each axis, found {found:?} mm (z, y, x); correct the header"
    )]
    Spacing {
        /// Voxel size in mm.
        found: [f64; 3],
    },
    /// A parameter is outside the range in which it has a meaning.
    #[error("parameter {name}: expected {expected}, found {found}")]
    Parameter {
        /// Name of the parameter.
        name: &'static str,
        /// The accepted range, in words.
        expected: &'static str,
        /// The value given.
        found: usize,
    },
    /// No method of that name.
    #[error("no clustering method {name:?}; expected one of {known}")]
    Method {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: &'static str,
    },
    /// A prior that cannot be read or learned.
    #[error("prior of the mixture: {0}")]
    Prior(String),
    /// The starts could not be found.
    #[error("k-means on the sample: {0}")]
    Starts(String),
    /// The distance to the tumour's surface could not be computed.
    #[error("distance to the tumour's surface: {0}")]
    Morphology(#[from] scribseg_morphology::Error),
}
