//! What nibabel reads from small files of every kind is what this crate reads (fixtures/make_fixtures.py).

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use scribseg_io::{AffineSource, LabelVolume, Volume, read_geometry};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Deserialize)]
struct Expected {
    orientation: String,
    affine: Vec<Vec<f64>>,
    canonical_affine: Vec<Vec<f64>>,
    shape: Vec<usize>,
    data: Vec<f64>,
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn expected() -> BTreeMap<String, Expected> {
    serde_json::from_slice(&std::fs::read(fixture("expected.json")).unwrap()).unwrap()
}

fn assert_affine(ours: &[[f64; 4]; 4], theirs: &[Vec<f64>], name: &str) {
    for (row, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        for (column, (a, b)) in ours.iter().zip(theirs).enumerate() {
            assert!((a - b).abs() < 1e-6, "{name}: affine [{row}, {column}]: {a}, nibabel {b}");
        }
    }
}

#[test]
fn volumes_equal_nibabels() {
    let expected = expected();
    assert!(expected.len() >= 40, "the fixtures are all there");
    for (name, expected) in &expected {
        let volume = Volume::read(fixture(name)).unwrap();
        assert_eq!(volume.geometry.orientation(), expected.orientation, "{name}");
        assert_affine(volume.geometry.affine(), &expected.affine, name);
        assert_affine(&volume.geometry.canonical_affine(), &expected.canonical_affine, name);
        assert_eq!(volume.data.shape(), expected.shape, "{name}");
        assert_eq!(volume.geometry.shape().to_vec(), expected.shape, "{name}");
        for (at, (ours, theirs)) in volume.data.iter().zip(&expected.data).enumerate() {
            assert_eq!(*ours, *theirs as f32, "{name}: voxel {at}");
        }
    }
}

#[test]
fn spacing_follows_the_canonical_axes() {
    // Files of voxels 1.0, 1.5, 2.25 mm along i, j, k.
    for (name, spacing) in [
        ("axes_RAS.nii.gz", [2.25, 1.5, 1.0]),
        ("axes_PIR.nii.gz", [1.5, 1.0, 2.25]),
        ("axes_SAL.nii.gz", [1.0, 1.5, 2.25]),
        ("oblique.nii.gz", [1.5, 1.0, 2.25]),
    ] {
        let found = read_geometry(fixture(name)).unwrap().spacing();
        for (ours, expected) in found.iter().zip(spacing) {
            assert!((ours - expected).abs() < 1e-6, "{name}: {found:?}");
        }
    }
}

#[test]
fn the_source_of_the_affine_is_told() {
    let source = |name: &str| read_geometry(fixture(name)).unwrap().source();
    assert_eq!(source("disagree.nii"), AffineSource::Sform);
    assert_eq!(source("oblique_qform.nii.gz"), AffineSource::Qform);
    assert_eq!(source("no_forms.nii"), AffineSource::Pixdim);
}

#[test]
fn whole_numbers_read_as_labels_of_any_type() {
    let expected = expected();
    for name in
        ["type_u1_big.nii", "type_i2_little.nii", "type_i4_big.nii", "slope_big.nii", "axes_PIR.nii.gz"]
    {
        let labels = LabelVolume::read(fixture(name)).unwrap();
        for (ours, theirs) in labels.data.iter().zip(&expected[name].data) {
            assert_eq!(f64::from(*ours), *theirs, "{name}");
        }
    }
}
