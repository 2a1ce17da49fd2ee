//! Opening a NIfTI file and decoding its voxels straight into the caller's buffer.

use crate::error::{Error, Result};
use crate::header::{HEADER_BYTES, Header, Scalar};
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Bytes decoded at a time: fits in the second-level cache beside the output.
const CHUNK: usize = 1 << 17;

/// No deflate stream expands further than this.
const MAX_RATIO: u64 = 1040;

/// An open file: header read and checked, voxels still to come.
pub(crate) struct NiftiFile {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    reader: Box<dyn Read + Send>,
    compressed: bool,
    /// Decompressed bytes read so far.
    position: u64,
}

/// What was seen while decoding an image.
#[derive(Debug, Default)]
pub(crate) struct ImageStats {
    non_finite: u64,
    first: usize,
    any_non_zero: bool,
}

/// What was seen while decoding labels.
#[derive(Debug, Default)]
struct LabelStats {
    bad: u64,
    first: usize,
    value: f64,
}

/// Turns chunks of stored voxels into values, `$body` seeing each as `$value`.
macro_rules! for_scalar {
    ($scalar:expr, $little:expr, $bytes:expr, $out:expr, |$to:ident, $value:ident| $body:expr) => {
        match $scalar {
            Scalar::U8 => for_scalar!(@ u8, $little, $bytes, $out, |$to, $value| $body),
            Scalar::I8 => for_scalar!(@ i8, $little, $bytes, $out, |$to, $value| $body),
            Scalar::U16 => for_scalar!(@ u16, $little, $bytes, $out, |$to, $value| $body),
            Scalar::I16 => for_scalar!(@ i16, $little, $bytes, $out, |$to, $value| $body),
            Scalar::U32 => for_scalar!(@ u32, $little, $bytes, $out, |$to, $value| $body),
            Scalar::I32 => for_scalar!(@ i32, $little, $bytes, $out, |$to, $value| $body),
            Scalar::U64 => for_scalar!(@ u64, $little, $bytes, $out, |$to, $value| $body),
            Scalar::I64 => for_scalar!(@ i64, $little, $bytes, $out, |$to, $value| $body),
            Scalar::F32 => for_scalar!(@ f32, $little, $bytes, $out, |$to, $value| $body),
            Scalar::F64 => for_scalar!(@ f64, $little, $bytes, $out, |$to, $value| $body),
        }
    };
    (@ $type:ty, $little:expr, $bytes:expr, $out:expr, |$to:ident, $value:ident| $body:expr) => {{
        let (stored, _) = $bytes.as_chunks::<{ size_of::<$type>() }>();
        if $little {
            for ($to, &stored) in $out.iter_mut().zip(stored) {
                let $value = <$type>::from_le_bytes(stored);
                $body
            }
        } else {
            for ($to, &stored) in $out.iter_mut().zip(stored) {
                let $value = <$type>::from_be_bytes(stored);
                $body
            }
        }
    }};
}

