//! Scribbles on a lesion and on healthy tissue to weak masks, by an iterated min cut over supervoxels.
//!
//! [`propagate()`] takes a multi-channel scan, its brain mask and a scribble mask (0 unknown, 1 tumour, 2 healthy) and works
//! in five steps, each usable alone:
//!
//! 1. [`slic()`] cuts the brain into connected supervoxels of a few millimetres;
//! 2. [`region_graph()`] joins those that touch, with the area they share;
//! 3. a joint intensity histogram is fitted to each class, at first to the scribbles;
//! 4. [`maxflow`] finds the labelling of least energy that keeps every scribble; steps 3 and 4 repeat, and since both
//!    lower the same energy it never rises;
//! 5. both classes are eroded, and what erosion took is unknown in the weak mask.
//!
//! ```
//! use ndarray::{Array3, Array4};
//! use scribseg_graphcut::{HEALTHY, Params, TUMOUR, propagate};
//!
//! // A bright block in a dark brain, one stroke on each.
//! let inside = |z: usize, y: usize, x: usize| (4..12).contains(&z) && (4..12).contains(&y) && (4..12).contains(&x);
//! let texture = |z: usize, y: usize, x: usize| ((z * 7 + y * 13 + x * 29) % 10) as f32 / 10.0;
//! let image = Array4::from_shape_fn((1, 16, 24, 24), |(_, z, y, x)| {
//!     texture(z, y, x) + if inside(z, y, x) { 4.0 } else { 0.0 }
//! });
//! let brain = Array3::from_elem((16, 24, 24), true);
//! let mut scribble = Array3::zeros((16, 24, 24));
//! scribble.slice_mut(ndarray::s![8, 6..10, 7]).fill(TUMOUR);
//! scribble.slice_mut(ndarray::s![8, 2..22, 20]).fill(HEALTHY);
//!
//! let found = propagate(image.view(), brain.view(), scribble.view(), [1.0; 3], &Params::default())?;
//! assert_eq!(found.cut[[5, 5, 5]], TUMOUR);
//! assert_eq!(found.cut[[14, 20, 4]], HEALTHY);
//! # Ok::<(), scribseg_graphcut::Error>(())
//! ```
//!
//! # When not to use it
//! The masks are training labels, not segmentations to report. A lesion that no scribble touches is found only when its
//! intensities and its surroundings speak for it, and one without contrast in the chosen channels is not found at all.

mod energy;
mod error;
mod geodesic;
pub mod maxflow;
mod model;
mod params;
mod propagate;
mod region;
mod slic;

pub use error::Error;
pub use params::Params;
pub use propagate::{HEALTHY, Outcome, TUMOUR, propagate};
pub use region::{RegionGraph, region_graph};
pub use slic::{SlicParams, Supervoxels, slic};
