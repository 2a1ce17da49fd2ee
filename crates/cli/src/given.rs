//! Folders and files of the command line: told of before anything is read when they are not there.

use std::path::Path;

use anyhow::{Result, bail};
use scribseg_pipeline::Masks;

/// An error unless `option` names a folder; `holds` says what is looked for in it.
pub(crate) fn folder(option: &str, path: &Path, holds: &str) -> Result<()> {
    let found = match path {
        path if path.is_dir() => return Ok(()),
        path if path.exists() => "a file",
        _ => "no such folder",
    };
    bail!("{}: expected a folder of {holds}, found {found}; check the path after `{option}`", path.display())
}

/// An error unless `option`, if it was given, names a presence table.
pub(crate) fn presence(path: Option<&Path>) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let found = match path {
        path if path.is_file() => return Ok(()),
        path if path.exists() => "a folder",
        _ => "no such file",
    };
    bail!(
        "{}: expected a presence table (tab-separated, columns participant_id, ED, ET, NCR), found {found}; check the path after `--presence`",
        path.display()
    )
}

/// [`folder`] of scribbles.
pub(crate) fn scribbles(path: Option<&Path>) -> Result<()> {
    path.map_or(Ok(()), |path| folder("--scribbles", path, "`<case>_scribble.nii.gz` files (or `.seg.nrrd`)"))
}

/// [`folder`] of masks to train on.
pub(crate) fn masks(masks: Option<&Masks>) -> Result<()> {
    match masks {
        Some(Masks::Folder(path)) => {
            folder("--masks", path, "`<case>_seg.nii.gz` files (or give the word `reference`)")
        }
        Some(Masks::Reference) | None => Ok(()),
    }
}
