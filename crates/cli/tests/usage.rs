//! Help of every verb, held by snapshots, and bad usage: exit status 2 and the option's name.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use common::scribseg;

const VERBS: [&str; 11] = [
    "phantom",
    "check",
    "scribble",
    "propagate",
    "cluster",
    "fit",
    "predict",
    "evaluate",
    "report",
    "export",
    "reproduce",
];

/// Compares with `tests/snapshots/<name>.txt`; with `SCRIBSEG_BLESS=1` in the environment writes it.
fn snapshot(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/snapshots/{name}.txt"));
    if std::env::var_os("SCRIBSEG_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap().replace("\r\n", "\n");
    assert_eq!(text, expected, "{} differs; SCRIBSEG_BLESS=1 writes it anew", path.display());
}

#[test]
fn the_help_lists_every_verb() {
    let help = scribseg(["--help"]).succeeds();
    for verb in VERBS {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb}");
    }
    snapshot("help", &help);
}

#[test]
fn every_verb_has_help_with_the_exit_status_of_success() {
    for verb in VERBS {
        snapshot(&format!("help-{verb}"), &scribseg([verb, "--help"]).succeeds());
    }
}

#[test]
fn the_version_is_data() {
    assert_eq!(scribseg(["--version"]).succeeds(), format!("scribseg {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn bad_usage_names_what_is_wrong() {
    for (words, word) in [
        ("", "Usage"),
        ("frobnicate", "frobnicate"),
        ("fit", "COHORT"),
        ("fit cohort", "--out"),
        ("predict --model run --out out", "INPUT"),
        ("phantom --out out --cases 0", "whole number from 1"),
        ("phantom --out out --cases 2 --size tiny", "tiny"),
        ("phantom --out out --cases 2 --threads 0", "--threads"),
        ("check cohort --device gpu", "expected auto, cpu, cuda or cuda:N"),
        ("check cohort --device cuda:x", "cuda:N"),
        ("fit cohort --out run --set train.batsh=8", "train.batsh"),
        ("fit cohort --out run --set train.batch=x", "train.batch"),
        ("fit cohort --out run --set train.batch", "key=value"),
        ("fit cohort --out run --preset smoke --config c.toml", "--config"),
        ("fit cohort --out run --preset tiny", "tiny"),
        ("fit cohort --out run --precision half", "f32, bf16 or auto"),
        ("fit cohort --out run --set network.precision=auto", "one of f32, bf16"),
        ("cluster cohort --masks reference --out out --method guess", "--method guess"),
        ("reproduce --rows SC,Best", "Best"),
        ("evaluate --reference a --prediction b --empty perhaps", "perhaps"),
    ] {
        let ran = scribseg(words.split_whitespace()).refuses(2, &[word]);
        assert_eq!(ran.stdout, "", "{words}");
    }
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_build_without_cuda_says_so_and_what_to_do() {
    for device in ["cuda", "cuda:1"] {
        scribseg(["check", "cohort", "--device", device]).refuses(2, &["--features cuda", "--device cpu"]);
    }
}
