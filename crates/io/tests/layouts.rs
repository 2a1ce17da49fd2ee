//! Five layouts of one cohort are the same cohort; what a folder does not say is asked about, never guessed.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Known, MSD_JSON, NNUNET_JSON, along, write_five, write_stack};
use ndarray::{Array3, Array4, Axis};
use scribseg_io::*;
use std::path::Path;

const SHAPE: [usize; 3] = [4, 5, 6];

fn known(id: &str, salt: usize) -> Known {
    let [z, y, x] = SHAPE;
    let images = Array4::from_shape_fn((4, z, y, x), |(c, z, y, x)| {
        if z == 0 || x == 0 { 0.0 } else { (1000 * c + 100 * z + 10 * y + x + salt) as f32 }
    });
    let labels = Array3::from_shape_fn(SHAPE, |(z, y, x)| if z == 2 && x > 1 { (y % 4) as u8 } else { 0 });
    let affine =
        [[-1.0, 0.05, 0.1, 91.0], [0.05, -1.2, 0.3, 126.5], [0.1, 0.25, 2.0, -72.0], [0.0, 0.0, 0.0, 1.0]];
    let grid = Geometry::from_affine([x, y, z], &affine).unwrap();
    assert_eq!(grid.orientation(), "LPS");
    Known { id: id.into(), images, labels: Some(labels), grid }
}

