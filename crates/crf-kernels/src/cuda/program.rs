//! Which constants `kernels.cu` is compiled with.

use crate::loss::LossForm;

/// One set of constants: a filter of some channels or a loss, on the lattice or by definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Program {
    /// Of the loss; 0 for a filter.
    pub(crate) classes: usize,
    /// Of the filter; 0 for a loss.
    filtered: usize,
    pub(crate) roi: bool,
    pub(crate) gate: bool,
    constant: bool,
    /// Features a pixel of the exact kernel.
    pub(crate) exact: Option<usize>,
}

/// Threads of a block of the exact kernel, `TILE` in `kernels.cu`.
pub(crate) const TILE: usize = 256;
/// Values of a pixel that go through a kernel at most: channels, and with the exact kernel its features. A thread keeps them in registers, a
/// tile of them in shared memory.
#[cfg(feature = "cuda")]
pub(crate) const MOST_VALUES: usize = 32;
/// Pixels a thread of it sums for, `ROWS` in `kernels.cu`.
const ROWS: usize = 4;

impl Program {
    /// W·v of some channels on the lattice.
    pub(crate) fn filter(channels: usize) -> Self {
        Self { classes: 0, filtered: channels, roi: false, gate: false, constant: false, exact: None }
    }

    /// Loss and gradient on the lattice.
    pub(crate) fn loss(classes: usize, roi: bool, gate: bool, form: LossForm) -> Self {
        Self { classes, filtered: 0, roi, gate, constant: form == LossForm::NonNegative, exact: None }
    }

    /// The same by definition.
    pub(crate) fn exact(self, features: usize) -> Self {
        Self { exact: Some(features), ..self }
    }

    /// Planes that go through the filter.
    pub(crate) fn channels(&self) -> usize {
        if self.classes == 0 {
            return self.filtered;
        }
        self.classes * (1 + usize::from(self.gate)) + usize::from(self.roi && self.constant)
    }

    /// Planes in and planes out.
    #[cfg(feature = "cuda")]
    pub(crate) fn planes(&self) -> usize {
        self.classes.max(self.filtered)
    }

    /// Blocks an image of so many pixels takes.
    pub(crate) fn blocks(&self, pixels: usize) -> usize {
        if self.exact.is_some() { pixels.div_ceil(TILE * ROWS).max(1) } else { 1 }
    }

    /// `NAME=value` for the compiler.
    pub(crate) fn defines(&self) -> Vec<String> {
        let flag = |name: &str, on: bool| format!("{name}={}", u8::from(on));
        let mut defines = vec![
            format!("CLASSES={}", self.classes),
            format!("CHANNELS={}", self.channels()),
            flag("ROI", self.roi),
            flag("GATE", self.gate),
            flag("CONSTANT", self.constant),
        ];
        if let Some(features) = self.exact {
            defines.push(format!("FEATURES={features}"));
        }
        defines
    }
}
