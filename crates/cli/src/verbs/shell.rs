//! `completions` and `man`: made from the definitions of the arguments, so that they cannot lag behind.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};

use super::written;
use crate::arguments::{Arguments, Completions, Man};
use crate::outcome::{Outcome, print};

pub(crate) fn completions(arguments: &Completions) -> Result<Outcome> {
    let mut script = Vec::new();
    let mut command = Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "scribseg", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}

pub(crate) fn man(arguments: &Man) -> Result<Outcome> {
    let Man { out, json } = arguments;
    std::fs::create_dir_all(out)
        .with_context(|| format!("{}: cannot be made; choose a writable --out", out.display()))?;
    let mut command = Arguments::command();
    // `help` repeats the tree of all others.
    command = command.disable_help_subcommand(true);
    command.build();
    let mut files = Vec::new();
    pages(&command, "scribseg", out, &mut files)?;
    written(&files, *json)
}

/// The page of a command and those of the commands below it, named as `git-add` is.
fn pages(command: &Command, name: &str, out: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone().display_name(name)).title(name).render(&mut page)?;
    let path = out.join(format!("{name}.1"));
    scribseg_io::write_atomic(&path, &page)?;
    files.push(path);
    for below in command.get_subcommands() {
        pages(below, &format!("{name}-{}", below.get_name()), out, files)?;
    }
    Ok(())
}
