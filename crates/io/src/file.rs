//! Opening a NIfTI file, or the `.hdr` and `.img` of a pair, and decoding its voxels straight to their places.

use crate::error::{Error, Result};
use crate::geometry::Geometry;
use crate::header::{Header, LONG, SHORT, Scalar, Version};
use crate::stream::{CHUNK, Stream};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// An open file: header read and checked, voxels still to come, one 3-D image after another.
pub(crate) struct NiftiFile {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    voxels: Stream,
    /// Of the image that comes next.
    volume: u64,
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

/// How stored voxels become values.
#[derive(Clone, Copy)]
pub(crate) struct Coding {
    pub(crate) scalar: Scalar,
    pub(crate) little_endian: bool,
    pub(crate) scaling: Option<(f64, f64)>,
}

/// Voxels that should not be there: how many, the first one's place in file order, and its value.
#[derive(Debug, Default)]
pub(crate) struct Odd {
    pub(crate) count: u64,
    pub(crate) first: usize,
    pub(crate) value: f64,
}

impl Coding {
    /// Intensities, scaled by slope and intercept; NaN and infinite ones are noted in `odd`. `at` is where they start.
    fn image(self, at: usize, bytes: &[u8], out: &mut [f32], odd: &mut Odd) {
        let Self { scalar, little_endian: little, scaling } = self;
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
            if bad > 0 && odd.count == 0 {
                odd.first = at + out.iter().position(|v| !v.is_finite()).unwrap_or(0);
            }
            odd.count += bad;
        }
    }

    /// Whole-number labels; anything else is noted in `odd`.
    pub(crate) fn labels(self, at: usize, bytes: &[u8], out: &mut [i32], odd: &mut Odd) {
        let Self { scalar, little_endian: little, scaling } = self;
        // Nearly all label files, and all of ours: bytes that are what they say.
        if let (Scalar::U8, None) = (scalar, scaling) {
            out.iter_mut().zip(bytes).for_each(|(to, &value)| *to = value.into());
            return;
        }
        let (slope, inter) = scaling.unwrap_or((1.0, 0.0));
        let mut bad = 0_u64;
        for_scalar!(scalar, little, bytes, out, |to, value| {
            let value = value as f64 * slope + inter;
            *to = value as i32;
            bad += u64::from(f64::from(*to) != value);
        });
        if bad > 0 && odd.count == 0 {
            let mut values = vec![0.0; out.len()];
            for_scalar!(scalar, little, bytes, values, |to, value| *to = value as f64 * slope + inter);
            let first = values.iter().position(|&v| f64::from(v as i32) != v).unwrap_or(0);
            odd.first = at + first;
            odd.value = values.get(first).copied().unwrap_or(f64::NAN);
        }
        odd.count += bad;
    }
}

/// Each label through a map; labels outside it are counted.
pub(crate) struct Codes<'a> {
    map: &'a BTreeMap<i64, u8>,
    /// Nearly every value is a small one: a table for those, the map for the rest.
    table: [Option<u8>; 256],
    pub(crate) undeclared: BTreeMap<i64, u64>,
}

impl<'a> Codes<'a> {
    pub(crate) fn new(map: &'a BTreeMap<i64, u8>) -> Self {
        let table = std::array::from_fn(|value| map.get(&(value as i64)).copied());
        Self { map, table, undeclared: BTreeMap::new() }
    }

    pub(crate) fn code(&mut self, value: i32) -> u8 {
        let small = usize::try_from(value).ok().and_then(|n| self.table.get(n)).copied();
        small.unwrap_or_else(|| self.map.get(&value.into()).copied()).unwrap_or_else(|| {
            *self.undeclared.entry(value.into()).or_insert(0) += 1;
            0
        })
    }
}

