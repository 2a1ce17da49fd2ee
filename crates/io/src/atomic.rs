//! Files that are there whole or not at all.

use crate::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes `bytes` to `path`, see [`write_atomic_with`].
///
/// # Errors
/// [`Error::Write`] when the folder is missing, not writable or full.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path, |out| out.write_all(bytes))
}

/// Writes a file through `fill`: to a temporary name in the same folder, flushed to the disk and then renamed, so that
/// a crash or a full disk never leaves half a file under `path`. A file already there is replaced.
///
/// # Errors
/// [`Error::Write`] when the folder is missing, not writable or full, or when `fill` fails; the temporary file is
/// removed then.
pub fn write_atomic_with<F>(path: impl AsRef<Path>, fill: F) -> Result<()>
where
    F: FnOnce(&mut dyn Write) -> io::Result<()>,
{
    let path = path.as_ref();
    let failed = |source| Error::Write { path: path.to_path_buf(), source };
    let (temporary, file) = create_beside(path).map_err(failed)?;
    let result = fill_and_rename(file, &temporary, path, fill);
    if result.is_err() {
        // The first error is the one to report.
        let _ = std::fs::remove_file(&temporary);
    }
    result.map_err(failed)
}

fn fill_and_rename<F>(file: File, temporary: &Path, path: &Path, fill: F) -> io::Result<()>
where
    F: FnOnce(&mut dyn Write) -> io::Result<()>,
{
    let mut out = BufWriter::with_capacity(1 << 17, file);
    fill(&mut out)?;
    let file = out.into_inner().map_err(|e| e.into_error())?;
    // Without this a power cut could leave the new name on an empty file.
    file.sync_all()?;
    drop(file);
    std::fs::rename(temporary, path)
}

/// A new hidden file in the folder of `path`, its name not in use by any thread or process.
fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name"))?;
    loop {
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}-{}.tmp", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
        let temporary = path.with_file_name(hidden);
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Ok(file) => return Ok((temporary, file)),
            // Left by a killed process of the same number: take the next.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}
