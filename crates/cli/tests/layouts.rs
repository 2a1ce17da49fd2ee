//! One cohort in five layouts: the same prepared data, and answers in each one's own grid and label scheme.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../../io/tests/common/mod.rs"]
mod cohorts;
mod common;

use cohorts::{Known, write_five};
use common::{line, tiny_cohort};
use scribseg_io::{Cohort, LabelVolume, read_geometry, read_segmentation};
use scribseg_pipeline::{Config, Scan};
use serde_json::Value;
use std::path::Path;

fn known(cohort: &Path) -> Vec<Known> {
    let cohort = Cohort::open(cohort, None).unwrap();
    let load = |case: &scribseg_io::Case| {
        let loaded = case.load().unwrap();
        Known { id: loaded.id, images: loaded.modalities, labels: loaded.reference, grid: loaded.geometry }
    };
    cohort.cases.iter().map(load).collect()
}

#[test]
fn five_layouts_prepare_the_same_data_and_are_answered_in_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 4);
    let cases = known(&cohort);
    let laid = write_five(&folder.path().join("five"), &cases);

    // Byte for byte what the networks see.
    let config = Config::default();
    let bits = |scan: &Scan| -> Vec<u32> { scan.image.iter().map(|v| v.to_bits()).collect() };
    let prepared = |root: &Path| -> Vec<Scan> {
        let cohort = Cohort::open(root, None).unwrap();
        cohort.cases.iter().map(|case| Scan::prepare(case.load().unwrap(), &config, 4).unwrap()).collect()
    };
    let first = prepared(&cohort);
    for laid in &laid {
        for (ours, first) in prepared(&laid.root).iter().zip(&first) {
            assert_eq!(bits(ours), bits(first), "{}", laid.root.display());
            assert_eq!((&ours.brain, &ours.reference, &ours.id), (&first.brain, &first.reference, &first.id));
            assert_eq!((ours.window, ours.shape), (first.window, first.shape));
        }
    }

    let run = folder.path().join("run");
    let fit = "fit {c} --out {r} --preset smoke --set network.width=4 --set network.depth=2 --set train.batch=4 --set train.learning_rate=0.1 --set wt.iterations=60 --set wt.crf_iterations=4 --set sub.iterations=8 --set sub.crf_iterations=4 --set scribble.erode_healthy_mm=8";
    line(fit, &[("c", &cohort), ("r", &run)]).succeeds();
    let mut answers = Vec::new();
    for (i, laid) in laid.iter().enumerate() {
        let out = folder.path().join(format!("answers-{i}"));
        let paths: [(&str, &Path); 3] = [("r", &run), ("i", &laid.root), ("o", &out)];
        line("predict --model {r} {i} --out {o} --threads 1 --quiet", &paths).succeeds();
        let mut codes = Vec::new();
        let opened = Cohort::open(&laid.root, None).unwrap();
        for case in &opened.cases {
            let answer = out.join(format!("{}_seg.nii.gz", case.id));
            // The scan's own grid, along its own axes, in values of its own scheme alone.
            let (grid, own) = (read_geometry(&answer).unwrap(), read_geometry(&case.paths[0]).unwrap());
            assert_eq!((grid.orientation().as_str(), grid.file_shape()), (laid.axes, own.file_shape()));
            assert_eq!(grid.affine(), own.affine());
            let values = LabelVolume::read(&answer).unwrap();
            let known = laid.scheme.values().map(i32::from);
            assert!(values.data.iter().all(|v| *v == 0 || known.contains(v)), "{}", laid.root.display());
            codes.push(read_segmentation(&answer, &grid, laid.scheme).unwrap());
        }
        assert!(codes.iter().any(|codes| codes.iter().any(|&code| code != 0)), "something was found");
        answers.push(codes);
        // Measured against the cohort's own references, in its own scheme.
        let told = line("evaluate --reference {i} --prediction {o} --json", &paths).succeeds();
        let json: Value = serde_json::from_str(&told).unwrap();
        assert!(json["label_scheme"].as_str().unwrap().starts_with(&laid.scheme.name()), "{json}");
        assert_eq!(json["cases"].as_array().unwrap().len(), 4);
    }
    assert!(answers.iter().all(|codes| *codes == answers[0]), "one cohort, one answer");
}

#[test]
fn check_says_what_it_took_a_cohort_for_and_asks_where_it_cannot_know() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 2);
    let laid = write_five(&folder.path().join("five"), &known(&cohort));
    for laid in &laid {
        let told = line("check {c} --json", &[("c", &laid.root)]).succeeds();
        let json: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(json["layout"].as_str(), Some(laid.layout.name()));
        assert!(json["label_scheme"].as_str().unwrap().starts_with(&laid.scheme.name()), "{json}");
        for key in ["layout", "label_scheme", "channels"] {
            assert!(!json["why"][key].as_str().unwrap().is_empty(), "{json}");
        }
        let told = line("check {c}", &[("c", &laid.root)]).stderr;
        assert!(told.contains(&format!("layout {}: file names such as ", laid.layout)), "{told}");
    }
    let nnunet = laid.last().unwrap().root.clone();
    std::fs::remove_file(nnunet.join("dataset.json")).unwrap();
    let paths: [(&str, &Path); 1] = [("c", &nnunet)];
    line("check {c}", &paths).refuses(1, &["dataset.json", "--set 'input.channels=["]);
    let order = "--set input.channels=[\"t2\",\"flair\",\"t1\",\"t1ce\"]";
    line(&format!("check {{c}} {order}"), &paths).refuses(1, &["--set input.label_scheme="]);
    let declared = format!("check {{c}} {order} --set input.label_scheme=ncr=2,ed=3,et=1");
    let told = line(&declared, &paths).stderr;
    assert!(told.contains("channels 0 t2, 1 flair, 2 t1, 3 t1ce: declared by input.channels"), "{told}");
    line(&format!("{declared} --set input.layout=brats2017"), &paths)
        .refuses(1, &["<id>_{t1,t1ce,t2,flair,seg}"]);
    for bad in ["input.layout=brats", "input.label_scheme=ncr=1,ed=1,et=3", "input.channels=[\"t1\"]"] {
        line(&format!("check {{c}} --set {bad}"), &paths).refuses(2, &[bad.split('=').next().unwrap()]);
    }
    line("predict --model {c} {c} --out {c} --set train.batch=3", &paths).refuses(2, &["input.layout"]);
}
