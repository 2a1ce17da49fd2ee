//! The sub-structures of a brain tumour, from its outline and the knowledge of which of them are present.
//!
//! [`kmeans`] clusters the voxels of one scan's whole tumour in five intensity features (T1, T1ce, T2, FLAIR and the
//! enhancement T1ce − T1, see [`FEATURES`]) and names the clusters: the brightest in T1ce is the enhancing tumour (ET) when
//! that is present, the one nearest to the tumour's surface is oedema (ED), the rest is the necrotic and non-enhancing core
//! (NCR/NET). The number of clusters is the number of structures that [`Presence`] does not rule out.
//!
//! [`mixture()`] starts from what is known of gliomas ([`Prior`]) and is right far more often; both stand behind [`Method`].
//!
//! ```
//! use ndarray::{Array3, Array4};
//! use scribseg_cluster::{ED, ET, NCR, Params, Presence, kmeans};
//!
//! // A core, an enhancing shell around it and oedema outside.
//! let depth = |z: usize, y: usize, x: usize| {
//!     [z, y, x].iter().map(|&p| (p as f64 - 10.0).powi(2)).sum::<f64>().sqrt()
//! };
//! let wt = Array3::from_shape_fn((21, 21, 21), |(z, y, x)| depth(z, y, x) < 9.0);
//! let modalities = Array4::from_shape_fn((4, 21, 21, 21), |(m, z, y, x)| match depth(z, y, x) {
//!     d if d < 3.0 => [-0.2, -0.1, 1.8, 1.9][m],
//!     d if d < 5.0 => [0.4, 2.6, 1.2, 2.1][m],
//!     _ => [0.2, 0.1, 0.9, 1.8][m],
//! });
//! let presence = Presence { ncr: Some(true), ed: Some(true), et: Some(true) };
//! let found = kmeans(modalities.view(), wt.view(), presence, [1.0; 3], &Params::default(), 1)?;
//! assert_eq!(found.k, 3);
//! assert_eq!([found.labels[[10, 10, 10]], found.labels[[10, 10, 14]], found.labels[[10, 10, 17]]], [NCR, ET, ED]);
//! # Ok::<(), scribseg_cluster::Error>(())
//! ```
//!
//! # When not to use it
//! The labels are rough: on ten real scans, inside the true whole tumour, the tumour core comes out at a Dice of 0.58 by k-means and 0.83 by
//! the mixture. They are
//! meant as a start for a network, with their borders eroded. Nothing outside the given mask is ever labelled.

mod error;
mod features;
mod lloyd;
mod method;
mod mixture;
mod naming;

pub use error::Error;
pub use features::FEATURES;
pub use method::{Clustering, Input, KMeans, METHODS, Method, Params, kmeans, method};
pub use mixture::{Learner, Mixture, Piece, Prior, mixture};
pub use naming::{ED, ET, NCR, Presence};
