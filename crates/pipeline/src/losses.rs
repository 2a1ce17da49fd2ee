//! The losses of the iterations since somebody last looked: on a device, looking means waiting for it.

use candle_core::Tensor;

use crate::error::{Error, Result};

/// Iterations whose losses are kept before somebody has to look.
const MOST: usize = 64;

/// Sums of the losses' three parts (cross-entropy, weighted soft Dice, weighted CRF), and what is still to be added to them.
#[derive(Default)]
pub(crate) struct Losses {
    /// Over the iterations that were read.
    pub(crate) sums: [f64; 3],
    /// Of the iteration that was read last.
    pub(crate) last: [f32; 3],
    waiting: Vec<[Option<Tensor>; 3]>,
}

impl Losses {
    /// Those of one more iteration, scalars; a part that there is not counts as 0.
    pub(crate) fn add(&mut self, parts: [Option<Tensor>; 3]) {
        // Without its history, which holds a whole pass in memory.
        self.waiting.push(parts.map(|part| part.map(|part| part.detach())));
    }

    /// Whether many were not read yet.
    pub(crate) fn many(&self) -> bool {
        self.waiting.len() >= MOST
    }

    /// Reads all that wait and adds them up in their order. The first whose sum is not finite is an error, made from that and from how many
    /// iterations before the last it was.
    pub(crate) fn read(&mut self, diverged: impl FnOnce(f32, usize) -> Error) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let parts: Vec<&Tensor> = waiting.iter().flatten().flatten().collect();
        if parts.is_empty() {
            return Ok(());
        }
        let mut values = Tensor::stack(&parts, 0)?.to_vec1::<f32>()?.into_iter();
        for (i, parts) in waiting.iter().enumerate() {
            let found = parts.each_ref().map(|part| part.as_ref().and_then(|_| values.next()).unwrap_or(0.0));
            let total = found[0] + found[1] + found[2];
            if !total.is_finite() {
                return Err(diverged(total, waiting.len() - 1 - i));
            }
            for (sum, value) in self.sums.iter_mut().zip(found) {
                *sum += f64::from(value);
            }
            self.last = found;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn part(value: f32) -> Option<Tensor> {
        Some(Tensor::new(value, &Device::Cpu).unwrap())
    }

    fn diverged(loss: f32, back: usize) -> Error {
        Error::Diverged { stage: "wt".into(), iteration: 10 - back, loss, learning_rate: 0.1 }
    }

    #[test]
    fn read_late_or_at_once_the_sums_are_the_same() {
        let all = [[0.1, 0.7, 1e-9], [3.3, 0.2, 5.0], [1e-3, 9.1, 0.3]];
        let (mut late, mut at_once) = (Losses::default(), Losses::default());
        for [a, b, c] in all {
            for losses in [&mut late, &mut at_once] {
                losses.add([part(a), if b > 1.0 { None } else { part(b) }, part(c)]);
            }
            at_once.read(diverged).unwrap();
        }
        late.read(diverged).unwrap();
        assert_eq!((late.sums, late.last), (at_once.sums, at_once.last));
        assert_eq!(late.last, [1e-3, 0.0, 0.3]);
        late.read(diverged).unwrap();
        assert_eq!(late.sums, at_once.sums, "nothing is added twice");
    }

    #[test]
    fn the_iteration_that_diverged_is_named_and_those_before_it_are_summed() {
        let mut losses = Losses::default();
        for value in [1.0, f32::NAN, 2.0] {
            losses.add([part(value), None, None]);
        }
        match losses.read(diverged).unwrap_err() {
            Error::Diverged { iteration, .. } => assert_eq!(iteration, 9),
            other => panic!("{other}"),
        }
        assert_eq!(losses.sums[0], 1.0);
    }

    #[test]
    fn after_many_somebody_has_to_look() {
        let mut losses = Losses::default();
        for i in 0..MOST {
            assert!(!losses.many(), "{i}");
            losses.add([part(0.5), None, None]);
        }
        assert!(losses.many());
    }
}
