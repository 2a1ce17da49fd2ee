//! The programs that check and measure on a device: built here, or packed into a folder for a machine that has neither cargo nor a network.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{peers, shell};

/// A program: what it is called in a packed folder, and what cargo calls its target.
struct Source {
    packed: &'static str,
    package: &'static str,
    target: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Program,
    Test,
    Bench,
}

/// A crate with kernels of its own: its folder, its tests of a device, its bench there.
pub(super) struct Kernels {
    pub(super) folder: &'static str,
    pub(super) test: &'static str,
    pub(super) bench: &'static str,
}

pub(super) const KERNELS: [Kernels; 2] = [
    Kernels { folder: "crf-kernels", test: "crf-test", bench: "crf-bench" },
    Kernels { folder: "unet", test: "unet-test", bench: "unet-bench" },
];

/// The program itself.
pub(super) const SCRIBSEG: &str = "scribseg";

const SOURCES: [Source; 5] = [
    Source { packed: SCRIBSEG, package: "scribseg", target: "scribseg", kind: Kind::Program },
    Source { packed: "unet-test", package: "scribseg-unet", target: "device", kind: Kind::Test },
    Source { packed: "unet-bench", package: "scribseg-unet", target: "device", kind: Kind::Bench },
    Source { packed: "crf-test", package: WITHOUT_TOOLKIT, target: "cuda", kind: Kind::Test },
    Source { packed: "crf-bench", package: WITHOUT_TOOLKIT, target: "cuda", kind: Kind::Bench },
];

/// The package whose kernels build without a CUDA toolkit.
const WITHOUT_TOOLKIT: &str = "scribseg-crf-kernels";

/// Scripts of peers that the benches start: the variable that names each, and where it lies.
const SCRIPTS: [(&str, &str); 3] = [
    ("SCRIBSEG_PEER_DEVICE", "crates/unet/benches/peer_device.py"),
    ("SCRIBSEG_PEER_CUDA", "crates/crf-kernels/benches/peer_cuda.py"),
    // Read by the first.
    ("", "crates/unet/benches/network.py"),
];

