//! Label schemes, presence tables, scribble files.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use ndarray::{Array3, array};
use scribseg_io::*;
use std::collections::BTreeMap;
use std::path::Path;

const SCHEMES: [LabelScheme; 3] = [LabelScheme::Brats2017, LabelScheme::Brats2023, LabelScheme::Msd];

#[test]
fn schemes_say_what_values_mean() {
    // Background, NCR/NET, ED, ET in each.
    for (scheme, values) in SCHEMES.into_iter().zip([[0, 1, 2, 4], [0, 1, 2, 3], [0, 2, 1, 3]]) {
        let stored = Array3::from_shape_vec((1, 1, 4), values.to_vec()).unwrap();
        let codes = scheme.to_internal(stored.view(), Path::new("a")).unwrap();
        assert_eq!(codes, array![[[0, 1, 2, 3]]], "{scheme}");
        assert_eq!(scheme.from_internal(codes.view()).unwrap().mapv(i32::from), stored, "{scheme}");
        assert_eq!(scheme.name().parse::<LabelScheme>().unwrap(), scheme);
        assert_eq!(serde_json::to_string(&scheme).unwrap(), format!("{:?}", scheme.name()));
    }
    assert_eq!(LabelScheme::Msd.describe(), "msd (0 background, 1 ED, 2 NCR/NET, 3 ET)");
    assert!(LabelScheme::Msd.from_internal(array![[[4]]].view()).is_err());
    assert!("brats".parse::<LabelScheme>().unwrap_err().to_string().contains("brats2023"));
}

