//! The crate's error type: every message says which file, what was expected, what was found and what to do.

use crate::layout::Layout;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can be wrong with a file, a cohort or a table.
///
/// [`Error::expected`], [`Error::found`], [`Error::hint`] and [`Error::file`] give the parts of the message one by
/// one; the displayed text is made of them.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.text())]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to open or read a file or folder.
    Read {
        /// What was read.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file could not be written, flushed or moved to its final name.
    Write {
        /// The file that was to be written.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not a NIfTI-1 image.
    NotNifti {
        /// The file.
        path: PathBuf,
        /// What its first bytes look like.
        found: String,
    },
    /// The file is of a NIfTI kind that is not read: NIfTI-2 or a `.hdr`/`.img` pair.
    UnsupportedKind {
        /// The file.
        path: PathBuf,
        /// The kind.
        found: &'static str,
    },
    /// The voxels are complex, RGB, 128-bit floats or of an unknown type.
    UnsupportedType {
        /// The file.
        path: PathBuf,
        /// The header's `datatype`.
        code: i16,
    },
    /// A header field has a value that cannot be.
    BadHeader {
        /// The file.
        path: PathBuf,
        /// The field as the NIfTI-1 standard calls it.
        field: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The image has fewer than three axes, or a fourth of more than one voxel.
    NotThreeD {
        /// The file.
        path: PathBuf,
        /// Its shape in file order (i, j, k, …).
        shape: Vec<usize>,
    },
    /// The file is shorter than its header says, or could not possibly hold that much.
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes that the header asks for, header included, decompressed.
        expected: u64,
        /// Bytes there are (decompressed), or can be at most.
        found: u64,
    },
    /// The compressed stream is damaged.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The decompressor's reason.
        source: std::io::Error,
    },
    /// The image does not fit into memory.
    OutOfMemory {
        /// The file.
        path: PathBuf,
        /// Bytes asked for.
        bytes: u64,
    },
    /// Some voxels are NaN or infinite.
    NonFinite {
        /// The file.
        path: PathBuf,
        /// How many voxels.
        count: u64,
        /// The first of them: index (i, j, k) in the file's own order, from 0.
        first: [usize; 3],
    },
    /// Every voxel of an image is 0.
    AllZero {
        /// The file.
        path: PathBuf,
    },
    /// Some voxels of a label image are not whole numbers (or do not fit in 32 bits).
    NonInteger {
        /// The file.
        path: PathBuf,
        /// How many voxels.
        count: u64,
        /// The first of them: index (i, j, k) in the file's own order, from 0.
        first: [usize; 3],
        /// Its value.
        value: f64,
    },
    /// A label image holds values that the declared scheme or mapping does not know.
    UndeclaredLabel {
        /// The file.
        path: PathBuf,
        /// Each undeclared value with its number of voxels, ascending.
        counts: Vec<(i64, u64)>,
        /// What was declared, in words.
        declared: String,
    },
    /// Two images of a case are not on the same grid.
    GridMismatch {
        /// The file at fault.
        path: PathBuf,
        /// What it was compared with.
        reference: String,
        /// The difference.
        mismatch: crate::geometry::Mismatch,
    },
    /// An array does not have the shape of the grid that it is to be written on.
    ShapeMismatch {
        /// The file that was to be written.
        path: PathBuf,
        /// The grid's shape `[z, y, x]`.
        expected: [usize; 3],
        /// The array's shape.
        found: [usize; 3],
    },
    /// A case has no file for one of its four modalities.
    MissingModality {
        /// The case.
        case: String,
        /// The modality's suffix.
        modality: &'static str,
        /// Where the file was looked for.
        path: PathBuf,
    },
    /// A file was given where a folder is needed, or nothing is there.
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// No case of the layout was found.
    NoCases {
        /// The folder.
        path: PathBuf,
        /// The layout looked for.
        layout: Layout,
    },
    /// The folder's layout is known by name, but this version cannot read it.
    UnsupportedLayout {
        /// The folder.
        path: PathBuf,
        /// The layout.
        layout: Layout,
    },
    /// Two folders or files claim the same case or image.
    Duplicate {
        /// What is there twice.
        what: String,
        /// The first place.
        first: PathBuf,
        /// The second.
        second: PathBuf,
    },
    /// A file to be written must end in `.nii` or `.nii.gz`.
    BadExtension {
        /// The path.
        path: PathBuf,
    },
    /// A presence table cannot be understood.
    Presence {
        /// The table.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What was expected there.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A presence table lacks cases of the cohort.
    MissingParticipants {
        /// The table.
        path: PathBuf,
        /// The cases it lacks.
        cases: Vec<String>,
    },
    /// A reference segmentation from which presence was to be derived shows no tumour at all.
    EmptyReference {
        /// The file.
        path: PathBuf,
    },
    /// A name (of a layout, a label scheme, …) is not known.
    UnknownName {
        /// What kind of name.
        kind: &'static str,
        /// The names there are.
        known: &'static str,
        /// The name given.
        found: String,
    },
    /// A declared mapping of scribble values leads to something other than 0, 1 or 2.
    BadMapping {
        /// The file's value.
        from: i64,
        /// What it was mapped to.
        to: u8,
    },
    /// Internal codes are 0 to 3; an array held something else.
    BadCode {
        /// The code.
        found: u8,
    },
}

struct Parts {
    expected: String,
    found: String,
    hint: String,
}

fn parts(expected: impl Into<String>, found: impl Into<String>, hint: impl Into<String>) -> Parts {
    Parts { expected: expected.into(), found: found.into(), hint: hint.into() }
}

/// At most eight `value (n voxels)` entries.
fn listed(counts: &[(i64, u64)]) -> String {
    let mut text = String::new();
    for (n, (value, count)) in counts.iter().take(8).enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{value} ({count} voxels)", if n > 0 { ", " } else { "" });
    }
    if counts.len() > 8 {
        let _ = write!(text, " and {} more values", counts.len() - 8);
    }
    text
}

