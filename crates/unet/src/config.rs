//! The shape of the network, and the names and shapes of its parameters.

use crate::{Error, Result, UNKNOWN};

/// Shape of a U-Net.
///
/// Level `l` (0 = full resolution, `depth` = the bottom) has `width << l` channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Config {
    /// Input channels: four for T1, T1ce, T2 and FLAIR.
    pub in_channels: usize,
    /// Classes: two for the whole tumour, four for the sub-structures.
    pub out_channels: usize,
    /// Channels at full resolution.
    pub width: usize,
    /// Number of poolings. Rows and columns of the input must be multiples of 2^depth.
    pub depth: usize,
}

/// What a parameter is, which decides how it starts and whether it is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// A convolution kernel: He-normal at the start.
    Kernel,
    /// The weights of the last layer: normal with variance 1/fan-in, since no ReLU follows.
    HeadKernel,
    /// A bias or a batch-norm shift: zero at the start.
    Bias,
    /// A batch-norm scale: one at the start.
    Scale,
    /// A running mean: zero at the start, not trained.
    RunningMean,
    /// A running variance: one at the start, not trained.
    RunningVariance,
}

impl ParameterKind {
    /// Whether the optimiser changes it.
    pub fn trainable(self) -> bool {
        !matches!(self, Self::RunningMean | Self::RunningVariance)
    }
}

/// Name, shape and kind of one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Full name, such as `enc0.conv1.weight`.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Kind.
    pub kind: ParameterKind,
}

/// One block of the network: its name and the channels of its two convolutions.
#[derive(Debug, Clone)]
pub(crate) struct BlockSpec {
    pub(crate) name: String,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
}

/// More channels than this at the bottom is a mistake, not a network.
const MAX_CHANNELS: usize = 1 << 14;

impl Config {
    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Config`] if a count is zero, `depth` is above 8 or the bottom would be wider than 16384 channels.
    pub fn validate(&self) -> Result<()> {
        let positive =
            [("in_channels", self.in_channels), ("out_channels", self.out_channels), ("width", self.width)];
        for (field, value) in positive {
            if value == 0 || value > MAX_CHANNELS {
                return Err(Error::Config { field, value, expected: format!("1 to {MAX_CHANNELS}") });
            }
        }
        if self.out_channels > usize::from(UNKNOWN) {
            let expected = "1 to 255, since labels are bytes and 255 means unknown".into();
            return Err(Error::Config { field: "out_channels", value: self.out_channels, expected });
        }
        if self.depth > 8 {
            return Err(Error::Config { field: "depth", value: self.depth, expected: "0 to 8".into() });
        }
        if self.width << self.depth > MAX_CHANNELS {
            return Err(Error::Config {
                field: "width",
                value: self.width,
                expected: format!("at most {} for a depth of {}", MAX_CHANNELS >> self.depth, self.depth),
            });
        }
        Ok(())
    }

    /// Checks that an input of `height` × `width` pixels can be halved `depth` times.
    ///
    /// # Errors
    /// [`Error::InputSize`] if it cannot.
    pub fn check_input_size(&self, height: usize, width: usize) -> Result<()> {
        let multiple = 1usize << self.depth;
        let fits = |n: usize| n > 0 && n.is_multiple_of(multiple);
        if fits(height) && fits(width) {
            Ok(())
        } else {
            Err(Error::InputSize { height, width, depth: self.depth, multiple })
        }
    }

    /// Every parameter in the network's own order: `enc0` … `enc{depth}`, `dec{depth-1}` … `dec0`, `head`.
    ///
    /// A block holds, for i = 1, 2: `conv{i}.weight` `[out, in, 3, 3]`, then `bn{i}.weight`, `bn{i}.bias`,
    /// `bn{i}.running_mean` and `bn{i}.running_var`, all `[out]`. The first convolution of `dec{l}` reads the
    /// upsampled features of level `l + 1` first and the skip connection of level `l` after them. The head is
    /// `head.weight` `[classes, width, 1, 1]` and `head.bias` `[classes]`.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut all = Vec::new();
        let mut push =
            |name: String, shape: &[usize], kind| all.push(Parameter { name, shape: shape.to_vec(), kind });
        for block in self.blocks() {
            for (i, inputs) in [(1, block.inputs), (2, block.outputs)] {
                let (name, outputs) = (&block.name, block.outputs);
                push(format!("{name}.conv{i}.weight"), &[outputs, inputs, 3, 3], ParameterKind::Kernel);
                push(format!("{name}.bn{i}.weight"), &[outputs], ParameterKind::Scale);
                push(format!("{name}.bn{i}.bias"), &[outputs], ParameterKind::Bias);
                push(format!("{name}.bn{i}.running_mean"), &[outputs], ParameterKind::RunningMean);
                push(format!("{name}.bn{i}.running_var"), &[outputs], ParameterKind::RunningVariance);
            }
        }
        push("head.weight".into(), &[self.out_channels, self.width, 1, 1], ParameterKind::HeadKernel);
        push("head.bias".into(), &[self.out_channels], ParameterKind::Bias);
        all
    }

    /// Number of trained values.
    pub fn trainable_count(&self) -> usize {
        let trained = self.parameters().into_iter().filter(|p| p.kind.trainable());
        trained.map(|p| p.shape.iter().product::<usize>()).sum()
    }

    /// The blocks in the network's order: `depth + 1` encoders, then `depth` decoders from the bottom up.
    pub(crate) fn blocks(&self) -> Vec<BlockSpec> {
        let mut blocks = Vec::with_capacity(2 * self.depth + 1);
        let mut inputs = self.in_channels;
        for level in 0..=self.depth {
            let outputs = self.width << level;
            blocks.push(BlockSpec { name: format!("enc{level}"), inputs, outputs });
            inputs = outputs;
        }
        for level in (0..self.depth).rev() {
            let outputs = self.width << level;
            blocks.push(BlockSpec { name: format!("dec{level}"), inputs: 3 * outputs, outputs });
        }
        blocks
    }
}
