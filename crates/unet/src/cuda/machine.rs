//! What the tape asks of a device: memory, convolutions, and launches of the kernels in `*.cu`.
//!
//! There are two: a CUDA device, and for the tests one made of a CPU, so that all but the calls into CUDA and cuDNN runs without a GPU.

use crate::{Precision, Result};

/// Threads of a block, of every kernel.
pub(crate) const THREADS: usize = 256;
/// Columns that a block adds up side by side, as `COLUMNS` in `common.cu`.
pub(crate) const COLUMNS: usize = 32;

macro_rules! kernels {
    ($($kernel:ident $name:literal,)*) => {
        /// A kernel of `network.cu` or `losses.cu`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Kernel {
            $($kernel,)*
        }

        impl Kernel {
            /// All of them, in the order that `host.cpp` has them in.
            pub(crate) const ALL: &[Self] = &[$(Self::$kernel,)*];

            /// Its name in the source.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$kernel => $name,)*
                }
            }
        }
    };
}

kernels! {
    ImagesIn "images_in",
    ImagesOut "images_out",
    WeightsIn "weights_in",
    WeightsOut "weights_out",
    NormSums "norm_sums",
    NormFinish "norm_finish",
    NormFixed "norm_fixed",
    NormRelu "norm_relu",
    NormReluPool "norm_relu_pool",
    NormGradientSums "norm_gradient_sums",
    NormGradientFinish "norm_gradient_finish",
    NormGradient "norm_gradient",
    UpsampleConcat "upsample_concat",
    UpsampleGradient "upsample_gradient",
    SkipGradient "skip_gradient",
    Head "head",
    HeadGradient "head_gradient",
    HeadSums "head_sums",
    HeadFinish "head_finish",
    MostProbable "most_probable",
    CrossEntropy "cross_entropy",
    CrossEntropyFinish "cross_entropy_finish",
    CrossEntropyGradient "cross_entropy_gradient",
    Overlap "overlap",
    OverlapFinish "overlap_finish",
    OverlapGradient "overlap_gradient",
    Softmax "softmax",
    SoftmaxGradient "softmax_gradient",
    SgdVelocity "sgd_velocity",
    SgdDescend "sgd_descend",
}

/// Arguments of a launch, where a number may not fit.
macro_rules! arguments {
    (@one count $value:expr) => { $crate::cuda::passes::count($value)? };
    (@one give $value:expr) => { $crate::cuda::machine::Argument::from($value) };
    ($($how:ident $value:expr),* $(,)?) => { [$(arguments!(@one $how $value)),*] };
}

/// A stretch of a device's memory, which whoever made it keeps alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) address: u64,
    pub(crate) bytes: usize,
}

/// One argument of a launch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Argument {
    Address(u64),
    Count(u32),
    Float(f32),
    Double(f64),
}

impl From<View> for Argument {
    fn from(view: View) -> Self {
        Self::Address(view.address)
    }
}

/// A null address where there is none.
impl From<Option<View>> for Argument {
    fn from(view: Option<View>) -> Self {
        Self::Address(view.map_or(0, |view| view.address))
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}

impl From<f64> for Argument {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

/// Which of a convolution's three tensors is computed from the other two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Convolution {
    /// The result, from input and weights.
    Forward,
    /// The input's gradient, from the weights and the result's gradient.
    Data,
    /// The weights' gradient, from the input and the result's gradient.
    Weight,
}

/// A 3 × 3 convolution that keeps the grid; channels with their padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Geometry {
    pub(crate) images: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
}

impl Geometry {
    /// Pixels of all images.
    pub(crate) fn pixels(&self) -> usize {
        self.images * self.rows * self.columns
    }
}

/// A device and one stream of it: whatever is asked for happens after all that was asked for before.
pub(crate) trait Machine: Send + Sync + 'static {
    /// Memory, given back when dropped.
    type Memory: Send + Sync;

    /// What activations are held in.
    fn precision(&self) -> Precision;

    /// Memory with arbitrary contents.
    fn allocate(&self, bytes: usize) -> Result<Self::Memory>;

    /// Where it is.
    fn address(&self, memory: &Self::Memory) -> u64;

    /// Copies `from` to `to`, of the same size.
    fn copy(&self, from: View, to: View) -> Result<()>;

    /// Launches a kernel in blocks of [`THREADS`].
    ///
    /// # Safety
    /// The arguments must be those of the kernel, in their order and of their types, and its accesses in this grid must lie
    /// inside memory that lives until the stream has come past them.
    unsafe fn launch(&self, kernel: Kernel, grid: [usize; 3], arguments: &[Argument]) -> Result<()>;

    /// Computes one of `x` `[image][row][column][input]`, `w` `[output][tap][input]` and `y` `[image][row][column][output]`.
    ///
    /// # Safety
    /// The three must have these shapes and live until the stream has come past this.
    unsafe fn convolve(&self, kind: Convolution, geometry: Geometry, x: View, w: View, y: View)
    -> Result<()>;

    /// Values of a vector of 16 bytes.
    fn lanes(&self) -> usize {
        match self.precision() {
            Precision::F32 => 4,
            Precision::Bf16 => 8,
        }
    }

    /// Bytes of an activation's value.
    fn size(&self) -> usize {
        16 / self.lanes()
    }

    /// `channels` up to whole vectors.
    fn padded(&self, channels: usize) -> usize {
        channels.next_multiple_of(self.lanes())
    }
}