#[test]
fn values_outside_a_scheme_are_named_and_counted() {
    let stored = array![[[0, 4, 3, 3, -1, 1000]]];
    let error = LabelScheme::Brats2017.to_internal(stored.view(), Path::new("x_seg.nii.gz")).unwrap_err();
    assert!(
        matches!(&error, Error::UndeclaredLabel { counts, .. } if counts == &[(-1, 1), (3, 2), (1000, 1)])
    );
    let text = error.to_string();
    for part in ["x_seg.nii.gz", "-1 (1 voxels)", "3 (2 voxels)", "brats2017", "4 ET"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(LabelScheme::Brats2023.to_internal(array![[[4]]].view(), Path::new("a")).is_err());
}

fn parse(text: &str) -> Result<PresenceTable> {
    PresenceTable::parse(text, Path::new("participants.tsv"))
}

#[test]
fn a_presence_table_reads_back_as_written() {
    let text = "\u{feff}participant_id\tage\tET\tNCR\tED\r\nb\t60\t1\tn/a\t0\r\n\r\na\t50\t0\t0\tn/a\n";
    let table = parse(text).unwrap();
    let a = Presence { ncr: Some(false), ed: None, et: Some(false) };
    let b = Presence { ncr: None, ed: Some(false), et: Some(true) };
    assert_eq!(table.rows, BTreeMap::from([("a".to_string(), a), ("b".to_string(), b)]));
    let tsv = "participant_id\tED\tET\tNCR\na\tn/a\t0\t0\nb\t0\t1\tn/a\n";
    assert_eq!(table.to_tsv(), tsv);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("participants.tsv");
    table.write(&path).unwrap();
    assert_eq!(PresenceTable::read(&path).unwrap().rows, table.rows);
    assert_eq!(table.for_cases(["b", "a", "b"]).unwrap(), [b, a, b]);
    let lacking = table.for_cases(["a", "x", "y"]).unwrap_err();
    assert!(
        matches!(&lacking, Error::MissingParticipants { cases, .. } if cases == &["x", "y"]),
        "{lacking}"
    );
}

#[test]
fn faults_in_a_presence_table_are_named_by_line() {
    let head = "participant_id\tED\tET\tNCR\n";
    for (text, line, part) in [
        ("".to_string(), 1, "participant_id"),
        ("participant_id\tED\tNCR\n".to_string(), 1, "column ET"),
        ("participant_id\tED\tET\tNCR\tET\n".to_string(), 1, "one column ET"),
        ("participant_id,ED,ET,NCR\n".to_string(), 1, "tab-separated"),
        (format!("{head}a\t1\t1\t1\na\t1\t0\t1\n"), 3, "second row for a"),
        (format!("{head}a\t1\tyes\t1\n"), 2, "\"yes\""),
        (format!("{head}a\t1\t\t1\n"), 2, "1, 0 or n/a for ET of a"),
        (format!("{head}a\t1\t1\n"), 2, "3 cells"),
        (format!("{head}\n\t1\t1\t1\n"), 3, "participant_id"),
        (format!("{head}b\t0\t1\t1\na\t0\t0\t0\n"), 3, "tumour of nothing"),
    ] {
        let error = parse(&text).unwrap_err();
        let found = matches!(&error, Error::Presence { line: at, .. } if *at == line);
        assert!(found && error.to_string().contains(part), "{text:?}: {error}");
    }
}

#[test]
fn presence_is_derived_from_references() {
    let root = tempfile::tempdir().unwrap();
    let grid = Geometry::from_spacing([2, 2, 2], [1.0; 3]).unwrap();
    let image = ndarray::Array4::from_elem((4, 2, 2, 2), 5.0);
    let with = |codes: &[u8]| {
        let mut labels = Array3::zeros((2, 2, 2));
        for (to, &code) in labels.iter_mut().zip(codes) {
            *to = code;
        }
        labels
    };
    write_case(root.path(), "b", image.view(), Some(with(&[1, 2]).view()), &grid).unwrap();
    write_case(root.path(), "a", image.view(), Some(with(&[3, 2]).view()), &grid).unwrap();
    write_case(root.path(), "none", image.view(), None, &grid).unwrap();
    let table = PresenceTable::from_references(&Cohort::open(root.path(), None).unwrap()).unwrap();
    assert_eq!(table.to_tsv(), "participant_id\tED\tET\tNCR\na\t1\t1\t0\nb\t1\t0\t1\n");
    write_case(root.path(), "c", image.view(), Some(with(&[]).view()), &grid).unwrap();
    let empty = PresenceTable::from_references(&Cohort::open(root.path(), None).unwrap()).unwrap_err();
    assert!(matches!(&empty, Error::EmptyReference { path } if path.ends_with("c/c_seg.nii.gz")), "{empty}");
}

#[test]
fn scribbles_need_declared_values_and_the_scans_grid() {
    let folder = tempfile::tempdir().unwrap();
    let grid = Geometry::from_spacing([1, 2, 3], [1.0; 3]).unwrap();
    let path = folder.path().join("a_scribble.nii.gz");
    let write = |values: Array3<u8>| write_labels(&path, values.view(), &grid).unwrap();

    write(array![[[0, 7, 7], [9, 0, 7]]]);
    let error = read_scribble(&path, &grid, &ScribbleMapping::default()).unwrap_err();
    assert!(
        matches!(&error, Error::UndeclaredLabel { counts, .. } if counts == &[(7, 3), (9, 1)]),
        "{error}"
    );
    assert!(error.to_string().contains("1 tumour, 2 healthy"), "{error}");
    let mapping = ScribbleMapping::try_from(BTreeMap::from([(0, 0), (7, 1), (9, 2)])).unwrap();
    assert_eq!(read_scribble(&path, &grid, &mapping).unwrap(), array![[[0, 1, 1], [2, 0, 1]]]);
    let bad = ScribbleMapping::try_from(BTreeMap::from([(5, 3)])).unwrap_err();
    assert!(matches!(bad, Error::BadMapping { from: 5, to: 3 }));

    let other = Geometry::from_spacing([1, 2, 3], [1.0, 1.0, 1.1]).unwrap();
    let error = read_scribble(&path, &other, &mapping).unwrap_err();
    assert!(
        matches!(&error, Error::GridMismatch { .. }) && error.to_string().contains("step along x"),
        "{error}"
    );

    write(array![[[0, 1, 1], [0, 0, 1]]]);
    let mask = read_whole_tumour(&path, &grid).unwrap();
    assert_eq!(mask.mapv(u8::from), array![[[0, 1, 1], [0, 0, 1]]]);
    write(array![[[0, 1, 2], [4, 0, 1]]]);
    assert!(matches!(read_whole_tumour(&path, &grid), Err(Error::UndeclaredLabel { .. })));
    let codes = read_segmentation(&path, &grid, LabelScheme::Brats2017).unwrap();
    assert_eq!(codes, array![[[0, 1, 2], [3, 0, 1]]]);
}

#[test]
fn companions_are_found_with_either_ending() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(companion(folder.path(), "a", "wt"), folder.path().join("a_wt.nii.gz"));
    std::fs::write(folder.path().join("a_wt.nii"), "").unwrap();
    assert_eq!(companion(folder.path(), "a", "wt"), folder.path().join("a_wt.nii"));
    std::fs::write(folder.path().join("a_wt.nii.gz"), "").unwrap();
    assert_eq!(companion(folder.path(), "a", "wt"), folder.path().join("a_wt.nii.gz"));
}

#[test]
fn a_mask_to_train_on_has_its_own_unknown_and_tumour_of_any_kind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a_seg.nii.gz");
    let grid = Geometry::from_spacing([1, 1, 6], [1.0; 3]).unwrap();
    write_labels(&path, array![[[0u8, 1, 2, 4, 9, 7]]].view(), &grid).unwrap();
    let read =
        |unknown: &[i64], tumour: &[i64]| read_mask(&path, &grid, LabelScheme::Brats2017, unknown, tumour);
    let expected = array![[[0, 1, 2, 3, NOT_LABELLED, TUMOUR_OF_ANY_KIND]]];
    assert_eq!(read(&[9], &[7]).unwrap(), expected);
    // What is declared goes before the scheme.
    let expected = array![[[0, 1, TUMOUR_OF_ANY_KIND, NOT_LABELLED, NOT_LABELLED, TUMOUR_OF_ANY_KIND]]];
    assert_eq!(read(&[9, 4], &[7, 2]).unwrap(), expected);
    let error = read(&[9], &[]).unwrap_err().to_string();
    for part in ["a_seg.nii.gz", "7", "unknown 9", "input.mask_values"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let other = Geometry::from_spacing([1, 1, 6], [1.0, 1.0, 2.0]).unwrap();
    assert!(read_mask(&path, &other, LabelScheme::Brats2017, &[9], &[7]).is_err(), "another grid");
}
