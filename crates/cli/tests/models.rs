//! Models that travel: files away from their run, what they say they expect, what they refuse, and their export.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../../io/tests/common/mod.rs"]
mod cohorts;
mod common;

use common::{SHAPE, SPACING, file, files, line, nothing_written, tiny_cohort};
use ndarray::Array3;
use scribseg_io::{Geometry, LabelVolume, MODALITIES, Volume, write_image};
use std::path::{Path, PathBuf};

const TINY: &str = "--preset smoke --set network.width=4 --set network.depth=2 --set train.batch=4 --set train.learning_rate=0.1 --set wt.iterations=60 --set wt.crf_iterations=1 --set sub.iterations=8 --set sub.crf_iterations=1 --set scribble.erode_healthy_mm=8";

/// A cohort and the networks trained on it, under names that say nothing.
fn trained(folder: &Path) -> [PathBuf; 4] {
    let (cohort, run) = (tiny_cohort(folder, 3), folder.join("run"));
    line(&format!("fit {{c}} --out {{r}} {TINY}"), &[("c", &cohort), ("r", &run)]).succeeds();
    let away = [folder.join("tumour.safetensors"), folder.join("parts.safetensors")];
    for (name, to) in ["wt", "sub"].iter().zip(&away) {
        std::fs::copy(run.join(format!("models/{name}.safetensors")), to).unwrap();
    }
    let [tumour, sub] = away;
    [cohort, run, tumour, sub]
}

fn labels(path: &Path) -> Array3<i32> {
    LabelVolume::read(path).unwrap().data
}

#[test]
fn model_files_suffice_and_say_what_they_expect() {
    let folder = tempfile::tempdir().unwrap();
    let [cohort, run, tumour, sub] = trained(folder.path());
    let [whole, both, only_tumour, only_sub, clustered] =
        ["o1", "o2", "o3", "o4", "o5"].map(|name| folder.path().join(name));
    let paths: [(&str, &Path); 9] = [
        ("c", &cohort),
        ("r", &run),
        ("t", &tumour),
        ("s", &sub),
        ("whole", &whole),
        ("both", &both),
        ("wt", &only_tumour),
        ("sub", &only_sub),
        ("clustered", &clustered),
    ];
    line("predict --model {r} {c} --out {whole}", &paths).succeeds();
    std::fs::remove_dir_all(&run).unwrap();
    // In either order: which is which the files say.
    let told = line("predict --model {s} --model {t} {c} --out {both}", &paths);
    for word in [
        "tumour.safetensors: whole tumour (healthy, tumour), a U-Net of width 4 and depth 2, trained in f32",
        "parts.safetensors: sub-structures (background, NCR/NET, ED, ET)",
        "t1, t1ce, t2, flair, skull-stripped",
        "z-score per scan and modality",
        "axial pixels of 4.00 × 4.00 mm (± 5 %), slices 2.00 to 8.00 mm apart",
        "turned by at most 15°",
        "192 × 192 mm",
        "brats2017 (0 background, 1 NCR/NET, 2 ED, 4 ET)",
    ] {
        assert!(told.stderr.contains(word), "expected `{word}` in: {}", told.stderr);
    }
    told.succeeds();
    assert_eq!(files(&whole), files(&both));
    for name in files(&whole) {
        assert_eq!(std::fs::read(whole.join(&name)).unwrap(), std::fs::read(both.join(&name)).unwrap());
    }
    let told = line("predict --model {t} {c} --out {wt} --json", &paths);
    assert!(told.stderr.contains("the whole tumour alone, 0 outside, 1 inside"), "{}", told.stderr);
    assert!(told.succeeds().contains("case_0_wt.nii.gz"));
    line("predict --model {s} {c} --out {sub}", &paths).succeeds();
    let mut inside = 0;
    for case in ["case_0", "case_1", "case_2"] {
        let merged = labels(&whole.join(format!("{case}_seg.nii.gz")));
        let mask = labels(&only_tumour.join(format!("{case}_wt.nii.gz")));
        assert!(merged.iter().zip(&mask).all(|(&label, &inside)| (label != 0) == (inside == 1)));
        inside += mask.iter().filter(|&&v| v == 1).count();
        let own = labels(&only_sub.join(format!("{case}_seg.nii.gz")));
        // Its own ET and NCR/NET are what the merge takes.
        let kept = |v: i32| v == 1 || v == 4;
        assert!(merged.iter().zip(&own).all(|(&label, &own)| !kept(label) || label == own));
    }
    assert!(inside > 0, "a tumour was found");
    // Whole tumours go where `cluster` takes them.
    line("cluster {c} --masks {wt} --out {clustered}", &paths).succeeds();
}

