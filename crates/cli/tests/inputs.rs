//! Bad input: exit status 1, the file and what is wrong with it in the message, nothing half-written.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use common::{case_name, file, line, nothing_written, tiny_cohort};
use ndarray::Array3;
use scribseg_io::{Geometry, write_labels};
use serde_json::Value;
use std::path::Path;

fn truncate(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

#[test]
fn a_sound_cohort_has_no_fault() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 3);
    let told = line("check {c}", &[("c", &cohort)]).succeeds();
    assert_eq!(
        told,
        "3 cases, 3 with a reference, labels brats2017 (0 background, 1 NCR/NET, 2 ED, 4 ET): no fault\n"
    );
    let json: Value = serde_json::from_str(&line("check {c} --json", &[("c", &cohort)]).succeeds()).unwrap();
    assert_eq!((json["cases"].as_u64(), json["layout"].as_str()), (Some(3), Some("brats2017")));
    assert_eq!(json["faults"].as_array().unwrap().len(), 0);
}

#[test]
fn every_fault_of_a_cohort_is_reported_by_file_in_one_go() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 6);
    std::fs::remove_file(file(&cohort, 0, "t2")).unwrap();
    truncate(&file(&cohort, 1, "flair"));
    std::fs::write(file(&cohort, 2, "t1"), b"not an image").unwrap();
    let grid = |spacing| Geometry::from_spacing(common::SHAPE, spacing).unwrap();
    let empty = Array3::<u8>::zeros(common::SHAPE);
    write_labels(file(&cohort, 3, "seg"), empty.view(), &grid([4.0, 4.0, 5.0])).unwrap();
    write_labels(file(&cohort, 4, "seg"), (empty + 3).view(), &grid(common::SPACING)).unwrap();
    let json: Value =
        serde_json::from_str(&line("check {c} --json", &[("c", &cohort)]).refuses(1, &[]).stdout).unwrap();
    let faults = json["faults"].as_array().unwrap();
    for (index, what) in [(0, "t2"), (1, "flair"), (2, "t1"), (3, "seg"), (4, "seg")] {
        let path = file(&cohort, index, what);
        let fault = faults.iter().find(|f| f["file"].as_str() == path.to_str());
        let fault = fault.unwrap_or_else(|| panic!("{} is not in {json}", path.display()));
        assert_eq!(fault["case"].as_str(), Some(case_name(index).as_str()));
        for part in ["expected", "found", "hint"] {
            assert!(!fault[part].as_str().unwrap().is_empty(), "{fault}");
        }
    }
    assert!(!faults.iter().any(|f| f["case"].as_str() == Some(&case_name(5))), "{json}");
    let text = line("check {c}", &[("c", &cohort)]).refuses(1, &[]).stdout;
    assert!(text.contains("case_1_flair.nii.gz: expected "), "{text}");
    assert!(text.ends_with(&format!("{} faults\n", faults.len())), "{text}");
}

#[test]
fn check_reads_scribbles_and_the_presence_table_too() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 2);
    let scribbles = folder.path().join("scribbles");
    std::fs::create_dir(&scribbles).unwrap();
    let grid = Geometry::from_spacing(common::SHAPE, common::SPACING).unwrap();
    let tumour_alone = Array3::from_elem(common::SHAPE, 1u8);
    write_labels(scribbles.join("case_0_scribble.nii.gz"), tumour_alone.view(), &grid).unwrap();
    std::fs::write(cohort.join("participants.tsv"), "participant_id\tED\tET\tNCR\ncase_0\t1\t2\t1\n")
        .unwrap();
    let told = line("check {c} --scribbles {s}", &[("c", &cohort), ("s", &scribbles)]).refuses(1, &[]).stdout;
    for word in [
        "case_0_scribble.nii.gz: expected a scribble on healthy",
        "case_1_scribble",
        "participants.tsv",
        "ET",
    ] {
        assert!(told.contains(word), "expected `{word}` in {told}");
    }
}

