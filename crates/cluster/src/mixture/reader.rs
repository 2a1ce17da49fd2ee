//! A small perceptron that reads a voxel's evidence: one hidden layer of rectified units, then log-probabilities of the structures.
//!
//! `log p = log softmax(B·max(0, A·x + a) + b)` with the evidence `x` of [`super::evidence`], standardised and cut off at 2.5.

use super::prior::CLASSES;

/// Evidence of a voxel.
pub(crate) const INPUTS: usize = super::evidence::LENGTH;
/// Standard deviations from the mean at which an input is cut off: a reader must not run on into what it was never shown, a tumour far
/// smaller than any it learned from, say.
const RANGE: f64 = 2.5;
/// Hidden units.
pub(crate) const HIDDEN: usize = 12;

/// The perceptron's weights, row by row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reader {
    /// Mean of each input, to be taken off.
    pub(crate) mean: Vec<f64>,
    /// Standard deviation of each input, to be divided by.
    pub(crate) scale: Vec<f64>,
    pub(crate) hidden: Vec<f64>,
    pub(crate) hidden_bias: Vec<f64>,
    pub(crate) output: Vec<f64>,
    pub(crate) output_bias: Vec<f64>,
}

impl Reader {
    /// All zero, but for the scale.
    pub(crate) fn blank() -> Self {
        Self {
            mean: vec![0.0; INPUTS],
            scale: vec![1.0; INPUTS],
            hidden: vec![0.0; HIDDEN * INPUTS],
            hidden_bias: vec![0.0; HIDDEN],
            output: vec![0.0; CLASSES * HIDDEN],
            output_bias: vec![0.0; CLASSES],
        }
    }

    /// Log-probabilities of NCR/NET, ED and ET.
    pub(crate) fn read(&self, evidence: &[f64; INPUTS]) -> [f64; CLASSES] {
        self.log_probabilities(&self.hidden_units(&self.standardised(evidence)))
    }

    pub(crate) fn standardised(&self, evidence: &[f64; INPUTS]) -> [f64; INPUTS] {
        std::array::from_fn(|i| ((evidence[i] - self.mean[i]) / self.scale[i]).clamp(-RANGE, RANGE))
    }

    pub(crate) fn hidden_units(&self, x: &[f64; INPUTS]) -> [f64; HIDDEN] {
        std::array::from_fn(|h| {
            let row = &self.hidden[h * INPUTS..(h + 1) * INPUTS];
            (row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + self.hidden_bias[h]).max(0.0)
        })
    }

    pub(crate) fn log_probabilities(&self, hidden: &[f64; HIDDEN]) -> [f64; CLASSES] {
        let logits: [f64; CLASSES] = std::array::from_fn(|k| {
            let row = &self.output[k * HIDDEN..(k + 1) * HIDDEN];
            row.iter().zip(hidden).map(|(w, h)| w * h).sum::<f64>() + self.output_bias[k]
        });
        let total = super::em::log_sum(&logits);
        logits.map(|l| l - total)
    }
}
