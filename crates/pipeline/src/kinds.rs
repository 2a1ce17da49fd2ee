//! Eq. 1 over slices whose labels come from different sources.

use candle_core::Tensor;
use scribseg_unet::partial_cross_entropy;

use crate::batches::{Batch, Kind, SliceId, UNLABELLED};

/// The labels of a batch's slices that are of one kind, all others unlabelled, and the kind's share of the slices; no labels where none is.
pub(crate) fn of_kind(
    slices: &[SliceId],
    kinds: &[Kind],
    kind: Kind,
    labels: &Tensor,
) -> candle_core::Result<(Option<Tensor>, f64)> {
    let of = |&(scan, _): &SliceId| u8::from(kinds.get(scan) == Some(&kind));
    let mask: Vec<u8> = slices.iter().map(of).collect();
    let count = mask.iter().filter(|&&m| m == 1).count();
    if count == 0 {
        return Ok((None, 0.0));
    }
    let mask = Tensor::from_vec(mask, (slices.len(), 1, 1), labels.device())?.broadcast_as(labels.shape())?;
    let unlabelled = Tensor::full(UNLABELLED, labels.shape(), labels.device())?;
    Ok((Some(mask.where_cond(labels, &unlabelled)?), count as f64 / slices.len() as f64))
}

/// Eq. 1 of a batch. Where scans bring labels of several kinds, it is taken over the slices of each kind k alone and weighted by their
/// share of the batch's B slices, Σ_k (B_k / B) · L_k: a scan counts by its slices, however many pixels of them have labels.
pub(crate) fn supervised(
    logits: &Tensor,
    slices: &[SliceId],
    batch: &Batch,
    kinds: &[Kind],
    lambda: f64,
) -> scribseg_unet::Result<Tensor> {
    let mut sum: Option<Tensor> = None;
    for kind in [Kind::Mask, Kind::Scribbles, Kind::Prediction] {
        let (strong, share) = of_kind(slices, kinds, kind, &batch.strong)?;
        let (weak, _) = of_kind(slices, kinds, kind, &batch.weak)?;
        if let (Some(strong), Some(weak)) = (strong, weak) {
            let term = (partial_cross_entropy(logits, &strong, &weak, lambda)? * share)?;
            sum = Some(match sum {
                Some(sum) => (sum + term)?,
                None => term,
            });
        }
    }
    match sum {
        Some(sum) => Ok(sum),
        None => partial_cross_entropy(logits, &batch.strong, &batch.weak, lambda),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    const LAMBDA: f64 = 0.7;

    fn batch() -> Batch {
        let labels = |values: &[u8]| Tensor::from_slice(values, (3, 1, 4), &Device::Cpu).unwrap();
        Batch {
            images: Tensor::zeros((3, 4, 1, 4), candle_core::DType::F32, &Device::Cpu).unwrap(),
            // A mask of four pixels and scribbles of two, a scribble of one beside G, a prediction.
            strong: labels(&[0, 255, 1, 255, 1, 255, 255, 255, 255, 255, 255, 255]),
            weak: labels(&[0, 1, 1, 0, 255, 0, 0, 255, 1, 0, 0, 0]),
            brain: None,
        }
    }

    fn logits() -> Vec<f32> {
        (0..24).map(|i| ((i * 7 + 3) % 11) as f32 / 5.0 - 1.0).collect()
    }

    const SLICES: [SliceId; 3] = [(0, 5), (2, 1), (1, 9)];
    const KINDS: [Kind; 3] = [Kind::Mask, Kind::Prediction, Kind::Scribbles];

    fn value(logits: &[f32], kinds: &[Kind]) -> f64 {
        let logits = Tensor::from_slice(logits, (3, 2, 1, 4), &Device::Cpu).unwrap();
        let loss = supervised(&logits, &SLICES, &batch(), kinds, LAMBDA).unwrap();
        f64::from(loss.to_scalar::<f32>().unwrap())
    }

    #[test]
    fn each_kind_weighs_by_its_slices_not_by_its_pixels() {
        let x = logits();
        // By the definition: −log p of a pixel of a slice.
        let cost = |slice: usize, pixel: usize, class: usize| {
            let of = |k: usize| f64::from(x[slice * 8 + k * 4 + pixel]);
            (of(0).exp() + of(1).exp()).ln() - of(class)
        };
        let mask = (cost(0, 0, 0) + cost(0, 2, 1)) / 2.0
            + LAMBDA * (cost(0, 0, 0) + cost(0, 1, 1) + cost(0, 2, 1) + cost(0, 3, 0)) / 4.0;
        let scribble = cost(1, 0, 1) + LAMBDA * (cost(1, 1, 0) + cost(1, 2, 0)) / 2.0;
        let prediction = LAMBDA * (cost(2, 0, 1) + cost(2, 1, 0) + cost(2, 2, 0) + cost(2, 3, 0)) / 4.0;
        // The second slice of the batch is of scan 2, the third of scan 1.
        let kinds = [Kind::Mask, Kind::Prediction, Kind::Scribbles];
        let found = value(&x, &kinds);
        assert!((found - (mask + scribble + prediction) / 3.0).abs() < 1e-6, "{found}");
        let scribbles = [Kind::Scribbles; 3];
        let alike = value(&x, &[]);
        assert!((value(&x, &scribbles) - alike).abs() < 1e-7, "one kind alone is eq. 1");
        assert!((alike - found).abs() > 1e-3);
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let x = logits();
        let var = Var::from_slice(&x, (3, 2, 1, 4), &Device::Cpu).unwrap();
        let loss = supervised(&var, &SLICES, &batch(), &KINDS, LAMBDA).unwrap();
        let store = loss.backward().unwrap();
        let gradient = store.get(&var).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (i, &found) in gradient.iter().enumerate() {
            let at = |step: f32| {
                let mut x = x.clone();
                x[i] += step;
                value(&x, &KINDS)
            };
            let slope = (at(0.01) - at(-0.01)) / 0.02;
            assert!((f64::from(found) - slope).abs() < 1e-4, "{i}: {found}, expected {slope}");
        }
    }

    #[test]
    fn a_kind_that_a_batch_lacks_weighs_nothing() {
        let labels = batch().strong;
        let (none, share) = of_kind(&SLICES, &[Kind::Mask; 3], Kind::Scribbles, &labels).unwrap();
        assert!(none.is_none() && share == 0.0);
        let (some, share) = of_kind(&SLICES, &KINDS, Kind::Mask, &labels).unwrap();
        let some = some.unwrap().flatten_all().unwrap().to_vec1::<u8>().unwrap();
        assert_eq!(some, [0, 255, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255]);
        assert!((share - 1.0 / 3.0).abs() < 1e-12);
    }
}
