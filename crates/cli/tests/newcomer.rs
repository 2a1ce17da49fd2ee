//! What a newcomer's cohort may hold: faults that `check` must know of when `fit` does, and cases left out in silence.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use common::{case_name, file, files, line, tiny_cohort};
use ndarray::Array3;
use scribseg_io::{ScribbleMapping, read_geometry, read_scribble, write_image, write_labels};
use std::path::Path;

const TINY: &str = "--preset smoke --set network.width=4 --set network.depth=2 --set train.batch=2 --set wt.iterations=2 --set wt.crf_iterations=1 --set sub.iterations=2 --set sub.crf_iterations=1 --set scribble.erode_healthy_mm=8";
const SCRIBBLE: &str = "scribble {c} --out {s} --set scribble.erode_healthy_mm=8";

#[test]
fn a_reference_without_a_tumour_is_found_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 3);
    let (scribbles, run) = (folder.path().join("s"), folder.path().join("run"));
    let paths: [(&str, &Path); 3] = [("c", &cohort), ("s", &scribbles), ("r", &run)];
    line(SCRIBBLE, &paths).succeeds();
    for index in 0..3 {
        let reference = file(&cohort, index, "seg");
        let grid = read_geometry(&reference).unwrap();
        write_labels(&reference, Array3::<u8>::zeros(common::SHAPE).view(), &grid).unwrap();
    }
    let told = line("check {c} --scribbles {s}", &paths);
    assert_eq!(told.status, 1);
    assert!(
        told.stdout.contains("case_1_seg.nii.gz") && told.stdout.contains("--presence"),
        "{}",
        told.stdout
    );
    line(&format!("fit {{c}} --out {{r}} --scribbles {{s}} {TINY}"), &paths)
        .refuses(1, &["background only", "--presence"]);
    assert!(files(&run).is_empty());
}

#[test]
fn two_values_of_scribbles_change_places() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 2);
    let scribbles = folder.path().join("s");
    let paths: [(&str, &Path); 2] = [("c", &cohort), ("s", &scribbles)];
    line(SCRIBBLE, &paths).succeeds();
    let (tumour, healthy) = ("input.scribble_values.tumour=[2]", "input.scribble_values.healthy=[1]");
    for (first, second) in [(tumour, healthy), (healthy, tumour)] {
        line(&format!("check {{c}} --scribbles {{s}} --set {first} --set {second}"), &paths).succeeds();
    }
}

#[test]
fn no_synthetic_scan_goes_into_the_run_of_a_cohort() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 3);
    let run = folder.path().join("run");
    let paths: [(&str, &Path); 2] = [("c", &cohort), ("r", &run)];
    let reproduce = format!("reproduce --out {{r}} {TINY} --rows 1:SC");
    line(&format!("{reproduce} --cohort {{c}}"), &paths).succeeds();
    let before = files(&run);
    line(&reproduce, &paths).refuses(1, &["a cohort of your own", "--cohort"]);
    assert_eq!(files(&run), before);
    assert!(!std::fs::read_to_string(run.join("report.html")).unwrap().contains("The cohort is synthetic"));
}

#[test]
fn a_synthetic_cohort_is_of_the_size_that_was_asked_for_and_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (run, own) = (folder.path().join("run"), tiny_cohort(folder.path(), 1));
    let paths: [(&str, &Path); 2] = [("r", &run), ("c", &own)];
    line("phantom --out {c} --cases 1 --seed 1 --size half", &paths).refuses(1, &["not empty", "--out"]);
    line("phantom --out {r}/cohort --cases 3 --seed 2019 --size half", &paths).succeeds();
    let reproduce = format!("reproduce --out {{r}} {TINY} --rows 1:SC --set phantom.cases");
    line(&format!("{reproduce}=2"), &paths).refuses(1, &["phantom.cases", "found 3"]);
    line(&format!("{reproduce}=3"), &paths).succeeds();
    assert!(std::fs::read_to_string(run.join("report.html")).unwrap().contains("The cohort is synthetic"));
}

#[test]
fn no_case_is_left_out_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 3);
    let paths: [(&str, &Path); 1] = [("c", &cohort)];
    // Capital letters in the ending are an ending.
    for what in ["t1", "t1ce", "t2", "flair", "seg"] {
        let path = file(&cohort, 2, what);
        std::fs::rename(&path, path.with_file_name(format!("case_2_{what}.NII.GZ"))).unwrap();
    }
    assert!(line("check {c}", &paths).succeeds().starts_with("3 cases, 3 with a reference"));
    let deep = cohort.join("site");
    std::fs::create_dir(&deep).unwrap();
    std::fs::rename(cohort.join(case_name(1)), deep.join(case_name(1))).unwrap();
    let told = line("check {c}", &paths);
    assert_eq!(told.status, 1);
    assert!(told.stdout.contains("case_1") && told.stdout.contains("deeper"), "{}", told.stdout);
    let run = folder.path().join("run");
    let told = line(&format!("fit {{c}} --out {{r}} {TINY}"), &[("c", &cohort), ("r", &run)]);
    assert_eq!(told.status, 0, "{}", told.stderr);
    assert!(told.stderr.contains("site") && told.stderr.contains("left out"), "{}", told.stderr);
}

#[test]
fn a_background_that_is_not_zero_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 2);
    let path = file(&cohort, 1, "t2");
    let volume = scribseg_io::Volume::read(&path).unwrap();
    write_image(&path, volume.data.mapv(|v| v + 12.0).view(), &volume.geometry).unwrap();
    let told = line("check {c}", &[("c", &cohort)]);
    assert_eq!(told.status, 1);
    assert!(told.stdout.contains("case_1") && told.stdout.contains("background"), "{}", told.stdout);
    assert!(!told.stdout.contains("case_0"), "{}", told.stdout);
}

#[test]
fn a_scribble_is_drawn_once_and_on_both_kinds() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 2);
    let (scribbles, weak) = (folder.path().join("s"), folder.path().join("w"));
    let paths: [(&str, &Path); 3] = [("c", &cohort), ("s", &scribbles), ("w", &weak)];
    line("scribble {c} --out {s} --set input.crop_mm=16", &paths)
        .refuses(1, &["case_0", "healthy brain", "input.crop_mm"]);
    line(SCRIBBLE, &paths).succeeds();
    let drawn = scribbles.join("case_1_scribble.nii.gz");
    let grid = read_geometry(&drawn).unwrap();
    let labels = read_scribble(&drawn, &grid, &ScribbleMapping::default()).unwrap();
    write_labels(scribbles.join("case_1_scribble.nii"), labels.view(), &grid).unwrap();
    line("propagate {c} --scribbles {s} --out {w}", &paths).refuses(1, &["case_1", "second"]);
    let told = line("check {c} --scribbles {s}", &paths);
    assert_eq!(told.status, 1);
    assert!(told.stdout.contains("case_1_scribble"), "{}", told.stdout);
}