fn put(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn refused(root: &Path) -> Error {
    Cohort::open(root, None).unwrap_err()
}

#[test]
fn five_layouts_of_one_cohort_are_the_same_cohort() {
    let root = tempfile::tempdir().unwrap();
    let cases = [known("BraTS-GLI-00001-000", 0), known("b_2", 7)];
    let laid = write_five(root.path(), &cases);
    for laid in &laid {
        let cohort = Cohort::open(&laid.root, None).unwrap();
        let what = laid.root.display();
        assert_eq!((cohort.layout, cohort.scheme), (laid.layout, laid.scheme), "{what}");
        assert!(cohort.why.iter().all(|why| !why.is_empty()), "{what}: {:?}", cohort.why);
        let ids: Vec<&str> = cohort.cases.iter().map(|case| case.id.as_str()).collect();
        assert_eq!(ids, ["BraTS-GLI-00001-000", "b_2"], "{what}");
        for (case, known) in cohort.cases.iter().zip(&cases) {
            let loaded = case.load().unwrap();
            assert_eq!(loaded.modalities, known.images, "{what}");
            assert_eq!(loaded.reference, known.labels, "{what}");
            assert_eq!(loaded.geometry.orientation(), laid.axes, "{what}");
            known.grid.same_grid(&loaded.geometry).unwrap();
            assert_eq!(case.load_reference().unwrap().unwrap().0, *known.labels.as_ref().unwrap(), "{what}");
        }
        assert_eq!(check(&cohort), [], "{what}");
        let presence = PresenceTable::from_references(&cohort).unwrap();
        assert_eq!(presence.to_tsv().lines().count(), 3, "{what}");
    }
}

#[test]
fn a_cohort_says_what_it_was_taken_for_and_why() {
    let root = tempfile::tempdir().unwrap();
    let laid = write_five(root.path(), &[known("a", 0)]);
    let told: Vec<String> = laid
        .iter()
        .map(|laid| {
            let cohort = Cohort::open(&laid.root, None).unwrap();
            let own = format!("{}/", laid.root.display());
            format!("{} | {}", cohort.describe_channels(), cohort.why.join(" | ").replace(&own, ""))
        })
        .collect();
    assert_eq!(
        told,
        [
            "t1, t1ce, t2, flair by name | file names such as LGG/a/a_flair.nii | the layout | file names that end in _t1, _t1ce, _t2, _flair",
            "t1, t1ce, t2, flair by name | file names such as a/a_flair.nii.gz | the layout | file names that end in _t1, _t1ce, _t2, _flair",
            "t1, t1ce, t2, flair by name | file names such as a/a-t1c.nii.gz | the layout | file names that end in -t1n, -t1c, -t2w, -t2f",
            "0 flair, 1 t1, 2 t1ce, 3 t2 | file names such as imagesTr/a.nii.gz | `labels` in dataset.json | `modality` in dataset.json",
            "0 t2, 1 flair, 2 t1, 3 t1ce | file names such as imagesTr/a_0000.nii.gz | `labels` in dataset.json | `channel_names` in dataset.json",
        ]
    );
}

#[test]
fn what_is_declared_holds() {
    let root = tempfile::tempdir().unwrap();
    let cases = [known("a", 0)];
    let laid = write_five(root.path(), &cases);
    let nnunet = &laid[4].root;
    std::fs::remove_file(nnunet.join("dataset.json")).unwrap();
    let asked = refused(nnunet).to_string();
    assert!(asked.contains("dataset.json") && asked.contains("input.channels=[\"flair\""), "{asked}");
    let channels = Channels::declared(&["t2", "flair", "t1", "t1ce"]).unwrap();
    let only = Declared { channels: Some(channels), ..Declared::default() };
    let asked = Cohort::open_as(nnunet, &only).unwrap_err().to_string();
    assert!(asked.contains("input.label_scheme=") && asked.contains("ncr=1,ed=2,et=3"), "{asked}");
    let both = Declared { scheme: Some("ncr=2,ed=3,et=1".parse().unwrap()), ..only };
    let cohort = Cohort::open_as(nnunet, &both).unwrap();
    let loaded = cohort.cases[0].load().unwrap();
    assert_eq!((loaded.modalities, loaded.reference), (cases[0].images.clone(), cases[0].labels.clone()));
    assert_eq!(cohort.why[1..], ["declared by input.label_scheme", "declared by input.channels"]);

    // Another order, and other values, are other data: nothing is put right by looking at voxels.
    let other = Declared { channels: Some(Channels::MSD), scheme: Some(LabelScheme::Msd), ..both };
    let loaded = Cohort::open_as(nnunet, &other).unwrap().cases[0].load().unwrap();
    assert_ne!(loaded.modalities, cases[0].images);
    assert_ne!(loaded.reference, cases[0].labels);

    // The images alone, in a folder of any name.
    let bare = root.path().join("bare");
    std::fs::rename(nnunet.join("imagesTr"), &bare).unwrap();
    let cohort = Cohort::open_as(&bare, &both).unwrap();
    assert_eq!(cohort.layout, Layout::NnUnet);
    assert_eq!(cohort.cases[0].load_images().unwrap().modalities, cases[0].images);
    let stack = laid[3].root.join("imagesTr");
    std::fs::rename(&stack, root.path().join("stack")).unwrap();
    let nothing = refused(&root.path().join("stack"));
    assert!(matches!(nothing, Error::NoLayout { .. }), "{nothing}");
    assert!(nothing.to_string().contains("input.layout="), "{nothing}");
    let cohort = Cohort::open(root.path().join("stack"), Some(Layout::Msd)).unwrap();
    assert_eq!(cohort.cases[0].load_images().unwrap().modalities, cases[0].images);
}

#[test]
fn names_that_speak_for_two_layouts_are_asked_about() {
    for (names, layouts) in [
        (&["a/a_t1.nii.gz", "b/b-t1n.nii.gz"][..], &["brats2017", "brats2023"][..]),
        (&["imagesTr/a.nii.gz", "imagesTr/b_0000.nii.gz"], &["msd", "nnunet"]),
        (&["imagesTr/a_0000.nii.gz", "HGG/b/b_flair.nii"], &["brats2017", "nnunet"]),
        // A case with a number in its name, or a channel? The reference has it, too.
        (&["imagesTr/BRATS_0001.nii.gz", "labelsTr/BRATS_0001.nii.gz"], &["msd", "nnunet"]),
    ] {
        let root = tempfile::tempdir().unwrap();
        for name in names {
            put(&root.path().join(name), "");
        }
        let error = refused(root.path());
        assert!(matches!(error, Error::AmbiguousLayout { .. }), "{names:?}: {error}");
        let text = error.to_string();
        assert!(layouts.iter().all(|name| text.contains(&format!("({name})"))), "{text}");
        assert!(text.contains("input.layout="), "{text}");
    }
    // Both forms of one image.
    for (names, layout) in [
        (["imagesTr/a.nii", "imagesTr/a.nii.gz"], Layout::Msd),
        (["imagesTr/a.hdr", "imagesTr/a.nii.gz"], Layout::Msd),
        (["a-t1n.nii", "a-t1n.nii.gz"], Layout::Brats2023),
        (["a_t1.hdr", "a_t1.nii"], Layout::Brats2017),
    ] {
        let root = tempfile::tempdir().unwrap();
        for name in names {
            put(&root.path().join(name), "");
        }
        let error = Cohort::open(root.path(), Some(layout)).unwrap_err();
        assert!(matches!(error, Error::Duplicate { .. }), "{names:?}: {error}");
    }
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("imagesTr")).unwrap();
    let error = refused(root.path());
    assert!(matches!(&error, Error::NoLayout { empty, .. } if empty.len() == 1), "{error}");
    assert!(error.to_string().contains("imagesTr holds no image"), "{error}");
}

