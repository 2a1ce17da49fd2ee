//! What `cargo metadata` says, as far as we read it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::shell;

#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) target_directory: PathBuf,
    pub(crate) workspace_root: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    /// Absent for packages of the workspace.
    pub(crate) source: Option<String>,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `dev`, `build` or nothing.
    pub(crate) kind: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Vec<String>,
    /// Features without which it is not built.
    #[serde(default, rename = "required-features")]
    pub(crate) required_features: Vec<String>,
}

impl Package {
    /// The folder of its manifest.
    pub(crate) fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("."))
    }

    /// The name of that folder.
    pub(crate) fn short_name(&self) -> &str {
        self.folder().file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Whether it has a target of this kind (`example`, `bench`).
    pub(crate) fn has_target(&self, kind: &str) -> bool {
        self.targets.iter().any(|target| target.kind.iter().any(|k| k == kind))
    }
}

/// The workspace's own packages. Needs neither lock file nor network.
pub(crate) fn workspace() -> Result<Metadata> {
    read(shell::cargo(["metadata", "--format-version", "1", "--no-deps"]))
}

/// All packages that a build for this machine can need.
pub(crate) fn with_dependencies() -> Result<Metadata> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("-vV").output().context("rustc -vV could not be started")?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.with_context(|| format!("rustc -vV: expected a line `host: …`, found {version:?}"))?;
    read(shell::cargo(["metadata", "--format-version", "1", "--filter-platform", host]))
}

/// A package by its own name or its folder's.
pub(crate) fn find(metadata: &Metadata, name: &str) -> Result<String> {
    match metadata.packages.iter().find(|p| p.name == name || p.short_name() == name) {
        Some(package) => Ok(package.name.clone()),
        None => {
            let known: Vec<&str> = metadata.packages.iter().map(Package::short_name).collect();
            bail!("--crate: expected one of {}, found `{name}`", known.join(", "))
        }
    }
}

fn read(mut command: Command) -> Result<Metadata> {
    let output = command.output().context("cargo metadata could not be started")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata printed something else than expected")
}
