//! Figures that are to be published: two predictions compared, and a cross-validation.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use common::{case_name, file, files, line, tiny_cohort};
use scribseg_io::{LabelScheme, read_geometry, read_segmentation, write_labels};
use serde_json::Value;
use std::path::Path;

const TINY: &str = "--preset smoke --set network.width=4 --set network.depth=2 --set train.batch=2 --set wt.iterations=3 --set wt.crf_iterations=1 --set sub.iterations=2 --set sub.crf_iterations=1 --set scribble.erode_healthy_mm=8";

/// Writes each reference with the last `lost` slices of its tumour taken away.
fn predictions(cohort: &Path, folder: &Path, cases: usize, lost: impl Fn(usize) -> usize) {
    std::fs::create_dir_all(folder).unwrap();
    for index in 0..cases {
        let path = file(cohort, index, "seg");
        let grid = read_geometry(&path).unwrap();
        let mut labels = read_segmentation(&path, &grid, LabelScheme::Brats2017).unwrap();
        let depth = labels.dim().0;
        labels.slice_mut(ndarray::s![depth - 1 - lost(index).., .., ..]).fill(0);
        let labels = LabelScheme::Brats2017.from_internal(labels.view()).unwrap();
        write_labels(folder.join(format!("{}_seg.nii.gz", case_name(index))), labels.view(), &grid).unwrap();
    }
}

