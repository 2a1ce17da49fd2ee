//! Where a stage's batches come from: gathered ahead by another thread or, on a GPU with room for it, from a training set that lies there.
//!
//! Either way batch `i` holds the same values: see [`Sampler::batch`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

use candle_core::{DType, Device, Tensor};

use crate::batches::{Batch, Gathered, Sampler, SliceId, Supervision};
use crate::error::{Error, Result};
use crate::scan::Scan;

/// Batches that wait for their iteration at most.
const AHEAD: usize = 2;

/// What batches are made of.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) scans: &'a [Arc<Scan>],
    pub(crate) supervision: &'a Supervision,
    pub(crate) sampler: &'a Sampler,
    pub(crate) seed: u64,
    /// Of the random choice.
    pub(crate) purpose: &'static str,
    pub(crate) with_brain: bool,
}

impl Source<'_> {
    pub(crate) fn slices(&self, iteration: usize) -> Vec<SliceId> {
        self.sampler.batch(self.seed, self.purpose, iteration)
    }

    pub(crate) fn gather(&self, slices: &[SliceId]) -> Result<Gathered> {
        Gathered::new(self.scans, self.supervision, slices, self.with_brain)
    }
}

/// The batches of a stage, in the order of the iterations.
pub(crate) enum Feed<'a> {
    /// From the training set on the device.
    Resident(Source<'a>, Resident),
    /// From a thread that gathers them.
    Ahead(Receiver<Result<(Vec<SliceId>, Gathered)>>, &'a Device),
}

impl<'a> Feed<'a> {
    /// The batches of `iterations`; a thread that gathers them runs in `scope` until they end or this is dropped.
    pub(crate) fn new<'scope>(
        source: Source<'a>,
        iterations: std::ops::Range<usize>,
        device: &'a Device,
        scope: &'scope Scope<'scope, '_>,
    ) -> Result<Self>
    where
        'a: 'scope,
    {
        if free(device).is_some_and(|free| Resident::bytes(source) <= free / 2) {
            return Ok(Self::Resident(source, Resident::new(source, device)?));
        }
        let (give, take) = sync_channel(AHEAD);
        scope.spawn(move || gather(source, iterations, &give));
        Ok(Self::Ahead(take, device))
    }

    /// The batch of the next iteration, which is `iteration`, and its slices.
    pub(crate) fn next(&mut self, iteration: usize) -> Result<(Vec<SliceId>, Batch)> {
        match self {
            Self::Resident(source, resident) => {
                let slices = source.slices(iteration);
                let batch = resident.batch(&slices)?;
                Ok((slices, batch))
            }
            Self::Ahead(take, device) => {
                let ended = |_| Error::Network(format!("no batch for iteration {iteration}"));
                let (slices, gathered) = take.recv().map_err(ended)??;
                Ok((slices, gathered.onto(device)?))
            }
        }
    }
}

/// Gathers batches until there are no more or nobody takes them.
fn gather(
    source: Source<'_>,
    iterations: std::ops::Range<usize>,
    give: &SyncSender<Result<(Vec<SliceId>, Gathered)>>,
) {
    for iteration in iterations {
        let slices = source.slices(iteration);
        let gathered = source.gather(&slices).map(|gathered| (slices, gathered));
        if give.send(gathered).is_err() {
            return;
        }
    }
}

/// Bytes free on a GPU.
fn free(device: &Device) -> Option<usize> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => device.cuda_stream().context().mem_get_info().ok().map(|(free, _)| free),
        _ => None,
    }
}

/// The labelled slices of the training set on the device.
pub(crate) struct Resident {
    rows: BTreeMap<SliceId, u32>,
    all: Batch,
}

impl Resident {
    /// Bytes that it takes.
    fn bytes(source: Source<'_>) -> usize {
        let pixels = |&(scan, _): &SliceId| source.scans[scan].crop_size().iter().product::<usize>();
        let a_pixel = 4 * 4 + 2 + if source.with_brain { 4 } else { 0 };
        source.sampler.labelled().iter().map(pixels).sum::<usize>() * a_pixel
    }

