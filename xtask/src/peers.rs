//! The Python environment that peers are measured in: made below `target`, pinned, and made anew when a pin changes.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{metadata, shell};

/// What the environment holds, in the order of installation: the last need the first ones to be built.
const PINS: [&[&str]; 2] = [
    &["setuptools==75.8.0", "wheel==0.45.1", "cython==3.0.12", "numpy==1.26.4"],
    &["scipy==1.15.3", "scikit-image==0.25.2", "pydensecrf2==1.1"],
];

/// The interpreter of the environment, which is made if it is not there.
pub(crate) fn python() -> Result<PathBuf> {
    let folder = metadata::workspace()?.target_directory.join("peers");
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let (stamp, pins) = (folder.join("pins.txt"), PINS.concat().join("\n"));
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == pins) {
        return Ok(python);
    }
    eprintln!("== peers: {}", PINS.concat().join(", "));
    if folder.exists() {
        std::fs::remove_dir_all(&folder)
            .with_context(|| format!("{}: cannot be removed", folder.display()))?;
    }
    step(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    for pins in PINS {
        let pip = ["-m", "pip", "install", "--quiet", "--no-build-isolation"];
        step(Command::new(&python).args(pip).args(pins))?;
    }
    std::fs::write(&stamp, pins).with_context(|| format!("{}: cannot be written", stamp.display()))?;
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
