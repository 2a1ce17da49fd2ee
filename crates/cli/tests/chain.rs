//! From a cohort to a report, verb by verb, and the promises about what is printed where.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use common::{files, line, tiny_cohort};
use serde_json::Value;
use std::path::Path;

const TINY: &str = "--set network.width=4 --set network.depth=2 --set train.batch=4 --set train.learning_rate=0.1 --set wt.iterations=60 --set wt.crf_iterations=4 --set sub.iterations=8 --set sub.crf_iterations=4 --set scribble.erode_healthy_mm=8";

#[test]
fn the_single_steps_follow_on_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 2);
    let (scribbles, weak, seg) =
        (folder.path().join("scribbles"), folder.path().join("weak"), folder.path().join("seg"));
    let paths: [(&str, &Path); 4] = [("c", &cohort), ("s", &scribbles), ("w", &weak), ("g", &seg)];
    let told = line("scribble {c} --out {s} --set scribble.erode_healthy_mm=8", &paths).succeeds();
    assert_eq!(told.lines().count(), 2, "one path a line: {told}");
    assert_eq!(files(&scribbles), ["case_0_scribble.nii.gz", "case_1_scribble.nii.gz"]);
    line("check {c} --scribbles {s}", &paths).succeeds();
    let told = line("propagate {c} --scribbles {s} --out {w} --json", &paths).succeeds();
    let json: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(json["files"].as_array().unwrap().len(), 2);
    assert_eq!(files(&weak), ["case_0_weak.nii.gz", "case_1_weak.nii.gz"]);
    let told =
        line("cluster {c} --masks reference --out {g} --method kmeans --evaluate --json", &paths).succeeds();
    let json: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(json["metrics"]["regions"]["WT"]["dice"]["mean"].as_f64(), Some(1.0), "the true whole tumour");
    assert_eq!(files(&seg), ["case_0_seg.nii.gz", "case_1_seg.nii.gz"]);
}

#[test]
fn a_reference_is_itself_and_the_figures_name_scheme_and_policy() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 2);
    let out = folder.path().join("figures");
    let paths: [(&str, &Path); 2] = [("c", &cohort), ("o", &out)];
    let told = line("evaluate --reference {c} --prediction {c} --out {o} --json", &paths).succeeds();
    assert_eq!(told, std::fs::read_to_string(out.join("metrics.json")).unwrap());
    let json: Value = serde_json::from_str(&told).unwrap();
    for region in ["WT", "TC", "ET"] {
        assert_eq!(json["regions"][region]["dice"]["mean"].as_f64(), Some(1.0), "{region}");
        assert_eq!(json["regions"][region]["hd95"]["mean"].as_f64(), Some(0.0), "{region}");
    }
    assert!(json["label_scheme"].as_str().unwrap().contains("brats2017"));
    assert_eq!(json["empty_policy"].as_str(), Some("brats"));
    let told = line("evaluate --reference {c} --prediction {c} --out {o} --empty skip", &paths).succeeds();
    assert!(told.contains("brats2017") && told.contains("WT      1.0000"), "{told}");
    assert_eq!(std::fs::read_to_string(out.join("metrics.csv")).unwrap().lines().count(), 1 + 2 * 3);
}

#[test]
fn fit_then_predict_then_report_and_a_second_fit_has_nothing_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 4);
    let (run, out) = (folder.path().join("run"), folder.path().join("predictions"));
    let paths: [(&str, &Path); 3] = [("c", &cohort), ("r", &run), ("p", &out)];
    let fit = format!("fit {{c}} --out {{r}} --preset smoke {TINY} --json");
    let first = line(&fit, &paths).succeeds();
    let json: Value = serde_json::from_str(&first).unwrap();
    assert!(!json["train"].as_array().unwrap().is_empty() && !json["test"].as_array().unwrap().is_empty());
    for name in [
        "config.toml",
        "split.json",
        "models/wt.safetensors",
        "models/sub.safetensors",
        "metrics.json",
        "metrics.csv",
        "report.html",
    ] {
        assert!(run.join(name).is_file(), "{name} in {:?}", files(&run));
    }
    assert!(!files(&run).iter().any(|f| f.contains("tmp")), "{:?}", files(&run));
    let models = std::fs::read(run.join("models/sub.safetensors")).unwrap();
    assert_eq!(line(&fit, &paths).succeeds(), first, "a finished run says the same again");
    assert_eq!(std::fs::read(run.join("models/sub.safetensors")).unwrap(), models);
    line(&fit.replace("train.batch=4", "train.batch=3"), &paths).refuses(1, &["batch"]);

    let told = line("predict --model {r} {c} --out {p} --threads 1 --quiet", &paths).succeeds();
    assert_eq!(told.lines().count(), 4);
    line("evaluate --reference {c} --prediction {p}", &paths).succeeds();
    assert!(out.join("metrics.json").is_file());

    let page = std::fs::read(run.join("report.html")).unwrap();
    let text = String::from_utf8_lossy(&page);
    for column in ["this run", "smoke", "phantom", "paper"] {
        assert!(text.contains(&format!(">{column}</th>")), "no settings of {column}");
    }
    line("report {r}", &paths).succeeds();
    assert_eq!(std::fs::read(run.join("report.html")).unwrap(), page, "a report is made of the run alone");
    let page = String::from_utf8(page).unwrap();
    for word in ["KM+SC+CRF", "SC+GC+CRF", "learning_rate", "brats2017", "models/wt.safetensors"] {
        assert!(page.contains(word), "{word}");
    }
}

