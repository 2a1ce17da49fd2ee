//! `SCRIBSEG_SOURCES`: one hash of the sources of every crate that computes, so that a run can say what code made it.

use std::path::{Path, PathBuf};

/// The crates beside this one; those that are not there, as in a package of this one alone, are passed over.
const CRATES: [&str; 9] =
    ["cluster", "crf-kernels", "graphcut", "io", "metrics", "morphology", "phantom", "scribble", "unet"];

fn main() -> std::io::Result<()> {
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let beside = here.parent().unwrap_or(&here);
    let mut files = Vec::new();
    for name in CRATES.into_iter().chain(["pipeline"]) {
        let folder = if name == "pipeline" { here.join("src") } else { beside.join(name).join("src") };
        if folder.is_dir() {
            println!("cargo:rerun-if-changed={}", folder.display());
            collect(&folder, name, &mut files)?;
        }
    }
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for (name, path) in files {
        // Line ends are as git writes them on this machine.
        let text = std::fs::read_to_string(path)?.replace("\r\n", "\n");
        hasher.update(format!("{name}\0{}\0", text.len()).as_bytes()).update(text.as_bytes());
    }
    println!("cargo:rustc-env=SCRIBSEG_SOURCES={}", &hasher.finalize().to_hex()[..16]);
    Ok(())
}

/// Every file below a folder, by a name that does not depend on where the folder is.
fn collect(folder: &Path, name: &str, files: &mut Vec<(String, PathBuf)>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = format!("{name}/{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            collect(&path, &name, files)?;
        } else {
            files.push((name, path));
        }
    }
    Ok(())
}