fn nnunet_json(root: &Path, json: &str) -> Result<Cohort> {
    put(&root.join("imagesTr/a_0000.nii.gz"), "");
    put(&root.join("dataset.json"), json);
    Cohort::open(root, None)
}

#[test]
fn channels_and_labels_go_by_name() {
    let root = tempfile::tempdir().unwrap();
    let labels =
        r#""labels": {"background": 0, "NCR/NET": 1, "peritumoral oedema": 2, "Enhancing_Tumour": 3}"#;
    for (channels, expected) in [
        (r#"{"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}"#, "0 flair, 1 t1, 2 t1ce, 3 t2"),
        (r#"["t2-flair", "T1-Gd", "T1 native", "T2"]"#, "0 flair, 1 t1ce, 2 t1, 3 t2"),
        (r#"{"3": "t1n", "2": "t1c", "1": "t2w", "0": "t2f"}"#, "0 flair, 1 t2, 2 t1ce, 3 t1"),
        (
            r#"{"0": "ADC", "1": "T1", "2": "T1ce", "3": "T2", "4": "Flair"}"#,
            "0 other, 1 t1, 2 t1ce, 3 t2, 4 flair",
        ),
    ] {
        let cohort =
            nnunet_json(root.path(), &format!(r#"{{"channel_names": {channels}, {labels}}}"#)).unwrap();
        assert_eq!(cohort.describe_channels(), expected);
        assert_eq!(cohort.scheme, LabelScheme::Brats2023);
    }
    for (channels, part) in [
        (r#"{"0": "T1", "1": "T1", "2": "T1ce", "3": "FLAIR"}"#, "once each"),
        (r#"{"0": "CT", "1": "T1", "2": "T1ce", "3": "FLAIR"}"#, "\"CT\" is no name known"),
        (r#"{"1": "T2", "2": "T1", "3": "T1ce", "4": "FLAIR"}"#, "from 0 on"),
        (r#"{"0": 1, "1": "T1", "2": "T1ce", "3": "FLAIR"}"#, "a name for each channel"),
        (r#""T1""#, "a name for each channel"),
    ] {
        let error =
            nnunet_json(root.path(), &format!(r#"{{"channel_names": {channels}, {labels}}}"#)).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Declaration { .. }), "{text}");
        assert!(text.contains(part) && text.contains("input.channels="), "{text}");
    }
    let channels = r#""modality": {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"}"#;
    for (labels, expected) in [
        (r#"{"background": 0, "necrosis": 1, "edema": 2, "enhancing": 4}"#, "brats2017"),
        (r#"{"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}"#, "msd"),
        (r#"{"background": "0", "NET": "3", "ED": "1", "ET": "2"}"#, "ncr=3,ed=1,et=2"),
        (
            r#"{"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}"#,
            "msd",
        ),
        (r#"{"background": 0, "WT": [1, 2, 3], "TC": [3, 1], "ET": 3}"#, "brats2023"),
    ] {
        let cohort = nnunet_json(root.path(), &format!(r#"{{{channels}, "labels": {labels}}}"#)).unwrap();
        assert_eq!(cohort.scheme.name(), expected, "{labels}");
    }
    for (labels, part) in [
        (r#"{"background": 0, "necrosis": 1, "edema": 2, "tumour 3": 3}"#, "\"tumor3\" is no name known"),
        (r#"{"background": 0, "necrosis": 1, "edema": 2, "ET": 3, "resection cavity": 4}"#, "no name known"),
        (r#"{"background": 0, "necrosis": 1, "edema": 2}"#, "NCR/NET, ED and ET"),
        (r#"{"background": 1, "necrosis": 2, "edema": 3, "ET": 4}"#, "NCR/NET, ED and ET"),
        (r#"{"background": 0, "necrosis": 1, "edema": 1, "ET": 4}"#, "NCR/NET, ED and ET"),
        (r#"{"background": 0, "necrosis": 1, "NET": 2, "edema": 3, "ET": 4}"#, "NCR/NET, ED and ET"),
        (r#"{"background": 0, "WT": [1, 2, 3], "TC": [3, 4], "ET": 3}"#, "NCR/NET, ED and ET"),
        (r#"{"background": 0, "WT": [1, 2, 3, 4], "TC": [2, 3], "ET": 3}"#, "NCR/NET, ED and ET"),
        (r#"{"background": 0, "necrosis": 300, "edema": 2, "ET": 3}"#, "NCR/NET, ED and ET"),
        (r#"{"background": 0, "necrosis": {}, "edema": 2, "ET": 3}"#, "\"necrosis\": {}"),
        ("[]", "no labels"),
    ] {
        let error = nnunet_json(root.path(), &format!(r#"{{{channels}, "labels": {labels}}}"#)).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Declaration { .. }), "{text}");
        assert!(text.contains(part) && text.contains("input.label_scheme="), "{part}: {text}");
    }
    for json in ["", "[1]", "{\"labels\""] {
        let error = nnunet_json(root.path(), json).unwrap_err();
        assert!(matches!(error, Error::Declaration { .. }), "{json}: {error}");
    }
}

#[test]
fn msd_is_what_its_file_says_or_nothing() {
    let root = tempfile::tempdir().unwrap();
    let laid = write_five(root.path(), &[known("a", 0)]);
    let msd = &laid[3].root;
    let json = msd.join("dataset.json");
    for (from, to, key) in [
        ("\"0\": \"FLAIR\", \"1\": \"T1w\"", "\"1\": \"FLAIR\", \"0\": \"T1w\"", "input.channels="),
        ("\"1\": \"edema\", \"2\": \"non", "\"2\": \"edema\", \"1\": \"non", "input.label_scheme="),
        ("T2w", "ADC", "input.channels="),
    ] {
        let changed = MSD_JSON.replace(from, to);
        assert_ne!(changed, MSD_JSON);
        std::fs::write(&json, changed).unwrap();
        let error = refused(msd).to_string();
        assert!(error.contains(key) && error.contains("dataset.json"), "{error}");
    }
    std::fs::remove_file(&json).unwrap();
    let cohort = Cohort::open(msd, None).unwrap();
    assert_eq!((cohort.scheme, cohort.channels), (LabelScheme::Msd, Some(Channels::MSD)));
    assert!(cohort.why[1].contains("no dataset.json"), "{:?}", cohort.why);

    // A file of another number of channels, or 3-D, or with a channel of zeros.
    let (case, path) = (known("a", 0), msd.join("imagesTr/a.nii.gz"));
    let stack = |channels: &[usize]| {
        let images: Vec<_> = channels.iter().map(|&m| case.images.index_axis(Axis(0), m)).collect();
        write_stack(&path, &images, &along(&case.grid, "PIR"));
        Cohort::open(msd, None).unwrap()
    };
    for channels in [&[3, 0, 1][..], &[3, 0, 1, 2, 2]] {
        let cohort = stack(channels);
        let error = cohort.cases[0].load().unwrap_err();
        assert!(matches!(error, Error::NotStacked { expected: 4, .. }), "{error}");
        let faults = check(&cohort);
        assert!(faults.len() == 1 && faults[0].expected.contains("4-D image of 4"), "{faults:?}");
    }
    write_image(&path, case.images.index_axis(Axis(0), 0), &case.grid).unwrap();
    let error = Cohort::open(msd, None).unwrap().cases[0].load().unwrap_err();
    assert!(matches!(error, Error::NotStacked { .. }), "{error}");
    let zeros = Array3::zeros(SHAPE);
    let images = [case.images.index_axis(Axis(0), 0), zeros.view(), zeros.view(), zeros.view()];
    write_stack(&path, &images, &case.grid);
    let faults = check(&Cohort::open(msd, None).unwrap());
    assert!(faults.len() == 1 && faults[0].expected.contains("channel 1"), "{faults:?}");
}

#[test]
fn a_channel_that_is_not_used_may_come_first_or_last() {
    let root = tempfile::tempdir().unwrap();
    let case = known("a", 3);
    let [of_case, other] = [&case.images, &known("b", 9).images].map(|images| images.clone());
    let images: Vec<_> = (0..4).map(|m| of_case.index_axis(Axis(0), m)).collect();
    for (n, at) in [0, 2, 4].into_iter().enumerate() {
        let mut names = vec!["t1", "t1ce", "t2", "flair"];
        let mut all = images.clone();
        names.insert(at, "other");
        all.insert(at, other.index_axis(Axis(0), 0));
        let folder = root.path().join(n.to_string());
        let path = folder.join("imagesTr/a.nii");
        std::fs::create_dir_all(folder.join("imagesTr")).unwrap();
        write_stack(&path, &all, &along(&case.grid, "PIR"));
        if n == 0 {
            // A header extension of 16 bytes, and the voxels behind it.
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[108..112].copy_from_slice(&368_f32.to_le_bytes());
            bytes[348] = 1;
            bytes.splice(352..352, [16, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            std::fs::write(&path, bytes).unwrap();
        }
        let channels = Channels::declared(&names).unwrap();
        let declared = Declared { channels: Some(channels), ..Declared::default() };
        let cohort = Cohort::open_as(&folder, &declared).unwrap();
        assert_eq!(cohort.cases[0].load().unwrap().modalities, case.images, "{names:?}");
    }
}

#[test]
fn cases_to_predict_lie_in_a_folder_of_their_own() {
    let root = tempfile::tempdir().unwrap();
    let cases = [known("a", 0), known("b", 5)];
    for laid in &write_five(root.path(), &cases)[3..] {
        // b becomes a case to predict.
        let test = laid.root.join("imagesTs");
        std::fs::create_dir(&test).unwrap();
        for entry in std::fs::read_dir(laid.root.join("imagesTr")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_owned();
            if name.to_string_lossy().starts_with('b') {
                std::fs::rename(path, test.join(name)).unwrap();
            }
        }
        let ids = |folder: &Path| -> Vec<(String, bool)> {
            let cohort = Cohort::open(folder, None).unwrap();
            assert_eq!(cohort.layout, laid.layout);
            cohort.cases.into_iter().map(|case| (case.id, case.reference.is_some())).collect()
        };
        assert_eq!(ids(&laid.root), [("a".to_string(), true)]);
        assert_eq!(ids(&laid.root.join("imagesTr")), [("a".to_string(), true)]);
        assert_eq!(ids(&test), [("b".to_string(), false)]);
        let loaded = Cohort::open(&test, None).unwrap().cases[0].load().unwrap();
        assert_eq!(loaded.modalities, cases[1].images);
        // Its reference has no images in imagesTr now.
        let faults = check(&Cohort::open(&laid.root, None).unwrap());
        assert!(faults.len() == 1 && faults[0].file.ends_with("labelsTr/b.nii.gz"), "{faults:?}");
        // Without training images the data set is its test cases.
        std::fs::remove_dir_all(laid.root.join("imagesTr")).unwrap();
        assert_eq!(ids(&laid.root), [("b".to_string(), false)]);
    }
}

#[test]
fn a_missing_or_superfluous_channel_is_named() {
    let root = tempfile::tempdir().unwrap();
    let laid = write_five(root.path(), &[known("a", 0)]);
    let images = laid[4].root.join("imagesTr");
    std::fs::copy(images.join("a_0001.nii.gz"), images.join("a_0004.nii.gz")).unwrap();
    std::fs::remove_file(images.join("a_0001.nii.gz")).unwrap();
    let cohort = Cohort::open(&laid[4].root, None).unwrap();
    assert!(matches!(cohort.require_modalities(), Err(Error::MissingModality { modality: "flair", .. })));
    let faults = check(&cohort);
    let files: Vec<_> =
        faults.iter().map(|fault| fault.file.file_name().unwrap().to_string_lossy()).collect();
    assert_eq!(files, ["a_0001.nii.gz", "a_0004.nii.gz"]);
    std::fs::remove_file(laid[2].root.join("a/a-t2w.nii.gz")).unwrap();
    let faults = check(&Cohort::open(&laid[2].root, None).unwrap());
    assert!(faults.len() == 1 && faults[0].file.ends_with("a/a-t2w.nii.gz"), "{faults:?}");
    assert!(NNUNET_JSON.contains("T1Gd"));
}

#[test]
fn orders_of_channels_can_be_declared_and_read_back() {
    let channels = Channels::declared(&["other", "t2", "flair", "t1", "other", "t1ce"]).unwrap();
    assert_eq!((channels.place(), channels.count()), ([3, 5, 1, 2], 6));
    assert_eq!(Channels::declared(&channels.names()).unwrap(), channels);
    assert_eq!(Channels::declared(&Channels::MSD.names()).unwrap(), Channels::MSD);
    for bad in
        [&["t1", "t1ce", "t2"][..], &["t1", "t1ce", "t2", "t2", "flair"], &["t1", "t1ce", "t2", "FLAIR"]]
    {
        assert!(matches!(Channels::declared(bad), Err(Error::UnknownName { .. })), "{bad:?}");
    }
    // A pair of files is read like any other image.
    let root = tempfile::tempdir().unwrap();
    let case = known("a", 0);
    write_case(root.path(), "a", case.images.view(), None, &case.grid).unwrap();
    let t2 = root.path().join("a/a_t2.nii.gz");
    let plain = root.path().join("plain.nii");
    write_image(&plain, case.images.index_axis(Axis(0), 2), &case.grid).unwrap();
    let mut bytes = std::fs::read(&plain).unwrap();
    std::fs::remove_file(plain).unwrap();
    std::fs::remove_file(t2).unwrap();
    bytes[344..348].copy_from_slice(b"ni1\0");
    bytes[108..112].copy_from_slice(&0_f32.to_le_bytes());
    std::fs::write(root.path().join("a/a_t2.hdr"), &bytes[..348]).unwrap();
    std::fs::write(root.path().join("a/a_t2.img"), &bytes[352..]).unwrap();
    let cohort = Cohort::open(root.path(), None).unwrap();
    assert_eq!(cohort.cases[0].load().unwrap().modalities, case.images);
    let files = cohort.cases[0].files().unwrap();
    assert!(
        files.iter().any(|(name, path)| name == "t2 voxels" && path.ends_with("a/a_t2.img")),
        "{files:?}"
    );
}
