//! Scribbles as a person might draw them, simulated from reference masks.
//!
//! For studies of scribble supervision on data that has full references; users bring their own scribbles. On each
//! axial slice one curve marks the tumour and one healthy brain:
//!
//! 1. erode the mask ([`Params::erode_tumour_mm`], [`Params::erode_healthy_mm`]) and thin it;
//! 2. cut the branches: the longest path through the skeleton's largest component is the curve;
//! 3. shift it at random in x and y and turn it about its centroid ([`Params::shift_mm`], [`Params::rotation_deg`]);
//! 4. draw it [`Params::width_mm`] wide and clip it to the mask: scribbles are ground truth.
//!
//! [`simulate()`] does a volume, [`tumour_slice`] and [`healthy_slice`] one slice, [`skeleton_scribbles`] turns the
//! classes of an automatic labelling into thin scribbles without chance. [`labelled_fraction`] tells how much is marked.
//!
//! What a small or odd slice gets: where erosion leaves nothing of the tumour, the curve of the uneroded tumour; where
//! it leaves nothing of healthy brain, the box is halved until something is left; with less than
//! [`MIN_HEALTHY_PIXELS`] pixels of healthy brain, no healthy scribble; where clipping leaves nothing of the moved
//! curve in [`Params::tries`] tries, the unmoved curve. Clipping may cut a scribble into pieces, as where a curve leaves
//! a bent tumour and comes back.
//!
//! ```
//! use ndarray::{Array3, s};
//! use scribseg_scribble::{Params, simulate};
//!
//! let mut brain = Array3::from_elem((4, 80, 80), false);
//! brain.slice_mut(s![.., 5..75, 5..75]).fill(true);
//! let mut tumour = Array3::from_elem((4, 80, 80), false);
//! tumour.slice_mut(s![1..3, 10..30, 12..40]).fill(true);
//!
//! let scribbles = simulate(tumour.view(), brain.view(), [1.0, 1.0, 1.0], &Params::default(), 42)?;
//! assert!(scribbles.indexed_iter().all(|(index, &code)| match code {
//!     1 => tumour[index],
//!     2 => brain[index] && !tumour[index],
//!     _ => true,
//! }));
//! # Ok::<(), scribseg_scribble::Error>(())
//! ```
//!
//! **When not to use it.** The curves follow the reference's middle and never cross its border; they say nothing about
//! how readers' scribbles err. Slices are axial and independent: a curve has no likeness to its neighbours'.

mod curve;
mod error;
mod params;
mod simulate;
mod skeletons;

pub use error::Error;
pub use params::Params;
pub use simulate::{
    HEALTHY, MIN_HEALTHY_PIXELS, TUMOUR, UNKNOWN, healthy_slice, labelled_fraction, simulate, tumour_slice,
};
pub use skeletons::skeleton_scribbles;
