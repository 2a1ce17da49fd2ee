//! The Python environments that peers are measured in and exported networks checked in: made below `target`, pinned, and made anew when a pin changes.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{metadata, shell};

/// A Python environment.
struct Environment {
    name: &'static str,
    /// Crates whose benches it serves.
    crates: &'static [&'static str],
    /// What it holds, in the order of installation: the last need the first ones to be built.
    pins: &'static [&'static [&'static str]],
}

const BUILD: &[&str] = &["setuptools==75.8.0", "wheel==0.45.1", "cython==3.0.12", "numpy==1.26.4"];

/// The last one serves every crate that no other names. PyTorch stands apart: it is some gigabytes.
const ENVIRONMENTS: [Environment; 3] = [
    Environment {
        name: "python-onnx",
        crates: &[],
        pins: &[
            &["numpy==1.26.4"],
            &["onnx==1.19.1", "onnxruntime==1.23.2", "nibabel==5.3.2", "safetensors==0.5.3"],
        ],
    },
    Environment {
        name: "peers-torch",
        crates: &["unet", "pipeline"],
        pins: &[BUILD, &["torch==2.12.1", "nibabel==5.3.2", "safetensors==0.5.3"]],
    },
    Environment {
        name: "peers",
        crates: &[],
        pins: &[BUILD, &["scipy==1.15.3", "scikit-image==0.25.2", "pydensecrf2==1.1", "nibabel==5.3.2"]],
    },
];

/// The interpreter of the environment that serves a crate's benches; made if it is not there.
pub(crate) fn python(crate_name: &str) -> Result<PathBuf> {
    let [special @ .., rest] = &ENVIRONMENTS;
    make(special.iter().find(|e| e.crates.contains(&crate_name)).unwrap_or(rest))
}

/// The interpreter of the environment of this name; made if it is not there.
pub(crate) fn environment(name: &str) -> Result<PathBuf> {
    make(ENVIRONMENTS.iter().find(|e| e.name == name).with_context(|| format!("no environment `{name}`"))?)
}

fn make(environment: &Environment) -> Result<PathBuf> {
    let Environment { name, pins, .. } = environment;
    let folder = metadata::workspace()?.target_directory.join(name);
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let (stamp, all) = (folder.join("pins.txt"), pins.concat().join("\n"));
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == all) {
        return Ok(python);
    }
    eprintln!("== {name}: {}", pins.concat().join(", "));
    if folder.exists() {
        std::fs::remove_dir_all(&folder)
            .with_context(|| format!("{}: cannot be removed", folder.display()))?;
    }
    step(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    for pins in *pins {
        let pip = ["-m", "pip", "install", "--quiet", "--no-build-isolation"];
        step(Command::new(&python).args(pip).args(*pins))?;
    }
    std::fs::write(&stamp, all).with_context(|| format!("{}: cannot be written", stamp.display()))?;
    Ok(python)
}

/// Runs a command that has to succeed; what it prints is talk.
fn step(command: &mut Command) -> Result<()> {
    let status = shell::status(command.stdout(Stdio::null()))?;
    if !status.success() {
        bail!(
            "{command:?}: {status}; peers need Python 3.10 to 3.12 with venv, a C++ compiler and a package index"
        );
    }
    Ok(())
}
