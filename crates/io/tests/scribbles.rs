//! Scribbles as the tools write them, along any axes, come back to where they were drawn (fixtures/make_scribbles.py).

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod common;

use common::along;
use ndarray::Array3;
use proptest::prelude::*;
use scribseg_io::*;
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Deserialize)]
struct Told {
    shape: [usize; 3],
    values: Vec<u8>,
}

#[derive(Deserialize)]
struct Expected {
    drawn: Told,
    part: Told,
}

impl Told {
    fn array(&self) -> Array3<u8> {
        Array3::from_shape_vec(self.shape, self.values.clone()).unwrap()
    }
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scribbles").join(name)
}

fn expected() -> Expected {
    serde_json::from_slice(&std::fs::read(fixture("expected.json")).unwrap()).unwrap()
}

fn read(path: impl AsRef<std::path::Path>) -> Result<Array3<u8>> {
    let scan = read_geometry(fixture("scan.nii")).unwrap();
    read_scribble(path, &scan, &ScribbleMapping::default())
}

#[test]
fn one_scribble_in_every_form_is_one_scribble() {
    let drawn = expected().drawn.array();
    for name in [
        "itk.nii.gz",
        "float.nii.gz",
        "nibabel_ras.nii.gz",
        "names.seg.nrrd",
        "values.seg.nrrd",
        "layers.seg.nrrd",
        "layers_big.seg.nrrd",
    ] {
        assert_eq!(read(fixture(name)).unwrap(), drawn, "{name}");
    }
    // Stored for the part of the scan that was drawn on.
    assert_eq!(read(fixture("part.seg.nrrd")).unwrap(), expected().part.array());
    let both = read(fixture("overlap.seg.nrrd")).unwrap_err();
    let tumour = drawn.iter().filter(|&&v| v == 1).count() as u64;
    assert!(matches!(both, Error::Overlap { count, .. } if count == tumour), "{both}");
}