#[test]
fn a_model_that_is_none_or_does_not_go_with_the_other_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [cohort, _, tumour, sub] = trained(folder.path());
    let (other, later, cut, out) = (
        folder.path().join("other"),
        folder.path().join("later.safetensors"),
        folder.path().join("cut.safetensors"),
        folder.path().join("out"),
    );
    let text = folder.path().join("text.safetensors");
    std::fs::write(&text, "weights").unwrap();
    let bytes = std::fs::read(&tumour).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let version = br#"\"format\":1,"#;
    let at = bytes.windows(version.len()).position(|word| word == version).unwrap();
    let mut bytes = bytes;
    bytes[at + version.len() - 2] = b'7';
    std::fs::write(&later, bytes).unwrap();
    let paths: [(&str, &Path); 8] = [
        ("c", &cohort),
        ("t", &tumour),
        ("s", &sub),
        ("other", &other),
        ("later", &later),
        ("cut", &cut),
        ("text", &text),
        ("o", &out),
    ];
    line("predict --model {t} --model {t} {c} --out {o}", &paths)
        .refuses(1, &["tumour.safetensors", "one network for healthy, tumour", "one file of each kind"]);
    line("predict --model {later} {c} --out {o}", &paths)
        .refuses(1, &["later.safetensors", "version 1, found 7", "later scribseg"]);
    for bad in ["cut", "text"] {
        line(&format!("predict --model {{{bad}}} {{c}} --out {{o}}"), &paths)
            .refuses(1, &[&format!("{bad}.safetensors"), "expected a safetensors file written by scribseg"]);
    }
    line("predict --model {c} {c} --out {o}", &paths).refuses(1, &["wt.safetensors", "such a file"]);
    line(&format!("fit {{c}} --out {{other}} {TINY} --set seed=9"), &paths).succeeds();
    let mixed = other.join("models/wt.safetensors");
    let paths: [(&str, &Path); 4] = [("c", &cohort), ("s", &sub), ("m", &mixed), ("o", &out)];
    line("predict --model {s} --model {m} {c} --out {o}", &paths)
        .refuses(1, &["parts.safetensors", "another configuration", "one run"]);
    nothing_written(&out);
}

/// A case of its own folder, the first of the cohort on another grid.
fn on_grid(cohort: &Path, folder: &Path, grid: &Geometry) -> PathBuf {
    let case = folder.join("case_9");
    std::fs::create_dir_all(&case).unwrap();
    for name in MODALITIES {
        let image = Volume::read(file(cohort, 0, name)).unwrap();
        write_image(case.join(format!("case_9_{name}.nii.gz")), image.data.view(), grid).unwrap();
    }
    case
}