impl Error {
    /// The file or folder at fault, where there is one.
    pub fn file(&self) -> Option<&Path> {
        use Error::*;
        match self {
            Read { path, .. }
            | Write { path, .. }
            | NotNifti { path, .. }
            | UnsupportedKind { path, .. }
            | UnsupportedType { path, .. }
            | BadHeader { path, .. }
            | NotThreeD { path, .. }
            | Truncated { path, .. }
            | Corrupt { path, .. }
            | OutOfMemory { path, .. }
            | NonFinite { path, .. }
            | AllZero { path }
            | EmptyReference { path }
            | NonInteger { path, .. }
            | UndeclaredLabel { path, .. }
            | GridMismatch { path, .. }
            | ShapeMismatch { path, .. }
            | MissingModality { path, .. }
            | NotAFolder { path }
            | NoCases { path, .. }
            | UnsupportedLayout { path, .. }
            | BadExtension { path }
            | Presence { path, .. }
            | MissingParticipants { path, .. } => Some(path),
            Duplicate { second, .. } => Some(second),
            UnknownName { .. } | BadMapping { .. } | BadCode { .. } => None,
        }
    }

    /// What should have been there.
    pub fn expected(&self) -> String {
        self.parts().expected
    }

    /// What was there instead.
    pub fn found(&self) -> String {
        self.parts().found
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        self.parts().hint
    }

    fn text(&self) -> String {
        let Parts { expected, found, hint } = self.parts();
        match self.file() {
            Some(file) => format!("{}: expected {expected}, found {found}; {hint}", file.display()),
            None => format!("expected {expected}, found {found}; {hint}"),
        }
    }

