//! Laws of writing and reading back, on random grids.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use ndarray::Array3;
use proptest::prelude::*;
use scribseg_io::{
    Affine, Geometry, LabelVolume, Volume, read_geometry, write_image, write_image_i16, write_labels,
};

/// A grid of any axis order and direction, moderately turned, with uneven voxels; and its shape (i, j, k).
fn grids() -> impl Strategy<Value = ([usize; 3], Affine)> {
    let shape = [1..6_usize, 1..6_usize, 1..6_usize];
    let zooms = [0.3..4.0_f64, 0.3..4.0_f64, 0.3..4.0_f64];
    let origin = [-200.0..200.0_f64, -200.0..200.0_f64, -200.0..200.0_f64];
    let turn = [-0.5..0.5_f64, -0.5..0.5_f64, -0.5..0.5_f64];
    (shape, zooms, origin, turn, 0..6_usize, 0..8_u8).prop_map(
        |(shape, zooms, origin, turn, order, signs)| {
            let order = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]][order];
            let mut m = [[0.0; 3]; 3];
            for (column, (&world, zoom)) in order.iter().zip(zooms).enumerate() {
                m[world][column] = if signs >> column & 1 == 1 { -zoom } else { zoom };
            }
            for ((a, b), angle) in [(0, 1), (0, 2), (1, 2)].into_iter().zip(turn) {
                let (sin, cos) = angle.sin_cos();
                let (p, q) = (m[a], m[b]);
                m[a] = [0, 1, 2].map(|column: usize| cos * p[column] - sin * q[column]);
                m[b] = [0, 1, 2].map(|column: usize| sin * p[column] + cos * q[column]);
            }
            let mut affine = [[0.0; 4]; 4];
            for row in 0..3 {
                affine[row] = [m[row][0], m[row][1], m[row][2], origin[row]];
            }
            affine[3][3] = 1.0;
            (shape, affine)
        },
    )
}

