//! Cohorts on disk: found, loaded, and every planted fault reported.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use ndarray::{Array3, Array4, Axis};
use scribseg_io::*;
use std::path::{Path, PathBuf};

const SHAPE: [usize; 3] = [4, 5, 6];

fn grid() -> Geometry {
    Geometry::from_spacing(SHAPE, [2.0, 1.0, 1.5]).unwrap()
}

/// Background in the first slice and column, otherwise whole numbers that tell modality and place.
fn images() -> Array4<f32> {
    Array4::from_shape_fn((4, SHAPE[0], SHAPE[1], SHAPE[2]), |(c, z, y, x)| {
        if z == 0 || x == 0 { 0.0 } else { (1000 * c + 100 * z + 10 * y + x) as f32 }
    })
}

fn labels() -> Array3<u8> {
    Array3::from_shape_fn(SHAPE, |(z, y, x)| if z == 2 && x > 1 { (y % 4) as u8 } else { 0 })
}

fn write(root: &Path, id: &str, reference: bool) {
    let labels = labels();
    write_case(root, id, images().view(), reference.then_some(labels.view()), &grid()).unwrap();
}

fn file(root: &Path, id: &str, suffix: &str) -> PathBuf {
    root.join(id).join(format!("{id}_{suffix}.nii.gz"))
}

#[test]
fn a_case_comes_back_as_it_was_written() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "a_1", true);
    let cohort = Cohort::open(root.path(), None).unwrap();
    assert_eq!((cohort.layout, cohort.scheme), (Layout::Brats2017, LabelScheme::Brats2017));
    let case = cohort.cases[0].load().unwrap();
    assert_eq!(case.id, "a_1");
    assert_eq!(case.modalities, images());
    assert_eq!(case.reference, Some(labels()));
    assert_eq!(case.geometry, grid());
    assert_eq!(case.geometry.spacing(), [2.0, 1.0, 1.5]);
    for ((z, y, x), &inside) in case.brain.indexed_iter() {
        assert_eq!(inside, z > 0 && x > 0, "{z} {y} {x}");
    }
    // In the file ET is 4.
    let stored = LabelVolume::read(file(root.path(), "a_1", "seg")).unwrap();
    assert_eq!(stored.data, labels().mapv(|code| [0, 1, 2, 4][code as usize]));
    assert!(check(&cohort).is_empty());
}

#[test]
fn modalities_stored_along_other_axes_meet_on_one_grid() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "a", true);
    // T2 again, stored along S, A, R: the same voxels at the same places.
    let lps = grid().canonical_affine();
    let [z, y, x] = SHAPE;
    let mut affine = [[0.0; 4]; 4];
    for row in 0..4 {
        affine[row] = [lps[row][2], -lps[row][1], -lps[row][0], lps[row][3]];
        affine[row][3] += lps[row][1] * (y - 1) as f64 + lps[row][0] * (x - 1) as f64;
    }
    let other = Geometry::from_affine([z, y, x], &affine).unwrap();
    assert_eq!(other.orientation(), "SAR");
    let path = file(root.path(), "a", "t2");
    write_image(&path, images().index_axis(Axis(0), 2), &other).unwrap();
    assert_eq!(read_geometry(&path).unwrap().orientation(), "SAR");
    let cohort = Cohort::open(root.path(), None).unwrap();
    let case = cohort.cases[0].load().unwrap();
    assert_eq!(case.modalities, images());
    assert!(check(&cohort).is_empty());

    // Scribbles and masks likewise.
    let drawn = Array3::from_shape_fn(SHAPE, |(z, y, x)| ((z + 2 * y + x) % 3) as u8);
    let path = companion(root.path(), "a", "scribble");
    write_labels(&path, drawn.view(), &other).unwrap();
    assert_eq!(read_scribble(&path, &case.geometry, &ScribbleMapping::default()).unwrap(), drawn);
}

