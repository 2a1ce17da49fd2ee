//! NIfTI headers, of version 1 (348 bytes) and 2 (540 bytes), in either byte order: checked before anything relies on
//! them; and written.

use crate::error::{Error, Result};
use crate::geometry::{Forms, Geometry};
use std::path::Path;

/// Bytes of a NIfTI-1 header; those of a NIfTI-2 header begin with as many.
pub(crate) const SHORT: usize = 348;

/// Bytes of a NIfTI-2 header.
pub(crate) const LONG: usize = 540;

/// Where voxels start in the files written: header and four bytes that say "no extensions".
const DATA_START: u64 = 352;

/// `descrip` of what is written here.
const MAKER: &[u8] = b"scribseg";

/// The type of one stored voxel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

impl Scalar {
    fn from_code(code: i16) -> Option<Self> {
        use Scalar::*;
        Some(match code {
            2 => U8,
            4 => I16,
            8 => I32,
            16 => F32,
            64 => F64,
            256 => I8,
            512 => U16,
            768 => U32,
            1024 => I64,
            1280 => U64,
            _ => return None,
        })
    }

    pub(crate) fn code(self) -> i16 {
        use Scalar::*;
        match self {
            U8 => 2,
            I16 => 4,
            I32 => 8,
            F32 => 16,
            F64 => 64,
            I8 => 256,
            U16 => 512,
            U32 => 768,
            I64 => 1024,
            U64 => 1280,
        }
    }

    pub(crate) fn bytes(self) -> usize {
        use Scalar::*;
        match self {
            U8 | I8 => 1,
            U16 | I16 => 2,
            U32 | I32 | F32 => 4,
            U64 | I64 | F64 => 8,
        }
    }

    pub(crate) fn is_float(self) -> bool {
        matches!(self, Scalar::F32 | Scalar::F64)
    }
}

/// The standard's versions, told apart by the header's first four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

impl Version {
    /// Version and byte order of a header that starts with `bytes`; an error for anything else.
    pub(crate) fn of(bytes: &[u8], path: &Path) -> Result<(Self, bool)> {
        let not_nifti = |found: String| Error::NotNifti { path: path.to_path_buf(), found };
        let Some((&size, _)) = bytes.split_first_chunk::<4>() else {
            return Err(not_nifti(format!("a file of {} bytes", bytes.len())));
        };
        match (i32::from_le_bytes(size), i32::from_be_bytes(size)) {
            (348, _) => Ok((Self::One, true)),
            (_, 348) => Ok((Self::One, false)),
            (540, _) => Ok((Self::Two, true)),
            (_, 540) => Ok((Self::Two, false)),
            _ => Err(not_nifti(format!("a file that starts with the bytes {size:02x?}"))),
        }
    }

    pub(crate) fn header_bytes(self) -> usize {
        match self {
            Self::One => SHORT,
            Self::Two => LONG,
        }
    }
}

/// What reading needs to know of a header.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) scalar: Scalar,
    pub(crate) little_endian: bool,
    /// Slope and intercept, `None` when voxels are stored as they are.
    pub(crate) scaling: Option<(f64, f64)>,
    /// Whether the voxels lie in a file of their own, the `.img` of a pair.
    pub(crate) pair: bool,
    /// Bytes before the first voxel, in the file that the voxels are in.
    pub(crate) data_start: u64,
    /// Bytes of all voxels; more than 64 bits can say counts as the most that they can.
    pub(crate) data_bytes: u64,
    /// 3-D images one after another: 1, but for a 4-D file.
    pub(crate) volumes: u64,
    /// The shape in file order, further axes included.
    pub(crate) shape: Vec<u64>,
    pub(crate) geometry: Geometry,
    /// Whether its description names scribseg.
    pub(crate) ours: bool,
}

/// Numbers at their places in a header, in its byte order.
struct Fields<'a> {
    bytes: &'a [u8],
    little_endian: bool,
}

impl Fields<'_> {
    /// `N` bytes as little-endian ones. Whoever asks for what lies beyond the header gets zeros.
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut out = [0; N];
        if let Some(found) = self.bytes.get(at..at + N) {
            out.copy_from_slice(found);
        }
        if !self.little_endian {
            out.reverse();
        }
        out
    }

    fn i16(&self, at: usize) -> i16 {
        i16::from_le_bytes(self.bytes(at))
    }

    fn i32(&self, at: usize) -> i32 {
        i32::from_le_bytes(self.bytes(at))
    }

    fn i64(&self, at: usize) -> i64 {
        i64::from_le_bytes(self.bytes(at))
    }

    fn f32(&self, at: usize) -> f64 {
        f64::from(f32::from_le_bytes(self.bytes(at)))
    }

    fn f64(&self, at: usize) -> f64 {
        f64::from_le_bytes(self.bytes(at))
    }
}

