//! The 348 bytes of a NIfTI-1 header: parsed by the `nifti` crate, then checked before anything relies on them; and
//! written.

use crate::error::{Error, Result};
use crate::geometry::{Forms, Geometry};
use nifti::{Endianness, NiftiHeader};
use std::path::Path;

/// Bytes of a NIfTI-1 header.
pub(crate) const HEADER_BYTES: usize = 348;

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

/// What reading needs to know of a header.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) scalar: Scalar,
    pub(crate) little_endian: bool,
    /// Slope and intercept, `None` when voxels are stored as they are.
    pub(crate) scaling: Option<(f64, f64)>,
    /// Bytes before the first voxel.
    pub(crate) data_start: u64,
    /// Bytes of all voxels.
    pub(crate) data_bytes: u64,
    pub(crate) geometry: Geometry,
    /// Whether its description names scribseg.
    pub(crate) ours: bool,
}

impl Header {
    /// Reads the first bytes of a (decompressed) file; `bytes` may be fewer than a header has.
    pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let not_nifti = |found: String| Error::NotNifti { path: path.to_path_buf(), found };
        let Some((&size, _)) = bytes.split_first_chunk::<4>() else {
            return Err(not_nifti(format!("a file of {} bytes", bytes.len())));
        };
        let unsupported = |found| Error::UnsupportedKind { path: path.to_path_buf(), found };
        let little_endian = match (i32::from_le_bytes(size), i32::from_be_bytes(size)) {
            (348, _) => true,
            (_, 348) => false,
            (540, _) | (_, 540) => return Err(unsupported("a NIfTI-2 image")),
            _ => return Err(not_nifti(format!("a file that starts with the bytes {size:02x?}"))),
        };
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(not_nifti(format!("a file of {} bytes, too short for a header", bytes.len())));
        };
        match &bytes[344..] {
            b"n+1\0" => {}
            b"ni1\0" => return Err(unsupported("the header of a .hdr/.img pair")),
            magic => return Err(not_nifti(format!("the magic {:?}", String::from_utf8_lossy(magic)))),
        }
        let bad = |field: &str, expected: &str, found: String| Error::BadHeader {
            path: path.to_path_buf(),
            field: field.to_string(),
            expected: expected.to_string(),
            found,
        };
        // Reading 348 bytes from memory cannot fail but for the magic, which is known to be right.
        let raw = NiftiHeader::from_reader(&bytes[..]).map_err(|e| not_nifti(e.to_string()))?;
        let rank = usize::from(raw.dim[0]);
        // The nifti crate guesses the byte order from dim[0]; sizeof_hdr is the surer sign, and both must agree.
        if (raw.endianness == Endianness::Little) != little_endian || !(1..=7).contains(&rank) {
            let found = if little_endian { [bytes[40], bytes[41]] } else { [bytes[41], bytes[40]] };
            return Err(bad("dim[0]", "of 1 to 7", i16::from_le_bytes(found).to_string()));
        }
        let mut shape = Vec::with_capacity(rank);
        for (axis, &length) in raw.dim.iter().enumerate().skip(1).take(rank) {
            match i16::try_from(length) {
                Ok(length @ 1..) => shape.push(length as usize),
                // Stored as i16: the crate's u16 shows a negative one as above 32767.
                _ => return Err(bad(&format!("dim[{axis}]"), "of 1 to 32767", (length as i16).to_string())),
            }
        }
        let file_shape = match shape.as_slice() {
            &[i, j, k, ref rest @ ..] if rest.iter().all(|&n| n == 1) => [i, j, k],
            _ => return Err(Error::NotThreeD { path: path.to_path_buf(), shape }),
        };
        let scalar = Scalar::from_code(raw.datatype)
            .ok_or(Error::UnsupportedType { path: path.to_path_buf(), code: raw.datatype })?;
        // At most 2^45 voxels of 8 bytes: no overflow.
        let data_bytes = file_shape.iter().map(|&n| n as u64).product::<u64>() * scalar.bytes() as u64;
        let data_start = match raw.vox_offset {
            0.0 => DATA_START,
            offset if offset >= HEADER_BYTES as f32 && offset <= u32::MAX as f32 => offset as u64,
            offset => return Err(bad("vox_offset", "of at least 352", offset.to_string())),
        };
        let (slope, inter) = (f64::from(raw.scl_slope), f64::from(raw.scl_inter));
        let scaling = if slope == 0.0 || !slope.is_finite() {
            None
        } else if !inter.is_finite() {
            return Err(bad("scl_inter", "finite, as scl_slope is set", inter.to_string()));
        } else {
            (slope != 1.0 || inter != 0.0).then_some((slope, inter))
        };
        let forms = Forms {
            pixdim: [raw.pixdim[0], raw.pixdim[1], raw.pixdim[2], raw.pixdim[3]],
            xyzt_units: raw.xyzt_units,
            qform_code: raw.qform_code,
            sform_code: raw.sform_code,
            quaternion: [
                raw.quatern_b,
                raw.quatern_c,
                raw.quatern_d,
                raw.quatern_x,
                raw.quatern_y,
                raw.quatern_z,
            ],
            srow: [raw.srow_x, raw.srow_y, raw.srow_z],
        };
        let geometry = Geometry::from_forms(file_shape, forms)
            .map_err(|(field, expected, found)| bad(field, &expected, found))?;
        let ours = raw.descrip.starts_with(MAKER);
        Ok(Self { scalar, little_endian, scaling, data_start, data_bytes, geometry, ours })
    }
}

/// A little-endian header, with the four bytes after it, for an image of `scalar` on `geometry`: slope 1, intercept 0,
/// orientation fields as they came. `None` when an axis is longer than NIfTI-1 can say.
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
    let mut floats = |at: usize, values: &[f32]| {
        for (n, value) in values.iter().enumerate() {
            put(at + 4 * n, &value.to_le_bytes());
        }
    };
    floats(76, &forms.pixdim);
    floats(92, &[1.0; 4]);
    floats(108, &[DATA_START as f32, 1.0, 0.0]);
    floats(256, &forms.quaternion);
    for (row, values) in forms.srow.iter().enumerate() {
        floats(280 + 16 * row, values);
    }
    put(123, &[forms.xyzt_units]);
    put(148, MAKER);
    put(252, &forms.qform_code.to_le_bytes());
    put(254, &forms.sform_code.to_le_bytes());
    put(344, b"n+1\0");
    Some(out)
}