#[test]
fn cases_are_found_in_every_accepted_arrangement() {
    let root = tempfile::tempdir().unwrap();
    write(&root.path().join("LGG"), "b", true);
    write(&root.path().join("HGG"), "c", true);
    write(&root.path().join("HGG"), "a", false);
    write(root.path(), "d", true);
    std::fs::write(root.path().join("survival.csv"), "x").unwrap();
    std::fs::create_dir(root.path().join(".hidden")).unwrap();
    let ids = |folder: &Path| -> Vec<String> {
        Cohort::open(folder, None).unwrap().cases.into_iter().map(|case| case.id).collect()
    };
    assert_eq!(ids(root.path()), ["a", "b", "c", "d"]);
    assert_eq!(ids(&root.path().join("HGG")), ["a", "c"]);
    // One case's own folder, whatever its name.
    let own = root.path().join("HGG").join("a");
    assert_eq!(ids(&own), ["a"]);
    let renamed = root.path().join("HGG").join("patient");
    std::fs::rename(&own, &renamed).unwrap();
    assert_eq!(ids(&renamed), ["a"]);
    // Uncompressed files.
    let t1 = Volume::read(renamed.join("a_t1.nii.gz")).unwrap();
    write_image(renamed.join("a_t1.nii"), t1.data.view(), &t1.geometry).unwrap();
    assert!(matches!(Cohort::open(&renamed, None), Err(Error::Duplicate { .. })));
    std::fs::remove_file(renamed.join("a_t1.nii.gz")).unwrap();
    let cohort = Cohort::open(&renamed, None).unwrap();
    assert!(cohort.cases[0].load().unwrap().reference.is_none());
    assert!(check(&cohort).is_empty());
    // The same case twice.
    write(&root.path().join("LGG"), "c", true);
    assert!(matches!(Cohort::open(root.path(), None), Err(Error::Duplicate { .. })));
}

#[test]
fn what_is_no_cohort_is_said_to_be_none() {
    let root = tempfile::tempdir().unwrap();
    assert!(matches!(Cohort::open(root.path().join("absent"), None), Err(Error::NotAFolder { .. })));
    let empty = Cohort::open(root.path(), None).unwrap_err();
    assert!(
        matches!(empty, Error::NoLayout { .. }) && empty.to_string().contains("<id>_{t1,t1ce,t2,flair,seg}")
    );
    let empty = Cohort::open(root.path(), Some(Layout::Brats2017)).unwrap_err();
    assert!(
        matches!(empty, Error::NoCases { .. }) && empty.to_string().contains("<id>_{t1,t1ce,t2,flair,seg}")
    );
    // A folder of predictions has no images.
    write_labels(root.path().join("a_seg.nii.gz"), labels().view(), &grid()).unwrap();
    assert!(matches!(Cohort::open(root.path(), None), Err(Error::NoLayout { .. })));
    let image = root.path().join("a_seg.nii.gz");
    assert!(matches!(Cohort::open(image, None), Err(Error::NotAFolder { .. })));
}

#[test]
fn layouts_are_recognised_by_names() {
    for (name, expected) in [
        ("BraTS-GLI-00001-000/BraTS-GLI-00001-000-t1n.nii.gz", Layout::Brats2023),
        ("imagesTr/BRATS_001.nii.gz", Layout::Msd),
        ("imagesTs/BRATS_001.nii.gz", Layout::Msd),
        ("imagesTr/BRATS_001_0002.nii.gz", Layout::NnUnet),
        ("BRATS_001_0002.nii.gz", Layout::NnUnet),
        ("BraTS2021_00000/BraTS2021_00000_t1.nii.gz", Layout::Brats2017),
        ("HGG/a/a_flair.nii", Layout::Brats2017),
    ] {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
        let (layout, why) = Layout::detect(root.path()).unwrap();
        assert_eq!(layout, expected, "{name}");
        assert!(why.contains(name), "{why}");
    }
    assert!(matches!("brats1999".parse::<Layout>(), Err(Error::UnknownName { .. })));
    assert_eq!("msd".parse::<Layout>().unwrap(), Layout::Msd);
    assert_eq!("brats2021".parse::<Layout>().unwrap(), Layout::Brats2017);
}