/// The fields that matter here, as either version has them.
struct Raw {
    dim: [i64; 8],
    datatype: i16,
    vox_offset: f64,
    slope: f64,
    inter: f64,
    forms: Forms,
    descrip: usize,
}

impl Raw {
    fn of(version: Version, fields: &Fields<'_>) -> Self {
        use std::array::from_fn;
        match version {
            Version::One => {
                let floats = |at: usize| move |n: usize| fields.f32(at + 4 * n);
                Self {
                    dim: from_fn(|n| i64::from(fields.i16(40 + 2 * n))),
                    datatype: fields.i16(70),
                    vox_offset: fields.f32(108),
                    slope: fields.f32(112),
                    inter: fields.f32(116),
                    forms: Forms {
                        pixdim: from_fn(floats(76)),
                        xyzt_units: fields.bytes::<1>(123)[0],
                        qform_code: fields.i16(252).into(),
                        sform_code: fields.i16(254).into(),
                        quaternion: from_fn(floats(256)),
                        srow: from_fn(|row| from_fn(floats(280 + 16 * row))),
                        epsilon: f32::EPSILON.into(),
                    },
                    descrip: 148,
                }
            }
            Version::Two => {
                let floats = |at: usize| move |n: usize| fields.f64(at + 8 * n);
                Self {
                    dim: from_fn(|n| fields.i64(16 + 8 * n)),
                    datatype: fields.i16(12),
                    // Beyond 2⁵³ an offset is refused anyway: no file is that long.
                    vox_offset: fields.i64(168) as f64,
                    slope: fields.f64(176),
                    inter: fields.f64(184),
                    forms: Forms {
                        pixdim: from_fn(floats(104)),
                        xyzt_units: fields.i32(500) as u8,
                        qform_code: fields.i32(344),
                        sform_code: fields.i32(348),
                        quaternion: from_fn(floats(352)),
                        srow: from_fn(|row| from_fn(floats(400 + 32 * row))),
                        epsilon: f64::EPSILON,
                    },
                    descrip: 240,
                }
            }
        }
    }
}

/// Whether voxels lie in another file, by the magic; an error for what is no NIfTI header.
fn is_pair(version: Version, bytes: &[u8], path: &Path) -> Result<bool> {
    let magic = match version {
        Version::One => bytes.get(344..SHORT),
        Version::Two => bytes.get(4..12),
    };
    match magic.unwrap_or_default() {
        b"n+1\0" | b"n+2\0\r\n\x1a\n" => Ok(false),
        b"ni1\0" | b"ni2\0\r\n\x1a\n" => Ok(true),
        // What moves between machines as text has its line ends changed: the signature is there to show that.
        [b'n', b'+' | b'i', b'2', ..] => Err(Error::Corrupt {
            path: path.to_path_buf(),
            source: std::io::Error::other("the line ends in its signature were changed, as of a text file"),
        }),
        _ if crate::file::is_header_of_pair(path) => Err(Error::UnsupportedKind {
            path: path.to_path_buf(),
            found: "an Analyze 7.5 header, which does not say which side is left",
        }),
        magic => Err(Error::NotNifti {
            path: path.to_path_buf(),
            found: format!("the magic {:?}", String::from_utf8_lossy(magic)),
        }),
    }
}