/// The part of cargo's messages that names a built program.
#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Builds the programs of a kind, with CUDA, optimised. Packages together: one after the other would build what they need anew for each.
fn build(kind: Kind, toolkit: bool) -> Result<Vec<(&'static str, PathBuf)>> {
    let sources: Vec<&Source> =
        SOURCES.iter().filter(|s| s.kind == kind && (toolkit || s.package == WITHOUT_TOOLKIT)).collect();
    if sources.is_empty() {
        return Ok(Vec::new());
    }
    let (words, target): (&[&str], &str) = match kind {
        Kind::Program => (&["build", "--release"], "--bin"),
        Kind::Test => (&["test", "--release", "--no-run"], "--test"),
        Kind::Bench => (&["bench", "--no-run"], "--bench"),
    };
    let mut command = shell::cargo(words.iter().copied().chain(["--message-format=json"]));
    for source in &sources {
        // Where candle is built with CUDA too, it links what the kernels alone load at run time.
        let feature = if toolkit && source.package == WITHOUT_TOOLKIT { "candle-cuda" } else { "cuda" };
        command.args(["-p", source.package, "--features", &format!("{}/{feature}", source.package)]);
        command.args([target, source.target]);
    }
    let output = command.stderr(Stdio::inherit()).output().context("cargo could not be started")?;
    if !output.status.success() {
        bail!("{command:?}: {}", output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let messages: Vec<Message> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let path = |source: &Source| {
        let mut programs =
            messages.iter().filter(|m| m.target.as_ref().is_some_and(|t| t.name == source.target));
        let program = programs.find_map(|message| message.executable.clone());
        program
            .with_context(|| format!("expected cargo to name the program of {}, found none", source.packed))
    };
    sources.into_iter().map(|source| Ok((source.packed, path(source)?))).collect()
}

/// Programs by their packed names, and what they run with.
pub(super) struct Programs {
    folder: Option<PathBuf>,
    built: Vec<(&'static str, PathBuf)>,
}

impl Programs {
    /// Those of a packed folder.
    pub(super) fn packed(folder: &Path) -> Result<Self> {
        let folder = folder
            .canonicalize()
            .with_context(|| format!("{}: expected a packed folder", folder.display()))?;
        let mut built = Vec::new();
        for source in &SOURCES {
            let path = folder.join(source.packed);
            if !path.is_file() {
                bail!(
                    "{}: expected a program that `cargo xtask cuda --pack` put there, found none",
                    path.display()
                );
            }
            built.push((source.packed, path));
        }
        Ok(Self { folder: Some(folder), built })
    }

    /// Built here; without a toolkit those alone that need none.
    pub(super) fn build(toolkit: bool) -> Result<Self> {
        let kinds = [Kind::Program, Kind::Test, Kind::Bench].map(|kind| build(kind, toolkit));
        let built = kinds.into_iter().collect::<Result<Vec<_>>>()?.concat();
        Ok(Self { folder: None, built })
    }

    /// Puts the programs, this one and the peers' scripts into a folder, stripped.
    pub(super) fn pack(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
        let this = std::env::current_exe().context("this program's own path")?;
        let copy = |name: &str, from: &Path| {
            let to = folder.join(name);
            let problem = || format!("{}: cannot be copied to {}", from.display(), to.display());
            std::fs::copy(from, &to).with_context(problem)?;
            Ok::<_, anyhow::Error>(to)
        };
        let programs = self.built.iter().map(|(name, path)| (*name, path.as_path()));
        for (name, from) in programs.chain([("xtask", this.as_path())]) {
            let to = copy(name, from)?;
            if !shell::status(Command::new("strip").arg(&to))?.success() {
                bail!("{}: cannot be stripped", to.display());
            }
        }
        for (_, path) in SCRIPTS {
            copy(name_of(Path::new(path)), &shell::root().join(path))?;
        }
        Ok(())
    }

    pub(super) fn path(&self, name: &str) -> Option<&Path> {
        self.built.iter().find(|(built, _)| *built == name).map(|(_, path)| path.as_path())
    }

    /// A program ready to run: with CUDA's libraries where they come with PyTorch, and with the peers' scripts of a packed folder.
    pub(super) fn command(&self, name: &str) -> Option<Command> {
        let mut command = Command::new(self.path(name)?);
        self.environment(&mut command);
        Some(command)
    }

    /// A program under another one, such as NVIDIA's sanitizer.
    pub(super) fn under(&self, tool: &[&str], name: &str) -> Option<Command> {
        let (first, rest) = tool.split_first()?;
        let mut command = Command::new(first);
        command.args(rest).arg(self.path(name)?);
        self.environment(&mut command);
        Some(command)
    }

    fn environment(&self, command: &mut Command) {
        let Some(folder) = &self.folder else { return };
        for (variable, path) in SCRIPTS.iter().filter(|(variable, _)| !variable.is_empty()) {
            command.env(variable, folder.join(name_of(Path::new(path))));
        }
        let mut libraries = libraries(&self.python("unet").unwrap_or_else(|_| "python3".into()));
        libraries.extend(std::env::var_os("LD_LIBRARY_PATH").iter().flat_map(std::env::split_paths));
        if let Ok(joined) = std::env::join_paths(libraries) {
            command.env("LD_LIBRARY_PATH", joined);
        }
    }

    /// The interpreter whose PyTorch the benches of a crate stand beside: the pinned one or, in a packed folder, the machine's own.
    pub(super) fn python(&self, crate_folder: &str) -> Result<PathBuf> {
        match self.folder {
            Some(_) => {
                Ok(std::env::var_os("SCRIBSEG_PYTHON").map_or_else(|| "python3".into(), PathBuf::from))
            }
            None => peers::python(crate_folder),
        }
    }
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// The folders of the CUDA libraries that came with a Python's PyTorch.
fn libraries(python: &Path) -> Vec<PathBuf> {
    const SCRIPT: &str = "import glob, site\nfor s in site.getsitepackages():\n  for p in sorted(glob.glob(s + '/nvidia/*/lib')): print(p)";
    let output = Command::new(python).args(["-c", SCRIPT]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().map(PathBuf::from).collect()
}
