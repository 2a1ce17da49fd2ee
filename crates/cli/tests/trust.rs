//! What must never happen in silence: figures from stale models, masks replaced, scans out of scale, tables that lie.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use common::{file, files, line, tiny_cohort};
use ndarray::Array3;
use scribseg_io::{Geometry, write_image, write_labels};
use std::path::Path;

const TINY: &str = "--preset smoke --set network.width=4 --set network.depth=2 --set train.batch=2 --set wt.iterations=2 --set wt.crf_iterations=1 --set sub.iterations=2 --set sub.crf_iterations=1 --set scribble.erode_healthy_mm=8";

#[test]
fn a_run_is_taken_up_over_the_same_inputs_only() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 3);
    let (scribbles, run, other) =
        (folder.path().join("s"), folder.path().join("run"), folder.path().join("other"));
    let paths: [(&str, &Path); 4] = [("c", &cohort), ("s", &scribbles), ("r", &run), ("o", &other)];
    line("scribble {c} --out {s} --set scribble.erode_healthy_mm=8", &paths).succeeds();
    let fit = format!("fit {{c}} --out {{r}} --scribbles {{s}} {TINY}");
    line(&fit, &paths).succeeds();
    // The same files by another name of the folder are the same inputs.
    line(&fit.replace("{s}", "{s}/"), &paths).succeeds();
    let scribble = scribbles.join("case_1_scribble.nii.gz");
    let kept = std::fs::read(&scribble).unwrap();
    let grid = scribseg_io::read_geometry(&scribble).unwrap();
    let halves = Array3::from_shape_fn(common::SHAPE, |(_, y, _)| if y < 16 { 1 } else { 2 });
    write_labels(&scribble, halves.view(), &grid).unwrap();
    line(&fit, &paths).refuses(1, &["scribble of case_1", "content changed", "--out"]);
    std::fs::write(&scribble, kept).unwrap();
    let (t1, t2) = (file(&cohort, 0, "t1"), file(&cohort, 0, "t2"));
    std::fs::copy(&t2, &t1).unwrap();
    line(&fit, &paths).refuses(1, &["t1 of case_0", "content changed"]);
}

#[test]
fn a_faulty_scribble_can_be_mended_and_a_table_added() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 3);
    let (scribbles, run, table) =
        (folder.path().join("s"), folder.path().join("run"), folder.path().join("participants.tsv"));
    let paths: [(&str, &Path); 4] = [("c", &cohort), ("s", &scribbles), ("r", &run), ("t", &table)];
    line("scribble {c} --out {s} --set scribble.erode_healthy_mm=8", &paths).succeeds();
    for index in 0..3 {
        std::fs::remove_file(file(&cohort, index, "seg")).unwrap();
    }
    let fit = format!("fit {{c}} --out {{r}} --scribbles {{s}} {TINY}");
    line(&fit, &paths).refuses(1, &["participants.tsv", "--presence"]);
    std::fs::write(
        &table,
        "participant_id\tED\tET\tNCR\ncase_0\t1\t1\t1\ncase_1\t1\t1\t1\ncase_2\t1\t0\t1\n",
    )
    .unwrap();
    let fit = format!("{fit} --presence {{t}}");
    let scribble = scribbles.join("case_2_scribble.nii.gz");
    let kept = std::fs::read(&scribble).unwrap();
    let grid = scribseg_io::read_geometry(&scribble).unwrap();
    write_labels(&scribble, Array3::<u8>::zeros(common::SHAPE).view(), &grid).unwrap();
    line(&fit, &paths).refuses(1, &["case_2_scribble.nii.gz", "value 1", "draw one"]);
    assert!(files(&run).is_empty(), "a run is claimed by sound inputs only: {:?}", files(&run));
    std::fs::write(&scribble, kept).unwrap();
    line(&fit, &paths).succeeds();
}

