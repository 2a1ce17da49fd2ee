//! The program on every CPU path that this machine has, each forced by `SCRIBSEG_CPU` in a process of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use common::{Ran, case_name, forced, tiny_cohort};
use std::path::Path;

const PATHS: [&str; 4] = ["portable", "avx2", "avx512", "amx"];
const TINY: &str = "--preset smoke --set network.width=4 --set network.depth=2 --set train.batch=2 --set wt.iterations=2 --set wt.crf_iterations=1 --set sub.iterations=2 --set sub.crf_iterations=1 --set scribble.erode_healthy_mm=8";

/// Whether the processor has it: a path that is missing must be refused by name.
fn has(path: &str, refused: Ran) -> bool {
    if refused.status == 0 {
        return true;
    }
    refused.refuses(1, &[path, "SCRIBSEG_CPU"]);
    let _ = std::io::Write::write_fmt(
        &mut std::io::stderr(),
        format_args!("!! NOT CHECKED: {path} is not here\n"),
    );
    false
}

#[test]
fn every_path_trains_and_predicts_to_the_same_bytes_at_one_and_two_threads() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 3);
    let mut checked = Vec::new();
    for path in PATHS {
        let runs: Vec<Vec<Vec<u8>>> = [1, 2]
            .into_iter()
            .filter_map(|threads| {
                let run = folder.path().join(format!("{path}-{threads}"));
                let out = folder.path().join(format!("{path}-{threads}-masks"));
                let paths: [(&str, &Path); 3] = [("c", &cohort), ("r", &run), ("o", &out)];
                let fit = format!("fit {{c}} --out {{r}} --threads {threads} {TINY}");
                if !has(path, forced(path, &fit, &paths)) {
                    return None;
                }
                let predict = format!("predict --model {{r}} {{c}} --out {{o}} --threads {threads}");
                forced(path, &predict, &paths).succeeds();
                let mut kept: Vec<Vec<u8>> = ["models/wt.safetensors", "models/sub.safetensors"]
                    .iter()
                    .map(|model| std::fs::read(run.join(model)).unwrap())
                    .collect();
                for index in 0..3 {
                    let mask = out.join(format!("{}_seg.nii.gz", case_name(index)));
                    kept.push(std::fs::read(mask).unwrap());
                }
                Some(kept)
            })
            .collect();
        if let [one, two] = &runs[..] {
            assert!(one == two, "{path}: another result at two threads");
            checked.push(path);
        }
    }
    assert!(checked.contains(&"portable"), "portable code runs anywhere, found {checked:?}");
}

#[test]
fn unknown_instructions_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 3);
    let run = folder.path().join("run");
    let paths: [(&str, &Path); 2] = [("c", &cohort), ("r", &run)];
    forced("sse9", &format!("fit {{c}} --out {{r}} {TINY}"), &paths)
        .refuses(1, &["sse9", "portable", "avx2", "avx512", "amx"]);
    assert!(common::files(&run).is_empty(), "{:?}", common::files(&run));
}