#[test]
fn every_planted_fault_is_reported_by_file() {
    let root = tempfile::tempdir().unwrap();
    let at = root.path();
    for id in ["a", "b", "c", "d", "e", "f", "g", "ok"] {
        write(at, id, true);
    }
    // a: a modality is missing. b: another's grid is shifted and a third is cut short.
    std::fs::remove_file(file(at, "a", "flair")).unwrap();
    let shifted = {
        let mut affine = *grid().affine();
        affine[2][3] += 0.01;
        Geometry::from_affine(grid().file_shape(), &affine).unwrap()
    };
    write_image(file(at, "b", "t1ce"), images().index_axis(Axis(0), 1), &shifted).unwrap();
    let whole = std::fs::read(file(at, "b", "t2")).unwrap();
    std::fs::write(file(at, "b", "t2"), &whole[..whole.len() / 2]).unwrap();
    // c: NaN. d: zeros only. e: a label outside the scheme. f: no reference, which is no fault. g: the reference has another shape.
    let mut nan = images().index_axis(Axis(0), 0).to_owned();
    nan[[1, 2, 3]] = f32::NAN;
    write_image(file(at, "c", "t1"), nan.view(), &grid()).unwrap();
    write_image(file(at, "d", "t2"), Array3::zeros(SHAPE).view(), &grid()).unwrap();
    let mut odd = labels();
    odd[[0, 0, 0]] = 3;
    write_labels(file(at, "e", "seg"), odd.view(), &grid()).unwrap();
    std::fs::remove_file(file(at, "f", "seg")).unwrap();
    let larger = Geometry::from_spacing([4, 5, 7], [2.0, 1.0, 1.5]).unwrap();
    write_labels(file(at, "g", "seg"), Array3::zeros((4, 5, 7)).view(), &larger).unwrap();
    // A folder that the layout does not know.
    std::fs::create_dir(at.join("misc")).unwrap();
    std::fs::copy(file(at, "ok", "t1"), at.join("misc/scan.nii.gz")).unwrap();

    let cohort = Cohort::open(at, None).unwrap();
    let faults = check(&cohort);
    let seen: Vec<(&str, String)> = faults
        .iter()
        .map(|fault| (fault.case.as_str(), fault.file.file_name().unwrap().to_string_lossy().into_owned()))
        .collect();
    let expected = [
        ("a", "a_flair.nii.gz"),
        ("b", "b_t1ce.nii.gz"),
        ("b", "b_t2.nii.gz"),
        ("c", "c_t1.nii.gz"),
        ("d", "d_t2.nii.gz"),
        ("e", "e_seg.nii.gz"),
        ("g", "g_seg.nii.gz"),
        ("", "misc"),
    ];
    assert_eq!(seen, expected.map(|(case, file)| (case, file.to_string())));
    assert!(faults[1].expected.contains("origin, inferior-superior"), "{}", faults[1].expected);
    assert!(faults[5].found.contains("3 (") && faults[5].expected.contains("4 ET"), "{:?}", faults[5]);
    assert!(faults[6].expected.contains("along x 6") && faults[6].found == "7", "{:?}", faults[6]);
    assert!(faults.iter().all(|fault| !fault.hint.is_empty()));

    // Loading each of them fails with the same fault.
    let load = |id: &str| cohort.case(id).unwrap().load().map(drop);
    assert!(matches!(load("a"), Err(Error::MissingModality { modality: "flair", .. })));
    assert!(matches!(load("b"), Err(Error::GridMismatch { .. })));
    assert!(matches!(load("c"), Err(Error::NonFinite { count: 1, first: [3, 2, 1], .. })));
    assert!(matches!(load("d"), Err(Error::AllZero { .. })));
    assert!(matches!(load("e"), Err(Error::UndeclaredLabel { .. })));
    assert!(matches!(load("g"), Err(Error::GridMismatch { .. })));
    assert!(load("f").is_ok() && load("ok").is_ok());
    assert!(matches!(cohort.require_modalities(), Err(Error::MissingModality { .. })));
    // Declared otherwise, 3 is a label and 4 is not.
    let other = cohort.clone().with_scheme(LabelScheme::Brats2023);
    assert!(matches!(
        other.case("ok").unwrap().load(),
        Err(Error::UndeclaredLabel { counts, .. }) if counts == [(4, 4)]
    ));
}

#[test]
fn the_same_faults_at_any_number_of_threads() {
    let root = tempfile::tempdir().unwrap();
    for id in ["a", "b", "c", "d"] {
        write(root.path(), id, true);
        std::fs::write(file(root.path(), id, "t1"), "no image").unwrap();
        std::fs::write(file(root.path(), id, "flair"), "no image").unwrap();
    }
    let cohort = Cohort::open(root.path(), None).unwrap();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| check(&cohort))
    };
    let one = run(1);
    assert_eq!(one.len(), 8);
    assert_eq!(one, run(3));
}