#[test]
fn nobodys_masks_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 3);
    let (run, flat) = (folder.path().join("run"), folder.path().join("flat"));
    std::fs::create_dir(&flat).unwrap();
    let own = cohort.join("case_1");
    let paths: [(&str, &Path); 4] = [("c", &cohort), ("r", &run), ("o", &own), ("f", &flat)];
    line(&format!("fit {{c}} --out {{r}} {TINY}"), &paths).succeeds();
    let before = std::fs::read(file(&cohort, 1, "seg")).unwrap();
    line("predict --model {r} {o} --out {o}", &paths)
        .refuses(1, &["case_1_seg.nii.gz", "part of the cohort"]);
    line("cluster {c} --masks reference --out {o}", &paths).refuses(1, &["part of the cohort"]);
    assert_eq!(std::fs::read(file(&cohort, 1, "seg")).unwrap(), before);
    // A mask by another program: the same voxels, another description in the header.
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&before[..]), &mut bytes).unwrap();
    bytes[148..156].copy_from_slice(b"somebody");
    let foreign = flat.join("case_2_seg.nii.gz");
    std::fs::write(&foreign, &bytes).unwrap();
    line("predict --model {r} {c} --out {f}", &paths).refuses(1, &["case_2_seg.nii.gz", "not written by"]);
    assert_eq!(files(&flat), ["case_2_seg.nii.gz"]);
    assert_eq!(std::fs::read(&foreign).unwrap(), bytes);
    std::fs::remove_file(&foreign).unwrap();
    // What it wrote itself it may write again.
    line("predict --model {r} {c} --out {f}", &paths).succeeds();
    line("predict --model {r} {c} --out {f}", &paths).succeeds();
    line("predict --model {r} {c} {o} --out {f}", &paths).refuses(1, &["case_1", "once"]);
}

#[test]
fn a_scan_of_another_scale_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 3);
    let (run, out, fine) =
        (folder.path().join("run"), folder.path().join("out"), folder.path().join("other/case_9"));
    std::fs::create_dir_all(&fine).unwrap();
    let paths: [(&str, &Path); 4] = [("c", &cohort), ("r", &run), ("o", &out), ("f", &fine)];
    line(&format!("fit {{c}} --out {{r}} {TINY}"), &paths).succeeds();
    let grid = Geometry::from_spacing(common::SHAPE, [2.0; 3]).unwrap();
    for name in scribseg_io::MODALITIES {
        let image = scribseg_io::Volume::read(file(&cohort, 0, name)).unwrap();
        write_image(fine.join(format!("case_9_{name}.nii.gz")), image.data.view(), &grid).unwrap();
    }
    line("predict --model {r} {f} --out {o}", &paths).refuses(1, &["case_9", "4.00", "2.00", "resample"]);
    assert!(files(&out).is_empty());
    // Metres taken for millimetres: the 12 numbers of the sform, a thousandth of what they were.
    let path = fine.join("case_9_t1.nii.gz");
    let mut bytes = Vec::new();
    let packed = std::fs::read(&path).unwrap();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed[..]), &mut bytes).unwrap();
    for entry in bytes[280..328].as_chunks_mut::<4>().0 {
        *entry = (f32::from_le_bytes(*entry) / 1000.0).to_le_bytes();
    }
    std::fs::write(&path, bytes).unwrap();
    line("predict --model {r} {f} --out {o}", &paths).refuses(1, &["case_9_t1.nii.gz", "0.002", "mm"]);
    let told = line("check {f}", &paths).refuses(1, &[]).stdout;
    assert!(told.contains("case_9_t1.nii.gz") && told.contains("0.002"), "{told}");
}

#[test]
fn a_table_that_contradicts_a_reference_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 2);
    std::fs::write(
        cohort.join("participants.tsv"),
        "participant_id\tED\tET\tNCR\ncase_0\t1\t1\t1\ncase_1\t1\t0\t1\n",
    )
    .unwrap();
    let told = line("check {c}", &[("c", &cohort)]).refuses(1, &[]).stdout;
    assert!(told.contains("participants.tsv") && told.contains("case_1 has no ET"), "{told}");
    assert!(!told.contains("case_0"), "{told}");
}

#[test]
fn a_phantom_of_another_seed_is_not_mistaken_for_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("cohort");
    let paths: [(&str, &Path); 1] = [("o", &out)];
    line("phantom --out {o} --cases 1 --seed 9 --size half", &paths).succeeds();
    line("phantom --out {o} --cases 1 --seed 9 --size half", &paths).succeeds();
    line("phantom --out {o} --cases 1 --seed 10 --size half", &paths).refuses(1, &["cohort", "10", "9"]);
    line("check {o}", &paths).succeeds();
}

