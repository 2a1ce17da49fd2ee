//! Damaged, lying and foreign files are refused with the right error: no panic, no blind allocation.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use flate2::{Compression, write::GzEncoder};
use ndarray::Array3;
use proptest::prelude::*;
use scribseg_io::{Error, Geometry, LabelVolume, Volume, write_image, write_labels};
use std::io::Write;
use std::path::PathBuf;

struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A good 3 × 4 × 5 float image, uncompressed.
    fn good(&self) -> Vec<u8> {
        let grid = Geometry::from_spacing([3, 4, 5], [1.0; 3]).unwrap();
        let image = Array3::from_shape_fn((3, 4, 5), |(z, y, x)| (20 * z + 5 * y + x) as f32 + 1.0);
        let path = self.0.path().join("good.nii");
        write_image(&path, image.view(), &grid).unwrap();
        std::fs::read(path).unwrap()
    }

    fn read(&self, bytes: &[u8]) -> Result<Volume, Error> {
        Volume::read_modality(self.put("test.nii", bytes))
    }

    /// The good file with some bytes replaced.
    fn patched(&self, patches: &[(usize, &[u8])]) -> Result<Volume, Error> {
        let mut bytes = self.good();
        for (at, patch) in patches {
            bytes[*at..at + patch.len()].copy_from_slice(patch);
        }
        self.read(&bytes)
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn the_good_file_is_good() {
    let lab = Lab::new();
    let volume = lab.read(&lab.good()).unwrap();
    assert_eq!(volume.data[[2, 3, 4]], 60.0);
    // Compression is seen from the content, whatever the name.
    assert_eq!(lab.read(&gzip(&lab.good())).unwrap(), volume);
}

#[test]
fn files_cut_anywhere_are_errors() {
    let lab = Lab::new();
    let good = lab.good();
    for length in 0..good.len() {
        let error = lab.read(&good[..length]).unwrap_err();
        match error {
            Error::NotNifti { .. } => assert!(length < 348, "{length}: {error}"),
            Error::Truncated { expected, found, .. } => {
                assert!(length >= 348);
                assert_eq!((expected, found), (592, length as u64));
            }
            other => panic!("{length}: {other}"),
        }
    }
    let packed = gzip(&good);
    for length in 0..packed.len() {
        let error = lab.read(&packed[..length]).unwrap_err();
        assert!(
            matches!(error, Error::NotNifti { .. } | Error::Truncated { .. } | Error::Corrupt { .. }),
            "{length}: {error}"
        );
    }
}

#[test]
fn a_wrong_checksum_is_an_error() {
    let lab = Lab::new();
    let mut packed = gzip(&lab.good());
    let crc = packed.len() - 8;
    packed[crc] ^= 1;
    assert!(matches!(lab.read(&packed), Err(Error::Corrupt { .. })));
}

#[test]
fn a_header_that_claims_a_trillion_voxels_is_refused_at_once() {
    let lab = Lab::new();
    let huge: Vec<u8> = [10240_i16; 3].iter().flat_map(|n| n.to_le_bytes()).collect();
    let mut bytes = lab.good();
    bytes[42..48].copy_from_slice(&huge);
    for bytes in [bytes.clone(), gzip(&bytes)] {
        let error = lab.read(&bytes).unwrap_err();
        let Error::Truncated { expected, .. } = error else { panic!("{error}") };
        assert_eq!(expected, 352 + 10240_u64.pow(3) * 4);
    }
    let most: Vec<u8> = [32767_i16; 3].iter().flat_map(|n| n.to_le_bytes()).collect();
    assert!(matches!(lab.patched(&[(42, &most), (70, &[64, 0])]), Err(Error::Truncated { .. })));
}

#[test]
fn other_files_are_told_apart() {
    let lab = Lab::new();
    assert!(matches!(lab.read(b""), Err(Error::NotNifti { .. })));
    assert!(matches!(lab.read(&[0x89; 4000]), Err(Error::NotNifti { .. })));
    assert!(matches!(lab.read(&gzip(b"hello")), Err(Error::NotNifti { .. })));
    // The size of a NIfTI-2 header, but not its magic.
    assert!(matches!(lab.patched(&[(0, &540_i32.to_le_bytes())]), Err(Error::NotNifti { .. })));
    assert!(matches!(lab.patched(&[(344, b"ni1\0")]), Err(Error::UnsupportedKind { .. })));
    assert!(matches!(lab.patched(&[(344, b"\0\0\0\0")]), Err(Error::NotNifti { .. })));
    assert!(matches!(lab.patched(&[(70, &[32, 0])]), Err(Error::UnsupportedType { code: 32, .. })));
    assert!(matches!(Volume::read(lab.0.path()), Err(Error::Read { .. })));
    assert!(matches!(Volume::read(lab.0.path().join("absent.nii")), Err(Error::Read { .. })));
}

#[test]
fn impossible_headers_are_named_by_field() {
    let lab = Lab::new();
    let field = |patches: &[(usize, &[u8])]| match lab.patched(patches) {
        Err(Error::BadHeader { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(&[(40, &[0, 0])]), "dim[0]");
    assert_eq!(field(&[(40, &[8, 0])]), "dim[0]");
    assert_eq!(field(&[(42, &[0, 0])]), "dim[1]");
    assert_eq!(field(&[(44, &(-3_i16).to_le_bytes())]), "dim[2]");
    assert_eq!(field(&[(108, &100_f32.to_le_bytes())]), "vox_offset");
    assert_eq!(field(&[(108, &f32::NAN.to_le_bytes())]), "vox_offset");
    assert_eq!(field(&[(116, &f32::INFINITY.to_le_bytes())]), "scl_inter");
    assert_eq!(field(&[(280, &f32::NAN.to_le_bytes())]), "sform");
    assert_eq!(field(&[(280, &[0; 48])]), "sform");
    // Without an sform: the quaternion, and its voxel sizes.
    let no_sform: (usize, &[u8]) = (254, &[0, 0]);
    assert_eq!(field(&[no_sform, (256, &2_f32.to_le_bytes())]), "quatern");
    assert_eq!(field(&[no_sform, (80, &0_f32.to_le_bytes())]), "pixdim");
    let four = lab.patched(&[(40, &[4, 0]), (48, &[2, 0])]).unwrap_err();
    assert!(matches!(&four, Error::NotThreeD { shape, .. } if shape == &[5, 4, 3, 2]), "{four}");
    assert!(matches!(lab.patched(&[(40, &[2, 0])]), Err(Error::NotThreeD { .. })));
}

#[test]
fn nan_zero_and_fractions_are_counted_and_placed() {
    let lab = Lab::new();
    let at = |i: usize, j: usize, k: usize| 352 + 4 * (i + 5 * j + 20 * k);
    let error = lab
        .patched(&[(at(4, 2, 1), &f32::NAN.to_le_bytes()), (at(0, 0, 2), &f32::NEG_INFINITY.to_le_bytes())]);
    assert!(matches!(error, Err(Error::NonFinite { count: 2, first: [4, 2, 1], .. })), "{error:?}");
    assert!(matches!(lab.patched(&[(352, &[0; 240])]), Err(Error::AllZero { .. })));
    assert!(
        Volume::read(lab.0.path().join("test.nii")).is_ok(),
        "zeros are fine where they are not a modality"
    );

    let mut bytes = lab.good();
    bytes[at(1, 3, 0)..][..4].copy_from_slice(&2.5_f32.to_le_bytes());
    bytes[at(2, 3, 2)..][..4].copy_from_slice(&1e12_f32.to_le_bytes());
    let error = LabelVolume::read(lab.put("labels.nii", &bytes)).unwrap_err();
    assert!(matches!(error, Error::NonInteger { count: 2, first: [1, 3, 0], value: 2.5, .. }), "{error}");
    assert!(error.to_string().contains("labels.nii"), "{error}");
}

#[test]
fn damage_beyond_one_chunk_is_placed_too() {
    let lab = Lab::new();
    let grid = Geometry::from_spacing([40, 50, 60], [1.0; 3]).unwrap();
    let mut image = Array3::<f32>::ones((40, 50, 60));
    image[[39, 48, 57]] = f32::NAN;
    let path = lab.0.path().join("big.nii.gz");
    write_image(&path, image.view(), &grid).unwrap();
    assert!(matches!(Volume::read(&path), Err(Error::NonFinite { count: 1, first: [57, 48, 39], .. })));
    image[[39, 48, 57]] = 0.25;
    write_image(&path, image.view(), &grid).unwrap();
    let labels = LabelVolume::read(&path);
    assert!(matches!(labels, Err(Error::NonInteger { count: 1, first: [57, 48, 39], .. })));
    write_labels(&path, Array3::from_elem((40, 50, 60), 7).view(), &grid).unwrap();
    assert!(LabelVolume::read(&path).unwrap().data.iter().all(|&v| v == 7));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn damaged_headers_never_panic(patches in prop::collection::vec((0..352_usize, any::<u8>()), 1..8), packed: bool) {
        let lab = Lab::new();
        let mut bytes = lab.good();
        for (at, byte) in patches {
            bytes[at] = byte;
        }
        let path = lab.put("test.nii", &if packed { gzip(&bytes) } else { bytes });
        if let Ok(volume) = Volume::read(&path) {
            prop_assert_eq!(volume.data.shape(), volume.geometry.shape());
            prop_assert!(volume.data.iter().all(|v| v.is_finite()));
        }
        let _ = LabelVolume::read(&path);
    }

    #[test]
    fn damaged_streams_never_panic(patches in prop::collection::vec((0..10_000_usize, any::<u8>()), 1..6)) {
        let lab = Lab::new();
        let mut bytes = gzip(&lab.good());
        for (at, byte) in patches {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let _ = Volume::read(lab.put("test.nii.gz", &bytes));
    }

    #[test]
    fn garbage_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..700), head in 0..3_u8) {
        let lab = Lab::new();
        if head > 0 && bytes.len() >= 348 {
            let size = 348_i32;
            bytes[..4].copy_from_slice(&if head == 1 { size.to_le_bytes() } else { size.to_be_bytes() });
            bytes[344..348].copy_from_slice(b"n+1\0");
        }
        let _ = Volume::read(lab.put("test.nii", &bytes));
    }
}
