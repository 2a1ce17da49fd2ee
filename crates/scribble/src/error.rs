/// What can be wrong with a call.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A parameter is out of its range.
    #[error("scribble parameter {name} must be {expected}, found {found}")]
    Parameter {
        /// Field of [`crate::Params`].
        name: &'static str,
        /// Its range.
        expected: &'static str,
        /// The value found.
        found: f64,
    },
    /// Tumour and brain are not of one shape.
    #[error(
        "tumour and brain must lie on one grid: the tumour has shape {tumour:?}, the brain {brain:?} [z, y, x]; resample one"
    )]
    Shapes {
        /// Shape of the tumour mask.
        tumour: [usize; 3],
        /// Shape of the brain mask.
        brain: [usize; 3],
    },
    /// A voxel size is zero, negative or not finite, or a pixel's sides are too unequal.
    #[error(
        "voxel sizes must be finite lengths above 0 mm, and a pixel's sides at most 100-fold apart, found {found:?} [z, y, x]; check the image header"
    )]
    Spacing {
        /// The sizes found.
        found: [f64; 3],
    },
    /// Scribbles and the region they are counted in are not of one shape.
    #[error(
        "scribbles and region must lie on one grid: the scribbles have shape {scribbles:?}, the region {region:?} [z, y, x]"
    )]
    Region {
        /// Shape of the scribbles.
        scribbles: [usize; 3],
        /// Shape of the region.
        region: [usize; 3],
    },
    /// A label is none of the classes.
    #[error("labels must be 0 to {classes}, found {found}; map the labels to consecutive codes first")]
    Label {
        /// The last class.
        classes: u8,
        /// The label found.
        found: u8,
    },
    /// A morphological step refused its input.
    #[error(transparent)]
    Morphology(#[from] scribseg_morphology::Error),
}