#[test]
fn a_folder_that_is_not_ours_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (theirs, run) = (folder.path().join("theirs"), folder.path().join("run"));
    std::fs::create_dir(&theirs).unwrap();
    std::fs::write(theirs.join("thesis.tex"), "x").unwrap();
    let paths: [(&str, &Path); 2] = [("t", &theirs), ("r", &run)];
    line("reproduce --preset smoke --out {t}", &paths).refuses(1, &["theirs", "not empty", "--out"]);
    assert_eq!(files(&theirs), ["thesis.tex"]);
    // Nor does another configuration add cases to the cohort of a run.
    let cohort = tiny_cohort(folder.path(), 3);
    let paths: [(&str, &Path); 2] = [("c", &cohort), ("r", &run)];
    line(&format!("fit {{c}} --out {{r}} {TINY}"), &paths).succeeds();
    let before = files(&run);
    line("reproduce --preset smoke --out {r}", &paths).refuses(1, &["another configuration"]);
    assert_eq!(files(&run), before);
}

#[test]
fn figures_of_another_program_are_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 2);
    let out = folder.path().join("figures");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("metrics.csv"), "mine").unwrap();
    let paths: [(&str, &Path); 2] = [("c", &cohort), ("o", &out)];
    let evaluate = "evaluate --reference {c} --prediction {c} --out {o}";
    line(evaluate, &paths).refuses(1, &["metrics.csv", "not written by scribseg"]);
    assert_eq!(std::fs::read_to_string(out.join("metrics.csv")).unwrap(), "mine");
    std::fs::remove_file(out.join("metrics.csv")).unwrap();
    line(evaluate, &paths).succeeds();
    line(evaluate, &paths).succeeds();
}

#[test]
fn scribbles_of_another_tool_are_read_by_declared_values() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 2);
    let (scribbles, weak, again) =
        (folder.path().join("s"), folder.path().join("weak"), folder.path().join("again"));
    let paths: [(&str, &Path); 4] = [("c", &cohort), ("s", &scribbles), ("w", &weak), ("a", &again)];
    line("scribble {c} --out {s} --set scribble.erode_healthy_mm=8", &paths).succeeds();
    line("propagate {c} --scribbles {s} --out {w}", &paths).succeeds();
    for index in 0..2 {
        let path = scribbles.join(format!("case_{index}_scribble.nii.gz"));
        let grid = scribseg_io::read_geometry(&path).unwrap();
        let drawn =
            scribseg_io::read_scribble(&path, &grid, &scribseg_io::ScribbleMapping::default()).unwrap();
        write_labels(&path, drawn.mapv(|v| [0u8, 6, 5][usize::from(v)]).view(), &grid).unwrap();
    }
    let propagate = "propagate {c} --scribbles {s} --out {a}";
    line(propagate, &paths).refuses(1, &["case_0_scribble.nii.gz", "1 tumour"]);
    let declared = "--set input.scribble_values.tumour=[6] --set input.scribble_values.healthy=[5]";
    line(&format!("check {{c}} --scribbles {{s}} {declared}"), &paths).succeeds();
    line(&format!("{propagate} {declared}"), &paths).succeeds();
    for name in ["case_0_weak.nii.gz", "case_1_weak.nii.gz"] {
        assert_eq!(std::fs::read(weak.join(name)).unwrap(), std::fs::read(again.join(name)).unwrap());
    }
    let twice = "--set input.scribble_values.healthy=[1]";
    line(&format!("{propagate} {twice}"), &paths).refuses(2, &["input.scribble_values.healthy", "1 again"]);
}

#[test]
fn a_table_lacks_a_case_whether_it_trains_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 3);
    let (run, table) = (folder.path().join("run"), folder.path().join("participants.tsv"));
    let paths: [(&str, &Path); 3] = [("c", &cohort), ("r", &run), ("t", &table)];
    for left_out in 0..3 {
        let rows = (0..3).filter(|&i| i != left_out).map(|i| format!("case_{i}\t1\t1\t1\n"));
        let text = format!("participant_id\tED\tET\tNCR\n{}", rows.collect::<String>());
        std::fs::write(&table, text).unwrap();
        line(&format!("fit {{c}} --out {{r}} --presence {{t}} {TINY}"), &paths)
            .refuses(1, &["participants.tsv", &format!("case_{left_out}")]);
    }
    assert!(files(&run).is_empty());
}
