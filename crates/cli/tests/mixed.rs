//! A fit in which every scan trains on what there is of it, and the refusals of labels that contradict each other.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use common::{file, files, line, tiny_cohort};
use scribseg_io::{LabelVolume, write_labels};
use std::path::{Path, PathBuf};

const TINY: &str = "--preset smoke --set network.width=4 --set network.depth=2 --set train.batch=4 --set wt.iterations=3 --set wt.crf_iterations=2 --set sub.iterations=3 --set sub.crf_iterations=2 --set scribble.erode_healthy_mm=8 --set train.full_dice=1 --set input.held_out=[\"case_5\"]";

/// case_0: mask; case_1: mask of the tumour alone, partly unknown, and presence; case_2: scribbles and presence; case_3: presence;
/// case_4: nothing; case_5: held out.
struct Folder {
    _folder: tempfile::TempDir,
    root: PathBuf,
    cohort: PathBuf,
    masks: PathBuf,
    scribbles: PathBuf,
    table: PathBuf,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        let cohort = tiny_cohort(&root, 6);
        let (masks, scribbles, table) =
            (root.join("masks"), root.join("scribbles"), root.join("presence.tsv"));
        let paths: [(&str, &Path); 2] = [("c", &cohort), ("s", &scribbles)];
        line("scribble {c} --out {s} --set scribble.erode_healthy_mm=8", &paths).succeeds();
        for index in [0, 1, 3, 4, 5] {
            std::fs::remove_file(scribbles.join(format!("case_{index}_scribble.nii.gz"))).unwrap();
        }
        std::fs::create_dir(&masks).unwrap();
        for index in 0..5 {
            let path = file(&cohort, index, "seg");
            if index == 0 {
                std::fs::copy(&path, masks.join("case_0_seg.nii.gz")).unwrap();
            }
            if index == 1 {
                let mut labels = LabelVolume::read(&path).unwrap();
                labels.data.mapv_inplace(|v| if v == 0 { 0 } else { 7 });
                labels.data.index_axis_mut(ndarray::Axis(0), 2).fill(9);
                let values = labels.data.mapv(|v| v as u8);
                write_labels(masks.join("case_1_seg.nii.gz"), values.view(), &labels.geometry).unwrap();
            }
            std::fs::remove_file(path).unwrap();
        }
        std::fs::write(
            &table,
            "participant_id\tED\tET\tNCR\ncase_1\t1\t1\t1\ncase_2\t1\t1\t1\ncase_3\t1\tn/a\t1\n",
        )
        .unwrap();
        Self { _folder: folder, root, cohort, masks, scribbles, table }
    }

    fn run(&self, words: &str) -> common::Ran {
        let run = self.root.join("run");
        let paths: [(&str, &Path); 5] = [
            ("c", &self.cohort),
            ("m", &self.masks),
            ("s", &self.scribbles),
            ("t", &self.table),
            ("r", &run),
        ];
        line(words, &paths)
    }
}

const DECLARED: &str = "--set input.mask_values.tumour=[7] --set input.mask_values.unknown=[9]";
const GIVEN: &str = "--masks {m} --scribbles {s} --presence {t}";

#[test]
fn every_scan_trains_on_what_there_is_of_it() {
    let folder = Folder::new();
    let told = folder.run(&format!("check {{c}} {GIVEN} {DECLARED} --set scribble.erode_healthy_mm=8"));
    let expected = [
        "case_0: whole tumour from mask (S 1, G 0.8), sub-structures from mask (S 1, G 0.2)",
        "case_1: whole tumour from mask (S 1, G 0.8), sub-structures from presence (S 1, G 0.2)",
        "case_2: whole tumour from scribbles (S 1, G 0.8), sub-structures from presence (S 1, G 0.2)",
        "case_3: whole tumour from prediction (S 0, G 0.8), sub-structures from presence (S 0, G 0.2)",
        "case_4: whole tumour from nothing, sub-structures from nothing",
    ];
    let told = told.refuses(0, &expected);
    assert!(told.stdout.contains("no fault"), "{}", told.stdout);
    let fit = format!("fit {{c}} --out {{r}} {GIVEN} {DECLARED} {TINY}");
    folder.run(&fit).refuses(0, &expected);
    let run = folder.root.join("run");
    let text = std::fs::read_to_string(run.join("supervision.json")).unwrap();
    let used: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(used.len(), 5);
    assert_eq!(used[2]["whole_tumour"]["used"], "scribbles");
    assert_eq!(used[1]["substructures"]["found"], serde_json::json!(["presence"]));
    let split = std::fs::read_to_string(run.join("split.json")).unwrap();
    let split: serde_json::Value = serde_json::from_str(&split).unwrap();
    assert_eq!(split["test"], serde_json::json!(["case_5"]));
    assert_eq!(files(&run.join("predictions")), ["case_5_seg.nii.gz"]);
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    for part in ["A mixed fit", "mask (2), nothing (1), prediction (1), scribbles (1)", "supervision.json"] {
        assert!(page.contains(part), "{part}");
    }
    // The same inputs are taken up again, other masks are not.
    folder.run(&fit).succeeds();
    std::fs::remove_file(folder.masks.join("case_0_seg.nii.gz")).unwrap();
    folder.run(&fit).refuses(1, &["mask of case_0", "no longer there"]);
}

