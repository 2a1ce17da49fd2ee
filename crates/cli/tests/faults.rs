//! What a user meets first: a wrong path, an empty folder, names of no layout. Each message says what to do.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use common::{files, line, tiny_cohort};
use std::path::Path;

#[test]
fn common_faults_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 3);
    let (nowhere, empty) = (folder.path().join("nowhere"), folder.path().join("empty"));
    let (strange, file) = (folder.path().join("strange"), cohort.join("case_0/case_0_t1.nii.gz"));
    std::fs::create_dir(&empty).unwrap();
    std::fs::create_dir_all(strange.join("a")).unwrap();
    std::fs::copy(&file, strange.join("a/T1.nii.gz")).unwrap();
    let out = folder.path().join("out");
    let paths: [(&str, &Path); 6] =
        [("c", &cohort), ("n", &nowhere), ("e", &empty), ("s", &strange), ("f", &file), ("o", &out)];
    for (words, told) in [
        ("check {n}", ["nowhere", "check the path"]),
        ("check {f}", ["found a file", "give the folder"]),
        ("check {e}", ["found none", "rename them"]),
        ("check {s}", ["a/T1.nii.gz", "input.layout"]),
        (
            "check {c} --set input.layout=brats2023",
            ["<id>-{t1n,t1c,t2w,t2f,seg}", "leave `input.layout` out"],
        ),
        ("check {c} --scribbles {n}", ["no such folder", "--scribbles"]),
        ("check {c} --presence {n}", ["participant_id", "--presence"]),
        ("fit {c} --out {o} --scribbles {n}", ["_scribble.nii.gz", "--scribbles"]),
        ("fit {c} --out {o} --scribbles {e}", ["case_0_scribble.nii.gz", "draw it"]),
        ("fit {c} --out {o} --scribbles {e} --dry-run", ["case_0_scribble.nii.gz", "draw it"]),
        ("fit {c} --out {o} --presence {n} --dry-run", ["no such file", "--presence"]),
        ("fit {c}/case_0 --out {o}", ["at least 2 cases", "point at the folder above"]),
        ("propagate {c} --scribbles {n} --out {o}", ["no such folder", "--scribbles"]),
        ("cluster {c} --masks {n} --out {o}", ["_wt.nii.gz", "--masks"]),
        ("predict --model {e} {c} --out {o}", ["wt.safetensors", "`--out` of a finished `fit`"]),
        ("evaluate --reference {n} --prediction {c}", ["no such folder", "--reference"]),
        ("evaluate --reference {c} --prediction {n}", ["as `predict` writes", "--prediction"]),
        ("evaluate --reference {c} --prediction {e}", ["found none", "predict --out"]),
        ("evaluate --reference {c} --prediction {c} --compare {n}", ["same scans", "--compare"]),
        ("report {e}", ["config.toml", "--out"]),
        ("config show --cohort {n}", ["nowhere", "check the path"]),
    ] {
        line(words, &paths).refuses(1, &told);
    }
    assert_eq!(files(&out), Vec::<String>::new());
}

#[test]
fn a_run_of_other_settings_says_how_to_go_on_with_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 3);
    let run = folder.path().join("run");
    let paths: [(&str, &Path); 2] = [("c", &cohort), ("r", &run)];
    let tiny = "--preset smoke --set train.batch=2 --set wt.iterations=2 --set wt.crf_iterations=1 --set sub.iterations=2 --set sub.crf_iterations=1 --set scribble.erode_healthy_mm=8";
    line(&format!("fit {{c}} --out {{r}} {tiny}"), &paths).succeeds();
    line(&format!("fit {{c}} --out {{r}} {tiny} --set seed=1"), &paths)
        .refuses(1, &["here `seed = 1`, there `seed = 0`", "--config", "run/config.toml"]);
    let told = line("fit {c} --out {r} --config {r}/config.toml", &paths);
    assert_eq!(told.status, 0, "{}", told.stderr);
    assert!(told.stderr.contains("done before"), "{}", told.stderr);
}