impl NiftiFile {
    /// Opens a file of one 3-D image, reads its header and refuses at once a file that cannot hold what the header says.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = Self::headed(path)?;
        match file.header.volumes {
            1 => file.sized(),
            _ => Err(Error::NotThreeD { path: file.path, shape: file.header.shape }),
        }
    }

    /// Like [`NiftiFile::open`], for a 4-D file of so many 3-D images.
    pub(crate) fn open_stack(path: &Path, volumes: usize) -> Result<Self> {
        let file = Self::headed(path)?;
        if file.header.volumes == volumes as u64 {
            return file.sized();
        }
        Err(Error::NotStacked { path: file.path, expected: volumes, shape: file.header.shape })
    }

    /// Like [`NiftiFile::open`], whatever the number of 3-D images.
    pub(crate) fn open_any(path: &Path) -> Result<Self> {
        Self::headed(path)?.sized()
    }

    fn headed(path: &Path) -> Result<Self> {
        let (header_file, voxel_file) = files_of(path)?;
        let mut stream = Stream::open(&header_file)?;
        let mut bytes = [0; LONG];
        let mut filled = stream.fill(&mut bytes[..SHORT])?;
        if filled == SHORT && Version::of(&bytes, path)?.0 == Version::Two {
            filled += stream.fill(&mut bytes[SHORT..])?;
        }
        let header = Header::parse(bytes.get(..filled).unwrap_or_default(), &header_file)?;
        let voxels = match (header.pair, voxel_file) {
            (false, _) => stream,
            (true, Some(voxel_file)) => Stream::open(&voxel_file)?,
            (true, None) => {
                let found = "the header of a .hdr/.img pair under another name";
                return Err(Error::UnsupportedKind { path: header_file, found });
            }
        };
        Ok(Self { path: path.to_path_buf(), header, voxels, volume: 0 })
    }

    /// Before anything is allocated: an error unless as much can be there as the header says.
    fn sized(self) -> Result<Self> {
        let Self { header, voxels, .. } = &self;
        let expected = header.data_start.saturating_add(header.data_bytes);
        if expected <= voxels.limit {
            return Ok(self);
        }
        Err(Error::Truncated { path: voxels.path().to_path_buf(), expected, found: voxels.limit })
    }

    /// Number of voxels of one 3-D image.
    pub(crate) fn voxels(&self) -> usize {
        self.header.geometry.voxels()
    }

    /// A zeroed buffer for one value a voxel, `copies` times; an error, not an abort, when there is no room.
    pub(crate) fn buffer<T: Clone + Default>(&self, copies: usize) -> Result<Vec<T>> {
        buffer(self.voxels().checked_mul(copies), &self.path)
    }

    /// Decodes the next 3-D image's intensities, scaled by slope and intercept, to their places on `grid`: the file's own,
    /// or [along](Geometry::along) another. NaN and infinity are an error; whether any voxel is not 0 is the answer.
    pub(crate) fn read_image(&mut self, grid: &Geometry, out: &mut [f32]) -> Result<bool> {
        let coding = self.coding();
        let (mut odd, mut any) = (Odd::default(), false);
        self.decode(grid, out, |at, bytes, out| {
            coding.image(at, bytes, out, &mut odd);
            any = any || out.iter().any(|&v| v != 0.0);
        })?;
        if odd.count > 0 {
            let (path, count, first, volume) =
                (self.path.clone(), odd.count, self.index(odd.first), self.last());
            return Err(Error::NonFinite { path, count, first, volume });
        }
        Ok(any)
    }

    /// Like [`NiftiFile::read_image`], and an image of zeros only is an error too.
    pub(crate) fn read_signal(&mut self, grid: &Geometry, out: &mut [f32]) -> Result<()> {
        if self.read_image(grid, out)? {
            return Ok(());
        }
        Err(Error::AllZero { path: self.path.clone(), volume: self.last() })
    }

    /// Decodes whole-number labels to their places on `grid`. Anything else is an error.
    pub(crate) fn read_labels(&mut self, grid: &Geometry, out: &mut [i32]) -> Result<()> {
        let coding = self.coding();
        let mut odd = Odd::default();
        self.decode(grid, out, |at, bytes, out| coding.labels(at, bytes, out, &mut odd))?;
        self.whole_numbers(&odd)
    }

    /// Decodes labels through a map, so that no more than one byte a voxel is held.
    pub(crate) fn read_codes(
        &mut self,
        grid: &Geometry,
        codes: &mut Codes<'_>,
        out: &mut [u8],
    ) -> Result<()> {
        let coding = self.coding();
        let mut odd = Odd::default();
        let mut labels = vec![0; CHUNK];
        self.decode(grid, out, |at, bytes, out| {
            let labels = labels.get_mut(..out.len()).unwrap_or_default();
            coding.labels(at, bytes, labels, &mut odd);
            for (to, &label) in out.iter_mut().zip(labels.iter()) {
                *to = codes.code(label);
            }
        })?;
        self.whole_numbers(&odd)
    }

    /// Passes over the next 3-D image.
    pub(crate) fn skip_image(&mut self) -> Result<()> {
        self.begin_image()?;
        let bytes = (self.voxels() * self.header.scalar.bytes()) as u64;
        self.pass(bytes)
    }

    /// Goes to where the next image starts: between header and first there may be a gap.
    fn begin_image(&mut self) -> Result<()> {
        if self.volume == 0 {
            let gap = self.header.data_start.saturating_sub(self.voxels.position);
            self.pass(gap)?;
        }
        self.volume += 1;
        Ok(())
    }

    /// To be called when all that is wanted was read: the checksum of a compressed file is verified.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.voxels.finish()
    }

    fn whole_numbers(&self, odd: &Odd) -> Result<()> {
        if odd.count == 0 {
            return Ok(());
        }
        let (path, first) = (self.path.clone(), self.index(odd.first));
        Err(Error::NonInteger { path, count: odd.count, first, value: odd.value })
    }

    fn coding(&self) -> Coding {
        let Header { scalar, little_endian, scaling, .. } = self.header;
        Coding { scalar, little_endian, scaling }
    }

    /// The image read last, where the file holds several.
    fn last(&self) -> Option<u64> {
        (self.header.volumes > 1).then(|| self.volume.saturating_sub(1))
    }

    /// Reads one image's voxels, handing chunks of bytes with where they start and room for their values to `convert`, and
    /// puts those to their places.
    fn decode<T: Copy + Default>(
        &mut self,
        grid: &Geometry,
        out: &mut [T],
        mut convert: impl FnMut(usize, &[u8], &mut [T]),
    ) -> Result<()> {
        self.begin_image()?;
        let size = self.header.scalar.bytes();
        let per_chunk = CHUNK / size;
        let mut chunk = vec![0; CHUNK];
        // Straight to where they stay, if that is their order.
        let mut aside = if grid.is_canonical() { Vec::new() } else { vec![T::default(); per_chunk] };
        let voxels = self.voxels().min(out.len());
        for at in (0..voxels).step_by(per_chunk) {
            let count = per_chunk.min(voxels - at);
            let bytes = chunk.get_mut(..count * size).unwrap_or_default();
            self.next(bytes)?;
            if aside.is_empty() {
                convert(at, bytes, out.get_mut(at..at + count).unwrap_or_default());
            } else {
                let values = aside.get_mut(..count).unwrap_or_default();
                convert(at, bytes, values);
                grid.scatter(at, values, out);
            }
        }
        Ok(())
    }

    fn pass(&mut self, mut bytes: u64) -> Result<()> {
        let mut chunk = vec![0; CHUNK];
        while bytes > 0 {
            let wanted = bytes.min(CHUNK as u64);
            self.next(chunk.get_mut(..wanted as usize).unwrap_or_default())?;
            bytes -= wanted;
        }
        Ok(())
    }

    /// Exactly as many bytes as `bytes` has room for.
    fn next(&mut self, bytes: &mut [u8]) -> Result<()> {
        if self.voxels.fill(bytes)? == bytes.len() {
            return Ok(());
        }
        let (path, found) = (self.voxels.path().to_path_buf(), self.voxels.position);
        Err(Error::Truncated { path, expected: self.header.data_start + self.header.data_bytes, found })
    }

    /// The (i, j, k) of the n-th voxel in file order.
    fn index(&self, n: usize) -> [usize; 3] {
        let [i, j, _] = self.header.geometry.file_shape();
        [n % i, n / i % j, n / (i * j)]
    }
}

