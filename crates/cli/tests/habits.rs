//! What one expects of a command: settings that can be looked up, completions, manual pages, more and less talk, colours only where
//! they are welcome.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use common::{files, line, tiny_cohort};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn config_show_says_where_each_value_came_from() {
    let folder = tempfile::tempdir().unwrap();
    let (file, cohort) = (folder.path().join("mine.toml"), tiny_cohort(folder.path(), 2));
    std::fs::write(&file, "[train]\nbatch = 3\nmomentum = 0.5\n").unwrap();
    let paths: [(&str, &Path); 2] = [("f", &file), ("c", &cohort)];
    let told =
        line("config show --config {f} --set train.momentum=0.6 --cohort {c} --json", &paths).succeeds();
    let json: Value = serde_json::from_str(&told).unwrap();
    let of = |key: &str| {
        let values = json["values"].as_array().unwrap();
        let value = values.iter().find(|v| v["key"] == key).unwrap_or_else(|| panic!("{key}"));
        (value["value"].clone(), value["from"].as_str().unwrap().to_owned())
    };
    assert_eq!(of("train.batch"), (3.into(), format!("file {}", file.display())));
    assert_eq!(of("train.momentum"), (0.6.into(), "--set".into()));
    assert_eq!(of("wt.iterations"), (10_000.into(), "default".into()));
    let (scheme, from) = of("input.label_scheme");
    assert!(scheme == "brats2017" && from.starts_with("derived: "), "{scheme} {from}");
    let smoke = line("config show --preset smoke", &[]).succeeds();
    assert!(smoke.lines().any(|l| l.starts_with("batch = 4 ") && l.ends_with("# preset smoke")), "{smoke}");
}

#[test]
fn what_config_show_prints_is_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.toml");
    let hash = |words: &str| {
        let told = line(&format!("config show {words} --json"), &[("f", &file)]).succeeds();
        serde_json::from_str::<Value>(&told).unwrap()["config_hash"].as_str().unwrap().to_owned()
    };
    std::fs::write(&file, line("config show --preset phantom --set seed=7", &[]).succeeds()).unwrap();
    assert_eq!(hash("--config {f}"), hash("--preset phantom --set seed=7"));
    assert_ne!(hash("--config {f}"), hash("--preset phantom"));
}

#[test]
fn a_configuration_at_fault_is_named_with_the_key_that_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    let paths: [(&str, &Path); 1] = [("f", &file)];
    line("config show --config {f}", &paths).refuses(1, &["mine.toml", "config show", "No such file"]);
    for (text, word) in [
        ("[train]\nbatsh = 8\n", "did you mean `train.batch`?"),
        ("batch = 8\n", "did you mean `train.batch`?"),
        ("[train]\nbatch = \"8\"\n", "key `train.batch`: expected a value of type integer"),
        ("[train]\nbatch = 0\n", "key `train.batch`: expected 1 to 4096, found 0"),
        ("[train\n", "mine.toml"),
    ] {
        std::fs::write(&file, text).unwrap();
        line("config show --config {f}", &paths).refuses(1, &["mine.toml", word]);
    }
}

#[test]
fn every_shell_has_completions_and_every_verb_a_manual_page() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = line(&format!("completions {shell}"), &[]).succeeds();
        for word in ["reproduce", "scribbles", "presence"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man1");
    let told = line("man --out {o} --json", &[("o", &out)]).succeeds();
    let json: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(json["files"].as_array().unwrap().len(), files(&out).len());
    for page in ["scribseg.1", "scribseg-fit.1", "scribseg-config-show.1"] {
        let text = std::fs::read_to_string(out.join(page)).unwrap();
        assert!(
            text.contains(".SH SYNOPSIS") && text.contains(page.trim_end_matches(".1")),
            "{page}: {text}"
        );
    }
    let fit = std::fs::read_to_string(out.join("scribseg-fit.1")).unwrap();
    assert!(fit.contains("scribseg fit"), "{fit}");
}

#[test]
fn more_and_less_talk_and_the_same_data() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 2);
    let paths: [(&str, &Path); 1] = [("c", &cohort)];
    let [usual, verbose, quiet] = ["", " --verbose", " -q"].map(|flag| {
        let ran = line(&format!("check {{c}}{flag}"), &paths);
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        ran
    });
    assert!(usual.stderr.contains("== check") && !quiet.stderr.contains("== check"), "{}", quiet.stderr);
    assert!(
        verbose.stderr.contains("== check") && verbose.stderr.contains("   check: "),
        "{}",
        verbose.stderr
    );
    assert!(!usual.stderr.contains("   check: "), "{}", usual.stderr);
    assert_eq!([&verbose.stdout, &quiet.stdout], [&usual.stdout; 2]);
}

