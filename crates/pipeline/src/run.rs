//! The run directory: one configuration, stages that are skipped once done, files that are never half-written.

use std::path::{Path, PathBuf};

use serde::{Serialize, de::DeserializeOwned};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::inputs::Inputs;

const CONFIG: &str = "config.toml";
const INPUTS: &str = "inputs.json";
const PROGRAM: &str = "program.txt";

/// This program: its version, and the BLAKE3 of the sources of all that computes.
pub fn program() -> String {
    format!("scribseg {}, sources {}", env!("CARGO_PKG_VERSION"), env!("SCRIBSEG_SOURCES"))
}

/// A folder that belongs to one configuration and one set of inputs.
#[derive(Clone)]
pub struct RunDir {
    root: PathBuf,
}

impl RunDir {
    /// Whether `root` could be opened for `config` over `inputs`; nothing is written. To be asked before the inputs are
    /// validated, which takes a while, as [`open`](Self::open) is to be called after.
    ///
    /// # Errors
    /// [`Error::RunDirectory`] when it is no folder, holds somebody else's files or the run of another configuration or
    /// of other inputs.
    pub fn examine(root: &Path, config: &Config, inputs: &Inputs) -> Result<()> {
        if !Self::holds_run_of(root, config)? {
            return root.ancestors().find(|p| p.is_dir()).map_or(Ok(()), writable);
        }
        writable(root)?;
        Self::same_inputs(root, inputs)
    }

    /// A folder that is looked at and not written to.
    pub(crate) fn unopened(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// An error if the run in `root` was made from other inputs.
    pub(crate) fn same_inputs(root: &Path, inputs: &Inputs) -> Result<()> {
        match inputs.difference(&Self::inputs_of(root)?) {
            None => Ok(()),
            Some(difference) => Err(Error::RunDirectory {
                path: root.to_owned(),
                problem: format!(
                    "holds the run of other inputs ({difference}); choose another `--out`, or remove it to train anew"
                ),
            }),
        }
    }

    /// What the run in `root` was made from.
    ///
    /// # Errors
    /// [`Error::RunDirectory`] when its record is missing or damaged.
    pub fn inputs_of(root: &Path) -> Result<Inputs> {
        let there = Self { root: root.to_owned() };
        there.read_json(INPUTS).map_err(|e| Error::RunDirectory {
            path: root.to_owned(),
            problem: format!(
                "holds a run whose record of its inputs, {INPUTS}, is missing or damaged ({e}); it cannot be taken up: choose another `--out`, or remove the run"
            ),
        })
    }

    /// Whether `root` holds a run of `config`; `false` where there is nothing yet. Nothing is written.
    ///
    /// # Errors
    /// [`Error::RunDirectory`] when it is no folder, holds somebody else's files or the run of another configuration.
    pub fn holds_run_of(root: &Path, config: &Config) -> Result<bool> {
        let refuse = |problem: String| Error::RunDirectory { path: root.to_owned(), problem };
        if let Some(file) = root.ancestors().find(|p| p.exists()).filter(|p| !p.is_dir()) {
            return Err(refuse(format!(
                "{} is a file, not a folder; choose another `--out`",
                file.display()
            )));
        }
        let run = Self { root: root.to_owned() };
        let theirs = match std::fs::read_to_string(run.path(CONFIG)) {
            Ok(theirs) => theirs,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let entries = match std::fs::read_dir(root) {
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
                    entries => entries.map_err(|e| refuse(format!("cannot be listed: {e}")))?,
                };
                let holds_files = entries.flatten().any(|entry| {
                    let name = entry.file_name();
                    name != "cohort" && name != INPUTS && !name.to_string_lossy().ends_with(".tmp")
                });
                return match holds_files {
                    true => {
                        Err(refuse("is not empty and holds no run of ours; choose another `--out`".into()))
                    }
                    false => Ok(false),
                };
            }
            Err(e) => return Err(refuse(format!("{CONFIG} cannot be read: {e}"))),
        };
        let mine = Self::config_text(config);
        if theirs != mine {
            let pairs = mine.lines().zip(theirs.lines());
            let difference = match pairs.into_iter().find(|(a, b)| a != b && !a.starts_with('#')) {
                Some((a, b)) => format!("here `{a}`, there `{b}`"),
                None => format!("{CONFIG} was changed by hand"),
            };
            return Err(refuse(format!(
                "holds the run of another configuration ({difference}); choose another `--out`, or go on with its own settings: `--config {}`",
                run.path(CONFIG).display()
            )));
        }
        Ok(true)
    }

    /// Opens `root` for `config` over `inputs`, making the folder if need be.
    ///
    /// # Errors
    /// Those of [`examine`](Self::examine), and when the folder cannot be written.
    pub fn open(root: &Path, config: &Config, inputs: &Inputs) -> Result<Self> {
        Self::examine(root, config, inputs)?;
        std::fs::create_dir_all(root).map_err(|e| Error::RunDirectory {
            path: root.to_owned(),
            problem: format!("cannot be made: {e}; choose a writable `--out`"),
        })?;
        let run = Self { root: root.to_owned() };
        // The configuration comes last: where it is, the run is ours; and a start cut short leaves nothing that the next
        // one would take for somebody else's.
        if !run.has(CONFIG) {
            run.write_json(INPUTS, inputs)?;
            run.write(CONFIG, Self::config_text(config).as_bytes())?;
        }
        run.note_program()?;
        run.make_parent(&run.path("checkpoints/of"))?;
        Ok(run)
    }