/// A `.seg.nrrd` with some of its header's lines changed.
fn changed(name: &str, change: &[(&str, &str)]) -> Result<Array3<u8>> {
    let bytes = std::fs::read(fixture(name)).unwrap();
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap();
    let mut header = String::from_utf8(bytes[..end].to_vec()).unwrap();
    for (from, to) in change {
        assert!(header.contains(from), "{from}");
        header = header.replace(from, to);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a_scribble.seg.nrrd");
    std::fs::write(&path, [header.as_bytes(), &bytes[end..]].concat()).unwrap();
    read(path)
}

#[test]
fn segments_count_by_name_or_by_value_and_never_by_guess() {
    let drawn = expected().drawn.array();
    // Healthy is 1 and the tumour 2 in this file.
    for (healthy, tumour) in [("healthy", "TUMOR"), ("Background", "foreground"), ("normal_tissue", "Lesion")]
    {
        let change = [("Healthy tissue", healthy), ("Whole tumour", tumour)];
        assert_eq!(changed("names.seg.nrrd", &change).unwrap(), drawn, "{healthy}");
    }
    // No name is known: the values are what was declared, 1 tumour and 2 healthy.
    let swapped = drawn.mapv(|v| [0, 2, 1][usize::from(v)]);
    let change = [("Healthy tissue", "Segment_1"), ("Whole tumour", "Segment_2")];
    assert_eq!(changed("names.seg.nrrd", &change).unwrap(), swapped);
    // One name is known and the other is not: what would the other be?
    let error = changed("names.seg.nrrd", &[("Healthy tissue", "vessel")]).unwrap_err();
    let healthy = drawn.iter().filter(|&&v| v == 2).count() as u64;
    assert!(matches!(&error, Error::UndeclaredLabel { counts, .. } if counts == &[(1, healthy)]), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("segment \"vessel\" (1): of no known name") && text.contains("(2): tumour"),
        "{text}"
    );
    // A value that no segment has.
    let error =
        changed("names.seg.nrrd", &[("Segment1_LabelValue:=2", "Segment1_LabelValue:=9")]).unwrap_err();
    assert!(matches!(&error, Error::UndeclaredLabel { counts, .. } if counts[0].0 == 2), "{error}");
    // Values of one's own.
    let scan = read_geometry(fixture("scan.nii")).unwrap();
    let mapping = std::collections::BTreeMap::from([(0, 0), (1, 2), (2, 1)]).try_into().unwrap();
    let read = read_scribble(fixture("values.seg.nrrd"), &scan, &mapping).unwrap();
    assert_eq!(read, swapped);
    // Names go before declared values.
    assert_eq!(read_scribble(fixture("names.seg.nrrd"), &scan, &mapping).unwrap(), drawn);
}

#[test]
fn what_slicer_does_not_write_is_refused_by_field() {
    let field = |name: &str, from: &str, to: &str| match changed(name, &[(from, to)]) {
        Err(Error::BadHeader { field, .. }) => field,
        other => panic!("{from}: {other:?}"),
    };
    let names = "names.seg.nrrd";
    assert_eq!(field(names, "type: unsigned char", "type: block"), "type");
    assert_eq!(field(names, "type: unsigned char", "type: short"), "endian");
    assert_eq!(field(names, "encoding: gzip", "encoding: bzip2"), "encoding");
    assert_eq!(field(names, "encoding: gzip", "encoding: gzip\ndata file: a.raw"), "data file");
    assert_eq!(field(names, "encoding: gzip", "encoding: gzip\nbyte skip: -1"), "byte skip");
    assert_eq!(field(names, "space: left-posterior-superior", "space: scanner-xyz"), "space");
    assert_eq!(field(names, "space: left-posterior-superior", "space dimension: 3"), "space");
    assert_eq!(field(names, "sizes: 4 3 5", "sizes: 4 3"), "sizes");
    assert_eq!(field(names, "sizes: 4 3 5", "sizes: 4 3 -5"), "sizes");
    assert_eq!(field(names, "sizes: 4 3 5", "sizes: 4 0 5"), "sizes");
    assert_eq!(field(names, "kinds: domain domain domain", "kinds: RGB-color domain domain"), "kinds");
    assert_eq!(
        field(names, "space directions: (", "space directions: none ("),
        "space directions and origin"
    );
    assert_eq!(field(names, "space origin: (", "space origin: (x"), "space directions and origin");
    assert_eq!(field(names, "Segment1_LabelValue:=2", "Segment1_LabelValue:=two"), "Segment1_LabelValue");
    assert_eq!(field(names, "Segment1_Layer:=0", "Segment1_Layer:=1"), "Segment1_Layer");
    assert_eq!(field("layers.seg.nrrd", "kinds: list", "kinds: vector"), "kinds");
    assert!(matches!(changed(names, &[("NRRD0004", "NRRD")]), Err(Error::NotNrrd { .. })));
    // What could not be there is refused before anything is made for it.
    for size in ["4096 65536 65536", "18446744073709551615 4 4", "4 3 4611686018427387904"] {
        let error = changed(names, &[("sizes: 4 3 5", &format!("sizes: {size}"))]).unwrap_err();
        assert!(matches!(error, Error::Truncated { .. }), "{size}: {error}");
    }
    let error = changed("layers.seg.nrrd", &[("sizes: 2 ", "sizes: 4000000000 ")]).unwrap_err();
    assert!(matches!(error, Error::BadHeader { .. }), "{error}");
}

#[test]
fn another_grid_is_refused_and_the_difference_named() {
    let origin = |to: &str| changed("part.seg.nrrd", &[("space origin: (", &format!("space origin: ({to}"))]);
    assert!(matches!(origin("1"), Err(Error::GridMismatch { .. })));
    let text = std::fs::read(fixture("names.seg.nrrd")).unwrap();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| line.starts_with("space origin")).unwrap();
    // A voxel of 2.2 mm further: what is drawn there is outside the scan.
    let step: Vec<f64> = vec![2.149023947401254, 0.280776969398929, -0.3779690156076792];
    let old: Vec<f64> = line
        .trim_start_matches("space origin: (")
        .trim_end_matches(')')
        .split(',')
        .map(|n| n.parse().unwrap())
        .collect();
    let moved = |by: f64| {
        let new: Vec<String> = old.iter().zip(&step).map(|(a, b)| (a + by * b).to_string()).collect();
        changed("names.seg.nrrd", &[(line, &format!("space origin: ({})", new.join(",")))])
    };
    assert!(moved(0.0).is_ok());
    assert!(matches!(moved(1.0), Err(Error::OutsideScan { .. })));
    assert!(matches!(moved(1e2), Err(Error::OutsideScan { .. })));
    let error = moved(0.5).unwrap_err();
    assert!(matches!(error, Error::GridMismatch { .. }) && error.to_string().contains("origin"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a_scribble.nii.gz");
    let scan = read_geometry(fixture("scan.nii")).unwrap();
    let other = along(&Geometry::from_spacing(scan.shape(), scan.spacing()).unwrap(), "RAS");
    write_labels(&path, Array3::zeros(scan.shape()).view(), &other).unwrap();
    let error = read(&path).unwrap_err();
    assert!(
        matches!(error, Error::GridMismatch { .. }) && error.to_string().contains("step along"),
        "{error}"
    );
}

#[test]
fn a_slicer_segmentation_is_a_scribble_among_others() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |name: &str| {
        let path = folder.path().join(name);
        std::fs::copy(fixture("names.seg.nrrd"), &path).unwrap();
        path
    };
    let path = copy("a_scribble.seg.nrrd");
    assert_eq!(companion(folder.path(), "a", "scribble"), path);
    assert_eq!(read(&path).unwrap(), expected().drawn.array());
    one_companion(folder.path(), "a", "scribble").unwrap();
    copy("a_scribble.nii");
    assert!(matches!(one_companion(folder.path(), "a", "scribble"), Err(Error::Duplicate { .. })));
    // Masks are label images alone.
    copy("a_wt.seg.nrrd");
    assert_eq!(companion(folder.path(), "a", "wt"), folder.path().join("a_wt.nii.gz"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// On any grid, however oblique, a scribble stored along any axes in any direction comes back voxel for voxel.
    #[test]
    fn a_scribble_along_other_axes_comes_back(
        shape in [1..5_usize, 1..5_usize, 1..5_usize],
        zooms in [0.4..3.0_f64, 0.4..3.0_f64, 0.4..3.0_f64],
        origin in [-150.0..150.0_f64, -150.0..150.0_f64, -150.0..150.0_f64],
        turn in [-3.2..3.2_f64, -3.2..3.2_f64, -3.2..3.2_f64],
        order in 0..6_usize,
        flips in 0..8_u8,
        exactly_between in any::<bool>(),
    ) {
        let mut m = [[zooms[0], 0.0, 0.0], [0.0, zooms[1], 0.0], [0.0, 0.0, zooms[2]]];
        // Halfway between two anatomical axes either may be taken for the closest.
        let turn = if exactly_between { [std::f64::consts::FRAC_PI_4, 0.0, 0.0] } else { turn };
        for ((a, b), angle) in [(0, 1), (0, 2), (1, 2)].into_iter().zip(turn) {
            let (sin, cos) = angle.sin_cos();
            let (p, q) = (m[a], m[b]);
            m[a] = [0, 1, 2].map(|c: usize| cos * p[c] - sin * q[c]);
            m[b] = [0, 1, 2].map(|c: usize| sin * p[c] + cos * q[c]);
        }
        let mut scan = [[0.0, 0.0, 0.0, 1.0]; 4];
        for row in 0..3 {
            scan[row] = [m[row][0], m[row][1], m[row][2], origin[row]];
        }
        // The same voxels along other axes: file axis f of the scribble is axis order[f] of the scan, maybe backward.
        let order = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]][order];
        let (mut other, mut other_shape) = (scan, [0; 3]);
        for (f, &axis) in order.iter().enumerate() {
            other_shape[f] = shape[axis];
            let back = flips >> f & 1 == 1;
            for row in 0..3 {
                other[row][f] = if back { -scan[row][axis] } else { scan[row][axis] };
                other[row][3] += if back { scan[row][axis] * (shape[axis] - 1) as f64 } else { 0.0 };
            }
        }
        let (scan, other) = (Geometry::from_affine(shape, &scan).unwrap(), Geometry::from_affine(other_shape, &other).unwrap());
        let value = |i: usize, j: usize, k: usize| ((7 * i + 3 * j + 5 * k) % 3) as u8;
        // Drawn by the scan's own indices, stored by those of the other file.
        let [i, j, k] = other_shape;
        let stored: Vec<u8> = (0..i * j * k)
            .map(|n| {
                let at = [n % i, n / i % j, n / (i * j)];
                let mut own = [0; 3];
                for (f, &axis) in order.iter().enumerate() {
                    own[axis] = if flips >> f & 1 == 1 { other_shape[f] - 1 - at[f] } else { at[f] };
                }
                value(own[0], own[1], own[2])
            })
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a_scribble.nii");
        write_labels(&path, other.to_canonical(stored).unwrap().view(), &other).unwrap();
        let [i, j, k] = shape;
        let own: Vec<u8> = (0..i * j * k).map(|n| value(n % i, n / i % j, n / (i * j))).collect();
        let expected = scan.to_canonical(own).unwrap();
        let found = read_scribble(&path, &scan, &ScribbleMapping::default()).unwrap();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn damaged_segmentations_never_panic(
        patches in prop::collection::vec((0..2000_usize, any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
        file in 0..4_usize,
    ) {
        let name = ["names.seg.nrrd", "layers.seg.nrrd", "layers_big.seg.nrrd", "part.seg.nrrd"][file];
        let mut bytes = std::fs::read(fixture(name)).unwrap();
        for (at, byte) in patches {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a_scribble.seg.nrrd");
        std::fs::write(&path, bytes).unwrap();
        let _ = read(path);
    }
}
