//! cuDNN's convolutions, found at run time: a program built with CUDA starts without cuDNN, and says what is missing once it is needed.
//!
//! Of the algorithms that cuDNN proposes for a shape, best first, the first deterministic one is taken and kept, so that a run repeats
//! itself. Nothing is measured: that would choose another one from run to run.

use super::machine::{Convolution, Geometry, View};
use crate::init::lock;
use crate::{Error, Precision, Result};
use libloading::Library;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::Mutex;

type Pointer = *mut c_void;

/// What the library is called, the newest first.
const NAMES: [&str; 3] = ["libcudnn.so.9", "libcudnn.so.8", "libcudnn.so"];

/// The first version whose algorithms know `bf16`.
const OLDEST: usize = 8000;

/// The most memory that an algorithm may ask for beside its tensors.
const MOST_WORKSPACE: usize = 2 << 30;

// Values of cuDNN's enumerations.
const NHWC: c_int = 1;
const FLOAT: c_int = 0;
const BFLOAT16: c_int = 9;
const CROSS_CORRELATION: c_int = 1;
const DETERMINISTIC: c_int = 1;
const DEFAULT_MATH: c_int = 0;
const TENSOR_OP_MATH: c_int = 1;
const TENSOR_OP_MATH_ALLOW_CONVERSION: c_int = 2;

/// `cudnnConvolution*AlgoPerf_t`, which is the same for all three.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Proposal {
    algorithm: c_int,
    status: c_int,
    time: f32,
    memory: usize,
    determinism: c_int,
    math: c_int,
    reserved: [c_int; 3],
}

macro_rules! api {
    ($($field:ident $name:literal ($($argument:ty),*);)*) => {
        /// Functions of the library; each gives a status, 0 for success.
        struct Api {
            $($field: unsafe extern "C" fn($($argument),*) -> c_int,)*
            version: unsafe extern "C" fn() -> usize,
            /// Last, so that nothing outlives it.
            _library: Library,
        }

        impl Api {
            fn of(library: Library) -> std::result::Result<Self, libloading::Error> {
                // SAFETY: the types are those that cuDNN 8 and 9 declare for these names; pointers do not outlive the library, which lies beside.
                unsafe {
                    Ok(Self {
                        $($field: *library.get(concat!($name, "\0"))?,)*
                        version: *library.get("cudnnGetVersion\0")?,
                        _library: library,
                    })
                }
            }
        }
    };
}

api! {
    create "cudnnCreate" (*mut Pointer);
    destroy "cudnnDestroy" (Pointer);
    set_stream "cudnnSetStream" (Pointer, Pointer);
    create_tensor "cudnnCreateTensorDescriptor" (*mut Pointer);
    set_tensor "cudnnSetTensor4dDescriptor" (Pointer, c_int, c_int, c_int, c_int, c_int, c_int);
    destroy_tensor "cudnnDestroyTensorDescriptor" (Pointer);
    create_filter "cudnnCreateFilterDescriptor" (*mut Pointer);
    set_filter "cudnnSetFilter4dDescriptor" (Pointer, c_int, c_int, c_int, c_int, c_int, c_int);
    destroy_filter "cudnnDestroyFilterDescriptor" (Pointer);
    create_convolution "cudnnCreateConvolutionDescriptor" (*mut Pointer);
    set_convolution "cudnnSetConvolution2dDescriptor"
        (Pointer, c_int, c_int, c_int, c_int, c_int, c_int, c_int, c_int);
    set_math "cudnnSetConvolutionMathType" (Pointer, c_int);
    destroy_convolution "cudnnDestroyConvolutionDescriptor" (Pointer);
    output_size "cudnnGetConvolution2dForwardOutputDim"
        (Pointer, Pointer, Pointer, *mut c_int, *mut c_int, *mut c_int, *mut c_int);
    propose_forward "cudnnGetConvolutionForwardAlgorithm_v7"
        (Pointer, Pointer, Pointer, Pointer, Pointer, c_int, *mut c_int, *mut Proposal);
    propose_data "cudnnGetConvolutionBackwardDataAlgorithm_v7"
        (Pointer, Pointer, Pointer, Pointer, Pointer, c_int, *mut c_int, *mut Proposal);
    propose_weight "cudnnGetConvolutionBackwardFilterAlgorithm_v7"
        (Pointer, Pointer, Pointer, Pointer, Pointer, c_int, *mut c_int, *mut Proposal);
    room_forward "cudnnGetConvolutionForwardWorkspaceSize"
        (Pointer, Pointer, Pointer, Pointer, Pointer, c_int, *mut usize);
    room_data "cudnnGetConvolutionBackwardDataWorkspaceSize"
        (Pointer, Pointer, Pointer, Pointer, Pointer, c_int, *mut usize);
    room_weight "cudnnGetConvolutionBackwardFilterWorkspaceSize"
        (Pointer, Pointer, Pointer, Pointer, Pointer, c_int, *mut usize);
    forward "cudnnConvolutionForward"
        (Pointer, *const f32, Pointer, Pointer, Pointer, Pointer, Pointer, c_int, Pointer, usize, *const f32, Pointer, Pointer);
    data "cudnnConvolutionBackwardData"
        (Pointer, *const f32, Pointer, Pointer, Pointer, Pointer, Pointer, c_int, Pointer, usize, *const f32, Pointer, Pointer);
    weight "cudnnConvolutionBackwardFilter"
        (Pointer, *const f32, Pointer, Pointer, Pointer, Pointer, Pointer, c_int, Pointer, usize, *const f32, Pointer, Pointer);
}