    fn parts(&self) -> Parts {
        use Error::*;
        match self {
            Read { source, .. } => {
                parts("a readable file or folder", source.to_string(), "check the path and its permissions")
            }
            Write { path, source } => parts(
                "to write this file",
                source.to_string(),
                match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                    Some(folder) => format!(
                        "see that the folder {} exists, is writable and has room, or choose another",
                        folder.display()
                    ),
                    None => "see that the current folder is writable and has room".to_string(),
                },
            ),
            NotNifti { found, .. } => parts(
                "a NIfTI-1 image (.nii or .nii.gz)",
                found,
                "convert it to NIfTI-1, or take it out of the cohort",
            ),
            UnsupportedKind { found, .. } => {
                parts("a single-file NIfTI-1 image", *found, "save it again as a NIfTI-1 .nii.gz")
            }
            UnsupportedType { code, .. } => parts(
                "real voxels of 8 to 64 bits",
                format!("datatype {code}"),
                "save it again as int16 or float32",
            ),
            BadHeader { field, expected, found, .. } => {
                parts(format!("{field} {expected}"), found, "mend the header or export the image again")
            }
            NotThreeD { shape, .. } => parts(
                "a 3-D image (further axes of length 1 are allowed)",
                format!("shape {shape:?}"),
                "store one 3-D image a modality; 4-D layouts are not supported yet",
            ),
            Truncated { expected, found, .. } => parts(
                format!("{expected} bytes, as its header says"),
                format!("at most {found}"),
                "the file is cut short or its header is damaged: copy or export it again",
            ),
            Corrupt { source, .. } => parts(
                "an intact gzip stream",
                source.to_string(),
                "the file is damaged: copy or export it again",
            ),
            OutOfMemory { bytes, .. } => parts(
                format!("{bytes} bytes of free memory"),
                "less",
                "see whether the header's dimensions are right; else use a machine with more memory",
            ),
            NonFinite { count, first, .. } => parts(
                "finite intensities",
                format!("{count} NaN or infinite voxels, the first at (i, j, k) = {first:?}"),
                "replace them (background is 0) or export the image again",
            ),
            AllZero { .. } => parts(
                "an image with some non-zero voxels",
                "only zeros",
                "export the image again or leave the case out",
            ),
            NonInteger { count, first, value, .. } => parts(
                "whole-number labels",
                format!("{count} other values, the first {value} at (i, j, k) = {first:?}"),
                "a label image must be resampled with nearest neighbour, and its slope and intercept be 1 and 0",
            ),
            UndeclaredLabel { counts, declared, .. } => parts(
                format!("label values of {declared}"),
                listed(counts),
                "declare what the values mean (`--set input.label_scheme=…` of references, `--set \'input.scribble_values.tumour=[…]\'` of scribbles), or save the file with the expected ones: meaning is never guessed",
            ),
            GridMismatch { reference, mismatch, .. } => parts(
                format!("the grid of {reference}: {} {}", mismatch.entry, mismatch.expected),
                mismatch.found.to_string(),
                "resample it onto that grid (labels with nearest neighbour)",
            ),
            ShapeMismatch { expected, found, .. } => parts(
                format!("an array of shape [z, y, x] = {expected:?}"),
                format!("{found:?}"),
                "write it on its own grid",
            ),
            MissingModality { case, modality, .. } => parts(
                format!("the {modality} image of case {case}"),
                "no such file",
                "all four modalities (t1, t1ce, t2, flair) are needed: add it or leave the case out",
            ),
            NotAFolder { path } => parts(
                "a folder: a cohort or one case",
                if path.exists() { "a file" } else { "nothing" },
                "give the folder that holds the case's four images",
            ),
            NoCases { layout, .. } => parts(
                format!("cases in the {layout} layout"),
                "none",
                format!("the files should be named {}; see data/ for an example", layout.pattern()),
            ),
            UnsupportedLayout { layout, .. } => parts(
                format!("the {} layout: {}", Layout::Brats2017, Layout::Brats2017.pattern()),
                format!("the {layout} layout, which is not supported yet"),
                "rename the files to the first; mind that label values may mean something else",
            ),
            Duplicate { what, first, .. } => parts(
                format!("one {what}"),
                format!("a second one beside {}", first.display()),
                "remove or rename one of them",
            ),
            BadExtension { path } => parts(
                "a name ending in .nii or .nii.gz",
                path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
                "choose such a name",
            ),
            Presence { line, expected, found, .. } => {
                parts(format!("{expected} (line {line})"), found, "mend the table; see data/ for an example")
            }
            MissingParticipants { cases, .. } => parts(
                "one row for each case",
                format!(
                    "none for {}{}",
                    cases.iter().take(8).cloned().collect::<Vec<_>>().join(", "),
                    if cases.len() > 8 { format!(" and {} more", cases.len() - 8) } else { String::new() }
                ),
                "add these rows; n/a says that a presence is not known",
            ),
            EmptyReference { .. } => parts(
                "a reference with at least one sub-structure",
                "background only",
                "leave the case out, or give its presence as n/a in a table",
            ),
            UnknownName { kind, known, found } => {
                parts(format!("a {kind}: one of {known}"), format!("{found:?}"), "use one of these names")
            }
            BadMapping { from, to } => parts(
                "scribble values mapped to 0 (unknown), 1 (tumour) or 2 (healthy)",
                format!("{from} = {to}"),
                "mend the declared mapping",
            ),
            BadCode { found } => parts(
                "internal codes 0 (background), 1 (NCR/NET), 2 (ED), 3 (ET)",
                found.to_string(),
                "convert the labels to internal codes first",
            ),
        }
    }
}
