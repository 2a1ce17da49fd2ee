//! NIfTI volumes with geometry, cohort layouts, label schemes, presence tables and scribble files: all that scribseg
//! reads from a disk and writes to it.
//!
//! * [`geometry`]: where voxels lie in the patient; canonical `[z, y, x]` LPS axes and the exact way back.
//! * [`volume`]: images and label images, checked while they are read, written on the scan's own grid.
//! * [`labels`]: what label values mean: declared, never guessed.
//! * [`layout`], [`cohort`], [`mod@check`]: cases on disk, loaded in parallel, every fault named.
//! * [`presence`], [`scribbles`]: the two cheap labels that scribseg learns from.
//! * [`atomic`]: files that are there whole or not at all.
//!
//! # Example
//!
//! Write a label image on a scan's grid and read it back:
//!
//! ```
//! use scribseg_io::{Geometry, LabelVolume, write_labels};
//!
//! let folder = std::env::temp_dir();
//! let path = folder.join(format!("scribseg-io-example-{}.nii.gz", std::process::id()));
//! let grid = Geometry::from_spacing([3, 4, 5], [2.0, 1.0, 1.0]).ok_or("spacing")?;
//! let labels = ndarray::Array3::from_shape_fn((3, 4, 5), |(z, _, _)| z as u8);
//! write_labels(&path, labels.view(), &grid)?;
//!
//! let back = LabelVolume::read(&path)?;
//! assert_eq!(back.geometry.spacing(), [2.0, 1.0, 1.0]);
//! assert_eq!(back.data.mapv(|v| v as u8), labels);
//! # std::fs::remove_file(&path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # When not to use it
//!
//! It reads what segmentation needs: NIfTI with three axes (four in the Decathlon's layout) and real voxels, and of NRRD what
//! 3D Slicer writes of segmentations. For DICOM, Analyze 7.5, time series, complex data or header extensions use another library.
//! It does not resample: images that belong together must already share a grid.

pub mod atomic;
pub mod check;
pub mod cohort;
mod error;
mod file;
pub mod geometry;
mod header;
pub mod labels;
pub mod layout;
mod messages;
mod nrrd;
pub mod presence;
pub mod scribbles;
mod stream;
pub mod volume;

pub use atomic::{write_atomic, write_atomic_with};
pub use check::{Fault, check, check_with};
pub use cohort::{Case, Cohort, Declared, LoadedCase, MODALITIES};
pub use error::{Error, Result};
pub use file::image_files;
pub use geometry::{Affine, AffineSource, Geometry, Mismatch};
pub use labels::LabelScheme;
pub use layout::Layout;
pub use layout::brats::write_case;
pub use layout::dataset::Channels;
pub use presence::{Presence, PresenceTable};
pub use scribbles::{
    NOT_LABELLED, ScribbleMapping, TUMOUR_OF_ANY_KIND, companion, one_companion, read_mask, read_scribble,
    read_segmentation, read_whole_tumour,
};
pub use volume::{
    LabelVolume, Volume, read_geometry, write_image, write_image_i16, write_labels, written_by_scribseg,
};

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
