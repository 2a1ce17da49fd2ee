//! A tiny cohort and the binary.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ndarray::{Array3, Array4};
use scribseg_io::{Geometry, write_case};

/// Slices, rows, columns of the tiny cohort, and its voxel size in mm.
pub(crate) const SHAPE: [usize; 3] = [6, 32, 32];
pub(crate) const SPACING: [f64; 3] = [4.0, 4.0, 4.0];

/// What the binary did.
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Fails unless the exit status is this one and stderr holds all the words.
    pub(crate) fn refuses(self, status: i32, words: &[&str]) -> Self {
        assert_eq!(self.status, status, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "expected `{word}` in: {}", self.stderr);
        }
        self
    }

    /// Fails unless the exit status is 0; gives stdout.
    pub(crate) fn succeeds(self) -> String {
        assert_eq!(self.status, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs the binary with these words; a panic fails the test whatever the exit status.
pub(crate) fn scribseg<S: AsRef<std::ffi::OsStr>>(words: impl IntoIterator<Item = S>) -> Ran {
    ran(Command::new(env!("CARGO_BIN_EXE_scribseg")).args(words))
}

fn ran(command: &mut Command) -> Ran {
    let output = command.env("COLUMNS", "100").env("NO_COLOR", "1").stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let ran = Ran {
        status: output.status.code().expect("ended by a signal"),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    };
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    ran
}

/// Runs a line of words without spaces in them, in which `{name}` stands for a path.
pub(crate) fn line(words: &str, paths: &[(&str, &Path)]) -> Ran {
    scribseg(filled(words, paths))
}

/// The same with instructions of the processor forced.
pub(crate) fn forced(cpu: &str, words: &str, paths: &[(&str, &Path)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scribseg"));
    ran(command.args(filled(words, paths)).env("SCRIBSEG_CPU", cpu))
}

fn filled(words: &str, paths: &[(&str, &Path)]) -> Vec<String> {
    let fill = |word: &str| {
        let mut word = word.to_owned();
        for (name, path) in paths {
            word = word.replace(&format!("{{{name}}}"), path.to_str().unwrap());
        }
        word
    };
    words.split(' ').map(fill).collect()
}

/// The name of a case of the tiny cohort.
pub(crate) fn case_name(index: usize) -> String {
    format!("case_{index}")
}

/// One file of a case.
pub(crate) fn file(cohort: &Path, index: usize, what: &str) -> PathBuf {
    let id = case_name(index);
    cohort.join(&id).join(format!("{id}_{what}.nii.gz"))
}

/// Writes cases of a round brain with a square tumour in which ET lies in NCR/NET lies in ED.
pub(crate) fn tiny_cohort(folder: &Path, cases: usize) -> PathBuf {
    let cohort = folder.join("cohort");
    let geometry = Geometry::from_spacing(SHAPE, SPACING).unwrap();
    for index in 0..cases {
        let (cy, cx) = (13 + index % 3, 14 + index % 2);
        let labels = Array3::from_shape_fn(SHAPE, |(z, y, x)| {
            let distance = y.abs_diff(cy).max(x.abs_diff(cx));
            match distance {
                _ if z == 0 || z == SHAPE[0] - 1 => 0,
                0..=1 => 3,
                2 => 1,
                3..=5 => 2,
                _ => 0u8,
            }
        });
        let images = Array4::from_shape_fn([4, SHAPE[0], SHAPE[1], SHAPE[2]], |(c, z, y, x)| {
            let (dy, dx) = (y as f32 - 15.5, x as f32 - 15.5);
            if dy * dy + dx * dx > 14.0 * 14.0 {
                return 0.0;
            }
            let texture = ((x * 7 + y * 13 + z * 5 + c * 3 + index) % 11) as f32;
            let contrast = [[0, 0, 0, 0], [-30, -20, 90, 60], [0, 0, 60, 90], [10, 120, 60, 80]];
            400.0 + texture + contrast[labels[[z, y, x]] as usize][c] as f32
        });
        write_case(&cohort, &case_name(index), images.view(), Some(labels.view()), &geometry).unwrap();
    }
    cohort
}

/// Every file below a folder, by its path there, in name order.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

/// Fails if anything half-written is left, or a label file or model is there at all.
pub(crate) fn nothing_written(folder: &Path) {
    for name in files(folder) {
        assert!(
            !name.ends_with(".nii.gz") && !name.ends_with(".safetensors") && !name.contains("tmp"),
            "found {name}"
        );
    }
}
