//! `cargo xtask guide`: the user guide's commands are run as printed, page after page, and the book is built.

use std::env::consts::EXE_EXTENSION;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::shell::{self, Steps};
use crate::{ci, metadata};

/// What a fence may be marked: `sh` is run, the others are not.
const MARKS: [&str; 4] = ["sh", "text", "toml", "json"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The program to run the commands with [default: a development build, made first]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

/// Commands of one page, one a fence.
struct Page {
    name: String,
    blocks: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let source = shell::root().join("docs/src");
    let mut steps = Steps::new();
    let mut pages = Vec::new();
    steps.check("pages", || {
        let (read, faults) = read(&source)?;
        pages = read;
        Ok(faults)
    });
    let target = metadata::workspace()?.target_directory;
    let binary = match &arguments.binary {
        Some(binary) => std::path::absolute(binary)?,
        None => {
            steps.command("build", &mut shell::cargo(["build", "-p", "scribseg"]));
            target.join("debug/scribseg").with_extension(EXE_EXTENSION)
        }
    };
    let folder = target.join("guide-commands");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    // One folder for all pages: a reader goes on with what the page before left.
    for page in pages.iter().filter(|page| !page.blocks.is_empty()) {
        steps.check(&page.name, || commands(page, &folder, &binary));
    }
    steps.check("book", || book(&target));
    Ok(steps.finish())
}

/// Runs a page's commands; the first that fails ends the page.
fn commands(page: &Page, folder: &Path, binary: &Path) -> Result<Vec<String>> {
    let programs = binary.parent().with_context(|| format!("{} has no folder", binary.display()))?;
    let mut path = vec![programs.to_owned()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    for block in &page.blocks {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", block])
            .current_dir(folder)
            .env("PATH", std::env::join_paths(&path)?)
            .stdin(Stdio::null())
            .output()
            .context("bash could not be started")?;
        if !output.status.success() {
            let [out, err] = [output.stdout, output.stderr].map(|t| String::from_utf8_lossy(&t).into_owned());
            return Ok(vec![format!("{block}\n{}\n{out}{err}", output.status)]);
        }
    }
    Ok(Vec::new())
}

/// The pages in the order of SUMMARY.md, and what is wrong with them.
fn read(source: &Path) -> Result<(Vec<Page>, Vec<String>)> {
    let text = |name: &str| {
        let path = source.join(name);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let names: Vec<String> = links(&text("SUMMARY.md")?).into_iter().map(|(page, _)| page).collect();
    let (mut pages, mut faults) = (Vec::new(), Vec::new());
    let mut there: Vec<String> = std::fs::read_dir(source)
        .with_context(|| source.display().to_string())?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".md") && name != "SUMMARY.md")
        .collect();
    there.sort();
    faults.extend(
        there.iter().filter(|name| !names.contains(name)).map(|name| format!("{name}: not in SUMMARY.md")),
    );
    for name in &names {
        let page = text(name)?;
        for (to, anchor) in links(&page) {
            if to.ends_with(".png") {
                if !source.join(&to).is_file() {
                    faults.push(format!("{name}: shows {to}, found no such picture"));
                }
                continue;
            }
            let target = if to.is_empty() { Ok(page.clone()) } else { text(&to) };
            match (target, anchor) {
                (Err(_), _) => faults.push(format!("{name}: links to {to}, found no such page")),
                (Ok(target), Some(anchor)) if !anchors(&target).contains(&anchor) => {
                    faults.push(format!("{name}: links to {to}#{anchor}, found no such heading"));
                }
                _ => {}
            }
        }
        match blocks(&page) {
            Ok(blocks) => pages.push(Page { name: name.clone(), blocks }),
            Err(error) => faults.push(format!("{name}: {error:#}")),
        }
    }
    Ok((pages, faults))
}

/// The commands of a page: what stands in fences marked `sh`.
fn blocks(page: &str) -> Result<Vec<String>> {
    let (mut blocks, mut open): (Vec<String>, Option<(&str, String)>) = (Vec::new(), None);
    for (number, line) in (1..).zip(page.lines()) {
        let fence = line.trim_start().strip_prefix("```");
        open = match (open, fence) {
            (None, None) => None,
            (None, Some(mark)) if MARKS.contains(&mark) => Some((mark, String::new())),
            (None, Some(mark)) => {
                bail!("line {number}: expected a fence marked {}, found `{mark}`", MARKS.join(", "))
            }
            (Some((mark, text)), None) => Some((mark, text + line + "\n")),
            (Some((mark, text)), Some("")) => {
                if mark == "sh" {
                    blocks.push(text);
                }
                None
            }
            (Some(_), Some(mark)) => bail!("line {number}: expected the fence to end, found `{mark}`"),
        };
    }
    if open.is_some() {
        bail!("the last fence does not end");
    }
    Ok(blocks)
}

/// Links to pages beside this one, and to headings in them.
fn links(page: &str) -> Vec<(String, Option<String>)> {
    let to = page.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(to, _)| to);
    to.filter(|to| !to.contains("://"))
        .map(|to| match to.split_once('#') {
            Some((page, anchor)) => (page.to_owned(), Some(anchor.to_owned())),
            None => (to.to_owned(), None),
        })
        .collect()
}

/// The anchors that mdBook gives to a page's headings.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let text = line.trim_start_matches('#').trim().to_lowercase();
            let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// Builds the book with mdBook, from the path or where `.ci/run` installs it.
fn book(target: &Path) -> Result<Vec<String>> {
    let own = target.join("tools/bin/mdbook").with_extension(EXE_EXTENSION);
    let program = match () {
        () if own.is_file() => own,
        () if ci::installed("mdbook") => "mdbook".into(),
        () => {
            eprintln!(
                "!! mdbook is NOT INSTALLED: the book was NOT built (the commands in it were run, above)"
            );
            eprintln!("!! `cargo install mdbook --locked` mends that");
            return Ok(Vec::new());
        }
    };
    let output = Command::new(program).args(["build", "docs"]).current_dir(shell::root()).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // A page or part that cannot be included is a warning to mdBook.
    let fine = output.status.success() && !["ERROR", "WARN"].iter().any(|word| said.contains(word));
    Ok(if fine { Vec::new() } else { vec![said] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_those_in_fences_marked_sh() {
        let page = "a\n```sh\none\ntwo\n```\n\n```text\nno\n```\n  ```sh\nthree\n  ```\n";
        assert_eq!(blocks(page).unwrap(), ["one\ntwo\n", "three\n"]);
        for bad in ["```\nx\n```\n", "```bash\nx\n```\n", "```sh\nx\n", "```sh\n```text\n"] {
            assert!(blocks(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn links_lead_to_pages_and_headings() {
        let page = "[a](b.md) [c](https://x.org/y.md) [d](e.md#f-g) [h](#i)";
        let found = links(page);
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(found, [("b.md".into(), None), ("e.md".into(), some("f-g")), (String::new(), some("i"))]);
        assert_eq!(anchors("# One, two\ntext\n## `key`: x\n"), ["one-two", "key-x"]);
    }

    #[test]
    fn the_guide_is_in_order() {
        let (pages, faults) = read(&shell::root().join("docs/src")).unwrap();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        assert!(pages.len() > 10 && pages.iter().map(|p| p.blocks.len()).sum::<usize>() > 20);
    }
}