impl NiftiFile {
    /// Opens `path`, reads its header and refuses at once a file that cannot hold what the header says. Whether it is
    /// compressed is seen from its first bytes, not from its name.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let read = |source| Error::Read { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(read)?;
        let metadata = file.metadata().map_err(read)?;
        if metadata.is_dir() {
            return Err(read(std::io::Error::new(ErrorKind::IsADirectory, "a folder")));
        }
        let mut buffered = BufReader::with_capacity(CHUNK, file);
        let compressed = buffered.fill_buf().map_err(read)?.starts_with(&[0x1f, 0x8b]);
        let (mut reader, limit): (Box<dyn Read + Send>, u64) = if compressed {
            let limit = metadata.len().saturating_mul(MAX_RATIO);
            (Box::new(MultiGzDecoder::new(buffered)), limit)
        } else {
            (Box::new(buffered), metadata.len())
        };
        let mut bytes = [0; HEADER_BYTES];
        let filled = fill(&mut reader, &mut bytes, path, compressed)?;
        let header = Header::parse(bytes.get(..filled).unwrap_or_default(), path)?;
        let expected = header.data_start + header.data_bytes;
        if expected > limit {
            return Err(Error::Truncated { path: path.to_path_buf(), expected, found: limit });
        }
        Ok(Self { path: path.to_path_buf(), header, reader, compressed, position: filled as u64 })
    }

    /// Number of voxels.
    pub(crate) fn voxels(&self) -> usize {
        self.header.geometry.voxels()
    }

    /// A zeroed buffer for one value a voxel, `copies` times; an error, not an abort, when there is no room.
    pub(crate) fn buffer<T: Clone + Default>(&self, copies: usize) -> Result<Vec<T>> {
        let length = self.voxels().checked_mul(copies);
        let bytes = (self.voxels() as u64).saturating_mul((copies * size_of::<T>()) as u64);
        let out_of_memory = || Error::OutOfMemory { path: self.path.clone(), bytes };
        let length = length.ok_or_else(out_of_memory)?;
        // `vec!` gets zero pages from the system without touching them, but aborts on failure: ask first.
        Vec::<T>::new().try_reserve_exact(length).map_err(|_| out_of_memory())?;
        Ok(vec![T::default(); length])
    }

    /// Decodes the intensities, in file order, scaled by slope and intercept. NaN and infinity are an error.
    pub(crate) fn read_image(mut self, out: &mut [f32]) -> Result<ImageStats> {
        let Header { scalar, little_endian: little, scaling, .. } = self.header;
        let mut stats = ImageStats::default();
        self.decode(out, |at, bytes, out| {
            match scaling {
                None => for_scalar!(scalar, little, bytes, out, |to, value| *to = value as f32),
                Some((slope, inter)) => {
                    for_scalar!(scalar, little, bytes, out, |to, value| *to =
                        (value as f64 * slope + inter) as f32)
                }
            }
            // Without branches, so that it runs at the speed of memory; the first culprit is looked for only if any.
            if scalar.is_float() || scaling.is_some() {
                let bad = out.iter().map(|v| u64::from(!v.is_finite())).sum::<u64>();
                if bad > 0 && stats.non_finite == 0 {
                    stats.first = at + out.iter().position(|v| !v.is_finite()).unwrap_or(0);
                }
                stats.non_finite += bad;
            }
            stats.any_non_zero = stats.any_non_zero || out.iter().any(|&v| v != 0.0);
        })?;
        if stats.non_finite > 0 {
            let first = self.index(stats.first);
            return Err(Error::NonFinite { path: self.path, count: stats.non_finite, first });
        }
        Ok(stats)
    }

    /// Like [`NiftiFile::read_image`], and an image of zeros only is an error too.
    pub(crate) fn read_signal(self, out: &mut [f32]) -> Result<()> {
        let path = self.path.clone();
        if self.read_image(out)?.any_non_zero { Ok(()) } else { Err(Error::AllZero { path }) }
    }

    /// Decodes whole-number labels, in file order. Anything else is an error.
    pub(crate) fn read_labels(mut self, out: &mut [i32]) -> Result<()> {
        let Header { scalar, little_endian: little, scaling, .. } = self.header;
        let (slope, inter) = scaling.unwrap_or((1.0, 0.0));
        let mut stats = LabelStats::default();
        self.decode(out, |at, bytes, out| {
            let mut bad = 0_u64;
            for_scalar!(scalar, little, bytes, out, |to, value| {
                let value = value as f64 * slope + inter;
                *to = value as i32;
                bad += u64::from(f64::from(*to) != value);
            });
            if bad > 0 && stats.bad == 0 {
                let mut values = vec![0.0; out.len()];
                for_scalar!(scalar, little, bytes, values, |to, value| *to = value as f64 * slope + inter);
                let first = values.iter().position(|&v| f64::from(v as i32) != v).unwrap_or(0);
                stats.first = at + first;
                stats.value = values.get(first).copied().unwrap_or(f64::NAN);
            }
            stats.bad += bad;
        })?;
        if stats.bad > 0 {
            let (first, value) = (self.index(stats.first), stats.value);
            return Err(Error::NonInteger { path: self.path, count: stats.bad, first, value });
        }
        Ok(())
    }

    /// Reads all voxels, handing chunks of bytes with their part of `out` (and where it starts) to `convert`, then
    /// reads on to the end of a compressed stream, so that its checksum is verified.
    fn decode<T>(&mut self, out: &mut [T], mut convert: impl FnMut(usize, &[u8], &mut [T])) -> Result<()> {
        let Self { path, header, reader, compressed, position } = self;
        let size = header.scalar.bytes();
        let mut chunk = vec![0; CHUNK];
        let mut next = |wanted: usize, convert: &mut dyn FnMut(&[u8])| {
            let bytes = chunk.get_mut(..wanted).unwrap_or_default();
            let filled = fill(reader, bytes, path, *compressed)?;
            *position += filled as u64;
            if filled < wanted {
                let expected = header.data_start + header.data_bytes;
                return Err(Error::Truncated { path: path.clone(), expected, found: *position });
            }
            convert(bytes);
            Ok(())
        };
        let mut gap = header.data_start.saturating_sub(HEADER_BYTES as u64);
        while gap > 0 {
            let wanted = gap.min(CHUNK as u64);
            next(wanted as usize, &mut |_| {})?;
            gap -= wanted;
        }
        let per_chunk = CHUNK / size;
        for (n, part) in out.chunks_mut(per_chunk).enumerate() {
            next(part.len() * size, &mut |bytes| convert(n * per_chunk, bytes, part))?;
        }
        if !*compressed {
            return Ok(());
        }
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Corrupt { path: path.clone(), source }),
            }
        }
    }

    /// The (i, j, k) of the n-th voxel in file order.
    fn index(&self, n: usize) -> [usize; 3] {
        let [i, j, _] = self.header.geometry.file_shape();
        [n % i, n / i % j, n / (i * j)]
    }
}

/// Fills `buffer` as far as the stream goes and says how far that was.
fn fill(reader: &mut dyn Read, buffer: &mut [u8], path: &Path, compressed: bool) -> Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            // A compressed stream that is cut short: the caller reports how far it went.
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => break,
            Err(source) if compressed => return Err(Error::Corrupt { path: path.to_path_buf(), source }),
            Err(source) => return Err(Error::Read { path: path.to_path_buf(), source }),
        }
    }
    Ok(filled)
}
