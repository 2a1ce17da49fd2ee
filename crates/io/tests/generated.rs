//! 200 generated files of every kind (fixtures/make_generated.py): what nibabel reads is what this crate reads, and what this
//! crate writes on their grids is what nibabel and SimpleITK found equal (fixtures/check_written.py).

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use flate2::read::GzDecoder;
use flate2::{Compression, Crc, write::GzEncoder};
use ndarray::Array3;
use scribseg_io::{Geometry, LabelVolume, Volume, read_geometry, write_labels};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Expected {
    orientation: String,
    affine: Vec<f64>,
    canonical_affine: Vec<f64>,
    shape: Vec<usize>,
    /// Name, first byte, number of bytes of each part.
    files: Vec<(String, usize, usize)>,
    /// Where the voxels start.
    values: usize,
}

impl Expected {
    fn voxels(&self, blob: &[u8]) -> Vec<f32> {
        let bytes = &blob[self.values..][..4 * self.shape.iter().product::<usize>()];
        bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
    }
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The files in `folder`, and for the first part of each what nibabel read.
fn unpack(folder: &Path) -> (Vec<(PathBuf, Expected)>, Vec<u8>) {
    let mut bytes = Vec::new();
    let archive = std::fs::File::open(fixture("generated.gz")).unwrap();
    GzDecoder::new(archive).read_to_end(&mut bytes).unwrap();
    let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    let index: Vec<Expected> = serde_json::from_slice(&bytes[4..4 + length]).unwrap();
    let blob = bytes.split_off(4 + length);
    let mut files = Vec::new();
    for expected in index {
        for (name, at, length) in &expected.files {
            let mut content = blob[*at..at + length].to_vec();
            if name.ends_with(".gz") {
                let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
                packed.write_all(&content).unwrap();
                content = packed.finish().unwrap();
            }
            std::fs::write(folder.join(name), content).unwrap();
        }
        files.push((folder.join(&expected.files[0].0), expected));
    }
    (files, blob)
}

fn assert_affine(ours: &[[f64; 4]; 4], theirs: &[f64], what: &str) {
    for (row, theirs) in ours.iter().zip(theirs.chunks(4)) {
        for (a, b) in row.iter().zip(theirs) {
            assert!((a - b).abs() < 1e-6, "{what}: affine {ours:?}, nibabel {theirs:?}");
        }
    }
}

#[test]
fn two_hundred_files_read_as_nibabel_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let (files, blob) = unpack(folder.path());
    assert_eq!(files.len(), 200);
    for (path, expected) in &files {
        let what = path.file_name().unwrap().to_string_lossy().into_owned();
        let volume = Volume::read(path).unwrap();
        assert_eq!(volume.geometry.orientation(), expected.orientation, "{what}");
        assert_affine(volume.geometry.affine(), &expected.affine, &what);
        assert_affine(&volume.geometry.canonical_affine(), &expected.canonical_affine, &what);
        assert_eq!(volume.data.shape(), expected.shape, "{what}");
        assert_eq!(volume.data.iter().copied().collect::<Vec<_>>(), expected.voxels(&blob), "{what}");
        assert_eq!(read_geometry(path).unwrap(), volume.geometry, "{what}");
        // A pair is one image, whichever half is named.
        let voxels = path.with_file_name(what.replace(".hdr", ".img"));
        assert_eq!(Volume::read(voxels).unwrap(), volume, "{what}");
    }
}

/// What is written on a grid: a label that tells the place.
fn labels(grid: &Geometry) -> Array3<u8> {
    let [z, y, x] = grid.shape();
    Array3::from_shape_fn((z, y, x), |(z, y, x)| ((7 * z + 3 * y + x) % 5) as u8)
}

/// fixtures/check_written.py opens the very bytes that are written here with nibabel and SimpleITK and, when all is as it
/// should be, notes their checksums; to have them kept for it, name a folder in SCRIBSEG_WRITTEN.
#[test]
fn files_are_written_as_other_tools_found_them_right() {
    let folder = tempfile::tempdir().unwrap();
    let (files, _) = unpack(folder.path());
    let kept = std::env::var_os("SCRIBSEG_WRITTEN").map(PathBuf::from);
    let out = kept.as_deref().unwrap_or(folder.path());
    std::fs::create_dir_all(out).unwrap();
    let mut written = BTreeMap::new();
    for (n, (scan, _)) in files.iter().enumerate() {
        let grid = read_geometry(scan).unwrap();
        let name = format!("w{n:03}.nii");
        write_labels(out.join(&name), labels(&grid).view(), &grid).unwrap();
        let bytes = std::fs::read(out.join(&name)).unwrap();
        let mut crc = Crc::new();
        crc.update(&bytes);
        written.insert(name.clone(), crc.sum());
        // And read here as it was written, on the scan's grid.
        let back = LabelVolume::read(out.join(name)).unwrap();
        assert_eq!(back.data.mapv(|v| v as u8), labels(&grid));
        grid.same_grid(&back.geometry).unwrap();
    }
    let verified: BTreeMap<String, u32> =
        serde_json::from_slice(&std::fs::read(fixture("written.json")).unwrap()).unwrap();
    assert!(
        written == verified,
        "other bytes than were verified: run this test with SCRIBSEG_WRITTEN=DIR, then tests/fixtures/check_written.py DIR"
    );
}