#[test]
fn a_missing_modality_stops_every_verb_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 2);
    std::fs::remove_file(file(&cohort, 1, "t1ce")).unwrap();
    let out = folder.path().join("out");
    for words in [
        "scribble {c} --out {o}/scribble",
        "cluster {c} --masks reference --out {o}/cluster",
        "fit {c} --out {o}/fit --preset smoke",
        "reproduce --preset smoke --cohort {c} --out {o}/reproduce",
    ] {
        line(words, &[("c", &cohort), ("o", &out)]).refuses(1, &["case_1_t1ce.nii.gz"]);
    }
    assert!(!common::files(&out).iter().any(|f| f.contains("case_1") || f.contains("tmp")));
}

#[test]
fn a_truncated_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 2);
    truncate(&file(&cohort, 0, "t2"));
    let out = folder.path().join("run");
    line("fit {c} --out {o} --preset smoke", &[("c", &cohort), ("o", &out)])
        .refuses(1, &["case_0_t2.nii.gz"]);
    nothing_written(&out);
}

#[test]
fn a_configuration_is_refused_by_file_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 2);
    let (config, out) = (folder.path().join("mine.toml"), folder.path().join("run"));
    for (text, word) in [
        ("[train]\nbatsh = 8\n", "train.batsh"),
        ("[train]\nbatch = \"many\"\n", "train.batch"),
        ("[train]\nbatch = 0\n", "train.batch"),
        ("[train\n", "mine.toml"),
    ] {
        std::fs::write(&config, text).unwrap();
        line("fit {c} --out {o} --config {f}", &[("c", &cohort), ("o", &out), ("f", &config)])
            .refuses(1, &[word, "mine.toml"]);
    }
    std::fs::remove_file(&config).unwrap();
    line("fit {c} --out {o} --config {f}", &[("c", &cohort), ("o", &out), ("f", &config)])
        .refuses(1, &["mine.toml"]);
    assert!(!out.exists());
}

#[test]
fn what_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 2);
    let (none, empty, out) =
        (folder.path().join("nowhere"), folder.path().join("empty"), folder.path().join("out"));
    std::fs::create_dir(&empty).unwrap();
    let paths: [(&str, &Path); 4] = [("c", &cohort), ("n", &none), ("e", &empty), ("o", &out)];
    for (words, word) in [
        ("check {n}", "nowhere"),
        ("check {e}", "empty"),
        ("fit {n} --out {o}", "nowhere"),
        ("propagate {c} --scribbles {n} --out {o}", "_scribble.nii.gz"),
        ("cluster {c} --masks {n} --out {o}", "_wt.nii.gz"),
        ("predict --model {n} {c} --out {o}", "wt.safetensors"),
        ("evaluate --reference {n} --prediction {c}", "nowhere"),
        ("evaluate --reference {c} --prediction {e}", "empty"),
        ("report {n}", "nowhere"),
        ("report {e}", "config.toml"),
    ] {
        line(words, &paths).refuses(1, &[word]);
    }
    nothing_written(&out);
    assert!(!empty.join("metrics.json").exists() && !empty.join("report.html").exists());
}

#[test]
fn a_model_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 2);
    let (model, out) = (folder.path().join("models"), folder.path().join("out"));
    std::fs::create_dir(&model).unwrap();
    std::fs::write(model.join("wt.safetensors"), [255; 64]).unwrap();
    line("predict --model {m} {c} --out {o}", &[("m", &model), ("c", &cohort), ("o", &out)])
        .refuses(1, &["wt.safetensors"]);
    nothing_written(&out);
}

#[test]
fn an_output_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 2);
    let occupied = folder.path().join("occupied");
    std::fs::write(&occupied, "a file").unwrap();
    for words in [
        "phantom --out {o} --cases 1 --size half",
        "scribble {c} --out {o}",
        "fit {c} --out {o}",
        "evaluate --reference {c} --prediction {c} --out {o}",
    ] {
        line(words, &[("c", &cohort), ("o", &occupied)]).refuses(1, &["occupied"]);
    }
    assert_eq!(std::fs::read_to_string(&occupied).unwrap(), "a file");
}
