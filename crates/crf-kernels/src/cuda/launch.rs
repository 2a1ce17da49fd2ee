//! A batch on the device: every size is checked before a launch.

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaView, DevicePtr, DeviceRepr, DeviceSlice, LaunchConfig, PushKernelArg};

use super::device::failed;
use super::program::{MOST_VALUES, Program, TILE};
use super::resident::Resident;
use crate::error::{Error, Result};
use crate::loss::LossForm;
use crate::oriented::View;

/// Images of one batch at most: a grid's second side.
const MOST_IMAGES: usize = 65535;
/// Threads of a block on the lattice.
const THREADS: usize = 1024;

/// `Job` in `kernels.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Job {
    packed: u64,
    workspace: u64,
    view: u32,
    shared: u32,
}

// SAFETY: plain numbers in the order and of the sizes that `kernels.cu` declares, without padding.
unsafe impl DeviceRepr for Job {}

/// A kernel on a device, and how tensors show its image.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// The kernel.
    pub kernel: &'a Resident,
    /// From the kernel's image to the tensor's.
    pub view: View,
    /// Rows and columns of the tensor, where the view has them.
    pub shape: Option<[usize; 2]>,
}

impl<'a> From<&'a Resident> for Shown<'a> {
    fn from(kernel: &'a Resident) -> Self {
        Self { kernel, view: View::default(), shape: None }
    }
}

/// The kernels of a batch's images, all on one stream of one device and of one kind.
pub struct Batch<'a> {
    images: Vec<Shown<'a>>,
    height: usize,
    width: usize,
}

/// Of a batch, on the device.
pub struct LossAndGradient {
    /// One value.
    pub loss: CudaSlice<f32>,
    /// ∂loss/∂y, as y.
    pub gradient: CudaSlice<f32>,
}

fn length(what: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found { Ok(()) } else { Err(Error::Length { what, expected, found }) }
}

impl<'a> Batch<'a> {
    /// A batch whose tensors have `height` rows of `width` pixels.
    ///
    /// # Errors
    /// [`Error::Length`] for an image of another size, without pixels, or an empty batch; [`Error::Cuda`] for kernels of different kinds or
    /// devices.
    pub fn new(images: Vec<Shown<'a>>, height: usize, width: usize) -> Result<Self> {
        let Some(Shown { kernel: first, .. }) = images.first() else {
            return Err(Error::Length { what: "images of a batch", expected: 1, found: 0 });
        };
        if images.len() > MOST_IMAGES {
            return Err(Error::Length {
                what: "images of a batch",
                expected: MOST_IMAGES,
                found: images.len(),
            });
        }
        let pixels = height.saturating_mul(width);
        if pixels == 0 {
            return Err(Error::Length { what: "pixels of an image", expected: 1, found: 0 });
        }
        for Shown { kernel, shape, .. } in &images {
            length("pixels of an image", pixels, kernel.pixels)?;
            if let Some([rows, columns]) = *shape {
                length("rows of an image", rows, height)?;
                length("columns of an image", columns, width)?;
            }
            if !Arc::ptr_eq(&kernel.cuda, &first.cuda) || kernel.features != first.features {
                let what = "expected one kind of kernel with the same features on one device, found several in a batch";
                return Err(Error::Cuda { what: what.into() });
            }
        }
        Ok(Self { images, height, width })
    }