#[test]
fn two_predictions_are_compared_scan_by_scan() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 6);
    let (good, bad, out) = (folder.path().join("good"), folder.path().join("bad"), folder.path().join("out"));
    predictions(&cohort, &good, 6, |i| i % 2);
    predictions(&cohort, &bad, 5, |i| 2 + i % 2);
    let paths: [(&str, &Path); 4] = [("c", &cohort), ("a", &good), ("b", &bad), ("o", &out)];
    let command = "evaluate --reference {c} --prediction {a} --compare {b} --out {o}";
    let told = line(&format!("{command} --json"), &paths).succeeds();
    assert_eq!(told, std::fs::read_to_string(out.join("metrics.json")).unwrap());
    let json: Value = serde_json::from_str(&told).unwrap();
    let comparison = &json["comparison"];
    assert_eq!(comparison["scans"].as_array().unwrap().len(), 5);
    assert_eq!(comparison["only_prediction"][0], "case_5");
    let dice = &comparison["regions"]["WT"]["dice"];
    assert!(dice["difference"].as_f64().unwrap() > 0.2 && dice["ci95"][0].as_f64().unwrap() > 0.0, "{dice}");
    // Five differences of one sign, some of one size: the normal approximation, W = 0 of 15.
    assert_eq!(dice["wilcoxon"]["statistic"], 0.0);
    assert!(dice["wilcoxon"]["p"].as_f64().unwrap() < 0.07, "{dice}");
    assert_eq!(json["intervals"]["resamples"], 10_000);
    let interval = &json["regions"]["WT"]["dice"]["ci95"];
    assert!(interval[0].as_f64().unwrap() < interval[1].as_f64().unwrap());
    assert_eq!(
        line(&format!("{command} --json --threads 1"), &paths).succeeds(),
        told,
        "whatever the threads"
    );
    let csv = std::fs::read_to_string(out.join("comparison.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 5 * 3 * 10);

    let told = line(command, &paths).succeeds();
    for words in
        ["less those of", "Wilcoxon", "on the 5 scans", "all scans together", "10000 bootstrap resamples"]
    {
        assert!(told.contains(words), "{words}: {told}");
    }
    line("evaluate --reference {c} --prediction {a} --out {o}", &paths).succeeds();
    assert_eq!(files(&out), ["metrics.csv", "metrics.json"], "no comparison of an earlier call stays");
    std::fs::write(out.join("comparison.csv"), "mine").unwrap();
    line(command, &paths).refuses(1, &["comparison.csv", "not written by scribseg"]);
    assert_eq!(std::fs::read_to_string(out.join("comparison.csv")).unwrap(), "mine");
}

#[test]
fn folds_hold_every_scan_out_once_and_are_taken_up_where_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 5);
    let (run, out) = (folder.path().join("run"), folder.path().join("out"));
    let paths: [(&str, &Path); 3] = [("c", &cohort), ("r", &run), ("o", &out)];
    let fit = format!("fit {{c}} --out {{r}} {TINY} --folds 2 --json");
    let first = line(&fit, &paths).succeeds();
    let json: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(json["folds"].as_array().unwrap().len(), 2);
    assert_eq!(json["test"].as_array().unwrap().len(), 5, "every scan has a reference");
    assert_eq!(json["metrics"]["cases"].as_array().unwrap().len(), 5);
    let split: Value = serde_json::from_slice(&std::fs::read(run.join("split.json")).unwrap()).unwrap();
    assert_eq!(split["folds"], json["folds"]);
    for name in ["split.json", "models/sub.safetensors", "metrics.json", "report.html"] {
        for fold in ["fold-1", "fold-2"] {
            assert!(run.join(fold).join(name).is_file(), "{fold}/{name} in {:?}", files(&run));
        }
    }
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("cross-validation of 2 folds"));
    let metrics = std::fs::read(run.join("metrics.json")).unwrap();

    // Cut short in the second fold: the first is left alone.
    let model = std::fs::read(run.join("fold-2/models/sub.safetensors")).unwrap();
    for name in ["metrics.csv", "metrics.json", "fold-2/metrics.csv", "fold-2/models/sub.safetensors"] {
        std::fs::remove_file(run.join(name)).unwrap();
    }
    let told = line(&fit, &paths);
    assert!(
        told.stderr.contains("fold 1 is done") && !told.stderr.contains("fold 2 is done"),
        "{}",
        told.stderr
    );
    assert_eq!(told.succeeds(), first);
    assert_eq!(std::fs::read(run.join("fold-2/models/sub.safetensors")).unwrap(), model);
    assert_eq!(std::fs::read(run.join("metrics.json")).unwrap(), metrics);

    let told = line("evaluate --reference {c} --prediction {r} --out {o} --json", &paths).succeeds();
    assert_eq!(told.as_bytes(), metrics, "the figures are those of the files in the folds");
    line(&fit.replace("--folds 2 ", ""), &paths).refuses(1, &["folds = 0", "folds = 2"]);
    line(&fit.replace("--folds 2", "--folds 3"), &paths).refuses(1, &["folds = 3"]);
    line("predict --model {r} {c} --out {o}", &paths).refuses(1, &["folds of a cross-validation", "fold-1"]);
}

#[test]
fn folds_that_cannot_be_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 3);
    let (run, scribbles) = (folder.path().join("run"), folder.path().join("s"));
    let paths: [(&str, &Path); 3] = [("c", &cohort), ("r", &run), ("s", &scribbles)];
    let fit = format!("fit {{c}} --out {{r}} {TINY}");
    line(&format!("{fit} --folds 4"), &paths).refuses(1, &["input.folds", "2 to 3", "found 4"]);
    line(&format!("{fit} --folds 1"), &paths).refuses(2, &["--folds"]);
    line(&format!("{fit} --set input.folds=1"), &paths).refuses(2, &["input.folds", "2 to 100"]);
    line("reproduce --cohort {c} --out {r} --set input.folds=2", &paths)
        .refuses(1, &["input.folds", "fit --folds"]);
    // Each scan trains in some fold: a scribble that is missing is told before the first.
    line("scribble {c} --out {s} --set scribble.erode_healthy_mm=8", &paths).succeeds();
    std::fs::remove_file(scribbles.join("case_1_scribble.nii.gz")).unwrap();
    line(&format!("{fit} --scribbles {{s}} --folds 3"), &paths).refuses(1, &["case_1", "scribble"]);
    assert!(files(&run).is_empty(), "{:?}", files(&run));
}