fn failed(doing: &str, status: c_int) -> Error {
    Error::Cuda { what: format!("cuDNN: {doing}: status {status}") }
}

fn checked(doing: &str, status: c_int) -> Result<()> {
    if status == 0 { Ok(()) } else { Err(failed(doing, status)) }
}

impl Api {
    fn load() -> Result<Self> {
        let mut first = None;
        for name in NAMES {
            // SAFETY: loading the library runs nothing but its own initialisation.
            match unsafe { Library::new(name) }.and_then(Self::of) {
                Ok(api) => {
                    // SAFETY: it takes nothing.
                    let version = unsafe { (api.version)() };
                    if version >= OLDEST {
                        return Ok(api);
                    }
                    first.get_or_insert(format!("version {version} in {name}"));
                }
                Err(error) => _ = first.get_or_insert(error.to_string()),
            }
        }
        let found = first.unwrap_or_default();
        let what = format!(
            "expected cuDNN 8 or 9 ({}), found none ({found}); install it for this CUDA, or name its folder in LD_LIBRARY_PATH",
            NAMES[0]
        );
        Err(Error::Cuda { what })
    }
}

/// The descriptors of a shape, and how one of its three tensors is computed.
struct Plan {
    shape: Descriptors,
    algorithm: c_int,
    /// Bytes of workspace.
    room: usize,
}

#[derive(Clone, Copy)]
struct Descriptors {
    x: Pointer,
    w: Pointer,
    y: Pointer,
    convolution: Pointer,
}

impl Descriptors {
    const NONE: Self = Self { x: null_mut(), w: null_mut(), y: null_mut(), convolution: null_mut() };

    /// Descriptors of a shape; what was made is destroyed again if something fails.
    fn new(api: &Api, g: Geometry, precision: Precision) -> Result<Self> {
        let mut made = Self::NONE;
        match made.fill(api, g, precision) {
            Ok(()) => Ok(made),
            Err(error) => {
                made.destroy(api);
                Err(error)
            }
        }
    }