impl Header {
    /// Reads the first bytes of a (decompressed) file; `bytes` may be fewer than a header has.
    pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let (version, little_endian) = Version::of(bytes, path)?;
        let Some(bytes) = bytes.get(..version.header_bytes()) else {
            let found = format!("a file of {} bytes, too short for a header", bytes.len());
            return Err(Error::NotNifti { path: path.to_path_buf(), found });
        };
        let pair = is_pair(version, bytes, path)?;
        let raw = Raw::of(version, &Fields { bytes, little_endian });
        let bad = |field: &str, expected: &str, found: String| Error::BadHeader {
            path: path.to_path_buf(),
            field: field.to_string(),
            expected: expected.to_string(),
            found,
        };
        let rank = match usize::try_from(raw.dim[0]) {
            Ok(rank @ 1..=7) => rank,
            _ => return Err(bad("dim[0]", "of 1 to 7", raw.dim[0].to_string())),
        };
        let mut shape = Vec::with_capacity(rank);
        for (axis, &length) in raw.dim.iter().enumerate().skip(1).take(rank) {
            match u64::try_from(length) {
                Ok(length @ 1..) => shape.push(length),
                _ => return Err(bad(&format!("dim[{axis}]"), "of at least 1", length.to_string())),
            }
        }
        let (file_shape, volumes) = match *shape.as_slice() {
            [i, j, k] => ([i, j, k], 1),
            [i, j, k, volumes, ref rest @ ..] if rest.iter().all(|&n| n == 1) => ([i, j, k], volumes),
            _ => return Err(Error::NotThreeD { path: path.to_path_buf(), shape }),
        };
        let scalar = Scalar::from_code(raw.datatype)
            .ok_or(Error::UnsupportedType { path: path.to_path_buf(), code: raw.datatype })?;
        let data_bytes = file_shape
            .iter()
            .chain([&volumes])
            .fold(scalar.bytes() as u64, |bytes, &length| bytes.saturating_mul(length));
        let (default, least) = match (pair, version) {
            (true, _) => (0, 0),
            (false, Version::One) => (DATA_START, SHORT as u64),
            (false, Version::Two) => (LONG as u64 + 4, LONG as u64),
        };
        let data_start = match raw.vox_offset {
            0.0 => default,
            offset if offset >= least as f64 && offset <= u32::MAX.into() => offset as u64,
            offset => return Err(bad("vox_offset", &format!("of at least {default}"), offset.to_string())),
        };
        let scaling = if raw.slope == 0.0 || !raw.slope.is_finite() {
            None
        } else if !raw.inter.is_finite() {
            return Err(bad("scl_inter", "finite, as scl_slope is set", raw.inter.to_string()));
        } else {
            (raw.slope != 1.0 || raw.inter != 0.0).then_some((raw.slope, raw.inter))
        };
        // Beyond what this machine can address nothing can be stored: the size is found to be impossible then.
        let file_shape = file_shape.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let geometry = Geometry::from_forms(file_shape, raw.forms)
            .map_err(|(field, expected, found)| bad(field, &expected, found))?;
        let ours = bytes.get(raw.descrip..).is_some_and(|text| text.starts_with(MAKER));
        Ok(Self {
            scalar,
            little_endian,
            scaling,
            pair,
            data_start,
            data_bytes,
            volumes,
            shape,
            geometry,
            ours,
        })
    }
}

/// A little-endian NIfTI-1 header, with the four bytes after it, for an image of `scalar` on `geometry`: slope 1, intercept 0,
/// orientation fields as they came (those of a NIfTI-2 file rounded to 32 bits). `None` when an axis is longer than NIfTI-1 can say.
///
/// Version 1 whatever the scan had: ITK, and with it SimpleITK, 3D Slicer and ITK-SNAP, may not read the second.
pub(crate) fn encode(geometry: &Geometry, scalar: Scalar) -> Option<[u8; DATA_START as usize]> {
    let forms = geometry.forms();
    let mut out = [0_u8; DATA_START as usize];
    let mut put = |at: usize, bytes: &[u8]| {
        for (to, &from) in out.iter_mut().skip(at).zip(bytes) {
            *to = from;
        }
    };
    put(0, &348_i32.to_le_bytes());
    put(38, b"r");
    put(40, &3_i16.to_le_bytes());
    for (axis, length) in geometry.file_shape().into_iter().enumerate() {
        put(42 + 2 * axis, &i16::try_from(length).ok()?.to_le_bytes());
    }
    for axis in 3..7 {
        put(42 + 2 * axis, &1_i16.to_le_bytes());
    }
    put(70, &scalar.code().to_le_bytes());
    put(72, &(8 * scalar.bytes() as i16).to_le_bytes());
    let mut floats = |at: usize, values: &[f64]| {
        for (n, value) in values.iter().enumerate() {
            put(at + 4 * n, &(*value as f32).to_le_bytes());
        }
    };
    floats(76, &forms.pixdim);
    floats(92, &[1.0; 4]);
    floats(108, &[DATA_START as f64, 1.0, 0.0]);
    floats(256, &forms.quaternion);
    for (row, values) in forms.srow.iter().enumerate() {
        floats(280 + 16 * row, values);
    }
    put(123, &[forms.xyzt_units]);
    put(148, MAKER);
    // The standard knows the codes 0 to 5.
    let code = |code: i32| i16::try_from(code).unwrap_or(1).to_le_bytes();
    put(252, &code(forms.qform_code));
    put(254, &code(forms.sform_code));
    put(344, b"n+1\0");
    Some(out)
}
