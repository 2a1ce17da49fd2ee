//! Bytes of a file, inflated where it is a gzip stream, with a bound on how many there can be.

use crate::error::{Error, Result};
use flate2::bufread::GzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Bytes decoded at a time: fits in the second-level cache beside the output.
pub(crate) const CHUNK: usize = 1 << 17;

/// No deflate stream expands further than this.
const MAX_RATIO: u64 = 1040;

/// A compressed stream may go on by this much behind the voxels; one that expands without end is not followed.
const SURPLUS: u64 = 1 << 20;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A file read from its beginning.
pub(crate) struct Stream {
    path: PathBuf,
    reader: Reader,
    /// No more bytes than these can come.
    pub(crate) limit: u64,
    /// Bytes that came so far.
    pub(crate) position: u64,
}

enum Reader {
    Plain(BufReader<File>),
    Gzip(Box<Members>),
}

impl Stream {
    /// Opens `path`. Whether it is compressed is seen from its first bytes, not from its name.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (mut file, length) = open(path)?;
        let start = file.fill_buf().map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
        let compressed = start.starts_with(&GZIP_MAGIC);
        Ok(Self::new(path, file, length, compressed))
    }

    /// The `length` bytes that are left of an open file.
    pub(crate) fn new(path: &Path, file: BufReader<File>, length: u64, compressed: bool) -> Self {
        let (reader, limit) = if compressed {
            (Reader::Gzip(Box::new(Members::new(file))), length.saturating_mul(MAX_RATIO))
        } else {
            (Reader::Plain(file), length)
        };
        Self { path: path.to_path_buf(), reader, limit, position: 0 }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Fills `buffer` as far as the stream goes and says how far that was.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let read = match &mut self.reader {
                Reader::Plain(reader) => reader.read(rest),
                Reader::Gzip(reader) => reader.read(rest),
            };
            match (read, &self.reader) {
                (Ok(0), _) => break,
                (Ok(n), _) => filled += n,
                (Err(e), _) if e.kind() == ErrorKind::Interrupted => {}
                // A compressed stream that is cut short: the caller reports how far it went.
                (Err(e), _) if e.kind() == ErrorKind::UnexpectedEof => break,
                (Err(source), Reader::Gzip(_)) => {
                    return Err(Error::Corrupt { path: self.path.clone(), source });
                }
                (Err(source), _) => return Err(Error::Read { path: self.path.clone(), source }),
            }
        }
        self.position += filled as u64;
        Ok(filled)
    }

    /// Reads on to the end of a compressed stream, so that its checksum is verified.
    pub(crate) fn finish(&mut self) -> Result<()> {
        let Reader::Gzip(members) = &mut self.reader else { return Ok(()) };
        let expected = self.position;
        let mut scratch = [0; 4096];
        while self.position <= expected + SURPLUS {
            match members.read(&mut scratch) {
                Ok(0) => return Ok(()),
                Ok(n) => self.position += n as u64,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Corrupt { path: self.path.clone(), source }),
            }
        }
        Err(Error::Surplus { path: self.path.clone(), expected })
    }
}

/// A file, buffered, and its length.
pub(crate) fn open(path: &Path) -> Result<(BufReader<File>, u64)> {
    let read = |source| Error::Read { path: path.to_path_buf(), source };
    let file = File::open(path).map_err(read)?;
    let metadata = file.metadata().map_err(read)?;
    if metadata.is_dir() {
        return Err(read(io::Error::new(ErrorKind::IsADirectory, "a folder")));
    }
    Ok((BufReader::with_capacity(CHUNK, file), metadata.len()))
}

/// The members of a gzip file one after another, as gzip itself reads them: what follows the last one and is no member
/// is left alone.
struct Members(Option<GzDecoder<BufReader<File>>>);

impl Members {
    fn new(file: BufReader<File>) -> Self {
        Self(Some(GzDecoder::new(file)))
    }
}

impl Read for Members {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(member) = &mut self.0 else { return Ok(0) };
            match member.read(buffer)? {
                0 if !buffer.is_empty() => {}
                n => return Ok(n),
            }
            let Some(mut file) = self.0.take().map(GzDecoder::into_inner) else { return Ok(0) };
            if file.fill_buf()?.starts_with(&GZIP_MAGIC) {
                self.0 = Some(GzDecoder::new(file));
            }
        }
    }
}