    fn fill(&mut self, api: &Api, g: Geometry, precision: Precision) -> Result<()> {
        let number = |n: usize| {
            c_int::try_from(n).map_err(|_| Error::Cuda {
                what: format!("expected sides below 2^31, found {n}; take a smaller batch"),
            })
        };
        let (n, h, w) = (number(g.images)?, number(g.rows)?, number(g.columns)?);
        let (inputs, outputs) = (number(g.inputs)?, number(g.outputs)?);
        let (kind, math) = match precision {
            // TF32 where the device has it.
            Precision::F32 => (FLOAT, DEFAULT_MATH),
            Precision::Bf16 => (BFLOAT16, TENSOR_OP_MATH),
        };
        // SAFETY: each descriptor is created before it is set; the pointers to them are valid.
        unsafe {
            checked("a tensor's descriptor", (api.create_tensor)(&mut self.x))?;
            checked("an input's shape", (api.set_tensor)(self.x, NHWC, kind, n, inputs, h, w))?;
            checked("a tensor's descriptor", (api.create_tensor)(&mut self.y))?;
            checked("a result's shape", (api.set_tensor)(self.y, NHWC, kind, n, outputs, h, w))?;
            checked("a filter's descriptor", (api.create_filter)(&mut self.w))?;
            checked("a filter's shape", (api.set_filter)(self.w, kind, NHWC, outputs, inputs, 3, 3))?;
            checked("a convolution's descriptor", (api.create_convolution)(&mut self.convolution))?;
            let set = (api.set_convolution)(self.convolution, 1, 1, 1, 1, 1, 1, CROSS_CORRELATION, FLOAT);
            checked("a convolution", set)?;
            checked("a convolution's arithmetic", (api.set_math)(self.convolution, math))
        }
    }

    /// The shape of the result as cuDNN sees it.
    fn output(&self, api: &Api) -> Result<[c_int; 4]> {
        let mut size = [0; 4];
        let [n, c, h, w] = &mut size;
        // SAFETY: the descriptors were set, the numbers are there to be written.
        let status = unsafe { (api.output_size)(self.convolution, self.x, self.w, n, c, h, w) };
        checked("a result's shape", status)?;
        Ok(size)
    }

    fn destroy(self, api: &Api) {
        // SAFETY: each was created by this library, is destroyed once, and nothing uses it any more.
        unsafe {
            for tensor in [self.x, self.y].into_iter().filter(|p| !p.is_null()) {
                (api.destroy_tensor)(tensor);
            }
            if !self.w.is_null() {
                (api.destroy_filter)(self.w);
            }
            if !self.convolution.is_null() {
                (api.destroy_convolution)(self.convolution);
            }
        }
    }
}

/// The first proposal that is deterministic and within bounds.
fn choose(proposals: &[Proposal]) -> Option<Proposal> {
    let fits = |p: &&Proposal| {
        p.status == 0
            && p.determinism == DETERMINISTIC
            && p.memory <= MOST_WORKSPACE
            // It would round f32 to half precision.
            && p.math != TENSOR_OP_MATH_ALLOW_CONVERSION
    };
    proposals.iter().find(fits).copied()
}

/// A handle on one stream, with the plans made so far.
pub(super) struct Cudnn {
    precision: Precision,
    state: Mutex<State>,
    api: Api,
}

struct State {
    handle: Pointer,
    plans: HashMap<(Convolution, Geometry), Plan>,
}

// SAFETY: a handle and descriptors may be used from any thread, one at a time; they are behind a lock.
unsafe impl Send for State {}

impl Cudnn {
    /// cuDNN on this stream, which must outlive it.
    #[cfg(feature = "cuda")]
    pub(super) fn new(stream: Pointer, precision: Precision) -> Result<Self> {
        Self::of(Api::load()?, stream, precision)
    }

    fn of(api: Api, stream: Pointer, precision: Precision) -> Result<Self> {
        let mut handle = null_mut();
        // SAFETY: the pointer to the handle is valid; the stream belongs to the device that is current.
        unsafe {
            checked("a handle (is this cuDNN for another CUDA?)", (api.create)(&mut handle))?;
            if let Err(error) = checked("its stream", (api.set_stream)(handle, stream)) {
                (api.destroy)(handle);
                return Err(error);
            }
        }
        Ok(Self { precision, state: Mutex::new(State { handle, plans: HashMap::new() }), api })
    }

