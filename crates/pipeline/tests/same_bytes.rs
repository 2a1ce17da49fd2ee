//! The same configuration and seed give the same bytes: at any thread count, and after being cut short.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a test fails

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use scribseg_pipeline::{Config, Preset, Progress, ReproduceOptions, Silent, reproduce, verbs};

/// Enough of everything to pass through every stage: a checkpoint falls inside each.
fn config() -> Config {
    let mut config = Config::preset(Preset::Smoke).unwrap();
    for change in [
        "phantom.cases=3",
        "wt.iterations=5",
        "wt.crf_iterations=3",
        "sub.iterations=5",
        "sub.crf_iterations=3",
        "train.batch=2",
        "train.checkpoint_every=2",
        "network.width=2",
        "network.depth=2",
        "input.crop_mm=128",
    ] {
        config.set(change).unwrap();
    }
    config
}

fn options(cohort: &Path, out: PathBuf) -> ReproduceOptions {
    ReproduceOptions {
        preset: Preset::Smoke,
        config: config(),
        cohort: Some(cohort.to_owned()),
        rows: vec![],
        jobs: None,
        out,
        device: candle_core::Device::Cpu,
    }
}

/// Every file of a run but the wall-clock times, by name.
fn products(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![run.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|n| n != "timings.json") {
                let name = path.strip_prefix(run).unwrap().display().to_string();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn assert_same(a: &BTreeMap<String, Vec<u8>>, b: &BTreeMap<String, Vec<u8>>) {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in a {
        assert!(*bytes == b[name], "{name} differs");
    }
}

/// Dies at the given step, like a process that is killed there.
struct Killer(AtomicU64);

impl Progress for Killer {
    fn stage(&self, _: &str, _: &str) {}
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64, _: &str) {
        if self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            panic!("killed");
        }
    }
    fn end(&self) {}
    fn log(&self, _: &str) {}
}

/// Remembers what is told.
#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Progress for Log {
    fn stage(&self, _: &str, _: &str) {}
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64, _: &str) {}
    fn end(&self) {}
    fn log(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
}

#[test]
fn thread_counts_and_interruptions_leave_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = folder.path().join("cohort");
    verbs::write_phantom(&cohort, 3, 1, scribseg_phantom::Size::Half, &Silent).unwrap();
    let run = |name: &str, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let out = folder.path().join(name);
        let done = pool.install(|| reproduce(&options(&cohort, out.clone()), &Silent)).unwrap();
        assert_eq!(done.table.rows.len(), 12);
        products(&out)
    };
    let one = run("one", 1);
    assert_eq!(one.keys().filter(|k| k.starts_with("models/")).count(), 13, "{:?}", one.keys());
    assert_same(&one, &run("two", 2));

    let out = folder.path().join("killed");
    for steps in [7, 12, 20] {
        let killer = Killer(AtomicU64::new(steps));
        let quiet = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let died =
            catch_unwind(AssertUnwindSafe(|| reproduce(&options(&cohort, out.clone()), &killer))).is_err();
        std::panic::set_hook(quiet);
        assert!(died, "the run ended before step {steps}");
    }
    // What was prepared waits for the next start, and goes when the run is done.
    assert_eq!(std::fs::read_dir(out.join("prepared")).unwrap().count(), 3);
    let log = Log::default();
    reproduce(&options(&cohort, out.clone()), &log).unwrap();
    let kept = "3 of 3 scans as an earlier start prepared them";
    assert!(log.0.lock().unwrap().iter().any(|line| line == kept));
    assert!(!out.join("prepared").exists());
    assert_same(&one, &products(&out));
}
