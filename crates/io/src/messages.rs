//! What each error says: what was expected, what was found, what to do.

use crate::error::Error;
use crate::layout::Layout;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// How a layout is declared.
const DECLARE_LAYOUT: &str = "declare the layout: `--set input.layout=brats2017` (or brats2023, msd, nnunet; in a configuration, `layout` under `[input]`)";

/// How each layout names its files.
fn patterns() -> String {
    Layout::ALL.map(|layout| format!("{layout} {}", layout.pattern())).join("; ")
}

fn of_channel(volume: Option<u64>) -> String {
    volume.map(|n| format!(" in channel {n}")).unwrap_or_default()
}

/// What the NIfTI standard calls a type that is not read.
fn type_name(code: i16) -> &'static str {
    match code {
        1 => "single bits",
        32 | 1792 | 2048 => "complex numbers",
        128 | 2304 => "colours",
        1536 => "128-bit floats",
        _ => "an unknown type",
    }
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
            | NotStacked { path, .. }
            | NotNrrd { path, .. }
            | Surplus { path, .. }
            | Overlap { path, .. }
            | OutsideScan { path, .. }
            | NoLayout { path, .. }
            | AmbiguousLayout { path, .. }
            | Declaration { path, .. }
            | Truncated { path, .. }
            | Corrupt { path, .. }
            | OutOfMemory { path, .. }
            | NonFinite { path, .. }
            | AllZero { path, .. }
            | EmptyReference { path }
            | NonInteger { path, .. }
            | UndeclaredLabel { path, .. }
            | GridMismatch { path, .. }
            | ShapeMismatch { path, .. }
            | MissingModality { path, .. }
            | NotAFolder { path }
            | NoCases { path, .. }
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

    pub(crate) fn text(&self) -> String {
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
                "a NIfTI image (.nii, .nii.gz, or a .hdr/.img pair)",
                found,
                "convert it to NIfTI, or take it out of the cohort",
            ),
            UnsupportedKind { found, .. } => parts(
                "a NIfTI image (.nii, .nii.gz, or a .hdr/.img pair)",
                *found,
                "convert it to a .nii.gz with a tool that knows how it is oriented; of a pair, name both files alike, .hdr and .img",
            ),
            UnsupportedType { code, .. } => parts(
                "real voxels of 8 to 64 bits",
                format!("{} (datatype {code})", type_name(*code)),
                "save it again as int16 or float32",
            ),
            NotNrrd { found, .. } => parts(
                "a segmentation of 3D Slicer (.seg.nrrd)",
                found,
                "export the segmentation from Slicer again, or as .nii.gz",
            ),
            BadHeader { field, expected, found, .. } => {
                parts(format!("{field} {expected}"), found, "mend the header or export the image again")
            }
            NotThreeD { shape, .. } => parts(
                "a 3-D image (further axes of length 1 are allowed)",
                format!("shape {shape:?}"),
                "store one 3-D image a modality; 4-D files are read in the layout msd alone (`--set input.layout=msd`)",
            ),
            NotStacked { expected, shape, .. } => parts(
                format!("a 4-D image of {expected} 3-D images, one a channel"),
                format!("shape {shape:?}"),
                "give the channels that the file has (`input.channels`), or the layout that the cohort has (`input.layout`)",
            ),
            Surplus { expected, .. } => parts(
                format!("{expected} bytes, as its header says"),
                "a compressed stream that goes on and on behind them",
                "the header is damaged, or the file is no image: export it again",
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
            NonFinite { count, first, volume, .. } => parts(
                format!("finite intensities{}", of_channel(*volume)),
                format!("{count} NaN or infinite voxels, the first at (i, j, k) = {first:?}"),
                "replace them (background is 0) or export the image again",
            ),
            AllZero { volume, .. } => parts(
                format!("an image with some non-zero voxels{}", of_channel(*volume)),
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
                "declare what the values mean (`--set input.label_scheme=…` of references, `--set \'input.scribble_values.tumour=[…]\'` of scribbles, `--set \'input.mask_values.unknown=[…]\'` of `--masks`), or save the file with the expected ones: meaning is never guessed",
            ),
            Overlap { count, .. } => parts(
                "tumour or healthy tissue in each voxel",
                format!("{count} voxels that are in segments of both"),
                "erase one of the two there",
            ),
            OutsideScan { count, .. } => parts(
                "a scribble within the scan",
                format!("{count} voxels outside it"),
                "see whether the scribble is of this case",
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
                "all four modalities (T1, T1ce, T2, FLAIR) are needed: add it or leave the case out",
            ),
            NotAFolder { path } => parts(
                "a folder: a cohort or one case",
                if path.exists() { "a file" } else { "nothing" },
                "check the path; give the folder that holds the cases, or that of one case with its four images",
            ),
            NoCases { layout, .. } => parts(
                format!("cases in the {layout} layout"),
                "none",
                format!(
                    "the files should be named {}; leave `input.layout` out and names decide",
                    layout.pattern()
                ),
            ),
            NoLayout { path, empty } => parts(
                format!("images named as in one of the layouts: {}", patterns()),
                match empty.as_slice() {
                    [] => an_image(path, 2)
                        .map_or_else(|| "none".into(), |image| format!("{image} and the like")),
                    [folder, ..] => format!("none ({} holds no image)", folder.display()),
                },
                format!(
                    "rename them; or, if they are named as the layout has it in other folders, {DECLARE_LAYOUT}"
                ),
            ),
            AmbiguousLayout { found, .. } => parts(
                "names of one layout",
                found.join(" and "),
                format!("move apart what does not belong together, or {DECLARE_LAYOUT}"),
            ),
            Declaration { expected, found, hint, .. } => parts(expected, found, hint),
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
            Presence { line, expected, found, .. } => parts(
                format!("{expected} (line {line})"),
                found,
                "mend the table: tab-separated, columns participant_id, ED, ET, NCR, values 1, 0 or n/a",
            ),
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

/// The first image below a folder, by name: it tells a person how theirs are named.
fn an_image(folder: &Path, levels: usize) -> Option<String> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).ok()?.flatten().map(|e| e.path()).collect();
    entries.sort();
    entries.into_iter().find_map(|path| {
        if path.is_dir() && levels > 0 {
            return an_image(&path, levels - 1);
        }
        let name = path.file_name()?.to_string_lossy().to_lowercase();
        let image =
            [".nii", ".nii.gz", ".hdr", ".nrrd", ".mha", ".dcm"].iter().any(|end| name.ends_with(end));
        image.then(|| path.display().to_string())
    })
}
