//! Binary morphology on [`ndarray`]: box erosion and dilation, thinning, exact Euclidean distances, connected
//! components.
//!
//! Every result is the one SciPy and scikit-image give for the same input, so that figures made with either can be
//! compared:
//!
//! | here | there |
//! |---|---|
//! | [`erode`], [`dilate`] | `scipy.ndimage.binary_erosion`, `binary_dilation` with `structure=ones(size)` |
//! | [`skeletonize`] | `skimage.morphology.skeletonize` of a 2-D image |
//! | [`distance_transform`] | `scipy.ndimage.distance_transform_edt(mask, sampling=spacing)` |
//! | [`label_components`], [`fill_holes`] | `scipy.ndimage.label`, `binary_fill_holes` |
//!
//! Masks and labels are equal element for element, distances to rounding. [`longest_path`] and [`largest_component`]
//! cut a skeleton to one curve and a mask to one body.
//!
//! ```
//! use ndarray::{Array2, s};
//! use scribseg_morphology::{Connectivity, distance_transform, erode, label_components};
//!
//! let mut mask = Array2::from_elem((8, 10), false);
//! mask.slice_mut(s![2..7, 3..8]).fill(true);
//!
//! let core = erode(mask.view(), &[3, 3])?;
//! assert_eq!(core.iter().filter(|&&inside| inside).count(), 9);
//!
//! let depth = distance_transform(mask.view(), &[1.0, 1.0])?;
//! assert_eq!(depth[[4, 5]], 3.0);
//!
//! let (_, count) = label_components(mask.view(), Connectivity::Face);
//! assert_eq!(count, 1);
//! # Ok::<(), scribseg_morphology::Error>(())
//! ```
//!
//! **When not to use it.** Structuring elements are full boxes only, images are binary only, and thinning is for 2-D
//! slices: grey-scale morphology and 3-D skeletons are not here.

mod boxes;
mod components;
mod distance;
mod error;
mod path;
mod skeleton;

pub use boxes::{dilate, erode};
pub use components::{Connectivity, component_sizes, fill_holes, label_components, largest_component};
pub use distance::distance_transform;
pub use error::Error;
pub use path::longest_path;
pub use skeleton::skeletonize;