    fn new(source: Source<'_>, device: &Device) -> Result<Self> {
        let slices = source.sampler.labelled();
        let Some(&(first, _)) = slices.first() else {
            return Err(Error::Config("no training slice has a label".into()));
        };
        let ([h, w], n) = (source.scans[first].crop_size(), slices.len());
        let all = Batch {
            images: Tensor::zeros((n, 4, h, w), DType::F32, device)?,
            strong: Tensor::zeros((n, h, w), DType::U8, device)?,
            weak: Tensor::zeros((n, h, w), DType::U8, device)?,
            brain: if source.with_brain { Some(Tensor::zeros((n, h, w), DType::F32, device)?) } else { None },
        };
        let mut row = 0;
        // A scan at a time, so that the host holds no second training set.
        for of_scan in slices.chunk_by(|a, b| a.0 == b.0) {
            let part = source.gather(of_scan)?.onto(device)?;
            all.images.slice_set(&part.images, 0, row)?;
            all.strong.slice_set(&part.strong, 0, row)?;
            all.weak.slice_set(&part.weak, 0, row)?;
            if let (Some(all), Some(part)) = (&all.brain, &part.brain) {
                all.slice_set(part, 0, row)?;
            }
            row += of_scan.len();
        }
        Ok(Self { rows: slices.iter().copied().zip(0..).collect(), all })
    }

    fn batch(&self, slices: &[SliceId]) -> Result<Batch> {
        let row = |slice| self.rows.get(slice).copied();
        let rows: Option<Vec<u32>> = slices.iter().map(row).collect();
        let rows = rows.ok_or_else(|| Error::Network("a slice without labels was drawn".into()))?;
        let rows = Tensor::new(rows, self.all.images.device())?;
        let pick = |all: &Tensor| all.index_select(&rows, 0);
        Ok(Batch {
            images: pick(&self.all.images)?,
            strong: pick(&self.all.strong)?,
            weak: pick(&self.all.weak)?,
            brain: self.all.brain.as_ref().map(pick).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use ndarray::Array3;
    use scribseg_io::Cohort;
    use scribseg_phantom::Size;

    fn values(batch: &Batch) -> (Vec<f32>, Vec<u8>, Vec<u8>, Option<Vec<f32>>) {
        let floats = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let bytes = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<u8>().unwrap();
        let brain = batch.brain.as_ref().map(floats);
        (floats(&batch.images), bytes(&batch.strong), bytes(&batch.weak), brain)
    }

    #[test]
    fn a_batch_is_the_same_gathered_ahead_and_from_the_device() {
        let folder = tempfile::tempdir().unwrap();
        crate::verbs::write_phantom(folder.path(), 2, 3, Size::Half, &crate::Silent).unwrap();
        let cohort = Cohort::open(folder.path(), None).unwrap();
        let prepare = |case: &scribseg_io::Case| {
            Arc::new(Scan::prepare(case.load().unwrap(), &Config::default(), 16).unwrap())
        };
        let scans: Vec<_> = cohort.cases.iter().map(prepare).collect();
        let strong: Vec<Array3<u8>> = scans
            .iter()
            .map(|scan| {
                let label = |(z, y, x)| if (y + x) % 7 < z % 5 { u8::from(x % 3 == 0) } else { 255 };
                Array3::from_shape_fn(scan.brain.dim(), label)
            })
            .collect();
        let weak = strong.iter().map(|s| s.mapv(|v| if v == 255 { 0 } else { 255 })).collect();
        let supervision = Supervision { strong, weak, kinds: vec![] };
        let sampler = Sampler::new(&supervision, 5, 0.5).unwrap();
        for with_brain in [false, true] {
            let (scans, supervision, sampler) = (&scans[..], &supervision, &sampler);
            let source = Source { scans, supervision, sampler, seed: 7, purpose: "batch", with_brain };
            let resident = Resident::new(source, &Device::Cpu).unwrap();
            std::thread::scope(|scope| {
                let mut feed = Feed::new(source, 3..8, &Device::Cpu, scope).unwrap();
                for iteration in 3..8 {
                    let (slices, batch) = feed.next(iteration).unwrap();
                    assert_eq!(slices, sampler.batch(7, "batch", iteration));
                    let found = values(&batch);
                    assert_eq!(found, values(&source.gather(&slices).unwrap().onto(&Device::Cpu).unwrap()));
                    assert_eq!(found, values(&resident.batch(&slices).unwrap()));
                    assert_eq!(found.3.is_some(), with_brain);
                }
                assert!(feed.next(8).is_err(), "there are no more");
                // One that is dropped early ends its thread: else this would never return.
                drop(Feed::new(source, 0..100, &Device::Cpu, scope).unwrap());
            });
        }
    }
}
