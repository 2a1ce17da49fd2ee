//! Which slices make a batch, as tensors. Batch `i` of a stage depends on the seed and `i` alone, so that a resumed
//! run sees what an uninterrupted one would have seen.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use ndarray::{Array3, ArrayView3, Axis, s};
use rand::seq::index::sample;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};
use crate::scan::Scan;

/// A pixel without a label.
pub const UNLABELLED: u8 = 255;

/// Where a scan's labels come from, and so how sure they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Somebody's mask.
    Mask,
    /// Scribbles and what was made of them.
    Scribbles,
    /// What an earlier network says.
    Prediction,
}

/// What the network is told about every training scan, on the crop: class or [`UNLABELLED`].
pub struct Supervision {
    /// S of eq. 1: scribbles, or full masks.
    pub strong: Vec<Array3<u8>>,
    /// G of eq. 1, weighted by λ.
    pub weak: Vec<Array3<u8>>,
    /// Where each scan's labels come from; empty when from one source for all.
    pub kinds: Vec<Kind>,
}

/// A slice of the training set: scan and axial index.
pub(crate) type SliceId = (usize, usize);

/// A generator for one purpose of one run.
pub(crate) fn generator(seed: u64, purpose: &str, index: u64) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(purpose.as_bytes()).update(&index.to_le_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

/// A 64-bit seed for one purpose of one run.
pub(crate) fn derived_seed(seed: u64, purpose: &str, index: u64) -> u64 {
    generator(seed, purpose, index).random()
}

/// The slices that carry labels, and those of them with a tumour label.
pub(crate) struct Sampler {
    labelled: Vec<SliceId>,
    tumour: Vec<SliceId>,
    batch: usize,
    from_tumour: usize,
}

impl Sampler {
    pub(crate) fn new(supervision: &Supervision, batch: usize, tumour_fraction: f64) -> Result<Self> {
        let (mut labelled, mut tumour) = (Vec::new(), Vec::new());
        for (i, (strong, weak)) in supervision.strong.iter().zip(&supervision.weak).enumerate() {
            for (z, (s, g)) in strong.outer_iter().zip(weak.outer_iter()).enumerate() {
                let any = |test: fn(u8) -> bool| s.iter().chain(&g).any(|&v| test(v));
                if any(|v| v != UNLABELLED) {
                    labelled.push((i, z));
                    if any(|v| v != UNLABELLED && v != 0) {
                        tumour.push((i, z));
                    }
                }
            }
        }
        if tumour.is_empty() {
            return Err(Error::Config(
                "no training slice has a tumour label: are the scribbles empty?".into(),
            ));
        }
        let from_tumour = (batch as f64 * tumour_fraction).round() as usize;
        Ok(Self { labelled, tumour, batch, from_tumour })
    }

    /// The slices that carry labels, scan by scan.
    pub(crate) fn labelled(&self) -> &[SliceId] {
        &self.labelled
    }

    /// The slices of batch `iteration`: no slice twice while there are enough.
    pub(crate) fn batch(&self, seed: u64, purpose: &str, iteration: usize) -> Vec<SliceId> {
        let mut rng = generator(seed, purpose, iteration as u64);
        let mut chosen = Vec::with_capacity(self.batch);
        for (pool, wanted) in
            [(&self.tumour, self.from_tumour), (&self.labelled, self.batch - self.from_tumour)]
        {
            let mut left = wanted;
            while left > 0 {
                let n = left.min(pool.len());
                chosen.extend(sample(&mut rng, pool.len(), n).into_iter().map(|i| pool[i]));
                left -= n;
            }
        }
        chosen
    }
}

/// Adds planes, one after the other, at once where each is in one piece of memory.
pub(crate) fn append<T: Copy>(values: &mut Vec<T>, planes: ArrayView3<'_, T>) {
    for plane in planes.outer_iter() {
        match plane.as_slice() {
            Some(whole) => values.extend_from_slice(whole),
            None => values.extend(plane.iter()),
        }
    }
}

/// The values of a batch, gathered but not on a device yet.
pub(crate) struct Gathered {
    shape: [usize; 3],
    images: Vec<f32>,
    strong: Vec<u8>,
    weak: Vec<u8>,
    brain: Option<Vec<f32>>,
}

impl Gathered {
    /// Of these slices; the brain only when asked for.
    pub(crate) fn new(
        scans: &[Arc<Scan>],
        supervision: &Supervision,
        slices: &[SliceId],
        with_brain: bool,
    ) -> Result<Self> {
        let Some(&(first, _)) = slices.first() else {
            return Err(Error::Config("key `train.batch`: expected at least 1, found an empty batch".into()));
        };
        let [h, w] = scans[first].crop_size();
        let b = slices.len();
        let mut images: Vec<f32> = Vec::with_capacity(b * 4 * h * w);
        let mut strong: Vec<u8> = Vec::with_capacity(b * h * w);
        let mut weak: Vec<u8> = Vec::with_capacity(b * h * w);
        let mut brain: Vec<f32> = Vec::new();
        for &(i, z) in slices {
            append(&mut images, scans[i].image.slice(s![.., z, .., ..]));
            append(&mut strong, supervision.strong[i].slice(s![z..=z, .., ..]));
            append(&mut weak, supervision.weak[i].slice(s![z..=z, .., ..]));
            if with_brain {
                brain.extend(scans[i].brain.index_axis(Axis(0), z).iter().map(|&v| f32::from(u8::from(v))));
            }
        }
        Ok(Self { shape: [b, h, w], images, strong, weak, brain: with_brain.then_some(brain) })
    }

    /// As tensors on `device`.
    pub(crate) fn onto(self, device: &Device) -> Result<Batch> {
        let [b, h, w] = self.shape;
        Ok(Batch {
            images: Tensor::from_vec(self.images, (b, 4, h, w), device)?,
            strong: Tensor::from_vec(self.strong, (b, h, w), device)?,
            weak: Tensor::from_vec(self.weak, (b, h, w), device)?,
            brain: self.brain.map(|brain| Tensor::from_vec(brain, (b, h, w), device)).transpose()?,
        })
    }
}

/// A batch on the device.
pub(crate) struct Batch {
    /// `[B, 4, H, W]`.
    pub(crate) images: Tensor,
    /// `[B, H, W]` u8.
    pub(crate) strong: Tensor,
    /// `[B, H, W]` u8.
    pub(crate) weak: Tensor,
    /// `[B, H, W]` f32, 1 inside the brain; made only when asked for.
    pub(crate) brain: Option<Tensor>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supervision() -> Supervision {
        let mut strong = Array3::from_elem((6, 2, 2), UNLABELLED);
        strong[[1, 0, 0]] = 0;
        strong[[2, 0, 0]] = 1;
        strong[[4, 0, 0]] = 0;
        Supervision {
            strong: vec![strong],
            weak: vec![Array3::from_elem((6, 2, 2), UNLABELLED)],
            kinds: vec![],
        }
    }

    #[test]
    fn only_labelled_slices_are_drawn_and_a_batch_depends_on_its_number_alone() {
        let sampler = Sampler::new(&supervision(), 4, 0.5).unwrap();
        let batches: Vec<_> = (0..20).map(|i| sampler.batch(7, "wt", i)).collect();
        for (i, batch) in batches.iter().enumerate() {
            assert_eq!(batch.len(), 4);
            assert!(batch.iter().all(|&(scan, z)| scan == 0 && [1, 2, 4].contains(&z)));
            assert!(batch.iter().filter(|&&(_, z)| z == 2).count() >= 2);
            assert_eq!(*batch, sampler.batch(7, "wt", i));
        }
        assert!(batches.windows(2).any(|w| w[0] != w[1]));
    }

    #[test]
    fn no_tumour_label_is_an_error() {
        let mut empty = supervision();
        empty.strong[0][[2, 0, 0]] = UNLABELLED;
        assert!(Sampler::new(&empty, 4, 0.5).err().unwrap().to_string().contains("tumour"));
    }
}