#[test]
fn labels_that_contradict_each_other_are_refused() {
    let folder = Folder::new();
    let fit = format!("fit {{c}} --out {{r}} {GIVEN} {TINY}");
    folder.run(&fit).refuses(1, &["case_1_seg.nii.gz", "input.mask_values", "7"]);
    let fit = format!("{fit} {DECLARED}");
    let none = fit.replace("--masks {m} --scribbles {s}", "--mixed");
    folder.run(&none).refuses(1, &["mask or scribbles", "--masks"]);
    folder.run(&fit.replace("[9]", "[7]")).refuses(2, &["input.mask_values.tumour"]);
    folder.run(&fit.replace("case_5", "case_4")).refuses(1, &["input.held_out", "case_4"]);
    let table = std::fs::read_to_string(&folder.table).unwrap();
    std::fs::write(&folder.table, format!("{table}case_0\t1\t0\t1\n")).unwrap();
    folder.run(&fit).refuses(1, &["case_0_seg.nii.gz", "no ET"]);
    let told = folder.run(&format!("check {{c}} {GIVEN} {DECLARED}")).refuses(1, &[]).stdout;
    assert!(told.contains("no ET"), "{told}");
    std::fs::write(&folder.table, table).unwrap();
    let scribble = folder.scribbles.join("case_2_scribble.nii.gz");
    let drawn = LabelVolume::read(&scribble).unwrap();
    let otherwise = drawn.data.mapv(|v| [0u8, 0, 2][v as usize]);
    write_labels(folder.masks.join("case_2_seg.nii.gz"), otherwise.view(), &drawn.geometry).unwrap();
    folder.run(&fit).refuses(1, &["case_2_seg.nii.gz", "scribble"]);
    assert!(files(&folder.root.join("run")).is_empty(), "a run is claimed by sound inputs only");
}

#[test]
fn what_nobody_can_use_is_told_before_it_trains() {
    let folder = Folder::new();
    let check = format!("check {{c}} {GIVEN} {DECLARED} --set scribble.erode_healthy_mm=8");
    // Names that are no case's.
    std::fs::copy(folder.masks.join("case_0_seg.nii.gz"), folder.masks.join("Case_0_seg.nii.gz")).unwrap();
    std::fs::copy(folder.masks.join("case_0_seg.nii.gz"), folder.masks.join("case_2.nii.gz")).unwrap();
    let table = std::fs::read_to_string(&folder.table).unwrap();
    std::fs::write(&folder.table, format!("{table}case_77\t1\t1\t1\n")).unwrap();
    folder
        .run(&check)
        .refuses(0, &["Case_0_seg.nii.gz: no case's", "case_2.nii.gz: no case's", "row case_77"]);
    std::fs::write(&folder.table, &table).unwrap();
    // What is missing altogether is missed by check and by the dry run as well.
    let alone =
        "{c} --mixed --scribbles {s} --set scribble.erode_healthy_mm=8 --set input.held_out=[\"case_5\"]";
    let told = folder.run(&format!("check {alone}")).refuses(1, &[]).stdout;
    assert!(told.contains("sub-structures") && told.contains("--presence"), "{told}");
    folder.run(&format!("fit {alone} --out {{r}} --dry-run")).refuses(1, &["sub-structures", "--presence"]);
    let told = folder.run(&format!("{check} --set input.held_out=[\"case_9\"]")).refuses(1, &[]).stdout;
    assert!(told.contains("case_9"), "{told}");
    // A table that cannot be read is a fault among the others.
    std::fs::write(&folder.table, "participant_id\tED\tET\tNCR\ncase_1\t\t1\t1\n").unwrap();
    let told = folder.run(&format!("{check} --json")).refuses(1, &[]).stdout;
    let report: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert!(report["faults"][0]["found"].as_str().unwrap().contains("case_1"), "{told}");
}

#[test]
fn a_mask_of_which_nothing_is_known_leaves_a_scan_to_its_scribbles() {
    let folder = Folder::new();
    let scan = LabelVolume::read(folder.masks.join("case_0_seg.nii.gz")).unwrap();
    let unknown = scan.data.mapv(|_| 9u8);
    write_labels(folder.masks.join("case_2_seg.nii.gz"), unknown.view(), &scan.geometry).unwrap();
    let check = format!("check {{c}} {GIVEN} {DECLARED} --set scribble.erode_healthy_mm=8");
    folder.run(&check).refuses(0, &["case_2: whole tumour from scribbles (S 1, G 0.8)"]);
}

#[test]
fn a_fit_needs_to_be_told_of_healthy_tissue() {
    let folder = Folder::new();
    let declared = "--set input.mask_values.tumour=[1,2,4] --set input.mask_values.unknown=[0]";
    std::fs::remove_file(folder.masks.join("case_1_seg.nii.gz")).unwrap();
    let fit = format!("fit {{c}} --out {{r}} --masks {{m}} --presence {{t}} {declared} {TINY}");
    folder.run(&fit).refuses(1, &["healthy"]);
}