    /// Computes one of `x`, `w` and `y` in the stream; `workspace` gives memory of at least so many bytes.
    ///
    /// # Safety
    /// The three must have the shapes of `g` and live until the stream has come past this; so must the workspace, used by nothing else
    /// meanwhile that is not in the same stream.
    pub(super) unsafe fn convolve(
        &self,
        kind: Convolution,
        g: Geometry,
        [x, w, y]: [View; 3],
        workspace: impl FnOnce(usize) -> Result<u64>,
    ) -> Result<()> {
        let (api, mut state) = (&self.api, lock(&self.state));
        let State { handle, plans } = &mut *state;
        let handle = *handle;
        let Plan { shape, algorithm, room } = match plans.entry((kind, g)) {
            Entry::Occupied(kept) => kept.into_mut(),
            Entry::Vacant(place) => place.insert(self.plan(handle, kind, g)?),
        };
        let (algorithm, room) = (*algorithm, *room);
        let memory = if room > 0 { workspace(room)? as Pointer } else { null_mut() };
        let [x, w, y] = [x, w, y].map(|view| view.address as Pointer);
        let Descriptors { x: dx, w: dw, y: dy, convolution: c } = *shape;
        let (one, zero): (*const f32, *const f32) = (&1.0, &0.0);
        // SAFETY: descriptors and algorithm fit each other, tensors and workspace have the sizes that they say; the caller keeps them.
        let status = unsafe {
            match kind {
                Convolution::Forward => {
                    (api.forward)(handle, one, dx, x, dw, w, c, algorithm, memory, room, zero, dy, y)
                }
                Convolution::Data => {
                    (api.data)(handle, one, dw, w, dy, y, c, algorithm, memory, room, zero, dx, x)
                }
                Convolution::Weight => {
                    (api.weight)(handle, one, dx, x, dy, y, c, algorithm, memory, room, zero, dw, w)
                }
            }
        };
        checked(&format!("{kind:?} of {g:?}"), status)
    }

    fn plan(&self, handle: Pointer, kind: Convolution, g: Geometry) -> Result<Plan> {
        let shape = Descriptors::new(&self.api, g, self.precision)?;
        let seen = shape.output(&self.api).and_then(|size| {
            let ours = [g.images, g.outputs, g.rows, g.columns];
            if size.map(|n| n as usize) == ours {
                Ok(())
            } else {
                Err(failed(&format!("{size:?} for {g:?}"), 0))
            }
        });
        match seen.and_then(|()| self.algorithm(handle, kind, g, shape)) {
            Ok((algorithm, room)) => Ok(Plan { shape, algorithm, room }),
            Err(error) => {
                shape.destroy(&self.api);
                Err(error)
            }
        }
    }

    fn algorithm(
        &self,
        handle: Pointer,
        kind: Convolution,
        g: Geometry,
        Descriptors { x, w, y, convolution: c }: Descriptors,
    ) -> Result<(c_int, usize)> {
        const ASKED: usize = 16;
        let api = &self.api;
        let (mut proposals, mut count) = ([Proposal::default(); ASKED], 0);
        let (out, asked, found) = (proposals.as_mut_ptr(), ASKED as c_int, &mut count);
        // SAFETY: the descriptors were set; there is room for as many proposals as are asked for.
        let status = unsafe {
            match kind {
                Convolution::Forward => (api.propose_forward)(handle, x, w, c, y, asked, found, out),
                Convolution::Data => (api.propose_data)(handle, w, y, c, x, asked, found, out),
                Convolution::Weight => (api.propose_weight)(handle, x, y, c, w, asked, found, out),
            }
        };
        checked("algorithms", status)?;
        let Some(best) = choose(&proposals[..(count.max(0) as usize).min(ASKED)]) else {
            let what = format!(
                "expected a deterministic algorithm of cuDNN for {kind:?} of {g:?} in {}, found none; take --precision f32 or another cuDNN",
                self.precision
            );
            return Err(Error::Cuda { what });
        };
        let (mut room, algorithm) = (0, best.algorithm);
        // SAFETY: as above; the size is there to be written.
        let status = unsafe {
            checked("a convolution's arithmetic", (api.set_math)(c, best.math))?;
            match kind {
                Convolution::Forward => (api.room_forward)(handle, x, w, c, y, algorithm, &mut room),
                Convolution::Data => (api.room_data)(handle, w, y, c, x, algorithm, &mut room),
                Convolution::Weight => (api.room_weight)(handle, x, y, c, w, algorithm, &mut room),
            }
        };
        checked("a workspace's size", status)?;
        Ok((algorithm, room))
    }
}

impl Drop for Cudnn {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        for (_, plan) in state.plans.drain() {
            plan.shape.destroy(&self.api);
        }
        // SAFETY: created by this library, destroyed once.
        unsafe { (self.api.destroy)(state.handle) };
    }
}

#[cfg(test)]
#[path = "cudnn_tests.rs"]
mod tests;