/// A zeroed buffer; an error, not an abort, when there is no room for it.
pub(crate) fn buffer<T: Clone + Default>(length: Option<usize>, path: &Path) -> Result<Vec<T>> {
    let bytes = length.map_or(u64::MAX, |length| (length as u64).saturating_mul(size_of::<T>() as u64));
    let out_of_memory = || Error::OutOfMemory { path: path.to_path_buf(), bytes };
    let length = length.ok_or_else(out_of_memory)?;
    // `vec!` gets zero pages from the system without touching them, but aborts on failure: ask first.
    Vec::<T>::new().try_reserve_exact(length).map_err(|_| out_of_memory())?;
    Ok(vec![T::default(); length])
}

const HEADERS: [&str; 2] = [".hdr", ".hdr.gz"];
const VOXELS: [&str; 2] = [".img", ".img.gz"];

/// Whether a name is that of the header of a `.hdr`/`.img` pair.
pub(crate) fn is_header_of_pair(path: &Path) -> bool {
    split(path, &HEADERS).is_some()
}

/// A file's name without the one of these endings that it has, in whatever case.
pub(crate) fn split<'a>(path: &'a Path, endings: &[&str]) -> Option<&'a str> {
    let name = path.file_name()?.to_str()?;
    endings.iter().find_map(|ending| {
        let (stem, found) = name.split_at_checked(name.len().checked_sub(ending.len())?)?;
        found.eq_ignore_ascii_case(ending).then_some(stem)
    })
}

/// The file that holds the header of an image, and the one that holds the voxels if its name is that of a pair.
fn files_of(path: &Path) -> Result<(PathBuf, Option<PathBuf>)> {
    if split(path, &HEADERS).is_some() {
        Ok((path.to_path_buf(), Some(partner(path, &HEADERS, &VOXELS)?)))
    } else if split(path, &VOXELS).is_some() {
        Ok((partner(path, &VOXELS, &HEADERS)?, Some(path.to_path_buf())))
    } else {
        Ok((path.to_path_buf(), None))
    }
}

/// The files that an image is read from: the one with its header, and of a `.hdr`/`.img` pair the one with its voxels.
///
/// # Errors
/// [`Error::Duplicate`] when a header has two files of voxels.
pub fn image_files(path: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let (header, voxels) = files_of(path.as_ref())?;
    Ok([header].into_iter().chain(voxels.filter(|path| path.is_file())).collect())
}

/// The other half of a pair: of `path`'s name with one of the endings `theirs`. The first, when neither is there.
fn partner(path: &Path, ours: &[&str], theirs: &[&str; 2]) -> Result<PathBuf> {
    let stem = split(path, ours).unwrap_or_default();
    let [plain, packed] = theirs.map(|ending| {
        let upper = path.with_file_name(format!("{stem}{}", ending.to_ascii_uppercase()));
        if upper.exists() { upper } else { path.with_file_name(format!("{stem}{ending}")) }
    });
    match (plain.exists(), packed.exists()) {
        (true, true) => {
            Err(Error::Duplicate { what: format!("half of {stem}"), first: plain, second: packed })
        }
        (false, true) => Ok(packed),
        _ => Ok(plain),
    }
}
