//! What a kernel refuses.

/// The result of a kernel's construction or use.
pub type Result<T> = std::result::Result<T, Error>;

/// Every way a kernel or the loss can refuse its input.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A bandwidth that is not a positive number.
    #[error("bandwidth {name}: expected a finite number above 0, found {found}")]
    Bandwidth {
        /// Which.
        name: &'static str,
        /// What was given.
        found: f32,
    },
    /// Features, values or shapes that do not fit together.
    #[error("{what}: expected {expected} values, found {found}")]
    Length {
        /// Of what.
        what: &'static str,
        /// How many would do.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// A feature that is NaN or infinite.
    #[error("pixel {pixel}, feature {feature}: expected a finite number, found {found}")]
    NotFinite {
        /// The pixel.
        pixel: usize,
        /// The feature.
        feature: usize,
        /// What was given.
        found: f32,
    },
    /// Features so far apart in bandwidths that lattice coordinates leave their range.
    #[error(
        "pixel {pixel}: a lattice coordinate of {found} is out of ±{limit}; the features span too many bandwidths, use wider ones"
    )]
    Range {
        /// The pixel.
        pixel: usize,
        /// The coordinate.
        found: f32,
        /// The limit.
        limit: i32,
    },
    /// Instructions that do not exist or that this processor has not.
    #[error(
        "CPU instructions: expected portable, avx2, avx512 or amx that this processor has, found `{found}`; unset SCRIBSEG_CPU"
    )]
    CpuPath {
        /// What was asked for.
        found: String,
    },
    /// A device, its driver or its compiler that fails or is not there.
    #[cfg(feature = "cuda")]
    #[error("CUDA: {what}")]
    Cuda {
        /// What failed and how.
        what: String,
    },
    /// An allocation that does not fit on the device.
    #[cfg(feature = "cuda")]
    #[error(
        "CUDA: expected {asked} bytes of device memory, found {free} free; make the batch or the cache smaller"
    )]
    DeviceMemory {
        /// Bytes asked for.
        asked: usize,
        /// Bytes that were free, 0 if the device did not say.
        free: usize,
    },
    /// An image whose features do not fit in memory.
    #[error("expected {asked} bytes of memory for the features, found less; use a smaller image")]
    Memory {
        /// Bytes asked for.
        asked: usize,
    },
    /// Features so many or so scattered that the lattice would be too large.
    #[error(
        "{pixels} pixels of {features} features: expected a lattice of at most {limit} vertices, found more; use wider bandwidths, fewer channels or a smaller image"
    )]
    Vertices {
        /// The limit.
        limit: usize,
        /// How many pixels were given.
        pixels: usize,
        /// With how many features each.
        features: usize,
    },
    /// More dimensions than a lattice key holds.
    #[error("expected 1 to {limit} features a pixel, found {found}")]
    Dimensions {
        /// The limit.
        limit: usize,
        /// What was given.
        found: usize,
    },
}