    /// Eq. 2 summed over the images and divided by their number, and its gradient: `probabilities` `[image][class][pixel]`, `roi` and
    /// `gate` `[image][pixel]` in 0..=1, which is not checked here. See [`crf_loss`](crate::crf_loss).
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::DeviceMemory`], [`Error::Cuda`].
    pub fn loss(
        &self,
        probabilities: &CudaView<'_, f32>,
        classes: usize,
        form: LossForm,
        roi: Option<&CudaView<'_, f32>>,
        gate: Option<&CudaView<'_, f32>>,
    ) -> Result<LossAndGradient> {
        if classes == 0 {
            return Err(Error::Length { what: "classes", expected: 2, found: 0 });
        }
        let program = Program::loss(classes, roi.is_some(), gate.is_some(), form);
        let (gradient, loss) = self.launch(program, probabilities, roi, gate)?;
        let loss = loss.ok_or_else(|| Error::Cuda { what: "a loss was not computed".into() })?;
        Ok(LossAndGradient { loss, gradient })
    }

    /// W·v for `channels` planes an image.
    ///
    /// # Errors
    /// As [`loss`](Self::loss).
    pub fn filter(&self, channels: usize, values: &CudaView<'_, f32>) -> Result<CudaSlice<f32>> {
        if channels == 0 {
            return Err(Error::Length { what: "channels", expected: 1, found: 0 });
        }
        Ok(self.launch(Program::filter(channels), values, None, None)?.0)
    }

    fn launch(
        &self,
        program: Program,
        values: &CudaView<'_, f32>,
        roi: Option<&CudaView<'_, f32>>,
        gate: Option<&CudaView<'_, f32>>,
    ) -> Result<(CudaSlice<f32>, Option<CudaSlice<f32>>)> {
        let Resident { cuda, features, .. } = self.images[0].kernel;
        let (pixels, count) = (self.height * self.width, self.images.len());
        let size = pixels.saturating_mul(program.planes()).saturating_mul(count);
        length("values of a batch", size, values.len())?;
        for (what, weights) in [("region of interest", roi), ("gate", gate)] {
            if let Some(weights) = weights {
                length(what, pixels * count, weights.len())?;
            }
        }
        for buffer in [Some(values), roi, gate].into_iter().flatten() {
            if **buffer.stream() != **cuda.stream() {
                let what = "expected values on the stream of the kernels, found them on another; make the kernels' device with `Cuda::on_stream`";
                return Err(Error::Cuda { what: what.into() });
            }
        }
        let program = features.map_or(program, |features| program.exact(features));
        let held = program.channels() + features.unwrap_or(0);
        if held > MOST_VALUES {
            return Err(Error::Length {
                what: "channels and features of a launch",
                expected: MOST_VALUES,
                found: held,
            });
        }
        let compiled = cuda.compiled(program)?;
        let stream = cuda.stream();
        let mut out = cuda.allocate::<f32>(size)?;
        // The guards tell the driver that the lattices are read until they are dropped.
        let (mut jobs, mut guards) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let (mut workspace, mut shared) = (0usize, 0usize);
        for Shown { kernel, view, .. } in &self.images {
            let floats = kernel.room.saturating_mul(program.channels());
            let fits = floats.saturating_mul(4) <= compiled.shared;
            let (packed, guard) = kernel.packed.device_ptr(stream);
            guards.push(guard);
            jobs.push(Job {
                packed,
                workspace: workspace as u64,
                view: view.bits(),
                shared: u32::from(fits),
            });
            if fits {
                shared = shared.max(floats * 4);
            } else {
                workspace = workspace.saturating_add(floats);
            }
        }
        let jobs = cuda.upload(&jobs)?;
        let mut workspace = cuda.allocate::<f32>(workspace)?;
        let blocks = program.blocks(pixels);
        let mut losses = cuda.allocate::<f64>(count * blocks)?;
        let (height, width) = (self.height as u32, self.width as u32);
        let share = 1.0f32 / count as f32;
        let (nothing, threads) = (0u64, if program.exact.is_some() { TILE } else { THREADS });
        let mut launch = stream.launch_builder(&compiled.kernel);
        launch.arg(&jobs).arg(values);
        for weights in [roi, gate] {
            match weights {
                Some(weights) => launch.arg(weights),
                None => launch.arg(&nothing),
            };
        }
        launch.arg(&mut out).arg(&mut losses).arg(&mut workspace).arg(&height).arg(&width).arg(&share);
        let grid = LaunchConfig {
            grid_dim: (blocks as u32, count as u32, 1),
            block_dim: (threads as u32, 1, 1),
            shared_mem_bytes: shared as u32,
        };
        // SAFETY: the arguments are those of `lattice` and `exact`, in their order; every buffer has the size that the kernel counts on,
        // as checked and computed above, and belongs to this stream.
        unsafe { launch.launch(grid) }.map_err(|e| failed("a launch", e))?;
        drop(guards);
        let Some(add) = &compiled.add else { return Ok((out, None)) };
        let mut loss = cuda.allocate::<f32>(1)?;
        let parts = (count * blocks) as u32;
        let mut launch = stream.launch_builder(add);
        launch.arg(&losses).arg(&mut loss).arg(&parts).arg(&share);
        let one =
            LaunchConfig { grid_dim: (1, 1, 1), block_dim: (THREADS as u32, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: the arguments are those of `add`; `losses` has `parts` values, all written by the launch before on this stream.
        unsafe { launch.launch(one) }.map_err(|e| failed("a launch", e))?;
        Ok((out, Some(loss)))
    }
}