#[test]
fn no_colour_where_nobody_looks() {
    for words in ["--help", "frobnicate", "check /nowhere/at/all", "fit"] {
        let output = Command::new(env!("CARGO_BIN_EXE_scribseg"))
            .args(words.split(' '))
            .env_remove("NO_COLOR")
            .env("TERM", "xterm-256color")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        for bytes in [output.stdout, output.stderr] {
            assert!(!bytes.contains(&0x1b), "{words}: {}", String::from_utf8_lossy(&bytes));
        }
    }
}

const SHORT: &str = "--preset smoke --set train.batch=2 --set wt.iterations=12 --set wt.crf_iterations=4 --set sub.iterations=8 --set sub.crf_iterations=4 --set scribble.erode_healthy_mm=8";

#[test]
fn a_dry_run_writes_nothing_and_knows_what_the_run_will_take() {
    let folder = tempfile::tempdir().unwrap();
    let cohort = tiny_cohort(folder.path(), 4);
    let run = folder.path().join("run");
    let paths: [(&str, &Path); 2] = [("c", &cohort), ("r", &run)];
    let before = files(folder.path());
    let told = line(&format!("fit {{c}} --out {{r}} {SHORT} --dry-run"), &paths).succeeds();
    for word in
        ["nothing was written", "case_2", "simulated from its reference", "sub-km-sc", "memory", "disk"]
    {
        assert!(told.contains(word), "expected `{word}` in {told}");
    }
    let ran = line(&format!("fit {{c}} --out {{r}} {SHORT} --dry-run --json --verbose"), &paths);
    for word in ["wt.iterations = 12 (--set)", "network.width = 8 (preset smoke)", "a few steps of sub-km-sc"]
    {
        assert!(ran.stderr.contains(word), "expected `{word}` in {}", ran.stderr);
    }
    let json = ran.succeeds();
    let plan: Value = serde_json::from_str(&json).unwrap();
    let folds = line(&format!("fit {{c}} --out {{r}} {SHORT} --dry-run --folds 2 --json"), &paths).succeeds();
    let folds: Value = serde_json::from_str(&folds).unwrap();
    assert_eq!(folds["runs"].as_array().unwrap().len(), 2);
    assert!(folds["scans"][0]["role"].as_str().unwrap().starts_with("held out in fold "));
    assert_eq!(files(folder.path()), before);
    assert!(!run.exists());

    line(&format!("fit {{c}} --out {{r}} {SHORT}"), &paths).succeeds();
    let bytes: u64 = files(&run).iter().map(|name| std::fs::metadata(run.join(name)).unwrap().len()).sum();
    let estimate = plan["estimate"]["disk_bytes"].as_u64().unwrap();
    assert!(estimate <= 2 * bytes && bytes <= 2 * estimate, "estimated {estimate}, found {bytes}");
    let stages = plan["runs"][0]["stages"].as_array().unwrap();
    let planned: Vec<_> =
        stages.iter().map(|s| format!("models/{}.safetensors", s["name"].as_str().unwrap())).collect();
    let mut made: Vec<_> = files(&run).into_iter().filter(|name| name.starts_with("models/")).collect();
    made.sort_by_key(|name| planned.iter().position(|p| p == name));
    assert_eq!(made, planned, "the stages of the plan are those of fit");
    let role = |id: &str| {
        let scans = plan["scans"].as_array().unwrap();
        scans.iter().find(|s| s["id"] == id).unwrap()["role"].as_str().unwrap().to_owned()
    };
    let split: Value = serde_json::from_slice(&std::fs::read(run.join("split.json")).unwrap()).unwrap();
    for (key, word) in [("train", "train"), ("test", "held out")] {
        for id in split[key].as_array().unwrap() {
            assert_eq!(role(id.as_str().unwrap()), word);
        }
    }

    let before = files(folder.path());
    let json = line(&format!("fit {{c}} --out {{r}} {SHORT} --dry-run --json"), &paths).succeeds();
    let plan: Value = serde_json::from_str(&json).unwrap();
    for stage in plan["runs"][0]["stages"].as_array().unwrap() {
        assert_eq!(stage["done"], stage["iterations"]);
    }
    assert_eq!(plan["estimate"]["training_seconds"].as_f64(), Some(0.0));
    line(&format!("fit {{c}} --out {{r}} {SHORT} --set seed=1 --dry-run"), &paths)
        .refuses(1, &["another configuration", "--out"]);
    assert_eq!(files(folder.path()), before);
}
