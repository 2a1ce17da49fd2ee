//! The invariants of ARCHITECTURE.md that can be read off manifests and sources.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::metadata::{Metadata, Package};

/// Crates that may know the others and touch the disk.
const JOINTS: [&str; 3] = ["pipeline", "report", "cli"];
/// The crate that is a program: its README is the project's.
const BINARY: &str = "cli";
/// The leaf crate that every other one may use.
const SHARED: &str = "scribseg-morphology";
/// The leaf crate that touches the disk.
const DISK: &str = "io";
/// Longer files are asked to be split.
const LONGEST: usize = 600;

/// A source file.
pub(crate) struct Source {
    path: PathBuf,
    text: String,
}

/// Everything that breaks an invariant.
pub(crate) fn check(metadata: &Metadata) -> Result<Vec<String>> {
    let crates: Vec<&Package> = metadata
        .packages
        .iter()
        .filter(|p| p.folder().parent().is_some_and(|f| f.ends_with("crates")))
        .collect();
    let names: Vec<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    let mut faults = Vec::new();
    for package in crates.iter().filter(|p| p.short_name() != BINARY) {
        faults.extend(lacks(package));
    }
    for package in crates.iter().filter(|p| !JOINTS.contains(&p.short_name())) {
        faults.extend(knows_siblings(package, &names));
        if package.short_name() != DISK {
            faults.extend(sources(&package.folder().join("src"))?.iter().flat_map(touches_disk));
        }
    }
    for package in &metadata.packages {
        faults.extend(sources(package.folder())?.iter().filter_map(too_long));
    }
    Ok(faults)
}

/// Leaf crates know no sibling but `morphology`, which knows none.
fn knows_siblings(package: &Package, siblings: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    for dependency in &package.dependencies {
        let name = dependency.name.as_str();
        let allowed = name == SHARED && package.name != SHARED;
        if siblings.contains(&name) && !allowed {
            let kind = dependency.kind.as_deref().unwrap_or("normal");
            faults.push(format!(
                "{}: a leaf crate may depend on no sibling but {SHARED}, found {name} ({kind}); join them in pipeline",
                package.name
            ));
        }
    }
    faults
}

/// Each library has a README, an example and a bench.
fn lacks(package: &Package) -> Vec<String> {
    let readme = package.folder().join("README.md").is_file();
    [
        ("README.md", readme),
        ("an example", package.has_target("example")),
        ("a bench", package.has_target("bench")),
    ]
    .into_iter()
    .filter(|(_, there)| !there)
    .map(|(what, _)| format!("{}: expected {what}, found none", package.name))
    .collect()
}

/// Leaf crates speak arrays and tensors, not files.
fn touches_disk(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if ["std::fs", "fs::", "std::{fs", "File::open", "File::create"]
            .iter()
            .any(|word| code.contains(word))
        {
            faults.push(format!(
                "{}:{}: leaf crates but io touch no file, found `{}`",
                source.path.display(),
                number + 1,
                line.trim()
            ));
        }
    }
    faults
}

/// One idea a module.
fn too_long(source: &Source) -> Option<String> {
    let lines = source.text.lines().count();
    let path = source.path.display();
    (lines > LONGEST)
        .then(|| format!("{path}: expected at most {LONGEST} lines, found {lines}; split it by idea"))
}

/// All Rust files below a folder, in name order.
fn sources(folder: &Path) -> Result<Vec<Source>> {
    let mut found = Vec::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    let failed = || format!("{} cannot be listed", folder.display());
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(failed)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<std::io::Result<_>>()
        .with_context(failed)?;
    entries.sort();
    for path in entries {
        if path.is_dir() && !path.ends_with("target") {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            found.push(Source { path, text });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Dependency;

    const SIBLINGS: [&str; 3] = ["scribseg-io", "scribseg-unet", SHARED];

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependency = |(name, kind): &(&str, Option<&str>)| Dependency {
            name: (*name).into(),
            kind: kind.map(Into::into),
        };
        Package {
            name: name.into(),
            dependencies: dependencies.iter().map(dependency).collect(),
            ..Package::default()
        }
    }

    #[test]
    fn a_leaf_that_knows_a_sibling_is_found_out() {
        let fine = package("scribseg-unet", &[("ndarray", None), (SHARED, None), (SHARED, Some("dev"))]);
        assert!(knows_siblings(&fine, &SIBLINGS).is_empty());
        for kind in [None, Some("dev"), Some("build")] {
            let faults = knows_siblings(&package("scribseg-unet", &[("scribseg-io", kind)]), &SIBLINGS);
            assert_eq!(faults.len(), 1, "{kind:?}");
            assert!(
                faults[0].contains("scribseg-unet") && faults[0].contains("scribseg-io"),
                "{}",
                faults[0]
            );
        }
        assert_eq!(knows_siblings(&package(SHARED, &[("scribseg-io", Some("dev"))]), &SIBLINGS).len(), 1);
        assert_eq!(knows_siblings(&package(SHARED, &[(SHARED, None)]), &SIBLINGS).len(), 1);
    }

    #[test]
    fn a_leaf_that_opens_files_is_found_out() {
        let source = |text: &str| Source { path: "src/lib.rs".into(), text: text.into() };
        assert!(touches_disk(&source("//! not std::fs\nfn f() {} // fs::read\n")).is_empty());
        let faults = touches_disk(&source("use std::fs;\n\nlet x = std::fs::File::open(p);\n"));
        assert_eq!(faults.len(), 2);
        assert!(faults[1].starts_with("src/lib.rs:3:"), "{}", faults[1]);
    }

    #[test]
    fn a_long_file_is_found_out() {
        let source = |lines: usize| Source { path: "src/lib.rs".into(), text: "x\n".repeat(lines) };
        assert_eq!(too_long(&source(LONGEST)), None);
        assert!(too_long(&source(LONGEST + 1)).unwrap().contains("601"));
    }

    #[test]
    fn a_crate_without_readme_example_and_bench_is_found_out() {
        assert_eq!(lacks(&package("scribseg-unet", &[])).len(), 3);
    }

    #[test]
    fn this_workspace_keeps_its_invariants() {
        let faults = check(&crate::metadata::workspace().unwrap()).unwrap();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