#[test]
fn with_the_mixture_the_stages_the_files_and_the_report_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 4);
    let (run, seg) = (folder.path().join("run"), folder.path().join("seg"));
    let paths: [(&str, &Path); 3] = [("c", &cohort), ("r", &run), ("g", &seg)];
    let fit = format!("fit {{c}} --out {{r}} --preset smoke {TINY} --set cluster.method=mixture");
    let told = line(&format!("{fit} --dry-run"), &paths).succeeds();
    for words in ["sub-mx-sc", "wt,mixture}.nii.gz", "clustering"] {
        assert!(told.contains(words), "no {words} in {told}");
    }
    assert!(!told.contains("k-means") && !told.contains("sub-km-sc"), "{told}");
    line(&fit, &paths).succeeds();
    assert!(run.join("models/sub-mx-sc.safetensors").is_file());
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("MX+SC+CRF (a mixture in place of k-means)") && !page.contains("KM+SC"));
    assert_eq!(
        page.matches(">MX+SC<").count(),
        page.matches(">MX+SC+CRF<").count(),
        "both curves have a title"
    );

    let told = line("cluster {c} --masks reference --out {g} --method mixture --evaluate", &paths).succeeds();
    let scans = told.split("Dice of each scan").nth(1).unwrap();
    for scan in ["case_0", "case_1", "case_2", "case_3"] {
        let row = scans.lines().find(|row| row.starts_with(scan)).unwrap();
        assert_eq!(row.split_whitespace().nth(1), Some("1.0000"), "the true whole tumour: {row}");
    }
}

#[test]
fn reproduce_writes_its_five_files() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 4);
    let run = folder.path().join("run");
    let paths: [(&str, &Path); 2] = [("c", &cohort), ("r", &run)];
    let told =
        line(&format!("reproduce --preset smoke --cohort {{c}} --rows SC,2:KM --out {{r}} {TINY}"), &paths)
            .succeeds();
    assert_eq!(told, std::fs::read_to_string(run.join("table1.md")).unwrap());
    let json: Value = serde_json::from_slice(&std::fs::read(run.join("table1.json")).unwrap()).unwrap();
    let methods: Vec<_> =
        json["rows"].as_array().unwrap().iter().map(|r| r["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["SC", "KM"]);
    for name in ["fig2.png", "fig3.png"] {
        let png = std::fs::read(run.join(name)).unwrap();
        assert_eq!(&png[1..4], b"PNG", "{name}");
    }
    assert!(std::fs::read_to_string(run.join("report.html")).unwrap().contains("2 of the 12 rows"));
}

#[test]
fn phantom_writes_what_check_accepts_and_leaves_cases_that_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = folder.path().join("phantom");
    let paths: [(&str, &Path); 1] = [("c", &cohort)];
    line("phantom --out {c} --cases 1 --seed 3 --size half", &paths).succeeds();
    let flair = cohort.join("Phantom_0000/Phantom_0000_flair.nii.gz");
    let first = std::fs::metadata(&flair).unwrap().modified().unwrap();
    line("phantom --out {c} --cases 2 --seed 3 --size half --json", &paths).succeeds();
    assert_eq!(std::fs::metadata(&flair).unwrap().modified().unwrap(), first);
    assert!(line("check {c}", &paths).succeeds().starts_with("2 cases, 2 with a reference"));
}

#[cfg(unix)]
#[test]
fn a_reader_that_leaves_is_no_error() {
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 1);
    let mut child = Command::new(env!("CARGO_BIN_EXE_scribseg"))
        .arg("check")
        .arg(&cohort)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("error"));
}
