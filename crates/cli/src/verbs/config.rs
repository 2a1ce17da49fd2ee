//! `config show`: every value in force and where it came from.

use anyhow::Result;
use scribseg_io::Cohort;
use scribseg_pipeline::{Config, Key, Origin, Resolved};
use serde_json::json;

use crate::arguments::ConfigShow;
use crate::outcome::{Outcome, print, print_json};

pub(crate) fn show(arguments: &ConfigShow) -> Result<Outcome> {
    let mut resolved = arguments.settings.resolve(arguments.preset)?;
    if let Some(folder) = &arguments.cohort {
        resolved.settle(&Cohort::open_as(folder, &scribseg_pipeline::declared(&resolved.config)?)?);
    }
    if arguments.json {
        let default = Config::default();
        let value = |(key, value, origin): &(Key, toml::Value, Origin)| {
            json!({
                "key": key.name,
                "value": value,
                "from": origin.to_string(),
                "default": key.value(&default),
                "expected": key.expected.to_string(),
                "about": key.about,
            })
        };
        let values: Vec<_> = resolved.values().iter().map(value).collect();
        print_json(&json!({ "config_hash": resolved.config.hash(), "values": values }))?;
    } else {
        print(&text(&resolved))?;
    }
    Ok(Outcome::Done)
}

/// A TOML file with comments: what a key is for, what it takes, and where its value came from.
fn text(resolved: &Resolved) -> String {
    let mut out = String::from("# Every value in force; behind each, where it came from.\n");
    let mut section = String::new();
    for (key, value, origin) in resolved.values() {
        let (path, name) = key.name.rsplit_once('.').unwrap_or(("", &key.name));
        if path != section {
            let about = Config::about_section(path).unwrap_or_default();
            out += &format!("\n# {about}\n[{path}]\n");
            section = path.to_owned();
        }
        let assignment = format!("{name} = {value}");
        let Key { about, expected, .. } = &key;
        out += &format!("# {about} Takes: {expected}.\n{assignment:<40} # {origin}\n");
    }
    out
}