#[test]
fn a_scan_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [cohort, run, tumour, _] = trained(folder.path());
    let out = folder.path().join("out");
    let refused = |model: &Path, input: &Path, words: &[&str]| {
        line("predict --model {m} {i} --out {o}", &[("m", model), ("i", input), ("o", &out)])
            .refuses(1, words);
        nothing_written(&out);
    };
    let [dz, dy, dx] = SPACING;
    let thick = Geometry::from_spacing(SHAPE, [2.5 * dz, dy, dx]).unwrap();
    let scan = on_grid(&cohort, &folder.path().join("thick"), &thick);
    refused(&run, &scan, &["case_9", "slices 2.00 to 8.00 mm apart", "found 10.00 mm", "resample"]);

    // Slices that lean backwards by 20 degrees.
    let (s, c) = 20f64.to_radians().sin_cos();
    let affine = [
        [-dx, 0.0, 0.0, 0.0],
        [0.0, -dy * c, -dz * s, 0.0],
        [0.0, -dy * s, dz * c, 0.0],
        [0.0, 0.0, 0.0, 1.0],
    ];
    let leaning = Geometry::from_affine([SHAPE[2], SHAPE[1], SHAPE[0]], &affine).unwrap();
    let scan = on_grid(&cohort, &folder.path().join("leaning"), &leaning);
    refused(&tumour, &scan, &["case_9", "at most 15°", "found 20°", "upright axial grid"]);

    // A sagittal scan: thick along what is the x axis here.
    let sagittal = Geometry::from_spacing(SHAPE, [dz, dy, 2.0 * dx]).unwrap();
    let scan = on_grid(&cohort, &folder.path().join("sagittal"), &sagittal);
    refused(&run, &scan, &["case_9", "pixels of 4.00 × 4.00 mm", "found 4.00 × 8.00 mm", "resample"]);

    // Its skull on, or a background that is not 0.
    let own = Geometry::from_spacing(SHAPE, SPACING).unwrap();
    let scan = on_grid(&cohort, &folder.path().join("skull"), &own);
    let mut image = Volume::read(scan.join("case_9_t2.nii.gz")).unwrap();
    image.data.mapv_inplace(|v| v + 7.0);
    write_image(scan.join("case_9_t2.nii.gz"), image.data.view(), &own).unwrap();
    refused(
        &run,
        &scan,
        &["case_9", "expected a skull-stripped scan", "outer voxels are not 0", "set the background to 0"],
    );

    let scan = on_grid(&cohort, &folder.path().join("lacking"), &own);
    std::fs::remove_file(scan.join("case_9_t1ce.nii.gz")).unwrap();
    refused(&run, &scan, &["case_9_t1ce.nii.gz", "the t1ce image of case case_9", "no such file", "add it"]);

    let stacks = folder.path().join("stacks");
    std::fs::create_dir_all(stacks.join("imagesTs")).unwrap();
    std::fs::write(stacks.join("dataset.json"), cohorts::MSD_JSON).unwrap();
    let image = Volume::read(file(&cohort, 0, "flair")).unwrap();
    let three = [image.data.view(), image.data.view(), image.data.view()];
    cohorts::write_stack(&stacks.join("imagesTs/BRATS_001.nii.gz"), &three, &own);
    refused(
        &run,
        &stacks.join("imagesTs"),
        &["BRATS_001.nii.gz", "a 4-D image of 4", "shape [32, 32, 6, 3]", "input.channels"],
    );
}

#[test]
fn networks_are_exported_as_onnx_with_what_they_expect() {
    let folder = tempfile::tempdir().unwrap();
    let [_, run, tumour, _] = trained(folder.path());
    let (out, one) = (folder.path().join("out"), folder.path().join("one"));
    let paths: [(&str, &Path); 4] = [("r", &run), ("t", &tumour), ("o", &out), ("one", &one)];
    let ran = line("export --onnx {r} --out {o}", &paths);
    assert!(ran.stderr.contains("opset 17, IR version 8"), "{}", ran.stderr);
    let names = ["wt.onnx", "wt.json", "sub.onnx", "sub.json", "scan.onnx", "scan.json"];
    let told = names.map(|name| format!("{}\n", out.join(name).display())).concat();
    assert_eq!(ran.succeeds(), told);
    let about = std::fs::read(out.join("scan.json")).unwrap();
    let about: serde_json::Value = serde_json::from_slice(&about).unwrap();
    assert_eq!(about["opset"], 17);
    assert_eq!(about["labels"][3], serde_json::json!({"class": "ET", "value": 4}));
    // The same bytes again, over its own files; and of a single file a single network.
    let before = std::fs::read(out.join("scan.onnx")).unwrap();
    line("export --onnx {r} --out {o} --json", &paths).succeeds();
    assert_eq!(std::fs::read(out.join("scan.onnx")).unwrap(), before);
    line("export {t} --onnx --out {one}", &paths).succeeds();
    assert_eq!(files(&one), ["wt.json", "wt.onnx"]);
    line("export {t} --out {one}", &paths).refuses(2, &["--onnx"]);
    std::fs::write(out.join("wt.onnx"), "mine").unwrap();
    line("export --onnx {r} --out {o}", &paths).refuses(1, &["wt.onnx", "not written by scribseg", "--out"]);
    assert_eq!(std::fs::read(out.join("wt.onnx")).unwrap(), b"mine");
}