fn world(affine: &Affine, index: [usize; 3]) -> [f64; 3] {
    [0, 1, 2].map(|r| affine[r][3] + (0..3).map(|c| affine[r][c] * index[c] as f64).sum::<f64>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Each voxel keeps its place in the patient on the way to canonical axes, and its bytes on the way back.
    #[test]
    fn canonical_axes_move_no_voxel((shape, affine) in grids()) {
        let grid = Geometry::from_affine(shape, &affine).unwrap();
        let [i, j, k] = shape;
        // Each voxel holds its own number in file order.
        let file: Vec<usize> = (0..i * j * k).collect();
        let canonical = grid.to_canonical(file.clone()).unwrap();
        prop_assert_eq!(canonical.shape(), grid.shape());
        let canonical_affine = grid.canonical_affine();
        for ((z, y, x), &n) in canonical.indexed_iter() {
            let ours = world(&canonical_affine, [x, y, z]);
            let theirs = world(grid.affine(), [n % i, n / i % j, n / (i * j)]);
            for (a, b) in ours.iter().zip(theirs) {
                prop_assert!((a - b).abs() < 1e-9);
            }
        }
        prop_assert_eq!(grid.to_file_order(canonical.view()).unwrap(), file);
    }

    /// Labels come back voxel for voxel on the same grid, the source header's orientation bits included.
    #[test]
    fn labels_survive_the_disk((shape, affine) in grids(), seed in any::<u32>(), gz in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(if gz { "a.nii.gz" } else { "a.nii" });
        let grid = Geometry::from_affine(shape, &affine).unwrap();
        let mut state = seed;
        let labels = Array3::from_shape_simple_fn(grid.shape(), || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        write_labels(&path, labels.view(), &grid).unwrap();
        let back = LabelVolume::read(&path).unwrap();
        prop_assert_eq!(&back.geometry, &grid);
        prop_assert_eq!(back.data.mapv(|v| v as u8), labels.clone());
        // Written again from what was read: the same bytes.
        let again = folder.path().join(if gz { "b.nii.gz" } else { "b.nii" });
        write_labels(&again, labels.view(), &back.geometry).unwrap();
        prop_assert_eq!(std::fs::read(path).unwrap(), std::fs::read(again).unwrap());
    }

    /// Floats come back bit for bit, 16-bit images to the nearest whole number.
    #[test]
    fn images_survive_the_disk((shape, affine) in grids(), scale in 0.01..3e4_f32) {
        let folder = tempfile::tempdir().unwrap();
        let grid = Geometry::from_affine(shape, &affine).unwrap();
        let image = Array3::from_shape_fn(grid.shape(), |(z, y, x)| scale * ((7 * z + 3 * y + x) as f32 * 0.37).sin());
        let path = folder.path().join("a.nii.gz");
        write_image(&path, image.view(), &grid).unwrap();
        let back = Volume::read(&path).unwrap();
        prop_assert_eq!(&back.data, &image);
        prop_assert_eq!(&back.geometry, &grid);
        write_image_i16(&path, image.view(), &grid).unwrap();
        prop_assert_eq!(Volume::read(&path).unwrap().data, image.mapv(f32::round));
    }

    /// A grid equals itself stored along any other axes, and nothing that is moved by more than the tolerance.
    #[test]
    fn grids_compare_by_place((shape, affine) in grids(), axis in 0..3_usize, shift in 0.002..5.0_f64) {
        let grid = Geometry::from_affine(shape, &affine).unwrap();
        // Stored backward along one axis.
        let mut mirrored = affine;
        for row in 0..3 {
            mirrored[row][3] += affine[row][axis] * (shape[axis] - 1) as f64;
            mirrored[row][axis] = -affine[row][axis];
        }
        let mirrored = Geometry::from_affine(shape, &mirrored).unwrap();
        prop_assert_eq!(grid.same_grid(&mirrored), Ok(()));
        let mut moved = affine;
        moved[axis][3] += shift;
        let found = grid.same_grid(&Geometry::from_affine(shape, &moved).unwrap()).unwrap_err();
        prop_assert!(found.entry.contains("origin"), "{}", found.entry);
        moved[axis][3] = affine[axis][3] + 5e-4;
        prop_assert_eq!(grid.same_grid(&Geometry::from_affine(shape, &moved).unwrap()), Ok(()));
    }
}

/// The header fields that the scan's orientation is made of, by offset and length in a NIfTI-1 header.
const ORIENTATION: [(usize, usize); 4] = [(76, 16), (123, 1), (252, 28), (280, 48)];

#[test]
fn orientation_fields_are_copied_bit_for_bit() {
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let folder = tempfile::tempdir().unwrap();
    for name in ["no_forms.nii", "half_turn.nii", "disagree.nii", "sform_only.nii", "type_u1_little.nii"] {
        let source = fixtures.join(name);
        let grid = read_geometry(&source).unwrap();
        let out = folder.path().join("out.nii");
        write_labels(&out, Array3::<u8>::zeros(grid.shape()).view(), &grid).unwrap();
        let (from, to) = (std::fs::read(source).unwrap(), std::fs::read(out).unwrap());
        for (at, length) in ORIENTATION {
            assert_eq!(from[at..at + length], to[at..at + length], "{name}: bytes {at}..");
        }
        // Unsigned bytes, slope 1, intercept 0.
        assert_eq!(to[70..74], [2, 0, 8, 0]);
        assert_eq!(to[112..120], [0, 0, 128, 63, 0, 0, 0, 0]);
    }
}

#[test]
fn what_cannot_be_written_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let grid = Geometry::from_spacing([2, 3, 4], [1.0; 3]).unwrap();
    let labels = Array3::<u8>::zeros((2, 3, 4));
    let name = write_labels(folder.path().join("a.mha"), labels.view(), &grid).unwrap_err().to_string();
    assert!(name.contains(".nii.gz") && name.contains("a.mha"), "{name}");
    let shape =
        write_labels(folder.path().join("a.nii"), Array3::zeros((4, 3, 2)).view(), &grid).unwrap_err();
    assert!(shape.to_string().contains("[2, 3, 4]"), "{shape}");
    let missing =
        write_labels(folder.path().join("no/such/a.nii"), labels.view(), &grid).unwrap_err().to_string();
    assert!(missing.contains("no/such") && missing.contains("writable"), "{missing}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    assert!(Geometry::from_spacing([2, 3, 4], [1.0, 0.0, 1.0]).is_none());
    assert!(Geometry::from_affine([2, 3, 4], &[[1.0; 4]; 4]).is_none());
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    scribseg_io::write_atomic(&path, b"old").unwrap();
    let failed = scribseg_io::write_atomic_with(&path, |out| {
        out.write_all(b"half of the n")?;
        Err(std::io::Error::other("disk full"))
    });
    assert!(failed.unwrap_err().to_string().contains("disk full"));
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    scribseg_io::write_atomic(&path, b"new").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
}
