//! A synthetic multi-modal MRI cohort of glioma, made to be as hard to segment as the real thing.
//!
//! [`generate_case`] draws one skull-stripped head with a tumour: four modalities (T1, T1ce, T2, FLAIR) in raw scanner
//! units and the reference labels. It is a pure function of the index, the seed and the size: cases can be made in any order and on any
//! number of threads, with the same bytes.
//!
//! # What is in it
//!
//! - `anatomy`: folded cortex, white matter, ventricles, deep grey matter, cerebellum, brain stem, fluid in sulci and fissures.
//! - `plan`: about one case in five has no enhancing tumour, one in five less than 2 ml; some have hardly any necrosis;
//!   all have oedema. Any run of indices keeps these shares.
//! - `tumour`: a lobed core, a broken rim, oedema that follows white matter and stops at ventricles, mass effect.
//! - `signal`: contrasts that differ from case to case as on real scans, correlated texture, and look-alikes: periventricular caps,
//!   white-matter spots, vessels, choroid plexus, blood.
//! - `scanner`: a scale of its own per scan and modality, a bias field, Rician noise.
//!
//! Intensities, volumes, the whole-tumour Dice of a FLAIR threshold and the Dice of k-means inside the true tumour are
//! held to figures measured on real scans by this crate's tests.
//!
//! [`Size::Half`] samples the same world at 2 mm: the same head and tumour, an eighth of the voxels.
//!
//! ```
//! use scribseg_phantom::{Size, generate_case};
//!
//! let case = generate_case(3, 42, Size::Half);
//! assert_eq!(case.modalities.shape(), [4, 77, 120, 120]);
//! assert_eq!(case.labels.shape(), [77, 120, 120]);
//! assert!(case.labels.iter().any(|&l| l == 2), "every case has oedema");
//! ```
//!
//! # When not to use it
//!
//! As evidence about patients. It reproduces figures of one data set, not disease; a method that works here is known to work here only.

mod anatomy;
#[cfg(target_arch = "x86_64")]
mod corners;
mod noise;
mod plan;
mod scanner;
mod signal;
mod tumour;

use anatomy::Head;
use ndarray::{Array3, Array4, ArrayViewMut2, ArrayViewMut3, Axis};
use noise::Point;
use plan::Plan;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use scanner::Scanner;
use signal::Contrast;
use tumour::Tumour;

/// How finely a case is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Size {
    /// 155 × 240 × 240 voxels (z, y, x) of 1 mm.
    Full,
    /// 77 × 120 × 120 voxels (z, y, x) of 2 mm: the same anatomy, an eighth of the voxels.
    Half,
}

impl Size {
    /// Voxels along z, y and x.
    pub fn shape(self) -> [usize; 3] {
        match self {
            Self::Full => [155, 240, 240],
            Self::Half => [77, 120, 120],
        }
    }

    /// Distance between voxel centres along z, y and x, mm.
    pub fn spacing(self) -> [f64; 3] {
        match self {
            Self::Full => [1.0; 3],
            Self::Half => [2.0; 3],
        }
    }

    /// World position of a voxel's centre. A voxel of `Half` covers eight of `Full`.
    fn position(self, z: usize, y: usize, x: usize) -> Point {
        let axis = |i: usize, centre: f32| match self {
            Self::Full => i as f32 - centre,
            Self::Half => 2.0 * i as f32 + 0.5 - centre,
        };
        [axis(x, 119.5), axis(y, 119.5), axis(z, 77.0)]
    }
}

/// One synthetic scan with its reference labels.
#[derive(Clone, Debug)]
pub struct Case {
    /// `phantom_` and the index, at least four digits.
    pub id: String,
    /// T1, T1ce, T2, FLAIR as `[modality, z, y, x]`: whole numbers of a scanner's own unit, at least 1 inside the brain and 0 outside.
    pub modalities: Array4<f32>,
    /// Reference labels `[z, y, x]`: 0 background, 1 NCR/NET, 2 ED, 3 ET.
    pub labels: Array3<u8>,
    /// Voxel size along z, y, x in mm.
    pub spacing: [f64; 3],
}

/// A slice of a case: `[modality, y, x]` and `[y, x]`.
struct Slice<'a> {
    modalities: ArrayViewMut3<'a, f32>,
    labels: ArrayViewMut2<'a, u8>,
}

/// Draws case `index` of the cohort `seed`: head, tumour, contrasts and scanner.
///
/// A pure function of its arguments; slices are computed in parallel on the current rayon pool and the bytes do not depend on its size.
/// `Half` and `Full` of the same index and seed show the same head and tumour.
pub fn generate_case(index: usize, seed: u64, size: Size) -> Case {
    let plan = Plan::new(index, seed);
    let key = noise::mix64(seed ^ noise::mix64(index as u64 + 1));
    let mut rng = ChaCha8Rng::seed_from_u64(key);
    let [nz, ny, nx] = size.shape();
    let spacing = size.spacing();
    let voxel = spacing[0] as f32;
    // Drawn at one reference resolution, so that both sizes draw the same numbers and meet the same levels.
    let head = Head::new(plan.brain, &mut rng);
    let tumour = Tumour::grow(&plan, &head, &mut rng);
    let head = head.sampled_at(voxel);
    let contrast = Contrast::new(&plan, voxel, &mut rng);
    let scanner = Scanner::new(voxel, &mut rng);

    let area = ny * nx;
    let (mut modalities, mut labels) = (Array4::zeros((4, nz, ny, nx)), Array3::zeros((nz, ny, nx)));
    let mut slices: Vec<Slice<'_>> = labels
        .axis_iter_mut(Axis(0))
        .zip(modalities.axis_iter_mut(Axis(1)))
        .map(|(labels, modalities)| Slice { modalities, labels })
        .collect();
    slices.par_iter_mut().enumerate().for_each(|(z, slice)| {
        for y in 0..ny {
            for x in 0..nx {
                let p = size.position(z, y, x);
                if anatomy::out_of_reach(p) {
                    continue;
                }
                let place = head.place(p);
                if place.depth <= 0.0 {
                    continue;
                }
                let tissue = head.tissue(&place, tumour.inner(p, place.depth));
                let parts = tumour.at(p, &tissue, voxel);
                let ideal = contrast.at(p, &tissue, &parts);
                let signal = scanner.measure(p, (z * area + y * nx + x) as u64, ideal);
                for (m, value) in signal.into_iter().enumerate() {
                    slice.modalities[[m, y, x]] = value;
                }
                slice.labels[[y, x]] = parts.label;
            }
        }
    });
    Case { id: format!("phantom_{index:04}"), modalities, labels, spacing }
}