    /// A line for every program that had a part in the run, in their order.
    fn note_program(&self) -> Result<()> {
        let there = std::fs::read_to_string(self.path(PROGRAM)).unwrap_or_default();
        let line = program();
        match there.lines().any(|known| known == line) {
            true => Ok(()),
            false => self.write(PROGRAM, format!("{there}{line}\n").as_bytes()),
        }
    }

    fn config_text(config: &Config) -> String {
        format!("# Every value in force. config hash {}\n{}", config.hash(), config.to_toml())
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path inside.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Whether a file is there, and so the stage that makes it is done.
    pub fn has(&self, relative: &str) -> bool {
        self.path(relative).is_file()
    }

    /// Writes aside and renames.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk refuses.
    pub fn write(&self, relative: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(relative);
        self.make_parent(&path)?;
        Ok(scribseg_io::write_atomic(&path, bytes)?)
    }

    /// [`write`](Self::write) of pretty JSON.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk refuses.
    pub fn write_json(&self, relative: &str, value: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string_pretty(value).map_err(|e| self.at_fault(relative, &e))?;
        text.push('\n');
        self.write(relative, text.as_bytes())
    }

    /// Reads JSON that [`write_json`](Self::write_json) wrote.
    ///
    /// # Errors
    /// [`Error::Read`] or [`Error::RunDirectory`] when it is not there or not ours.
    pub fn read_json<T: DeserializeOwned>(&self, relative: &str) -> Result<T> {
        let path = self.path(relative);
        let text = std::fs::read_to_string(&path).map_err(|source| Error::Read { path, source })?;
        serde_json::from_str(&text).map_err(|e| self.at_fault(relative, &e))
    }

    /// Makes the folder a file will lie in.
    ///
    /// # Errors
    /// [`Error::RunDirectory`] when the disk refuses.
    pub fn make_parent(&self, path: &Path) -> Result<()> {
        match path.parent() {
            Some(parent) => std::fs::create_dir_all(parent).map_err(|e| Error::RunDirectory {
                path: parent.to_owned(),
                problem: format!("cannot be made: {e}"),
            }),
            None => Ok(()),
        }
    }

    fn at_fault(&self, relative: &str, e: &dyn std::fmt::Display) -> Error {
        Error::RunDirectory {
            path: self.path(relative),
            problem: format!("{e}; remove the file to make it anew"),
        }
    }
}

/// An error unless files can be made in `folder`: to be told before the work, not after it.
pub(crate) fn writable(folder: &Path) -> Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let probe = folder.join(format!(".scribseg-{}.tmp", std::process::id()));
    let made = std::fs::File::create(&probe);
    let _ = std::fs::remove_file(&probe);
    made.map(drop).map_err(|e| Error::RunDirectory {
        path: folder.to_owned(),
        problem: format!("cannot be written to: {e}; choose a writable `--out`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_configuration_is_refused_by_the_value_that_differs() {
        let folder = tempfile::tempdir().unwrap();
        let inputs = Inputs::default();
        let config = Config::default();
        RunDir::open(folder.path(), &config, &inputs).unwrap();
        RunDir::open(folder.path(), &config, &inputs).unwrap();
        let mut other = config.clone();
        other.set("train.batch=3").unwrap();
        let message = RunDir::open(folder.path(), &other, &inputs).err().unwrap().to_string();
        assert!(message.contains("batch = 3") && message.contains("batch = 32"), "{message}");
    }

    #[test]
    fn inputs_that_changed_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let cohort = folder.path().join("cohort/a");
        std::fs::create_dir_all(&cohort).unwrap();
        for name in scribseg_io::MODALITIES {
            std::fs::write(cohort.join(format!("a_{name}.nii.gz")), name).unwrap();
        }
        let cohort = scribseg_io::Cohort::open(folder.path().join("cohort"), None).unwrap();
        let (scribbles, out) = (folder.path().join("scribbles"), folder.path().join("out"));
        std::fs::create_dir_all(&scribbles).unwrap();
        let inputs = || Inputs::of(&cohort, Some(&scribbles), None).unwrap();
        let config = Config::default();
        RunDir::open(&out, &config, &inputs()).unwrap();
        let refused = |inputs| RunDir::open(&out, &config, &inputs).err().unwrap().to_string();
        std::fs::write(scribbles.join("a_scribble.nii"), "x").unwrap();
        let message = refused(inputs());
        assert!(message.contains("scribble of a: new since then"), "{message}");
        std::fs::remove_file(scribbles.join("a_scribble.nii")).unwrap();
        RunDir::open(&out, &config, &inputs()).unwrap();
        std::fs::write(&cohort.cases[0].paths[2], "another scan").unwrap();
        let message = refused(inputs());
        assert!(message.contains("t2 of a: its content changed"), "{message}");
    }

    #[test]
    fn a_folder_of_somebody_elses_files_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("thesis.tex"), "x").unwrap();
        let message =
            RunDir::open(folder.path(), &Config::default(), &Inputs::default()).err().unwrap().to_string();
        assert!(message.contains("not empty"), "{message}");
        assert!(!folder.path().join(CONFIG).exists());
    }
}
