//! The crate's error type: every message says which file, what was expected, what was found and what to do.

use crate::layout::Layout;
use std::path::PathBuf;

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
    /// The file is not a NIfTI image.
    NotNifti {
        /// The file.
        path: PathBuf,
        /// What its first bytes look like.
        found: String,
    },
    /// The file is of a kind that is not read: Analyze 7.5, or half of a pair under another name.
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
        /// The field as the standard calls it.
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
        shape: Vec<u64>,
    },
    /// The image does not have one 3-D image a channel.
    NotStacked {
        /// The file.
        path: PathBuf,
        /// How many channels were declared.
        expected: usize,
        /// Its shape in file order (i, j, k, …).
        shape: Vec<u64>,
    },
    /// The file is not an NRRD image.
    NotNrrd {
        /// The file.
        path: PathBuf,
        /// What its first bytes look like.
        found: String,
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
    /// The compressed stream goes on far behind the last voxel.
    Surplus {
        /// The file.
        path: PathBuf,
        /// Bytes that the header asks for, header included, decompressed.
        expected: u64,
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
        /// Which 3-D image of a 4-D file, from 0.
        volume: Option<u64>,
    },
    /// Every voxel of an image is 0.
    AllZero {
        /// The file.
        path: PathBuf,
        /// Which 3-D image of a 4-D file, from 0.
        volume: Option<u64>,
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
    /// Some voxels of a scribble are drawn as tumour and as healthy tissue.
    Overlap {
        /// The file.
        path: PathBuf,
        /// How many voxels.
        count: u64,
    },
    /// A scribble is drawn outside the scan.
    OutsideScan {
        /// The file.
        path: PathBuf,
        /// How many voxels.
        count: u64,
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
    /// Nothing in the folder is named as any layout has it.
    NoLayout {
        /// The folder.
        path: PathBuf,
        /// Folders of images (`imagesTr`, `imagesTs`) without any.
        empty: Vec<PathBuf>,
    },
    /// Names speak for more than one layout.
    AmbiguousLayout {
        /// The folder.
        path: PathBuf,
        /// For each layout, a name.
        found: Vec<String>,
    },
    /// Something has to be declared, or what is declared contradicts itself.
    Declaration {
        /// Where it was looked for.
        path: PathBuf,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
        /// How to declare it.
        hint: String,
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
